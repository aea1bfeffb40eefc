/* tmpl_val_int.h - the values that a template computes with, and the state of one rendering.
 *
 * Values behave as Python's: str is a sequence of code points, dict keeps insertion order, lists
 * and dicts cannot be changed (the sandbox refuses it); only namespaces, cyclers, joiners, loops
 * and iterators have state. Integers beyond 64 bits are refused.
 *
 * Strings are slices of UTF-8 that is valid and owned by the context, the template or the arena.
 * A string or list made by concatenation keeps spare room behind it: appending to it again is
 * done in place when nobody appended before, so that building a text piece by piece is linear.
 *
 * Memory  one arena for each rendering, released as a whole; its limit ends hostile templates.
 * Errors  functions return 0 or -LLMD_E*; what Python would raise is EINVAL, and `exc` keeps the
 *         class of the exception, since Jinja catches some of them. */
#pragma once
#include "core/model/chat_template.h"
#include "core/util/arena.h"

struct tmpl_node;
struct tmpl_macro_scope;
struct tmpl_name;

enum tmpl_type {
    TV_MISSING, /* no value: an unset slot or an argument not given */
    TV_UNDEF,
    TV_NONE,
    TV_BOOL,
    TV_INT,
    TV_FLOAT,
    TV_STR,
    TV_LIST,
    TV_TUPLE,
    TV_DICT,
    TV_RANGE,
    TV_VIEW, /* keys, values or items of a dict */
    TV_ITER, /* a generator or other iterator */
    TV_NS,
    TV_LOOP,
    TV_MACRO,
    TV_METHOD, /* bound */
    TV_FUNC,   /* a global function */
    TV_CYCLER,
    TV_JOINER,
};

struct tmpl_val {
    uint8_t type; /* enum tmpl_type */
    union {
        bool b;
        int64_t i;
        double f;
        struct tmpl_str *str;
        struct tmpl_list *list; /* also tuples */
        struct tmpl_dict *dict; /* also namespaces */
        struct tmpl_undef *undef;
        struct tmpl_range *range;
        struct tmpl_view *view;
        struct tmpl_iter *iter;
        struct tmpl_loop *loop;
        struct tmpl_macro *macro;
        struct tmpl_bound *bound;
        const struct tmpl_func_def *func;
        struct tmpl_cycler *cycler;
        struct tmpl_joiner *joiner;
    };
};

struct tmpl_grow {
    size_t used, cap;
    _Alignas(16) char data[]; /* bytes of a string, or values of a list */
};

#define TMPL_CHARS_UNKNOWN SIZE_MAX
struct tmpl_str {
    const char *s;
    size_t n;
    size_t n_chars; /* code points; TMPL_CHARS_UNKNOWN until asked for */
    struct tmpl_grow *grow;
    bool markup; /* went through `safe` or `escape` */
};

struct tmpl_list {
    struct tmpl_val *items;
    size_t n;
    struct tmpl_grow *grow;
    bool is_group; /* an item of groupby: the names grouper and list work */
};

struct tmpl_pair {
    struct tmpl_val key, val;
    uint64_t hash;
};

struct tmpl_dict {
    struct tmpl_pair *pairs; /* in insertion order */
    uint32_t n, cap;
    uint32_t *index; /* open addressing: pair + 1, 0 is free; NULL while small */
    uint32_t index_cap;
};

enum tmpl_undef_why {
    UNDEF_NAME,   /* a variable: name */
    UNDEF_ATTR,   /* an attribute or element: owner, name */
    UNDEF_UNSAFE, /* an attribute that the sandbox hides */
    UNDEF_HINT,   /* owner is the message */
};
struct tmpl_undef {
    uint8_t why;
    const char *owner; /* name of the type that lacks it */
    struct tmpl_val name;
};

struct tmpl_range {
    int64_t start, stop, step;
    size_t n;
};

enum tmpl_view_kind { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS };
struct tmpl_view {
    uint8_t kind;
    struct tmpl_dict *dict;
};

struct tmpl_run;
/* *done is set at the end. */
typedef int tmpl_next_fn(struct tmpl_run *r, struct tmpl_iter *it, struct tmpl_val *out,
                         bool *done);
struct tmpl_iter {
    tmpl_next_fn *next;
    struct tmpl_val seq; /* what is iterated over */
    size_t pos;          /* bytes in a string, else index */
    void *state;         /* of lazy filters */
    bool finished;
};

struct tmpl_kwarg {
    struct tmpl_str *name;
    struct tmpl_val val;
};
struct tmpl_args {
    struct tmpl_val *pos;
    size_t n_pos;
    struct tmpl_kwarg *kw;
    size_t n_kw;
};

/* `how` is the table entry's: one function may serve several names. */
typedef int tmpl_method_fn(struct tmpl_run *r, const struct tmpl_val *self, int how,
                           const struct tmpl_args *a, struct tmpl_val *out);
struct tmpl_method {
    const char *name;
    tmpl_method_fn *fn; /* NULL: known to Python, refused here */
    int how;
};
struct tmpl_bound {
    struct tmpl_val self;
    const struct tmpl_method *method;
};

typedef int tmpl_func_fn(struct tmpl_run *r, const struct tmpl_args *a, struct tmpl_val *out);
struct tmpl_func_def {
    const char *name;
    tmpl_func_fn *fn; /* NULL: known to Jinja, refused here */
};

typedef int tmpl_filter_fn(struct tmpl_run *r, const struct tmpl_val *in, int how,
                           const struct tmpl_args *a, struct tmpl_val *out);
struct tmpl_filter { /* or test */
    const char *name;
    tmpl_filter_fn *fn; /* NULL: known to Jinja, refused here */
    int how;
};

/* Variables of one call of a compiled function. */
struct tmpl_act {
    struct tmpl_act *parent;
    struct tmpl_val slots[];
};

struct tmpl_loop {
    struct tmpl_iter it;
    struct tmpl_val iterable;
    int64_t index0; /* -1 before the first item */
    int64_t length; /* -1: not known yet */
    int64_t depth0;
    struct tmpl_val before, current, after, last_changed; /* MISSING: none */
    const struct tmpl_node *recurse;                      /* the recursive for; NULL: none */
    struct tmpl_act *act;                                 /* the function that holds it */
};

struct tmpl_macro {
    const struct tmpl_macro_scope *def;
    struct tmpl_act *act; /* the function that it was defined in */
};

struct tmpl_cycler {
    struct tmpl_val *items;
    size_t n, pos;
};

struct tmpl_joiner {
    struct tmpl_val sep;
    bool used;
};

enum tmpl_exc {
    EXC_NONE = 0,
    EXC_TYPE = 1,
    EXC_VALUE = 2,
    EXC_LOOKUP = 4,
    EXC_OVERFLOW = 8,
    EXC_OTHER = 16, /* UndefinedError, SecurityError, ...: nobody catches them */
    EXC_FATAL = 32, /* our limits */
};

enum tmpl_control { CTL_NONE, CTL_BREAK, CTL_CONTINUE };

/* One rendering. */
struct tmpl_run {
    const struct chat_template *t;
    struct arena arena;
    struct buf *out; /* where text goes now */
    size_t out_from; /* length that the caller's buffer had */
    struct buf *root_out;
    size_t held_bytes; /* in the buffers of unfinished macros and blocks */
    size_t max_output_bytes;
    size_t memory_limit; /* for messages; the arena keeps it */
    uint64_t steps_left;
    uint32_t depth, max_depth;
    struct tmpl_dict *context;
    struct tmpl_act *act;
    uint8_t control; /* enum tmpl_control */
    uint8_t exc;     /* enum tmpl_exc of the pending error */
    uint32_t line;
    int64_t now_unix_s; /* 0: ask the clock */
    struct err *e;
};

/* --- errors, limits (tmpl_run.c) --- */
/* What raises returns a code below 0; tmpl_neg lets compilers and analyzers see that. */
static inline int tmpl_neg(int rc)
{
    return rc < 0 ? rc : -LLMD_EINTERNAL;
}
/* The code of the error that is set. */
static inline int tmpl_failed(const struct tmpl_run *r)
{
    return tmpl_neg(-r->e->code);
}
#define tmpl_raise(r, exc, ...)  tmpl_neg(tmpl_raise_at((r), (exc), __VA_ARGS__))
#define tmpl_limit(r, ...)       tmpl_neg(tmpl_limit_at((r), __VA_ARGS__))
#define tmpl_unsupported(r, ...) tmpl_neg(tmpl_unsupported_at((r), __VA_ARGS__))
/* The memory limit was reached: also what ails a scratch buffer that failed. */
#define tmpl_memory_limit(r)                                                                       \
    tmpl_limit((r), "the rendering needs more than %zu bytes of memory", (r)->memory_limit)
/* An operation on an undefined value. */
#define tmpl_raise_undef(r, v) tmpl_neg(tmpl_raise_undef_at((r), (v)))
int tmpl_raise_at(struct tmpl_run *r, enum tmpl_exc exc, const char *fmt, ...) PRINTF_LIKE(3, 4);
int tmpl_limit_at(struct tmpl_run *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
int tmpl_unsupported_at(struct tmpl_run *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
int tmpl_raise_undef_at(struct tmpl_run *r, const struct tmpl_val *v);
/* Whether the pending error is one of the classes; it is then forgotten. */
bool tmpl_catch(struct tmpl_run *r, unsigned classes);
/* NULL: the error is set. */
void *tmpl_alloc(struct tmpl_run *r, size_t n_bytes);
void *tmpl_array(struct tmpl_run *r, size_t n, size_t size_bytes);
/* Pays for work on n bytes or elements. */
MUST_CHECK int tmpl_charge(struct tmpl_run *r, size_t n);
MUST_CHECK int tmpl_enter(struct tmpl_run *r); /* one level deeper; undone by tmpl_leave */
void tmpl_leave(struct tmpl_run *r);
/* Appends to the current output. */
MUST_CHECK int tmpl_write(struct tmpl_run *r, const char *s, size_t n);

/* --- making values (tmpl_val.c) --- */
static inline struct tmpl_val tmpl_none(void)
{
    return (struct tmpl_val){.type = TV_NONE};
}
static inline struct tmpl_val tmpl_bool(bool b)
{
    return (struct tmpl_val){.type = TV_BOOL, .b = b};
}
static inline struct tmpl_val tmpl_int(int64_t i)
{
    return (struct tmpl_val){.type = TV_INT, .i = i};
}
static inline struct tmpl_val tmpl_float(double f)
{
    return (struct tmpl_val){.type = TV_FLOAT, .f = f};
}
static inline struct tmpl_val tmpl_str_val(struct tmpl_str *s)
{
    return (struct tmpl_val){.type = TV_STR, .str = s};
}
static inline bool tmpl_is_int(const struct tmpl_val *v) /* bool is an int */
{
    return v->type == TV_INT || v->type == TV_BOOL;
}
static inline bool tmpl_is_num(const struct tmpl_val *v)
{
    return tmpl_is_int(v) || v->type == TV_FLOAT;
}
static inline bool tmpl_is_seq(const struct tmpl_val *v)
{
    return v->type == TV_LIST || v->type == TV_TUPLE;
}
static inline int64_t tmpl_as_int(const struct tmpl_val *v)
{
    return v->type == TV_BOOL ? v->b : v->i;
}
static inline double tmpl_as_float(const struct tmpl_val *v)
{
    return v->type == TV_FLOAT ? v->f : (double)tmpl_as_int(v);
}

/* A string over bytes that live long enough; they are not copied. */
MUST_CHECK int tmpl_str_ref(struct tmpl_run *r, const char *s, size_t n, struct tmpl_val *out);
MUST_CHECK int tmpl_str_cat(struct tmpl_run *r, struct tmpl_str *a, struct tmpl_str *b,
                            struct tmpl_val *out);
/* Moves the text of a scratch buffer into a new string and frees the buffer, also on failure. */
MUST_CHECK int tmpl_str_take(struct tmpl_run *r, struct buf *b, struct tmpl_val *out);
/* A scratch buffer that stops at the memory limit. */
struct buf tmpl_scratch(const struct tmpl_run *r);
size_t tmpl_str_chars(struct tmpl_str *s);
int tmpl_shown(const struct tmpl_str *s); /* bytes of it to show in a message, for %.*s */
bool tmpl_str_is(const struct tmpl_str *s, const char *lit);
/* A list or tuple with room for n items, of length n. */
MUST_CHECK int tmpl_list_new(struct tmpl_run *r, enum tmpl_type type, size_t n,
                             struct tmpl_val *out);
/* Appends to a list under construction (amortized; only its maker may do this). */
MUST_CHECK int tmpl_list_push(struct tmpl_run *r, struct tmpl_list *l, const struct tmpl_val *v);
MUST_CHECK int tmpl_list_cat(struct tmpl_run *r, const struct tmpl_val *a, const struct tmpl_val *b,
                             struct tmpl_val *out);
MUST_CHECK int tmpl_tuple2(struct tmpl_run *r, const struct tmpl_val *a, const struct tmpl_val *b,
                           struct tmpl_val *out);
MUST_CHECK int tmpl_undef(struct tmpl_run *r, enum tmpl_undef_why why, const char *owner,
                          const struct tmpl_val *name, struct tmpl_val *out);
MUST_CHECK int tmpl_from_json(struct tmpl_run *r, const json_t *j, struct tmpl_val *out);

const char *tmpl_type_name(const struct tmpl_val *v); /* as Python names it */
bool tmpl_truthy(const struct tmpl_val *v);
bool tmpl_has_len(const struct tmpl_val *v);
MUST_CHECK int tmpl_len(struct tmpl_run *r, const struct tmpl_val *v, int64_t *out);

/* --- dicts (tmpl_dict.c) --- */
uint64_t tmpl_hash(const char *s, size_t n);
/* EXC_TYPE for what cannot be hashed. */
MUST_CHECK int tmpl_hash_val(struct tmpl_run *r, const struct tmpl_val *v, uint64_t *out);
MUST_CHECK int tmpl_dict_new(struct tmpl_run *r, struct tmpl_dict **out);
/* EXC_TYPE for a key that cannot be hashed. */
MUST_CHECK int tmpl_dict_set(struct tmpl_run *r, struct tmpl_dict *d, const struct tmpl_val *key,
                             const struct tmpl_val *val);
MUST_CHECK int tmpl_dict_get(struct tmpl_run *r, const struct tmpl_dict *d,
                             const struct tmpl_val *key, struct tmpl_val *out, bool *found);
/* By a string key. */
MUST_CHECK int tmpl_dict_find(struct tmpl_run *r, const struct tmpl_dict *d, const char *s,
                              size_t n, struct tmpl_val *out, bool *found);
MUST_CHECK int tmpl_dict_copy(struct tmpl_run *r, const struct tmpl_dict *from,
                              struct tmpl_dict **out);
/* dict(*args, **kwargs), for dict() and namespace(). */
MUST_CHECK int tmpl_dict_call(struct tmpl_run *r, const struct tmpl_args *a,
                              struct tmpl_dict **out);

/* --- comparing (tmpl_cmp.c) --- */
MUST_CHECK int tmpl_eq(struct tmpl_run *r, const struct tmpl_val *a, const struct tmpl_val *b,
                       bool *out);
/* op: OP_LT, OP_LE, OP_GT or OP_GE. */
MUST_CHECK int tmpl_order(struct tmpl_run *r, int op, const struct tmpl_val *a,
                          const struct tmpl_val *b, bool *out);
/* Any comparison or membership operator. */
MUST_CHECK int tmpl_compare(struct tmpl_run *r, int op, const struct tmpl_val *a,
                            const struct tmpl_val *b, bool *out);
bool tmpl_same(const struct tmpl_val *a, const struct tmpl_val *b); /* Python's `is` */

/* --- numbers (tmpl_num.c, tmpl_op.c) --- */
enum { TMPL_FLOAT_CHARS = 40 };
void tmpl_float_repr(double v, char out[TMPL_FLOAT_CHARS]);
MUST_CHECK int tmpl_binary(struct tmpl_run *r, int op, const struct tmpl_val *a,
                           const struct tmpl_val *b, struct tmpl_val *out);
MUST_CHECK int tmpl_unary(struct tmpl_run *r, int op, const struct tmpl_val *v,
                          struct tmpl_val *out);
MUST_CHECK int tmpl_num_op(struct tmpl_run *r, int op, const struct tmpl_val *a,
                           const struct tmpl_val *b, struct tmpl_val *out);
/* int(text, base) and float(text): EXC_VALUE when it is no number. */
MUST_CHECK int tmpl_parse_int(struct tmpl_run *r, const struct tmpl_str *s, int base, int64_t *out);
MUST_CHECK int tmpl_parse_float(struct tmpl_run *r, const struct tmpl_str *s, double *out);
MUST_CHECK int tmpl_float_to_int(struct tmpl_run *r, double f, int64_t *out);
MUST_CHECK int tmpl_round(struct tmpl_run *r, const struct tmpl_val *v, int64_t digits,
                          struct tmpl_val *out);
/* An index argument: int or bool, else EXC_TYPE. */
MUST_CHECK int tmpl_index_arg(struct tmpl_run *r, const struct tmpl_val *v, int64_t *out);

/* --- text of values (tmpl_repr.c, tmpl_json.c) --- */
MUST_CHECK int tmpl_str_of(struct tmpl_run *r, const struct tmpl_val *v, struct tmpl_val *out);
/* As tmpl_str_of, appended to a buffer. */
MUST_CHECK int tmpl_add_str(struct tmpl_run *r, struct buf *b, const struct tmpl_val *v);
MUST_CHECK int tmpl_add_repr(struct tmpl_run *r, struct buf *b, const struct tmpl_val *v);
void tmpl_add_ascii(struct buf *b, const char *s, size_t n); /* escapes what is not ASCII */
tmpl_filter_fn tmpl_filter_tojson;

/* --- formatting (tmpl_percent.c, tmpl_format.c, tmpl_spec.c) --- */
MUST_CHECK int tmpl_percent(struct tmpl_run *r, const struct tmpl_str *s,
                            const struct tmpl_val *args, struct tmpl_val *out);
MUST_CHECK int tmpl_format_value(struct tmpl_run *r, struct buf *b, const struct tmpl_val *v,
                                 const char *spec, size_t n);
/* type: one of eEfFgG. */
void tmpl_add_float(struct buf *b, double v, char type, int precision, bool alt);
tmpl_method_fn tmpl_str_format, tmpl_str_format_map;
MUST_CHECK int tmpl_escape(struct tmpl_run *r, struct tmpl_str *s, struct tmpl_val *out);
/* chr(): EXC_OVERFLOW beyond U+10FFFF. */
MUST_CHECK int tmpl_chr(struct tmpl_run *r, int64_t cp, char out[4], size_t *n);
/* Stable order of the keys by `<`. */
MUST_CHECK int tmpl_sort_order(struct tmpl_run *r, const struct tmpl_list *keys, bool reverse,
                               size_t **out);

/* --- iterating (tmpl_iter.c) --- */
MUST_CHECK int tmpl_iter_init(struct tmpl_run *r, const struct tmpl_val *v, struct tmpl_iter *it);
/* *done is set, and *out untouched, at the end. */
MUST_CHECK int tmpl_next(struct tmpl_run *r, struct tmpl_iter *it, struct tmpl_val *out,
                         bool *done);
bool tmpl_iterable(const struct tmpl_val *v);
/* list(v). */
MUST_CHECK int tmpl_to_list(struct tmpl_run *r, const struct tmpl_val *v, struct tmpl_val *out);
/* reversed(v): EXC_TYPE when it has no end. */
MUST_CHECK int tmpl_reversed(struct tmpl_run *r, const struct tmpl_val *v, struct tmpl_val *out);
/* A new iterator as a value. */
MUST_CHECK int tmpl_iter_val(struct tmpl_run *r, tmpl_next_fn *next, void *state,
                             struct tmpl_val *out);

/* --- items, attributes, calls (tmpl_attr.c, tmpl_call.c) --- */
MUST_CHECK int tmpl_getattr(struct tmpl_run *r, const struct tmpl_val *v, struct tmpl_str *name,
                            struct tmpl_val *out);
MUST_CHECK int tmpl_getitem(struct tmpl_run *r, const struct tmpl_val *v,
                            const struct tmpl_val *key, struct tmpl_val *out);
MUST_CHECK int tmpl_slice(struct tmpl_run *r, const struct tmpl_val *v,
                          const struct tmpl_val *start, const struct tmpl_val *stop,
                          const struct tmpl_val *step, struct tmpl_val *out);
/* v[key] alone, without falling back to the attribute. */
MUST_CHECK int tmpl_subscript(struct tmpl_run *r, const struct tmpl_val *v,
                              const struct tmpl_val *key, struct tmpl_val *out);
/* The attribute alone, without falling back to the item. */
MUST_CHECK int tmpl_attr_only(struct tmpl_run *r, const struct tmpl_val *v, struct tmpl_str *name,
                              struct tmpl_val *out, bool *found);
MUST_CHECK int tmpl_bind_method(struct tmpl_run *r, const struct tmpl_val *self,
                                const struct tmpl_method *m, struct tmpl_val *out);
bool tmpl_callable(const struct tmpl_val *v);
MUST_CHECK int tmpl_call(struct tmpl_run *r, const struct tmpl_val *f, const struct tmpl_args *a,
                         struct tmpl_val *out);
/* Matches arguments to parameter names; out[i] stays MISSING when not given. The first
 * n_required must be given; a name "" can only be given by position. */
MUST_CHECK int tmpl_bind(struct tmpl_run *r, const char *fn, const struct tmpl_args *a,
                         const char *const names[], size_t n_names, size_t n_required,
                         struct tmpl_val out[]);
MUST_CHECK int tmpl_bind_none(struct tmpl_run *r, const char *fn, const struct tmpl_args *a);

/* --- tables --- */
const struct tmpl_method *tmpl_find_method(const struct tmpl_method *table, size_t n,
                                           const struct tmpl_str *name);
const struct tmpl_method *tmpl_str_method(const struct tmpl_str *name);
const struct tmpl_filter *tmpl_find_filter(const char *s, size_t n);
const struct tmpl_filter *tmpl_find_test(const char *s, size_t n);
const struct tmpl_func_def *tmpl_find_func(const char *s, size_t n);
/* Runs a filter or test by name, as map() and select() do. */
MUST_CHECK int tmpl_apply(struct tmpl_run *r, bool is_filter, const struct tmpl_val *name,
                          const struct tmpl_val *in, const struct tmpl_args *a,
                          struct tmpl_val *out);

/* --- evaluation (tmpl_eval.c, tmpl_exec.c) --- */
MUST_CHECK int tmpl_run_template(struct tmpl_run *r);
/* caller: passed on by a call block, or NULL. */
MUST_CHECK int tmpl_eval_call(struct tmpl_run *r, const struct tmpl_node *n,
                              const struct tmpl_val *caller, struct tmpl_val *out);
/* text: what a filter without a value works on (filter and set blocks), or NULL. */
MUST_CHECK int tmpl_eval_filter(struct tmpl_run *r, const struct tmpl_node *n,
                                const struct tmpl_val *text, struct tmpl_val *out);
/* Refuses names that a namespace may not have. */
MUST_CHECK int tmpl_check_attr(struct tmpl_run *r, const struct tmpl_val *name);
MUST_CHECK int tmpl_eval(struct tmpl_run *r, const struct tmpl_node *n, struct tmpl_val *out);
MUST_CHECK int tmpl_exec(struct tmpl_run *r, const struct tmpl_node *list);
MUST_CHECK int tmpl_call_macro(struct tmpl_run *r, const struct tmpl_macro *m,
                               const struct tmpl_args *a, struct tmpl_val *out);
/* loop(iterable) of a recursive loop. */
MUST_CHECK int tmpl_loop_call(struct tmpl_run *r, struct tmpl_loop *l,
                              const struct tmpl_val *iterable, struct tmpl_val *out);
MUST_CHECK int tmpl_loop_attr(struct tmpl_run *r, const struct tmpl_val *v,
                              const struct tmpl_str *name, struct tmpl_val *out, bool *found);
MUST_CHECK int tmpl_loop_next(struct tmpl_run *r, struct tmpl_loop *l, struct tmpl_val *out,
                              bool *done);
MUST_CHECK int tmpl_loop_length(struct tmpl_run *r, struct tmpl_loop *l, int64_t *out);

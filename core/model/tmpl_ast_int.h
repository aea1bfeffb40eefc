/* tmpl_ast_int.h - the tree of a parsed chat template, and the passes that make it.
 *
 * tmpl_lex.c cuts the source into tokens, tmpl_expr.c and tmpl_parse.c build the tree, tmpl_scope.c
 * gives every name a place. The tree then never changes: renderings in any number of threads read
 * it at once.
 *
 * Names. Jinja compiles a template to Python functions whose local variables are called
 * l_<level>_<name>, one level for each nested scope, filled when the scope is entered. What a name
 * means follows from that scheme, also where it surprises; so we keep it: a name becomes a slot of
 * the record ("activation") of the function that it lives in, reached over `hops` enclosing
 * functions, and each scope has the list of slots to fill on entry. Functions are the template
 * itself, macros, call blocks, the filters of `for ... if`, and the bodies of recursive loops.
 *
 * Memory  everything is allocated in the template's arena. */
#pragma once
#include "core/model/chat_template.h"
#include "core/model/tmpl_val_int.h"
#include "core/util/arena.h"

enum {
    TMPL_MAX_SOURCE_BYTES = 1 << 20,
    TMPL_MAX_TREE_BYTES = 64 << 20,
    TMPL_MAX_EXPR_DEPTH = 200, /* Python refuses deeper brackets as well */
    TMPL_MAX_BLOCK_DEPTH = 96, /* Python refuses deeper indentation as well */
    TMPL_MAX_PARAMS = 255,     /* of a macro; keyword arguments of a call */
    TMPL_MAX_KIDS = 5,
};

/* The children of each kind, in the order that Jinja visits them. [] is a list. */
enum tmpl_kind {
    /* expressions */
    N_CONST,   /* val */
    N_NAME,    /* name, hops, slot */
    N_NSREF,   /* name.str as target of an assignment */
    N_TUPLE,   /* [items] */
    N_LIST,    /* [items] */
    N_DICT,    /* [pairs] */
    N_PAIR,    /* key, value */
    N_COND,    /* test, then, else or NULL */
    N_BINARY,  /* left, right; op: enum tmpl_op */
    N_UNARY,   /* operand; op */
    N_AND,     /* left, right */
    N_OR,      /* left, right */
    N_NOT,     /* operand */
    N_COMPARE, /* first, [operands] */
    N_OPERAND, /* value; op */
    N_CONCAT,  /* [items] */
    N_ATTR,    /* object; str */
    N_ITEM,    /* object, index */
    N_SLICE,   /* start, stop, step; each may be NULL */
    N_CALL,    /* callee, [args], [keywords], *args, **kwargs */
    N_FILTER,  /* value (NULL in a filter block), as a call; str: name, fn: entry or NULL */
    N_TEST,    /* likewise */
    N_KEYWORD, /* value; str */
    /* statements */
    N_DATA,        /* val: text between tags */
    N_OUTPUT,      /* [items] */
    N_FOR,         /* target, iterable, [body], [else], test or NULL */
    N_IF,          /* test, [body], [elif: N_IF], [else] */
    N_SET,         /* target, value */
    N_SETBLOCK,    /* target, filter or NULL, [body] */
    N_MACRO,       /* [params], [defaults], [body]; name */
    N_CALLBLOCK,   /* call, [params], [defaults], [body] */
    N_GENERATION,  /* NULL, NULL, NULL, [body]: a call block without a call */
    N_FILTERBLOCK, /* [body], filter */
    N_WITH,        /* [targets], [values], [body] */
    N_BREAK,
    N_CONTINUE,
};

enum tmpl_op {
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOORDIV,
    OP_MOD,
    OP_POW,
    OP_POS,
    OP_NEG,
    OP_EQ,
    OP_NE,
    OP_GT,
    OP_GE,
    OP_LT,
    OP_LE,
    OP_IN,
    OP_NOTIN,
};

enum tmpl_ctx { CTX_LOAD, CTX_STORE, CTX_PARAM };

/* One name of the source, stored once. */
struct tmpl_name {
    const char *s;
    size_t n;
    uint64_t hash;
    uint32_t id;
    struct tmpl_name *next; /* in its hash bucket */
};

struct tmpl_node {
    uint8_t kind;   /* enum tmpl_kind */
    uint8_t op;     /* enum tmpl_op */
    uint8_t ctx;    /* enum tmpl_ctx, of a name or tuple */
    bool recursive; /* of a for loop */
    bool is_param;  /* a name that Jinja takes for always set */
    uint16_t depth; /* of the expression below */
    uint32_t line;
    uint32_t n_items; /* length of the list of args, items or pairs */
    uint32_t hops, slot;
    struct tmpl_node *next; /* the next of the same list */
    struct tmpl_node *kid[TMPL_MAX_KIDS];
    const struct tmpl_name *name;
    struct tmpl_str *str;
    struct tmpl_val val;
    const void *fn; /* filter or test: its table entry */
    void *scope;    /* what tmpl_scope.c found out: one of the structs below */
};

/* How a slot is filled when its scope is entered. */
enum tmpl_load_action { LOAD_PARAM, LOAD_RESOLVE, LOAD_ALIAS, LOAD_MISSING };

struct tmpl_load {
    uint8_t action;
    uint32_t slot;
    uint32_t from_hops, from_slot; /* ALIAS */
    const struct tmpl_name *name;  /* RESOLVE: a variable of the context */
};

struct tmpl_frame {
    struct tmpl_load *loads;
    uint32_t n_loads;
};

/* A Python function of the compiled template. */
struct tmpl_func {
    struct tmpl_func *parent;
    uint32_t n_slots;
};

struct tmpl_for_scope {
    struct tmpl_frame body, other, test;
    struct tmpl_func *test_func; /* NULL: no test */
    struct tmpl_func *loop_func; /* NULL: not recursive */
    bool has_loop;               /* `loop` is used in the body */
    uint32_t loop_slot;
    struct tmpl_node *test_target; /* the target, placed in test_func */
};

struct tmpl_macro_scope {
    struct tmpl_frame frame;
    struct tmpl_func *func;
    struct tmpl_node *body;
    struct tmpl_str **params;    /* [n_params] names */
    uint32_t *param_slots;       /* [n_params] */
    struct tmpl_node **defaults; /* [n_params], NULL: none */
    uint32_t n_params;
    bool takes_caller, takes_kwargs, takes_varargs, explicit_caller;
    uint32_t caller_slot, kwargs_slot, varargs_slot;
    uint32_t hops, slot;   /* where a macro statement stores the macro */
    struct tmpl_str *name; /* NULL: a call block */
};

/* Scopes of set blocks, filter blocks and with. */
struct tmpl_block_scope {
    struct tmpl_frame frame;
};

struct chat_template {
    struct arena arena;
    struct tmpl_node *body;
    struct tmpl_frame frame;
    struct tmpl_func *func;
};

/* State of one parse, shared by lexer, parser and scope pass. */
struct tmpl_lexer {
    const char *src; /* newlines normalized */
    size_t n, pos;
    size_t counted_to; /* `line` is the line of this position */
    uint32_t line;
    uint8_t state;      /* private to tmpl_lex.c */
    bool line_starting; /* the last match ended with a newline */
    struct arena *arena;
    struct err *e;
    char *brackets; /* closing brackets due */
    size_t n_brackets, cap_brackets;
};

enum tmpl_tok_type {
    TOK_EOF,
    TOK_DATA,
    TOK_VAR_BEGIN,
    TOK_VAR_END,
    TOK_BLOCK_BEGIN,
    TOK_BLOCK_END,
    TOK_NAME,
    TOK_STRING,
    TOK_INTEGER,
    TOK_FLOAT,
    TOK_ADD,
    TOK_SUB,
    TOK_MUL,
    TOK_DIV,
    TOK_FLOORDIV,
    TOK_MOD,
    TOK_POW,
    TOK_TILDE,
    TOK_LBRACKET,
    TOK_RBRACKET,
    TOK_LPAREN,
    TOK_RPAREN,
    TOK_LBRACE,
    TOK_RBRACE,
    TOK_EQ,
    TOK_NE,
    TOK_GT,
    TOK_GE,
    TOK_LT,
    TOK_LE,
    TOK_ASSIGN,
    TOK_DOT,
    TOK_COLON,
    TOK_PIPE,
    TOK_COMMA,
    TOK_SEMICOLON,
};

struct tmpl_token {
    uint8_t type;
    uint32_t line;
    const char *s; /* name, data, or decoded string */
    size_t n;
    int64_t i;
    double f;
};

/* Copies and normalizes the source. EPARSE: not UTF-8. */
MUST_CHECK int tmpl_lex_init(struct tmpl_lexer *lx, const char *src, size_t n, struct arena *arena,
                             struct err *e);
MUST_CHECK int tmpl_lex_next(struct tmpl_lexer *lx, struct tmpl_token *out);
/* For messages: "name 'x'", "'%}'". */
const char *tmpl_token_text(const struct tmpl_token *t, char out[64]);
/* Value of a string literal without its quotes (tmpl_literal.c). */
MUST_CHECK int tmpl_unescape(struct tmpl_lexer *lx, const char *s, size_t n,
                             struct tmpl_token *out);
/* Length of the number at s, 0 when there is none; *is_float says which kind. */
size_t tmpl_number_len(const char *s, size_t n, bool after_dot, bool *is_float);
MUST_CHECK int tmpl_number(struct tmpl_lexer *lx, const char *s, size_t n, bool is_float,
                           struct tmpl_token *out);

struct tmpl_parser {
    struct tmpl_lexer lex;
    struct arena *arena;
    struct err *e;
    struct tmpl_token cur, ahead;
    bool has_ahead;
    uint32_t depth;           /* nested expressions being parsed */
    uint32_t block_depth;     /* nested statements */
    uint32_t loop_depth;      /* loops around, within the current function */
    struct tmpl_name **names; /* hash table */
    uint32_t n_buckets, n_names;
};

/* The code of the error that is set, which analyzers see to be below 0. */
static inline int tmpl_parse_failed(const struct tmpl_parser *p)
{
    return tmpl_neg(-p->e->code);
}

/* Expressions (tmpl_expr.c). NULL after an error. */
struct tmpl_node *tmpl_parse_expr(struct tmpl_parser *p, bool with_cond);
enum { TUPLE_NO_COND = 1, TUPLE_EXPLICIT = 2, TUPLE_SIMPLE = 4, TUPLE_NAMESPACE = 8 };
/* `end` is a name that also ends the tuple, NULL: none. */
struct tmpl_node *tmpl_parse_tuple(struct tmpl_parser *p, unsigned flags, const char *end);
struct tmpl_node *tmpl_parse_primary(struct tmpl_parser *p, bool with_namespace);
struct tmpl_node *tmpl_parse_subscript(struct tmpl_parser *p, struct tmpl_node *object);
/* One level of nesting; false (ELIMIT) when there are too many. leave passes n through. */
bool tmpl_parse_enter(struct tmpl_parser *p);
struct tmpl_node *tmpl_parse_leave(struct tmpl_parser *p, struct tmpl_node *n);
/* Unary operators, calls, filters, tests and targets (tmpl_postfix.c). */
struct tmpl_node *tmpl_parse_unary(struct tmpl_parser *p, bool with_filter);
struct tmpl_node *tmpl_parse_filter(struct tmpl_parser *p, struct tmpl_node *value,
                                    bool start_inline);
struct tmpl_node *tmpl_parse_target(struct tmpl_parser *p, bool with_namespace, const char *end);
struct tmpl_node *tmpl_parse_name(struct tmpl_parser *p, enum tmpl_ctx ctx);

/* Helpers of both parsers. */
MUST_CHECK int tmpl_advance(struct tmpl_parser *p);
const struct tmpl_token *tmpl_look(struct tmpl_parser *p); /* NULL after an error */
bool tmpl_cur_is(const struct tmpl_parser *p, const char *name);
MUST_CHECK int tmpl_skip_if(struct tmpl_parser *p, enum tmpl_tok_type type, bool *out);
MUST_CHECK int tmpl_skip_name(struct tmpl_parser *p, const char *name, bool *out);
MUST_CHECK int tmpl_expect(struct tmpl_parser *p, enum tmpl_tok_type type, const char *what);
#define tmpl_syntax(p, line, ...) tmpl_neg(tmpl_syntax_at((p), (line), __VA_ARGS__))
int tmpl_syntax_at(struct tmpl_parser *p, uint32_t line, const char *fmt, ...) PRINTF_LIKE(3, 4);
struct tmpl_node *tmpl_node_new(struct tmpl_parser *p, enum tmpl_kind kind, uint32_t line);
/* Sets the depth from the children; NULL (ELIMIT) when too deep. */
struct tmpl_node *tmpl_node_done(struct tmpl_parser *p, struct tmpl_node *n);
struct tmpl_name *tmpl_intern(struct tmpl_parser *p, const char *s, size_t n);
struct tmpl_str *tmpl_const_str(struct tmpl_parser *p, const char *s, size_t n);

/* Statements (tmpl_parse.c) up to the end of the source. */
MUST_CHECK int tmpl_parse(struct tmpl_parser *p, struct tmpl_node **out_body);

/* Places every name and checks what Jinja's compiler would refuse (tmpl_scope.c). */
MUST_CHECK int tmpl_scope(struct tmpl_parser *p, struct chat_template *t);

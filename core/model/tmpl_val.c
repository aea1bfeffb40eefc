#include "core/model/tmpl_val_int.h"

#include <string.h>

#include "core/model/tmpl_text_int.h"

enum { JSON_MAX_NESTING = 128 };

int tmpl_str_ref(struct tmpl_run *r, const char *s, size_t n, struct tmpl_val *out)
{
    struct tmpl_str *str = tmpl_alloc(r, sizeof(*str));
    if (!str)
        return tmpl_failed(r);
    *str = (struct tmpl_str){.s = s, .n = n, .n_chars = n <= 1 ? n : TMPL_CHARS_UNKNOWN};
    *out = tmpl_str_val(str);
    return 0;
}

static int str_copy(struct tmpl_run *r, const char *s, size_t n, struct tmpl_val *out)
{
    char *copy = tmpl_alloc(r, n);
    if (!copy)
        return tmpl_failed(r);
    if (n)
        memcpy(copy, s, n);
    int rc = tmpl_charge(r, n);
    return rc ? rc : tmpl_str_ref(r, copy, n, out);
}

int tmpl_str_take(struct tmpl_run *r, struct buf *b, struct tmpl_val *out)
{
    int rc = b->failed ? tmpl_memory_limit(r) : str_copy(r, buf_str(b), b->len, out);
    buf_fini(b);
    return rc;
}

/* A block for n_bytes with room to grow by half. */
static struct tmpl_grow *grow_new(struct tmpl_run *r, size_t n_bytes)
{
    size_t cap = n_bytes + n_bytes / 2 + 32;
    struct tmpl_grow *g = tmpl_alloc(r, sizeof(*g) + cap);
    if (g) {
        g->cap = cap;
        g->used = n_bytes;
    }
    return g;
}

/* Room for n more bytes right behind `end`: nobody has appended there, and they fit. */
static bool can_extend(const struct tmpl_grow *g, const void *end, size_t n)
{
    return g && (const char *)end == g->data + g->used && n <= g->cap - g->used;
}

int tmpl_str_cat(struct tmpl_run *r, struct tmpl_str *a, struct tmpl_str *b, struct tmpl_val *out)
{
    if (b->n == 0 || a->n == 0) {
        *out = tmpl_str_val(b->n == 0 ? a : b);
        return 0;
    }
    struct tmpl_grow *g = a->grow;
    const char *s = a->s;
    struct tmpl_str *str = tmpl_alloc(r, sizeof(*str));
    if (!str)
        return tmpl_failed(r);
    if (can_extend(g, s + a->n, b->n)) {
        memcpy(g->data + g->used, b->s, b->n);
        g->used += b->n;
    } else {
        if (!(g = grow_new(r, a->n + b->n)))
            return tmpl_failed(r);
        memcpy(g->data, a->s, a->n);
        memcpy(g->data + a->n, b->s, b->n);
        s = g->data;
    }
    *str = (struct tmpl_str){
        .s = s, .n = a->n + b->n, .n_chars = TMPL_CHARS_UNKNOWN, .grow = g, .markup = a->markup};
    *out = tmpl_str_val(str);
    return tmpl_charge(r, b->n);
}

bool tmpl_str_is(const struct tmpl_str *s, const char *lit)
{
    return strlen(lit) == s->n && memcmp(s->s, lit, s->n) == 0;
}

int tmpl_shown(const struct tmpl_str *s)
{
    size_t n = s->n < 60 ? s->n : 60;
    while (n > 0 && n < s->n && ((unsigned char)s->s[n] & 0xc0) == 0x80)
        n--;
    return (int)n;
}

size_t tmpl_str_chars(struct tmpl_str *s)
{
    if (s->n_chars == TMPL_CHARS_UNKNOWN)
        s->n_chars = tmpl_count_chars(s->s, s->n);
    return s->n_chars;
}

/* A list of n unset values. */
static struct tmpl_list *list_alloc(struct tmpl_run *r, size_t n)
{
    struct tmpl_list *l = tmpl_alloc(r, sizeof(*l));
    if (!l || !(l->items = tmpl_array(r, n, sizeof(*l->items))))
        return NULL;
    l->n = n;
    return l;
}

int tmpl_list_new(struct tmpl_run *r, enum tmpl_type type, size_t n, struct tmpl_val *out)
{
    struct tmpl_list *l = list_alloc(r, n);
    if (!l)
        return tmpl_failed(r);
    *out = (struct tmpl_val){.type = (uint8_t)type, .list = l};
    return tmpl_charge(r, n);
}

int tmpl_list_push(struct tmpl_run *r, struct tmpl_list *l, const struct tmpl_val *v)
{
    struct tmpl_grow *g = l->grow;
    if (can_extend(g, l->items + l->n, sizeof(*v)))
        g->used += sizeof(*v);
    else {
        if (!(g = grow_new(r, (l->n + 1) * sizeof(*v))))
            return tmpl_failed(r);
        if (l->n)
            memcpy(g->data, l->items, l->n * sizeof(*v));
        l->items = (struct tmpl_val *)(void *)g->data;
        l->grow = g;
    }
    l->items[l->n++] = *v;
    return 0;
}

int tmpl_list_cat(struct tmpl_run *r, const struct tmpl_val *a, const struct tmpl_val *b,
                  struct tmpl_val *out)
{
    size_t n_a = a->list->n, n_b = b->list->n, size = sizeof(struct tmpl_val);
    struct tmpl_list *l = tmpl_alloc(r, sizeof(*l));
    if (!l)
        return tmpl_failed(r);
    *l = *a->list;
    l->is_group = false;
    if (can_extend(l->grow, l->items + n_a, n_b * size))
        l->grow->used += n_b * size;
    else {
        struct tmpl_grow *g = grow_new(r, (n_a + n_b) * size);
        if (!g)
            return tmpl_failed(r);
        if (n_a)
            memcpy(g->data, l->items, n_a * size);
        l->items = (struct tmpl_val *)(void *)g->data;
        l->grow = g;
    }
    if (n_b)
        memcpy(l->items + n_a, b->list->items, n_b * size);
    l->n = n_a + n_b;
    *out = (struct tmpl_val){.type = a->type, .list = l};
    return tmpl_charge(r, n_b);
}

int tmpl_tuple2(struct tmpl_run *r, const struct tmpl_val *a, const struct tmpl_val *b,
                struct tmpl_val *out)
{
    struct tmpl_val t, items[2] = {*a, *b};
    int rc = tmpl_list_new(r, TV_TUPLE, 2, &t);
    if (rc)
        return rc;
    memcpy(t.list->items, items, sizeof(items));
    *out = t;
    return 0;
}

int tmpl_undef(struct tmpl_run *r, enum tmpl_undef_why why, const char *owner,
               const struct tmpl_val *name, struct tmpl_val *out)
{
    struct tmpl_undef *u = tmpl_alloc(r, sizeof(*u));
    if (!u)
        return tmpl_failed(r);
    *u = (struct tmpl_undef){.why = (uint8_t)why, .owner = owner};
    if (name)
        u->name = *name;
    *out = (struct tmpl_val){.type = TV_UNDEF, .undef = u};
    return 0;
}

static int from_json(struct tmpl_run *r, const json_t *j, int depth, struct tmpl_val *out);

static int array_from_json(struct tmpl_run *r, const json_t *j, int depth, struct tmpl_val *out)
{
    size_t n = json_array_size(j);
    struct tmpl_list *l = list_alloc(r, n);
    if (!l)
        return tmpl_failed(r);
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = from_json(r, json_array_get(j, i), depth + 1, &l->items[i]);
    *out = (struct tmpl_val){.type = TV_LIST, .list = l};
    return rc;
}

static int object_from_json(struct tmpl_run *r, const json_t *j, int depth, struct tmpl_val *out)
{
    json_t *object = (json_t *)j; /* jansson's iterators take no const */
    struct tmpl_dict *d;
    int rc = tmpl_dict_new(r, &d);
    for (void *it = json_object_iter(object); it && rc == 0;
         it = json_object_iter_next(object, it)) {
        struct tmpl_val key, val;
        const char *s = json_object_iter_key(it);
        rc = tmpl_str_ref(r, s, strlen(s), &key);
        if (rc == 0)
            rc = from_json(r, json_object_iter_value(it), depth + 1, &val);
        if (rc == 0)
            rc = tmpl_dict_set(r, d, &key, &val);
    }
    if (rc == 0)
        *out = (struct tmpl_val){.type = TV_DICT, .dict = d};
    return rc;
}

static int from_json(struct tmpl_run *r, const json_t *j, int depth, struct tmpl_val *out)
{
    if (depth > JSON_MAX_NESTING)
        return tmpl_limit(r, "the context is nested deeper than %d levels", JSON_MAX_NESTING);
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        return object_from_json(r, j, depth, out);
    case JSON_ARRAY:
        return array_from_json(r, j, depth, out);
    case JSON_STRING:
        return tmpl_str_ref(r, json_string_value(j), json_string_length(j), out);
    case JSON_INTEGER:
        *out = tmpl_int(json_integer_value(j));
        return 0;
    case JSON_REAL:
        *out = tmpl_float(json_real_value(j));
        return 0;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = tmpl_bool(json_is_true(j));
        return 0;
    default:
        *out = tmpl_none();
        return 0;
    }
}

int tmpl_from_json(struct tmpl_run *r, const json_t *j, struct tmpl_val *out)
{
    return from_json(r, j, 0, out);
}

const char *tmpl_type_name(const struct tmpl_val *v)
{
    static const char *const names[] = {
        [TV_MISSING] = "missing", [TV_UNDEF] = "Undefined", [TV_NONE] = "NoneType",
        [TV_BOOL] = "bool",       [TV_INT] = "int",         [TV_FLOAT] = "float",
        [TV_STR] = "str",         [TV_LIST] = "list",       [TV_TUPLE] = "tuple",
        [TV_DICT] = "dict",       [TV_RANGE] = "range",     [TV_VIEW] = "dict view",
        [TV_ITER] = "generator",  [TV_NS] = "Namespace",    [TV_LOOP] = "LoopContext",
        [TV_MACRO] = "Macro",     [TV_METHOD] = "method",   [TV_FUNC] = "function",
        [TV_CYCLER] = "Cycler",   [TV_JOINER] = "Joiner",
    };
    return names[v->type];
}

bool tmpl_truthy(const struct tmpl_val *v)
{
    switch (v->type) {
    case TV_MISSING:
    case TV_UNDEF:
    case TV_NONE:
        return false;
    case TV_BOOL:
        return v->b;
    case TV_INT:
        return v->i != 0;
    case TV_FLOAT:
        return v->f != 0;
    case TV_STR:
        return v->str->n != 0;
    case TV_LIST:
    case TV_TUPLE:
        return v->list->n != 0;
    case TV_DICT:
        return v->dict->n != 0;
    case TV_RANGE:
        return v->range->n != 0;
    case TV_VIEW:
        return v->view->dict->n != 0;
    default:
        return true;
    }
}

bool tmpl_has_len(const struct tmpl_val *v)
{
    return v->type == TV_UNDEF || v->type == TV_STR || tmpl_is_seq(v) || v->type == TV_DICT ||
           v->type == TV_RANGE || v->type == TV_VIEW || v->type == TV_LOOP;
}

int tmpl_len(struct tmpl_run *r, const struct tmpl_val *v, int64_t *out)
{
    switch (v->type) {
    case TV_UNDEF:
        *out = 0;
        return 0;
    case TV_STR:
        *out = (int64_t)tmpl_str_chars(v->str);
        return tmpl_charge(r, v->str->n);
    case TV_LIST:
    case TV_TUPLE:
        *out = (int64_t)v->list->n;
        return 0;
    case TV_DICT:
        *out = v->dict->n;
        return 0;
    case TV_RANGE:
        *out = (int64_t)v->range->n;
        return 0;
    case TV_VIEW:
        *out = v->view->dict->n;
        return 0;
    case TV_LOOP:
        return tmpl_loop_length(r, v->loop, out);
    default:
        return tmpl_raise(r, EXC_TYPE, "object of type '%s' has no len()", tmpl_type_name(v));
    }
}

/* tmpl_attr.c - attributes and items of values, with the sandbox's rules.
 *
 * `a.b` looks for an attribute (a method of the type) first and an item second, `a["b"]` the
 * other way round; what is not there is undefined. Methods that would change a list or dict, and
 * names that begin with an underscore, are undefined as well. */
#include <math.h>
#include <string.h>

#include "core/model/tmpl_ast_int.h"
#include "core/model/tmpl_text_int.h"
#include "core/model/tmpl_val_int.h"

static int meth_get(struct tmpl_run *r, const struct tmpl_val *self, int how,
                    const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"", ""};
    struct tmpl_val v[2];
    bool found = false;
    int rc = tmpl_bind(r, "get", a, names, 2, 1, v);
    if (rc == 0)
        rc = tmpl_dict_get(r, self->dict, &v[0], out, &found);
    if (rc == 0 && !found)
        *out = v[1].type == TV_MISSING ? tmpl_none() : v[1];
    return rc;
}

static int meth_view(struct tmpl_run *r, const struct tmpl_val *self, int kind,
                     const struct tmpl_args *a, struct tmpl_val *out)
{
    int rc = tmpl_bind_none(r, "dict method", a);
    struct tmpl_view *view = rc ? NULL : tmpl_alloc(r, sizeof(*view));
    if (!view)
        return tmpl_failed(r);
    *view = (struct tmpl_view){.kind = (uint8_t)kind, .dict = self->dict};
    *out = (struct tmpl_val){.type = TV_VIEW, .view = view};
    return 0;
}

/* Lists and dicts never change: they are their own copies, unless somebody asks `is`. */
static int meth_copy(struct tmpl_run *r, const struct tmpl_val *self, int how,
                     const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    int rc = tmpl_bind_none(r, "copy", a);
    if (rc)
        return rc;
    if (self->type == TV_LIST)
        return tmpl_to_list(r, self, out);
    *out = *self;
    return tmpl_dict_copy(r, self->dict, &out->dict);
}

static int meth_fromkeys(struct tmpl_run *r, const struct tmpl_val *self, int how,
                         const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)self;
    (void)how;
    static const char *const names[] = {"", ""};
    struct tmpl_val v[2], key;
    struct tmpl_iter it;
    struct tmpl_dict *d;
    bool done = false;
    int rc = tmpl_bind(r, "fromkeys", a, names, 2, 1, v);
    if (rc == 0 && v[1].type == TV_MISSING)
        v[1] = tmpl_none();
    if (rc == 0)
        rc = tmpl_dict_new(r, &d);
    if (rc == 0)
        rc = tmpl_iter_init(r, &v[0], &it);
    while (rc == 0 && (rc = tmpl_next(r, &it, &key, &done)) == 0 && !done)
        rc = tmpl_dict_set(r, d, &key, &v[1]);
    if (rc == 0)
        *out = (struct tmpl_val){.type = TV_DICT, .dict = d};
    return rc;
}

/* list.count and list.index, also of tuples and ranges; how: index. */
static int meth_count(struct tmpl_run *r, const struct tmpl_val *self, int is_index,
                      const struct tmpl_args *a, struct tmpl_val *out)
{
    static const char *const names[] = {"", "", ""};
    struct tmpl_val v[3], item;
    struct tmpl_iter it;
    int64_t n = 0, i = 0, from = 0, to = 0;
    bool done = false, same = false;
    int rc = tmpl_bind(r, is_index ? "index" : "count", a, names, is_index ? 3 : 1, 1, v);
    if (rc == 0)
        rc = tmpl_len(r, self, &to);
    int64_t len = to;
    if (rc == 0 && is_index && v[1].type != TV_MISSING)
        rc = tmpl_index_arg(r, &v[1], &from);
    if (rc == 0 && is_index && v[2].type != TV_MISSING)
        rc = tmpl_index_arg(r, &v[2], &to);
    from += from < 0 ? len : 0;
    to += to < 0 ? len : 0;
    if (rc == 0)
        rc = tmpl_iter_init(r, self, &it);
    for (; rc == 0 && (rc = tmpl_next(r, &it, &item, &done)) == 0 && !done; i++) {
        if (is_index && (i < from || i >= to))
            continue;
        rc = tmpl_eq(r, &item, &v[0], &same);
        if (rc == 0 && same && is_index) {
            *out = tmpl_int(i);
            return 0;
        }
        n += same;
    }
    if (rc == 0 && is_index)
        return tmpl_raise(r, EXC_VALUE, "value is not in %s", tmpl_type_name(self));
    *out = tmpl_int(n);
    return rc;
}

static int meth_is_integer(struct tmpl_run *r, const struct tmpl_val *self, int how,
                           const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    int rc = tmpl_bind_none(r, "is_integer", a);
    *out = tmpl_bool(isfinite(self->f) && trunc(self->f) == self->f);
    return rc;
}

static int meth_bit_length(struct tmpl_run *r, const struct tmpl_val *self, int count_ones,
                           const struct tmpl_args *a, struct tmpl_val *out)
{
    int rc = tmpl_bind_none(r, "bit_length", a);
    int64_t i = tmpl_as_int(self);
    uint64_t m = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    *out = tmpl_int(count_ones ? __builtin_popcountll(m) : m ? 64 - __builtin_clzll(m) : 0);
    return rc;
}

static int meth_next(struct tmpl_run *r, const struct tmpl_val *self, int is_reset,
                     const struct tmpl_args *a, struct tmpl_val *out)
{
    struct tmpl_cycler *c = self->cycler;
    int rc = tmpl_bind_none(r, "cycler method", a);
    if (rc)
        return rc;
    *out = is_reset ? tmpl_none() : c->items[c->pos];
    c->pos = is_reset ? 0 : (c->pos + 1) % c->n;
    return 0;
}

enum { UNSAFE = -1 }; /* `how` of a method that the sandbox hides */

static const struct tmpl_method dict_methods[] = {
    {"get", meth_get, 0},
    {"keys", meth_view, VIEW_KEYS},
    {"values", meth_view, VIEW_VALUES},
    {"items", meth_view, VIEW_ITEMS},
    {"copy", meth_copy, 0},
    {"fromkeys", meth_fromkeys, 0},
    {"clear", NULL, UNSAFE},
    {"pop", NULL, UNSAFE},
    {"popitem", NULL, UNSAFE},
    {"setdefault", NULL, UNSAFE},
    {"update", NULL, UNSAFE},
};

static const struct tmpl_method list_methods[] = {
    {"count", meth_count, 0},  {"index", meth_count, 1}, {"copy", meth_copy, 0},
    {"append", NULL, UNSAFE},  {"clear", NULL, UNSAFE},  {"pop", NULL, UNSAFE},
    {"reverse", NULL, UNSAFE}, {"insert", NULL, UNSAFE}, {"sort", NULL, UNSAFE},
    {"extend", NULL, UNSAFE},  {"remove", NULL, UNSAFE},
};

static const struct tmpl_method tuple_methods[] = {
    {"count", meth_count, 0},
    {"index", meth_count, 1},
};

static const struct tmpl_method int_methods[] = {
    {"bit_length", meth_bit_length, 0},
    {"bit_count", meth_bit_length, 1},
    {"conjugate", NULL, 0},
    {"as_integer_ratio", NULL, 0},
    {"to_bytes", NULL, 0},
    {"from_bytes", NULL, 0},
};

static const struct tmpl_method float_methods[] = {
    {"is_integer", meth_is_integer, 0},
    {"conjugate", NULL, 0},
    {"as_integer_ratio", NULL, 0},
    {"hex", NULL, 0},
    {"fromhex", NULL, 0},
};

static const struct tmpl_method view_methods[] = {
    {"isdisjoint", NULL, 0},
    {"mapping", NULL, 0},
};

static const struct tmpl_method iter_methods[] = {
    {"close", NULL, 0},
    {"send", NULL, 0},
    {"throw", NULL, 0},
};

static const struct tmpl_method cycler_methods[] = {
    {"next", meth_next, 0},
    {"reset", meth_next, 1},
};

static const struct tmpl_method func_methods[] = {
    {"fromkeys", meth_fromkeys, 0},
};

static const struct tmpl_method *method_of(const struct tmpl_val *v, const struct tmpl_str *name)
{
    switch (v->type) {
    case TV_STR:
        return tmpl_str_method(name);
    case TV_DICT:
        return tmpl_find_method(dict_methods, ARRAY_LEN(dict_methods), name);
    case TV_LIST:
        return tmpl_find_method(list_methods, ARRAY_LEN(list_methods), name);
    case TV_TUPLE:
    case TV_RANGE:
        return tmpl_find_method(tuple_methods, ARRAY_LEN(tuple_methods), name);
    case TV_INT:
    case TV_BOOL:
        return tmpl_find_method(int_methods, ARRAY_LEN(int_methods), name);
    case TV_FLOAT:
        return tmpl_find_method(float_methods, ARRAY_LEN(float_methods), name);
    case TV_VIEW:
        return tmpl_find_method(view_methods, ARRAY_LEN(view_methods), name);
    case TV_ITER:
        return tmpl_find_method(iter_methods, ARRAY_LEN(iter_methods), name);
    case TV_CYCLER:
        return tmpl_find_method(cycler_methods, ARRAY_LEN(cycler_methods), name);
    case TV_FUNC:
        return strcmp(v->func->name, "dict") == 0
                   ? tmpl_find_method(func_methods, ARRAY_LEN(func_methods), name)
                   : NULL;
    default:
        return NULL;
    }
}

int tmpl_bind_method(struct tmpl_run *r, const struct tmpl_val *self, const struct tmpl_method *m,
                     struct tmpl_val *out)
{
    struct tmpl_bound *b = tmpl_alloc(r, sizeof(*b));
    if (!b)
        return tmpl_failed(r);
    *b = (struct tmpl_bound){.self = *self, .method = m};
    *out = (struct tmpl_val){.type = TV_METHOD, .bound = b};
    return 0;
}

static int macro_attr(struct tmpl_run *r, const struct tmpl_macro *m, const struct tmpl_str *name,
                      struct tmpl_val *out, bool *found)
{
    const struct tmpl_macro_scope *def = m->def;
    *found = true;
    if (tmpl_str_is(name, "name"))
        *out = def->name ? tmpl_str_val(def->name) : tmpl_none();
    else if (tmpl_str_is(name, "catch_kwargs"))
        *out = tmpl_bool(def->takes_kwargs);
    else if (tmpl_str_is(name, "catch_varargs"))
        *out = tmpl_bool(def->takes_varargs);
    else if (tmpl_str_is(name, "caller"))
        *out = tmpl_bool(def->takes_caller);
    else if (tmpl_str_is(name, "explicit_caller"))
        *out = tmpl_bool(def->explicit_caller);
    else if (tmpl_str_is(name, "arguments")) {
        int rc = tmpl_list_new(r, TV_TUPLE, def->n_params, out);
        for (uint32_t i = 0; i < def->n_params && rc == 0; i++)
            out->list->items[i] = tmpl_str_val(def->params[i]);
        return rc;
    } else
        *found = false;
    return 0;
}

static bool number_attr(const struct tmpl_val *v, const struct tmpl_str *name, struct tmpl_val *out)
{
    bool is_float = v->type == TV_FLOAT;
    if (tmpl_str_is(name, "real") || (!is_float && tmpl_str_is(name, "numerator")))
        *out = is_float ? *v : tmpl_int(tmpl_as_int(v));
    else if (tmpl_str_is(name, "imag"))
        *out = is_float ? tmpl_float(0) : tmpl_int(0);
    else if (!is_float && tmpl_str_is(name, "denominator"))
        *out = tmpl_int(1);
    else
        return false;
    return true;
}

static bool range_attr(const struct tmpl_range *range, const struct tmpl_str *name,
                       struct tmpl_val *out)
{
    if (tmpl_str_is(name, "start"))
        *out = tmpl_int(range->start);
    else if (tmpl_str_is(name, "stop"))
        *out = tmpl_int(range->stop);
    else if (tmpl_str_is(name, "step"))
        *out = tmpl_int(range->step);
    else
        return false;
    return true;
}

static int cycler_attr(struct tmpl_run *r, const struct tmpl_cycler *c, const struct tmpl_str *name,
                       struct tmpl_val *out, bool *found)
{
    *found = true;
    if (tmpl_str_is(name, "current"))
        *out = c->items[c->pos];
    else if (tmpl_str_is(name, "pos"))
        *out = tmpl_int((int64_t)c->pos);
    else if (tmpl_str_is(name, "items")) {
        int rc = tmpl_list_new(r, TV_TUPLE, c->n, out);
        if (rc == 0 && c->n)
            memcpy(out->list->items, c->items, c->n * sizeof(*c->items));
        return rc;
    } else
        *found = false;
    return 0;
}

/* Attributes that are values, not methods. */
static int value_attr(struct tmpl_run *r, const struct tmpl_val *v, const struct tmpl_str *name,
                      struct tmpl_val *out, bool *found)
{
    switch (v->type) {
    case TV_NS:
        return tmpl_dict_find(r, v->dict, name->s, name->n, out, found);
    case TV_LOOP:
        return tmpl_loop_attr(r, v, name, out, found);
    case TV_MACRO:
        return macro_attr(r, v->macro, name, out, found);
    case TV_CYCLER:
        return cycler_attr(r, v->cycler, name, out, found);
    case TV_INT:
    case TV_BOOL:
    case TV_FLOAT:
        *found = number_attr(v, name, out);
        return 0;
    case TV_RANGE:
        *found = range_attr(v->range, name, out);
        return 0;
    case TV_JOINER:
        if ((*found = tmpl_str_is(name, "sep")))
            *out = v->joiner->sep;
        else if ((*found = tmpl_str_is(name, "used")))
            *out = tmpl_bool(v->joiner->used);
        return 0;
    case TV_TUPLE:
        *found = v->list->is_group && (tmpl_str_is(name, "grouper") || tmpl_str_is(name, "list"));
        if (*found)
            *out = v->list->items[name->s[0] == 'l'];
        return 0;
    default:
        return 0;
    }
}

/* Names that every Python object, or every dict, has; the sandbox hides them. */
static bool is_hidden(const struct tmpl_str *name)
{
    static const char *const names[] = {
        "class",    "doc",          "init",    "module",       "repr",
        "str",      "eq",           "ne",      "hash",         "dir",
        "format",   "getattribute", "setattr", "delattr",      "new",
        "reduce",   "reduce_ex",    "sizeof",  "subclasshook", "init_subclass",
        "lt",       "le",           "gt",      "ge",           "contains",
        "getitem",  "setitem",      "delitem", "iter",         "len",
        "or",       "ior",          "ror",     "reversed",     "class_getitem",
        "getstate",
    };
    if (name->n < 5 || memcmp(name->s, "__", 2) != 0 || memcmp(name->s + name->n - 2, "__", 2) != 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strlen(names[i]) == name->n - 4 && memcmp(names[i], name->s + 2, name->n - 4) == 0)
            return true;
    return false;
}

static int unsafe_attr(struct tmpl_run *r, const struct tmpl_val *v, struct tmpl_str *name,
                       struct tmpl_val *out)
{
    struct tmpl_val key = tmpl_str_val(name);
    return tmpl_undef(r, UNDEF_UNSAFE, tmpl_type_name(v), &key, out);
}

int tmpl_attr_only(struct tmpl_run *r, const struct tmpl_val *v, struct tmpl_str *name,
                   struct tmpl_val *out, bool *found)
{
    *found = true;
    if (v->type != TV_NS && is_hidden(name))
        return unsafe_attr(r, v, name, out);
    if (v->type == TV_UNDEF)
        return tmpl_raise_undef(r, v);
    const struct tmpl_method *m = method_of(v, name);
    if (m && m->fn)
        return tmpl_bind_method(r, v, m, out);
    if (m && m->how == UNSAFE)
        return unsafe_attr(r, v, name, out);
    if (m)
        return tmpl_unsupported(r, "the method '%s' of %s is not supported", m->name,
                                tmpl_type_name(v));
    *found = false;
    return value_attr(r, v, name, out, found);
}

static int undef_attr(struct tmpl_run *r, const struct tmpl_val *v, const struct tmpl_val *key,
                      struct tmpl_val *out)
{
    return tmpl_undef(r, UNDEF_ATTR, tmpl_type_name(v), key, out);
}

/* Item i of something with n of them; negative from the end. */
static bool wrap_index(const struct tmpl_val *key, int64_t n, int64_t *out)
{
    if (!tmpl_is_int(key))
        return false;
    int64_t i = tmpl_as_int(key);
    *out = i < 0 ? i + n : i;
    return *out >= 0 && *out < n;
}

static int str_item(struct tmpl_run *r, struct tmpl_str *s, const struct tmpl_val *key,
                    struct tmpl_val *out, bool *found)
{
    int64_t i;
    uint32_t cp;
    *found = wrap_index(key, (int64_t)tmpl_str_chars(s), &i);
    if (!*found)
        return 0;
    bool ascii = s->n_chars == s->n;
    size_t at = ascii ? (size_t)i : tmpl_char_offset(s->s, s->n, (size_t)i);
    int rc = tmpl_charge(r, ascii ? 0 : s->n);
    if (rc == 0)
        rc = tmpl_str_ref(r, s->s + at, tmpl_char_at(s->s + at, &cp), out);
    if (rc == 0)
        out->str->markup = s->markup;
    return rc;
}

/* v[key]; *found is false where Python raises TypeError or LookupError. */
static int try_item(struct tmpl_run *r, const struct tmpl_val *v, const struct tmpl_val *key,
                    struct tmpl_val *out, bool *found)
{
    int64_t i;
    int rc;
    *found = false;
    switch (v->type) {
    case TV_UNDEF:
        return tmpl_raise_undef(r, v);
    case TV_DICT:
        rc = tmpl_dict_get(r, v->dict, key, out, found);
        return rc && tmpl_catch(r, EXC_TYPE) ? 0 : rc;
    case TV_LIST:
    case TV_TUPLE:
        if ((*found = wrap_index(key, (int64_t)v->list->n, &i)))
            *out = v->list->items[i];
        return 0;
    case TV_STR:
        return str_item(r, v->str, key, out, found);
    case TV_RANGE:
        if ((*found = wrap_index(key, (int64_t)v->range->n, &i)))
            *out = tmpl_int(v->range->start + i * v->range->step);
        return 0;
    default:
        return 0;
    }
}

int tmpl_getattr(struct tmpl_run *r, const struct tmpl_val *v, struct tmpl_str *name,
                 struct tmpl_val *out)
{
    struct tmpl_val key = tmpl_str_val(name), self = *v;
    bool found;
    int rc = tmpl_attr_only(r, &self, name, out, &found);
    if (rc == 0 && !found && self.type == TV_DICT)
        rc = tmpl_dict_get(r, self.dict, &key, out, &found);
    return rc || found ? rc : undef_attr(r, &self, &key, out);
}

int tmpl_getitem(struct tmpl_run *r, const struct tmpl_val *v, const struct tmpl_val *key,
                 struct tmpl_val *out)
{
    struct tmpl_val self = *v;
    bool found;
    int rc = try_item(r, &self, key, out, &found);
    if (rc == 0 && !found && key->type == TV_STR)
        rc = tmpl_attr_only(r, &self, key->str, out, &found);
    return rc || found ? rc : undef_attr(r, &self, key, out);
}

int tmpl_subscript(struct tmpl_run *r, const struct tmpl_val *v, const struct tmpl_val *key,
                   struct tmpl_val *out)
{
    bool found;
    int rc = try_item(r, v, key, out, &found);
    return rc || found ? rc
                       : tmpl_raise(r, EXC_LOOKUP, "'%s' object lacks a key of the format",
                                    tmpl_type_name(v));
}

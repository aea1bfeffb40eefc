/* tmpl_cmp.c - ==, <, in and is, as Python's built-in types define them. */
#include <math.h>
#include <string.h>

#include "core/model/tmpl_ast_int.h"
#include "core/model/tmpl_text_int.h"
#include "core/model/tmpl_val_int.h"

/* -1, 0, 1; 2 when unordered (NaN). Exact also where an int has no double. */
static int compare_int_float(int64_t i, double f)
{
    if (isnan(f))
        return 2;
    if (f >= 9223372036854775808.0)
        return -1;
    if (f < -9223372036854775808.0)
        return 1;
    double whole = trunc(f);
    int64_t t = (int64_t)whole;
    if (i != t)
        return i < t ? -1 : 1;
    return f > whole ? -1 : f < whole ? 1 : 0;
}

static int compare_num(const struct tmpl_val *a, const struct tmpl_val *b)
{
    if (a->type == TV_FLOAT && b->type == TV_FLOAT)
        return isnan(a->f) || isnan(b->f) ? 2 : (a->f > b->f) - (a->f < b->f);
    if (a->type == TV_FLOAT) {
        int c = compare_int_float(tmpl_as_int(b), a->f);
        return c == 2 ? 2 : -c;
    }
    if (b->type == TV_FLOAT)
        return compare_int_float(tmpl_as_int(a), b->f);
    int64_t x = tmpl_as_int(a), y = tmpl_as_int(b);
    return (x > y) - (x < y);
}

static int compare_str(const struct tmpl_str *a, const struct tmpl_str *b)
{
    size_t n = a->n < b->n ? a->n : b->n;
    int c = n ? memcmp(a->s, b->s, n) : 0;
    return c ? (c > 0) - (c < 0) : (a->n > b->n) - (a->n < b->n);
}

static int eq_items(struct tmpl_run *r, const struct tmpl_list *a, const struct tmpl_list *b,
                    bool *out)
{
    *out = a->n == b->n;
    if (!*out || a == b)
        return 0;
    int rc = tmpl_enter(r);
    if (rc)
        return rc;
    for (size_t i = 0; i < a->n && *out && rc == 0; i++)
        rc = tmpl_eq(r, &a->items[i], &b->items[i], out);
    tmpl_leave(r);
    return rc;
}

static int eq_dicts(struct tmpl_run *r, const struct tmpl_dict *a, const struct tmpl_dict *b,
                    bool *out)
{
    *out = a->n == b->n;
    if (!*out || a == b)
        return 0;
    int rc = tmpl_enter(r);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < a->n && *out && rc == 0; i++) {
        struct tmpl_val other;
        bool found = false;
        rc = tmpl_dict_get(r, b, &a->pairs[i].key, &other, &found);
        if (rc == 0 && found)
            rc = tmpl_eq(r, &a->pairs[i].val, &other, out);
        else
            *out = false;
    }
    tmpl_leave(r);
    return rc;
}

static bool eq_ranges(const struct tmpl_range *a, const struct tmpl_range *b)
{
    if (a->n != b->n)
        return false;
    return a->n == 0 || (a->start == b->start && (a->n == 1 || a->step == b->step));
}

/* keys() and items() compare as sets. */
static int eq_views(struct tmpl_run *r, const struct tmpl_val *a, const struct tmpl_val *b,
                    bool *out)
{
    const struct tmpl_view *x = a->view, *y = b->view;
    *out = x == y;
    if (*out || x->kind == VIEW_VALUES || y->kind == VIEW_VALUES)
        return 0;
    *out = x->dict->n == y->dict->n && x->kind == y->kind;
    if (x->kind != y->kind && x->dict->n == 0 && y->dict->n == 0)
        *out = true;
    int rc = 0;
    for (uint32_t i = 0; i < x->dict->n && *out && rc == 0; i++) {
        struct tmpl_val v;
        rc = tmpl_dict_get(r, y->dict, &x->dict->pairs[i].key, &v, out);
        if (rc == 0 && *out && x->kind == VIEW_ITEMS)
            rc = tmpl_eq(r, &x->dict->pairs[i].val, &v, out);
    }
    return rc;
}

int tmpl_eq(struct tmpl_run *r, const struct tmpl_val *a, const struct tmpl_val *b, bool *out)
{
    int rc = tmpl_charge(r, 0);
    if (rc)
        return rc;
    if (tmpl_is_num(a) && tmpl_is_num(b)) {
        *out = compare_num(a, b) == 0;
        return 0;
    }
    *out = false;
    if (a->type != b->type)
        return 0;
    switch (a->type) {
    case TV_STR:
        *out = a->str->n == b->str->n && compare_str(a->str, b->str) == 0;
        return tmpl_charge(r, a->str->n == b->str->n ? a->str->n : 0);
    case TV_LIST:
    case TV_TUPLE:
        return eq_items(r, a->list, b->list, out);
    case TV_DICT:
        return eq_dicts(r, a->dict, b->dict, out);
    case TV_RANGE:
        *out = eq_ranges(a->range, b->range);
        return 0;
    case TV_VIEW:
        return eq_views(r, a, b, out);
    case TV_METHOD:
        *out = a->bound->method == b->bound->method && tmpl_same(&a->bound->self, &b->bound->self);
        return 0;
    case TV_NONE:
    case TV_UNDEF:
        *out = true;
        return 0;
    default:
        *out = tmpl_same(a, b);
        return 0;
    }
}

bool tmpl_same(const struct tmpl_val *a, const struct tmpl_val *b)
{
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case TV_NONE:
        return true;
    case TV_BOOL:
        return a->b == b->b;
    case TV_INT: /* Python keeps one object for each small integer */
        return a->i == b->i && a->i >= -5 && a->i <= 256;
    case TV_FLOAT:
        return false;
    default:
        return a->str == b->str;
    }
}

static int not_ordered(struct tmpl_run *r, int op, const struct tmpl_val *a,
                       const struct tmpl_val *b)
{
    static const char *const signs[] = {
        [OP_LT] = "<", [OP_LE] = "<=", [OP_GT] = ">", [OP_GE] = ">="};
    if (a->type == TV_UNDEF || b->type == TV_UNDEF)
        return tmpl_raise_undef(r, a->type == TV_UNDEF ? a : b);
    return tmpl_raise(r, EXC_TYPE, "'%s' not supported between instances of '%s' and '%s'",
                      signs[op], tmpl_type_name(a), tmpl_type_name(b));
}

static bool holds(int op, int c)
{
    switch (op) {
    case OP_LT:
        return c == -1;
    case OP_LE:
        return c == -1 || c == 0;
    case OP_GT:
        return c == 1;
    default:
        return c == 1 || c == 0;
    }
}

int tmpl_order(struct tmpl_run *r, int op, const struct tmpl_val *a, const struct tmpl_val *b,
               bool *out)
{
    if (tmpl_is_num(a) && tmpl_is_num(b)) {
        *out = holds(op, compare_num(a, b));
        return tmpl_charge(r, 0);
    }
    if (a->type == TV_STR && b->type == TV_STR) {
        *out = holds(op, compare_str(a->str, b->str));
        return tmpl_charge(r, a->str->n < b->str->n ? a->str->n : b->str->n);
    }
    if (a->type == TV_VIEW && b->type == TV_VIEW)
        return tmpl_unsupported(r, "ordering of dict views is not supported");
    if (a->type != b->type || !tmpl_is_seq(a))
        return not_ordered(r, op, a, b);
    int rc = tmpl_enter(r);
    if (rc)
        return rc;
    size_t n = a->list->n < b->list->n ? a->list->n : b->list->n, i = 0;
    for (bool same = true; i < n && rc == 0; i++) {
        rc = tmpl_eq(r, &a->list->items[i], &b->list->items[i], &same);
        if (rc == 0 && !same)
            break;
    }
    if (rc == 0 && i < n)
        rc = tmpl_order(r, op, &a->list->items[i], &b->list->items[i], out);
    else if (rc == 0)
        *out = holds(op, (a->list->n > b->list->n) - (a->list->n < b->list->n));
    tmpl_leave(r);
    return rc;
}

static int in_iterable(struct tmpl_run *r, const struct tmpl_val *seq, const struct tmpl_val *v,
                       bool *out)
{
    struct tmpl_iter it;
    struct tmpl_val item;
    bool done = false;
    int rc = tmpl_iter_init(r, seq, &it);
    *out = false;
    while (rc == 0 && !*out && (rc = tmpl_next(r, &it, &item, &done)) == 0 && !done) {
        *out = tmpl_same(&item, v);
        if (!*out)
            rc = tmpl_eq(r, &item, v, out);
    }
    return rc;
}

static int in_view(struct tmpl_run *r, const struct tmpl_view *view, const struct tmpl_val *v,
                   const struct tmpl_val *seq, bool *out)
{
    struct tmpl_val val;
    *out = false;
    if (view->kind == VIEW_VALUES)
        return in_iterable(r, seq, v, out);
    if (view->kind == VIEW_KEYS)
        return tmpl_dict_get(r, view->dict, v, &val, out);
    if (v->type != TV_TUPLE || v->list->n != 2)
        return 0;
    int rc = tmpl_dict_get(r, view->dict, &v->list->items[0], &val, out);
    return rc || !*out ? rc : tmpl_eq(r, &val, &v->list->items[1], out);
}

static int contains(struct tmpl_run *r, const struct tmpl_val *seq, const struct tmpl_val *v,
                    bool *out)
{
    struct tmpl_val val;
    *out = false;
    switch (seq->type) {
    case TV_STR:
        if (v->type != TV_STR)
            return tmpl_raise(r, EXC_TYPE, "'in <string>' requires string as left operand, not %s",
                              tmpl_type_name(v));
        *out = tmpl_find(seq->str->s, seq->str->n, v->str->s, v->str->n, 0) != TMPL_NOT_FOUND;
        return tmpl_charge(r, seq->str->n);
    case TV_DICT:
        return tmpl_dict_get(r, seq->dict, v, &val, out);
    case TV_VIEW:
        return in_view(r, seq->view, v, seq, out);
    case TV_LIST:
    case TV_TUPLE:
    case TV_RANGE:
    case TV_ITER:
    case TV_UNDEF:
        return in_iterable(r, seq, v, out);
    default:
        return tmpl_raise(r, EXC_TYPE, "argument of type '%s' is not iterable",
                          tmpl_type_name(seq));
    }
}

int tmpl_compare(struct tmpl_run *r, int op, const struct tmpl_val *a, const struct tmpl_val *b,
                 bool *out)
{
    int rc;
    switch (op) {
    case OP_EQ:
        return tmpl_eq(r, a, b, out);
    case OP_NE:
        rc = tmpl_eq(r, a, b, out);
        *out = !*out;
        return rc;
    case OP_IN:
        return contains(r, b, a, out);
    case OP_NOTIN:
        rc = contains(r, b, a, out);
        *out = !*out;
        return rc;
    default:
        return tmpl_order(r, op, a, b, out);
    }
}

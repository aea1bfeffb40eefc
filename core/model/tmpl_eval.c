/* tmpl_eval.c - evaluates expressions. */
#include <string.h>

#include "core/model/tmpl_ast_int.h"
#include "core/model/tmpl_val_int.h"

static int eval_name(struct tmpl_run *r, const struct tmpl_node *n, struct tmpl_val *out)
{
    const struct tmpl_act *act = r->act;
    for (uint32_t i = n->hops; i > 0; i--)
        act = act->parent;
    *out = act->slots[n->slot];
    if (out->type != TV_MISSING)
        return 0;
    if (n->is_param)
        return tmpl_unsupported(
            r, "the variable '%.60s' is used after the end of its loop or block", n->name->s);
    struct tmpl_val name;
    int rc = tmpl_str_ref(r, n->name->s, n->name->n, &name);
    return rc ? rc : tmpl_undef(r, UNDEF_NAME, NULL, &name, out);
}

static int eval_items(struct tmpl_run *r, const struct tmpl_node *n, enum tmpl_type type,
                      struct tmpl_val *out)
{
    struct tmpl_val list;
    int rc = tmpl_list_new(r, type, n->n_items, &list);
    size_t i = 0;
    for (const struct tmpl_node *k = n->kid[0]; k && rc == 0; k = k->next)
        rc = tmpl_eval(r, k, &list.list->items[i++]);
    if (rc == 0)
        *out = list;
    return rc;
}

static int eval_dict(struct tmpl_run *r, const struct tmpl_node *n, struct tmpl_val *out)
{
    struct tmpl_dict *d;
    int rc = tmpl_dict_new(r, &d);
    for (const struct tmpl_node *k = n->kid[0]; k && rc == 0; k = k->next) {
        struct tmpl_val key, val;
        rc = tmpl_eval(r, k->kid[0], &key);
        if (rc == 0)
            rc = tmpl_eval(r, k->kid[1], &val);
        if (rc == 0)
            rc = tmpl_dict_set(r, d, &key, &val);
    }
    if (rc == 0)
        *out = (struct tmpl_val){.type = TV_DICT, .dict = d};
    return rc;
}

static int eval_cond(struct tmpl_run *r, const struct tmpl_node *n, struct tmpl_val *out)
{
    struct tmpl_val test;
    int rc = tmpl_eval(r, n->kid[0], &test);
    if (rc)
        return rc;
    const struct tmpl_node *branch = tmpl_truthy(&test) ? n->kid[1] : n->kid[2];
    if (branch)
        return tmpl_eval(r, branch, out);
    return tmpl_undef(r, UNDEF_HINT,
                      "the inline if-expression evaluated to false and no else section was defined",
                      NULL, out);
}

static int eval_logic(struct tmpl_run *r, const struct tmpl_node *n, struct tmpl_val *out)
{
    int rc = tmpl_eval(r, n->kid[0], out);
    if (rc || tmpl_truthy(out) == (n->kind == N_OR))
        return rc;
    return tmpl_eval(r, n->kid[1], out);
}

static int eval_compare(struct tmpl_run *r, const struct tmpl_node *n, struct tmpl_val *out)
{
    struct tmpl_val left, right;
    bool yes = true;
    int rc = tmpl_eval(r, n->kid[0], &left);
    for (const struct tmpl_node *k = n->kid[1]; k && yes && rc == 0; k = k->next) {
        rc = tmpl_eval(r, k->kid[0], &right);
        if (rc == 0)
            rc = tmpl_compare(r, k->op, &left, &right, &yes);
        left = right;
    }
    *out = tmpl_bool(yes);
    return rc;
}

static int eval_concat(struct tmpl_run *r, const struct tmpl_node *n, struct tmpl_val *out)
{
    struct buf b = tmpl_scratch(r);
    struct tmpl_val v;
    int rc = 0;
    for (const struct tmpl_node *k = n->kid[0]; k && rc == 0; k = k->next) {
        rc = tmpl_eval(r, k, &v);
        if (rc == 0)
            rc = tmpl_add_str(r, &b, &v);
    }
    if (rc == 0)
        return tmpl_str_take(r, &b, out);
    buf_fini(&b);
    return rc;
}

static int eval_item(struct tmpl_run *r, const struct tmpl_node *n, struct tmpl_val *out)
{
    struct tmpl_val v, key[3] = {{.type = TV_MISSING}};
    const struct tmpl_node *index = n->kid[1];
    int rc = tmpl_eval(r, n->kid[0], &v);
    if (rc == 0 && index->kind != N_SLICE) {
        rc = tmpl_eval(r, index, key);
        return rc ? rc : tmpl_getitem(r, &v, key, out);
    }
    for (int i = 0; i < 3 && rc == 0; i++)
        if (index->kid[i])
            rc = tmpl_eval(r, index->kid[i], &key[i]);
    return rc ? rc : tmpl_slice(r, &v, &key[0], &key[1], &key[2], out);
}

/* *args: appends the items of v. */
static int spread_pos(struct tmpl_run *r, const struct tmpl_val *v, struct tmpl_args *a)
{
    struct tmpl_val list;
    int rc = tmpl_to_list(r, v, &list);
    if (rc)
        return rc;
    size_t n = a->n_pos + list.list->n;
    struct tmpl_val *pos = tmpl_array(r, n, sizeof(*pos));
    if (!pos)
        return tmpl_failed(r);
    if (a->n_pos)
        memcpy(pos, a->pos, a->n_pos * sizeof(*pos));
    if (list.list->n)
        memcpy(pos + a->n_pos, list.list->items, list.list->n * sizeof(*pos));
    a->pos = pos;
    a->n_pos = n;
    return 0;
}

static int add_kwarg(struct tmpl_run *r, struct tmpl_args *a, struct tmpl_str *name,
                     const struct tmpl_val *val)
{
    for (size_t i = 0; i < a->n_kw; i++)
        if (a->kw[i].name->n == name->n && memcmp(a->kw[i].name->s, name->s, name->n) == 0)
            return tmpl_raise(r, EXC_TYPE, "got multiple values for keyword argument '%.*s'",
                              tmpl_shown(name), name->s);
    a->kw[a->n_kw++] = (struct tmpl_kwarg){.name = name, .val = *val};
    return tmpl_charge(r, a->n_kw);
}

/* **kwargs: appends the pairs of v. */
static int spread_kw(struct tmpl_run *r, const struct tmpl_val *v, struct tmpl_args *a)
{
    if (v->type == TV_UNDEF)
        return tmpl_raise_undef(r, v);
    if (v->type != TV_DICT)
        return tmpl_raise(r, EXC_TYPE, "argument after ** must be a mapping, not %s",
                          tmpl_type_name(v));
    const struct tmpl_dict *d = v->dict;
    struct tmpl_kwarg *kw = tmpl_array(r, a->n_kw + d->n + 1, sizeof(*kw));
    if (!kw)
        return tmpl_failed(r);
    if (a->n_kw)
        memcpy(kw, a->kw, a->n_kw * sizeof(*kw));
    a->kw = kw;
    int rc = 0;
    for (uint32_t i = 0; i < d->n && rc == 0; i++) {
        if (d->pairs[i].key.type != TV_STR)
            return tmpl_raise(r, EXC_TYPE, "keywords must be strings");
        rc = add_kwarg(r, a, d->pairs[i].key.str, &d->pairs[i].val);
    }
    return rc;
}

/* The arguments of a call, filter or test; caller: one more keyword argument, or NULL. */
static int eval_args(struct tmpl_run *r, const struct tmpl_node *n, const struct tmpl_val *caller,
                     struct tmpl_args *a)
{
    static const char caller_name[] = "caller";
    struct tmpl_val v;
    size_t n_kw = caller != NULL;
    int rc = 0;
    *a = (struct tmpl_args){0};
    for (const struct tmpl_node *k = n->kid[2]; k; k = k->next)
        n_kw++;
    if (n->n_items && !(a->pos = tmpl_array(r, n->n_items, sizeof(*a->pos))))
        return tmpl_failed(r);
    if (n_kw && !(a->kw = tmpl_array(r, n_kw, sizeof(*a->kw))))
        return tmpl_failed(r);
    for (const struct tmpl_node *k = n->kid[1]; k && rc == 0; k = k->next)
        rc = tmpl_eval(r, k, &a->pos[a->n_pos++]);
    for (const struct tmpl_node *k = n->kid[2]; k && rc == 0; k = k->next) {
        rc = tmpl_eval(r, k->kid[0], &v);
        if (rc == 0)
            rc = add_kwarg(r, a, k->str, &v);
    }
    if (rc == 0 && caller) {
        struct tmpl_val name;
        rc = tmpl_str_ref(r, caller_name, sizeof(caller_name) - 1, &name);
        if (rc == 0)
            rc = add_kwarg(r, a, name.str, caller);
    }
    if (rc == 0 && n->kid[3] && (rc = tmpl_eval(r, n->kid[3], &v)) == 0)
        rc = spread_pos(r, &v, a);
    if (rc == 0 && n->kid[4] && (rc = tmpl_eval(r, n->kid[4], &v)) == 0)
        rc = spread_kw(r, &v, a);
    return rc;
}

int tmpl_eval_call(struct tmpl_run *r, const struct tmpl_node *n, const struct tmpl_val *caller,
                   struct tmpl_val *out)
{
    struct tmpl_val f;
    struct tmpl_args a;
    int rc = tmpl_eval(r, n->kid[0], &f);
    if (rc == 0)
        rc = eval_args(r, n, caller, &a);
    if (rc)
        return rc;
    r->line = n->line;
    return tmpl_call(r, &f, &a, out);
}

static int no_such(struct tmpl_run *r, const struct tmpl_filter *f, bool is_filter,
                   const struct tmpl_str *name)
{
    const char *kind = is_filter ? "filter" : "test";
    return tmpl_unsupported(r, f ? "the %s '%.*s' is not supported" : "there is no %s '%.*s'", kind,
                            tmpl_shown(name), name->s);
}

int tmpl_eval_filter(struct tmpl_run *r, const struct tmpl_node *n, const struct tmpl_val *text,
                     struct tmpl_val *out)
{
    const struct tmpl_filter *f = n->fn;
    struct tmpl_val in;
    struct tmpl_args a;
    int rc = 0;
    if (!f || !f->fn)
        return no_such(r, f, n->kind == N_FILTER, n->str);
    BUG_ON(!n->kid[0] && !text); /* only blocks have filters without a value */
    if (!n->kid[0])
        in = *text;
    else if (text && n->kid[0]->kind == N_FILTER)
        rc = tmpl_eval_filter(r, n->kid[0], text, &in);
    else
        rc = tmpl_eval(r, n->kid[0], &in);
    if (rc == 0)
        rc = eval_args(r, n, NULL, &a);
    if (rc)
        return rc;
    r->line = n->line;
    return f->fn(r, &in, f->how, &a, out);
}

int tmpl_apply(struct tmpl_run *r, bool is_filter, const struct tmpl_val *name,
               const struct tmpl_val *in, const struct tmpl_args *a, struct tmpl_val *out)
{
    if (name->type != TV_STR)
        return tmpl_raise(r, EXC_OTHER, "no %s named by a %s", is_filter ? "filter" : "test",
                          tmpl_type_name(name));
    const struct tmpl_filter *f = is_filter ? tmpl_find_filter(name->str->s, name->str->n)
                                            : tmpl_find_test(name->str->s, name->str->n);
    if (!f || !f->fn)
        return no_such(r, f, is_filter, name->str);
    int rc = tmpl_enter(r);
    if (rc == 0) {
        rc = f->fn(r, in, f->how, a, out);
        tmpl_leave(r);
    }
    return rc;
}

static int eval_binary(struct tmpl_run *r, const struct tmpl_node *n, struct tmpl_val *out)
{
    struct tmpl_val a, b;
    int rc = tmpl_eval(r, n->kid[0], &a);
    if (rc == 0)
        rc = tmpl_eval(r, n->kid[1], &b);
    if (rc)
        return rc;
    r->line = n->line;
    return tmpl_binary(r, n->op, &a, &b, out);
}

static int eval_one(struct tmpl_run *r, const struct tmpl_node *n, struct tmpl_val *out)
{
    struct tmpl_val v;
    int rc;
    switch (n->kind) {
    case N_CONST:
    case N_DATA:
        *out = n->val;
        return 0;
    case N_NAME:
        return eval_name(r, n, out);
    case N_TUPLE:
        return eval_items(r, n, TV_TUPLE, out);
    case N_LIST:
        return eval_items(r, n, TV_LIST, out);
    case N_DICT:
        return eval_dict(r, n, out);
    case N_COND:
        return eval_cond(r, n, out);
    case N_BINARY:
        return eval_binary(r, n, out);
    case N_AND:
    case N_OR:
        return eval_logic(r, n, out);
    case N_COMPARE:
        return eval_compare(r, n, out);
    case N_CONCAT:
        return eval_concat(r, n, out);
    case N_ITEM:
        return eval_item(r, n, out);
    case N_CALL:
        return tmpl_eval_call(r, n, NULL, out);
    case N_FILTER:
    case N_TEST:
        return tmpl_eval_filter(r, n, NULL, out);
    default:
        break;
    }
    rc = tmpl_eval(r, n->kid[0], &v);
    if (rc)
        return rc;
    if (n->kind == N_ATTR)
        return tmpl_getattr(r, &v, n->str, out);
    if (n->kind == N_UNARY)
        return tmpl_unary(r, n->op, &v, out);
    *out = tmpl_bool(!tmpl_truthy(&v)); /* N_NOT */
    return 0;
}

int tmpl_eval(struct tmpl_run *r, const struct tmpl_node *n, struct tmpl_val *out)
{
    int rc = tmpl_charge(r, 0);
    if (rc == 0)
        rc = tmpl_enter(r);
    if (rc)
        return rc;
    r->line = n->line;
    rc = eval_one(r, n, out);
    tmpl_leave(r);
    return rc;
}

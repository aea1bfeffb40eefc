/* tmpl_filter_lazy.c - filters that are generators in Jinja: nothing happens, and nothing fails,
 * before somebody asks for the first item; and they give their items once. */
#include <string.h>

#include "core/model/tmpl_filter_int.h"

struct lazy {
    struct tmpl_val in;
    struct tmpl_args args;
    int how;
    bool started;
    struct tmpl_iter it;
    struct tmpl_val v[3];   /* bound arguments */
    struct tmpl_dict *seen; /* unique */
    int64_t at;             /* slice: its number */
};

static int lazy_new(struct tmpl_run *r, const struct tmpl_val *in, int how,
                    const struct tmpl_args *a, tmpl_next_fn *next, struct lazy **out_state,
                    struct tmpl_val *out)
{
    struct lazy *z = tmpl_alloc(r, sizeof(*z));
    if (!z)
        return tmpl_failed(r);
    *z = (struct lazy){.in = *in, .args = *a, .how = how};
    if (out_state)
        *out_state = z;
    return tmpl_iter_val(r, next, z, out);
}

static struct tmpl_args tail(const struct tmpl_args *a, size_t from)
{
    struct tmpl_args t = *a;
    t.pos += from;
    t.n_pos -= from;
    return t;
}

/* map(attribute=..., default=...): the values into z->v. */
static int map_by_attribute(struct tmpl_run *r, struct lazy *z)
{
    static const char *const names[] = {"attribute", "default"};
    return tmpl_bind(r, "map", &z->args, names, 2, 0, z->v);
}

static bool has_attribute(const struct tmpl_args *a)
{
    for (size_t i = 0; i < a->n_kw; i++)
        if (tmpl_str_is(a->kw[i].name, "attribute"))
            return a->n_pos == 0;
    return false;
}

/* Starts over the input; *done when it is falsy. */
static int start(struct tmpl_run *r, struct lazy *z, bool *done)
{
    z->started = true;
    *done = !tmpl_truthy(&z->in);
    return *done ? 0 : tmpl_iter_init(r, &z->in, &z->it);
}

static int next_map(struct tmpl_run *r, struct tmpl_iter *it, struct tmpl_val *out, bool *done)
{
    struct lazy *z = it->state;
    struct tmpl_val item;
    int rc = 0;
    if (!z->started) {
        rc = start(r, z, done);
        if (rc || *done)
            return rc;
        z->how = has_attribute(&z->args);
        if (z->how)
            rc = map_by_attribute(r, z);
        else if (z->args.n_pos == 0)
            rc = tmpl_raise(r, EXC_OTHER, "map requires a filter argument");
    }
    if (rc == 0)
        rc = tmpl_next(r, &z->it, &item, done);
    if (rc || *done)
        return rc;
    if (z->how)
        return tmpl_get_path(r, &item, &z->v[0], &z->v[1], out);
    struct tmpl_args rest = tail(&z->args, 1);
    return tmpl_apply(r, true, &z->args.pos[0], &item, &rest, out);
}

int tmpl_filter_map(struct tmpl_run *r, const struct tmpl_val *in, int how,
                    const struct tmpl_args *a, struct tmpl_val *out)
{
    return lazy_new(r, in, how, a, next_map, NULL, out);
}

/* Whether select or reject lets the item through. */
static int passes(struct tmpl_run *r, struct lazy *z, const struct tmpl_val *item, bool *out)
{
    static const struct tmpl_val missing;
    size_t off = z->how & SELECT_ATTR ? 1 : 0;
    struct tmpl_val v = *item, result;
    int rc = off ? tmpl_get_path(r, item, &z->args.pos[0], &missing, &v) : 0;
    if (rc)
        return rc;
    if (z->args.n_pos > off) {
        struct tmpl_args rest = tail(&z->args, off + 1);
        rc = tmpl_apply(r, false, &z->args.pos[off], &v, &rest, &result);
    } else
        result = v;
    if (rc == 0)
        *out = tmpl_truthy(&result) != ((z->how & SELECT_REJECT) != 0);
    return rc;
}

static int next_select(struct tmpl_run *r, struct tmpl_iter *it, struct tmpl_val *out, bool *done)
{
    struct lazy *z = it->state;
    bool yes = false;
    int rc = 0;
    if (!z->started) {
        rc = start(r, z, done);
        if (rc || *done)
            return rc;
        if ((z->how & SELECT_ATTR) && z->args.n_pos == 0)
            rc = tmpl_raise(r, EXC_OTHER, "missing parameter for attribute name");
    }
    while (rc == 0 && !yes && (rc = tmpl_next(r, &z->it, out, done)) == 0 && !*done)
        rc = passes(r, z, out, &yes);
    return rc;
}

int tmpl_filter_select(struct tmpl_run *r, const struct tmpl_val *in, int how,
                       const struct tmpl_args *a, struct tmpl_val *out)
{
    return lazy_new(r, in, how, a, next_select, NULL, out);
}

static int next_unique(struct tmpl_run *r, struct tmpl_iter *it, struct tmpl_val *out, bool *done)
{
    static const struct tmpl_val missing;
    struct lazy *z = it->state;
    struct tmpl_val key, value;
    bool seen = true;
    int rc = 0;
    if (!z->started) {
        z->started = true;
        rc = tmpl_dict_new(r, &z->seen);
        if (rc == 0)
            rc = tmpl_iter_init(r, &z->in, &z->it);
    }
    while (rc == 0 && seen && (rc = tmpl_next(r, &z->it, out, done)) == 0 && !*done) {
        rc = tmpl_get_path(r, out, &z->v[1], &missing, &key);
        if (rc == 0)
            rc = tmpl_sort_key(r, tmpl_truthy(&z->v[0]), &key);
        if (rc == 0)
            rc = tmpl_dict_get(r, z->seen, &key, &value, &seen);
        if (rc == 0 && !seen)
            rc = tmpl_dict_set(r, z->seen, &key, &key);
    }
    return rc;
}

int tmpl_filter_unique(struct tmpl_run *r, const struct tmpl_val *in, int how,
                       const struct tmpl_args *a, struct tmpl_val *out)
{
    static const char *const names[] = {"case_sensitive", "attribute"};
    struct tmpl_val v[2];
    struct lazy *z;
    int rc = tmpl_bind(r, "unique", a, names, 2, 0, v);
    if (rc == 0)
        rc = lazy_new(r, in, how, a, next_unique, &z, out);
    if (rc == 0)
        memcpy(z->v, v, sizeof(v));
    return rc;
}

/* Fills up the last batch: as many items as are missing from a whole line. */
static int fill_batch(struct tmpl_run *r, const struct lazy *z, struct tmpl_list *l)
{
    int64_t width;
    if (z->v[1].type == TV_MISSING || z->v[1].type == TV_NONE)
        return 0;
    int rc = tmpl_index_arg(r, &z->v[0], &width);
    while (rc == 0 && (int64_t)l->n < width)
        rc = tmpl_list_push(r, l, &z->v[1]);
    return rc;
}

static int next_batch(struct tmpl_run *r, struct tmpl_iter *it, struct tmpl_val *out, bool *done)
{
    struct lazy *z = it->state;
    struct tmpl_val list, item;
    bool end = false, full = false;
    int rc = 0;
    if (!z->started) {
        z->started = true;
        rc = tmpl_iter_init(r, &z->in, &z->it);
        z->v[2].type = TV_MISSING;
    }
    if (rc == 0)
        rc = tmpl_list_new(r, TV_LIST, 0, &list);
    if (rc == 0 && z->v[2].type != TV_MISSING) { /* the item that did not fit the line before */
        rc = tmpl_list_push(r, list.list, &z->v[2]);
        z->v[2].type = TV_MISSING;
    }
    while (rc == 0 && (rc = tmpl_next(r, &z->it, &item, &end)) == 0 && !end) {
        struct tmpl_val n = tmpl_int((int64_t)list.list->n);
        rc = tmpl_eq(r, &n, &z->v[0], &full);
        if (rc == 0 && full) {
            z->v[2] = item;
            break;
        }
        if (rc == 0)
            rc = tmpl_list_push(r, list.list, &item);
    }
    if (rc == 0 && !full && list.list->n > 0)
        rc = fill_batch(r, z, list.list);
    *done = !full && rc == 0 && list.list->n == 0;
    if (rc == 0 && !*done)
        *out = list;
    return rc;
}

int tmpl_filter_batch(struct tmpl_run *r, const struct tmpl_val *in, int how,
                      const struct tmpl_args *a, struct tmpl_val *out)
{
    static const char *const names[] = {"linecount", "fill_with"};
    struct tmpl_val v[2];
    struct lazy *z;
    int rc = tmpl_bind(r, "batch", a, names, 2, 1, v);
    if (rc == 0)
        rc = lazy_new(r, in, how, a, next_batch, &z, out);
    if (rc == 0)
        memcpy(z->v, v, sizeof(v));
    return rc;
}

static int next_slice(struct tmpl_run *r, struct tmpl_iter *it, struct tmpl_val *out, bool *done)
{
    struct lazy *z = it->state;
    int64_t slices;
    int rc = 0;
    if (!z->started) {
        z->started = true;
        rc = tmpl_to_list(r, &z->in, &z->v[2]);
    }
    if (rc == 0)
        rc = tmpl_index_arg(r, &z->v[0], &slices);
    if (rc)
        return rc;
    if (slices == 0)
        return tmpl_raise(r, EXC_OTHER, "integer division or modulo by zero");
    *done = z->at >= slices;
    if (*done)
        return 0;
    const struct tmpl_list *seq = z->v[2].list;
    int64_t each = (int64_t)seq->n / slices, extra = (int64_t)seq->n % slices, i = z->at++;
    int64_t from = i * each + (i < extra ? i : extra), n = each + (i < extra);
    rc = tmpl_list_new(r, TV_LIST, (size_t)n, out);
    if (rc == 0 && n)
        memcpy(out->list->items, seq->items + from, (size_t)n * sizeof(*seq->items));
    if (rc == 0 && i >= extra && z->v[1].type != TV_MISSING && z->v[1].type != TV_NONE)
        rc = tmpl_list_push(r, out->list, &z->v[1]);
    return rc;
}

int tmpl_filter_slice(struct tmpl_run *r, const struct tmpl_val *in, int how,
                      const struct tmpl_args *a, struct tmpl_val *out)
{
    static const char *const names[] = {"slices", "fill_with"};
    struct tmpl_val v[2];
    struct lazy *z;
    int rc = tmpl_bind(r, "slice", a, names, 2, 1, v);
    if (rc == 0)
        rc = lazy_new(r, in, how, a, next_slice, &z, out);
    if (rc == 0)
        memcpy(z->v, v, sizeof(v));
    return rc;
}

static int next_items(struct tmpl_run *r, struct tmpl_iter *it, struct tmpl_val *out, bool *done)
{
    struct lazy *z = it->state;
    *done = z->in.type == TV_UNDEF;
    if (*done)
        return 0;
    if (z->in.type != TV_DICT)
        return tmpl_raise(r, EXC_TYPE, "can only get item pairs from a mapping");
    const struct tmpl_dict *d = z->in.dict;
    *done = z->at >= d->n;
    if (*done)
        return 0;
    const struct tmpl_pair *p = &d->pairs[z->at++];
    return tmpl_tuple2(r, &p->key, &p->val, out);
}

int tmpl_filter_items(struct tmpl_run *r, const struct tmpl_val *in, int how,
                      const struct tmpl_args *a, struct tmpl_val *out)
{
    int rc = tmpl_bind_none(r, "items", a);
    return rc ? rc : lazy_new(r, in, how, a, next_items, NULL, out);
}

/* tmpl_loop.c - the object `loop`. As Jinja's, it reads its iterable lazily and one item ahead
 * only when asked for `last` or `nextitem`. */
#include <string.h>

#include "core/model/tmpl_val_int.h"

int tmpl_loop_next(struct tmpl_run *r, struct tmpl_loop *l, struct tmpl_val *out, bool *done)
{
    struct tmpl_val item;
    *done = false;
    if (l->after.type != TV_MISSING) {
        item = l->after;
        l->after.type = TV_MISSING;
    } else {
        int rc = tmpl_next(r, &l->it, &item, done);
        if (rc || *done)
            return rc;
    }
    l->index0++;
    l->before = l->current;
    l->current = item;
    *out = item;
    return 0;
}

/* The next item without moving to it; MISSING at the end. */
static int peek(struct tmpl_run *r, struct tmpl_loop *l)
{
    bool done;
    if (l->after.type != TV_MISSING)
        return 0;
    return tmpl_next(r, &l->it, &l->after, &done);
}

int tmpl_loop_length(struct tmpl_run *r, struct tmpl_loop *l, int64_t *out)
{
    struct tmpl_val rest = {.type = TV_ITER, .iter = &l->it}, list;
    int rc = 0;
    if (l->length < 0 && tmpl_has_len(&l->iterable))
        rc = tmpl_len(r, &l->iterable, &l->length);
    else if (l->length < 0) {
        rc = tmpl_to_list(r, &rest, &list);
        if (rc == 0)
            rc = tmpl_iter_init(r, &list, &l->it);
        if (rc == 0)
            l->length = (int64_t)list.list->n + l->index0 + 1 + (l->after.type != TV_MISSING);
    }
    *out = l->length;
    return rc;
}

static int meth_cycle(struct tmpl_run *r, const struct tmpl_val *self, int how,
                      const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    int64_t index0 = self->loop->index0 < 0 ? 0 : self->loop->index0;
    if (a->n_kw)
        return tmpl_raise(r, EXC_TYPE, "cycle() takes no keyword arguments");
    if (a->n_pos == 0)
        return tmpl_raise(r, EXC_TYPE, "no items for cycling given");
    *out = a->pos[(size_t)index0 % a->n_pos];
    return 0;
}

static int meth_changed(struct tmpl_run *r, const struct tmpl_val *self, int how,
                        const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    struct tmpl_loop *l = self->loop;
    struct tmpl_val value;
    bool same = false;
    if (a->n_kw)
        return tmpl_raise(r, EXC_TYPE, "changed() takes no keyword arguments");
    int rc = tmpl_list_new(r, TV_TUPLE, a->n_pos, &value);
    if (rc)
        return rc;
    if (a->n_pos)
        memcpy(value.list->items, a->pos, a->n_pos * sizeof(*a->pos));
    if (l->last_changed.type != TV_MISSING)
        rc = tmpl_eq(r, &l->last_changed, &value, &same);
    if (!same)
        l->last_changed = value;
    *out = tmpl_bool(!same);
    return rc;
}

static const struct tmpl_method loop_methods[] = {
    {"cycle", meth_cycle, 0},
    {"changed", meth_changed, 0},
};

static int neighbour(struct tmpl_run *r, const struct tmpl_val *item, const char *hint,
                     struct tmpl_val *out)
{
    if (item->type == TV_MISSING)
        return tmpl_undef(r, UNDEF_HINT, hint, NULL, out);
    *out = *item;
    return 0;
}

/* Attributes that follow from the position. */
static bool position_attr(const struct tmpl_loop *l, const struct tmpl_str *name,
                          struct tmpl_val *out)
{
    if (tmpl_str_is(name, "index0"))
        *out = tmpl_int(l->index0);
    else if (tmpl_str_is(name, "index"))
        *out = tmpl_int(l->index0 + 1);
    else if (tmpl_str_is(name, "first"))
        *out = tmpl_bool(l->index0 == 0);
    else if (tmpl_str_is(name, "depth"))
        *out = tmpl_int(l->depth0 + 1);
    else if (tmpl_str_is(name, "depth0"))
        *out = tmpl_int(l->depth0);
    else
        return false;
    return true;
}

int tmpl_loop_attr(struct tmpl_run *r, const struct tmpl_val *v, const struct tmpl_str *name,
                   struct tmpl_val *out, bool *found)
{
    struct tmpl_loop *l = v->loop;
    int64_t n;
    int rc;
    *found = true;
    if (position_attr(l, name, out))
        return 0;
    if (tmpl_str_is(name, "last")) {
        rc = peek(r, l);
        *out = tmpl_bool(l->after.type == TV_MISSING);
        return rc;
    }
    if (tmpl_str_is(name, "nextitem")) {
        rc = peek(r, l);
        return rc ? rc : neighbour(r, &l->after, "there is no next item", out);
    }
    if (tmpl_str_is(name, "previtem")) {
        struct tmpl_val none = {.type = TV_MISSING};
        return neighbour(r, l->index0 == 0 ? &none : &l->before, "there is no previous item", out);
    }
    bool length = tmpl_str_is(name, "length"), rev = tmpl_str_is(name, "revindex");
    if (length || rev || tmpl_str_is(name, "revindex0")) {
        rc = tmpl_loop_length(r, l, &n);
        *out = tmpl_int(length ? n : n - l->index0 - !rev);
        return rc;
    }
    const struct tmpl_method *m = tmpl_find_method(loop_methods, ARRAY_LEN(loop_methods), name);
    *found = m != NULL;
    return m ? tmpl_bind_method(r, v, m, out) : 0;
}

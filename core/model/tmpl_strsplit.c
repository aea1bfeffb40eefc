/* tmpl_strsplit.c - the methods of str that cut strings into pieces or join them. */
#include <string.h>

#include "core/model/tmpl_strmeth_int.h"
#include "core/model/tmpl_text_int.h"

/* A piece of self as a string of the same kind. */
static int piece(struct tmpl_run *r, const struct tmpl_str *self, size_t from, size_t to,
                 struct tmpl_val *out)
{
    int rc = tmpl_str_ref(r, self->s + from, to - from, out);
    if (rc == 0)
        out->str->markup = self->markup;
    return rc;
}

static int push_piece(struct tmpl_run *r, struct tmpl_list *l, const struct tmpl_str *self,
                      size_t from, size_t to)
{
    struct tmpl_val v;
    int rc = piece(r, self, from, to, &v);
    return rc ? rc : tmpl_list_push(r, l, &v);
}

static void reverse(struct tmpl_list *l)
{
    for (size_t i = 0, j = l->n; i + 1 < j; i++) {
        struct tmpl_val v = l->items[i];
        l->items[i] = l->items[--j];
        l->items[j] = v;
    }
}

/* Splits at white space from the left; max < 0: all. */
static int split_space(struct tmpl_run *r, const struct tmpl_str *s, int64_t max,
                       struct tmpl_list *l)
{
    int rc = 0;
    uint32_t cp;
    for (size_t i = tmpl_space_prefix(s->s, s->n); i < s->n && rc == 0;) {
        if (max >= 0 && l->n >= (size_t)max)
            return push_piece(r, l, s, i, s->n);
        size_t end = i, k;
        while (end < s->n && (k = tmpl_char_at(s->s + end, &cp)) && !tmpl_is_space(cp))
            end += k;
        rc = push_piece(r, l, s, i, end);
        i = end + tmpl_space_prefix(s->s + end, s->n - end);
    }
    return rc;
}

/* As split_space from the right; the pieces come in reverse. */
static int rsplit_space(struct tmpl_run *r, const struct tmpl_str *s, int64_t max,
                        struct tmpl_list *l)
{
    int rc = 0;
    uint32_t cp;
    for (size_t end = tmpl_rstrip_space(s->s, s->n); end > 0 && rc == 0;) {
        size_t i = end;
        if (max >= 0 && l->n >= (size_t)max)
            return push_piece(r, l, s, 0, end);
        while (i > 0) {
            size_t p = tmpl_char_before(s->s, i, &cp);
            if (tmpl_is_space(cp))
                break;
            i = p;
        }
        rc = push_piece(r, l, s, i, end);
        end = tmpl_rstrip_space(s->s, i);
    }
    return rc;
}

static int split_sep(struct tmpl_run *r, const struct tmpl_str *s, const struct tmpl_str *sep,
                     int64_t max, struct tmpl_list *l)
{
    size_t i = 0, at;
    int rc = 0;
    while (rc == 0 && (max < 0 || l->n < (size_t)max) &&
           (at = tmpl_find(s->s, s->n, sep->s, sep->n, i)) != TMPL_NOT_FOUND) {
        rc = push_piece(r, l, s, i, at);
        i = at + sep->n;
    }
    return rc ? rc : push_piece(r, l, s, i, s->n);
}

static int rsplit_sep(struct tmpl_run *r, const struct tmpl_str *s, const struct tmpl_str *sep,
                      int64_t max, struct tmpl_list *l)
{
    size_t end = s->n, at;
    int rc = 0;
    while (rc == 0 && (max < 0 || l->n < (size_t)max) &&
           (at = tmpl_rfind(s->s, end, sep->s, sep->n)) != TMPL_NOT_FOUND) {
        rc = push_piece(r, l, s, at + sep->n, end);
        end = at;
    }
    return rc ? rc : push_piece(r, l, s, 0, end);
}

int tmpl_meth_split(struct tmpl_run *r, const struct tmpl_val *self, int from_right,
                    const struct tmpl_args *a, struct tmpl_val *out)
{
    static const char *const names[] = {"sep", "maxsplit"};
    struct tmpl_val v[2], list;
    int64_t max = -1;
    int rc = tmpl_bind(r, from_right ? "rsplit" : "split", a, names, 2, 0, v);
    if (rc == 0 && v[1].type != TV_MISSING)
        rc = tmpl_index_arg(r, &v[1], &max);
    if (rc == 0)
        rc = tmpl_list_new(r, TV_LIST, 0, &list);
    if (rc)
        return rc;
    const struct tmpl_str *s = self->str;
    if (v[0].type == TV_MISSING || v[0].type == TV_NONE) {
        rc = tmpl_charge(r, s->n);
        if (rc == 0)
            rc =
                from_right ? rsplit_space(r, s, max, list.list) : split_space(r, s, max, list.list);
    } else if (v[0].type != TV_STR)
        return tmpl_raise(r, EXC_TYPE, "must be str or None, not %s", tmpl_type_name(&v[0]));
    else if (v[0].str->n == 0)
        return tmpl_raise(r, EXC_VALUE, "empty separator");
    else if ((rc = tmpl_charge_search(r, s->n, v[0].str->n, from_right)) == 0)
        rc = from_right ? rsplit_sep(r, s, v[0].str, max, list.list)
                        : split_sep(r, s, v[0].str, max, list.list);
    if (rc == 0 && from_right)
        reverse(list.list);
    *out = list;
    return rc;
}

int tmpl_meth_splitlines(struct tmpl_run *r, const struct tmpl_val *self, int how,
                         const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"keepends"};
    struct tmpl_val v, list;
    const struct tmpl_str *s = self->str;
    int rc = tmpl_bind(r, "splitlines", a, names, 1, 0, &v);
    if (rc == 0)
        rc = tmpl_list_new(r, TV_LIST, 0, &list);
    bool keep = rc == 0 && tmpl_truthy(&v);
    for (size_t i = 0; i < s->n && rc == 0;) {
        size_t end = i, k = 0;
        uint32_t cp = 0;
        for (; end < s->n; end += k) {
            k = tmpl_char_at(s->s + end, &cp);
            if (tmpl_is_linebreak(cp))
                break;
        }
        size_t next = end < s->n ? end + k : end;
        if (cp == '\r' && next < s->n && end < s->n && s->s[next] == '\n')
            next++;
        rc = push_piece(r, list.list, s, i, keep ? next : end);
        i = next;
    }
    if (rc == 0)
        rc = tmpl_charge(r, s->n);
    if (rc == 0)
        *out = list;
    return rc;
}

int tmpl_meth_partition(struct tmpl_run *r, const struct tmpl_val *self, int from_right,
                        const struct tmpl_args *a, struct tmpl_val *out)
{
    static const char *const names[] = {""};
    struct tmpl_val sep, tuple;
    const struct tmpl_str *s = self->str;
    int rc = tmpl_bind(r, "partition", a, names, 1, 1, &sep);
    if (rc)
        return rc;
    if (sep.type != TV_STR)
        return tmpl_raise(r, EXC_TYPE, "must be str, not %s", tmpl_type_name(&sep));
    if (sep.str->n == 0)
        return tmpl_raise(r, EXC_VALUE, "empty separator");
    if ((rc = tmpl_charge_search(r, s->n, sep.str->n, from_right)) ||
        (rc = tmpl_list_new(r, TV_TUPLE, 3, &tuple)))
        return rc;
    size_t at = from_right ? tmpl_rfind(s->s, s->n, sep.str->s, sep.str->n)
                           : tmpl_find(s->s, s->n, sep.str->s, sep.str->n, 0);
    size_t cut[4] = {0, at, at + sep.str->n, s->n};
    if (at == TMPL_NOT_FOUND) {
        cut[1] = from_right ? 0 : s->n;
        cut[2] = cut[1];
    }
    for (int i = 0; i < 3 && rc == 0; i++)
        rc = piece(r, s, cut[i], cut[i + 1], &tuple.list->items[i]);
    *out = tuple;
    return rc;
}

int tmpl_meth_join(struct tmpl_run *r, const struct tmpl_val *self, int how,
                   const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {""};
    struct tmpl_val items, item;
    struct tmpl_iter it;
    bool done = false;
    int rc = tmpl_bind(r, "join", a, names, 1, 1, &items);
    if (rc == 0)
        rc = tmpl_iter_init(r, &items, &it);
    struct buf b = tmpl_scratch(r);
    for (size_t i = 0; rc == 0 && (rc = tmpl_next(r, &it, &item, &done)) == 0 && !done; i++) {
        if (item.type != TV_STR && self->str->markup)
            rc = tmpl_str_of(r, &item, &item);
        if (rc == 0 && item.type != TV_STR)
            rc = tmpl_raise(r, EXC_TYPE, "sequence item %zu: expected str instance, %s found", i,
                            tmpl_type_name(&item));
        if (rc == 0 && self->str->markup)
            rc = tmpl_escape(r, item.str, &item);
        if (rc)
            break;
        if (i)
            buf_add(&b, self->str->s, self->str->n);
        rc = tmpl_add_str(r, &b, &item);
    }
    if (rc == 0)
        rc = tmpl_str_take(r, &b, out);
    buf_fini(&b);
    if (rc == 0)
        out->str->markup = self->str->markup;
    return rc;
}

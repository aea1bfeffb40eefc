/* tmpl_filter_seq.c - filters that look at all items of a sequence. */
#include <string.h>

#include "core/model/tmpl_ast_int.h"
#include "core/model/tmpl_filter_int.h"
#include "core/model/tmpl_text_int.h"

/* One part of a path: an index when it is all digits. */
static int path_part(struct tmpl_run *r, const char *s, size_t n, struct tmpl_val *out)
{
    int rc = tmpl_str_ref(r, s, n, out);
    bool digits = n > 0;
    for (size_t i = 0; i < n; i++)
        digits &= s[i] >= '0' && s[i] <= '9';
    if (rc || !digits)
        return rc;
    struct tmpl_val index = tmpl_int(0);
    rc = tmpl_parse_int(r, out->str, 10, &index.i);
    *out = index;
    return rc;
}

static int path_step(struct tmpl_run *r, const struct tmpl_val *key, const struct tmpl_val *dflt,
                     struct tmpl_val *v)
{
    int rc = tmpl_getitem(r, v, key, v);
    if (rc == 0 && v->type == TV_UNDEF && dflt->type != TV_MISSING && dflt->type != TV_NONE)
        *v = *dflt;
    return rc;
}

int tmpl_get_path(struct tmpl_run *r, const struct tmpl_val *item, const struct tmpl_val *attr,
                  const struct tmpl_val *dflt, struct tmpl_val *out)
{
    struct tmpl_val v = *item, key;
    int rc = 0;
    if (attr->type == TV_STR) {
        const struct tmpl_str *s = attr->str;
        for (size_t i = 0; i <= s->n && rc == 0;) {
            const char *dot = i < s->n ? memchr(s->s + i, '.', s->n - i) : NULL;
            size_t end = dot ? (size_t)(dot - s->s) : s->n;
            rc = path_part(r, s->s + i, end - i, &key);
            if (rc == 0)
                rc = path_step(r, &key, dflt, &v);
            i = end + 1;
        }
    } else if (attr->type != TV_MISSING && attr->type != TV_NONE)
        rc = path_step(r, attr, dflt, &v);
    *out = v;
    return rc;
}

int tmpl_sort_key(struct tmpl_run *r, bool case_sensitive, struct tmpl_val *v)
{
    struct buf b = tmpl_scratch(r);
    if (case_sensitive || v->type != TV_STR)
        return 0;
    tmpl_add_case(&b, v->str->s, v->str->n, CASE_LOWER);
    return tmpl_str_take(r, &b, v);
}

int tmpl_filter_attr(struct tmpl_run *r, const struct tmpl_val *in, int how,
                     const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"name"};
    struct tmpl_val name;
    bool found;
    int rc = tmpl_bind(r, "attr", a, names, 1, 1, &name);
    if (rc)
        return rc;
    if (name.type != TV_STR)
        return tmpl_raise(r, EXC_TYPE, "attribute name must be string, not '%s'",
                          tmpl_type_name(&name));
    rc = tmpl_attr_only(r, in, name.str, out, &found);
    return rc || found ? rc : tmpl_undef(r, UNDEF_ATTR, tmpl_type_name(in), &name, out);
}

int tmpl_filter_first(struct tmpl_run *r, const struct tmpl_val *in, int how,
                      const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    struct tmpl_iter it;
    bool done = false;
    int rc = tmpl_bind_none(r, "first", a);
    if (rc == 0)
        rc = tmpl_iter_init(r, in, &it);
    if (rc == 0)
        rc = tmpl_next(r, &it, out, &done);
    return rc || !done ? rc
                       : tmpl_undef(r, UNDEF_HINT, "no first item, sequence was empty", NULL, out);
}

int tmpl_filter_last(struct tmpl_run *r, const struct tmpl_val *in, int how,
                     const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    struct tmpl_val reversed;
    bool done = false;
    int rc = tmpl_bind_none(r, "last", a);
    if (rc == 0)
        rc = tmpl_reversed(r, in, &reversed);
    if (rc == 0)
        rc = tmpl_next(r, reversed.iter, out, &done);
    return rc || !done ? rc
                       : tmpl_undef(r, UNDEF_HINT, "no last item, sequence was empty", NULL, out);
}

int tmpl_filter_length(struct tmpl_run *r, const struct tmpl_val *in, int how,
                       const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    int64_t n = 0;
    int rc = tmpl_bind_none(r, "length", a);
    if (rc == 0)
        rc = tmpl_len(r, in, &n);
    *out = tmpl_int(n);
    return rc;
}

int tmpl_filter_list(struct tmpl_run *r, const struct tmpl_val *in, int how,
                     const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    int rc = tmpl_bind_none(r, "list", a);
    return rc ? rc : tmpl_to_list(r, in, out);
}

int tmpl_filter_reverse(struct tmpl_run *r, const struct tmpl_val *in, int how,
                        const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    struct tmpl_val minus = tmpl_int(-1), none = tmpl_none(), list;
    int rc = tmpl_bind_none(r, "reverse", a);
    if (rc)
        return rc;
    if (in->type == TV_STR)
        return tmpl_slice(r, in, &none, &none, &minus, out);
    rc = tmpl_reversed(r, in, out);
    if (rc == 0 || !tmpl_catch(r, EXC_TYPE))
        return rc;
    rc = tmpl_to_list(r, in, &list);
    return rc ? rc : tmpl_slice(r, &list, &none, &none, &minus, out);
}

int tmpl_filter_join(struct tmpl_run *r, const struct tmpl_val *in, int how,
                     const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"d", "attribute"};
    static const struct tmpl_val missing;
    struct tmpl_val v[2], item;
    struct tmpl_iter it;
    bool done = false;
    int rc = tmpl_bind(r, "join", a, names, 2, 0, v);
    if (rc == 0)
        rc = tmpl_iter_init(r, in, &it);
    if (rc == 0 && v[0].type != TV_MISSING)
        rc = tmpl_str_of(r, &v[0], &v[0]);
    struct buf b = tmpl_scratch(r);
    for (bool first = true; rc == 0; first = false) {
        rc = tmpl_next(r, &it, &item, &done);
        if (rc || done)
            break;
        if (!first && v[0].type == TV_STR)
            buf_add(&b, v[0].str->s, v[0].str->n);
        rc = tmpl_get_path(r, &item, &v[1], &missing, &item);
        if (rc == 0)
            rc = tmpl_add_str(r, &b, &item);
    }
    if (rc == 0)
        return tmpl_str_take(r, &b, out);
    buf_fini(&b);
    return rc;
}

int tmpl_filter_sum(struct tmpl_run *r, const struct tmpl_val *in, int how,
                    const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"attribute", "start"};
    static const struct tmpl_val missing;
    struct tmpl_val v[2], item;
    struct tmpl_iter it;
    bool done = false;
    int rc = tmpl_bind(r, "sum", a, names, 2, 0, v);
    if (rc == 0)
        rc = tmpl_iter_init(r, in, &it);
    if (rc == 0 && v[1].type == TV_STR)
        rc = tmpl_raise(r, EXC_TYPE, "sum() can't sum strings");
    struct tmpl_val sum = v[1].type == TV_MISSING ? tmpl_int(0) : v[1];
    while (rc == 0 && (rc = tmpl_next(r, &it, &item, &done)) == 0 && !done) {
        rc = tmpl_get_path(r, &item, &v[0], &missing, &item);
        if (rc == 0)
            rc = tmpl_binary(r, OP_ADD, &sum, &item, &sum);
    }
    *out = sum;
    return rc;
}

int tmpl_filter_minmax(struct tmpl_run *r, const struct tmpl_val *in, int op,
                       const struct tmpl_args *a, struct tmpl_val *out)
{
    static const char *const names[] = {"case_sensitive", "attribute"};
    static const struct tmpl_val missing;
    struct tmpl_val v[2], item, key, best_key = {.type = TV_MISSING};
    struct tmpl_iter it;
    bool done = false, better = true;
    int rc = tmpl_bind(r, "min or max", a, names, 2, 0, v);
    if (rc == 0)
        rc = tmpl_iter_init(r, in, &it);
    while (rc == 0 && (rc = tmpl_next(r, &it, &item, &done)) == 0 && !done) {
        rc = tmpl_get_path(r, &item, &v[1], &missing, &key);
        if (rc == 0)
            rc = tmpl_sort_key(r, tmpl_truthy(&v[0]), &key);
        if (rc == 0 && best_key.type != TV_MISSING)
            rc = tmpl_order(r, op, &key, &best_key, &better);
        if (rc == 0 && better) {
            best_key = key;
            *out = item;
        }
    }
    if (rc || best_key.type != TV_MISSING)
        return rc;
    return tmpl_undef(r, UNDEF_HINT, "no aggregated item, sequence was empty", NULL, out);
}

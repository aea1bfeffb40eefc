/* tmpl_sort.c - stable sorting by Python's `<`, and the filters that sort. */
#include <string.h>

#include "core/model/tmpl_ast_int.h"
#include "core/model/tmpl_filter_int.h"

/* Merges the sorted runs [from, mid) and [mid, to) of `order` into `to_order`. */
static int merge(struct tmpl_run *r, const struct tmpl_list *keys, bool reverse,
                 const size_t *order, size_t *merged, size_t from, size_t mid, size_t to)
{
    size_t i = from, j = mid;
    for (size_t k = from; k < to; k++) {
        bool take_right = i == mid;
        if (i < mid && j < to) {
            const struct tmpl_val *left = &keys->items[order[i]], *right = &keys->items[order[j]];
            int rc = reverse ? tmpl_order(r, OP_LT, left, right, &take_right)
                             : tmpl_order(r, OP_LT, right, left, &take_right);
            if (rc)
                return rc;
        }
        merged[k] = take_right ? order[j++] : order[i++];
    }
    return 0;
}

int tmpl_sort_order(struct tmpl_run *r, const struct tmpl_list *keys, bool reverse, size_t **out)
{
    size_t n = keys->n;
    size_t *order = tmpl_array(r, n, sizeof(*order)), *other = tmpl_array(r, n, sizeof(*other));
    if (!order || !other)
        return tmpl_failed(r);
    for (size_t i = 0; i < n; i++)
        order[i] = i;
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t from = 0; from < n; from += 2 * width) {
            size_t mid = from + width < n ? from + width : n;
            size_t to = from + 2 * width < n ? from + 2 * width : n;
            int rc = merge(r, keys, reverse, order, other, from, mid, to);
            if (rc)
                return rc;
        }
        size_t *swap = order;
        order = other;
        other = swap;
    }
    *out = order;
    return 0;
}

/* The items of a list in the order of their keys. */
static int sort_by(struct tmpl_run *r, const struct tmpl_list *items, const struct tmpl_list *keys,
                   bool reverse, struct tmpl_val *out)
{
    size_t *order;
    int rc = tmpl_sort_order(r, keys, reverse, &order);
    if (rc == 0)
        rc = tmpl_list_new(r, TV_LIST, items->n, out);
    for (size_t i = 0; i < items->n && rc == 0; i++)
        out->list->items[i] = items->items[order[i]];
    return rc;
}

/* The values at the comma separated paths, as a list. */
static int multi_key(struct tmpl_run *r, const struct tmpl_val *item, const struct tmpl_val *attr,
                     bool case_sensitive, struct tmpl_val *out)
{
    static const struct tmpl_val missing;
    struct tmpl_val list, v, path;
    int rc = tmpl_list_new(r, TV_LIST, 0, &list);
    if (rc == 0 && attr->type != TV_STR) {
        rc = tmpl_get_path(r, item, attr, &missing, &v);
        if (rc == 0)
            rc = tmpl_sort_key(r, case_sensitive, &v);
        if (rc == 0)
            rc = tmpl_list_push(r, list.list, &v);
    } else if (rc == 0) {
        const struct tmpl_str *s = attr->str;
        for (size_t i = 0; i <= s->n && rc == 0;) {
            const char *comma = i < s->n ? memchr(s->s + i, ',', s->n - i) : NULL;
            size_t end = comma ? (size_t)(comma - s->s) : s->n;
            rc = tmpl_str_ref(r, s->s + i, end - i, &path);
            if (rc == 0)
                rc = tmpl_get_path(r, item, &path, &missing, &v);
            if (rc == 0)
                rc = tmpl_sort_key(r, case_sensitive, &v);
            if (rc == 0)
                rc = tmpl_list_push(r, list.list, &v);
            i = end + 1;
        }
    }
    if (rc == 0)
        *out = list;
    return rc;
}

int tmpl_filter_sort(struct tmpl_run *r, const struct tmpl_val *in, int how,
                     const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"reverse", "case_sensitive", "attribute"};
    struct tmpl_val v[3], items, keys;
    int rc = tmpl_bind(r, "sort", a, names, 3, 0, v);
    if (rc == 0)
        rc = tmpl_to_list(r, in, &items);
    if (rc == 0)
        rc = tmpl_list_new(r, TV_LIST, items.list->n, &keys);
    for (size_t i = 0; rc == 0 && i < items.list->n; i++)
        rc = multi_key(r, &items.list->items[i], &v[2], tmpl_truthy(&v[1]), &keys.list->items[i]);
    return rc ? rc : sort_by(r, items.list, keys.list, tmpl_truthy(&v[0]), out);
}

int tmpl_filter_dictsort(struct tmpl_run *r, const struct tmpl_val *in, int how,
                         const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"case_sensitive", "by", "reverse"};
    struct tmpl_val v[3], items, keys;
    bool by_value = false;
    int rc = tmpl_bind(r, "dictsort", a, names, 3, 0, v);
    if (rc)
        return rc;
    if (v[1].type != TV_MISSING) {
        by_value = v[1].type == TV_STR && tmpl_str_is(v[1].str, "value");
        if (!by_value && (v[1].type != TV_STR || !tmpl_str_is(v[1].str, "key")))
            return tmpl_raise(r, EXC_OTHER, "you can only sort by either \"key\" or \"value\"");
    }
    if (in->type == TV_UNDEF)
        return tmpl_raise_undef(r, in);
    if (in->type != TV_DICT)
        return tmpl_raise(r, EXC_OTHER, "'%s' object has no attribute 'items'", tmpl_type_name(in));
    const struct tmpl_dict *d = in->dict;
    if ((rc = tmpl_list_new(r, TV_LIST, d->n, &items)) ||
        (rc = tmpl_list_new(r, TV_LIST, d->n, &keys)))
        return rc;
    for (uint32_t i = 0; i < d->n && rc == 0; i++) {
        rc = tmpl_tuple2(r, &d->pairs[i].key, &d->pairs[i].val, &items.list->items[i]);
        keys.list->items[i] = by_value ? d->pairs[i].val : d->pairs[i].key;
        if (rc == 0)
            rc = tmpl_sort_key(r, tmpl_truthy(&v[0]), &keys.list->items[i]);
    }
    return rc ? rc : sort_by(r, items.list, keys.list, tmpl_truthy(&v[2]), out);
}

/* Starts a group (grouper, list) and appends it to the groups. */
static int group_new(struct tmpl_run *r, const struct tmpl_val *key, struct tmpl_val *groups,
                     struct tmpl_list **members)
{
    struct tmpl_val list, group;
    int rc = tmpl_list_new(r, TV_LIST, 0, &list);
    if (rc == 0)
        rc = tmpl_tuple2(r, key, &list, &group);
    if (rc)
        return rc;
    group.list->is_group = true;
    *members = list.list;
    return tmpl_list_push(r, groups->list, &group);
}

int tmpl_filter_groupby(struct tmpl_run *r, const struct tmpl_val *in, int how,
                        const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"attribute", "default", "case_sensitive"};
    struct tmpl_val v[3], items, keys, groups, last_key;
    struct tmpl_list *members = NULL;
    size_t *order;
    int rc = tmpl_bind(r, "groupby", a, names, 3, 1, v);
    if (rc == 0)
        rc = tmpl_to_list(r, in, &items);
    if (rc == 0)
        rc = tmpl_list_new(r, TV_LIST, items.list->n, &keys);
    for (size_t i = 0; rc == 0 && i < items.list->n; i++) {
        rc = tmpl_get_path(r, &items.list->items[i], &v[0], &v[1], &keys.list->items[i]);
        if (rc == 0)
            rc = tmpl_sort_key(r, tmpl_truthy(&v[2]), &keys.list->items[i]);
    }
    if (rc == 0)
        rc = tmpl_sort_order(r, keys.list, false, &order);
    if (rc == 0)
        rc = tmpl_list_new(r, TV_LIST, 0, &groups);
    for (size_t i = 0; rc == 0 && i < items.list->n; i++) {
        const struct tmpl_val *item = &items.list->items[order[i]];
        struct tmpl_val key = keys.list->items[order[i]], shown;
        bool same = false;
        if (members)
            rc = tmpl_eq(r, &last_key, &key, &same);
        last_key = key;
        if (rc == 0 && !same) {
            rc = tmpl_get_path(r, item, &v[0], &v[1], &shown);
            if (rc == 0)
                rc = group_new(r, &shown, &groups, &members);
        }
        if (rc == 0)
            rc = tmpl_list_push(r, members, item);
    }
    if (rc == 0)
        *out = groups;
    return rc;
}

/* tmpl_dict.c - Python's dict: insertion order, keys compared by value across number types. */
#include <math.h>
#include <string.h>
#include <xxhash.h>

#include "core/model/tmpl_val_int.h"

enum { DICT_SMALL = 8 }; /* up to here a scan is faster than an index */

uint64_t tmpl_hash(const char *s, size_t n)
{
    return XXH3_64bits(s, n);
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

static int hash_tuple(struct tmpl_run *r, const struct tmpl_list *l, uint64_t *out)
{
    int rc = tmpl_enter(r);
    if (rc)
        return rc;
    *out = l->n;
    for (size_t i = 0; i < l->n && rc == 0; i++) {
        uint64_t h = 0;
        rc = tmpl_hash_val(r, &l->items[i], &h);
        *out = mix(*out * 31 + h);
    }
    tmpl_leave(r);
    return rc ? rc : tmpl_charge(r, l->n);
}

/* Equal values have equal hashes: 1, 1.0 and true. */
int tmpl_hash_val(struct tmpl_run *r, const struct tmpl_val *v, uint64_t *out)
{
    switch (v->type) {
    case TV_STR:
        *out = tmpl_hash(v->str->s, v->str->n);
        return tmpl_charge(r, v->str->n);
    case TV_BOOL:
    case TV_INT:
        *out = mix((uint64_t)tmpl_as_int(v));
        return 0;
    case TV_FLOAT:
        if (fabs(v->f) < 9e18 && v->f == (double)(int64_t)v->f)
            *out = mix((uint64_t)(int64_t)v->f);
        else {
            memcpy(out, &v->f, sizeof(*out));
            *out = mix(*out);
        }
        return 0;
    case TV_TUPLE:
        return hash_tuple(r, v->list, out);
    case TV_UNDEF:
    case TV_NONE:
        *out = mix(v->type);
        return 0;
    case TV_RANGE:
        *out = mix(v->range->n);
        return 0;
    case TV_LIST:
    case TV_DICT:
    case TV_VIEW:
        return tmpl_raise(r, EXC_TYPE, "unhashable type: '%s'", tmpl_type_name(v));
    default:
        *out = mix((uintptr_t)v->dict);
        return 0;
    }
}

int tmpl_dict_new(struct tmpl_run *r, struct tmpl_dict **out)
{
    struct tmpl_dict *d = tmpl_alloc(r, sizeof(*d));
    if (!d)
        return tmpl_failed(r);
    *out = d;
    return 0;
}

/* Position of the key in `pairs`; d->n when it is not there. */
static int find(struct tmpl_run *r, const struct tmpl_dict *d, const struct tmpl_val *key,
                uint64_t hash, uint32_t *out)
{
    bool same = false;
    uint32_t probes = 0;
    if (!d->index) {
        for (uint32_t i = 0; i < d->n; i++) {
            if (d->pairs[i].hash != hash)
                continue;
            int rc = tmpl_eq(r, &d->pairs[i].key, key, &same);
            if (rc)
                return rc;
            if (same) {
                *out = i;
                return 0;
            }
        }
        *out = d->n;
        return 0;
    }
    uint32_t mask = d->index_cap - 1;
    for (uint32_t at = (uint32_t)hash & mask; d->index[at]; at = (at + 1) & mask, probes++) {
        uint32_t i = d->index[at] - 1;
        if (d->pairs[i].hash != hash)
            continue;
        int rc = tmpl_eq(r, &d->pairs[i].key, key, &same);
        if (rc)
            return rc;
        if (same) {
            *out = i;
            return tmpl_charge(r, probes);
        }
    }
    *out = d->n;
    return tmpl_charge(r, probes);
}

static void index_add(struct tmpl_dict *d, uint32_t pair)
{
    uint32_t mask = d->index_cap - 1, at = (uint32_t)d->pairs[pair].hash & mask;
    while (d->index[at])
        at = (at + 1) & mask;
    d->index[at] = pair + 1;
}

static int grow(struct tmpl_run *r, struct tmpl_dict *d)
{
    if (d->n >= UINT32_MAX / 8)
        return tmpl_limit(r, "a dict has too many keys");
    uint32_t cap = d->cap ? d->cap * 2 : 4;
    struct tmpl_pair *pairs = tmpl_array(r, cap, sizeof(*pairs));
    if (!pairs)
        return tmpl_failed(r);
    if (d->n)
        memcpy(pairs, d->pairs, d->n * sizeof(*pairs));
    d->pairs = pairs;
    d->cap = cap;
    if (cap <= DICT_SMALL)
        return 0;
    if (!(d->index = tmpl_array(r, cap * 2, sizeof(*d->index))))
        return tmpl_failed(r);
    d->index_cap = cap * 2;
    for (uint32_t i = 0; i < d->n; i++)
        index_add(d, i);
    return tmpl_charge(r, cap);
}

int tmpl_dict_set(struct tmpl_run *r, struct tmpl_dict *d, const struct tmpl_val *key,
                  const struct tmpl_val *val)
{
    uint64_t hash;
    uint32_t at;
    int rc = tmpl_hash_val(r, key, &hash);
    if (rc == 0)
        rc = find(r, d, key, hash, &at);
    if (rc)
        return rc;
    if (at < d->n) {
        d->pairs[at].val = *val;
        return 0;
    }
    if (d->n == d->cap && (rc = grow(r, d)))
        return rc;
    d->pairs[d->n] = (struct tmpl_pair){.key = *key, .val = *val, .hash = hash};
    if (d->index)
        index_add(d, d->n);
    d->n++;
    return 0;
}

int tmpl_dict_get(struct tmpl_run *r, const struct tmpl_dict *d, const struct tmpl_val *key,
                  struct tmpl_val *out, bool *found)
{
    uint64_t hash;
    uint32_t at;
    int rc = tmpl_hash_val(r, key, &hash);
    if (rc == 0)
        rc = find(r, d, key, hash, &at);
    if (rc)
        return rc;
    *found = at < d->n;
    if (*found)
        *out = d->pairs[at].val;
    return 0;
}

int tmpl_dict_find(struct tmpl_run *r, const struct tmpl_dict *d, const char *s, size_t n,
                   struct tmpl_val *out, bool *found)
{
    struct tmpl_str str = {.s = s, .n = n, .n_chars = TMPL_CHARS_UNKNOWN};
    struct tmpl_val key = tmpl_str_val(&str);
    return tmpl_dict_get(r, d, &key, out, found);
}

int tmpl_dict_copy(struct tmpl_run *r, const struct tmpl_dict *from, struct tmpl_dict **out)
{
    int rc = tmpl_dict_new(r, out);
    for (uint32_t i = 0; i < from->n && rc == 0; i++)
        rc = tmpl_dict_set(r, *out, &from->pairs[i].key, &from->pairs[i].val);
    return rc;
}

/* Key and value of one item of an iterable of pairs. */
static int pair_from(struct tmpl_run *r, const struct tmpl_val *item, struct tmpl_val kv[2])
{
    struct tmpl_iter it;
    struct tmpl_val v;
    bool done = false;
    size_t n = 0;
    int rc = tmpl_iter_init(r, item, &it);
    while (rc == 0 && (rc = tmpl_next(r, &it, &v, &done)) == 0 && !done) {
        if (n < 2)
            kv[n] = v;
        n++;
    }
    if (rc == 0 && n != 2)
        rc = tmpl_raise(r, EXC_VALUE, "a dict item has length %zu; 2 is required", n);
    return rc;
}

static int add_from(struct tmpl_run *r, struct tmpl_dict *d, const struct tmpl_val *from)
{
    struct tmpl_iter it;
    struct tmpl_val item, kv[2];
    bool done = false;
    int rc = 0;
    if (from->type == TV_DICT) {
        for (uint32_t i = 0; i < from->dict->n && rc == 0; i++)
            rc = tmpl_dict_set(r, d, &from->dict->pairs[i].key, &from->dict->pairs[i].val);
        return rc;
    }
    rc = tmpl_iter_init(r, from, &it);
    while (rc == 0 && (rc = tmpl_next(r, &it, &item, &done)) == 0 && !done) {
        rc = pair_from(r, &item, kv);
        if (rc == 0)
            rc = tmpl_dict_set(r, d, &kv[0], &kv[1]);
    }
    return rc;
}

int tmpl_dict_call(struct tmpl_run *r, const struct tmpl_args *a, struct tmpl_dict **out)
{
    if (a->n_pos > 1)
        return tmpl_raise(r, EXC_TYPE, "dict expected at most 1 argument, got %zu", a->n_pos);
    int rc = tmpl_dict_new(r, out);
    if (rc == 0 && a->n_pos)
        rc = add_from(r, *out, &a->pos[0]);
    for (size_t i = 0; i < a->n_kw && rc == 0; i++) {
        struct tmpl_val key = tmpl_str_val(a->kw[i].name);
        rc = tmpl_dict_set(r, *out, &key, &a->kw[i].val);
    }
    return rc;
}

/* gguf_meta.c - look-up in an opened file. Everything was checked by gguf.c. */
#include <math.h>
#include <string.h>

#include "core/model/gguf.h"
#include "core/model/gguf_int.h"

static const struct {
    const char *name;
    size_t n_bytes;
} types[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = {"uint8", 1},    [GGUF_I8] = {"int8", 1},      [GGUF_U16] = {"uint16", 2},
    [GGUF_I16] = {"int16", 2},   [GGUF_U32] = {"uint32", 4},   [GGUF_I32] = {"int32", 4},
    [GGUF_F32] = {"float32", 4}, [GGUF_BOOL] = {"boolean", 1}, [GGUF_STRING] = {"string", 0},
    [GGUF_ARRAY] = {"array", 0}, [GGUF_U64] = {"uint64", 8},   [GGUF_I64] = {"int64", 8},
    [GGUF_F64] = {"float64", 8},
};

size_t gguf_type_bytes(enum gguf_type t)
{
    return types[t].n_bytes;
}

uint32_t gguf_load_u32(const unsigned char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

uint64_t gguf_load_u64(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static const struct gguf_kv *find(const struct gguf *g, const char *key)
{
    size_t n = strlen(key);
    uint32_t lo = 0, hi = g->n_kvs;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        const struct gguf_str *k = &g->kvs[mid].key;
        int d = memcmp(k->s, key, k->n < n ? k->n : n);
        if (d == 0)
            d = (k->n > n) - (k->n < n);
        if (d == 0)
            return &g->kvs[mid];
        if (d < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

bool gguf_has(const struct gguf *g, const char *key)
{
    return find(g, key) != NULL;
}

static int missing(const struct gguf *g, const char *key, struct err *e)
{
    return err_set(e, LLMD_ENOTFOUND, "%s: key '%s': missing", g->path, key);
}

static int wrong_type(const struct gguf *g, const char *key, const char *want, enum gguf_type have,
                      struct err *e)
{
    return err_set(e, LLMD_EPARSE, "%s: key '%s': holds %s %s, expected %s", g->path, key,
                   strchr("aeio", types[have].name[0]) ? "an" : "a", types[have].name, want);
}

/* An integer of any type as sign and magnitude. */
static bool load_integer(const struct gguf_kv *kv, bool *out_negative, uint64_t *out)
{
    bool is_signed = false;
    switch (kv->type) {
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64:
        is_signed = true;
        break;
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_U64:
        break;
    default:
        return false;
    }
    size_t n_bytes = gguf_type_bytes(kv->type);
    uint64_t v = 0, sign = (uint64_t)1 << (8 * n_bytes - 1);
    memcpy(&v, kv->value, n_bytes);
    *out_negative = is_signed && (v & sign);
    *out = *out_negative ? (sign << 1) - v : v;
    return true;
}

int gguf_get_u32(const struct gguf *g, const char *key, uint32_t *out, struct err *e)
{
    const struct gguf_kv *kv = find(g, key);
    bool negative;
    uint64_t v;
    if (!kv)
        return missing(g, key, e);
    if (!load_integer(kv, &negative, &v))
        return wrong_type(g, key, "an integer", kv->type, e);
    if (negative || v > UINT32_MAX)
        return err_set(e, LLMD_EPARSE, "%s: key '%s': %s%llu is not within 0 to %u", g->path, key,
                       negative ? "-" : "", (unsigned long long)v, UINT32_MAX);
    *out = (uint32_t)v;
    return 0;
}

int gguf_get_f32(const struct gguf *g, const char *key, float *out, struct err *e)
{
    const struct gguf_kv *kv = find(g, key);
    if (!kv)
        return missing(g, key, e);
    if (kv->type == GGUF_F32) {
        memcpy(out, kv->value, sizeof(*out));
        return 0;
    }
    if (kv->type != GGUF_F64)
        return wrong_type(g, key, "a number", kv->type, e);
    double d;
    memcpy(&d, kv->value, sizeof(d));
    if (isfinite(d) && !isfinite((float)d))
        return err_set(e, LLMD_EPARSE, "%s: key '%s': %g does not fit a float32", g->path, key, d);
    *out = (float)d;
    return 0;
}

int gguf_get_bool(const struct gguf *g, const char *key, bool *out, struct err *e)
{
    const struct gguf_kv *kv = find(g, key);
    if (!kv)
        return missing(g, key, e);
    if (kv->type != GGUF_BOOL)
        return wrong_type(g, key, "a boolean", kv->type, e);
    *out = kv->value[0] != 0;
    return 0;
}

static struct gguf_str load_string(const unsigned char *p)
{
    return (struct gguf_str){(const char *)p + 8, (size_t)gguf_load_u64(p)};
}

int gguf_get_str(const struct gguf *g, const char *key, struct gguf_str *out, struct err *e)
{
    const struct gguf_kv *kv = find(g, key);
    if (!kv)
        return missing(g, key, e);
    if (kv->type != GGUF_STRING)
        return wrong_type(g, key, "a string", kv->type, e);
    *out = load_string(kv->value);
    return 0;
}

int gguf_get_array(const struct gguf *g, const char *key, enum gguf_type type,
                   struct gguf_array *out, struct err *e)
{
    const struct gguf_kv *kv = find(g, key);
    if (!kv)
        return missing(g, key, e);
    if (kv->type != GGUF_ARRAY)
        return wrong_type(g, key, "an array", kv->type, e);
    enum gguf_type have = (enum gguf_type)gguf_load_u32(kv->value);
    if (have != type)
        return err_set(e, LLMD_EPARSE, "%s: key '%s': an array of %s, expected one of %s", g->path,
                       key, types[have].name, types[type].name);
    *out = (struct gguf_array){have, gguf_load_u64(kv->value + 4), kv->value + 12};
    return 0;
}

void gguf_array_strings(const struct gguf_array *a, struct gguf_str *out)
{
    const unsigned char *p = a->data;
    BUG_ON(a->type != GGUF_STRING);
    for (uint64_t i = 0; i < a->n; i++) {
        out[i] = load_string(p);
        p += 8 + out[i].n;
    }
}

uint32_t gguf_n_keys(const struct gguf *g)
{
    return g->n_kvs;
}

struct gguf_str gguf_key_at(const struct gguf *g, uint32_t i)
{
    BUG_ON(i >= g->n_kvs);
    return g->kvs[i].key;
}

uint32_t gguf_n_tensors(const struct gguf *g)
{
    return g->n_tensors;
}

const struct host_tensor *gguf_tensor_at(const struct gguf *g, uint32_t i)
{
    BUG_ON(i >= g->n_tensors);
    return &g->tensors[i].t;
}

bool gguf_find_tensor(const struct gguf *g, const char *name, uint32_t *out_index)
{
    uint32_t lo = 0, hi = g->n_tensors;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int d = strcmp(g->by_name[mid]->name, name);
        if (d == 0) {
            *out_index = (uint32_t)(g->by_name[mid] - g->tensors);
            return true;
        }
        if (d < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}

const struct host_tensor *gguf_tensor(const struct gguf *g, const char *name)
{
    uint32_t i;
    return gguf_find_tensor(g, name, &i) ? &g->tensors[i].t : NULL;
}

void gguf_tensor_range(const struct gguf *g, const void **out_data, size_t *out_bytes)
{
    *out_data = g->data ? g->data + g->data_start : NULL;
    *out_bytes = g->size_bytes - g->data_start;
}

void gguf_release_pages(const struct gguf *g)
{
    if (g->map.data)
        file_map_drop(&g->map, g->data + g->data_start, g->size_bytes - g->data_start);
}

const char *gguf_path(const struct gguf *g)
{
    return g->path;
}

#include "core/model/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/gguf_int.h"
#include "core/model/model_file_int.h"

/* Reading position in the header. take() is the only way forward, so nothing behind the end of
 * the file is ever looked at. Functions below that record an error name only the fault; the
 * callers put file, key or tensor in front of it. */
struct cursor {
    const unsigned char *data;
    size_t size_bytes;
    size_t at; /* <= size_bytes */
};

static size_t left(const struct cursor *c)
{
    return c->size_bytes - c->at;
}

static int take(struct cursor *c, size_t n, const unsigned char **out, struct err *e)
{
    if (n > left(c))
        return err_set(e, LLMD_EPARSE,
                       "the file ends inside it (at byte %zu): is the download complete?",
                       c->size_bytes);
    *out = c->data + c->at;
    c->at += n;
    return 0;
}

static int take_u32(struct cursor *c, uint32_t *out, struct err *e)
{
    const unsigned char *p = NULL;
    int rc = take(c, sizeof(*out), &p, e);
    if (!rc)
        *out = gguf_load_u32(p);
    return rc;
}

static int take_u64(struct cursor *c, uint64_t *out, struct err *e)
{
    const unsigned char *p = NULL;
    int rc = take(c, sizeof(*out), &p, e);
    if (!rc)
        *out = gguf_load_u64(p);
    return rc;
}

static int take_string(struct cursor *c, struct gguf_str *out, struct err *e)
{
    uint64_t n;
    const unsigned char *p = NULL;
    int rc = take_u64(c, &n, e);
    if (rc)
        return rc;
    if (n > left(c))
        return err_set(e, LLMD_EPARSE,
                       "claims a string of %llu bytes where %zu are left in the file",
                       (unsigned long long)n, left(c));
    rc = take(c, (size_t)n, &p, e);
    if (!rc)
        *out = (struct gguf_str){(const char *)p, (size_t)n};
    return rc;
}

/* A name (of a key or tensor): printable ASCII, so that messages stay readable on one line. */
static int take_name(struct cursor *c, size_t max_bytes, struct gguf_str *out, struct err *e)
{
    struct gguf_str s;
    int rc = take_string(c, &s, e);
    if (rc)
        return rc;
    if (s.n == 0 || s.n > max_bytes)
        return err_set(e, LLMD_EPARSE, "its name has %zu bytes, not 1 to %zu", s.n, max_bytes);
    for (size_t i = 0; i < s.n; i++)
        if (s.s[i] <= ' ' || s.s[i] > '~')
            return err_set(e, LLMD_EPARSE, "its name holds byte 0x%02x, which no name may hold",
                           (unsigned)(unsigned char)s.s[i]);
    *out = s;
    return 0;
}

static int take_type(struct cursor *c, enum gguf_type *out, struct err *e)
{
    uint32_t t;
    int rc = take_u32(c, &t, e);
    if (rc)
        return rc;
    if (t >= GGUF_TYPE_COUNT)
        return err_set(e, LLMD_EPARSE, "unknown value type %u", t);
    *out = (enum gguf_type)t;
    return 0;
}

static int check_bools(const unsigned char *p, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] > 1)
            return err_set(e, LLMD_EPARSE, "a boolean holds %u, not 0 or 1", (unsigned)p[i]);
    return 0;
}

static int skip_array(struct cursor *c, unsigned depth, struct err *e);

/* Checks one value and moves behind it. */
static int skip_value(struct cursor *c, enum gguf_type t, unsigned depth, struct err *e)
{
    struct gguf_str s;
    const unsigned char *p = NULL;
    if (t == GGUF_STRING)
        return take_string(c, &s, e);
    if (t == GGUF_ARRAY)
        return skip_array(c, depth + 1, e);
    int rc = take(c, gguf_type_bytes(t), &p, e);
    return rc || t != GGUF_BOOL ? rc : check_bools(p, 1, e);
}

/* Linear in the bytes walked: each element takes at least one. */
static int skip_array(struct cursor *c, unsigned depth, struct err *e)
{
    enum gguf_type t = GGUF_U8;
    uint64_t n;
    const unsigned char *p = NULL;
    if (depth > GGUF_MAX_NESTING)
        return err_set(e, LLMD_EPARSE, "arrays are nested deeper than %d levels", GGUF_MAX_NESTING);
    int rc = take_type(c, &t, e);
    if (!rc)
        rc = take_u64(c, &n, e);
    if (rc)
        return rc;
    /* A string takes at least its length field, an array its type and count. */
    size_t least = t == GGUF_STRING ? 8 : t == GGUF_ARRAY ? 12 : gguf_type_bytes(t);
    if (n > left(c) / least)
        return err_set(e, LLMD_EPARSE,
                       "claims an array of %llu elements where %zu bytes are left in the file",
                       (unsigned long long)n, left(c));
    if (gguf_type_bytes(t)) {
        rc = take(c, (size_t)n * least, &p, e);
        return rc || t != GGUF_BOOL ? rc : check_bools(p, (size_t)n, e);
    }
    for (uint64_t i = 0; i < n && !rc; i++)
        rc = skip_value(c, t, depth, e);
    return rc;
}

static int compare_str(struct gguf_str a, struct gguf_str b)
{
    int d = memcmp(a.s, b.s, a.n < b.n ? a.n : b.n);
    return d ? d : (a.n > b.n) - (a.n < b.n);
}

static int compare_kv(const void *a, const void *b)
{
    const struct gguf_kv *x = a, *y = b;
    return compare_str(x->key, y->key);
}

static int compare_name(const void *a, const void *b)
{
    const struct gguf_tensor_entry *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static int compare_offset(const void *a, const void *b)
{
    const struct gguf_tensor_entry *const *x = a, *const *y = b;
    return ((*x)->offset > (*y)->offset) - ((*x)->offset < (*y)->offset);
}

/* What a file that is no GGUF probably is, for a message that helps. */
static const char *guess(const unsigned char *p, size_t n)
{
    static const struct {
        const char *begin, *what;
    } known[] = {
        {"version https://git-lfs", "it is a Git LFS pointer: fetch the file with `git lfs pull`"},
        {"PK\x03\x04", "it is a ZIP archive (a wheel or a PyTorch checkpoint)"},
        {"<", "it looks like a web page: was the download address right?"},
        {"lmgg", "it is an older GGML file: convert the model again"},
        {"tjgg", "it is an older GGML file: convert the model again"},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        size_t k = strlen(known[i].begin);
        if (n >= k && memcmp(p, known[i].begin, k) == 0)
            return known[i].what;
    }
    if (n > 8 && p[8] == '{')
        return "it looks like a safetensors file: give the folder that holds it";
    return "it does not begin with \"GGUF\" (a model is a GGUF file, or a folder with config.json, "
           "tokenizer.json and safetensors)";
}

struct counts {
    uint64_t n_tensors, n_kvs;
};

static int read_header(struct cursor *c, struct counts *out, struct err *e)
{
    const unsigned char *magic;
    uint32_t version;
    if (left(c) < 4 || memcmp(c->data, "GGUF", 4) != 0)
        return err_set(e, LLMD_EPARSE, "not a GGUF file: %s",
                       left(c) ? guess(c->data, left(c)) : "it is empty");
    int rc = take(c, 4, &magic, e);
    if (!rc)
        rc = take_u32(c, &version, e);
    if (!rc && version == (uint32_t)GGUF_VERSION << 24)
        return err_set(e, LLMD_EUNSUPPORTED, "a big-endian file; only little-endian ones are read");
    if (!rc && version != GGUF_VERSION)
        return err_set(e, LLMD_EUNSUPPORTED,
                       "GGUF version %u; only version %d is read: convert the model again", version,
                       GGUF_VERSION);
    if (!rc)
        rc = take_u64(c, &out->n_tensors, e);
    if (!rc)
        rc = take_u64(c, &out->n_kvs, e);
    if (rc) {
        err_prefix(e, "header: ");
        return rc;
    }
    /* Smallest entries: a one-letter key with a one-byte value, a tensor of one dimension. */
    const struct {
        const char *what;
        uint64_t n, max, least_bytes;
    } claims[] = {
        {"keys", out->n_kvs, GGUF_MAX_KEYS, 8 + 1 + 4 + 1},
        {"tensors", out->n_tensors, GGUF_MAX_TENSORS, 8 + 1 + 4 + 8 + 4 + 8},
    };
    for (size_t i = 0; i < ARRAY_LEN(claims); i++) {
        unsigned long long n = claims[i].n;
        if (n > left(c) / claims[i].least_bytes)
            return err_set(e, LLMD_EPARSE, "claims %llu %s, more than its %zu bytes can hold", n,
                           claims[i].what, c->size_bytes);
        if (n > claims[i].max)
            return err_set(e, LLMD_EPARSE, "claims %llu %s; at most %llu are read", n,
                           claims[i].what, (unsigned long long)claims[i].max);
    }
    return 0;
}

static int read_kv(struct cursor *c, struct gguf_kv *kv, struct err *e)
{
    int rc = take_type(c, &kv->type, e);
    if (rc)
        return rc;
    kv->value = c->data + c->at;
    return skip_value(c, kv->type, 0, e);
}

static int read_kvs(struct gguf *g, struct cursor *c, uint32_t n, struct err *e)
{
    g->kvs = calloc(n + 1u, sizeof(*g->kvs));
    if (!g->kvs)
        return err_set(e, LLMD_ENOMEM, "out of memory for %u keys", n);
    for (uint32_t i = 0; i < n; i++) {
        struct gguf_kv *kv = &g->kvs[i];
        int rc = take_name(c, GGUF_MAX_KEY_BYTES, &kv->key, e);
        if (rc) {
            err_prefix(e, "key %u of %u: ", i + 1, n);
            return rc;
        }
        rc = read_kv(c, kv, e);
        if (rc) {
            err_prefix(e, "key '%.*s': ", (int)u64_min(kv->key.n, 80), kv->key.s);
            return rc;
        }
        g->n_kvs++;
    }
    qsort(g->kvs, n, sizeof(*g->kvs), compare_kv);
    for (uint32_t i = 1; i < n; i++)
        if (compare_kv(&g->kvs[i - 1], &g->kvs[i]) == 0)
            return err_set(e, LLMD_EPARSE, "key '%.*s': appears twice",
                           (int)u64_min(g->kvs[i].key.n, 80), g->kvs[i].key.s);
    return 0;
}

static int read_alignment(struct gguf *g, struct err *e)
{
    uint32_t a = GGUF_DEFAULT_ALIGNMENT;
    int rc = gguf_get_u32(g, "general.alignment", &a, NULL);
    if ((rc && rc != -LLMD_ENOTFOUND) || a < GGUF_MIN_ALIGNMENT || a > GGUF_MAX_ALIGNMENT ||
        (a & (a - 1)) != 0)
        return err_set(e, LLMD_EPARSE, "key 'general.alignment': not a power of two from %d to %d",
                       GGUF_MIN_ALIGNMENT, GGUF_MAX_ALIGNMENT);
    g->alignment = a;
    return 0;
}

/* The format's number of an element type to ours; name is set for what exists but is not read. */
static bool tensor_type(uint32_t number, enum dtype *out, const char **out_name)
{
    static const struct {
        uint32_t number;
        enum dtype t;
    } read[] = {
        {0, DTYPE_F32},  {1, DTYPE_F16},   {2, DTYPE_Q4_0},  {3, DTYPE_Q4_1},
        {8, DTYPE_Q8_0}, {12, DTYPE_Q4_K}, {14, DTYPE_Q6_K}, {30, DTYPE_BF16},
    };
    static const char *const others[] = {
        [6] = "Q5_0",   [7] = "Q5_1",    [9] = "Q8_1",     [10] = "Q2_K",   [11] = "Q3_K",
        [13] = "Q5_K",  [15] = "Q8_K",   [16] = "IQ2_XXS", [17] = "IQ2_XS", [18] = "IQ3_XXS",
        [19] = "IQ1_S", [20] = "IQ4_NL", [21] = "IQ3_S",   [22] = "IQ2_S",  [23] = "IQ4_XS",
        [24] = "I8",    [25] = "I16",    [26] = "I32",     [27] = "I64",    [28] = "F64",
        [29] = "IQ1_M", [34] = "TQ1_0",  [35] = "TQ2_0",   [39] = "MXFP4",  [40] = "NVFP4",
    };
    for (size_t i = 0; i < ARRAY_LEN(read); i++)
        if (read[i].number == number) {
            *out = read[i].t;
            return true;
        }
    *out_name = number < ARRAY_LEN(others) ? others[number] : NULL;
    return false;
}

static int unsupported_type(uint32_t number, const char *name, struct err *e)
{
    char list[128] = "";
    for (int t = 0, n = 0; t < DTYPE_COUNT; t++)
        n += snprintf(list + n, sizeof(list) - (size_t)n, "%s%s", t ? ", " : "", dtype_name(t));
    if (name)
        return err_set(e, LLMD_EUNSUPPORTED, "its type is %s, which is not read (%s are)", name,
                       list);
    return err_set(e, LLMD_EUNSUPPORTED, "its type is number %u, which is not known (%s are read)",
                   number, list);
}

/* Reads the dimensions, fastest first. Matrices and vectors pass; dimensions of 1 behind the
 * second change nothing. */
static int read_dims(struct cursor *c, struct host_tensor *t, struct err *e)
{
    uint64_t d[GGUF_MAX_DIMS] = {1, 1, 1, 1};
    uint32_t n;
    int rc = take_u32(c, &n, e);
    if (rc)
        return rc;
    if (n < 1 || n > GGUF_MAX_DIMS)
        return err_set(e, LLMD_EPARSE, "has %u dimensions, not 1 to %d", n, GGUF_MAX_DIMS);
    for (uint32_t i = 0; i < n && !rc; i++) {
        rc = take_u64(c, &d[i], e);
        if (!rc && d[i] == 0)
            return err_set(e, LLMD_EPARSE, "dimension %u is 0", i + 1);
    }
    if (rc)
        return rc;
    if (d[2] != 1 || d[3] != 1)
        return err_set(e, LLMD_EUNSUPPORTED,
                       "its shape is %llu x %llu x %llu x %llu; only vectors and matrices are read",
                       (unsigned long long)d[0], (unsigned long long)d[1], (unsigned long long)d[2],
                       (unsigned long long)d[3]);
    t->cols = d[0];
    t->rows = d[1];
    return 0;
}

static int read_tensor(struct cursor *c, struct gguf_tensor_entry *entry, struct err *e)
{
    uint32_t number;
    const char *type_name = NULL;
    struct host_tensor *t = &entry->t;
    int rc = read_dims(c, t, e);
    if (!rc)
        rc = take_u32(c, &number, e);
    if (!rc)
        rc = take_u64(c, &entry->offset, e);
    if (rc)
        return rc;
    if (!tensor_type(number, &t->dtype, &type_name))
        return unsupported_type(number, type_name, e);
    size_t row_bytes;
    if (t->cols % dtype_block_elems(t->dtype) != 0)
        return err_set(
            e, LLMD_EPARSE, "has rows of %llu elements, no multiple of the %u of a %s block",
            (unsigned long long)t->cols, dtype_block_elems(t->dtype), dtype_name(t->dtype));
    if (!dtype_row_bytes(t->dtype, t->cols, &row_bytes) ||
        !size_mul(row_bytes, t->rows, &entry->size_bytes))
        return err_set(e, LLMD_EPARSE, "its size (%llu x %llu) overflows",
                       (unsigned long long)t->cols, (unsigned long long)t->rows);
    return 0;
}

static int read_tensors(struct gguf *g, struct cursor *c, uint32_t n, struct err *e)
{
    g->tensors = calloc(n + 1u, sizeof(*g->tensors));
    g->by_name = calloc(n + 1u, sizeof(struct gguf_tensor_entry *));
    if (!g->tensors || !g->by_name)
        return err_set(e, LLMD_ENOMEM, "out of memory for %u tensors", n);
    for (uint32_t i = 0; i < n; i++) {
        struct gguf_tensor_entry *entry = &g->tensors[i];
        struct gguf_str name;
        int rc = take_name(c, GGUF_MAX_NAME_BYTES, &name, e);
        if (rc) {
            err_prefix(e, "tensor %u of %u: ", i + 1, n);
            return rc;
        }
        memcpy(entry->name, name.s, name.n);
        entry->t.name = entry->name;
        rc = read_tensor(c, entry, e);
        if (rc) {
            err_prefix(e, "tensor '%s': ", entry->name);
            return rc;
        }
        g->by_name[g->n_tensors++] = entry;
    }
    return 0;
}

/* Where each tensor lies: aligned, inside the file (I2), and sets its data pointer. */
static int place_tensors(struct gguf *g, struct err *e)
{
    size_t n_bytes = g->size_bytes - g->data_start;
    for (uint32_t i = 0; i < g->n_tensors; i++) {
        struct gguf_tensor_entry *t = &g->tensors[i];
        if (t->offset % g->alignment != 0)
            return err_set(e, LLMD_EPARSE,
                           "tensor '%s': its offset %llu is no multiple of the alignment %u",
                           t->name, (unsigned long long)t->offset, g->alignment);
        if (t->offset > n_bytes || t->size_bytes > n_bytes - t->offset)
            return err_set(e, LLMD_EPARSE,
                           "tensor '%s': %zu bytes at offset %llu end behind the file's %zu bytes "
                           "of tensor data: is the download complete?",
                           t->name, t->size_bytes, (unsigned long long)t->offset, n_bytes);
        t->t.data = g->data + g->data_start + t->offset;
    }
    return 0;
}

/* No overlaps (I2), no name twice (I1). Leaves by_name sorted by name. */
static int check_unique(struct gguf *g, struct err *e)
{
    struct gguf_tensor_entry **p = g->by_name;
    qsort(p, g->n_tensors, sizeof(struct gguf_tensor_entry *), compare_offset);
    for (uint32_t i = 1; i < g->n_tensors; i++)
        if (p[i]->offset < p[i - 1]->offset + p[i - 1]->size_bytes)
            return err_set(e, LLMD_EPARSE, "tensor '%s': its data overlaps that of '%s'",
                           p[i]->name, p[i - 1]->name);
    qsort(p, g->n_tensors, sizeof(struct gguf_tensor_entry *), compare_name);
    for (uint32_t i = 1; i < g->n_tensors; i++)
        if (strcmp(p[i]->name, p[i - 1]->name) == 0)
            return err_set(e, LLMD_EPARSE, "tensor '%s': appears twice", p[i]->name);
    return 0;
}

static int read_all(struct gguf *g, struct err *e)
{
    struct cursor c = {.data = g->data, .size_bytes = g->size_bytes};
    struct counts n = {0};
    int rc = read_header(&c, &n, e);
    if (!rc)
        rc = read_kvs(g, &c, (uint32_t)n.n_kvs, e);
    if (!rc)
        rc = read_alignment(g, e);
    if (!rc)
        rc = read_tensors(g, &c, (uint32_t)n.n_tensors, e);
    if (rc)
        return rc;
    size_t pad = (g->alignment - c.at % g->alignment) % g->alignment;
    g->data_start = pad <= left(&c) ? c.at + pad : c.size_bytes;
    rc = place_tensors(g, e);
    return rc ? rc : check_unique(g, e);
}

static int open_over(struct gguf *g, struct gguf **out, struct err *e)
{
    int rc = read_all(g, e);
    if (rc) {
        err_prefix(e, "%s: ", g->path);
        gguf_close(g);
        return rc;
    }
    *out = g;
    return 0;
}

int gguf_open_memory(const void *data, size_t n, const char *name, struct gguf **out, struct err *e)
{
    struct gguf *g = calloc(1, sizeof(*g));
    char *path = strdup(name);
    if (!g || !path) {
        free(g);
        free(path);
        return err_set(e, LLMD_ENOMEM, "%s: out of memory", name);
    }
    *g = (struct gguf){.path = path, .data = data, .size_bytes = n};
    return open_over(g, out, e);
}

int gguf_open(const char *path, struct gguf **out, struct err *e)
{
    struct file_map map;
    struct gguf *g = calloc(1, sizeof(*g));
    if (!g)
        return err_set(e, LLMD_ENOMEM, "%s: out of memory", path);
    int rc = model_file_map(&map, path, e);
    if (rc) {
        free(g);
        return rc;
    }
    *g =
        (struct gguf){.map = map, .path = map.path, .data = map.data, .size_bytes = map.size_bytes};
    return open_over(g, out, e);
}

void gguf_close(struct gguf *g)
{
    if (!g)
        return;
    free(g->kvs);
    free(g->tensors);
    free(g->by_name);
    if (g->map.path)
        file_map_close(&g->map); /* frees the path too */
    else
        free(g->path);
    free(g);
}

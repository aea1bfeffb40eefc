/* safetensors_header.c - see safetensors_int.h. The header is read without a tree: memory grows with
 * the tensors that it names, not with what else it holds. */
#include <stdlib.h>
#include <string.h>

#include "core/model/safetensors_int.h"
#include "core/util/json_reader.h"
#include "core/util/printable.h"

enum {
    LENGTH_BYTES = 8,
    MAX_HEADER_BYTES = 100000000, /* the format's own limit */
    MAX_NAME_BYTES = 512,
};

static const struct st_type types[] = {
    {"F32", 4, true, DTYPE_F32}, {"F16", 2, true, DTYPE_F16}, {"BF16", 2, true, DTYPE_BF16},
    {"F64", 8, false, 0},        {"I64", 8, false, 0},        {"U64", 8, false, 0},
    {"I32", 4, false, 0},        {"U32", 4, false, 0},        {"I16", 2, false, 0},
    {"U16", 2, false, 0},        {"I8", 1, false, 0},         {"U8", 1, false, 0},
    {"BOOL", 1, false, 0},       {"F8_E4M3", 1, false, 0},    {"F8_E5M2", 1, false, 0},
};

/* What the header says of one tensor; the keys come in any order. */
struct entry {
    struct st_tensor *t;
    bool has_shape, has_range;
};

/* --- values --- */

/* A size: digits alone. False when the next value is none (r->rc tells whether it was JSON). */
static bool read_size(struct json_reader *r, size_t *out)
{
    struct json_str text;
    uint64_t v = 0;
    if (!json_skip(r, &text) || text.n == 0 || text.n > 19) /* 10^19 is within 64 bits */
        return false;
    for (size_t i = 0; i < text.n; i++) {
        if (text.s[i] < '0' || text.s[i] > '9')
            return false;
        v = v * 10 + (uint64_t)(text.s[i] - '0');
    }
    *out = v;
    return true;
}

static int read_dtype(struct json_reader *r, struct entry *entry, struct err *e)
{
    struct json_str name;
    char shown[32];
    if (!json_read_str(r, &name))
        return r->rc;
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (json_str_is(name, types[i].name)) {
            entry->t->type = &types[i];
            return 0;
        }
    printable_text(name.s, name.n, "", shown, sizeof(shown));
    return err_set(e, LLMD_EPARSE, "unknown dtype '%s'", shown);
}

static int read_shape(struct json_reader *r, struct entry *entry, struct err *e)
{
    struct st_tensor *t = entry->t;
    t->n_dims = 0;
    entry->has_shape = true;
    if (json_peek(r) != '[')
        return r->rc ? r->rc
                     : err_set(e, LLMD_EPARSE, "'shape' must be an array of at most %d sizes",
                               ST_MAX_DIMS);
    for (json_open_array(r); json_next_item(r);) {
        size_t n;
        if (t->n_dims == ST_MAX_DIMS)
            return err_set(e, LLMD_EPARSE, "'shape' must be an array of at most %d sizes",
                           ST_MAX_DIMS);
        if (!read_size(r, &n))
            return r->rc ? r->rc
                         : err_set(e, LLMD_EPARSE, "'shape' holds something that is no size");
        t->shape[t->n_dims++] = n;
    }
    return r->rc;
}

static int read_range(struct json_reader *r, struct entry *entry, struct err *e)
{
    size_t range[2], n = 0;
    bool sound = json_peek(r) == '[';
    if (sound)
        for (json_open_array(r); sound && json_next_item(r); n++)
            sound = n < 2 && read_size(r, &range[n]);
    if (r->rc)
        return r->rc;
    if (!sound || n != 2 || range[0] > range[1])
        return err_set(e, LLMD_EPARSE, "'data_offsets' must be [begin, end]");
    entry->has_range = true;
    entry->t->begin = range[0];
    entry->t->end = range[1];
    return 0;
}

/* --- one tensor --- */

static int check_entry(const struct entry *entry, size_t data_bytes, struct err *e)
{
    const struct st_tensor *t = entry->t;
    if (!t->type || !entry->has_shape || !entry->has_range)
        return err_set(e, LLMD_EPARSE, "its entry lacks '%s'",
                       !t->type            ? "dtype"
                       : !entry->has_shape ? "shape"
                                           : "data_offsets");
    if (t->end > data_bytes)
        return err_set(e, LLMD_EPARSE,
                       "ends at byte %zu of the data, which has %zu: is the download complete?",
                       t->end, data_bytes);
    size_t bytes = t->type->bytes;
    for (uint32_t i = 0; i < t->n_dims; i++)
        if (!size_mul(bytes, t->shape[i], &bytes))
            return err_set(e, LLMD_EPARSE, "its shape overflows");
    if (bytes != t->end - t->begin)
        return err_set(e, LLMD_EPARSE, "its shape needs %zu bytes, its offsets hold %zu", bytes,
                       t->end - t->begin);
    return 0;
}

static int read_entry(struct json_reader *r, size_t data_bytes, struct st_tensor *t, struct err *e)
{
    struct entry entry = {.t = t};
    struct json_str key;
    int rc = 0;
    if (json_peek(r) != '{')
        return r->rc ? r->rc
                     : err_set(
                           e, LLMD_EPARSE,
                           "its entry must be an object with 'dtype', 'shape' and 'data_offsets'");
    for (json_open_object(r); rc == 0 && json_next_key(r, &key);) {
        if (json_str_is(key, "dtype"))
            rc = read_dtype(r, &entry, e);
        else if (json_str_is(key, "shape"))
            rc = read_shape(r, &entry, e);
        else if (json_str_is(key, "data_offsets"))
            rc = read_range(r, &entry, e);
        else
            json_skip(r, NULL);
    }
    if (rc == 0)
        rc = r->rc;
    return rc ? rc : check_entry(&entry, data_bytes, e);
}

/* --- all of them --- */

static bool name_ok(struct json_str name)
{
    for (size_t i = 0; i < name.n; i++)
        if (name.s[i] <= ' ' || name.s[i] > '~')
            return false;
    return name.n > 0 && name.n <= MAX_NAME_BYTES;
}

/* Room for one more tensor, and a copy of its name. */
static int add_tensor(struct safetensors *s, uint32_t file, struct json_str name, struct err *e)
{
    if (!name_ok(name))
        return err_set(e, LLMD_EPARSE, "a tensor's name is empty, too long or not printable");
    if (s->n_tensors == ST_MAX_TENSORS)
        return err_set(e, LLMD_EUNSUPPORTED, "more than %d tensors", ST_MAX_TENSORS);
    if (s->n_tensors == s->cap_tensors) {
        uint32_t cap = s->cap_tensors ? 2 * s->cap_tensors : 256;
        struct st_tensor *t = realloc(s->tensors, cap * sizeof(*t));
        if (!t)
            return err_set(e, LLMD_ENOMEM, "out of memory");
        s->tensors = t;
        s->cap_tensors = cap;
    }
    char *copy = arena_strndup(&s->arena, name.s, name.n);
    if (!copy)
        return err_set(e, LLMD_ENOMEM, "out of memory");
    s->tensors[s->n_tensors] = (struct st_tensor){.name = copy, .file = file};
    return 0;
}

static int by_begin(const void *a, const void *b)
{
    const struct st_tensor *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* The tensors of one file (from first on), sorted by place, must follow each other from 0 to the
 * end. */
static int check_cover(struct safetensors *s, uint32_t first, size_t data_bytes, struct err *e)
{
    size_t at = 0;
    if (s->n_tensors > first)
        qsort(s->tensors + first, s->n_tensors - first, sizeof(*s->tensors), by_begin);
    for (uint32_t i = first; i < s->n_tensors; i++) {
        const struct st_tensor *t = &s->tensors[i];
        if (t->begin != at)
            return err_set(e, LLMD_EPARSE, "tensor '%s': %s at byte %zu of the data", t->name,
                           t->begin < at ? "overlaps another" : "leaves a hole before it",
                           t->begin);
        at = t->end;
    }
    if (at != data_bytes)
        return err_set(e, LLMD_EPARSE, "%zu bytes behind the last tensor belong to none",
                       data_bytes - at);
    return 0;
}

static int read_entries(struct safetensors *s, uint32_t file, struct json_reader *r, struct err *e)
{
    size_t data_bytes = s->files[file].data_bytes;
    uint32_t first = s->n_tensors;
    struct json_str name;
    if (json_peek(r) != '{')
        return r->rc ? r->rc : err_set(e, LLMD_EPARSE, "header: not a JSON object");
    for (json_open_object(r); json_next_key(r, &name);) {
        if (json_str_is(name, "__metadata__")) {
            json_skip(r, NULL);
            continue;
        }
        int rc = add_tensor(s, file, name, e);
        if (rc != 0)
            return rc;
        struct st_tensor *t = &s->tensors[s->n_tensors];
        rc = read_entry(r, data_bytes, t, e);
        if (rc != 0) {
            err_prefix(e, "tensor '%s': ", t->name);
            return rc;
        }
        s->n_tensors++;
    }
    json_end(r);
    return r->rc ? r->rc : check_cover(s, first, data_bytes, e);
}

static uint64_t load_u64(const unsigned char *p)
{
    uint64_t v = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

int st_read_header(struct safetensors *s, uint32_t file, const void *data, size_t n, struct err *e)
{
    const unsigned char *p = data;
    struct json_reader r;
    if (n < LENGTH_BYTES)
        return err_set(e, LLMD_EPARSE, "%zu bytes are too few for a safetensors file", n);
    uint64_t header_bytes = load_u64(p);
    if (header_bytes > MAX_HEADER_BYTES || header_bytes > n - LENGTH_BYTES)
        return err_set(e, LLMD_EPARSE,
                       "claims a header of %llu bytes; the file has %zu, the limit is %d",
                       (unsigned long long)header_bytes, n, MAX_HEADER_BYTES);
    s->files[file].data = p + LENGTH_BYTES + header_bytes;
    s->files[file].data_bytes = n - LENGTH_BYTES - (size_t)header_bytes;
    json_reader_init(&r, (const char *)p + LENGTH_BYTES, (size_t)header_bytes, &s->arena, e);
    int rc = read_entries(s, file, &r, e);
    if (rc != 0 && r.rc != 0)
        err_prefix(e, "header: ");
    return rc;
}

#include "core/model/safetensors.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/util/arena.h"
#include "core/util/buf.h"
#include "core/util/fsio.h"
#include "core/util/json.h"

enum {
    LENGTH_BYTES = 8,
    MAX_HEADER_BYTES = 100000000, /* the format's own limit */
    MAX_INDEX_BYTES = 64 << 20,
    MAX_SHARDS = 1024,
    MAX_DIMS = 8,
    MAX_NAME_BYTES = 512,
};

struct st_tensor {
    const char *name;  /* in the arena */
    const char *dtype; /* as the file writes it */
    uint64_t shape[MAX_DIMS];
    uint32_t n_dims;
    uint32_t file;     /* index into files */
    size_t begin, end; /* within the file's data */
};

struct st_file {
    struct file_map map; /* path only, for files opened from memory */
    const unsigned char *data;
    size_t data_bytes;
};

struct safetensors {
    struct arena arena;
    char *where; /* folder or file name, for messages */
    struct st_file *files;
    uint32_t n_files;
    struct st_tensor *tensors; /* sorted by name */
    uint32_t n_tensors, cap_tensors;
};

/* Element types: those with known == false are measured but not read. */
static const struct {
    const char *name;
    uint32_t bytes;
    bool known;
    enum dtype dtype;
} types[] = {
    {"F32", 4, true, DTYPE_F32}, {"F16", 2, true, DTYPE_F16}, {"BF16", 2, true, DTYPE_BF16},
    {"F64", 8, false, 0},        {"I64", 8, false, 0},        {"U64", 8, false, 0},
    {"I32", 4, false, 0},        {"U32", 4, false, 0},        {"I16", 2, false, 0},
    {"U16", 2, false, 0},        {"I8", 1, false, 0},         {"U8", 1, false, 0},
    {"BOOL", 1, false, 0},       {"F8_E4M3", 1, false, 0},    {"F8_E5M2", 1, false, 0},
};

static int type_index(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (strcmp(types[i].name, name) == 0)
            return (int)i;
    return -1;
}

static int read_size(const json_t *v, size_t *out)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return -1;
    *out = (size_t)json_integer_value(v);
    return 0;
}

static int read_shape(const json_t *shape, struct st_tensor *t, struct err *e)
{
    if (!json_is_array(shape) || json_array_size(shape) > MAX_DIMS)
        return err_set(e, LLMD_EPARSE, "'shape' must be an array of at most %d sizes", MAX_DIMS);
    t->n_dims = (uint32_t)json_array_size(shape);
    for (uint32_t i = 0; i < t->n_dims; i++) {
        size_t n;
        if (read_size(json_array_get(shape, i), &n) != 0)
            return err_set(e, LLMD_EPARSE, "'shape' holds something that is no size");
        t->shape[i] = n;
    }
    return 0;
}

static int read_range(const json_t *offsets, size_t data_bytes, struct st_tensor *t, struct err *e)
{
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
        read_size(json_array_get(offsets, 0), &t->begin) != 0 ||
        read_size(json_array_get(offsets, 1), &t->end) != 0 || t->begin > t->end)
        return err_set(e, LLMD_EPARSE, "'data_offsets' must be [begin, end]");
    if (t->end > data_bytes)
        return err_set(e, LLMD_EPARSE,
                       "ends at byte %zu of the data, which has %zu: is the download complete?",
                       t->end, data_bytes);
    return 0;
}

/* Fills t from one entry of the header; checks that shape, type and range agree. */
static int read_entry(struct safetensors *s, const json_t *entry, size_t data_bytes,
                      struct st_tensor *t, struct err *e)
{
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (!json_is_object(entry) || !dtype)
        return err_set(e, LLMD_EPARSE, "its entry lacks 'dtype'");
    int rc = read_shape(json_object_get(entry, "shape"), t, e);
    if (rc == 0)
        rc = read_range(json_object_get(entry, "data_offsets"), data_bytes, t, e);
    if (rc != 0)
        return rc;
    int type = type_index(dtype);
    size_t bytes = type < 0 ? 0 : types[type].bytes;
    if (type < 0 || !(t->dtype = arena_strdup(&s->arena, dtype)))
        return type < 0 ? err_set(e, LLMD_EPARSE, "unknown dtype '%.20s'", dtype)
                        : err_set(e, LLMD_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < t->n_dims; i++)
        if (!size_mul(bytes, t->shape[i], &bytes))
            return err_set(e, LLMD_EPARSE, "its shape overflows");
    if (bytes != t->end - t->begin)
        return err_set(e, LLMD_EPARSE, "its shape needs %zu bytes, its offsets hold %zu", bytes,
                       t->end - t->begin);
    return 0;
}

static bool name_ok(const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < n; i++)
        if (name[i] <= ' ' || name[i] > '~')
            return false;
    return n > 0 && n <= MAX_NAME_BYTES;
}

static int grow(struct safetensors *s, size_t more, struct err *e)
{
    size_t want = s->n_tensors + more, bytes;
    struct st_tensor *t = NULL;
    if (want <= UINT32_MAX && size_mul(want, sizeof(*t), &bytes))
        t = realloc(s->tensors, bytes ? bytes : 1);
    if (!t)
        return err_set(e, LLMD_ENOMEM, "out of memory");
    s->tensors = t;
    s->cap_tensors = (uint32_t)want;
    return 0;
}

static int by_begin(const void *a, const void *b)
{
    const struct st_tensor *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* The tensors of one file, sorted by place, must follow each other from 0 to the end. */
static int check_cover(struct st_tensor *t, uint32_t n, size_t data_bytes, struct err *e)
{
    size_t at = 0;
    qsort(t, n, sizeof(*t), by_begin);
    for (uint32_t i = 0; i < n; i++) {
        if (t[i].begin != at)
            return err_set(e, LLMD_EPARSE, "tensor '%s': %s at byte %zu of the data", t[i].name,
                           t[i].begin < at ? "overlaps another" : "leaves a hole before it",
                           t[i].begin);
        at = t[i].end;
    }
    if (at != data_bytes)
        return err_set(e, LLMD_EPARSE, "%zu bytes behind the last tensor belong to none",
                       data_bytes - at);
    return 0;
}

/* Reads the header's entries for file number `file`. */
static int read_entries(struct safetensors *s, uint32_t file, const json_t *header, struct err *e)
{
    const char *name;
    const json_t *entry;
    size_t data_bytes = s->files[file].data_bytes;
    uint32_t first = s->n_tensors;
    int rc = grow(s, json_object_size(header), e);
    if (rc != 0)
        return rc;
    json_object_foreach((json_t *)(uintptr_t)header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        if (!name_ok(name))
            return err_set(e, LLMD_EPARSE, "a tensor's name is empty, too long or not printable");
        struct st_tensor *t = &s->tensors[s->n_tensors];
        *t = (struct st_tensor){.name = arena_strdup(&s->arena, name), .file = file};
        if (!t->name)
            return err_set(e, LLMD_ENOMEM, "out of memory");
        rc = read_entry(s, entry, data_bytes, t, e);
        if (rc != 0) {
            err_prefix(e, "tensor '%s': ", name);
            return rc;
        }
        s->n_tensors++;
    }
    return check_cover(s->tensors + first, s->n_tensors - first, data_bytes, e);
}

static uint64_t load_u64(const unsigned char *p)
{
    uint64_t v = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

static int read_file(struct safetensors *s, uint32_t file, const void *data, size_t n,
                     struct err *e)
{
    const unsigned char *p = data;
    if (n < LENGTH_BYTES)
        return err_set(e, LLMD_EPARSE, "%zu bytes are too few for a safetensors file", n);
    uint64_t header_bytes = load_u64(p);
    if (header_bytes > MAX_HEADER_BYTES || header_bytes > n - LENGTH_BYTES)
        return err_set(e, LLMD_EPARSE,
                       "claims a header of %llu bytes; the file has %zu, the limit is %d",
                       (unsigned long long)header_bytes, n, MAX_HEADER_BYTES);
    json_t *header = NULL;
    int rc = json_parse((const char *)p + LENGTH_BYTES, (size_t)header_bytes, &header, e);
    if (rc != 0) {
        err_prefix(e, "header: ");
        return rc;
    }
    s->files[file].data = p + LENGTH_BYTES + header_bytes;
    s->files[file].data_bytes = n - LENGTH_BYTES - (size_t)header_bytes;
    rc = json_is_object(header) ? read_entries(s, file, header, e)
                                : err_set(e, LLMD_EPARSE, "header: not a JSON object");
    json_decref(header);
    return rc;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct st_tensor *)a)->name, ((const struct st_tensor *)b)->name);
}

static const struct st_tensor *find(const struct safetensors *s, const char *name)
{
    struct st_tensor key = {.name = name};
    if (s->n_tensors == 0)
        return NULL;
    return bsearch(&key, s->tensors, s->n_tensors, sizeof(key), by_name);
}

static int finish(struct safetensors *s, struct err *e)
{
    if (s->n_tensors)
        qsort(s->tensors, s->n_tensors, sizeof(*s->tensors), by_name);
    for (uint32_t i = 1; i < s->n_tensors; i++)
        if (strcmp(s->tensors[i].name, s->tensors[i - 1].name) == 0)
            return err_set(e, LLMD_EPARSE, "%s: tensor '%s' stands in two files", s->where,
                           s->tensors[i].name);
    return 0;
}

static int new_set(const char *where, uint32_t n_files, struct safetensors **out, struct err *e)
{
    struct safetensors *s = calloc(1, sizeof(*s));
    if (s) {
        arena_init(&s->arena, 0);
        s->where = strdup(where);
        s->files = calloc(n_files, sizeof(*s->files));
        s->n_files = n_files;
    }
    if (!s || !s->where || !s->files) {
        safetensors_close(s);
        return err_set(e, LLMD_ENOMEM, "%s: out of memory", where);
    }
    *out = s;
    return 0;
}

int safetensors_open_memory(const void *data, size_t n, const char *name, struct safetensors **out,
                            struct err *e)
{
    struct safetensors *s;
    int rc = new_set(name, 1, &s, e);
    if (rc != 0)
        return rc;
    rc = read_file(s, 0, data, n, e);
    if (rc != 0)
        err_prefix(e, "%s: ", name);
    else
        rc = finish(s, e);
    if (rc != 0) {
        safetensors_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

static int map_file(struct safetensors *s, uint32_t i, const char *file, struct err *e)
{
    char path[4096];
    if (snprintf(path, sizeof(path), "%s/%s", s->where, file) >= (int)sizeof(path))
        return err_set(e, LLMD_EINVAL, "%s: path too long", s->where);
    int rc = file_map_open(&s->files[i].map, path, e);
    if (rc != 0)
        return rc;
    rc = read_file(s, i, s->files[i].map.data, s->files[i].map.size_bytes, e);
    if (rc != 0)
        err_prefix(e, "%s: ", path);
    return rc;
}

/* Distinct shard names of a weight_map, in order of appearance; they must be plain file names. */
static int shard_names(const json_t *map, const char *names[], uint32_t *out_n, struct err *e)
{
    const char *tensor;
    const json_t *v;
    uint32_t n = 0;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, v)
    {
        const char *file = json_string_value(v);
        uint32_t i = 0;
        if (!file || !*file || strchr(file, '/') || file[0] == '.')
            return err_set(e, LLMD_EPARSE, "'weight_map' must map to file names of its folder");
        while (i < n && strcmp(names[i], file) != 0)
            i++;
        if (i < n)
            continue;
        if (n == MAX_SHARDS)
            return err_set(e, LLMD_EPARSE, "'weight_map' names more than %d files", MAX_SHARDS);
        names[n++] = file;
    }
    *out_n = n;
    return n ? 0 : err_set(e, LLMD_EPARSE, "'weight_map' is empty");
}

/* Each tensor of the index stands in the file that the index says. */
static int check_index(const struct safetensors *s, const json_t *map, const char *const *names,
                       struct err *e)
{
    const char *tensor;
    const json_t *v;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, v)
    {
        const struct st_tensor *t = find(s, tensor);
        if (!t || strcmp(names[t->file], json_string_value(v)) != 0)
            return err_set(e, LLMD_EPARSE, "tensor '%.200s' is not in '%.100s' as the index says",
                           tensor, json_string_value(v));
    }
    return 0;
}

static int open_shards(const char *folder, const json_t *index, struct safetensors **out,
                       struct err *e)
{
    const json_t *map = json_object_get(index, "weight_map");
    const char **names = calloc(MAX_SHARDS, sizeof(*names));
    struct safetensors *s = NULL;
    uint32_t n = 0;
    int rc = names ? 0 : err_set(e, LLMD_ENOMEM, "out of memory");
    if (rc == 0 && !json_is_object(map))
        rc = err_set(e, LLMD_EPARSE, "'weight_map' is missing");
    if (rc == 0)
        rc = shard_names(map, names, &n, e);
    if (rc == 0)
        rc = new_set(folder, n, &s, e);
    for (uint32_t i = 0; rc == 0 && i < n; i++)
        rc = map_file(s, i, names[i], e);
    if (rc == 0)
        rc = finish(s, e);
    if (rc == 0)
        rc = check_index(s, map, names, e);
    free(names);
    if (rc != 0)
        safetensors_close(s);
    else
        *out = s;
    return rc;
}

static int open_index(const char *folder, const char *path, struct safetensors **out, struct err *e)
{
    struct buf text = {0};
    json_t *index = NULL;
    int rc = file_read(path, MAX_INDEX_BYTES, &text, e);
    if (rc == 0) {
        rc = json_parse(buf_str(&text), text.len, &index, e);
        if (rc == 0)
            rc = open_shards(folder, index, out, e);
        if (rc != 0)
            err_prefix(e, "%s: ", path);
    }
    json_decref(index);
    buf_fini(&text);
    return rc;
}

int safetensors_open(const char *folder, struct safetensors **out, struct err *e)
{
    char path[4096];
    struct stat st;
    struct safetensors *s;
    if (snprintf(path, sizeof(path), "%s/model.safetensors.index.json", folder) >=
        (int)sizeof(path))
        return err_set(e, LLMD_EINVAL, "%s: path too long", folder);
    if (stat(path, &st) == 0)
        return open_index(folder, path, out, e);
    int rc = new_set(folder, 1, &s, e);
    if (rc != 0)
        return rc;
    rc = map_file(s, 0, "model.safetensors", e);
    if (rc == 0)
        rc = finish(s, e);
    if (rc != 0) {
        safetensors_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

void safetensors_close(struct safetensors *s)
{
    if (!s)
        return;
    for (uint32_t i = 0; s->files && i < s->n_files; i++)
        file_map_close(&s->files[i].map);
    free(s->files);
    free(s->tensors);
    free(s->where);
    arena_fini(&s->arena);
    free(s);
}

uint32_t safetensors_n_tensors(const struct safetensors *s)
{
    return s->n_tensors;
}

const char *safetensors_name(const struct safetensors *s, uint32_t i)
{
    BUG_ON(i >= s->n_tensors);
    return s->tensors[i].name;
}

int safetensors_get(const struct safetensors *s, const char *name, struct host_tensor *out,
                    struct err *e)
{
    const struct st_tensor *t = find(s, name);
    if (!t)
        return err_set(e, LLMD_ENOTFOUND, "%s: tensor '%s' is missing", s->where, name);
    int type = type_index(t->dtype);
    BUG_ON(type < 0); /* read_entry checked it */
    if (!types[type].known)
        return err_set(e, LLMD_EUNSUPPORTED,
                       "%s: tensor '%s': element type %s is not supported (BF16, F16, F32 are)",
                       s->where, name, t->dtype);
    if (t->n_dims < 1 || t->n_dims > 2)
        return err_set(e, LLMD_EUNSUPPORTED, "%s: tensor '%s' has %u dimensions, not 1 or 2",
                       s->where, name, t->n_dims);
    *out = (struct host_tensor){
        .name = t->name,
        .data = s->files[t->file].data + t->begin,
        .dtype = types[type].dtype,
        .rows = t->n_dims == 2 ? t->shape[0] : 1,
        .cols = t->shape[t->n_dims - 1],
    };
    return 0;
}

size_t safetensors_total_bytes(const struct safetensors *s)
{
    size_t total = 0;
    for (uint32_t i = 0; i < s->n_files; i++)
        total += s->files[i].data_bytes;
    return total;
}

void safetensors_release_pages(const struct safetensors *s)
{
    for (uint32_t i = 0; i < s->n_files; i++)
        if (s->files[i].map.data)
            file_map_drop(&s->files[i].map, s->files[i].data, s->files[i].data_bytes);
}

#include "core/model/safetensors.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/model_file_int.h"
#include "core/model/safetensors_int.h"
#include "core/util/buf.h"
#include "core/util/json_reader.h"
#include "core/util/printable.h"

enum {
    MAX_INDEX_BYTES = 64 << 20,
    MAX_SHARDS = 1024,
};

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
            return err_set(e, LLMD_EPARSE, "%s: tensor '%s' stands %s", s->where,
                           s->tensors[i].name,
                           s->n_files > 1 ? "in two files" : "in the header twice");
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
    rc = st_read_header(s, 0, data, n, e);
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
    int rc = model_file_map(&s->files[i].map, path, e);
    if (rc != 0)
        return rc;
    rc = st_read_header(s, i, s->files[i].map.data, s->files[i].map.size_bytes, e);
    if (rc != 0)
        err_prefix(e, "%s: ", path);
    return rc;
}

/* --- the index of a sharded model --- */

/* One pass over the index: what each tensor of its weight_map is given to. */
typedef int index_entry(void *ctx, struct json_str tensor, struct json_str file, struct err *e);

static int read_map(struct json_reader *r, index_entry *entry, void *ctx, struct err *e)
{
    struct json_str tensor, file;
    uint32_t n = 0;
    int rc = 0;
    for (json_open_object(r); rc == 0 && json_next_key(r, &tensor);) {
        if (json_peek(r) != '"' || !json_read_str(r, &file))
            rc = r->rc
                     ? r->rc
                     : err_set(e, LLMD_EPARSE, "'weight_map' must map to file names of its folder");
        else if (n++ == ST_MAX_TENSORS)
            rc = err_set(e, LLMD_EUNSUPPORTED, "more than %d tensors", ST_MAX_TENSORS);
        else
            rc = entry(ctx, tensor, file, e);
    }
    return rc ? rc : r->rc;
}

static int read_index(const struct buf *text, struct arena *arena, index_entry *entry, void *ctx,
                      struct err *e)
{
    struct json_reader r;
    struct json_str key;
    bool found = false;
    int rc = 0;
    json_reader_init(&r, buf_str(text), text->len, arena, e);
    if (json_peek(&r) != '{')
        return r.rc ? r.rc : err_set(e, LLMD_EPARSE, "not a JSON object");
    for (json_open_object(&r); rc == 0 && json_next_key(&r, &key);) {
        if (!json_str_is(key, "weight_map") || json_peek(&r) != '{') {
            json_skip(&r, NULL);
            continue;
        }
        found = true;
        rc = read_map(&r, entry, ctx, e);
    }
    if (rc == 0)
        json_end(&r);
    if (rc == 0 && r.rc == 0 && !found)
        rc = err_set(e, LLMD_EPARSE, "'weight_map' is missing");
    return rc ? rc : r.rc;
}

/* Distinct shard names, in order of appearance. */
struct shards {
    struct arena *arena;
    const char *names[MAX_SHARDS];
    uint32_t n;
};

/* A plain file name that a message can show as it is. */
static bool is_file_name(struct json_str file)
{
    char shown[NAME_MAX + 1];
    return file.n > 0 && file.n <= NAME_MAX && file.s[0] != '.' && !memchr(file.s, '/', file.n) &&
           printable_text(file.s, file.n, "", shown, sizeof(shown)) == file.n &&
           memcmp(file.s, shown, file.n) == 0;
}

static int add_shard(void *ctx, struct json_str tensor, struct json_str file, struct err *e)
{
    struct shards *s = ctx;
    (void)tensor;
    if (!is_file_name(file))
        return err_set(e, LLMD_EPARSE, "'weight_map' must map to file names of its folder");
    for (uint32_t i = s->n; i > 0; i--) /* mostly the one before */
        if (json_str_is(file, s->names[i - 1]))
            return 0;
    if (s->n == MAX_SHARDS)
        return err_set(e, LLMD_EPARSE, "'weight_map' names more than %d files", MAX_SHARDS);
    s->names[s->n] = arena_strndup(s->arena, file.s, file.n);
    return s->names[s->n++] ? 0 : err_set(e, LLMD_ENOMEM, "out of memory");
}

struct index_check {
    const struct safetensors *s;
    const struct shards *shards;
};

/* Each tensor of the index stands in the file that the index says. */
static int check_place(void *ctx, struct json_str tensor, struct json_str file, struct err *e)
{
    const struct index_check *c = ctx;
    char name[256], shown[128];
    const struct st_tensor *t = NULL;
    if (tensor.n < sizeof(name) && !memchr(tensor.s, '\0', tensor.n)) {
        memcpy(name, tensor.s, tensor.n);
        name[tensor.n] = '\0';
        t = find(c->s, name);
    }
    if (t && json_str_is(file, c->shards->names[t->file]))
        return 0;
    printable_text(tensor.s, tensor.n, "", name, sizeof(name));
    printable_text(file.s, file.n, "", shown, sizeof(shown));
    return err_set(e, LLMD_EPARSE, "tensor '%s' is not in '%s' as the index says", name, shown);
}

static int open_shards(const char *folder, const struct buf *text, struct arena *arena,
                       struct safetensors **out, struct err *e)
{
    struct shards shards = {.arena = arena};
    struct safetensors *s = NULL;
    int rc = read_index(text, arena, add_shard, &shards, e);
    if (rc == 0 && shards.n == 0)
        rc = err_set(e, LLMD_EPARSE, "'weight_map' is empty");
    if (rc == 0)
        rc = new_set(folder, shards.n, &s, e);
    for (uint32_t i = 0; rc == 0 && i < shards.n; i++)
        rc = map_file(s, i, shards.names[i], e);
    if (rc == 0)
        rc = finish(s, e);
    struct index_check check = {.s = s, .shards = &shards};
    if (rc == 0)
        rc = read_index(text, arena, check_place, &check, e);
    if (rc != 0)
        safetensors_close(s);
    else
        *out = s;
    return rc;
}

static int open_index(const char *folder, const char *path, struct safetensors **out, struct err *e)
{
    struct buf text = {0};
    struct arena arena;
    arena_init(&arena, 0);
    int rc = file_read(path, MAX_INDEX_BYTES, &text, e);
    if (rc == 0) {
        rc = open_shards(folder, &text, &arena, out, e);
        if (rc != 0)
            err_prefix(e, "%s: ", path);
    }
    arena_fini(&arena);
    buf_fini(&text);
    return rc;
}

int safetensors_open(const char *folder, struct safetensors **out, struct err *e)
{
    static const char single[] = "model.safetensors", index[] = "model.safetensors.index.json";
    char path[4096];
    struct safetensors *s;
    if (snprintf(path, sizeof(path), "%s/%s", folder, index) >= (int)sizeof(path))
        return err_set(e, LLMD_EINVAL, "%s: path too long", folder);
    /* Where both lie, transformers takes the single file. */
    if (!model_file_listed(folder, single) && model_file_listed(folder, index))
        return open_index(folder, path, out, e);
    int rc = new_set(folder, 1, &s, e);
    if (rc != 0)
        return rc;
    rc = map_file(s, 0, single, e);
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
    if (!t->type->known)
        return err_set(e, LLMD_EUNSUPPORTED,
                       "%s: tensor '%s': element type %s is not supported (BF16, F16, F32 are)",
                       s->where, name, t->type->name);
    if (t->n_dims < 1 || t->n_dims > 2)
        return err_set(e, LLMD_EUNSUPPORTED, "%s: tensor '%s' has %u dimensions, not 1 or 2",
                       s->where, name, t->n_dims);
    *out = (struct host_tensor){
        .name = t->name,
        .data = s->files[t->file].data + t->begin,
        .dtype = t->type->dtype,
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

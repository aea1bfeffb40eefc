/* hf_folder.h - a folder in Hugging Face form that tests take apart: the files of one of the tiny
 * models (tests/golden/data/tiny), written anew with changes. */
#pragma once
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/util/buf.h"
#include "core/util/fsio.h"

#define TINY "tests/golden/data/tiny/"

enum { FOLDER_MAX_TENSORS = 64 };

struct folder_tensor {
    char name[96], dtype[16], shape[64]; /* shape as JSON: "[2,3]" */
    char *data;
    size_t n_bytes;
};

struct hf_folder {
    char path[64];
    struct folder_tensor tensors[FOLDER_MAX_TENSORS];
    uint32_t n;
};

static inline const char *folder_file(const struct hf_folder *f, const char *name)
{
    static char path[512];
    snprintf(path, sizeof(path), "%s/%s", f->path, name);
    return path;
}

static inline void folder_write(const struct hf_folder *f, const char *name, const void *data,
                                size_t n)
{
    FILE *file = fopen(folder_file(f, name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static inline void folder_text(const struct hf_folder *f, const char *name, const char *text)
{
    folder_write(f, name, text, strlen(text));
}

static inline void folder_remove(const struct hf_folder *f, const char *name)
{
    unlink(folder_file(f, name));
}

static inline void folder_copy(const struct hf_folder *f, const char *model, const char *name)
{
    char from[160];
    struct buf text = {0};
    snprintf(from, sizeof(from), TINY "%s/%s", model, name);
    assert_int_equal(file_read(from, 16 << 20, &text, NULL), 0);
    folder_write(f, name, buf_str(&text), text.len);
    buf_fini(&text);
}

static inline json_t *folder_header(const char *data, size_t n, size_t *out_begin)
{
    uint64_t size;
    memcpy(&size, data, 8);
    assert_true(size < n - 8);
    *out_begin = 8 + (size_t)size;
    json_t *header = json_loadb(data + 8, (size_t)size, 0, NULL);
    assert_non_null(header);
    return header;
}

static inline void folder_read_tensors(struct hf_folder *f, const char *model)
{
    char path[160];
    struct buf file = {0};
    const char *name;
    json_t *v;
    size_t at;
    snprintf(path, sizeof(path), TINY "%s/model.safetensors", model);
    assert_int_equal(file_read(path, 16 << 20, &file, NULL), 0);
    json_t *header = folder_header(file.data, file.len, &at);
    json_object_foreach(header, name, v)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        struct folder_tensor *t = &f->tensors[f->n++];
        const json_t *range = json_object_get(v, "data_offsets");
        size_t begin = (size_t)json_integer_value(json_array_get(range, 0));
        char *shape = json_dumps(json_object_get(v, "shape"), JSON_COMPACT);
        t->n_bytes = (size_t)json_integer_value(json_array_get(range, 1)) - begin;
        t->data = malloc(t->n_bytes);
        memcpy(t->data, file.data + at + begin, t->n_bytes);
        snprintf(t->name, sizeof(t->name), "%s", name);
        snprintf(t->dtype, sizeof(t->dtype), "%s", json_string_value(json_object_get(v, "dtype")));
        snprintf(t->shape, sizeof(t->shape), "%s", shape);
        free(shape);
    }
    json_decref(header);
    buf_fini(&file);
}

/* A new folder with the files of one of the tiny models, whose weights are one file. */
static inline void folder_open(struct hf_folder *f, const char *model)
{
    static const char *const names[] = {"config.json", "generation_config.json", "tokenizer.json",
                                        "tokenizer_config.json"};
    *f = (struct hf_folder){.path = "/tmp/llmd-test-hf-XXXXXX"};
    assert_non_null(mkdtemp(f->path));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        folder_copy(f, model, names[i]);
    folder_read_tensors(f, model);
}

static inline void folder_close(struct hf_folder *f)
{
    DIR *d = opendir(f->path);
    for (struct dirent *e; d && (e = readdir(d));)
        unlink(folder_file(f, e->d_name));
    if (d)
        closedir(d);
    assert_int_equal(rmdir(f->path), 0);
    for (uint32_t i = 0; i < f->n; i++)
        free(f->tensors[i].data);
}

static inline struct folder_tensor *folder_tensor(struct hf_folder *f, const char *name)
{
    uint32_t i = 0;
    while (i < f->n && strcmp(f->tensors[i].name, name) != 0)
        i++;
    assert_true(i < f->n);
    return &f->tensors[i];
}

/* Another one with the same bytes. */
static inline struct folder_tensor *folder_add(struct hf_folder *f, const char *name,
                                               const struct folder_tensor *like)
{
    assert_true(f->n < FOLDER_MAX_TENSORS);
    struct folder_tensor *t = &f->tensors[f->n++];
    *t = *like;
    t->data = malloc(t->n_bytes);
    memcpy(t->data, like->data, t->n_bytes);
    snprintf(t->name, sizeof(t->name), "%s", name);
    return t;
}

/* Tensors first..end-1 as a file; the data begin at an offset of `odd` modulo 8. */
static inline void folder_write_weights(const struct hf_folder *f, const char *name, uint32_t first,
                                        uint32_t end, uint32_t odd)
{
    struct buf header = {0}, file = {0};
    size_t at = 0;
    buf_addch(&header, '{');
    for (uint32_t i = first; i < end; i++) {
        const struct folder_tensor *t = &f->tensors[i];
        buf_addf(&header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
                 i > first ? "," : "", t->name, t->dtype, t->shape, at, at + t->n_bytes);
        at += t->n_bytes;
    }
    buf_addch(&header, '}');
    while (header.len % 8 != odd)
        buf_addch(&header, ' ');
    uint64_t n = header.len;
    buf_add(&file, &n, 8);
    buf_add(&file, header.data, header.len);
    for (uint32_t i = first; i < end; i++)
        buf_add(&file, f->tensors[i].data, f->tensors[i].n_bytes);
    folder_write(f, name, file.data, file.len);
    buf_fini(&header);
    buf_fini(&file);
}

static inline void folder_weights(const struct hf_folder *f)
{
    folder_write_weights(f, "model.safetensors", 0, f->n, 0);
}

/* config.json with one key changed; value as JSON. */
static inline void folder_config(const struct hf_folder *f, const char *key, const char *value)
{
    json_t *c = json_load_file(folder_file(f, "config.json"), 0, NULL);
    assert_non_null(c);
    assert_int_equal(json_object_set_new(c, key, json_loads(value, JSON_DECODE_ANY, NULL)), 0);
    assert_int_equal(json_dump_file(c, folder_file(f, "config.json"), 0), 0);
    json_decref(c);
}

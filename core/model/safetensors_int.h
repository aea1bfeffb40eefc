/* safetensors_int.h - a set of safetensors files, as its reader sees it: safetensors.c opens files and
 * answers about tensors, safetensors_header.c reads the headers. */
#pragma once
#include "core/model/safetensors.h"
#include "core/util/arena.h"
#include "core/util/fsio.h"

enum {
    ST_MAX_DIMS = 8,
    ST_MAX_TENSORS = 65536, /* of all files together; models that are served have some hundreds */
};

struct st_type {
    const char *name;
    uint32_t bytes;
    bool known; /* false: measured but not read */
    enum dtype dtype;
};

struct st_tensor {
    const char *name; /* in the arena */
    const struct st_type *type;
    uint64_t shape[ST_MAX_DIMS];
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

/* Reads the header of file number `file`, whose bytes are data[0..n-1]: appends its tensors, checked
 * against shape, type and the bytes that are there. Messages lack the file's name. */
MUST_CHECK int st_read_header(struct safetensors *s, uint32_t file, const void *data, size_t n,
                              struct err *e);

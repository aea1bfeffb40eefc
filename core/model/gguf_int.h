/* gguf_int.h - what gguf.c (opening, checks) and gguf_meta.c (look-up) share. */
#pragma once
#include "core/model/gguf.h"
#include "core/util/fsio.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values are read as they stand");

enum {
    GGUF_VERSION = 3,
    GGUF_TYPE_COUNT = GGUF_F64 + 1,
    GGUF_MAX_KEYS = 65536,
    GGUF_MAX_TENSORS = 65536,
    GGUF_MAX_KEY_BYTES = 65535, /* as the specification has it */
    GGUF_MAX_NAME_BYTES = 64,   /* likewise */
    GGUF_MAX_NESTING = 8,       /* arrays in arrays */
    GGUF_MAX_DIMS = 4,
    GGUF_MIN_ALIGNMENT = 8,
    GGUF_DEFAULT_ALIGNMENT = 32,
    GGUF_MAX_ALIGNMENT = 1 << 20,
};

/* One metadata entry; key and value lie in the file. */
struct gguf_kv {
    struct gguf_str key;
    enum gguf_type type;
    const unsigned char *value; /* behind the type field; checked to its end */
};

struct gguf_tensor_entry {
    struct host_tensor t;
    uint64_t offset;   /* from the start of the tensor data */
    size_t size_bytes; /* > 0 */
    char name[GGUF_MAX_NAME_BYTES + 1];
};

/* Invariants  I1: kvs[] is sorted by key, by_name[] by name; neither has duplicates.
 *             I2: every entry's [offset, offset + size_bytes) lies inside the tensor data, starts
 *                 on a multiple of alignment and overlaps no other. */
struct gguf {
    struct file_map map; /* zeroed when the bytes belong to somebody else */
    char *path;
    const unsigned char *data;
    size_t size_bytes;
    size_t data_start; /* of the tensor data; <= size_bytes */
    uint32_t alignment;
    uint32_t n_kvs;
    struct gguf_kv *kvs;
    uint32_t n_tensors;
    struct gguf_tensor_entry *tensors; /* [n_tensors], in the order of the file */
    struct gguf_tensor_entry **by_name;
};

/* Bytes of one value; 0 for strings and arrays. */
size_t gguf_type_bytes(enum gguf_type t);

/* Readers of values that were checked before. */
uint32_t gguf_load_u32(const unsigned char *p);
uint64_t gguf_load_u64(const unsigned char *p);

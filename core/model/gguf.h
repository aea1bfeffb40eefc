/* gguf.h - reader of GGUF version 3 files.
 *
 * The file is mapped and never trusted: every offset, size, count and shape is checked against
 * the file with overflow-checked arithmetic before use, counts are bounded by the bytes that are
 * left (a lying header allocates nothing large), keys and tensor names are unique.
 *
 * Thread  immutable after gguf_open.
 * Memory  keys, strings and tensor data point into the mapping; valid until gguf_close. Besides
 *         the mapping, an opened file costs a small record for each key and tensor. A file must
 *         not be cut short while it is open: the kernel answers a read with SIGBUS. Replace model
 *         files by renaming.
 * Errors  EPARSE "FILE: tensor 'x': fault" / "FILE: key 'x': fault"; EUNSUPPORTED for another
 *         version, big-endian files, a tensor type or shape we do not read. ENOTFOUND, EIO,
 *         EINVAL (no regular file), ENOMEM.
 * Source  the GGUF specification (ggml docs/gguf.md, version 3). */
#pragma once
#include "core/util/base.h"
#include "core/util/err.h"
#include "core/util/tensor.h"

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
};

struct gguf;

struct gguf_str {
    const char *s; /* in the mapping, not NUL-terminated */
    size_t n;
};

MUST_CHECK int gguf_open(const char *path, struct gguf **out, struct err *e);
/* The same over memory that outlives the gguf (tests, fuzzing) and begins on a multiple of 8. */
MUST_CHECK int gguf_open_memory(const void *data, size_t n, const char *name, struct gguf **out,
                                struct err *e);
void gguf_close(struct gguf *g); /* NULL is fine */
const char *gguf_path(const struct gguf *g);

/* Keys by index, in byte order. */
uint32_t gguf_n_keys(const struct gguf *g);
struct gguf_str gguf_key_at(const struct gguf *g, uint32_t i);

bool gguf_has(const struct gguf *g, const char *key);

/* Metadata. Each getter: 0, ENOTFOUND when the key is absent, EPARSE when it has another type or
 * does not fit. Integers of any width and sign convert when the value fits. */
MUST_CHECK int gguf_get_u32(const struct gguf *g, const char *key, uint32_t *out, struct err *e);
MUST_CHECK int gguf_get_f32(const struct gguf *g, const char *key, float *out, struct err *e);
MUST_CHECK int gguf_get_bool(const struct gguf *g, const char *key, bool *out, struct err *e);
MUST_CHECK int gguf_get_str(const struct gguf *g, const char *key, struct gguf_str *out,
                            struct err *e);
/* Arrays: element type and count, then elements in turn by the iterator. */
struct gguf_array {
    enum gguf_type type;
    uint64_t n;
    const unsigned char *data; /* checked to hold n elements */
};
MUST_CHECK int gguf_get_array(const struct gguf *g, const char *key, enum gguf_type type,
                              struct gguf_array *out, struct err *e);
/* Fills out[n] from an array of strings (their lengths were checked on open). */
void gguf_array_strings(const struct gguf_array *a, struct gguf_str *out);

uint32_t gguf_n_tensors(const struct gguf *g);
/* Tensor by index or name (NULL when absent). One- and two-dimensional only: rows = ne[1] (1 for
 * a vector), cols = ne[0]. `name` is a NUL-terminated copy. */
const struct host_tensor *gguf_tensor_at(const struct gguf *g, uint32_t i);
const struct host_tensor *gguf_tensor(const struct gguf *g, const char *name);
/* Index of a tensor by name; false when absent. */
bool gguf_find_tensor(const struct gguf *g, const char *name, uint32_t *out_index);
/* The whole mapped range of tensor data. */
void gguf_tensor_range(const struct gguf *g, const void **out_data, size_t *out_bytes);
/* Lets the kernel take back the resident pages of tensor data; they are read again on use. */
void gguf_release_pages(const struct gguf *g);

/* tensor.h - element types of tensors and views of tensors in host memory.
 *
 * Quantized types are stored in blocks; a row of `cols` elements takes
 * cols / block_elems * block_bytes bytes and cols is a multiple of block_elems.
 * Source  block layouts as in the GGUF format (ggml-common.h of the format's authors). */
#pragma once
#include "core/util/base.h"

/* name, elements per block, bytes per block */
#define LLMD_DTYPES(X)                                                                             \
    X(F32, "F32", 1, 4)                                                                            \
    X(F16, "F16", 1, 2)                                                                            \
    X(BF16, "BF16", 1, 2)                                                                          \
    X(Q8_0, "Q8_0", 32, 34)                                                                        \
    X(Q4_0, "Q4_0", 32, 18)                                                                        \
    X(Q4_1, "Q4_1", 32, 20)                                                                        \
    X(Q4_K, "Q4_K", 256, 144)                                                                      \
    X(Q6_K, "Q6_K", 256, 210)

enum dtype {
#define X(id, name, elems, bytes) DTYPE_##id,
    LLMD_DTYPES(X)
#undef X
        DTYPE_COUNT
};

const char *dtype_name(enum dtype t);
uint32_t dtype_block_elems(enum dtype t);
uint32_t dtype_block_bytes(enum dtype t);
/* Bytes of one row; false when cols is no multiple of the block or the size overflows. */
MUST_CHECK bool dtype_row_bytes(enum dtype t, uint64_t cols, size_t *out_bytes);

/* A matrix (or, with rows == 1, a vector) in host memory, row-major, rows contiguous.
 * Borrowed: usually a piece of a mapped model file. */
struct host_tensor {
    const char *name;
    const void *data; /* [rows][dtype_row_bytes(dtype, cols)] */
    enum dtype dtype;
    uint64_t rows, cols;
};

/* Bytes of its data; 0 when there is none (an optional tensor that a model lacks), or for a shape
 * that the type cannot have. */
size_t host_tensor_bytes(const struct host_tensor *t);

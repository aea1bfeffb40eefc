/* ref.h - weights that a hash generates on the device, and plain kernels that compute a decoder in F32,
 * one operation after the other, as the reference of tests/gpu/run.sh numerics.
 *
 * With `rounded`, each operation's result is rounded to an element: what a framework that computes in
 * BF16 does, whose error against F32 is the yardstick.
 *
 * Memory  device memory of the caller; activations are F32 [rows][cols].
 * Errors  as kernels.h. */
#pragma once
#ifdef __cplusplus
extern "C" {
#endif
#include "gpu/kernels.h"

struct ref {
    struct gpu_stream *stream;
    enum gpu_flavour flavour;
    bool rounded;
};

/* Elements [to_rows][stride], zeros beyond rows and cols: uniform with a standard deviation. With
 * gate_up, rows of gate and up alternate by eights (rows counts both, each rows / 2). */
struct generated {
    void *out;
    uint32_t rows, cols, to_rows, stride;
    uint64_t seed;
    float deviation;
    bool gate_up;
};
MUST_CHECK int ref_matrix(const struct ref *r, const struct generated *m);
/* n floats: mean + uniform with a standard deviation. */
MUST_CHECK int ref_vector(const struct ref *r, float *out, uint32_t n, uint64_t seed, float mean,
                          float deviation);

MUST_CHECK int ref_embed(const struct ref *r, const void *table, uint32_t stride,
                         const uint32_t *tokens, uint32_t n, uint32_t cols, float *out);
/* x += delta (NULL: not), out = x / rms(x) w */
MUST_CHECK int ref_norm(const struct ref *r, float *x, const float *delta, const float *w,
                        uint32_t n, uint32_t cols, float eps, float *out);
/* out [n][n_out]; gate_up: silu(gate) * up of weights that alternate */
MUST_CHECK int ref_linear(const struct ref *r, const float *in, const struct gpu_linear *w,
                          float *out);
/* Rotates (rotate-half) and normalizes the heads of q and k of n rows, positions 0.. */
struct ref_heads {
    float *qkv;
    const double *inv_freq; /* [head_dim / 2], on the device */
    const float *q_norm, *k_norm;
    uint32_t n, n_heads, n_kv_heads, head_dim;
    float eps, scale;
};
MUST_CHECK int ref_rope(const struct ref *r, const struct ref_heads *a);
MUST_CHECK int ref_attention(const struct ref *r, const struct ref_heads *a, float *out);

/* Reads `bytes` of memory once, all of it. */
MUST_CHECK int ref_read(const struct ref *r, const void *p, size_t bytes, uint32_t *out);
/* Kernels that end the device: one writes to an address that is none, one does not end while *go is
 * zero (pinned memory). */
MUST_CHECK int ref_fault(const struct ref *r);
MUST_CHECK int ref_endless(const struct ref *r, volatile uint32_t *go);

#ifdef __cplusplus
}
#endif

/* cpu_case.h - what the tests of the CPU backend share: random tensors of every type, their values
 * by an independent reading of the formats, and one backend per instruction set of the machine.
 *
 * The reference works on one value at a time in double and knows nothing of tiles or lanes. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/backend/backend.h"

static const char *const all_isas[] = {"portable", "avx2", "avx512", "amx"};

static uint64_t case_random_state = 1;

static inline uint32_t random_u32(void)
{
    case_random_state = case_random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(case_random_state >> 32);
}

/* Uniform in -1..1. */
static inline float random_float(void)
{
    return (float)(random_u32() >> 8) / 8388608.0f - 1.0f;
}

static inline void random_floats(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = random_float();
}

static inline double half_value(const uint8_t *p)
{
    const int bits = p[0] | p[1] << 8, exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const double v = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
    return bits >> 15 ? -v : v;
}

/* Smallest exponent of random scales, biased by 15: how large the weights are. */
static uint32_t case_scale_exponent = 7;

/* Writes an F16 with random sign whose magnitude spans four powers of two. */
static inline void random_half(uint8_t *p)
{
    const uint32_t r = random_u32();
    const uint32_t bits = (r & 0x8000) | (case_scale_exponent + r % 4) << 10 | (r >> 20 & 1023);
    p[0] = (uint8_t)bits;
    p[1] = (uint8_t)(bits >> 8);
}

/* Random bits everywhere, but scales that are finite and small. */
static inline void random_block(enum dtype t, uint8_t *p)
{
    float f = random_float();
    uint32_t bits;
    memcpy(&bits, &f, 4);
    for (uint32_t i = 0; i < dtype_block_bytes(t); i++)
        p[i] = (uint8_t)(random_u32() >> 24);
    switch (t) {
    case DTYPE_F32:
        memcpy(p, &f, 4);
        break;
    case DTYPE_BF16:
        p[0] = (uint8_t)(bits >> 16);
        p[1] = (uint8_t)(bits >> 24);
        break;
    case DTYPE_Q4_1:
    case DTYPE_Q4_K:
        random_half(p);
        random_half(p + 2);
        break;
    case DTYPE_Q6_K:
        random_half(p + 208);
        break;
    default:
        random_half(p);
        break;
    }
}

/* The value of element i (0..255) of a Q4_K block. */
static inline double q4_k_value(const uint8_t *p, uint32_t i)
{
    const uint8_t *s = p + 4;
    const uint32_t j = i / 32;
    int scale, min;
    if (j < 4) {
        scale = s[j] & 63;
        min = s[j + 4] & 63;
    } else {
        scale = (s[j + 4] & 15) + 16 * (s[j - 4] >> 6);
        min = (s[j + 4] >> 4) + 16 * (s[j] >> 6);
    }
    const uint8_t byte = p[16 + i / 64 * 32 + i % 32];
    const int q = i % 64 < 32 ? byte % 16 : byte / 16;
    return half_value(p) * scale * q - half_value(p + 2) * min;
}

/* The value of element i (0..255) of a Q6_K block. */
static inline double q6_k_value(const uint8_t *p, uint32_t i)
{
    const uint32_t half = i / 128, quarter = i % 128 / 32, l = i % 32;
    const uint8_t low = p[half * 64 + (quarter % 2) * 32 + l];
    const uint8_t high = p[128 + half * 32 + l];
    const int q = (quarter < 2 ? low % 16 : low / 16) + 16 * (high >> (2 * quarter) & 3);
    return half_value(p + 208) * (int8_t)p[192 + i / 16] * (q - 32);
}

/* Element i of a block, read as the format's definition says. */
static inline double block_value(enum dtype t, const uint8_t *p, uint32_t i)
{
    float f;
    uint32_t bits;
    switch (t) {
    case DTYPE_F32:
        memcpy(&f, p, 4);
        return f;
    case DTYPE_F16:
        return half_value(p);
    case DTYPE_BF16:
        bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 24;
        memcpy(&f, &bits, 4);
        return f;
    case DTYPE_Q8_0:
        return half_value(p) * (int8_t)p[2 + i];
    case DTYPE_Q4_0:
        return half_value(p) * ((i < 16 ? p[2 + i] % 16 : p[2 + i - 16] / 16) - 8);
    case DTYPE_Q4_1:
        return half_value(p) * (i < 16 ? p[4 + i] % 16 : p[4 + i - 16] / 16) + half_value(p + 2);
    case DTYPE_Q4_K:
        return q4_k_value(p, i);
    default:
        return q6_k_value(p, i);
    }
}

/* A random tensor; free with tensor_drop. */
static inline struct host_tensor tensor_random(enum dtype t, uint64_t rows, uint64_t cols)
{
    struct host_tensor h = {.name = "test.weight", .dtype = t, .rows = rows, .cols = cols};
    size_t row_bytes;
    assert_true(dtype_row_bytes(t, cols, &row_bytes));
    uint8_t *data = malloc(rows * row_bytes);
    assert_non_null(data);
    for (size_t i = 0; i < rows * row_bytes; i += dtype_block_bytes(t))
        random_block(t, data + i);
    h.data = data;
    return h;
}

static inline void tensor_drop(struct host_tensor *h)
{
    free((void *)(uintptr_t)h->data);
}

static inline double tensor_value(const struct host_tensor *h, uint64_t row, uint64_t col)
{
    const uint64_t elems = dtype_block_elems(h->dtype), bytes = dtype_block_bytes(h->dtype);
    const uint8_t *p = (const uint8_t *)h->data + (row * (h->cols / elems) + col / elems) * bytes;
    return block_value(h->dtype, p, (uint32_t)(col % elems));
}

/* The input as integer products see it: quantized per 32 columns, then expanded again. */
static inline void quantize_like_cpu(const float *x, uint32_t cols, double *out)
{
    for (uint32_t g = 0; g < cols; g += 32) {
        float top = 0.0f;
        for (uint32_t i = g; i < g + 32; i++)
            top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
        const float inverse = top > 0.0f ? 127.0f / top : 0.0f, d = top / 127.0f;
        for (uint32_t i = g; i < g + 32; i++)
            out[i] = (double)d * rint((double)(x[i] * inverse));
    }
}

/* NULL when the machine lacks the instruction set (said once per test program). */
static inline struct backend *isa_backend(const char *isa, uint32_t threads, enum compute_type c)
{
    static const char *told[8];
    const struct cpu_opts o = {.n_threads = threads, .compute = c, .isa = isa};
    struct backend *be = NULL;
    struct err e = {0};
    const int rc = cpu_backend_new(&o, &be, &e);
    if (rc == 0)
        return be;
    assert_int_equal(rc, -LLMD_EUNSUPPORTED);
    for (size_t i = 0; i < ARRAY_LEN(told); i++) {
        if (told[i] && strcmp(told[i], isa) == 0)
            break;
        if (!told[i]) {
            told[i] = isa;
            print_message("not tested here: %s\n", e.msg);
            break;
        }
    }
    return NULL;
}

/* A backend ready for steps of up to max_rows rows with a KV cache for the shape. */
static inline struct backend *ready_backend(const char *isa, uint32_t threads, enum compute_type c,
                                            const struct attn_shape *shape, uint32_t max_rows,
                                            uint32_t n_kv_blocks)
{
    struct backend *be = isa_backend(isa, threads, c);
    const struct backend_limits limits = {
        .max_rows = max_rows, .max_seqs = max_rows, .max_out = max_rows};
    struct err e = {0};
    if (be)
        assert_int_equal(be->ops->reserve(be, shape, &limits, n_kv_blocks, &e), 0);
    return be;
}

/* theta^(-2i / head_dim): plain rotary frequencies, of theta 10,000. */
static inline const double *plain_inv_freq(uint32_t head_dim)
{
    static double freqs[17][128]; /* by head_dim / 16 */
    assert_true(head_dim % 16 == 0 && head_dim <= 256);
    for (uint32_t i = 0; i < head_dim / 2; i++)
        freqs[head_dim / 16][i] = pow(10000.0, -2.0 * i / head_dim);
    return freqs[head_dim / 16];
}

static inline const struct attn_shape *any_shape(void)
{
    static struct attn_shape s = {.n_layers = 1,
                                  .n_heads = 1,
                                  .n_kv_heads = 1,
                                  .head_dim = 32,
                                  .max_context = 64,
                                  .rope_scale = 1};
    s.inv_freq = plain_inv_freq(s.head_dim);
    return &s;
}

static inline struct tensor new_tensor(struct backend *be, uint32_t rows, uint32_t cols)
{
    struct tensor t;
    struct err e = {0};
    assert_int_equal(be->ops->tensor_new(be, rows, cols, &t, &e), 0);
    return t;
}

static inline struct weight *new_biased_weight(struct backend *be, enum weight_role role,
                                               const struct host_tensor *parts, uint32_t n,
                                               const struct host_tensor *biases)
{
    struct weight *w;
    struct err e = {0};
    const int rc = be->ops->weight_new(be, role, parts, n, biases, &w, &e);
    if (rc != 0)
        print_error("%s\n", e.msg);
    assert_int_equal(rc, 0);
    return w;
}

static inline struct weight *new_weight(struct backend *be, enum weight_role role,
                                        const struct host_tensor *parts, uint32_t n)
{
    return new_biased_weight(be, role, parts, n, NULL);
}

/* Begins a step of n rows that belong to one sequence from position 0 on; b is filled. */
static inline void begin_rows(struct backend *be, uint32_t n, struct batch *b)
{
    enum { MAX = 1024 };
    static uint32_t zeros[MAX], count[MAX];
    static struct batch_seq seq;
    assert_true(n <= MAX);
    for (uint32_t i = 0; i < MAX; i++)
        count[i] = i % 64;
    seq = (struct batch_seq){.n_rows = n, .block_table = zeros};
    *b = (struct batch){.n_rows = n,
                        .tokens = zeros,
                        .positions = count,
                        .slots = zeros,
                        .n_seqs = 1,
                        .seqs = &seq};
    assert_int_equal(be->ops->begin(be, b), 0);
}

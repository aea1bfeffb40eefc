/* cpu_vec_portable_int.h - cpu_vec_int.h in portable C: the meaning of each function. */
#pragma once
#include <math.h>
#include <string.h>

#include "core/util/base.h"
#include "core/util/half.h"

#define V16_PORTABLE 1

typedef struct {
    float f[16];
} v16;

typedef struct {
    int32_t i[16];
} v16i;

typedef struct {
    uint8_t b[64];
} v64;

enum {
    V16_REGISTERS = 8, /* v16 that fit the register file: kernels choose their blocking by it */
    V16_Q8_BIASED = 0, /* v16i_dot4_q8 is exact */
};

/* Sets every lane of r to the expression, in which l is the lane. */
#define V16_LANES(r, field, expr)                                                                  \
    for (uint32_t l = 0; l < 16; l++)                                                              \
    (r).field[l] = (expr)

static inline v16 v16_set1(float x)
{
    v16 r;
    V16_LANES(r, f, x);
    return r;
}

static inline v16 v16_zero(void)
{
    return v16_set1(0.0f);
}

static inline v16 v16_load(const float *p)
{
    v16 r;
    memcpy(r.f, p, sizeof(r.f));
    return r;
}

static inline void v16_store(float *p, v16 a)
{
    memcpy(p, a.f, sizeof(a.f));
}

/* The first n <= 16 lanes; the others are zero. */
static inline v16 v16_load_n(const float *p, uint32_t n)
{
    v16 r = v16_zero();
    memcpy(r.f, p, n * sizeof(*p));
    return r;
}

static inline void v16_store_n(float *p, v16 a, uint32_t n)
{
    memcpy(p, a.f, n * sizeof(*p));
}

/* Lanes from n on become fill's. */
static inline v16 v16_keep_n(v16 a, v16 fill, uint32_t n)
{
    v16 r;
    V16_LANES(r, f, l < n ? a.f[l] : fill.f[l]);
    return r;
}

static inline v16 v16_add(v16 a, v16 b)
{
    v16 r;
    V16_LANES(r, f, a.f[l] + b.f[l]);
    return r;
}

static inline v16 v16_sub(v16 a, v16 b)
{
    v16 r;
    V16_LANES(r, f, a.f[l] - b.f[l]);
    return r;
}

static inline v16 v16_mul(v16 a, v16 b)
{
    v16 r;
    V16_LANES(r, f, a.f[l] * b.f[l]);
    return r;
}

static inline v16 v16_div(v16 a, v16 b)
{
    v16 r;
    V16_LANES(r, f, a.f[l] / b.f[l]);
    return r;
}

/* a * b + c, rounded once */
static inline v16 v16_fma(v16 a, v16 b, v16 c)
{
    v16 r;
    V16_LANES(r, f, fmaf(a.f[l], b.f[l], c.f[l]));
    return r;
}

static inline v16 v16_max(v16 a, v16 b)
{
    v16 r;
    V16_LANES(r, f, a.f[l] > b.f[l] ? a.f[l] : b.f[l]);
    return r;
}

static inline v16 v16_min(v16 a, v16 b)
{
    v16 r;
    V16_LANES(r, f, a.f[l] < b.f[l] ? a.f[l] : b.f[l]);
    return r;
}

static inline v16 v16_abs(v16 a)
{
    v16 r;
    V16_LANES(r, f, fabsf(a.f[l]));
    return r;
}

static inline float v16_sum(v16 a)
{
    for (uint32_t half = 8; half > 0; half /= 2)
        for (uint32_t l = 0; l < half; l++)
            a.f[l] = a.f[l] + a.f[l + half];
    return a.f[0];
}

static inline float v16_hmax(v16 a)
{
    for (uint32_t half = 8; half > 0; half /= 2)
        for (uint32_t l = 0; l < half; l++)
            a.f[l] = a.f[l] > a.f[l + half] ? a.f[l] : a.f[l + half];
    return a.f[0];
}

/* Lanes 2i and 2i+1 change places. */
static inline v16 v16_swap_pairs(v16 a)
{
    v16 r;
    V16_LANES(r, f, a.f[l ^ 1]);
    return r;
}

/* 2^n, where n is in the low bits of t as V16_ROUND_MAGIC leaves it. */
static inline v16 v16_pow2(v16 t)
{
    v16 r;
    V16_LANES(r, f, f32_from_bits((f32_bits(t.f[l]) << 23) + 0x3f800000u));
    return r;
}

static inline v16 v16_load_f16(const uint16_t *p)
{
    v16 r;
    V16_LANES(r, f, f32_from_f16(p[l]));
    return r;
}

static inline void v16_store_f16(uint16_t *p, v16 a)
{
    for (uint32_t l = 0; l < 16; l++)
        p[l] = f16_from_f32(a.f[l]);
}

static inline v16 v16_load_bf16(const uint16_t *p)
{
    v16 r;
    V16_LANES(r, f, f32_from_bits((uint32_t)p[l] << 16));
    return r;
}

static inline v16 v16_load_u8(const uint8_t *p)
{
    v16 r;
    V16_LANES(r, f, (float)p[l]);
    return r;
}

static inline v16 v16_load_s8(const int8_t *p)
{
    v16 r;
    V16_LANES(r, f, (float)p[l]);
    return r;
}

/* The low byte of each lane's bits. */
static inline void v16_store_low_bytes(int8_t *p, v16 a)
{
    for (uint32_t l = 0; l < 16; l++) {
        uint8_t low = (uint8_t)f32_bits(a.f[l]);
        memcpy(p + l, &low, 1);
    }
}

/* Sum of 16 signed bytes. */
static inline int32_t bytes16_sum(const int8_t *p)
{
    int32_t sum = 0;
    for (uint32_t l = 0; l < 16; l++)
        sum += p[l];
    return sum;
}

static inline v16i v16i_set1(int32_t x)
{
    v16i r;
    V16_LANES(r, i, x);
    return r;
}

static inline v16 v16_from_i(v16i a)
{
    v16 r;
    V16_LANES(r, f, (float)a.i[l]);
    return r;
}

static inline v64 v64_load(const uint8_t *p)
{
    v64 r;
    memcpy(r.b, p, sizeof(r.b));
    return r;
}

static inline v64 v64_low4(v64 a)
{
    for (uint32_t k = 0; k < 64; k++)
        a.b[k] &= 0x0f;
    return a;
}

static inline v64 v64_high4(v64 a)
{
    for (uint32_t k = 0; k < 64; k++)
        a.b[k] >>= 4;
    return a;
}

/* Bits 2i and 2i+1 of each byte, as its bits 4 and 5; i < 4. */
static inline v64 v64_pair_to_4(v64 a, uint32_t i)
{
    for (uint32_t k = 0; k < 64; k++)
        a.b[k] = (uint8_t)(((a.b[k] >> (2 * i)) & 3) << 4);
    return a;
}

static inline v64 v64_or(v64 a, v64 b)
{
    for (uint32_t k = 0; k < 64; k++)
        a.b[k] |= b.b[k];
    return a;
}

/* acc + sum over the lane's four bytes of w (0..127) times a[0..3] (-127..127). */
static inline v16i v16i_dot4(v16i acc, v64 w, const int8_t *a)
{
    V16_LANES(acc, i,
              acc.i[l] + w.b[4 * l] * a[0] + w.b[4 * l + 1] * a[1] + w.b[4 * l + 2] * a[2] +
                  w.b[4 * l + 3] * a[3]);
    return acc;
}

/* The same for eight quads whose w are at most 15. */
static inline v16i v16i_dot32_nibbles(v16i acc, const v64 w[8], const int8_t *a)
{
    for (uint32_t j = 0; j < 8; j++)
        acc = v16i_dot4(acc, w[j], a + 4 * j);
    return acc;
}

/* Bytes that stand for w - 128, ready for v16i_dot4_q8. */
static inline v64 v64_load_q8(const uint8_t *p)
{
    return v64_load(p);
}

static inline v16i v16i_dot4_q8(v16i acc, v64 w, const int8_t *a)
{
    V16_LANES(acc, i,
              acc.i[l] + (w.b[4 * l] - 128) * a[0] + (w.b[4 * l + 1] - 128) * a[1] +
                  (w.b[4 * l + 2] - 128) * a[2] + (w.b[4 * l + 3] - 128) * a[3]);
    return acc;
}

static inline void v16_prefetch(const void *p)
{
    (void)p;
}

#undef V16_LANES

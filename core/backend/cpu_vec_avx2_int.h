/* cpu_vec_avx2_int.h - cpu_vec_int.h for AVX2 with FMA and F16C: each vector is two halves. */
#pragma once
#include "core/util/base.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

#include <immintrin.h>
#include <string.h>

typedef struct {
    __m256 lo, hi;
} v16;

typedef struct {
    __m256i lo, hi;
} v16i;

typedef v16i v64;

enum {
    V16_REGISTERS = 8, /* v16 that fit the register file: kernels choose their blocking by it */
    V16_Q8_BIASED = 0, /* v16i_dot4_q8 is exact */
};

static inline v16 v16_zero(void)
{
    return (v16){_mm256_setzero_ps(), _mm256_setzero_ps()};
}

static inline v16 v16_set1(float x)
{
    return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}

static inline v16 v16_load(const float *p)
{
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

static inline void v16_store(float *p, v16 a)
{
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}

/* The first n <= 16 lanes; the others are zero. */
static inline v16 v16_load_n(const float *p, uint32_t n)
{
    float t[16] = {0};
    memcpy(t, p, n * sizeof(*p));
    return v16_load(t);
}

static inline void v16_store_n(float *p, v16 a, uint32_t n)
{
    float t[16];
    v16_store(t, a);
    memcpy(p, t, n * sizeof(*p));
}

/* Lanes from n on become fill's. */
static inline v16 v16_keep_n(v16 a, v16 fill, uint32_t n)
{
    float t[16], f[16];
    v16_store(t, a);
    v16_store(f, fill);
    memcpy(f, t, n * sizeof(*f));
    return v16_load(f);
}

static inline v16 v16_add(v16 a, v16 b)
{
    return (v16){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}

static inline v16 v16_sub(v16 a, v16 b)
{
    return (v16){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}

static inline v16 v16_mul(v16 a, v16 b)
{
    return (v16){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}

static inline v16 v16_div(v16 a, v16 b)
{
    return (v16){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}

/* a * b + c, rounded once */
static inline v16 v16_fma(v16 a, v16 b, v16 c)
{
    return (v16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}

static inline v16 v16_max(v16 a, v16 b)
{
    return (v16){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}

static inline v16 v16_min(v16 a, v16 b)
{
    return (v16){_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}

static inline v16 v16_abs(v16 a)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return (v16){_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}

static inline float v16_sum(v16 a)
{
    __m256 s = _mm256_add_ps(a.lo, a.hi);
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

static inline float v16_hmax(v16 a)
{
    __m256 s = _mm256_max_ps(a.lo, a.hi);
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}

/* Lanes 2i and 2i+1 change places. */
static inline v16 v16_swap_pairs(v16 a)
{
    return (v16){_mm256_permute_ps(a.lo, 0xb1), _mm256_permute_ps(a.hi, 0xb1)};
}

static inline __m256 half_pow2(__m256 t)
{
    __m256i n = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(n, _mm256_set1_epi32(0x3f800000)));
}

/* 2^n, where n is in the low bits of t as V16_ROUND_MAGIC leaves it. */
static inline v16 v16_pow2(v16 t)
{
    return (v16){half_pow2(t.lo), half_pow2(t.hi)};
}

static inline v16 v16_load_f16(const uint16_t *p)
{
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}

static inline void v16_store_f16(uint16_t *p, v16 a)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT));
}

static inline __m256 half_load_bf16(const uint16_t *p)
{
    __m256i w = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(w, 16));
}

static inline v16 v16_load_bf16(const uint16_t *p)
{
    return (v16){half_load_bf16(p), half_load_bf16(p + 8)};
}

static inline v16 v16_load_u8(const uint8_t *p)
{
    __m128i b = _mm_loadu_si128((const __m128i *)p);
    return (v16){_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(b)),
                 _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(b, 8)))};
}

static inline v16 v16_load_s8(const int8_t *p)
{
    __m128i b = _mm_loadu_si128((const __m128i *)p);
    return (v16){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)),
                 _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(b, 8)))};
}

static inline __m128i half_low_bytes(__m256 a)
{
    const __m256i pick = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
    __m256i b = _mm256_shuffle_epi8(_mm256_castps_si256(a), pick);
    return _mm_unpacklo_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
}

/* The low byte of each lane's bits. */
static inline void v16_store_low_bytes(int8_t *p, v16 a)
{
    __m128i b = _mm_unpacklo_epi64(half_low_bytes(a.lo), half_low_bytes(a.hi));
    _mm_storeu_si128((__m128i *)p, b);
}

/* Sum of 16 signed bytes. */
static inline int32_t bytes16_sum(const int8_t *p)
{
    __m128i b = _mm_xor_si128(_mm_loadu_si128((const __m128i *)p), _mm_set1_epi8(-128));
    __m128i s = _mm_sad_epu8(b, _mm_setzero_si128());
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_unpackhi_epi64(s, s))) - 16 * 128;
}

static inline v16i v16i_set1(int32_t x)
{
    return (v16i){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}

static inline v16 v16_from_i(v16i a)
{
    return (v16){_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)};
}

static inline v64 v64_load(const uint8_t *p)
{
    return (v64){_mm256_loadu_si256((const __m256i *)p),
                 _mm256_loadu_si256((const __m256i *)(p + 32))};
}

static inline v64 v64_low4(v64 a)
{
    const __m256i m = _mm256_set1_epi8(0x0f);
    return (v64){_mm256_and_si256(a.lo, m), _mm256_and_si256(a.hi, m)};
}

static inline v64 v64_high4(v64 a)
{
    const __m256i m = _mm256_set1_epi8(0x0f);
    return (v64){_mm256_and_si256(_mm256_srli_epi16(a.lo, 4), m),
                 _mm256_and_si256(_mm256_srli_epi16(a.hi, 4), m)};
}

static inline __m256i half_pair_to_4(__m256i a, uint32_t i)
{
    __m256i s =
        i < 2 ? _mm256_slli_epi16(a, (int)(4 - 2 * i)) : _mm256_srli_epi16(a, (int)(2 * i - 4));
    return _mm256_and_si256(s, _mm256_set1_epi8(0x30));
}

/* Bits 2i and 2i+1 of each byte, as its bits 4 and 5; i < 4. */
static inline v64 v64_pair_to_4(v64 a, uint32_t i)
{
    return (v64){half_pair_to_4(a.lo, i), half_pair_to_4(a.hi, i)};
}

static inline v64 v64_or(v64 a, v64 b)
{
    return (v64){_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)};
}

static inline __m256i half_dot4(__m256i acc, __m256i w, __m256i a)
{
    __m256i pairs = _mm256_maddubs_epi16(w, a);
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* acc + sum over the lane's four bytes of w (0..127) times a[0..3] (-127..127). */
static inline v16i v16i_dot4(v16i acc, v64 w, const int8_t *a)
{
    int32_t quad;
    memcpy(&quad, a, sizeof(quad));
    const __m256i b = _mm256_set1_epi32(quad);
    return (v16i){half_dot4(acc.lo, w.lo, b), half_dot4(acc.hi, w.hi, b)};
}

/* The pairs' products of quad j. */
static ALWAYS_INLINE v16i half_pairs(v64 w, const int8_t *a)
{
    int32_t quad;
    memcpy(&quad, a, sizeof(quad));
    const __m256i b = _mm256_set1_epi32(quad);
    return (v16i){_mm256_maddubs_epi16(w.lo, b), _mm256_maddubs_epi16(w.hi, b)};
}

static ALWAYS_INLINE v16i half_add16(v16i a, v16i b)
{
    return (v16i){_mm256_add_epi16(a.lo, b.lo), _mm256_add_epi16(a.hi, b.hi)};
}

/* The same for eight quads whose w are at most 15: the sums of eight pairs, at most
 * 8 * 2 * 15 * 127, fit 16 bits. */
static ALWAYS_INLINE v16i v16i_dot32_nibbles(v16i acc, const v64 w[8], const int8_t *a)
{
    const __m256i ones = _mm256_set1_epi16(1);
    v16i p = half_add16(half_pairs(w[0], a), half_pairs(w[1], a + 4));
    p = half_add16(p, half_pairs(w[2], a + 8));
    p = half_add16(p, half_pairs(w[3], a + 12));
    p = half_add16(p, half_pairs(w[4], a + 16));
    p = half_add16(p, half_pairs(w[5], a + 20));
    p = half_add16(p, half_pairs(w[6], a + 24));
    p = half_add16(p, half_pairs(w[7], a + 28));
    return (v16i){_mm256_add_epi32(acc.lo, _mm256_madd_epi16(p.lo, ones)),
                  _mm256_add_epi32(acc.hi, _mm256_madd_epi16(p.hi, ones))};
}

/* Bytes that stand for w - 128, ready for v16i_dot4_q8. */
static inline v64 v64_load_q8(const uint8_t *p)
{
    const __m256i flip = _mm256_set1_epi8(-128);
    v64 a = v64_load(p);
    return (v64){_mm256_xor_si256(a.lo, flip), _mm256_xor_si256(a.hi, flip)};
}

/* |w| * (sign(w) a): at most 2 * 128 * 127, which fits the pairs' 16 bits. */
static inline v16i v16i_dot4_q8(v16i acc, v64 w, const int8_t *a)
{
    int32_t quad;
    memcpy(&quad, a, sizeof(quad));
    const __m256i b = _mm256_set1_epi32(quad);
    return (v16i){half_dot4(acc.lo, _mm256_abs_epi8(w.lo), _mm256_sign_epi8(b, w.lo)),
                  half_dot4(acc.hi, _mm256_abs_epi8(w.hi), _mm256_sign_epi8(b, w.hi))};
}

/* Inlined by force: gcc 12 drops calls of a function that does nothing else. */
static ALWAYS_INLINE void v16_prefetch(const void *p)
{
    _mm_prefetch((const char *)p, _MM_HINT_T0);
}

#endif

/* cpu_vec_avx512_int.h - cpu_vec_int.h for AVX-512 (F, BW, VL, DQ, VNNI). */
#pragma once
#include "core/util/base.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VNNI__)

#include <immintrin.h>
#include <string.h>

typedef __m512 v16;
typedef __m512i v16i;
typedef __m512i v64;

enum {
    V16_REGISTERS = 32, /* v16 that fit the register file: kernels choose their blocking by it */
    V16_Q8_BIASED = 1,  /* v16i_dot4_q8 counts 128 * (a[0] + ... + a[3]) too much */
};

static inline __mmask16 v16_first(uint32_t n)
{
    return (__mmask16)((1u << n) - 1);
}

static inline v16 v16_zero(void)
{
    return _mm512_setzero_ps();
}

static inline v16 v16_set1(float x)
{
    return _mm512_set1_ps(x);
}

static inline v16 v16_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

static inline void v16_store(float *p, v16 a)
{
    _mm512_storeu_ps(p, a);
}

/* The first n <= 16 lanes; the others are zero. */
static inline v16 v16_load_n(const float *p, uint32_t n)
{
    return _mm512_maskz_loadu_ps(v16_first(n), p);
}

static inline void v16_store_n(float *p, v16 a, uint32_t n)
{
    _mm512_mask_storeu_ps(p, v16_first(n), a);
}

/* Lanes from n on become fill's. */
static inline v16 v16_keep_n(v16 a, v16 fill, uint32_t n)
{
    return _mm512_mask_mov_ps(fill, v16_first(n), a);
}

static inline v16 v16_add(v16 a, v16 b)
{
    return _mm512_add_ps(a, b);
}

static inline v16 v16_sub(v16 a, v16 b)
{
    return _mm512_sub_ps(a, b);
}

static inline v16 v16_mul(v16 a, v16 b)
{
    return _mm512_mul_ps(a, b);
}

static inline v16 v16_div(v16 a, v16 b)
{
    return _mm512_div_ps(a, b);
}

/* a * b + c, rounded once */
static inline v16 v16_fma(v16 a, v16 b, v16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline v16 v16_max(v16 a, v16 b)
{
    return _mm512_max_ps(a, b);
}

static inline v16 v16_min(v16 a, v16 b)
{
    return _mm512_min_ps(a, b);
}

static inline v16 v16_abs(v16 a)
{
    return _mm512_abs_ps(a);
}

static inline float v16_sum(v16 a)
{
    __m256 s = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

static inline float v16_hmax(v16 a)
{
    __m256 s = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}

/* Lanes 2i and 2i+1 change places. */
static inline v16 v16_swap_pairs(v16 a)
{
    return _mm512_permute_ps(a, 0xb1);
}

/* 2^n, where n is in the low bits of t as V16_ROUND_MAGIC leaves it. */
static inline v16 v16_pow2(v16 t)
{
    __m512i n = _mm512_slli_epi32(_mm512_castps_si512(t), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(n, _mm512_set1_epi32(0x3f800000)));
}

static inline v16 v16_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

static inline void v16_store_f16(uint16_t *p, v16 a)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}

static inline v16 v16_load_bf16(const uint16_t *p)
{
    __m512i w = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
}

static inline v16 v16_load_u8(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

static inline v16 v16_load_s8(const int8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

/* The low byte of each lane's bits. */
static inline void v16_store_low_bytes(int8_t *p, v16 a)
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(_mm512_castps_si512(a)));
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
    return _mm512_set1_epi32(x);
}

static inline v16 v16_from_i(v16i a)
{
    return _mm512_cvtepi32_ps(a);
}

static inline v64 v64_load(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}

static inline v64 v64_low4(v64 a)
{
    return _mm512_and_si512(a, _mm512_set1_epi8(0x0f));
}

static inline v64 v64_high4(v64 a)
{
    return _mm512_and_si512(_mm512_srli_epi16(a, 4), _mm512_set1_epi8(0x0f));
}

/* Bits 2i and 2i+1 of each byte, as its bits 4 and 5; i < 4. */
static inline v64 v64_pair_to_4(v64 a, uint32_t i)
{
    __m512i s = i < 2 ? _mm512_slli_epi16(a, 4 - 2 * i) : _mm512_srli_epi16(a, 2 * i - 4);
    return _mm512_and_si512(s, _mm512_set1_epi8(0x30));
}

static inline v64 v64_or(v64 a, v64 b)
{
    return _mm512_or_si512(a, b);
}

/* acc + sum over the lane's four bytes of w (unsigned) times a[0..3] (signed, -127..127). */
static inline v16i v16i_dot4(v16i acc, v64 w, const int8_t *a)
{
    /* By hand, because gcc 12 does not fold the broadcast into the product: 15 % of a GEMM. */
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(w), "m"(*(const int32_t(*)[1])a));
    return acc;
}

/* The same for eight quads whose w are at most 15. */
static ALWAYS_INLINE v16i v16i_dot32_nibbles(v16i acc, const v64 w[8], const int8_t *a)
{
    acc = v16i_dot4(acc, w[0], a);
    acc = v16i_dot4(acc, w[1], a + 4);
    acc = v16i_dot4(acc, w[2], a + 8);
    acc = v16i_dot4(acc, w[3], a + 12);
    acc = v16i_dot4(acc, w[4], a + 16);
    acc = v16i_dot4(acc, w[5], a + 20);
    acc = v16i_dot4(acc, w[6], a + 24);
    acc = v16i_dot4(acc, w[7], a + 28);
    return acc;
}

/* Bytes that stand for w - 128, ready for v16i_dot4_q8. */
static inline v64 v64_load_q8(const uint8_t *p)
{
    return v64_load(p);
}

static inline v16i v16i_dot4_q8(v16i acc, v64 w, const int8_t *a)
{
    return v16i_dot4(acc, w, a);
}

/* Inlined by force: gcc 12 drops calls of a function that does nothing else. */
static ALWAYS_INLINE void v16_prefetch(const void *p)
{
    _mm_prefetch((const char *)p, _MM_HINT_T0);
}

#endif

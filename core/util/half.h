/* half.h - scalar conversions of half-precision formats, bit for bit those of the
 * instruction sets (round to nearest even, denormals kept, a quiet NaN stays one). */
#pragma once
#include <string.h>

#include "core/util/base.h"

static inline uint32_t f32_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof(u));
    return u;
}

static inline float f32_from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof(x));
    return x;
}

static inline float f32_from_bf16(uint16_t h)
{
    return f32_from_bits((uint32_t)h << 16);
}

static inline uint16_t bf16_from_f32(float x)
{
    const uint32_t u = f32_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

static inline float f32_from_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t exponent = (h >> 10) & 0x1fu;
    const uint32_t mantissa = h & 0x3ffu;
    if (exponent == 0) { /* zero or denormal: mantissa * 2^-24, exact */
        float x = (float)mantissa * 0x1p-24f;
        return f32_from_bits(f32_bits(x) | sign);
    }
    if (exponent == 31) /* infinity or NaN, made quiet */
        return f32_from_bits(sign | 0x7f800000u | mantissa << 13 | (mantissa ? 0x400000u : 0));
    return f32_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

static inline uint16_t f16_from_f32(float x)
{
    const uint32_t u = f32_bits(x);
    const uint32_t sign = (u >> 16) & 0x8000u;
    const uint32_t a = u & 0x7fffffffu;
    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | ((a >> 13) & 0x3ffu));
    if (a >= 0x47800000u) /* 65536 and more; 65520 to 65536 round up below */
        return (uint16_t)(sign | 0x7c00u);
    if (a < 0x38800000u) { /* a denormal: adding 0.5 leaves the rounded mantissa at the bottom */
        uint32_t d = f32_bits(f32_from_bits(a) + 0.5f) - 0x3f000000u;
        return (uint16_t)(sign | d);
    }
    uint32_t rounded = a - 0x38000000u + 0xfffu + ((a >> 13) & 1u);
    return (uint16_t)(sign | rounded >> 13);
}

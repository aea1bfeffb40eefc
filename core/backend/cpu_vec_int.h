/* cpu_vec_int.h - vectors of 16 lanes, the only machine-dependent arithmetic of the CPU kernels.
 *
 * Every kernel is written once (cpu_kern_*_int.h) over these functions and compiled once per
 * instruction set. Each function gives the same bits in every implementation, so the kernels do:
 *
 *   v16   16 floats: two registers with AVX2, one with AVX-512, an array in portable C
 *   v16i  16 int32
 *   v64   64 bytes, four adjacent ones per lane: the operand of v16i_dot4
 *
 * Exactness  +, -, *, /, sqrt and fma round once (IEEE 754). v16_max and v16_min return the
 *            second operand when either is a NaN. Sums over lanes fold in halves: 8, 4, 2, 1.
 *            The integer products never saturate (see v16i_dot4).
 * Also here  exp: range reduction by Cody and Waite with a degree-6 polynomial, about 2 ulp;
 *            the input is clamped to [-87.3, 88], NaN stays NaN.
 * Source     exp's constants: minimax of e^r on [-ln2/2, ln2/2], as in the Cephes library. */
#pragma once
#include "core/util/base.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VNNI__)
#include "core/backend/cpu_vec_avx512_int.h"
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "core/backend/cpu_vec_avx2_int.h"
#else
#include "core/backend/cpu_vec_portable_int.h"
#endif

/* Before a loop over registers: they stay registers only if the loop disappears. */
#if defined(V16_PORTABLE)
#define UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* p itself, of which the compiler knows nothing: unrolled accesses at constant distances from it
 * then stay that, where gcc 12 would keep (and spill) a pointer for each. */
static ALWAYS_INLINE const void *one_pointer(const void *p)
{
    __asm__("" : "+r"(p));
    return p;
}

/* Adding this to |x| < 2^22 rounds x to an integer (to nearest even) in the low bits. */
#define V16_ROUND_MAGIC 12582912.0f

static ALWAYS_INLINE v16 v16_exp(v16 x)
{
    x = v16_min(v16_set1(88.0f), v16_max(v16_set1(-87.3f), x));
    v16 t = v16_fma(x, v16_set1(1.44269504088896341f), v16_set1(V16_ROUND_MAGIC));
    v16 n = v16_sub(t, v16_set1(V16_ROUND_MAGIC));
    v16 r = v16_fma(n, v16_set1(-0.693359375f), x);
    r = v16_fma(n, v16_set1(2.12194440e-4f), r);
    v16 p = v16_set1(1.9875691500e-4f);
    p = v16_fma(p, r, v16_set1(1.3981999507e-3f));
    p = v16_fma(p, r, v16_set1(8.3334519073e-3f));
    p = v16_fma(p, r, v16_set1(4.1665795894e-2f));
    p = v16_fma(p, r, v16_set1(1.6666665459e-1f));
    p = v16_fma(p, r, v16_set1(5.0000001201e-1f));
    p = v16_fma(v16_mul(r, r), p, v16_add(r, v16_set1(1.0f)));
    return v16_mul(p, v16_pow2(t));
}

/* x / (1 + e^-x) */
static ALWAYS_INLINE v16 v16_silu(v16 x)
{
    v16 e = v16_exp(v16_sub(v16_zero(), x));
    return v16_div(x, v16_add(v16_set1(1.0f), e));
}

/* flavour.cuh - the two sets of instructions that kernels are compiled for, as template parameters.
 *
 * gpu_sm80: BF16, m16n8k16, cp.async. gpu_sm75: F16, m16n8k8, loads through registers. Both are
 * compiled for every device, so that the older one can be forced, and tested, on a newer device.
 *
 *   elem               type of activations, weights and the KV cache
 *   STAGES             buffers of a copy pipeline: with one, copies are not overlapped
 *   mma(d, a, b)       d[16][8] += a[16][16] b[16][8], fragments as gpu_mma_k16
 *   copy_...           16 bytes from global to shared memory, as gpu_copy_... */
#pragma once
#include "gpu/device.cuh"

struct gpu_sm80 {
    using elem = struct gpu_bf16;
    enum { STAGES = 2 };

    static GPU_FN void mma(float d[4], const uint32_t a[4], const uint32_t b[2])
    {
        gpu_mma_k16(d, a, b, elem());
    }
    static GPU_FN void copy(void *shared, const void *src, bool valid)
    {
        gpu_copy_begin(shared, src, valid);
    }
    static GPU_FN void copy_commit()
    {
        gpu_copy_commit();
    }
    template <int n> static GPU_FN void copy_wait()
    {
        gpu_copy_wait<n>();
    }
};

struct gpu_sm75 {
    using elem = struct gpu_f16;
    enum { STAGES = 1 };

    static GPU_FN void mma(float d[4], const uint32_t a[4], const uint32_t b[2])
    {
        gpu_mma_k8(d, a, b, elem());
        gpu_mma_k8(d, a + 2, b + 1, elem());
    }
    static GPU_FN void copy(void *shared, const void *src, bool valid)
    {
        struct gpu_16b v = {};
        if (valid)
            v = *static_cast<const struct gpu_16b *>(src);
        *static_cast<struct gpu_16b *>(shared) = v;
    }
    static GPU_FN void copy_commit()
    {
    }
    template <int n> static GPU_FN void copy_wait()
    {
    }
};

/* Calls fn<flavour>(...) for an enum gpu_flavour. */
#define GPU_BY_FLAVOUR(flavour, fn, ...)                                                           \
    ((flavour) == GPU_FLAVOUR_SM75 ? fn<gpu_sm75>(__VA_ARGS__) : fn<gpu_sm80>(__VA_ARGS__))

/* Two elements in a word, the first in its lower half. */
template <class E> GPU_FN uint32_t gpu_pack(float low, float high)
{
    E a, b;
    gpu_from_f32(low, &a);
    gpu_from_f32(high, &b);
    return a.bits | static_cast<uint32_t>(b.bits) << 16;
}

template <class E> GPU_FN float gpu_unpack(uint32_t word, bool high)
{
    E v;
    v.bits = static_cast<uint16_t>(high ? word >> 16 : word);
    return gpu_to_f32(v);
}

/* The sum over a warp, the same in every lane. */
GPU_FN float gpu_warp_sum(float v)
{
#pragma unroll
    for (uint32_t lanes = 16; lanes > 0; lanes /= 2)
        v += gpu_shfl_xor(v, lanes);
    return v;
}

GPU_FN float gpu_silu(float x)
{
    const float log2_e = 1.44269504f;
    return x / (1.0f + gpu_exp2(-x * log2_e));
}

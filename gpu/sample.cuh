/* sample.cuh - the sampler's arithmetic on a device, bit for bit core/engine/sampler_math.c's: random
 * numbers, exponentials, the order of logits. */
#pragma once
#include "gpu/device.cuh"
#include <math.h>

#include "gpu/kernels.h"

enum { SAMPLE_THREADS = 512, SAMPLE_WARPS = SAMPLE_THREADS / 32 };

static GPU_FN uint32_t sample_blocks(uint32_t vocab)
{
    return (vocab + GPU_SAMPLE_BLOCK - 1) / GPU_SAMPLE_BLOCK;
}

/* Philox4x32-10 (Salmon et al., SC11): the draw's number, uniform in [0, 1). */
static GPU_FN double sample_uniform(const struct gpu_sample_row &r)
{
    uint32_t k0 = r.seed[0], k1 = r.seed[1];
    uint32_t c0 = r.n_generated, c1 = r.choice, c2 = 0, c3 = 0;
    for (uint32_t round = 0; round < 10; round++) {
        const uint64_t p0 = uint64_t{0xd2511f53u} * c0;
        const uint64_t p1 = uint64_t{0xcd9e8d57u} * c2;
        c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
        c1 = static_cast<uint32_t>(p1);
        c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
        c3 = static_cast<uint32_t>(p0);
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    return static_cast<double>((static_cast<uint64_t>(c0 >> 5) << 26) + (c1 >> 6)) *
           (1.0 / 9007199254740992.0); /* 2^-53 */
}

/* e^((logit - max) inv_temperature): 0 far below the maximum and for NaN. */
static GPU_FN float sample_weight(float logit, float max, float inv_temperature)
{
    const float shifter = 12582912.0f; /* 1.5 2^23 */
    const float x = gpu_mul(gpu_add(logit, -max), inv_temperature);
    const float t = gpu_add(gpu_mul(x, gpu_from_bits(0x3fb8aa3b)), shifter);
    const float n = gpu_add(t, -shifter);
    const float r = gpu_add(gpu_add(x, -gpu_mul(n, gpu_from_bits(0x3f317200))),
                            -gpu_mul(n, gpu_from_bits(0x35bfbe8e)));
    float p = gpu_add(gpu_mul(r, gpu_from_bits(0x3ab511e7)), gpu_from_bits(0x3c091d10));
    p = gpu_add(gpu_mul(p, r), gpu_from_bits(0x3d2aac79));
    p = gpu_add(gpu_mul(p, r), gpu_from_bits(0x3e2aaa49));
    p = gpu_add(gpu_mul(p, r), gpu_from_bits(0x3efffffe));
    p = gpu_add(gpu_mul(p, r), 1.0f);
    p = gpu_add(gpu_mul(p, r), 1.0f);
    return x >= -87.0f ? gpu_mul(p, gpu_from_bits((gpu_bits(t) + 127) << 23)) : 0.0f;
}

/* Better logits have smaller keys; both zeros have the same. Not for NaN. */
static GPU_FN uint32_t sample_key(float logit)
{
    const uint32_t bits = gpu_bits(gpu_add(logit, 0.0f));
    return bits & 0x80000000u ? bits : ~bits & 0x7fffffffu;
}

/* A row's mask, NULL: none. */
static GPU_FN const uint32_t *sample_mask(const struct gpu_sample &a,
                                          const struct gpu_sample_row &r)
{
    return r.first_mask == GPU_NO_MASK ? nullptr : a.masks + r.first_mask;
}

static GPU_FN bool sample_allows(const uint32_t *mask, uint32_t id)
{
    return !mask || (mask[id / 32] >> id % 32 & 1u) != 0;
}

/* -inf for what the mask does not allow. */
static GPU_FN float sample_logit(const float *logits, const uint32_t *mask, uint32_t id)
{
    return sample_allows(mask, id) ? logits[id] : -INFINITY;
}

static GPU_FN float sample_max(float a, float b)
{
    return b > a ? b : a; /* NaN is never the larger one */
}

static GPU_FN float sample_warp_max(float v)
{
#pragma unroll
    for (uint32_t lanes = 16; lanes > 0; lanes /= 2)
        v = sample_max(v, gpu_shfl_xor(v, lanes));
    return v;
}

/* The maximum over a block of SAMPLE_THREADS, the same in each; v is no NaN. */
static GPU_FN float sample_block_max(float v)
{
    GPU_SHARED(float, maxima, SAMPLE_WARPS);
    v = sample_warp_max(v);
    gpu_sync_block(); /* those of the last call are read */
    if (gpu_lane() == 0)
        maxima[gpu_warp()] = v;
    gpu_sync_block();
    return sample_warp_max(maxima[gpu_lane() % SAMPLE_WARPS]);
}

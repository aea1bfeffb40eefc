/* linear.cuh - what the kernels of products share: where a weight's rows go.
 *
 * Rows of a weight are taken in sixteens, and in pairs (i, i + 8) of a sixteen: with gate_up such a
 * pair is the gate and the up of one output, else two outputs. */
#pragma once
#include "gpu/flavour.cuh"
#include "gpu/kernels.h"

static GPU_FN uint32_t linear_w_rows(const struct gpu_linear &a)
{
    return ((a.n_out * (a.gate_up ? 2 : 1)) + GPU_ROWS - 1) / GPU_ROWS * GPU_ROWS;
}

/* Stores the sums of a pair of weight rows (w_row % 16 < 8, and w_row + 8) for one row of input. */
template <class E>
static GPU_FN void linear_store(const struct gpu_linear &a, uint32_t row, uint32_t w_row,
                                float first, float second)
{
    const size_t at = static_cast<size_t>(row) * a.out_stride;
    if (a.gate_up) {
        const uint32_t i = w_row / 16 * 8 + w_row % 16;
        if (i < a.n_out)
            gpu_from_f32(gpu_silu(first) * second, static_cast<E *>(a.out) + at + i);
        return;
    }
    float *out = static_cast<float *>(a.out) + at;
    if (w_row < a.n_out)
        out[w_row] = a.bias ? first + a.bias[w_row] : first;
    if (w_row + 8 < a.n_out)
        out[w_row + 8] = a.bias ? second + a.bias[w_row + 8] : second;
}

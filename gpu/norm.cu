/* norm.cu - rows: look-up in the embedding, residual and RMS norm in one pass; gathering of rows.
 *
 * One block per row, which it keeps in shared memory: the input is read once, and the output may
 * lie where the input lay. Sums run over the row in a fixed order. */
#include "gpu/fed.cuh"
#include "gpu/flavour.cuh"
#include "gpu/kernels.h"

enum { NORM_THREADS = 256 };

/* The sum over all threads, the same in each. */
static GPU_FN float block_sum(float v)
{
    GPU_SHARED(float, sums, NORM_THREADS / 32);
    v = gpu_warp_sum(v);
    if (gpu_lane() == 0)
        sums[gpu_warp()] = v;
    gpu_sync_block();
    v = 0;
    for (uint32_t i = 0; i < NORM_THREADS / 32; i++)
        v += sums[i];
    return v;
}

template <class E>
static GPU_FN float norm_input(const struct gpu_norm &a, uint32_t row, uint32_t i)
{
    float *x = a.x + static_cast<size_t>(row) * a.cols + i;
    if (a.table) {
        const E *from = static_cast<const E *>(a.table);
        const uint32_t token = gpu_fed_token(a.tokens, a.sampled, row);
        *x = gpu_to_f32(from[static_cast<size_t>(token) * a.padded + i]);
    } else if (a.residual) {
        *x += a.residual[static_cast<size_t>(row) * a.cols + i];
    }
    return *x;
}

template <class F> GPU_KERNEL(NORM_THREADS) static void norm_kernel(struct gpu_norm a)
{
    gpu_await_previous();
    using E = typename F::elem;
    float *kept = reinterpret_cast<float *>(gpu_dynamic_shared());
    const uint32_t row = gpu_block().x;
    float squares = 0;
    for (uint32_t i = gpu_thread(); i < a.cols; i += NORM_THREADS) {
        const float v = norm_input<E>(a, row, i);
        kept[i] = v;
        squares += v * v;
    }
    const float scale = gpu_rsqrt(block_sum(squares) / static_cast<float>(a.cols) + a.eps);
    E *out = static_cast<E *>(a.out) + static_cast<size_t>(row) * a.out_stride;
    for (uint32_t i = gpu_thread(); i < a.padded; i += NORM_THREADS)
        gpu_from_f32(i < a.cols ? kept[i] * scale * a.w[i] : 0.0f, &out[i]);
}

template <class F> static int launch_norm(struct gpu_stream *s, const struct gpu_norm *a)
{
    return gpu_chain(s, "rms_norm", {a->n_rows, 1, 1}, NORM_THREADS, a->cols * sizeof(float),
                     norm_kernel<F>, *a);
}

int gpu_rms_norm(struct gpu_stream *s, enum gpu_flavour f, const struct gpu_norm *a)
{
    return GPU_BY_FLAVOUR(f, launch_norm, s, a);
}

GPU_KERNEL(NORM_THREADS) static void gather_kernel(struct gpu_gather a)
{
    gpu_await_previous();
    const float *in = a.in + static_cast<size_t>(a.rows[gpu_block().x]) * a.cols;
    float *out = a.out + static_cast<size_t>(gpu_block().x) * a.cols;
    for (uint32_t i = gpu_thread(); i < a.cols; i += NORM_THREADS)
        out[i] = in[i];
}

int gpu_gather_rows(struct gpu_stream *s, const struct gpu_gather *a)
{
    return gpu_chain(s, "gather", {a->n, 1, 1}, NORM_THREADS, 0, gather_kernel, *a);
}

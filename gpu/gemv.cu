/* gemv.cu - products of one or two rows: a warp per pair of weight rows, every weight loaded once,
 * eight loads of 16 bytes under way in each thread. Sums in F32, lane by lane, then over the warp. */
#include "gpu/linear.cuh"

enum {
    GEMV_THREADS = 128,
    GEMV_WARPS = GEMV_THREADS / 32,
    AHEAD = 4,     /* steps whose loads are issued together */
    STEP = 32 * 8, /* columns that a warp takes in a step */
};

/* sum += w . x over eight columns. */
template <class E>
static GPU_FN float dot8(const struct gpu_16b &w, const struct gpu_16b &x, float sum)
{
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        sum += gpu_unpack<E>(w.w[i], false) * gpu_unpack<E>(x.w[i], false);
        sum += gpu_unpack<E>(w.w[i], true) * gpu_unpack<E>(x.w[i], true);
    }
    return sum;
}

/* Sixteen bytes of a pair of weight rows in each of AHEAD steps. */
struct gemv_weights {
    struct gpu_16b first[AHEAD], second[AHEAD];
};

template <class E>
static GPU_FN void gemv_load(const struct gpu_linear &a, const E *w, uint32_t k,
                             struct gemv_weights *out)
{
#pragma unroll
    for (uint32_t j = 0; j < AHEAD; j++)
        if (k + j * STEP < a.k) {
            out->first[j] = gpu_load_once(w + k + j * STEP);
            out->second[j] = gpu_load_once(w + static_cast<size_t>(8) * a.k + k + j * STEP);
        }
}

/* The first weights are on their way before the kernel that makes the input has ended. */
template <class F, int M> GPU_KERNEL(GEMV_THREADS) static void gemv_kernel(struct gpu_linear a)
{
    using E = typename F::elem;
    const uint32_t pair = gpu_block().x * GEMV_WARPS + gpu_warp();
    const uint32_t w_row = pair / 8 * 16 + pair % 8;
    const bool mine = w_row < linear_w_rows(a);
    const E *w = static_cast<const E *>(a.w) + static_cast<size_t>(mine ? w_row : 0) * a.k;
    const E *x = static_cast<const E *>(a.in);
    uint32_t k = gpu_lane() * 8;
    struct gemv_weights v;
    gemv_load<E>(a, w, k, &v);
    gpu_await_previous();
    if (!mine)
        return;
    float sums[M][2] = {};
    while (k < a.k) {
#pragma unroll
        for (uint32_t j = 0; j < AHEAD; j++)
            if (k + j * STEP < a.k) {
#pragma unroll
                for (int m = 0; m < M; m++) {
                    const struct gpu_16b xv = *reinterpret_cast<const struct gpu_16b *>(
                        x + static_cast<size_t>(m) * a.in_stride + k + j * STEP);
                    sums[m][0] = dot8<E>(v.first[j], xv, sums[m][0]);
                    sums[m][1] = dot8<E>(v.second[j], xv, sums[m][1]);
                }
            }
        k += AHEAD * STEP;
        gemv_load<E>(a, w, k, &v);
    }
#pragma unroll
    for (int m = 0; m < M; m++) {
        const float first = gpu_warp_sum(sums[m][0]), second = gpu_warp_sum(sums[m][1]);
        if (gpu_lane() == 0)
            linear_store<E>(a, static_cast<uint32_t>(m), w_row, first, second);
    }
}

template <class F> static int launch_gemv(struct gpu_stream *s, const struct gpu_linear *a)
{
    const uint32_t w_rows = a->n_out * (a->gate_up ? 2 : 1);
    const uint32_t pairs = (w_rows + GPU_ROWS - 1) / GPU_ROWS * (GPU_ROWS / 2);
    const struct gpu_dim grid = {(pairs + GEMV_WARPS - 1) / GEMV_WARPS, 1, 1};
    if (a->n_rows == 1)
        return gpu_chain(s, "gemv", grid, GEMV_THREADS, 0, gemv_kernel<F, 1>, *a);
    return gpu_chain(s, "gemv2", grid, GEMV_THREADS, 0, gemv_kernel<F, 2>, *a);
}

int gpu_linear_gemv(struct gpu_stream *s, enum gpu_flavour f, const struct gpu_linear *a)
{
    return GPU_BY_FLAVOUR(f, launch_gemv, s, a);
}

/* silu.cu - SiLU · mul of gate and up that another product has left in memory (gpu/blas.h). A thread
 * has eight outputs: eight of the gate and the same eight of up lie side by side. */
#include "gpu/flavour.cuh"
#include "gpu/kernels.h"

enum { SILU_THREADS = 128 };

template <class F> GPU_KERNEL(SILU_THREADS) static void silu_kernel(struct gpu_pairs a)
{
    gpu_await_previous();
    using E = typename F::elem;
    const uint32_t eight = gpu_block().y * SILU_THREADS + gpu_thread();
    const size_t row = gpu_block().x;
    if (eight * 8 >= a.n)
        return;
    const auto *in =
        static_cast<const struct gpu_16b *>(a.in) + (row * a.in_stride + eight * 16) / 8;
    const struct gpu_16b gate = in[0], up = in[1];
    struct gpu_16b out;
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        const float low = gpu_silu(gpu_unpack<E>(gate.w[i], false)) * gpu_unpack<E>(up.w[i], false);
        const float high = gpu_silu(gpu_unpack<E>(gate.w[i], true)) * gpu_unpack<E>(up.w[i], true);
        out.w[i] = gpu_pack<E>(low, high);
    }
    static_cast<struct gpu_16b *>(a.out)[(row * a.out_stride + eight * 8) / 8] = out;
}

template <class F> static int launch_silu(struct gpu_stream *s, const struct gpu_pairs *a)
{
    const uint32_t eights = (a->n + 7) / 8;
    return gpu_chain(s, "silu", {a->n_rows, (eights + SILU_THREADS - 1) / SILU_THREADS, 1},
                     SILU_THREADS, 0, silu_kernel<F>, *a);
}

int gpu_silu_pairs(struct gpu_stream *s, enum gpu_flavour f, const struct gpu_pairs *a)
{
    return GPU_BY_FLAVOUR(f, launch_silu, s, a);
}

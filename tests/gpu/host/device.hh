/* device.hh - gpu/device.cuh for the host: the same names, carried out by stand_in.hh. Included by
 * device.cuh alone. */
#pragma once
#include <math.h>
#include <string.h>

#include "core/util/half.h"
#include "tests/gpu/host/stand_in.hh"
#include "tests/gpu/host/warp_ops.hh"

#define GPU_KERNEL(threads)
#define GPU_KERNEL_ALONE(threads)
#define GPU_KERNEL_PAIR(threads)
#define GPU_FN inline __attribute__((unused))
#define GPU_SHARED(type, name, count)                                                              \
    static const char name##_key = 0;                                                              \
    type *const name = static_cast<type *>(stand_in::shared(&name##_key, sizeof(type) * (count),   \
                                                            alignof(type), {__FILE__, __LINE__}))

/* The caller's place, as a default argument. */
#define GPU_HERE const char *file = __builtin_FILE(), unsigned line = __builtin_LINE()

GPU_FN uint32_t gpu_thread()
{
    return stand_in::thread_index();
}
GPU_FN uint32_t gpu_lane()
{
    return stand_in::thread_index() % 32;
}
GPU_FN uint32_t gpu_warp()
{
    return stand_in::thread_index() / 32;
}
GPU_FN uint32_t gpu_n_threads()
{
    return stand_in::n_threads();
}
GPU_FN struct gpu_dim gpu_block()
{
    return stand_in::block_index();
}
GPU_FN struct gpu_dim gpu_grid()
{
    return stand_in::grid_size();
}

GPU_FN uint8_t *gpu_dynamic_shared()
{
    return stand_in::dynamic_shared();
}
GPU_FN void gpu_await_previous()
{
    stand_in::await_previous();
}
GPU_FN void gpu_sync_block(GPU_HERE)
{
    stand_in::sync_block({file, line});
}
GPU_FN void gpu_sync_warp(GPU_HERE)
{
    stand_in::collective("gpu_sync_warp", stand_in::op_none, nullptr, 0, nullptr, 0, {file, line});
}
GPU_FN void gpu_fence()
{
}
GPU_FN uint32_t gpu_atomic_add(uint32_t *p, uint32_t v)
{
    const uint32_t before = *p;
    *p = before + v;
    return before;
}
GPU_FN float gpu_atomic_add(float *p, float v)
{
    const float before = *p;
    *p = before + v;
    return before;
}
GPU_FN uint32_t gpu_atomic_min(uint32_t *p, uint32_t v)
{
    const uint32_t before = *p;
    *p = v < before ? v : before;
    return before;
}

GPU_FN float gpu_shuffle(const char *what, float v, uint32_t from, struct stand_in::site at)
{
    const struct stand_in::shuffle_in in = {f32_bits(v), from};
    uint32_t out;
    stand_in::collective(what, stand_in::op_shuffle, &in, sizeof(in), &out, sizeof(out), at);
    return f32_from_bits(out);
}
GPU_FN float gpu_shfl_xor(float v, uint32_t lanes, GPU_HERE)
{
    return gpu_shuffle("gpu_shfl_xor", v, gpu_lane() ^ lanes, {file, line});
}
GPU_FN float gpu_shfl(float v, uint32_t lane, GPU_HERE)
{
    return gpu_shuffle("gpu_shfl", v, lane, {file, line});
}
GPU_FN uint32_t gpu_ballot(bool c, GPU_HERE)
{
    const uint32_t in = c;
    uint32_t out;
    stand_in::collective("gpu_ballot", stand_in::op_ballot, &in, sizeof(in), &out, sizeof(out),
                         {file, line});
    return out;
}

GPU_FN float gpu_rsqrt(float x)
{
    return 1.0f / sqrtf(x);
}
GPU_FN float gpu_add(float x, float y)
{
    return x + y;
}
GPU_FN float gpu_mul(float x, float y)
{
    return x * y;
}
GPU_FN uint32_t gpu_bits(float x)
{
    return f32_bits(x);
}
GPU_FN float gpu_from_bits(uint32_t x)
{
    return f32_from_bits(x);
}
GPU_FN float gpu_log(float x)
{
    return logf(x);
}
GPU_FN float gpu_exp2(float x)
{
    return exp2f(x);
}
GPU_FN float gpu_to_f32(struct gpu_bf16 x)
{
    return f32_from_bf16(x.bits);
}
GPU_FN float gpu_to_f32(struct gpu_f16 x)
{
    return f32_from_f16(x.bits);
}
GPU_FN void gpu_from_f32(float x, struct gpu_bf16 *out)
{
    out->bits = bf16_from_f32(x);
}
GPU_FN void gpu_from_f32(float x, struct gpu_f16 *out)
{
    out->bits = f16_from_f32(fminf(fmaxf(x, -65504.0f), 65504.0f));
}

GPU_FN struct gpu_16b gpu_load_once(const void *p, GPU_HERE)
{
    struct gpu_16b v;
    if (reinterpret_cast<uintptr_t>(p) % sizeof(v) != 0)
        stand_in::fault({file, line}, "gpu_load_once of %p, no multiple of 16", p);
    memcpy(&v, p, sizeof(v));
    return v;
}
GPU_FN float gpu_load_fresh(const float *p)
{
    return *p;
}
GPU_FN void gpu_copy_begin(void *shared, const void *src, bool valid, GPU_HERE)
{
    stand_in::copy_begin(shared, src, valid, {file, line});
}
GPU_FN void gpu_copy_commit()
{
    stand_in::copy_commit();
}
template <int n> GPU_FN void gpu_copy_wait()
{
    stand_in::copy_wait(n);
}

GPU_FN void gpu_ldmatrix(const char *what, stand_in::warp_op *op, uint32_t out[4], const void *row,
                         struct stand_in::site at)
{
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0)
        stand_in::fault(at, "%s of %p, no multiple of 16", what, row);
    stand_in::collective(what, op, &row, sizeof(row), out, 4 * sizeof(out[0]), at);
}
GPU_FN void gpu_ldmatrix_x4(uint32_t out[4], const void *row, GPU_HERE)
{
    gpu_ldmatrix("gpu_ldmatrix_x4", stand_in::op_ldmatrix_x4, out, row, {file, line});
}
GPU_FN void gpu_ldmatrix_x4_trans(uint32_t out[4], const void *row, GPU_HERE)
{
    gpu_ldmatrix("gpu_ldmatrix_x4_trans", stand_in::op_ldmatrix_x4_trans, out, row, {file, line});
}

GPU_FN void gpu_mma(const char *what, stand_in::warp_op *op, float d[4],
                    const struct stand_in::matrix_in *in, struct stand_in::site at)
{
    stand_in::collective(what, op, in, sizeof(*in), d, 4 * sizeof(d[0]), at);
}
GPU_FN void gpu_mma_k16(float d[4], const uint32_t a[4], const uint32_t b[2], struct gpu_bf16,
                        GPU_HERE)
{
    const struct stand_in::matrix_in in = {
        {d[0], d[1], d[2], d[3]}, {a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    gpu_mma("gpu_mma_k16", stand_in::op_mma_k16_bf16, d, &in, {file, line});
}
GPU_FN void gpu_mma_k16(float d[4], const uint32_t a[4], const uint32_t b[2], struct gpu_f16,
                        GPU_HERE)
{
    const struct stand_in::matrix_in in = {
        {d[0], d[1], d[2], d[3]}, {a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    gpu_mma("gpu_mma_k16", stand_in::op_mma_k16_f16, d, &in, {file, line});
}
GPU_FN void gpu_mma_k8(float d[4], const uint32_t a[2], const uint32_t b[1], struct gpu_f16,
                       GPU_HERE)
{
    const struct stand_in::matrix_in in = {{d[0], d[1], d[2], d[3]}, {a[0], a[1], 0, 0}, {b[0], 0}};
    gpu_mma("gpu_mma_k8", stand_in::op_mma_k8_f16, d, &in, {file, line});
}

template <class T> struct gpu_same {
    using type = T;
};

/* Puts the kernel onto the stream: it runs when somebody waits. */
void stand_in_enqueue(struct gpu_stream *s, const char *name, struct gpu_dim grid, uint32_t block,
                      size_t shared_bytes, std::function<void()> body);
int stand_in_state(struct gpu_stream *s);

template <class... P>
int gpu_launch(struct gpu_stream *s, const char *name, struct gpu_dim grid, uint32_t block,
               size_t shared_bytes, void (*kernel)(P...), typename gpu_same<P>::type... args)
{
    stand_in_enqueue(s, name, grid, block, shared_bytes, [=] { kernel(args...); });
    return stand_in_state(s);
}

/* As gpu_launch; a thread that ends without gpu_await_previous() is a fault. */
template <class... P>
int gpu_chain(struct gpu_stream *s, const char *name, struct gpu_dim grid, uint32_t block,
              size_t shared_bytes, void (*kernel)(P...), typename gpu_same<P>::type... args)
{
    stand_in_enqueue(s, name, grid, block, shared_bytes, [=] {
        kernel(args...);
        stand_in::check_awaited();
    });
    return stand_in_state(s);
}

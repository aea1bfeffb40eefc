/* device.cuh - everything that kernels use of the hardware, and how they are declared and launched.
 *
 * This header is the only place with `asm` and CUDA's built-in names (tests/lint/asm.sh holds that).
 * It has two implementations: this one for nvcc, and tests/gpu/host/device.hh, which runs the same
 * kernels on the host; a build for the latter defines GPU_STAND_IN to the name of that header.
 *
 *   GPU_KERNEL(threads) void name(struct args a)   a kernel of at most so many threads per block
 *   GPU_KERNEL_ALONE(threads)                      one that may take the registers of a whole processor
 *   GPU_KERNEL_PAIR(threads)                       one of which two blocks share a processor
 *   GPU_FN                                         a function of kernels
 *   GPU_SHARED(type, name, count)                  an array of the block's shared memory
 *   gpu_launch(stream, "name", grid, block, shared_bytes, kernel, args...)
 *   gpu_chain(...)                                 the same, but the kernel may begin before the one
 *                                                  in front of it has ended (sm_90 on)
 *
 * Collectives (shuffles, votes, ldmatrix, mma, gpu_sync_warp) are executed by all 32 threads of a
 * warp together. Blocks have whole warps.
 *
 * Elements  struct gpu_bf16 and gpu_f16 hold the bits of a value; arithmetic is done in float.
 * Older devices  sm_75 has no bf16 products, no m16n8k16 and no cp.async: kernels for it take
 *   struct gpu_sm75 instead of struct gpu_sm80 as their template parameter (gpu/flavour.cuh); what
 *   one of them cannot execute on a device traps there. */
#ifndef LLMD_GPU_DEVICE_CUH
#define LLMD_GPU_DEVICE_CUH
#include "gpu/runtime.h"

struct gpu_bf16 {
    uint16_t bits;
};

struct gpu_f16 {
    uint16_t bits;
};

/* Sixteen bytes that are loaded and stored at once; addresses are multiples of 16. */
struct alignas(16) gpu_16b {
    uint32_t w[4];
};

struct gpu_dim {
    uint32_t x, y, z;
};

#ifdef GPU_STAND_IN
#include GPU_STAND_IN
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define GPU_KERNEL(threads)           __global__ __launch_bounds__(threads)
#define GPU_KERNEL_ALONE(threads)     __global__ __launch_bounds__(threads, 1)
#define GPU_KERNEL_PAIR(threads)      __global__ __launch_bounds__(threads, 2)
#define GPU_FN                        __device__ __forceinline__
#define GPU_SHARED(type, name, count) __shared__ type name[count]

/* --- where a thread is --- */

GPU_FN uint32_t gpu_thread()
{
    return threadIdx.x;
}
GPU_FN uint32_t gpu_lane()
{
    return threadIdx.x % 32;
}
GPU_FN uint32_t gpu_warp()
{
    return threadIdx.x / 32;
}
GPU_FN uint32_t gpu_n_threads()
{
    return blockDim.x;
}
GPU_FN struct gpu_dim gpu_block()
{
    return {blockIdx.x, blockIdx.y, blockIdx.z};
}
GPU_FN struct gpu_dim gpu_grid()
{
    return {gridDim.x, gridDim.y, gridDim.z};
}

/* --- shared memory, barriers, atomics --- */

/* The launch's shared_bytes, 16-byte aligned. */
GPU_FN uint8_t *gpu_dynamic_shared()
{
    extern __shared__ struct gpu_16b gpu_dynamic_bytes[];
    return reinterpret_cast<uint8_t *>(gpu_dynamic_bytes);
}

/* In a kernel that is launched by gpu_chain(), every thread calls this before it reads or writes what
 * other kernels touch, and before it ends: what was enqueued before has then run. What no kernel ever
 * writes, weights, may be read ahead of it. */
GPU_FN void gpu_await_previous()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;\n\tgriddepcontrol.launch_dependents;" : : : "memory");
#endif
}
/* Every thread of the block gets here; what they wrote before is seen after. */
GPU_FN void gpu_sync_block()
{
    __syncthreads();
}
GPU_FN void gpu_sync_warp()
{
    __syncwarp();
}
/* What this thread wrote to global memory is seen by other blocks before what it writes next. */
GPU_FN void gpu_fence()
{
    __threadfence();
}
/* These return the value before. */
GPU_FN uint32_t gpu_atomic_add(uint32_t *p, uint32_t v)
{
    return atomicAdd(p, v);
}
GPU_FN float gpu_atomic_add(float *p, float v)
{
    return atomicAdd(p, v);
}
GPU_FN uint32_t gpu_atomic_min(uint32_t *p, uint32_t v)
{
    return atomicMin(p, v);
}

/* --- the warp --- */

GPU_FN float gpu_shfl_xor(float v, uint32_t lanes)
{
    return __shfl_xor_sync(0xffffffffu, v, static_cast<int>(lanes));
}
GPU_FN float gpu_shfl(float v, uint32_t lane)
{
    return __shfl_sync(0xffffffffu, v, static_cast<int>(lane));
}
/* Bit i: the condition of lane i. */
GPU_FN uint32_t gpu_ballot(bool c)
{
    return __ballot_sync(0xffffffffu, c);
}

/* --- arithmetic --- */

GPU_FN float gpu_rsqrt(float x)
{
    return rsqrtf(x);
}
/* Rounded each by itself: never fused into one operation with another. */
GPU_FN float gpu_add(float x, float y)
{
    return __fadd_rn(x, y);
}
GPU_FN float gpu_mul(float x, float y)
{
    return __fmul_rn(x, y);
}
GPU_FN uint32_t gpu_bits(float x)
{
    return __float_as_uint(x);
}
GPU_FN float gpu_from_bits(uint32_t x)
{
    return __uint_as_float(x);
}
/* The natural logarithm. */
GPU_FN float gpu_log(float x)
{
    return logf(x);
}
/* 2^x; -inf gives 0. */
GPU_FN float gpu_exp2(float x)
{
    return exp2f(x);
}
GPU_FN float gpu_to_f32(struct gpu_bf16 x)
{
    return __uint_as_float(static_cast<uint32_t>(x.bits) << 16);
}
GPU_FN float gpu_to_f32(struct gpu_f16 x)
{
    return __half2float(__ushort_as_half(x.bits));
}
/* Rounds to nearest even. F16: beyond the largest finite value it becomes that value, for keys and
 * values must stay numbers. */
GPU_FN void gpu_from_f32(float x, struct gpu_bf16 *out)
{
    out->bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
}
GPU_FN void gpu_from_f32(float x, struct gpu_f16 *out)
{
    out->bits = __half_as_ushort(__float2half_rn(fminf(fmaxf(x, -65504.0f), 65504.0f)));
}

/* --- memory --- */

/* A load that bypasses the first-level cache: data that is read once, and by no kernel written. */
GPU_FN struct gpu_16b gpu_load_once(const void *p)
{
    struct gpu_16b v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3])
                 : "l"(p));
    return v;
}

/* A load that sees what other blocks wrote before they passed a gpu_fence(). */
GPU_FN float gpu_load_fresh(const float *p)
{
    return __ldcg(p);
}

GPU_FN uint32_t gpu_shared_address(const void *p)
{
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

/* Begins to copy 16 bytes from global to shared memory; zeros when not valid (src is not read).
 * They are there for this thread after gpu_copy_wait, for others after a barrier besides. */
GPU_FN void gpu_copy_begin(void *shared, const void *src, bool valid)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(gpu_shared_address(shared)), "l"(src), "r"(valid ? 16 : 0)
                 : "memory");
#else
    (void)shared, (void)src, (void)valid;
    __trap();
#endif
}
/* Closes a group of copies. */
GPU_FN void gpu_copy_commit()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" : : : "memory");
#else
    __trap();
#endif
}
/* Waits for all groups but the latest n. */
template <int n> GPU_FN void gpu_copy_wait()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" : : "n"(n) : "memory");
#else
    __trap();
#endif
}

/* Four 8x8 matrices of 16-bit elements from shared memory. Lane i gives the address of row i % 8 of
 * matrix i / 8; lane i receives of each matrix row i / 4, elements 2 (i % 4) and the next. */
GPU_FN void gpu_ldmatrix_x4(uint32_t out[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(gpu_shared_address(row))
                 : "memory");
}
/* As gpu_ldmatrix_x4, each matrix transposed: lane i receives column i / 4, rows 2 (i % 4)... */
GPU_FN void gpu_ldmatrix_x4_trans(uint32_t out[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(gpu_shared_address(row))
                 : "memory");
}

/* --- products: d[16][8] += a[16][k] b[k][8], sums in F32 ---
 *
 * With g = lane / 4, t = lane % 4 (PTX ISA, "Matrix Fragments for mma"):
 *   d[0], d[1]  row g, columns 2t, 2t + 1      d[2], d[3]  row g + 8
 *   a[0] row g, k 2t, 2t + 1    a[1] row g + 8    a[2] row g, k 2t + 8...    a[3] row g + 8
 *   b[0] k 2t, 2t + 1, column g                   b[1] k 2t + 8, 2t + 9
 * The lower half of a word is the element of lower k. The k8 form has a[0], a[1], b[0] only. */

GPU_FN void gpu_mma_k16(float d[4], const uint32_t a[4], const uint32_t b[2], struct gpu_bf16)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    (void)d, (void)a, (void)b;
    __trap();
#endif
}
GPU_FN void gpu_mma_k16(float d[4], const uint32_t a[4], const uint32_t b[2], struct gpu_f16)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    (void)d, (void)a, (void)b;
    __trap();
#endif
}
GPU_FN void gpu_mma_k8(float d[4], const uint32_t a[2], const uint32_t b[1], struct gpu_f16)
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}

/* --- launches --- */

template <class T> struct gpu_same {
    using type = T;
};

template <class... P>
int gpu_launch_as(bool early, struct gpu_stream *s, const char *name, struct gpu_dim grid,
                  uint32_t block, size_t shared_bytes, void (*kernel)(P...),
                  typename gpu_same<P>::type... args)
{
    enum { SHARED_UNASKED = 48 * 1024 };
    cudaError_t rc = cudaSuccess;
    if (shared_bytes > SHARED_UNASKED)
        rc = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(shared_bytes));
    cudaLaunchAttribute before_end = {};
    before_end.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    before_end.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(grid.x, grid.y, grid.z);
    config.blockDim = dim3(block);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = static_cast<cudaStream_t>(gpu_stream_handle(s));
    config.attrs = &before_end;
    config.numAttrs = early && gpu_stream_chains(s) ? 1 : 0;
    if (rc == cudaSuccess)
        rc = cudaLaunchKernelEx(&config, kernel, args...);
    if (rc == cudaSuccess)
        return 0;
    (void)cudaGetLastError();
    gpu_stream_fault(s, name, cudaGetErrorString(rc));
    return -LLMD_EPOISONED;
}

/* Enqueues a kernel. A fault of an earlier kernel may be reported here, too. */
template <class... P>
int gpu_launch(struct gpu_stream *s, const char *name, struct gpu_dim grid, uint32_t block,
               size_t shared_bytes, void (*kernel)(P...), typename gpu_same<P>::type... args)
{
    return gpu_launch_as(false, s, name, grid, block, shared_bytes, kernel, args...);
}

template <class... P>
int gpu_chain(struct gpu_stream *s, const char *name, struct gpu_dim grid, uint32_t block,
              size_t shared_bytes, void (*kernel)(P...), typename gpu_same<P>::type... args)
{
    return gpu_launch_as(true, s, name, grid, block, shared_bytes, kernel, args...);
}

#endif
#endif

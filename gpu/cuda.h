/* cuda.h - the backend for NVIDIA GPUs (core/backend/backend.h), from compute capability 7.5 on.
 *
 * A backend owns one device: its memory, a stream, pinned host memory. Weights of any type that a
 * model file has become BF16 (F16 where the device has no BF16 products); so are activations between
 * operations and the KV cache. The residual stream, sums and logits are F32.
 *
 * Shapes  hidden size: multiples of 16 up to 12,288; head_dim: multiples of 16 up to 256.
 * Bits    with pin_kernels, a token's result does not depend on what else is in the batch, nor on how
 *         its prompt was chunked. Without, other numbers of rows may take other kernels, which round
 *         differently.
 * Faults  an error of the device, or a step that does not end in time, poisons the backend: the step
 *         returns EPOISONED, cuda_backend_fault() says why, and the process has to end (CUDA cannot go
 *         on). Its memory is not freed then.
 * Memory  of the device: all of it is taken before seal(); afterwards an allocation is a bug.
 * Thread  confined to the thread that made it, weights included. */
#pragma once
#include "core/backend/backend.h"
#include "gpu/blas.h"

struct cuda_opts {
    uint32_t device; /* number of the GPU */
    bool pin_kernels;
    bool host_logits;          /* logits go to the host, which samples; else the device samples */
    bool no_graphs;            /* every step is launched kernel by kernel */
    bool no_overlap;           /* every step is waited for before the next is enqueued */
    bool no_chains;            /* no kernel begins before the one in front of it has ended */
    uint32_t force_capability; /* 0: the device's own; 75: what older devices execute */
    uint64_t step_timeout_us;  /* a step that takes longer is a fault; 0: 30 s */
    /* For products of many rows, where it is faster (gpu/blas.h); NULL: our kernels alone. Outlives the
     * backend; without effect with pin_kernels. */
    const struct blas_library *blas;
};
/* How many GPUs this process can use, at least one; EUNSUPPORTED, with the reason and its mend: no
 * driver, too old a driver, no GPU. Any thread. */
MUST_CHECK int cuda_count(uint32_t *out, struct err *e);
/* Its address on the PCI bus, which nvml_find() takes. Any thread. */
MUST_CHECK int cuda_pci(uint32_t device, char *out, size_t size, struct err *e);
/* EUNSUPPORTED also for a GPU that is not there. */
MUST_CHECK int cuda_backend_new(const struct cuda_opts *o, struct backend **out, struct err *e);
/* NULL while nothing happened. */
const char *cuda_backend_fault(const struct backend *be);

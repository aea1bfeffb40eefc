/* blas.h - products of many rows by NVIDIA's cuBLASLt, where it is there and faster than our kernels.
 *
 * The library (500 MB) is opened at run time and optional: everything runs without it. Which of its
 * algorithms, or our kernel, a product takes is measured once, before the first request, for each
 * shape and for rows up to 128, 256, 512 and so on; from then on the choice stands.
 *
 * Gate and up   it knows no SiLU · mul: their product goes to memory as elements, `pairs`, a piece of
 *               rows after the other, and gpu_silu_pairs() follows. That counts when they are measured.
 * Bits          other than gpu_linear_tile()'s, and by the number of rows; not for pin_kernels.
 * Thread        struct blas: its backend's. A library: any, and several backends may share one.
 * Errors        EUNSUPPORTED: no library, or one that cannot be used here; EPOISONED as ever. */
#pragma once
#include "gpu/kernels.h"

struct blas_library;
struct blas;

/* file NULL: under its usual names. */
MUST_CHECK int blas_library_open(const char *file, struct blas_library **out, struct err *e);
void blas_library_close(struct blas_library *l); /* after all that use it; NULL is fine */
/* 130100 for 13.1.0. */
size_t blas_library_version(const struct blas_library *l);

struct blas_opts {
    const struct blas_library *library;
    struct gpu_stream *stream;
    enum gpu_flavour flavour;
    uint64_t timeout_us; /* of a measurement */
    void *workspace;     /* on the device, as pairs is; the caller's */
    size_t workspace_bytes;
    void *
        pairs; /* elements [pairs_rows][of the widest weight, padded to GPU_ROWS]; NULL: no gate_up */
    uint32_t pairs_rows;
};
enum { BLAS_WORKSPACE_BYTES = 32 << 20, BLAS_PAIRS_ROWS = 1024 };
MUST_CHECK int blas_new(const struct blas_opts *o, struct blas **out, struct err *e);
void blas_free(struct blas *b); /* after its stream has ended; NULL is fine */

/* Measures products of a's shape, of GPU_SKINNY + 1 to a->n_rows rows, unless that has been done; what
 * a->out holds afterwards is undefined. Waits for the stream. */
MUST_CHECK int blas_measure(struct blas *b, const struct gpu_linear *a);
/* The product, by what was found best; by our kernels where nothing was measured. */
MUST_CHECK int blas_linear_rows(struct blas *b, const struct gpu_linear *a);

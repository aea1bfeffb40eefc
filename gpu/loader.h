/* loader.h - rows of a weight on their way to the device: threads convert them from the mapped file into
 * a ring of pinned slots, two streams copy from there.
 *
 *   reader:        takes a free slot and the next rows, fills it     FREE -> FILLING -> FULL
 *   the device's:  enqueues the copy, looks whether it has passed    FULL -> COPYING -> FREE
 *
 * Reading the file, conversion and copies run at the same time; where a row goes (padding, gate and up
 * interleaved) is decided while it is copied into its slot, so nothing is moved on the device again.
 *
 * Thread  that of the gpu; the readers are the loader's own, and touch host memory alone.
 * Memory  SLOTS_MAX slots at most, pinned, until gpu_loader_free().
 * Errors  EPOISONED: the device failed, or a copy did not come to its end in time (a slow file is no
 *         fault); ENOMEM. */
#pragma once
#include "gpu/runtime.h"

struct gpu_loader;

/* Writes rows first..end, side by side, to out. On a reader's thread, several at a time; scratch: as many
 * floats as were asked for. */
typedef void gpu_fill(const void *ctx, uint64_t first, uint64_t end, float *scratch, void *out);

struct gpu_rows {
    void *device; /* [n_rows][row_bytes] */
    uint64_t n_rows;
    size_t row_bytes; /* at most GPU_SLOT_BYTES */
    uint32_t n_scratch;
    gpu_fill *fill;
    const void *ctx;
};

enum { GPU_SLOT_BYTES = 4 << 20 };

/* n_readers 0: as many as there are cores for, 8 at most. */
MUST_CHECK int gpu_loader_new(struct gpu *g, uint32_t n_readers, struct gpu_loader **out,
                              struct err *e);
/* Returns when all rows are on the device, or the first thing failed: nothing is read any more. */
MUST_CHECK int gpu_loader_rows(struct gpu_loader *l, const struct gpu_rows *rows,
                               uint64_t timeout_us, struct err *e);
void gpu_loader_free(struct gpu_loader *l); /* NULL is fine */

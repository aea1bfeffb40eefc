/* gpu_watch.h - how the GPUs do: utilisation, memory, temperature, power, clocks, why these are lower
 * than they could be, ECC and Xid errors.
 *
 *   /metrics            llmd_gpu_* and the names of NVIDIA's exporter, DCGM_FI_DEV_*
 *   /admin/v1/workers   an object per worker on a GPU
 *   the log             an event for each Xid error
 *
 * Read once a second by a thread of its own, from NVML (gpu/nvml.h): no worker ever asks the driver for
 * it. Without NVML the server serves without these; that is said once.
 *
 * Thread  gpu_watch_add_json from any, the rest is the main thread's. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

struct gpu_watch;
struct metrics;

/* EUNSUPPORTED: no NVML, or no GPUs; the message says which. */
MUST_CHECK int gpu_watch_start(struct metrics *m, struct gpu_watch **out, struct err *e);
void gpu_watch_stop(struct gpu_watch *w); /* NULL is fine */
/* Appends what was last read of that GPU as an object; null: nothing. */
void gpu_watch_add_json(struct gpu_watch *w, uint32_t gpu, struct buf *json);

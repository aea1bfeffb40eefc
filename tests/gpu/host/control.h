/* control.h - what a test may choose of the host stand-in. It counts for devices opened, or kernels run,
 * afterwards.
 *
 * Thread  the seed is the calling thread's; the rest is the process's, and any thread may choose it. */
#pragma once
#include "gpu/runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The order in which threads and blocks run. */
void stand_in_set_seed(uint64_t seed);
/* What device it poses as: 75, 80, 86, 89, 90, 100, 120; 0: none is there. */
void stand_in_set_capability(uint32_t capability);
/* Memory that each device has; an allocation beyond it fails. */
void stand_in_set_memory(uint64_t bytes);
/* How many devices there are: 1 to STAND_IN_GPUS. */
void stand_in_set_gpus(uint32_t n);
/* How often memory was allocated so far: of devices, and pinned. */
uint64_t stand_in_allocations(void);
/* How often an event was waited for behind which kernels had been enqueued already: nobody can have read
 * then what came before it. */
uint64_t stand_in_waits_ahead(void);

enum { STAND_IN_GPUS = 4 };
enum stand_in_break {
    STAND_IN_ILLEGAL_ADDRESS, /* the kernel fails, and with it all that follows on the device */
    STAND_IN_ENDLESS,         /* it never ends */
};
/* Breaks a kernel of a device: the at-th from now on (from 1). at 0: none, as before. */
void stand_in_break_kernel(uint32_t device, enum stand_in_break how, uint64_t at);
/* From now on nothing enqueued on g is carried out: a kernel that never ends. */
void stand_in_stall(struct gpu *g);
/* Puts a call onto a stream (gpu_stream_handle): it may touch device memory when it runs. */
void stand_in_call(void *stream, void (*fn)(void *), void *arg);
/* Allocations and streams that are alive on g. */
uint32_t stand_in_alive(const struct gpu *g);

#ifdef __cplusplus
}
#endif

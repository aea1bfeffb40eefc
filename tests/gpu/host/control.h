/* control.h - what a test may choose of the host stand-in. All of it is per OS thread and counts for
 * devices opened, or kernels run, afterwards. */
#pragma once
#include "gpu/runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The order in which threads and blocks run. */
void stand_in_set_seed(uint64_t seed);
/* What device it poses as: 75, 80, 86, 89, 90, 100, 120; 0: none is there. */
void stand_in_set_capability(uint32_t capability);
/* Memory that the device has; an allocation beyond it fails. */
void stand_in_set_memory(uint64_t bytes);
/* From now on nothing enqueued on g is carried out: a kernel that never ends. */
void stand_in_stall(struct gpu *g);
/* Allocations and streams that are alive on g. */
uint32_t stand_in_alive(const struct gpu *g);

#ifdef __cplusplus
}
#endif

/* gpus.h - the GPUs that this program can use: the one place that knows whether gpu/ is linked.
 *
 * Errors  EUNSUPPORTED, with the reason and its mend: built without CUDA, no driver, too old a driver,
 *         no such GPU. Nothing ever runs on another device than was asked for.
 * Thread  any. */
#pragma once
#include "core/engine/worker.h"
#include "core/util/base.h"
#include "core/util/err.h"

/* Whether the CUDA backend is in this program. */
bool gpus_built_in(void);
/* The GPUs that a word of `devices` names: one for "cuda:2", all for "cuda"; none for other words. */
MUST_CHECK int gpus_named(const char *device, uint32_t *out_first, uint32_t *out_n, struct err *e);
/* Makes the backend of one, with cuBLASLt where it is installed; the first call says so in the log. */
worker_open_gpu gpus_open;
/* With llmd's own kernels alone. */
worker_open_gpu gpus_open_own;

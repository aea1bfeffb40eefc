/* kv_budget.h - how many KV blocks a worker gets.
 *
 * kv_cache_blocks, else kv_cache_bytes of the options decide. Else, in the host's memory: enough for
 * max_num_seqs sequences of a quarter of the longest context, within bounds; on a device of its own:
 * all that is left of gpu_memory_percent, once weights and work space are there.
 *
 * Errors  EINVAL: too few for the longest context, or more than there is memory for; the message says
 *         what to change. */
#pragma once
#include "core/backend/backend.h"

struct worker_opts;

/* In the host's memory. */
MUST_CHECK int kv_budget_host(const struct worker_opts *o, uint64_t block_bytes,
                              uint32_t *out_blocks, struct err *e);
/* On a device, of which one block of the backend's own_bytes is the KV cache so far. */
MUST_CHECK int kv_budget_device(const struct worker_opts *o, uint64_t block_bytes,
                                const struct device_memory *m, uint32_t *out_blocks, struct err *e);

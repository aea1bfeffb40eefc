/* kv_view.h - what others see of a KV pool while its worker uses it: a byte per block.
 *
 * The worker writes a byte whenever a block gains or loses a holder, any thread reads: relaxed atomics, so
 * that a reader may see one block's change before another's and the worker never waits. It outlives the
 * pool. */
#pragma once
#include <stdatomic.h>

#include "core/util/base.h"

enum { KV_VIEW_HOLDERS = 3, KV_VIEW_INDEXED = 4 };

struct kv_view {
    uint32_t n_blocks;
    _Atomic uint8_t
        blocks[]; /* [n_blocks] holders, 3 for more; KV_VIEW_INDEXED: one is the prefix cache */
};

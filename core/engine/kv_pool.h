/* kv_pool.h - the fixed pool of KV-cache blocks of one device.
 *
 * A block stores keys and values of KV_BLOCK_TOKENS tokens, for all layers. The pool deals in
 * block ids; only a backend turns an id into an address. A block is held by the sequences whose
 * table names it and, once its content is known to the prefix cache, by that too (kv_prefix.h).
 *
 * Invariants  I1: ref[b] == 0  <=>  b is on the free list.
 *             I2: n_free + count(ref > 0) == n_blocks.
 *             I3: view, where there is one, says what ref and the prefix cache say.
 * Thread      confined to its worker; no lock; another caller is a BUG.
 * Memory      nothing is allocated after init; the backend owns keys and values.
 * Errors      -LLMD_EFULL: evict (kv_prefix) or preempt (sched), retry.
 * Source      paged KV layout, Kwon et al., arXiv:2309.06180, section 4. */
#pragma once
#include <pthread.h>

#include "core/engine/kv_view.h"
#include "core/util/base.h"

/* No block: the parent of a sequence's first block, the answer when nothing is cached. */
#define KV_NO_BLOCK UINT32_MAX

struct kv_pool {
    uint32_t n_blocks;
    uint32_t n_free;
    uint32_t *free_ids;   /* [n_blocks], stack; top at n_free - 1 */
    uint32_t *ref;        /* [n_blocks], holders of b */
    pthread_t owner;      /* set by init, checked by every call */
    struct kv_view *view; /* [n_blocks] for other threads; the caller's; NULL: none */
};

MUST_CHECK int kv_pool_init(struct kv_pool *p, uint32_t n_blocks);
void kv_pool_fini(struct kv_pool *p); /* a zeroed pool is fine */

/* Takes n blocks with ref 1 into out_ids[0..n-1]; all or nothing. */
MUST_CHECK int kv_pool_take(struct kv_pool *p, uint32_t n, uint32_t out_ids[]);
/* One more holder of a block that is held. */
void kv_pool_ref(struct kv_pool *p, uint32_t id);
/* Returns how many holders are left; a block without any is free. */
uint32_t kv_pool_unref(struct kv_pool *p, uint32_t id);
/* The block is in the prefix cache, which holds it, or is not any more: for the view alone. */
void kv_pool_note_indexed(struct kv_pool *p, uint32_t id, bool indexed);
/* Walks I1 and I2, O(n_blocks): for tests; debug builds do it in every call. */
void kv_pool_audit(const struct kv_pool *p);

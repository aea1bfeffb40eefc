/* kv_prefix.h - automatic prefix caching: finds blocks whose keys and values were computed before.
 *
 * The content of a full block follows from all tokens up to its end. Blocks are therefore indexed
 * under a 128-bit hash chained over (hash of the parent block, the block's 16 tokens, salt). The
 * hash only suggests: a hit also compares the parent's identity, the tokens and the salt, so a
 * collision, accidental or made, can hand nobody another one's keys and values.
 *
 * The index holds one reference of each block in it. A block that nobody else holds is idle: it
 * waits in an LRU list, counts as free, is revived by a hit, and is evicted when the pool needs it.
 *
 * Invariants  I1: the parent of an indexed block is indexed: idle blocks leave from the leaves.
 *                 This needs holders to release their blocks from the last to the first, and to
 *                 hold a block's parent as long as the block (kv_prefix_insert sees to that).
 *             I2: an indexed block is idle  <=>  its only reference is the index's.
 *             I3: no two indexed blocks have the same parent, tokens and salt.
 *             I4: the changes in order, over what the last taker of them knew, give the names of
 *                 the indexed blocks.
 * Thread      confined to its worker, as is the pool.
 * Memory      about 180 bytes per block, all of it taken by init.
 * Errors      -LLMD_EFULL: not even idle blocks are left; preempt and retry. */
#pragma once
#include "core/backend/batch.h"
#include "core/engine/kv_pool.h"
#include "core/request/prefix_hash.h"
#include "core/util/base.h"

/* What the index knows of one block. */
struct kv_entry {
    struct prefix_hash hash;
    uint64_t salt;
    uint32_t tokens[KV_BLOCK_TOKENS];
    uint32_t parent;     /* KV_NO_BLOCK for a first block */
    uint32_t n_children; /* indexed blocks whose parent this is */
    uint32_t chain;      /* next block in its bucket */
    uint32_t lru_prev, lru_next;
    bool indexed;
    bool idle;
};

typedef struct prefix_hash kv_hash_fn(struct prefix_hash parent, uint64_t salt,
                                      const uint32_t tokens[KV_BLOCK_TOKENS]);

struct kv_prefix {
    struct kv_pool *pool;
    struct kv_entry *entries; /* [n_blocks] by id; NULL: prefix caching is off */
    uint32_t *buckets;        /* [bucket_mask + 1] first block of the chain */
    uint32_t bucket_mask;
    uint32_t n_indexed;
    uint32_t n_idle;
    uint32_t lru_first, lru_last; /* longest idle first */
    kv_hash_fn *hash;             /* prefix_hash_block; a test takes a weaker one */

    struct prefix_change
        *changes; /* [2 * n_blocks] since they were taken last, n_changes of them */
    uint32_t n_changes;
    bool changes_lost; /* there were more: all names are told instead */
};

/* With enabled == false nothing is ever found or kept; all calls work. */
MUST_CHECK int kv_prefix_init(struct kv_prefix *p, struct kv_pool *pool, bool enabled);
void kv_prefix_fini(struct kv_prefix *p); /* before the pool's; a zeroed one is fine */

/* Blocks that kv_prefix_take can hand out: free ones and idle ones. */
uint32_t kv_prefix_n_free(const struct kv_prefix *p);
/* Takes n blocks with ref 1, evicting idle ones as needed; all or nothing. */
MUST_CHECK int kv_prefix_take(struct kv_prefix *p, uint32_t n, uint32_t out_ids[]);
/* Gives a reference back; a table is released from its last block to its first (I1). */
void kv_prefix_release(struct kv_prefix *p, uint32_t id);

/* The block that holds these tokens behind that parent, with one more reference, or KV_NO_BLOCK.
 * The caller holds the parent. */
uint32_t kv_prefix_adopt(struct kv_prefix *p, uint32_t parent, uint64_t salt,
                         const uint32_t tokens[KV_BLOCK_TOKENS]);
/* Enters a block whose keys and values are all computed; the caller holds it and its parent.
 * Returns the block that the caller's table must name from now on: id, or, when the same content
 * was indexed in the meantime, that block (the reference is exchanged, id is free). */
MUST_CHECK uint32_t kv_prefix_insert(struct kv_prefix *p, uint32_t parent, uint64_t salt,
                                     const uint32_t tokens[KV_BLOCK_TOKENS], uint32_t id);
/* What changed since the last call, oldest first, valid until the next call of any function. With
 * *out_anew set the list holds all indexed blocks and what the caller knew is void. */
uint32_t kv_prefix_take_changes(struct kv_prefix *p, const struct prefix_change **out,
                                bool *out_anew);
/* Walks all invariants, O(n_blocks): for tests. */
void kv_prefix_audit(const struct kv_prefix *p);

/* prefix_map.h - which workers of a model hold which KV blocks.
 *
 * One table from a block's name (core/request/prefix_hash.h) to two sets of workers: those that
 * hold the block, as they publish it once per step, and those that will, because a request that
 * computes it was sent there. So the answer to "how much of this prompt need not be computed" is
 * exact for what was published and right about what is under way: of a burst of siblings, the
 * second already sees the first.
 *
 *   entry  { name 16 bytes, held 8, promised 8 }: open addressing, linear probing, at most half
 *          full; deletion moves later entries back, so look-ups never cross graves.
 *
 * Invariants  I1: an entry is there  <=>  one of its sets is not empty.
 *             I2: entries are reachable from their home slot without a gap.
 * Memory      64 bytes per block that can be held or promised at most: what prefix_map_new() was
 *             told. When the table is full, more is not learned, and the answer is too low.
 * Thread      guarded by its owner's lock. */
#pragma once
#include "core/request/prefix_hash.h"
#include "core/util/base.h"

enum { PREFIX_MAP_WORKERS = 64 };

struct prefix_map;

/* Room for max_entries names. Errors: ENOMEM. */
MUST_CHECK int prefix_map_new(uint32_t max_entries, struct prefix_map **out);
/* More room; what is in it stays. Errors: ENOMEM, nothing is changed. */
MUST_CHECK int prefix_map_grow(struct prefix_map *m, uint32_t max_entries);
void prefix_map_free(struct prefix_map *m); /* NULL is fine */
size_t prefix_map_bytes(const struct prefix_map *m);
uint32_t prefix_map_n_entries(const struct prefix_map *m);

/* The worker holds the block, does no more. Idempotent. */
void prefix_map_add(struct prefix_map *m, uint32_t worker, struct prefix_hash name);
void prefix_map_remove(struct prefix_map *m, uint32_t worker, struct prefix_hash name);
/* The worker will hold the block. True when that is news: the caller then takes it back with
 * prefix_map_break() when the request is computed or gone. */
bool prefix_map_promise(struct prefix_map *m, uint32_t worker, struct prefix_hash name);
void prefix_map_break(struct prefix_map *m, uint32_t worker, struct prefix_hash name);
/* Forgets what the worker holds (it died or publishes anew), but not what is promised. Its entries take
 * room until a walk over the whole table has swept them: prefix_map_sweep() does it in pieces, news of
 * that worker all at once. */
void prefix_map_forget(struct prefix_map *m, uint32_t worker);
/* Sweeps so many slots. True: nothing is left to be swept. */
bool prefix_map_sweep(struct prefix_map *m, uint32_t max_slots);

/* What a worker has of a prompt, in blocks from its beginning. */
struct prefix_match {
    uint32_t n_held;  /* blocks that are there */
    uint32_t n_known; /* blocks that are there or promised; >= n_held */
};
/* Looks the n names of a prompt's blocks up, in order, for the workers of the mask; out[w] of
 * others is left alone. */
void prefix_map_match(const struct prefix_map *m, const struct prefix_hash *names, uint32_t n,
                      uint64_t workers, struct prefix_match out[PREFIX_MAP_WORKERS]);
/* Walks the invariants: for tests. */
void prefix_map_audit(const struct prefix_map *m);

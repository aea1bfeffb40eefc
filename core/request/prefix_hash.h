/* prefix_hash.h - names for KV blocks that worker and router agree on.
 *
 * The keys and values of a full block follow from all tokens up to its end. Its name is therefore a
 * 128-bit hash chained over (name of the block before it, salt, its tokens). A name only suggests:
 * whoever hands out keys and values compares tokens and salt as well; for routing, where a collision
 * costs a worse choice and nothing else, the name is enough.
 *
 * Thread  pure functions.
 * Source  xxHash's XXH3, 128 bits: about 10 ns per block. */
#pragma once
#include "core/util/base.h"

enum { PREFIX_BLOCK_TOKENS = 16 };

struct prefix_hash {
    uint64_t lo, hi;
};

/* A block entered a worker's prefix cache or left it: what the router keeps its own books by. */
struct prefix_change {
    struct prefix_hash name;
    bool added;
};

static inline bool prefix_hash_equal(struct prefix_hash a, struct prefix_hash b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

/* Name of the block of these tokens behind `parent`; zeroed for a first block. */
struct prefix_hash prefix_hash_block(struct prefix_hash parent, uint64_t salt,
                                     const uint32_t tokens[PREFIX_BLOCK_TOKENS]);
/* Names of the full blocks of a prompt: n_tokens / PREFIX_BLOCK_TOKENS of them, which out holds. */
void prefix_hash_prompt(const uint32_t *tokens, uint32_t n_tokens, uint64_t salt,
                        struct prefix_hash *out);

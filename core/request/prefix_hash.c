#include "core/request/prefix_hash.h"

#include <string.h>
#include <xxhash.h>

struct prefix_hash prefix_hash_block(struct prefix_hash parent, uint64_t salt,
                                     const uint32_t tokens[PREFIX_BLOCK_TOKENS])
{
    struct {
        struct prefix_hash parent;
        uint64_t salt;
        uint32_t tokens[PREFIX_BLOCK_TOKENS];
    } key = {.parent = parent, .salt = salt};
    _Static_assert(sizeof(key) == 24 + 4 * PREFIX_BLOCK_TOKENS, "no padding is hashed");
    memcpy(key.tokens, tokens, sizeof(key.tokens));
    const XXH128_hash_t h = XXH3_128bits(&key, sizeof(key));
    return (struct prefix_hash){.lo = h.low64, .hi = h.high64};
}

void prefix_hash_prompt(const uint32_t *tokens, uint32_t n_tokens, uint64_t salt,
                        struct prefix_hash *out)
{
    struct prefix_hash parent = {0};
    for (uint32_t i = 0; i < n_tokens / PREFIX_BLOCK_TOKENS; i++)
        out[i] = parent = prefix_hash_block(parent, salt, tokens + i * PREFIX_BLOCK_TOKENS);
}

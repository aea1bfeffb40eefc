#include "core/model/text_index_int.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

bool text_index_init(struct text_index *x, uint32_t max_n)
{
    uint32_t n_slots = 16;
    BUG_ON(max_n > 1u << 30);
    while (n_slots / 2 < max_n)
        n_slots *= 2;
    x->slots = malloc((size_t)n_slots * sizeof(*x->slots));
    x->mask = n_slots - 1;
    if (!x->slots)
        return false;
    memset(x->slots, 0xff, (size_t)n_slots * sizeof(*x->slots)); /* TEXT_NONE everywhere */
    return true;
}

void text_index_fini(struct text_index *x)
{
    free(x->slots);
    x->slots = NULL;
}

/* The slot that holds the string, or the empty one where it belongs. */
static struct text_slot *probe(const struct text_index *x, const struct text_list *l, uint64_t hash,
                               const char *s, size_t n)
{
    uint32_t tag = (uint32_t)(hash >> 32);
    for (uint32_t k = (uint32_t)hash & x->mask;; k = (k + 1) & x->mask) {
        struct text_slot *slot = &x->slots[k];
        if (slot->i == TEXT_NONE)
            return slot;
        if (slot->tag != tag)
            continue;
        size_t have_n;
        const char *have = text_at(l, slot->i, &have_n);
        if (have_n == n && memcmp(have, s, n) == 0)
            return slot;
    }
}

uint32_t text_index_add(struct text_index *x, const struct text_list *l, uint32_t i)
{
    size_t n;
    const char *s = text_at(l, i, &n);
    uint64_t hash = XXH3_64bits(s, n);
    struct text_slot *slot = probe(x, l, hash, s, n);
    if (slot->i == TEXT_NONE) {
        slot->tag = (uint32_t)(hash >> 32);
        slot->i = i;
    }
    return slot->i;
}

uint32_t text_index_find(const struct text_index *x, const struct text_list *l, const char *s,
                         size_t n)
{
    return probe(x, l, XXH3_64bits(s, n), s, n)->i;
}

#include "core/edge/slots.h"

#include <stdlib.h>

enum { KIND_SHIFT = 62, GENERATION_MASK = 0x3fffffff, STEP = 64 };

struct slot {
    void *item; /* NULL: free */
    uint32_t generation;
    uint32_t next_free;
};

void slots_init(struct slots *s)
{
    *s = (struct slots){.first_free = UINT32_MAX};
}

void slots_fini(struct slots *s)
{
    free(s->all);
    s->all = NULL;
}

static bool grow(struct slots *s)
{
    uint32_t n = s->n ? s->n * 2 : STEP;
    struct slot *all = realloc(s->all, n * sizeof(*all));
    if (!all)
        return false;
    for (uint32_t i = s->n; i < n; i++)
        all[i] = (struct slot){.next_free = i + 1 < n ? i + 1 : UINT32_MAX};
    s->all = all;
    s->first_free = s->n;
    s->n = n;
    return true;
}

bool slots_put(struct slots *s, void *item, uint32_t *out_index)
{
    if (s->first_free == UINT32_MAX && !grow(s))
        return false;
    const uint32_t index = s->first_free;
    s->first_free = s->all[index].next_free;
    s->all[index].item = item;
    *out_index = index;
    return true;
}

void slots_drop(struct slots *s, uint32_t index)
{
    struct slot *slot = &s->all[index];
    BUG_ON(!slot->item);
    slot->item = NULL;
    slot->generation = (slot->generation + 1) & GENERATION_MASK;
    slot->next_free = s->first_free;
    s->first_free = index;
}

uint64_t slots_name(const struct slots *s, uint32_t index, unsigned kind)
{
    return (uint64_t)kind << KIND_SHIFT | (uint64_t)s->all[index].generation << 32 | index;
}

unsigned slots_kind(uint64_t name)
{
    return (unsigned)(name >> KIND_SHIFT);
}

void *slots_find(const struct slots *s, uint64_t name)
{
    const uint32_t index = (uint32_t)name;
    const uint32_t generation = (uint32_t)(name >> 32) & GENERATION_MASK;
    if (index >= s->n || s->all[index].generation != generation)
        return NULL;
    return s->all[index].item;
}

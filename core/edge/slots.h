/* slots.h - names for things that end at any time, as an epoll event carries them: never a pointer, so
 * that an event that comes late finds nothing.
 *
 * A name holds a kind (the caller's), the generation and the index of a slot: the generation grows
 * each time the slot is emptied.
 * Thread  confined to its owner's. */
#pragma once
#include "core/util/base.h"

struct slot; /* private */

struct slots {
    struct slot *all; /* [n] */
    uint32_t n, first_free;
};

enum { SLOT_KINDS = 4 }; /* 0 is no kind: such a name is the caller's own constant */

void slots_init(struct slots *s);
void slots_fini(struct slots *s);
/* Gives item a slot; false when memory is short. */
bool slots_put(struct slots *s, void *item, uint32_t *out_index);
void slots_drop(struct slots *s, uint32_t index);
uint64_t slots_name(const struct slots *s, uint32_t index, unsigned kind);
/* 0 for a constant below 2^62. */
unsigned slots_kind(uint64_t name);
/* NULL when what it named is gone. */
void *slots_find(const struct slots *s, uint64_t name);

/* history.h - the last items of different sizes, in a fixed piece of memory.
 *
 *   bytes  | item 7 | item 8 |  free  | item 4 | item 5 | item 6 | free |
 *                            ^ the next goes here, or to the front; what lies there goes
 *
 * Items are numbered from 1 in the order in which they came; the oldest make room for the newest.
 *
 * Invariants  I1: the items first..next-1 are there and do not overlap.
 * Memory      all of it is allocated and touched by history_init().
 * Thread      guarded by its owner's lock. */
#pragma once
#include "core/util/base.h"

struct history_item;

struct history {
    unsigned char *bytes; /* [max_bytes], aligned for any type, as every item is */
    size_t max_bytes;
    struct history_item *items; /* [max_items]; number n lies at n % max_items */
    uint32_t max_items;
    uint64_t first, next; /* numbers: the oldest, the one to come; equal when there is none */
};

/* At most so many items and bytes. Errors: ENOMEM. */
MUST_CHECK int history_init(struct history *h, uint32_t max_items, size_t max_bytes);
void history_fini(struct history *h); /* a zeroed struct is fine */
/* Room for an item of n bytes, to be filled by the caller; NULL when it could never fit. */
void *history_add(struct history *h, size_t n);
/* An item; NULL when it is not there any more, or not yet. */
const void *history_get(const struct history *h, uint64_t number, size_t *out_n);

/* text_index_int.h - a list of byte strings, and the hash index that finds one by its content.
 *
 * Layout      string i is bytes[at[i] .. at[i+1]-1]. The index is open addressing with linear
 *             probing; a slot holds half of the hash beside the number, so that almost no other
 *             string is ever compared. Built once, never changed.
 * Thread      immutable when built.
 * Limit       4 GiB of bytes, 2^30 strings. */
#pragma once
#include "core/util/base.h"

#define TEXT_NONE UINT32_MAX

struct text_list {
    char *bytes;
    uint32_t *at; /* [n + 1] */
    uint32_t n;
};

static inline const char *text_at(const struct text_list *l, uint32_t i, size_t *out_n)
{
    *out_n = l->at[i + 1] - l->at[i];
    return l->bytes + l->at[i];
}

struct text_slot {
    uint32_t tag; /* upper half of the hash */
    uint32_t i;   /* TEXT_NONE: empty */
};

struct text_index {
    struct text_slot *slots;
    uint32_t mask; /* number of slots - 1; at least half of the slots stay empty */
};

/* An index with room for max_n strings. false: no memory. */
MUST_CHECK bool text_index_init(struct text_index *x, uint32_t max_n);
void text_index_fini(struct text_index *x);
/* Adds string i of l unless an equal one is there; returns the number that the index now holds
 * for it. The caller adds at most max_n. */
uint32_t text_index_add(struct text_index *x, const struct text_list *l, uint32_t i);
/* The number of the string, or TEXT_NONE. */
uint32_t text_index_find(const struct text_index *x, const struct text_list *l, const char *s,
                         size_t n);

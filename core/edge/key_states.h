/* key_states.h - what keys use, beyond the catalogues that name them: a reload neither empties a bucket
 * nor fills one. A state is a key's name and digest; a new secret under an old name starts anew.
 *
 *   struct edge 1 -> n key_state <- catalogues, by reference
 *
 * One that no catalogue names any more is kept until its buckets are full again: taking a key out and
 * putting it back is no way around its limits.
 *
 * Thread  the edge's owner, who makes and frees catalogues; what is in struct key_use: any. */
#pragma once
#include "core/edge/edge.h"
#include "core/edge/limits.h"
#include "core/util/base.h"
#include "core/util/buf.h"

struct catalog;

struct key_state {
    struct key_state *next;
    uint32_t n_refs; /* catalogues */
    uint8_t sha256[32];
    struct key_use use;
    char name[];
};

/* Zeroed: empty. */
struct key_states {
    struct key_state *first;
};

/* The state of that key, made when it is new, with a reference. NULL: out of memory. */
struct key_state *key_states_take(struct key_states *all, const struct edge_key *key);
/* Gives references back (NULL is fine), and frees those that nobody needs any more. */
void key_states_drop(struct key_states *all, struct key_state *const *states, uint32_t n);
/* When no catalogue is left. */
void key_states_fini(struct key_states *all);

/* The series of the keys of a catalogue: what they used, and how often they were refused. There are as
 * many as keys are configured, however often that changes. style: bits of enum metrics_style. */
void key_states_write(const struct catalog *c, uint32_t style, struct buf *out);

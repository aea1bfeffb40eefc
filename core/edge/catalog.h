/* catalog.h - what the edge serves at one moment: models, keys, limits. Immutable, so that whoever
 * holds a reference reads it without a lock.
 *
 *   edge ── current ──> catalog <── exchange: from its admission to its end (key, limits)
 *                          ^─────── generation: of when its body was complete (model, tokenizer)
 *
 * When something changes, edge_set_catalog() makes a new one the current one. A stream that runs goes by
 * its own to its end: neither its key nor its model changes under it.
 *
 * Thread  any for references; the edge's owner alone frees (edge_uses_model), so that no loop ever
 *         takes a model's memory down.
 * Memory  strings are copied; models are borrowed: edge_uses_model() says how long they are needed. */
#pragma once
#include <stdatomic.h>

#include "core/edge/edge.h"
#include "core/edge/edge_metrics.h"
#include "core/edge/key_states.h"
#include "core/util/arena.h"
#include "core/util/base.h"
#include "core/util/err.h"

struct catalog {
    atomic_uint refs;
    struct catalog *next; /* older ones; the owner's */
    struct arena arena;
    const struct edge_key *keys; /* [n_keys] */
    struct key_state **states;   /* [n_keys] what they use; outlives the catalogue */
    uint32_t n_keys;
    const struct edge_model *models; /* [n_models] */
    uint32_t n_models;
    struct model_series *series;   /* [n_models] of the metrics */
    struct key_states *all_states; /* that states are of; NULL: states is, too */
    bool share_prefixes;
    struct edge_limits limits;
};

/* A copy with one reference. metrics may be NULL; so may states, then no key has limits. Errors:
 * ENOMEM. */
MUST_CHECK int catalog_new(const struct edge_served *s, struct edge_metrics *metrics,
                           struct key_states *states, struct catalog **out, struct err *e);
static inline struct catalog *catalog_ref(struct catalog *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}
/* Frees nothing; NULL is fine. */
static inline void catalog_unref(struct catalog *c)
{
    if (c)
        atomic_fetch_sub_explicit(&c->refs, 1, memory_order_release);
}
/* Without references, or at the end of everything; NULL is fine. */
void catalog_free(struct catalog *c);

/* Whether the key may use the model. NULL, as everywhere below: no key, all models. */
bool catalog_may_use(const struct edge_key *key, const struct edge_model *model);
/* The model of that name or alias, "" standing for the first; NULL: there is none for that key. */
const struct edge_model *catalog_find(const struct catalog *c, const struct edge_key *key,
                                      const char *name);
/* ENOTFOUND with the names that exist for that key. */
int catalog_no_model(const struct catalog *c, const struct edge_key *key, const char *name,
                     struct err *e);
/* What a key of this catalogue uses; NULL: it has no limits. */
struct key_use *catalog_key_use(const struct catalog *c, const struct edge_key *key);
/* What enters the names of a prompt's cached blocks: who has the same salt shares them. salt: the
 * request's own; 0: none. */
uint64_t catalog_prefix_salt(const struct catalog *c, const struct edge_key *key, uint64_t salt);

/* models.c - models come, follow each other under one name, and go.
 *
 *   router_add_model ── (held: requests wait for the first worker) ── serves ── closed: no new requests
 *                                                                                  │
 *   collected: nothing reads its options, weights or tokenizer any more <── workers removed, requests gone
 *
 * A model is freed when it is closed, every place of it was removed, the thread of every worker that
 * it ever had was joined, and its last request has left. */
#include <stdlib.h>
#include <string.h>

#include "core/router/router_int.h"
#include "core/util/clock.h"

enum { QUANTUM_TOKENS = 256 }; /* of the queue: a few short prompts of a key, then the next key */

struct routed *router_find_model(const struct router *r, const char *name)
{
    struct routed *m = r->models;
    while (m && strcmp(m->name, name) != 0)
        m = m->next;
    return m;
}

struct routed *routed_find(const struct router *r, uint64_t generation)
{
    struct routed *m = r->models;
    while (m && m->generation != generation)
        m = m->next;
    return m;
}

struct routed *routed_of(const struct router *r, const struct request *req, struct err *e)
{
    struct routed *m =
        req->generation > 0 ? routed_find(r, req->generation) : router_find_model(r, req->model);
    if (m && !m->closed)
        return m;
    err_set(e, LLMD_ENOTFOUND, "The model `%s` does not exist.", req->model);
    return NULL;
}

void routed_free(struct routed *m)
{
    if (!m)
        return;
    for (uint32_t i = 0; i < m->n_slots; i++)
        free(m->slots[i]);
    prefix_map_free(m->map);
    fair_queue_free(m->queue);
    free(m->decision);
    free(m);
}

int router_add_model(struct router *r, const char *name, const struct router_model_opts *o,
                     struct err *e)
{
    const size_t n = strlen(name) + 1;
    struct routed *m = calloc(1, sizeof(*m) + n);
    if (!m || fair_queue_new(QUANTUM_TOKENS, &m->queue) != 0 ||
        !(m->decision = malloc(decision_bytes(DECISION_CANDIDATES))) ||
        router_metrics_init(&m->metrics, o->metrics, name) != 0) {
        routed_free(m);
        return err_set(e, LLMD_ENOMEM, "out of memory for model \"%s\"", name);
    }
    m->router = r;
    m->opts = *o;
    memcpy(m->name, name, n);
    lock_take(&r->mu);
    const struct routed *before = router_find_model(r, name);
    if (before) { /* what is known of answers */
        m->mean_output = before->mean_output;
        m->mean_stay_us = before->mean_stay_us;
    }
    m->generation = ++r->n_generations;
    m->next = r->models;
    r->models = m;
    lock_drop(&r->mu);
    return 0;
}

uint64_t router_generation(struct router *r, const char *name)
{
    lock_take(&r->mu);
    const struct routed *m = router_find_model(r, name);
    const uint64_t generation = m ? m->generation : 0;
    lock_drop(&r->mu);
    return generation;
}

void router_set_model(struct router *r, uint64_t generation, const struct router_model_opts *o)
{
    lock_take(&r->mu);
    struct routed *m = routed_find(r, generation);
    if (m) {
        struct metrics *metrics = m->opts.metrics;
        m->opts = *o;
        m->opts.metrics = metrics;
    }
    lock_drop(&r->mu);
}

void router_hold_model(struct router *r, uint64_t generation, bool held)
{
    struct dispatch_list unborn = {NULL, NULL};
    lock_take(&r->mu);
    struct routed *m = routed_find(r, generation);
    if (m && m->held && !held) {
        m->held = false;
        submit_take_hopeless(m, &unborn);
    } else if (m)
        m->held = held;
    lock_drop(&r->mu);
    submit_fail(r, &unborn, &submit_nobody);
}

void router_close_model(struct router *r, uint64_t generation, bool closed)
{
    lock_take(&r->mu);
    struct routed *m = routed_find(r, generation);
    if (m)
        m->closed = closed;
    lock_drop(&r->mu);
}

void router_move_waiting(struct router *r, uint64_t from, uint64_t to)
{
    struct dispatch_list waiting = {NULL, NULL}, bound = waiting;
    struct dispatch *dp;
    lock_take(&r->mu);
    struct routed *m = routed_find(r, to), *old = routed_find(r, from);
    if (m && old) {
        submit_take_waiting(old, &waiting);
        while ((dp = dispatch_list_pop(&waiting)) != NULL) {
            dispatch_adopt(dp, m);
            dp->too_small = 0;
            submit_rejoin(m, dp);
        }
        submit_pump(m, &bound);
    }
    lock_drop(&r->mu);
    submit_bound(r, &bound);
}

/* Whether the thread of a worker of it may still run. r->mu is held. */
static bool has_links(const struct router *r, const struct routed *m)
{
    for (const struct link *l = r->lost; l; l = l->next)
        if (l->slot->routed == m)
            return true;
    return false;
}

bool router_collect_model(struct router *r, uint64_t generation)
{
    router_reap(r);
    lock_take(&r->mu);
    struct routed *m = routed_find(r, generation);
    bool gone = !m || (m->closed && m->n_dispatches == 0 && !has_links(r, m));
    for (uint32_t i = 0; m && i < m->n_slots; i++)
        gone &= m->slots[i]->service == SLOT_REMOVED;
    if (m && gone) {
        struct routed **at = &r->models;
        while (*at != m)
            at = &(*at)->next;
        *at = m->next;
        books_note_index(m); /* without it */
    }
    lock_drop(&r->mu);
    if (m && gone)
        routed_free(m);
    return gone;
}

/* fair_queue.h - requests that wait until a worker can start them.
 *
 * Strict priorities (lower first); within a priority deficit round robin between keys, so that a
 * key gets its share of prompt tokens whatever the others send; within a key first come, first
 * served. A request that cannot go now (the worker that it should have is behind) is passed over:
 * it holds up neither its own key nor others, and is the first of its key to be asked again. A scan
 * that asked as many as it may passes the turn on, so that a key of which many were passed over does
 * not hide the others; nor does a priority hide lower ones: where all of the first half that may be asked
 * are passed over, the lower ones share the other half.
 *
 *   classes, by priority:  -1 -> 0 -> 5
 *                                |
 *                   ring of flows: key "a" -> key "b" -> key "c"    each { credit, items in order }
 *
 * Invariants  I1: a flow is in its class's ring  <=>  it has items; a class exists likewise.
 *             I2: n and n_cost, of the queue and of each flow, sum over its items.
 * Memory      items are embedded in what waits; a flow or class is allocated when its first item
 *             comes, freed with its last.
 * Thread      guarded by its owner's lock.
 * Source      Shreedhar and Varghese, 1995: deficit round robin. */
#pragma once
#include "core/util/base.h"

struct fair_flow;
struct fair_queue;

struct fair_item {
    struct fair_flow *flow; /* NULL: not in a queue */
    struct fair_item *prev, *next;
    uint32_t cost; /* prompt tokens; >= 1 */
};

/* quantum: tokens that a flow may send in its turn, >= 1. */
MUST_CHECK int fair_queue_new(uint32_t quantum, struct fair_queue **out);
void fair_queue_free(struct fair_queue *q); /* empty; NULL is fine */
uint32_t fair_queue_n(const struct fair_queue *q);
uint64_t fair_queue_cost(const struct fair_queue *q);

/* Appends for this key at this priority. Errors: ENOMEM. */
MUST_CHECK int fair_queue_push(struct fair_queue *q, struct fair_item *item, const char *key,
                               int64_t priority, uint32_t cost);
void fair_queue_remove(struct fair_queue *q, struct fair_item *item);

enum fair_verdict {
    FAIR_TAKE, /* it goes: it is out of the queue when the next one is asked */
    FAIR_PASS, /* not now */
    FAIR_STOP, /* no more of them */
};
/* Asks items in the order in which they should go, at most max of them. visit() must not touch
 * the queue. */
void fair_queue_scan(struct fair_queue *q, uint32_t max,
                     enum fair_verdict (*visit)(void *ctx, struct fair_item *item), void *ctx);
/* Takes out the items for which gone() is true; it must not touch the queue. */
void fair_queue_sweep(struct fair_queue *q, bool (*gone)(void *ctx, struct fair_item *item),
                      void *ctx);
/* What an item of that key, priority and cost would find before it. */
struct fair_ahead {
    uint64_t cost;   /* that is served before it, if nothing else comes */
    uint32_t n_own;  /* items of its key that wait, of any priority */
    uint32_t n_keys; /* that wait, its own included; of the priority where they are most */
};
struct fair_ahead fair_queue_ahead(const struct fair_queue *q, const char *key, int64_t priority,
                                   uint32_t cost);
/* Any item, for emptying the queue; NULL when there is none. */
struct fair_item *fair_queue_any(const struct fair_queue *q);
/* Walks the invariants: for tests. */
void fair_queue_audit(const struct fair_queue *q);

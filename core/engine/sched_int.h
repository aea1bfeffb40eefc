/* sched_int.h - what sched.c (state), sched_plan.c (one step) and sched_follow.c (one more) share. */
#pragma once
#include "core/engine/sched.h"

/* Puts a running sequence that cannot go on among the paused. */
void sched_pause(struct sched *s, struct seq *q);
/* The next waiting sequence of the first group. */
struct seq *sched_peek_waiting(const struct sched *s);
/* Makes it run; q was peeked. */
void sched_start(struct sched *s, struct seq *q);
/* Takes all blocks away; a running sequence waits again. */
void sched_preempt(struct sched *s, struct seq *q);
/* Takes over blocks from the prefix cache as far as they go; one token is left to compute.
 * Returns how many tokens that spares. */
uint32_t sched_adopt(struct sched *s, struct seq *q);
void sched_count_adopted(struct sched *s, struct seq *q, uint32_t n_tokens);
void sched_release_blocks(struct sched *s, struct seq *q);
/* Begins the plan that comes behind those under way. */
struct plan *sched_new_plan(struct sched *s);
/* Where, in the table of this step, the sequence stands that computes the same block next as q. */
struct seq **sched_twin_slot(const struct sched *s, const struct seq *q);

/* --- in the way of every token --- */

/* A place in the stream for a token that a step will give. What was free stays free until we use it,
 * since the consumer only makes room: so the stream is asked once per many tokens. */
static inline bool sched_reserve_room(struct seq_group *g)
{
    if (g->room == 0) {
        uint32_t n = stream_room(g->req, g->epoch, g->n_reserved + 1);
        if (n <= g->n_reserved)
            return false;
        g->room = n - g->n_reserved;
    }
    g->room--;
    g->n_reserved++;
    return true;
}

static inline void sched_return_room(struct seq_group *g)
{
    g->room++;
    g->n_reserved--;
}

/* Blocks that q lacks for its first n_tokens tokens. */
static inline uint32_t sched_missing_blocks(const struct seq *q, uint32_t n_tokens)
{
    uint32_t need = blocks_for(n_tokens);
    return need > q->n_blocks ? need - q->n_blocks : 0;
}

/* So many are free. */
static inline void sched_take_blocks(struct sched *s, struct seq *q, uint32_t n)
{
    BUG_ON(kv_prefix_take(&s->prefix, n, q->blocks + q->n_blocks) != 0);
    q->n_blocks += n;
}

/* sched_int.h - what sched.c (state) and sched_plan.c (one step) share. */
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
/* Where, in the table of this step, the sequence stands that computes the same block next as q. */
struct seq **sched_twin_slot(const struct sched *s, const struct seq *q);

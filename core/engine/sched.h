/* sched.h - decides what each step computes: continuous batching with chunked prefill.
 *
 * A step has a budget of max_num_batched_tokens rows and takes, in this order:
 *   1. decodes: one row of every running sequence whose prompt is computed;
 *   2. admission: waiting sequences, strictly by (priority, arrival), while there is a place among
 *      max_num_seqs and the pool can hold the whole of what they must compute beside what the
 *      running prefills still need and one more block for each running sequence;
 *   3. prefills, with the rows that are left: half of them to the first in order, the other half
 *      to those with the least left to compute (per priority). So a long prompt cannot keep short
 *      ones behind it from their first token, and short ones can at most double its time; the
 *      first in order always moves, so every prompt gets there.
 *
 * Who wants its prompt scored (prompt_logprobs) takes nothing from the prefix cache that is to be
 * scored, and so many rows per step as their logits fit beside one row of each other sequence.
 *
 * Blocks are taken when rows need them. When the pool is dry, blocks are taken away from sequences
 * that do not run (paused, or waiting for a place again), then from the last in order that runs
 * (preemption by recompute): it waits again, and finds in the prefix cache what was not
 * overwritten. A sequence never takes blocks from one before it, so the first in order always
 * ends, and seq_group_new refused what does not fit the empty pool: nothing can deadlock.
 *
 * Where several prefills would compute the same block next, one does and the others take it over
 * at the next step: a hundred clients with one system prompt cost one.
 *
 * A sequence whose stream is full pauses: it leaves its place to others and keeps its blocks until
 * somebody needs them.
 *
 * Steps ahead. A device that can be told of a step before the one in front of it was read is told of one
 * that follows (sched_follow): one more row of each sequence, fed the token that nobody has read yet.
 * Room in the stream and blocks are taken before. A sequence that turns out to have ended has its row in
 * vain: the entry is dropped, its token never counts, and what the row writes is overwritten by whoever
 * gets the block, since steps run in order. Blocks enter the prefix cache when their tokens are known, as
 * ever. A step that follows needs that
 *   - each running sequence gets a token from the step before, and one at least goes on behind it (that
 *     max_tokens end a sequence is known before);
 *   - nobody could take a place: none waits, or all places stay taken, or the first in the queue did not
 *     fit and nothing was given back since; nor do other choices wait for a prompt in the step before;
 *   - each stream has room for the token, and the pool has the blocks without taking any away;
 *   - what is asked of each sequence's next token does not need the host to know the one before
 *     (sampler_can_follow: allowed ids and bad words of several tokens do).
 * Else the step before is read first, and all is planned as above.
 *
 * Invariants  I1: running is sorted by seq_before(); n_running <= max_num_seqs.
 *             I2: a sequence holds blocks only while it runs or is parked.
 *             I3: a plan has n_rows <= max_num_batched_tokens, n <= max_num_seqs, n_out <=
 *                 max_num_seqs, and is empty only when nothing runs and nothing waits.
 *             I4: between two steps at most one plan is under way, and it follows; seq.ahead names a
 *                 sequence's entry in it.
 * Thread      confined to its worker.
 * Memory      nothing is allocated after init. Groups belong to the worker; the scheduler links
 *             them from sched_add to sched_remove. */
#pragma once
#include "core/backend/batch.h"
#include "core/engine/kv_prefix.h"
#include "core/engine/seq.h"
#include "core/engine/seq_queue.h"

struct sched_opts {
    uint32_t max_num_seqs;
    uint32_t max_num_batched_tokens; /* >= max_num_seqs */
    uint32_t max_groups;
    uint32_t n_kv_blocks;
    bool enable_prefix_caching;
};

struct plan_entry {
    struct seq *seq;   /* NULL: it ended while the step was under way, which is for nothing */
    uint32_t n_rows;   /* from seq->n_computed on */
    uint32_t after;    /* of a plan that follows: row of the logits of the step before that gives
                        * the token to be fed */
    uint32_t n_scores; /* of its last rows (before the one that gives a token): logits are wanted
                        * to score the prompt */
    bool wants_token;  /* its last row is the last known token: sample the next */
};

/* One step. */
struct plan {
    struct plan_entry *entries; /* [max_num_seqs], n in use */
    uint32_t n, n_rows;
    uint32_t n_out;    /* rows whose logits are wanted: */
    uint32_t n_tokens; /* those that give a token; the others score prompts */
    bool follows;      /* a plan that is not committed yet: see sched_follow() */
};

/* Sums since start. */
struct sched_counts {
    uint64_t n_preemptions;
    uint64_t prefix_queries, prefix_hits; /* prompt tokens */
};

struct sched {
    struct sched_opts opts;
    struct kv_pool pool;
    struct kv_prefix prefix;
    struct seq_queue queue;
    struct seq **running; /* [max_num_seqs] */
    uint32_t n_running;
    struct seq **prefills; /* [max_num_seqs], scratch of sched_plan */
    struct seq **twins;    /* [twin_mask + 1], scratch: hash table by next block */
    uint32_t twin_mask;
    struct seq *parked; /* hold blocks without running, newest first */
    const struct seq
        *no_fit; /* the first in the queue, which did not fit when so many blocks were */
    uint32_t
        no_fit_free; /* free, at the last plan; NULL: all were admitted that there was room for */
    struct seq_group *groups;
    uint32_t n_groups;
    uint32_t n_waiting; /* sequences in state WAITING */
    uint32_t n_paused;
    uint64_t n_waiting_tokens;                 /* rows that the queued sequences must compute */
    bool preempted;                            /* in the plan under way: nobody is admitted */
    struct plan plans[STEPS_IN_FLIGHT], *plan; /* `plan` was made last; of those under way */
    uint32_t first_plan, n_plans;              /* the oldest, and how many there are */
    struct sched_counts counts;
};

MUST_CHECK int sched_init(struct sched *s, const struct sched_opts *o);
void sched_fini(struct sched *s); /* without groups; a zeroed scheduler is fine */

/* The group's stream is attached. */
void sched_add(struct sched *s, struct seq_group *g);
/* Takes the group out wherever its sequences are and frees their blocks. Several may be removed
 * before one sched_sweep(), which must come before any of them is freed. */
void sched_remove(struct sched *s, struct seq_group *g);
void sched_sweep(struct sched *s);
/* The stream has room again: what paused waits for its place. */
void sched_resume(struct sched *s, struct seq_group *g);

/* The next step, when none is under way. An empty one is not committed. A plan can be read until the
 * second next is made. */
const struct plan *sched_plan(struct sched *s);
/* The step behind the one that is under way, see above; NULL: that one must be read first. */
const struct plan *sched_follow(struct sched *s);
/* The oldest step under way was computed: counts the rows, shares the blocks that became full.
 * Afterwards each entry that wants a token gets one: seq_accept, then sched_end_seq when it was the
 * last. */
void sched_commit(struct sched *s);
/* Its entry in a plan that is under way is dropped. */
void sched_end_seq(struct sched *s, struct seq *q);

/* Rows of prompts that running and waiting sequences still have to compute. */
uint64_t sched_prefill_tokens(const struct sched *s);
/* What the started groups (seq_group.started) mean for a newcomer. O(sequences). */
struct sched_load {
    uint32_t n_seqs;        /* live sequences, but for paused ones: they are in nobody's way */
    uint32_t n_prefilling;  /* of those: have rows to compute before their next token */
    uint64_t n_owed_tokens; /* these rows */
    uint64_t n_owed_blocks; /* blocks that they will take, and one more for each that decodes */
    uint64_t n_idle_blocks; /* of paused sequences: taken from them when somebody needs them */
};
void sched_load(const struct sched *s, struct sched_load *out);
/* Walks the invariants: for tests. */
void sched_audit(const struct sched *s);

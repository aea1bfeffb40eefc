/* worker_int.h - the worker's state, shared by worker.c (threads and inbox), worker_load.c (from
 * nothing to ready) and worker_step.c (one step). */
#pragma once
#include "core/engine/batch_build.h"
#include "core/engine/engine_metrics.h"
#include "core/engine/sampler.h"
#include "core/engine/sched.h"
#include "core/engine/step_cost.h"
#include "core/engine/worker.h"
#include "core/util/lock.h"

struct engine_weights;
struct forward;

/* A step on the device, and what it was told. */
struct flight {
    const struct plan *plan;
    struct batch_build build;
    uint64_t began_us; /* clock_now_us() when it was enqueued */
};

struct worker {
    const struct worker_opts *opts;
    struct worker_callbacks cb;
    pthread_t thread;

    /* Set by worker_load; read by submitters once the state is READY. */
    struct seq_limits limits;
    struct kv_view *_Atomic kv_view; /* set by worker_load, for any thread; NULL: not yet */

    struct lock mu; /* rank INBOX; guards all down to `status` */
    pthread_cond_t wake;
    bool asleep, drain, stop, abandoned, nudged;
    struct seq_group *inbox_first, *inbox_last; /* submitted, not yet seen by the scheduler */
    uint32_t n_inbox_groups, n_inbox_seqs;
    uint64_t n_inbox_tokens;
    struct seq_group *poked;  /* streams that have room again, requests that were cancelled */
    uint32_t n_groups;        /* in inbox and scheduler */
    uint32_t n_queued_groups; /* in the scheduler's queue, at the last publication */
    uint64_t next_group_id;
    struct worker_status status; /* n_waiting and n_prefill_tokens without the inbox */

    /* Confined to the thread from here on. */
    struct backend *be;
    struct engine_weights *weights;
    struct forward *forward;
    struct sched sched;
    struct flight flights[STEPS_IN_FLIGHT];        /* a ring of max_flights */
    uint32_t first_flight, n_flights, max_flights; /* 1: each step is waited for */
    uint64_t landed_us;                            /* when the last one was over */
    struct sampler_scratch scratch;
    struct token_logprob logprobs[1 + MAX_TOP_LOGPROBS + MAX_LOGPROB_IDS]; /* of one token */
    struct engine_metrics metrics;                                         /* zeroed until ready */
    struct sched_counts counted; /* what metrics were told */
    struct waker_set touched;
    struct seq_group *over; /* to be freed when no plan names them */
    uint64_t n_steps, n_generated;
    uint64_t slow_looked_us; /* when worker_end_slow_reader() looked last */
    struct step_cost cost;
};

/* Publishes the state; outside every lock. */
void worker_publish(struct worker *w, enum worker_state state);
/* False: the worker is to end, so there is no use in loading on. */
bool worker_publish_progress(struct worker *w, const struct load_progress *p);

/* Backend, weights, pools, one generated token. On failure worker_unload() frees what is there. */
MUST_CHECK int worker_load(struct worker *w, struct err *e);
void worker_unload(struct worker *w); /* without groups */

/* The stream of g has had its last item, or is another's now: g goes with the next worker_reap(). */
void worker_group_over(struct worker *w, struct seq_group *g);
/* Ends what g still generates, with an error item for each choice. */
void worker_group_fail(struct worker *w, struct seq_group *g, const struct err *why);
/* When clients that do not read fill the worker, ends the one that took nothing for longest. */
void worker_end_slow_reader(struct worker *w);
/* Takes what is over from the scheduler and frees it. Not while a plan is under way, but for one that
 * follows. */
void worker_reap(struct worker *w);
/* What the model thought of the token of row out_row of a step's logits, when the request wants to
 * know; else NULL. Valid until the next call. */
const struct token_logprob *worker_logprobs(struct worker *w, const struct batch_build *b,
                                            const struct seq_group *g, uint32_t token,
                                            uint32_t out_row);
/* What it thought of the next prompt token to be scored: fills out [sampling_n_scores()], returns the
 * token's rank. */
uint32_t worker_score(struct worker *w, const struct batch_build *b, const struct seq_group *g,
                      uint32_t out_row, struct token_logprob out[]);
/* Plans, computes, samples and pushes one step; false in *out_worked when there was nothing to do.
 * Where the device takes steps ahead, the one that follows is enqueued before this one is read, and
 * stays in flight. An error is the device's: the worker is to die. */
MUST_CHECK int worker_step(struct worker *w, bool *out_worked, struct err *e);

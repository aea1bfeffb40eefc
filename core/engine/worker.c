#include "core/engine/worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine/engine_weights.h"
#include "core/engine/worker_int.h"
#include "core/model/model.h"
#include "core/util/clock.h"
#include "core/util/fault.h"

const char *worker_state_name(enum worker_state s)
{
    static const char *const names[] = {
        [WORKER_STARTING] = "starting", [WORKER_LOADING] = "loading",
        [WORKER_WARMING] = "warming",   [WORKER_READY] = "ready",
        [WORKER_SUSPECT] = "suspect",   [WORKER_DRAINING] = "draining",
        [WORKER_DEAD] = "dead",
    };
    return (size_t)s < ARRAY_LEN(names) ? names[s] : "unknown";
}

/* --- status --- */

/* The published status with what came into the inbox since. w->mu is held. */
static struct worker_status status_now(const struct worker *w)
{
    struct worker_status s = w->status;
    s.n_waiting += w->n_inbox_seqs;
    s.n_prefill_tokens += w->n_inbox_tokens;
    return s;
}

void worker_status(struct worker *w, struct worker_status *out)
{
    lock_take(&w->mu);
    *out = status_now(w);
    lock_drop(&w->mu);
}

static enum kv_block_state block_state(uint8_t seen)
{
    const bool indexed = (seen & KV_VIEW_INDEXED) != 0;
    const uint32_t holders = (seen & KV_VIEW_HOLDERS);
    if (holders == 0)
        return KV_BLOCK_FREE;
    if (holders == 1)
        return indexed ? KV_BLOCK_CACHED : KV_BLOCK_USED;
    return holders == 2 && indexed ? KV_BLOCK_USED : KV_BLOCK_SHARED;
}

uint32_t worker_kv_blocks(const struct worker *w, uint32_t from, uint32_t n, uint8_t *out)
{
    const struct kv_view *v = atomic_load(&w->kv_view);
    for (uint32_t i = 0; v && i < n && from + i < v->n_blocks; i++)
        out[i] =
            (uint8_t)block_state(atomic_load_explicit(&v->blocks[from + i], memory_order_relaxed));
    return v ? v->n_blocks : 0;
}

const struct worker_opts *worker_options(const struct worker *w)
{
    return w->opts;
}

static void publish_metrics(struct worker *w, const struct worker_status *s)
{
    const struct engine_metrics *em = &w->metrics;
    const struct sched_counts *now = &w->sched.counts, *told = &w->counted;
    metric_set(em->running, s->n_running);
    metric_set(em->waiting, s->n_waiting);
    metric_set(em->waiting_for_room, s->n_waiting);
    if (s->n_kv_blocks > 0)
        metric_set(em->kv_usage, 1.0 - (double)s->n_free_kv_blocks / (double)s->n_kv_blocks);
    metric_add(em->preemptions, now->n_preemptions - told->n_preemptions);
    metric_add(em->prefix_queries, now->prefix_queries - told->prefix_queries);
    metric_add(em->prefix_hits, now->prefix_hits - told->prefix_hits);
    w->counted = *now;
}

void worker_publish(struct worker *w, enum worker_state state)
{
    const struct sched *s = &w->sched;
    uint64_t prefill_tokens = sched_prefill_tokens(s);
    struct sched_load load;
    sched_load(s, &load);
    double decode_step_seqs;
    const double decode_step_us = step_cost_decode_mean(&w->cost, &decode_step_seqs);
    lock_take(&w->mu);
    if (state == WORKER_READY && w->drain)
        state = WORKER_DRAINING;
    w->status = (struct worker_status){
        .state = state,
        .load = w->status.load,
        .n_steps = w->n_steps,
        .heartbeat_us = clock_now_us(),
        .n_running = s->n_running,
        .n_waiting = s->n_waiting,
        .n_prefill_tokens = prefill_tokens,
        .n_kv_blocks = s->pool.n_blocks,
        .n_free_kv_blocks = s->pool.n_blocks > 0 ? kv_prefix_n_free(&s->prefix) : 0,
        .generated_tokens = w->n_generated,
        .n_seqs = load.n_seqs,
        .n_prefilling = load.n_prefilling,
        .n_owed_tokens = load.n_owed_tokens,
        .n_owed_blocks = load.n_owed_blocks,
        .n_idle_kv_blocks = load.n_idle_blocks,
        .prefill_us_per_token = step_cost_prefill_token(&w->cost),
        .decode_us_per_seq = step_cost_decode_seq(&w->cost),
        .decode_step_us = decode_step_us,
        .decode_step_seqs = decode_step_seqs,
    };
    w->n_queued_groups = s->queue.n;
    struct worker_report r = {.status = status_now(w)};
    lock_drop(&w->mu);
    publish_metrics(w, &r.status);
    if (s->pool.n_blocks > 0)
        r.n_changes = kv_prefix_take_changes(&w->sched.prefix, &r.changes, &r.changes_anew);
    if (w->cb.published)
        w->cb.published(w->cb.ctx, w, &r);
}

bool worker_publish_progress(struct worker *w, const struct load_progress *p)
{
    fault_load(w->opts->index);
    lock_take(&w->mu);
    const bool go_on = !w->stop && !w->drain;
    w->status.load = *p;
    w->status.heartbeat_us = clock_now_us();
    const struct worker_report r = {.status = status_now(w)};
    lock_drop(&w->mu);
    if (w->cb.published)
        w->cb.published(w->cb.ctx, w, &r);
    return go_on;
}

/* --- what other threads ask for --- */

/* w->mu is held. */
static void wake(struct worker *w)
{
    if (w->asleep)
        pthread_cond_signal(&w->wake);
}

/* The stream of a request has room again, or the request was cancelled. */
static void poke(void *ctx)
{
    struct seq_group *g = ctx;
    struct worker *w = g->worker;
    lock_take(&w->mu);
    if (!g->poked) {
        g->poked = true;
        g->poke_prev = NULL;
        g->poke_next = w->poked;
        if (w->poked)
            w->poked->poke_prev = g;
        w->poked = g;
        wake(w);
    }
    lock_drop(&w->mu);
}

/* Whether one more request may come in. w->mu is held. */
static int submit_verdict(const struct worker *w, struct err *e)
{
    const struct worker_opts *o = w->opts;
    enum worker_state state = w->status.state;
    if (w->abandoned)
        return err_set(e, LLMD_ENOTREADY, "worker %u of model \"%s\" was given up", o->index,
                       o->model_name);
    if (w->drain || w->stop || state == WORKER_DRAINING)
        return err_set(e, LLMD_EDRAINING, "the server is shutting down");
    if (state != WORKER_READY)
        return err_set(e, LLMD_ENOTREADY, "worker %u of model \"%s\" is %s", o->index,
                       o->model_name, worker_state_name(state));
    /* What finds a place at once does not wait. */
    uint32_t n_running = (uint32_t)u64_min(w->status.n_running, o->max_num_seqs);
    uint64_t n_waiting = (uint64_t)w->n_inbox_groups + w->n_queued_groups;
    if (n_waiting >= (uint64_t)o->max_queue + o->max_num_seqs - n_running ||
        w->n_groups >= o->max_queue + o->max_num_seqs)
        return err_set(e, LLMD_EFULL, "%u requests wait already; try again later",
                       w->n_inbox_groups + w->n_queued_groups);
    return 0;
}

/* w->mu is held. */
static void inbox_append(struct worker *w, struct seq_group *g)
{
    g->worker = w;
    g->id = w->next_group_id++;
    if (w->inbox_last)
        w->inbox_last->inbox_next = g;
    else
        w->inbox_first = g;
    w->inbox_last = g;
    w->n_inbox_groups++;
    w->n_inbox_seqs += g->n_seqs;
    w->n_inbox_tokens += g->n_prompt;
    w->n_groups++;
    if (w->asleep) /* it was idle, not stuck: its clock starts now */
        w->status.heartbeat_us = clock_now_us();
    wake(w);
}

int worker_submit(struct worker *w, struct request *r, struct err *e)
{
    lock_take(&w->mu);
    int rc = submit_verdict(w, e);
    lock_drop(&w->mu);
    if (rc)
        return rc;

    struct seq_group *g;
    rc = seq_group_new(r, &w->limits, &g, e); /* takes memory: outside the lock */
    if (rc)
        return rc;
    uint64_t now_us = clock_now_us();
    lock_take(&r->stream.mu);
    g->epoch = r->stream.epoch;
    if (r->trace.queued_us == 0)
        r->trace.queued_us = now_us;
    g->queued_us = r->trace.scheduled_us == 0 ? r->trace.queued_us : now_us; /* it went on here */
    lock_drop(&r->stream.mu);

    lock_take(&w->mu);
    rc = submit_verdict(w, e);
    if (!rc)
        inbox_append(w, g);
    lock_drop(&w->mu);
    if (rc)
        seq_group_free(g);
    else
        request_unref(r); /* the group holds its own */
    return rc;
}

void worker_nudge(struct worker *w)
{
    lock_take(&w->mu);
    w->nudged = true;
    wake(w);
    lock_drop(&w->mu);
}

void worker_abandon(struct worker *w)
{
    lock_take(&w->mu);
    w->abandoned = w->stop = true;
    wake(w);
    lock_drop(&w->mu);
    if (w->opts->shared)
        shared_weights_disown(w->opts->shared, w); /* it may hang in its load */
}

void worker_drain(struct worker *w)
{
    lock_take(&w->mu);
    w->drain = true;
    if (w->status.state == WORKER_READY)
        w->status.state = WORKER_DRAINING;
    wake(w);
    lock_drop(&w->mu);
}

void worker_stop(struct worker *w)
{
    lock_take(&w->mu);
    w->stop = true;
    wake(w);
    lock_drop(&w->mu);
}

/* --- the thread --- */

/* What the others left for the worker, taken at once. */
struct orders {
    struct seq_group *inbox;
    bool drain, stop, abandoned;
};

/* Waits for something to do. w->mu is not held. */
static struct orders take_orders(struct worker *w)
{
    const struct sched *s = &w->sched;
    bool runnable = s->n_running > 0 || s->queue.n > 0 || w->n_flights > 0;
    lock_take(&w->mu);
    while (!runnable && !w->stop && w->status.state != WORKER_DEAD && !w->inbox_first &&
           !w->poked && !w->nudged && !(w->drain && w->n_groups == 0)) {
        w->asleep = true;
        lock_wait(&w->mu, &w->wake, UINT64_MAX);
        w->asleep = false;
    }
    struct orders o = {
        .inbox = w->inbox_first, .drain = w->drain, .stop = w->stop, .abandoned = w->abandoned};
    w->inbox_first = w->inbox_last = NULL;
    w->nudged = false;
    /* They count as waiting again when sched_add has them, before the next publication. */
    w->status.n_waiting += w->n_inbox_seqs;
    w->status.n_prefill_tokens += w->n_inbox_tokens;
    w->n_queued_groups += w->n_inbox_groups;
    w->n_inbox_groups = w->n_inbox_seqs = 0;
    w->n_inbox_tokens = 0;
    lock_drop(&w->mu);
    return o;
}

static void accept_inbox(struct worker *w, struct seq_group *inbox)
{
    static const struct err cancelled = {.code = LLMD_ECANCELLED, .msg = "cancelled"};
    for (struct seq_group *g = inbox, *next; g; g = next) {
        next = g->inbox_next;
        int rc = stream_attach_from(g->req, g->epoch, poke, g, &g->epoch);
        sched_add(&w->sched, g);
        if (rc) { /* it moved to another worker in the meantime */
            worker_group_over(w, g);
            continue;
        }
        lock_take(&g->req->stream.mu);
        g->req->trace.worker = (int32_t)w->opts->index;
        lock_drop(&g->req->stream.mu);
        if (request_is_cancelled(g->req)) /* before it could poke us */
            worker_group_fail(w, g, &cancelled);
    }
}

static struct seq_group *next_poked(struct worker *w)
{
    lock_take(&w->mu);
    struct seq_group *g = w->poked;
    if (g) {
        g->poked = false;
        w->poked = g->poke_next;
        if (w->poked)
            w->poked->poke_prev = NULL;
    }
    lock_drop(&w->mu);
    return g;
}

static void answer_pokes(struct worker *w)
{
    static const struct err cancelled = {.code = LLMD_ECANCELLED, .msg = "cancelled"};
    for (struct seq_group *g; (g = next_poked(w)) != NULL;) {
        if (request_is_cancelled(g->req))
            worker_group_fail(w, g, &cancelled);
        else
            sched_resume(&w->sched, g);
    }
}

/* Runs until the worker is to end; the reason is in e. */
static int run(struct worker *w, struct err *e)
{
    for (;;) {
        struct orders o = take_orders(w);
        accept_inbox(w, o.inbox);
        answer_pokes(w);
        worker_end_slow_reader(w);
        waker_set_flush(&w->touched);
        worker_reap(w);
        if (o.stop)
            return err_set(e, LLMD_EDRAINING, "the server is shutting down");
        bool worked;
        int rc = worker_step(w, &worked, e);
        if (rc) {
            err_prefix(e, "worker %u of model \"%s\" failed: ", w->opts->index,
                       w->opts->model_name);
            return rc;
        }
        worker_publish(w, WORKER_READY);
        if (o.drain && w->sched.n_groups == 0)
            return err_set(e, LLMD_EDRAINING, "drained");
    }
}

/* Ends all requests with an error item; those of a worker that was given up are left to whom they
 * move. Nobody submits any more. */
static void end_all(struct worker *w, const struct err *why)
{
    struct err e = *why;
    if (e.code != LLMD_EDRAINING)
        e.code = LLMD_EWORKER;
    struct orders o = take_orders(w);
    accept_inbox(w, o.inbox);
    for (struct seq_group *g = w->sched.groups; g; g = g->next) {
        if (o.abandoned)
            worker_group_over(w, g);
        else
            worker_group_fail(w, g, &e);
    }
    waker_set_flush(&w->touched);
    worker_reap(w);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct err e = {0};
    char name[16];
    snprintf(name, sizeof(name), "llmd-worker%u", w->opts->index % 1000);
    (void)pthread_setname_np(pthread_self(), name);

    int rc = worker_load(w, &e);
    if (rc == 0) {
        worker_publish(w, WORKER_READY);
        if (w->cb.ready)
            w->cb.ready(w->cb.ctx, w);
        rc = run(w, &e);
    }
    BUG_ON(rc == 0);
    lock_take(&w->mu);
    w->status.state = WORKER_DEAD; /* from here on submissions are refused */
    lock_drop(&w->mu);
    if (-rc != LLMD_EDRAINING && w->cb.dying)
        w->cb.dying(w->cb.ctx, w, &e);
    end_all(w, &e);
    worker_publish(w, WORKER_DEAD);
    worker_unload(w);
    if (w->cb.dead)
        w->cb.dead(w->cb.ctx, w, &e);
    return NULL;
}

/* --- start and end --- */

static int check_opts(const struct worker_opts *o, struct err *e)
{
    if (o->max_model_len < 2)
        return err_set(e, LLMD_EINVAL, "max_model_len %u leaves no room for an answer",
                       o->max_model_len);
    if (o->max_num_seqs == 0 || o->max_num_batched_tokens == 0 || o->max_queue == 0)
        return err_set(e, LLMD_EINVAL,
                       "max_num_seqs, max_num_batched_tokens and max_queue must be at least 1");
    BUG_ON(o->device == DEVICE_CUDA && !o->open_gpu);
    if (o->max_queue > UINT32_MAX / 4 || o->max_num_seqs > UINT32_MAX / 4)
        return err_set(e, LLMD_EINVAL, "max_queue or max_num_seqs is too large");
    return 0;
}

int worker_start(const struct worker_opts *opts, const struct worker_callbacks *cb,
                 struct worker **out, struct err *e)
{
    int rc = check_opts(opts, e);
    if (rc)
        return rc;
    struct worker *w = calloc(1, sizeof(*w));
    if (!w)
        return err_set(e, LLMD_ENOMEM, "out of memory for a worker");
    w->opts = opts;
    w->cb = *cb;
    w->status = (struct worker_status){.state = WORKER_STARTING, .heartbeat_us = clock_now_us()};
    lock_init(&w->mu, LOCK_RANK_INBOX);
    lock_cond_init(&w->wake);
    rc = pthread_create(&w->thread, NULL, worker_main, w);
    if (rc) {
        pthread_cond_destroy(&w->wake);
        lock_fini(&w->mu);
        free(w);
        return err_set(e, LLMD_EIO, "cannot start a worker thread: %s", strerror(rc));
    }
    *out = w;
    return 0;
}

void worker_free(struct worker *w)
{
    if (!w)
        return;
    BUG_ON(pthread_join(w->thread, NULL) != 0);
    BUG_ON(w->inbox_first || w->poked || w->n_groups > 0);
    pthread_cond_destroy(&w->wake);
    lock_fini(&w->mu);
    free(atomic_load(&w->kv_view));
    free(w);
}

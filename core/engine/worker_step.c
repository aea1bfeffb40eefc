/* worker_step.c - one step: plan, compute, sample, push. */
#include "core/engine/forward.h"
#include "core/engine/step_trace.h"
#include "core/engine/worker_int.h"
#include "core/util/clock.h"
#include "core/util/fault.h"

/* --- the end of a group --- */

void worker_group_over(struct worker *w, struct seq_group *g)
{
    if (g->over)
        return;
    g->over = true;
    g->over_next = w->over;
    w->over = g;
}

void worker_group_fail(struct worker *w, struct seq_group *g, const struct err *why)
{
    if (g->over)
        return;
    stream_fail(g->req, g->epoch, why, &w->touched);
    worker_group_over(w, g);
}

/* Nothing of it can be computed before its client reads. */
static bool is_paused(const struct seq_group *g)
{
    for (uint32_t i = 0; i < g->n_seqs; i++)
        if (g->seqs[i].state != SEQ_DONE && g->seqs[i].state != SEQ_PAUSED)
            return false;
    return !g->over && g->n_live > 0;
}

void worker_end_slow_reader(struct worker *w)
{
    enum { PATIENCE_US = 10000000, LOOK_AGAIN_US = 100000 };
    static const struct err why = {
        .code = LLMD_ELIMIT, .msg = "the client reads too slowly, and others wait for its place"};
    const uint64_t patience_us = w->opts->slow_reader_us ? w->opts->slow_reader_us : PATIENCE_US;
    struct seq_group *slowest = NULL;
    if (w->sched.n_groups < w->sched.opts.max_groups)
        return;
    const uint64_t now_us = clock_now_us();
    if (now_us - w->slow_looked_us < LOOK_AGAIN_US)
        return;
    w->slow_looked_us = now_us;
    for (struct seq_group *g = w->sched.groups; g; g = g->next)
        if (is_paused(g) && (!slowest || g->last_token_us < slowest->last_token_us))
            slowest = g;
    if (slowest && now_us - slowest->last_token_us >= patience_us)
        worker_group_fail(w, slowest, &why);
}

/* A poke may have come in before the stream's last item; none can any more. */
static void forget_poke(struct worker *w, struct seq_group *g)
{
    if (!g->poked)
        return;
    if (g->poke_prev)
        g->poke_prev->poke_next = g->poke_next;
    else
        w->poked = g->poke_next;
    if (g->poke_next)
        g->poke_next->poke_prev = g->poke_prev;
    g->poked = false;
}

void worker_reap(struct worker *w)
{
    if (!w->over)
        return;
    for (struct seq_group *g = w->over; g; g = g->over_next) {
        stream_detach(g->req, g->epoch); /* it may have been taken away: no poke any more */
        sched_remove(&w->sched, g);
    }
    sched_sweep(&w->sched);

    lock_take(&w->mu);
    for (struct seq_group *g = w->over; g; g = g->over_next) {
        forget_poke(w, g);
        w->n_groups--;
    }
    lock_drop(&w->mu);

    while (w->over) {
        struct seq_group *g = w->over;
        w->over = g->over_next;
        engine_metrics_over(&w->metrics, g);
        if (w->cb.over)
            w->cb.over(w->cb.ctx, w, g->req);
        seq_group_free(g);
    }
}

/* --- one step --- */

/* The step is about to compute the first row of these requests. */
static void note_scheduled(struct worker *w, const struct plan *p)
{
    uint64_t now_us = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        struct seq_group *g = p->entries[i].seq->group;
        if (!g->started && w->cb.started)
            w->cb.started(w->cb.ctx, w, g->req);
        g->started = true;
        if (g->scheduled_us != 0)
            continue;
        if (now_us == 0)
            now_us = clock_now_us();
        g->scheduled_us = now_us;
        struct request *r = g->req;
        lock_take(&r->stream.mu);
        if (r->trace.scheduled_us == 0)
            r->trace.scheduled_us = now_us;
        lock_drop(&r->stream.mu);
        engine_metrics_scheduled(&w->metrics, g);
    }
}

/* Fills build.out_ids, one for each row of the logits that gives a token; a device fills all. */
static int sample(struct worker *w, struct flight *f, struct err *e)
{
    const struct plan *p = f->plan;
    uint32_t *ids = f->build.out_ids, row = 0;
    if (p->n_out == 0)
        return 0;
    if (forward_has_sampler(w->forward))
        return forward_sample(w->forward, f->build.sample_rows, p->n_out, ids, e);

    for (uint32_t i = 0; i < p->n; i++) {
        const struct seq *q = p->entries[i].seq;
        row += p->entries[i].n_scores;
        if (!p->entries[i].wants_token)
            continue;
        ids[row] = sampler_pick(q->sampler, forward_logits(w->forward, row), &w->scratch,
                                seq_n_generated(q));
        row++;
    }
    return 0;
}

/* What a device that samples by itself is not asked: the last word on tokens that are not allowed. */
static void correct_tokens(struct flight *f)
{
    const struct plan *p = f->plan;
    uint32_t *ids = f->build.out_ids, row = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct seq *q = p->entries[i].seq;
        row += p->entries[i].n_scores;
        if (!p->entries[i].wants_token)
            continue;
        if (q)
            ids[row] = sampler_allowed(q->sampler, ids[row]);
        row++;
    }
}

/* Gaps between tokens; those of one step are mostly the same, and counted together. */
struct gaps {
    uint64_t us;
    uint64_t n;
};

static void gaps_flush(struct worker *w, struct gaps *gaps)
{
    if (gaps->n > 0)
        metric_observe_n(w->metrics.itl, (double)gaps->us * 1e-6, gaps->n);
    gaps->n = 0;
}

static void note_token(struct worker *w, struct seq *q, uint64_t now_us, struct gaps *gaps)
{
    struct seq_group *g = q->group;
    if (q->last_token_us != 0) {
        uint64_t gap_us = now_us - q->last_token_us;
        if (gap_us != gaps->us)
            gaps_flush(w, gaps);
        gaps->us = gap_us;
        gaps->n++;
    }
    q->last_token_us = g->last_token_us = now_us;
    q->last_step = w->n_steps + 1;
    q->was_paused = q->was_preempted = false;
    if (g->first_token_us == 0) {
        g->first_token_us = now_us;
        if (seq_n_generated(q) == 1) /* else another worker gave the first */
            engine_metrics_first_token(&w->metrics, g);
    }
    w->n_generated++;
}

/* The first choice's prompt is computed: what of it came from the cache is known now. */
static void note_cached(struct seq *q)
{
    struct request *r = q->group->req;
    if (q != q->group->leader || seq_n_generated(q) > 0)
        return;
    lock_take(&r->stream.mu);
    r->trace.n_cached_tokens = q->n_adopted;
    lock_drop(&r->stream.mu);
}

/* The next prompt tokens of a request that wants them scored. */
static void emit_scores(struct worker *w, const struct batch_build *b, struct seq *q,
                        uint32_t n_scores, uint32_t out_row)
{
    struct seq_group *g = q->group;
    struct token_logprob scores[1 + MAX_TOP_LOGPROBS];
    for (uint32_t i = 0; i < n_scores && !g->over; i++) {
        const uint32_t rank = worker_score(w, b, g, out_row + i, scores);
        if (stream_push_score(g->req, g->epoch, scores, rank) != 0)
            return; /* another worker's now: the next push of an item says so */
        g->n_scored++;
    }
}

static void emit(struct worker *w, const struct batch_build *b, struct seq *q, uint32_t out_row,
                 const struct step_facts *facts, uint64_t now_us, struct gaps *gaps)
{
    static const struct err cancelled = {.code = LLMD_ECANCELLED, .msg = "cancelled"};
    const uint32_t token = b->out_ids[out_row];
    struct seq_group *g = q->group;
    struct stream_item item;
    struct trace_gap gap;
    if (g->over)
        return;
    note_cached(q);
    seq_next_item(q, token, &item);
    item.logprobs = worker_logprobs(w, b, g, token, out_row);
    bool has_gap = step_trace_gap(facts, q, now_us, &gap);
    int rc = stream_push_gap(g->req, g->epoch, &item, has_gap ? &gap : NULL, &w->touched);
    BUG_ON(rc == -LLMD_EFULL); /* the plan reserved the room */
    if (rc) {
        worker_group_fail(w, g, &cancelled);
        return;
    }
    seq_accept(q, token);
    note_token(w, q, now_us, gaps);
    if (item.finish == FINISH_NONE)
        return;
    sched_end_seq(&w->sched, q);
    if (g->n_live == 0)
        worker_group_over(w, g);
}

static void push_tokens(struct worker *w, const struct flight *f, const struct step_facts *facts)
{
    const struct plan *p = f->plan;
    uint64_t now_us = clock_now_us(), n_before = w->n_generated;
    uint32_t out_row = 0;
    struct gaps gaps = {0};
    for (uint32_t i = 0; i < p->n; i++) {
        const struct plan_entry *entry = &p->entries[i];
        if (entry->seq)
            emit_scores(w, &f->build, entry->seq, entry->n_scores, out_row);
        out_row += entry->n_scores;
        if (entry->seq && entry->wants_token)
            emit(w, &f->build, entry->seq, out_row, facts, now_us, &gaps);
        out_row += entry->wants_token;
    }
    waker_set_flush(&w->touched); /* the step's only system calls beside the device's */
    gaps_flush(w, &gaps);
    metric_add(w->metrics.generation_tokens, w->n_generated - n_before);
    metric_observe(w->metrics.iteration_tokens, p->n_rows);
}

/* For whoever watches. Returns the time. */
static uint64_t note_step(struct worker *w, uint32_t n_rows)
{
    const uint64_t now_us = clock_now_us(), limit_us = step_cost_limit(&w->cost, n_rows);
    lock_take(&w->mu);
    w->status.step_began_us = now_us;
    w->status.step_limit_us = limit_us;
    lock_drop(&w->mu);
    return now_us;
}

/* Moments of one call of worker_step(), in order. */
struct step_times {
    uint64_t called_us, planned_us, enqueued_us, computed_us, sampled_us;
};

/* The device is told of the step. One that does not take steps ahead has computed it then. */
static int take_off(struct worker *w, const struct plan *p, struct step_times *t, struct err *e)
{
    struct flight *f = &w->flights[(w->first_flight + w->n_flights) % w->max_flights];
    f->plan = p;
    f->began_us = t->planned_us;
    int rc = fault_step(w->opts->index, e);
    if (rc)
        return rc;
    const struct batch *b = batch_build_plan(&f->build, p);
    w->n_flights++;
    if (w->max_flights > 1)
        return forward_post(w->forward, b, f->build.sample_rows, f->build.out_ids, e);
    rc = forward_step(w->forward, b, e);
    t->computed_us = clock_now_us();
    return rc ? rc : sample(w, f, e);
}

/* The oldest step is waited for and read. */
static int land(struct worker *w, struct step_times *t, struct err *e)
{
    struct flight *f = &w->flights[w->first_flight];
    if (w->max_flights > 1) {
        const int rc = forward_collect(w->forward, e);
        if (rc)
            return rc;
        t->computed_us = clock_now_us();
    }
    w->first_flight = (w->first_flight + 1) % w->max_flights;
    w->n_flights--;
    if (w->limits.samplers && forward_has_sampler(w->forward))
        correct_tokens(f);
    t->sampled_us = clock_now_us();
    /* The device was not at it while it was at the step before. */
    const uint64_t began_us = u64_max(f->began_us, w->landed_us);
    struct step_facts facts = {.number = w->n_steps + 1,
                               .began_us = began_us,
                               .us = t->sampled_us - began_us,
                               .worker = w->opts->index};
    w->landed_us = t->sampled_us;
    step_facts_take(&facts, f->plan, &w->cost);
    step_cost_add(&w->cost, facts.n_prefill_rows, facts.n_decodes, facts.us);
    step_trace_chunks(&facts, f->plan);
    sched_commit(&w->sched);
    push_tokens(w, f, &facts);
    sched_sweep(&w->sched);
    worker_reap(w);
    w->n_steps++;
    return 0;
}

/* With a step in flight, before or behind, the device does not wait for the host. */
static void note_times(struct worker *w, const struct step_times *t, bool was_in_flight)
{
    const uint64_t part_us[STEP_PARTS] = {[STEP_SCHEDULE] = t->enqueued_us - t->called_us,
                                          [STEP_COMPUTE] = t->computed_us - t->enqueued_us,
                                          [STEP_SAMPLE] = t->sampled_us - t->computed_us,
                                          [STEP_EMIT] = clock_now_us() - t->sampled_us};
    engine_metrics_step(&w->metrics, part_us,
                        (was_in_flight ? 0 : t->planned_us - t->called_us) +
                            (w->n_flights > 0 ? 0 : part_us[STEP_EMIT]));
}

int worker_step(struct worker *w, bool *out_worked, struct err *e)
{
    struct step_times t = {.called_us = clock_now_us()};
    const bool in_flight = w->n_flights > 0;
    const struct plan *p = in_flight ? w->flights[w->first_flight].plan : sched_plan(&w->sched);
    *out_worked = p->n > 0;
    if (p->n == 0)
        return 0;
    if (!in_flight)
        note_scheduled(w, p);
    t.planned_us = t.enqueued_us = note_step(w, p->n_rows);
    int rc = in_flight ? 0 : take_off(w, p, &t, e);
    const struct plan *next = !rc && w->max_flights > 1 ? sched_follow(&w->sched) : NULL;
    if (next) {
        rc = take_off(w, next, &t, e);
        t.enqueued_us = clock_now_us();
    }
    if (!rc)
        rc = land(w, &t, e);
    if (!rc)
        note_times(w, &t, in_flight);
    return rc;
}

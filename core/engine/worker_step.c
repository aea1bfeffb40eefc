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

static int sample_on_device(struct worker *w, const struct plan *p, struct err *e)
{
    uint32_t *ids = w->build.out_ids, row = 0;
    int rc = forward_sample(w->forward, w->build.sample_rows, p->n_out, ids, e);
    for (uint32_t i = 0; rc == 0 && w->limits.samplers && i < p->n; i++) {
        row += p->entries[i].n_scores;
        if (!p->entries[i].wants_token)
            continue;
        ids[row] = sampler_allowed(p->entries[i].seq->sampler, ids[row]);
        row++;
    }
    return rc;
}

/* Fills build.out_ids, one for each row of the logits that gives a token; a device fills all. */
static int sample(struct worker *w, const struct plan *p, struct err *e)
{
    uint32_t *ids = w->build.out_ids;
    if (p->n_out == 0)
        return 0;
    if (forward_has_sampler(w->forward))
        return sample_on_device(w, p, e);

    uint32_t row = 0;
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
static void emit_scores(struct worker *w, struct seq *q, uint32_t n_scores, uint32_t out_row)
{
    struct seq_group *g = q->group;
    struct token_logprob scores[1 + MAX_TOP_LOGPROBS];
    for (uint32_t i = 0; i < n_scores && !g->over; i++) {
        const uint32_t rank = worker_score(w, g, out_row + i, scores);
        if (stream_push_score(g->req, g->epoch, scores, rank) != 0)
            return; /* another worker's now: the next push of an item says so */
        g->n_scored++;
    }
}

static void emit(struct worker *w, struct seq *q, uint32_t out_row, const struct step_facts *facts,
                 uint64_t now_us, struct gaps *gaps)
{
    static const struct err cancelled = {.code = LLMD_ECANCELLED, .msg = "cancelled"};
    const uint32_t token = w->build.out_ids[out_row];
    struct seq_group *g = q->group;
    struct stream_item item;
    struct trace_gap gap;
    if (g->over)
        return;
    note_cached(q);
    seq_next_item(q, token, &item);
    item.logprobs = worker_logprobs(w, g, token, out_row);
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

static void push_tokens(struct worker *w, const struct plan *p, const struct step_facts *facts)
{
    uint64_t now_us = clock_now_us(), n_before = w->n_generated;
    uint32_t out_row = 0;
    struct gaps gaps = {0};
    for (uint32_t i = 0; i < p->n; i++) {
        const struct plan_entry *entry = &p->entries[i];
        emit_scores(w, entry->seq, entry->n_scores, out_row);
        out_row += entry->n_scores;
        if (entry->wants_token)
            emit(w, entry->seq, out_row++, facts, now_us, &gaps);
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

int worker_step(struct worker *w, bool *out_worked, struct err *e)
{
    const uint64_t planned_us = clock_now_us();
    const struct plan *p = sched_plan(&w->sched);
    *out_worked = p->n > 0;
    if (p->n == 0)
        return 0;
    note_scheduled(w, p);
    uint64_t began_us = note_step(w, p->n_rows), computed_us = 0;
    int rc = fault_step(w->opts->index, e);
    if (!rc)
        rc = forward_step(w->forward, batch_build_plan(&w->build, p), e);
    computed_us = clock_now_us();
    if (!rc)
        rc = sample(w, p, e);
    if (rc)
        return rc;
    struct step_facts facts = {.number = w->n_steps + 1,
                               .began_us = began_us,
                               .us = clock_now_us() - began_us,
                               .worker = w->opts->index};
    step_facts_take(&facts, p, &w->cost);
    step_cost_add(&w->cost, facts.n_prefill_rows, facts.n_decodes, facts.us);
    step_trace_chunks(&facts, p);
    sched_commit(&w->sched);
    push_tokens(w, p, &facts);
    sched_sweep(&w->sched);
    worker_reap(w);
    w->n_steps++;
    const uint64_t sampled_us = facts.began_us + facts.us, ended_us = clock_now_us();
    const uint64_t part_us[STEP_PARTS] = {[STEP_SCHEDULE] = began_us - planned_us,
                                          [STEP_COMPUTE] = computed_us - began_us,
                                          [STEP_SAMPLE] = sampled_us - computed_us,
                                          [STEP_EMIT] = ended_us - sampled_us};
    engine_metrics_step(&w->metrics, part_us, part_us[STEP_SCHEDULE] + part_us[STEP_EMIT]);
    return 0;
}

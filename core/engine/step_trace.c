#include "core/engine/step_trace.h"

#include <string.h>

void step_facts_take(struct step_facts *f, const struct plan *p, const struct step_cost *cost)
{
    uint32_t n_longest = 0;
    f->n_rows = p->n_rows;
    f->n_decodes = f->n_prefill_rows = 0;
    f->longest = NULL;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct plan_entry *entry = &p->entries[i];
        if (!entry->seq || entry->seq->state == SEQ_DECODE) {
            f->n_decodes++;
            continue;
        }
        f->n_prefill_rows += entry->n_rows;
        if (entry->n_rows > n_longest) {
            n_longest = entry->n_rows;
            f->longest = entry->seq;
        }
    }
    f->alone_us = step_cost_decode(cost, 1);
    f->decode_us = step_cost_decode(cost, f->n_decodes);
}

void step_trace_chunks(const struct step_facts *f, const struct plan *p)
{
    for (uint32_t i = 0; i < p->n && f->n_prefill_rows > 0; i++) {
        const struct plan_entry *entry = &p->entries[i];
        if (entry->seq->state == SEQ_DECODE)
            continue;
        const struct trace_chunk chunk = {.began_us = f->began_us,
                                          .us = f->us,
                                          .n_rows = entry->n_rows,
                                          .n_step_rows = f->n_rows,
                                          .n_decodes = f->n_decodes,
                                          .n_steps = 1};
        struct request *r = entry->seq->group->req;
        lock_take(&r->stream.mu);
        trace_add_chunk(&r->trace, &chunk);
        lock_drop(&r->stream.mu);
    }
}

/* Takes at most `us` of what is left for that cause. */
static void take_part(struct trace_gap *g, uint64_t *left_us, enum gap_cause cause, double us)
{
    uint64_t part = us <= 0 ? 0 : u64_min(*left_us, (uint64_t)us);
    g->part_us[cause] += part;
    *left_us -= part;
}

/* What the time that decoding does not explain belongs to. */
static enum gap_cause cause_of_rest(const struct step_facts *f, const struct seq *q, bool moved,
                                    uint64_t rest_us)
{
    if (moved)
        return GAP_MIGRATION;
    if (q->was_preempted)
        return GAP_PREEMPTION;
    if (q->was_paused)
        return GAP_CLIENT;
    if (f->n_prefill_rows > 0)
        return GAP_PREFILL;
    return (double)rest_us > f->decode_us && f->decode_us > 0 ? GAP_STALL : GAP_STEP;
}

static void split(const struct step_facts *f, const struct seq *q, bool moved, struct trace_gap *g)
{
    uint64_t left_us = g->us;
    double alone_us = f->alone_us;
    if (alone_us <= 0 && f->n_prefill_rows > 0) /* no step without a prompt was seen yet */
        alone_us = (double)f->us * f->n_decodes / f->n_rows;
    take_part(g, &left_us, GAP_STEP, alone_us);
    take_part(g, &left_us, GAP_BATCH, f->decode_us - f->alone_us);
    enum gap_cause rest = cause_of_rest(f, q, moved, left_us);
    g->part_us[rest] += left_us;
    g->cause = rest;
    for (int i = 0; i < GAP_N_CAUSES && rest < GAP_CLIENT; i++)
        if (g->part_us[i] > g->part_us[g->cause])
            g->cause = (enum gap_cause)i;
}

/* When the choice had its last token, from whichever worker; 0: it has none yet. */
static uint64_t last_token(const struct seq *q, bool *out_moved)
{
    struct request *r = q->group->req;
    *out_moved = q->last_token_us == 0 && seq_n_generated(q) > 0;
    if (!*out_moved)
        return q->last_token_us;
    lock_take(&r->stream.mu);
    uint64_t us = r->trace.last_token_us;
    lock_drop(&r->stream.mu);
    return us;
}

bool step_trace_gap(const struct step_facts *f, const struct seq *q, uint64_t now_us,
                    struct trace_gap *out)
{
    bool moved;
    const uint64_t last_us = last_token(q, &moved);
    if (last_us == 0 || now_us < last_us)
        return false;
    *out = (struct trace_gap){.ended_us = now_us,
                              .us = now_us - last_us,
                              .choice = q->choice,
                              .n_tokens = seq_n_generated(q) + 1,
                              .n_steps = moved ? 0 : f->number - q->last_step,
                              .n_decodes = f->n_decodes,
                              .n_prefill_rows = f->n_prefill_rows,
                              .worker = f->worker};
    split(f, q, moved, out);
    if (f->longest && f->longest->group != q->group) {
        const char *id = f->longest->group->req->id;
        size_t n = id ? strnlen(id, sizeof(out->other) - 1) : 0;
        memcpy(out->other, id ? id : "", n);
    }
    return true;
}

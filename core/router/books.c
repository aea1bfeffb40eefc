/* books.c - what the router knows of its workers: the last report of each, and what was bound to it
 * since. */
#include <string.h>

#include "core/router/router_int.h"
#include "core/util/clock.h"

enum {
    BACKLOG_STEPS = 2, /* of prefill that a worker may owe and still be given more */
};

static const double default_alpha = 0.1, default_delta = 250, max_delta = 1e5;

static uint64_t blocks_for(uint64_t n_tokens)
{
    return (n_tokens + PREFIX_BLOCK_TOKENS - 1) / PREFIX_BLOCK_TOKENS;
}

/* --- reports --- */

/* Twice the workers' caches: what they hold, and what may be promised beside it. Who has not told yet is
 * taken for as large as the largest, so that the map has its size while it is empty. */
static void fit_map(struct routed *m)
{
    uint64_t n_blocks = 0, most = 0;
    uint32_t n_unknown = 0;
    for (uint32_t i = 0; i < m->n_slots; i++) {
        const struct slot *s = m->slots[i];
        if (s->service == SLOT_REMOVED)
            continue;
        n_blocks += s->n_kv_blocks;
        most = u64_max(most, s->n_kv_blocks);
        n_unknown += s->n_kv_blocks == 0;
    }
    n_blocks = u64_min((n_blocks + n_unknown * most) * 2, UINT32_MAX / 8);
    if (n_blocks <= m->n_map_blocks)
        return;
    /* Without memory the map stays as it is, and knows less. */
    int rc = m->map ? prefix_map_grow(m->map, (uint32_t)n_blocks)
                    : prefix_map_new((uint32_t)n_blocks, &m->map);
    if (rc == 0)
        m->n_map_blocks = (uint32_t)n_blocks;
}

void books_note_index(const struct routed *m)
{
    uint64_t n = 0;
    for (const struct routed *o = m->router->models; o; o = o->next)
        if (o->map && strcmp(o->name, m->name) == 0)
            n += prefix_map_n_entries(o->map);
    metric_set(m->metrics.index_blocks, (double)n);
}

void books_report(struct slot *s, const struct worker_report *r)
{
    struct routed *m = s->routed;
    s->status = r->status;
    s->fresh = (struct demand){0};
    s->refuses = false;
    s->n_reports++;
    m->was_ready |= r->status.state == WORKER_READY;
    if (r->status.n_kv_blocks > 0)
        s->n_kv_blocks = r->status.n_kv_blocks;
    fit_map(m);
    if (!m->map)
        return;
    if (r->changes_anew)
        prefix_map_forget(m->map, s->bit);
    for (uint32_t i = 0; i < r->n_changes; i++) {
        if (r->changes[i].added)
            prefix_map_add(m->map, s->bit, r->changes[i].name);
        else
            prefix_map_remove(m->map, s->bit, r->changes[i].name);
    }
    books_note_index(m);
}

/* --- candidates --- */

/* Tokens that are known of the request: prompt and, after a migration, output. */
static uint32_t n_known(const struct dispatch *dp)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < dp->req->stream.n_choices && dp->n_lost_by > 0; i++)
        most = (uint32_t)u64_max(most, dp->req->stream.n_outputs[i]);
    return dp->req->n_prompt + most;
}

/* KV blocks of the whole answer, respectively of what is known of one that ends where the pool does. */
static uint64_t blocks_of_all(const struct dispatch *dp, const struct worker_opts *o)
{
    const struct sampling_params *s = &dp->req->sampling;
    const uint64_t n_tokens =
        s->max_tokens_yields ? n_known(dp) : (uint64_t)dp->req->n_prompt + s->max_tokens - 1;
    return blocks_for(u64_min(n_tokens, o->max_model_len));
}

bool books_could_fit(const struct routed *m, const struct dispatch *dp)
{
    bool known = false;
    for (uint32_t i = 0; i < m->n_slots; i++) {
        const struct slot *s = m->slots[i];
        if (s->service == SLOT_REMOVED)
            continue;
        if (s->n_kv_blocks == 0 && s->status.state != WORKER_DEAD)
            return true; /* it is yet to tell */
        if (s->n_kv_blocks == 0)
            continue;
        known = true;
        if (blocks_of_all(dp, s->opts) <= s->n_kv_blocks)
            return true;
    }
    return !known;
}

static bool may_take(const struct slot *s, const struct dispatch *dp)
{
    return router_slot_able(s) && !(dp->too_small >> s->bit & 1) &&
           !books_was_lost_by(dp, s->link) && blocks_of_all(dp, s->opts) <= s->status.n_kv_blocks;
}

bool books_has_taker(const struct routed *m, const struct dispatch *dp)
{
    for (uint32_t i = 0; i < m->n_slots; i++)
        if (may_take(m->slots[i], dp))
            return true;
    return false;
}

bool books_has_future(const struct routed *m, const struct dispatch *dp)
{
    if (m->held)
        return true;
    for (uint32_t i = 0; i < m->n_slots; i++) {
        const struct slot *s = m->slots[i];
        if (router_slot_awaited(s) && !(dp->too_small >> s->bit & 1) &&
            blocks_of_all(dp, s->opts) <= s->n_kv_blocks)
            return true;
    }
    return books_has_taker(m, dp);
}

/* What dp would ask of a worker that has so much of it. */
static struct demand demand_of(const struct dispatch *dp, const struct prefix_match *match)
{
    const uint32_t known = n_known(dp), n = dp->req->sampling.n;
    const uint32_t n_cached = (uint32_t)u64_min(match->n_known * PREFIX_BLOCK_TOKENS, known - 1);
    const uint64_t need = blocks_for(known);
    return (struct demand){
        .n_seqs = n,
        .n_tokens = known - n_cached + (n - 1),
        .n_blocks = need - u64_min(match->n_held, need) + n,
    };
}

void books_lost_by(struct dispatch *dp, const struct link *l)
{
    dp->lost_by[dp->n_lost_by++ % LOST_BY_MAX] = l->number;
    record_event(&dp->record->moves, dp->req, l->slot->opts->index, l->slot->why.msg);
}

bool books_was_lost_by(const struct dispatch *dp, const struct link *l)
{
    for (uint32_t i = 0; i < u64_min(dp->n_lost_by, LOST_BY_MAX); i++)
        if (dp->lost_by[i] == l->number)
            return true;
    return false;
}

/* Whether another worker of the model is above suspicion. */
static bool has_better(const struct slot *s)
{
    const struct routed *m = s->routed;
    for (uint32_t i = 0; i < m->n_slots; i++)
        if (router_slot_able(m->slots[i]) && !m->slots[i]->suspect)
            return true;
    return false;
}

static enum route_bar bar_of(const struct slot *s, const struct dispatch *dp,
                             const struct demand *d, uint64_t n_owed_tokens)
{
    const struct worker_status *st = &s->status;
    const uint64_t n_seqs = (uint64_t)st->n_seqs + s->fresh.n_seqs + s->unstarted.n_seqs;
    const uint64_t n_spoken = st->n_owed_blocks + s->fresh.n_blocks + s->unstarted.n_blocks;
    if (s->service == SLOT_DRAINED)
        return BAR_DRAINED;
    if (!router_slot_able(s))
        return BAR_STATE;
    if (s->suspect && has_better(s))
        return BAR_SUSPECT;
    if (s->refuses)
        return BAR_REFUSES;
    if (books_was_lost_by(dp, s->link))
        return BAR_EXCLUDED;
    if (dp->too_small >> s->bit & 1 || blocks_of_all(dp, s->opts) > st->n_kv_blocks)
        return BAR_TOO_BIG;
    if (n_seqs == 0)
        return BAR_NONE;
    if (n_seqs + d->n_seqs > s->opts->max_num_seqs)
        return BAR_SEQS;
    if (n_spoken + d->n_blocks > st->n_free_kv_blocks + st->n_idle_kv_blocks)
        return BAR_KV;
    if (n_owed_tokens >= (uint64_t)BACKLOG_STEPS * s->opts->max_num_batched_tokens)
        return BAR_BACKLOG;
    return BAR_NONE;
}

static void fill_candidate(const struct slot *s, const struct dispatch *dp,
                           const struct prefix_match *match, struct candidate *c)
{
    const struct worker_status *st = &s->status;
    const struct demand d = demand_of(dp, match);
    const uint32_t n_prompt = dp->req->n_prompt;
    *c = (struct candidate){
        .worker = s->opts->index,
        .n_owed_tokens = st->n_owed_tokens + s->fresh.n_tokens + s->unstarted.n_tokens,
        .n_cached_tokens = (uint32_t)u64_min(match->n_known * PREFIX_BLOCK_TOKENS, n_prompt),
        .n_held_tokens = (uint32_t)u64_min(match->n_held * PREFIX_BLOCK_TOKENS, n_prompt),
        .n_prefilling = st->n_prefilling + s->fresh.n_seqs + s->unstarted.n_seqs,
        .n_decoding = st->n_seqs - st->n_prefilling,
        .step_us = (uint32_t)st->decode_step_us,
        .last_chosen = s->last_chosen,
    };
    c->bar = bar_of(s, dp, &d, c->n_owed_tokens);
}

double books_delta(const struct routed *m)
{
    double sum = 0;
    uint32_t n = 0;
    if (m->opts.delta > 0)
        return m->opts.delta;
    for (uint32_t i = 0; i < m->n_slots; i++) {
        const struct worker_status *st = &m->slots[i]->status;
        if (st->prefill_us_per_token <= 0 || st->decode_us_per_seq <= 0)
            continue;
        sum += st->decode_us_per_seq / st->prefill_us_per_token;
        n++;
    }
    if (n == 0 || m->mean_output <= 0)
        return default_delta;
    const double delta = sum / n * m->mean_output;
    return delta < max_delta ? delta : max_delta;
}

const struct decision *books_decide(struct routed *m, struct dispatch *dp)
{
    struct prefix_match matches[PREFIX_MAP_WORKERS] = {{0, 0}};
    struct decision *d = m->decision;
    const uint64_t all = m->n_slots == 64 ? UINT64_MAX : (1ull << m->n_slots) - 1;
    if (m->map)
        prefix_map_match(m->map, dp->names, dp->n_names, all, matches);
    *d = (struct decision){
        .number = m->n_decisions + 1,
        .at_us = clock_now_us(),
        .policy = m->opts.policy,
        .n_prompt_tokens = dp->req->n_prompt,
        .has_session = dp->req->session != 0,
        .session = dp->req->session,
        .alpha = m->opts.alpha > 0 ? m->opts.alpha : default_alpha,
        .delta = books_delta(m),
    };
    for (uint32_t i = 0; i < m->n_slots; i++) {
        if (m->slots[i]->service == SLOT_REMOVED) /* its index may be another's by now */
            continue;
        m->candidates[d->n_candidates] = (uint8_t)i;
        fill_candidate(m->slots[i], dp, &matches[i], &d->candidates[d->n_candidates++]);
    }
    decision_make(d);
    records_decided(dp->router, dp, d);
    metric_observe(m->metrics.decision_time, (double)(clock_now_us() - d->at_us) * 1e-6);
    return d;
}

/* --- reservations --- */

static void demand_add(struct demand *to, const struct demand *d)
{
    to->n_seqs += d->n_seqs;
    to->n_tokens += d->n_tokens;
    to->n_blocks += d->n_blocks;
}

static void demand_sub(struct demand *from, const struct demand *d)
{
    BUG_ON(from->n_seqs < d->n_seqs || from->n_tokens < d->n_tokens ||
           from->n_blocks < d->n_blocks); /* I2 */
    from->n_seqs -= d->n_seqs;
    from->n_tokens -= d->n_tokens;
    from->n_blocks -= d->n_blocks;
}

void books_bind(struct routed *m, struct dispatch *dp, const struct decision *d)
{
    const struct candidate *c = &d->candidates[d->chosen];
    const struct prefix_match match = {.n_held = c->n_held_tokens / PREFIX_BLOCK_TOKENS,
                                       .n_known = c->n_cached_tokens / PREFIX_BLOCK_TOKENS};
    struct slot *s = m->slots[m->candidates[d->chosen]];
    BUG_ON(dp->slot);
    dp->slot = s;
    dp->link = s->link;
    dp->n_reports = s->n_reports;
    dp->link->n_calls++;
    dp->submitting = true;
    dp->started = dp->over = false;
    dp->demand = demand_of(dp, &match);
    demand_add(&s->unstarted, &dp->demand);
    s->last_chosen = ++m->n_decisions;
    metric_add(m->metrics.decisions[d->reason], 1);
    s->n_chosen++;
    s->n_bound++;
    dp->cached = 2 * (uint64_t)c->n_cached_tokens >= dp->req->n_prompt;
    s->n_bound_cached += dp->cached;
    dp->prev = NULL;
    dp->next = s->dispatches;
    if (s->dispatches)
        s->dispatches->prev = dp;
    s->dispatches = dp;
    const uint32_t n_cacheable = m->map && s->opts->enable_prefix_caching ? dp->n_names : 0;
    for (uint32_t i = match.n_known; i < n_cacheable; i++)
        if (prefix_map_promise(m->map, s->bit, dp->names[i])) {
            dp->promised[i / 64] |= 1ull << i % 64;
            dp->n_promised++;
        }
}

void books_started(struct dispatch *dp)
{
    if (dp->started)
        return;
    dp->started = true;
    dp->record->started_us = clock_now_us();
    demand_sub(&dp->slot->unstarted, &dp->demand);
    demand_add(&dp->slot->fresh, &dp->demand);
}

void books_unbind(struct dispatch *dp)
{
    struct slot *s = dp->slot;
    if (!dp->started)
        demand_sub(&s->unstarted, &dp->demand);
    for (uint32_t i = 0; i < dp->n_names && dp->n_promised > 0; i++)
        if (dp->promised[i / 64] >> i % 64 & 1) {
            prefix_map_break(s->routed->map, s->bit, dp->names[i]);
            dp->promised[i / 64] &= ~(1ull << i % 64);
            dp->n_promised--;
        }
    if (dp->prev)
        dp->prev->next = dp->next;
    else
        s->dispatches = dp->next;
    if (dp->next)
        dp->next->prev = dp->prev;
    dp->prev = dp->next = NULL;
    s->n_bound--;
    s->n_bound_cached -= dp->cached;
    dp->slot = NULL;
    dp->link = NULL;
}

/* books.c - what the router knows of its workers: the last report of each, and what was bound to it
 * since. */
#include <string.h>

#include "core/router/router_int.h"
#include "core/util/clock.h"

enum {
    BACKLOG_STEPS = 2, /* of prefill that a worker may owe and still be given more */
};

static const double default_alpha = 0.1, default_delta = 250, max_delta = 1e5;

size_t decision_bytes(void)
{
    return sizeof(struct decision) + PREFIX_MAP_WORKERS * sizeof(struct candidate);
}

static uint64_t blocks_for(uint64_t n_tokens)
{
    return (n_tokens + PREFIX_BLOCK_TOKENS - 1) / PREFIX_BLOCK_TOKENS;
}

/* --- reports --- */

/* Twice the workers' caches: what they hold, and what may be promised beside it. */
static void fit_map(struct routed *m)
{
    uint64_t n_blocks = 0;
    for (uint32_t i = 0; i < m->n_slots; i++)
        n_blocks += m->slots[i]->status.n_kv_blocks;
    n_blocks = u64_min(n_blocks * 2, UINT32_MAX / 8);
    if (n_blocks <= m->n_map_blocks)
        return;
    /* Without memory the map stays as it is, and knows less. */
    int rc = m->map ? prefix_map_grow(m->map, (uint32_t)n_blocks)
                    : prefix_map_new((uint32_t)n_blocks, &m->map);
    if (rc == 0)
        m->n_map_blocks = (uint32_t)n_blocks;
}

void books_report(struct slot *s, const struct worker_report *r)
{
    struct routed *m = s->routed;
    s->status = r->status;
    s->fresh = (struct demand){0};
    s->refuses = false;
    s->n_reports++;
    if (r->status.n_kv_blocks > 0)
        s->n_kv_blocks = r->status.n_kv_blocks;
    fit_map(m);
    if (!m->map)
        return;
    if (r->changes_anew)
        prefix_map_forget(m->map, s->bit, false);
    for (uint32_t i = 0; i < r->n_changes; i++) {
        if (r->changes[i].added)
            prefix_map_add(m->map, s->bit, r->changes[i].name);
        else
            prefix_map_remove(m->map, s->bit, r->changes[i].name);
    }
}

/* --- candidates --- */

/* Tokens that are known of the request: prompt and, after a migration, output. */
static uint32_t n_known(const struct route *rt)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < rt->req->stream.n_choices && rt->n_lost_by > 0; i++)
        most = (uint32_t)u64_max(most, rt->req->stream.n_outputs[i]);
    return rt->req->n_prompt + most;
}

/* KV blocks of the whole answer. */
static uint64_t blocks_of_all(const struct request *req, const struct worker_opts *o)
{
    const uint64_t n_tokens = (uint64_t)req->n_prompt + req->sampling.max_tokens - 1;
    return blocks_for(u64_min(n_tokens, o->max_model_len));
}

bool books_could_fit(const struct routed *m, const struct request *req)
{
    bool known = false;
    for (uint32_t i = 0; i < m->n_slots; i++) {
        const struct slot *s = m->slots[i];
        if (s->n_kv_blocks == 0 && s->status.state != WORKER_DEAD)
            return true; /* it is yet to tell */
        if (s->n_kv_blocks == 0)
            continue;
        known = true;
        if (blocks_of_all(req, s->opts) <= s->n_kv_blocks)
            return true;
    }
    return !known;
}

bool books_has_future(const struct routed *m, const struct route *rt)
{
    for (uint32_t i = 0; i < m->n_slots; i++) {
        const struct slot *s = m->slots[i];
        if (router_slot_able(s) && !(rt->too_small >> s->bit & 1) &&
            !books_was_lost_by(rt, s->link) &&
            blocks_of_all(rt->req, s->opts) <= s->status.n_kv_blocks)
            return true;
    }
    return false;
}

/* What rt would ask of a worker that has so much of it. */
static struct demand demand_of(const struct route *rt, const struct prefix_match *match)
{
    const uint32_t known = n_known(rt), n = rt->req->sampling.n;
    const uint32_t n_cached = (uint32_t)u64_min(match->n_known * PREFIX_BLOCK_TOKENS, known - 1);
    const uint64_t need = blocks_for(known);
    return (struct demand){
        .n_seqs = n,
        .n_tokens = known - n_cached + (n - 1),
        .n_blocks = need - u64_min(match->n_held, need) + n,
    };
}

void books_lost_by(struct route *rt, const struct link *l)
{
    rt->lost_by[rt->n_lost_by++ % LOST_BY_MAX] = l->number;
}

bool books_was_lost_by(const struct route *rt, const struct link *l)
{
    for (uint32_t i = 0; i < u64_min(rt->n_lost_by, LOST_BY_MAX); i++)
        if (rt->lost_by[i] == l->number)
            return true;
    return false;
}

static enum route_bar bar_of(const struct slot *s, const struct route *rt, const struct demand *d,
                             uint64_t n_owed_tokens)
{
    const struct worker_status *st = &s->status;
    const uint64_t n_seqs = (uint64_t)st->n_seqs + s->fresh.n_seqs + s->unstarted.n_seqs;
    const uint64_t n_spoken = st->n_owed_blocks + s->fresh.n_blocks + s->unstarted.n_blocks;
    if (!router_slot_able(s))
        return BAR_STATE;
    if (s->refuses)
        return BAR_REFUSES;
    if (books_was_lost_by(rt, s->link))
        return BAR_EXCLUDED;
    if (rt->too_small >> s->bit & 1 || blocks_of_all(rt->req, s->opts) > st->n_kv_blocks)
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

static void fill_candidate(const struct slot *s, const struct route *rt,
                           const struct prefix_match *match, struct candidate *c)
{
    const struct worker_status *st = &s->status;
    const struct demand d = demand_of(rt, match);
    const uint32_t n_prompt = rt->req->n_prompt;
    *c = (struct candidate){
        .worker = s->opts->index,
        .n_owed_tokens = st->n_owed_tokens + s->fresh.n_tokens + s->unstarted.n_tokens,
        .n_cached_tokens = (uint32_t)u64_min(match->n_known * PREFIX_BLOCK_TOKENS, n_prompt),
        .n_held_tokens = (uint32_t)u64_min(match->n_held * PREFIX_BLOCK_TOKENS, n_prompt),
        .n_prefilling = st->n_prefilling + s->fresh.n_seqs + s->unstarted.n_seqs,
        .n_decoding = st->n_seqs - st->n_prefilling,
        .last_chosen = s->last_chosen,
    };
    c->bar = bar_of(s, rt, &d, c->n_owed_tokens);
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

void books_decide(struct routed *m, struct route *rt)
{
    struct prefix_match matches[PREFIX_MAP_WORKERS] = {{0, 0}};
    struct decision *d = rt->decision;
    const uint64_t all = m->n_slots == 64 ? UINT64_MAX : (1ull << m->n_slots) - 1;
    if (m->map)
        prefix_map_match(m->map, rt->names, rt->n_names, all, matches);
    *d = (struct decision){
        .number = m->n_decisions + 1,
        .at_us = clock_now_us(),
        .policy = m->opts.policy,
        .n_prompt_tokens = rt->req->n_prompt,
        .has_session = rt->req->session != 0,
        .session = rt->req->session,
        .alpha = m->opts.alpha > 0 ? m->opts.alpha : default_alpha,
        .delta = books_delta(m),
        .n_candidates = m->n_slots,
    };
    for (uint32_t i = 0; i < m->n_slots; i++)
        fill_candidate(m->slots[i], rt, &matches[i], &d->candidates[i]);
    decision_make(d);
    metric_observe(m->metrics.decision_time, (double)(clock_now_us() - d->at_us) * 1e-6);
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

void books_bind(struct routed *m, struct route *rt)
{
    const struct candidate *c = &rt->decision->candidates[rt->decision->chosen];
    const struct prefix_match match = {.n_held = c->n_held_tokens / PREFIX_BLOCK_TOKENS,
                                       .n_known = c->n_cached_tokens / PREFIX_BLOCK_TOKENS};
    struct slot *s = m->slots[rt->decision->chosen];
    BUG_ON(rt->slot);
    rt->slot = s;
    rt->link = s->link;
    rt->n_reports = s->n_reports;
    rt->link->n_calls++;
    rt->submitting = true;
    rt->started = rt->over = false;
    rt->demand = demand_of(rt, &match);
    demand_add(&s->unstarted, &rt->demand);
    s->last_chosen = ++m->n_decisions;
    metric_add(m->metrics.decisions[rt->decision->reason], 1);
    s->n_chosen++;
    s->n_bound++;
    rt->prev = NULL;
    rt->next = s->routes;
    if (s->routes)
        s->routes->prev = rt;
    s->routes = rt;
    const uint32_t n_cacheable = m->map && s->opts->enable_prefix_caching ? rt->n_names : 0;
    for (uint32_t i = match.n_known; i < n_cacheable; i++)
        if (prefix_map_promise(m->map, s->bit, rt->names[i])) {
            rt->promised[i / 64] |= 1ull << i % 64;
            rt->n_promised++;
        }
}

void books_started(struct route *rt)
{
    if (rt->started)
        return;
    rt->started = true;
    demand_sub(&rt->slot->unstarted, &rt->demand);
    demand_add(&rt->slot->fresh, &rt->demand);
}

void books_unbind(struct route *rt)
{
    struct slot *s = rt->slot;
    if (!rt->started)
        demand_sub(&s->unstarted, &rt->demand);
    for (uint32_t i = 0; i < rt->n_names && rt->n_promised > 0; i++)
        if (rt->promised[i / 64] >> i % 64 & 1) {
            prefix_map_break(s->routed->map, s->bit, rt->names[i]);
            rt->promised[i / 64] &= ~(1ull << i % 64);
            rt->n_promised--;
        }
    if (rt->prev)
        rt->prev->next = rt->next;
    else
        s->routes = rt->next;
    if (rt->next)
        rt->next->prev = rt->prev;
    rt->prev = rt->next = NULL;
    s->n_bound--;
    rt->slot = NULL;
    rt->link = NULL;
}

#include "core/router/decision.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static const char *const policy_names[] = {
    [ROUTE_PREFIX] = "prefix",
    [ROUTE_ROUNDROBIN] = "roundrobin",
    [ROUTE_SESSION] = "session",
    [ROUTE_LEAST_LOADED] = "least_loaded",
};

const char *route_policy_name(enum route_policy p)
{
    return policy_names[p];
}

bool route_policy_find(const char *name, enum route_policy *out)
{
    if (strcmp(name, "kvaware") == 0)
        name = policy_names[ROUTE_PREFIX];
    for (size_t i = 0; i < ARRAY_LEN(policy_names); i++)
        if (strcmp(name, policy_names[i]) == 0) {
            *out = (enum route_policy)i;
            return true;
        }
    return false;
}

static const char *const bar_texts[] = {
    [BAR_NONE] = "can take it",
    [BAR_STATE] = "not ready",
    [BAR_DRAINED] = "taken out of service",
    [BAR_SUSPECT] = "seems to stall",
    [BAR_REFUSES] = "refused a request just now",
    [BAR_EXCLUDED] = "lost this request before",
    [BAR_TOO_BIG] = "its KV cache can never hold it",
    [BAR_SEQS] = "runs as many sequences as it may",
    [BAR_KV] = "its KV cache is full",
    [BAR_BACKLOG] = "owes prefill enough for two steps",
};

const char *route_bar_text(enum route_bar b)
{
    return bar_texts[b];
}

bool route_bar_find(const char *text, enum route_bar *out)
{
    for (size_t i = 0; i < ARRAY_LEN(bar_texts); i++)
        if (strcmp(text, bar_texts[i]) == 0) {
            *out = (enum route_bar)i;
            return true;
        }
    return false;
}

static const char *const reason_names[] = {
    [REASON_NONE] = "none", [REASON_BACKLOG] = "backlog",
    [REASON_ONLY] = "only", [REASON_CACHED] = "cached",
    [REASON_LOAD] = "load", [REASON_LEAST_LOADED] = "least_loaded",
    [REASON_TURN] = "turn", [REASON_SESSION] = "session",
};

const char *route_reason_name(enum route_reason r)
{
    return reason_names[r];
}

bool route_reason_find(const char *name, enum route_reason *out)
{
    for (size_t i = 0; i < ARRAY_LEN(reason_names); i++)
        if (strcmp(name, reason_names[i]) == 0) {
            *out = (enum route_reason)i;
            return true;
        }
    return false;
}

static double cost_of(const struct decision *d, const struct candidate *c)
{
    const double p = c->n_prefilling, n_decoding = c->n_decoding;
    const double load = (double)c->n_owed_tokens + d->delta * (p + n_decoding);
    if (d->policy == ROUTE_ROUNDROBIN)
        return 0;
    if (d->policy != ROUTE_PREFIX)
        return load;
    const uint32_t left = d->n_prompt_tokens - c->n_cached_tokens;
    return load + (left > 0 ? left : 1) * (1 + p + d->alpha * n_decoding);
}

/* Rendezvous hashing: the highest weight has the session. */
static uint64_t session_weight(const struct decision *d, const struct candidate *c)
{
    const uint64_t key[2] = {d->session, c->worker};
    return XXH3_64bits(key, sizeof(key));
}

/* Whether a is the better choice. */
static bool better(const struct decision *d, bool by_session, const struct candidate *a,
                   const struct candidate *b)
{
    if (by_session) {
        const uint64_t wa = session_weight(d, a), wb = session_weight(d, b);
        if (wa != wb)
            return wa > wb;
    }
    if (a->cost != b->cost)
        return a->cost < b->cost;
    if (a->last_chosen != b->last_chosen)
        return a->last_chosen < b->last_chosen;
    return a->worker < b->worker;
}

static bool competes(const struct decision *d, const struct candidate *c)
{
    return c->bar == BAR_NONE || (c->bar == BAR_BACKLOG && d->policy != ROUTE_ROUNDROBIN);
}

static enum route_reason reason_of(const struct decision *d, bool by_session,
                                   const struct candidate *best, uint32_t n_able)
{
    bool more_elsewhere = false, less_elsewhere = false, equal_cost = false;
    if (best->bar == BAR_BACKLOG)
        return REASON_BACKLOG;
    if (n_able == 1)
        return REASON_ONLY;
    if (by_session)
        return REASON_SESSION;
    for (uint32_t i = 0; i < d->n_candidates; i++) {
        const struct candidate *c = &d->candidates[i];
        if (c == best || !competes(d, c))
            continue;
        more_elsewhere |= c->n_cached_tokens > best->n_cached_tokens;
        less_elsewhere |= c->n_cached_tokens < best->n_cached_tokens;
        equal_cost |= c->cost == best->cost;
    }
    if (equal_cost)
        return REASON_TURN;
    if (d->policy != ROUTE_PREFIX)
        return REASON_LEAST_LOADED;
    if (more_elsewhere)
        return REASON_LOAD;
    return less_elsewhere ? REASON_CACHED : REASON_LEAST_LOADED;
}

void decision_make(struct decision *d)
{
    const bool by_session = d->policy == ROUTE_SESSION && d->has_session;
    struct candidate *best = NULL;
    uint32_t n_able = 0;
    for (uint32_t i = 0; i < d->n_candidates; i++) {
        struct candidate *c = &d->candidates[i];
        c->cost = cost_of(d, c);
        if (!competes(d, c))
            continue;
        n_able++;
        if (!best || better(d, by_session, c, best))
            best = c;
    }
    d->reason = best ? reason_of(d, by_session, best, n_able) : REASON_NONE;
    const int32_t index = best ? (int32_t)(best - d->candidates) : -1;
    d->chosen = d->reason == REASON_BACKLOG ? -1 : index;
    d->awaited = d->reason == REASON_BACKLOG ? index : -1;
}

size_t decision_bytes(uint32_t n_candidates)
{
    return sizeof(struct decision) + n_candidates * sizeof(struct candidate);
}

bool decision_replay(const struct decision *d)
{
    const size_t size = decision_bytes(d->n_candidates);
    struct decision *again = malloc(size);
    if (!again)
        return false;
    memcpy(again, d, size);
    decision_make(again);
    bool same =
        again->chosen == d->chosen && again->awaited == d->awaited && again->reason == d->reason;
    for (uint32_t i = 0; i < d->n_candidates; i++)
        same &= again->candidates[i].cost == d->candidates[i].cost;
    free(again);
    return same;
}

/* The candidate that holds the most of the prompt among those that could take it. */
static const struct candidate *most_cached(const struct decision *d)
{
    const struct candidate *most = NULL;
    for (uint32_t i = 0; i < d->n_candidates; i++) {
        const struct candidate *c = &d->candidates[i];
        if (competes(d, c) && (!most || c->n_cached_tokens > most->n_cached_tokens))
            most = c;
    }
    return most;
}

void decision_explain(const struct decision *d, struct buf *out)
{
    if (d->reason == REASON_BACKLOG)
        buf_addf(out, "waits for worker %u, which is behind but still the best",
                 d->candidates[d->awaited].worker);
    if (d->reason == REASON_NONE)
        buf_addstr(out, "no worker can take it now");
    if (d->chosen < 0)
        return;
    const struct candidate *c = &d->candidates[d->chosen], *most = most_cached(d);
    buf_addf(out, "worker %u: ", c->worker);
    switch (d->reason) {
    case REASON_ONLY:
        buf_addstr(out, "no other can take it now");
        break;
    case REASON_CACHED:
        buf_addf(out, "%u of %u prompt tokens cached there, the most", c->n_cached_tokens,
                 d->n_prompt_tokens);
        break;
    case REASON_LOAD:
        buf_addf(out, "worker %u has %u prompt tokens more, but more to do before", most->worker,
                 most->n_cached_tokens - c->n_cached_tokens);
        break;
    case REASON_LEAST_LOADED:
        buf_addstr(out, "the least loaded");
        break;
    case REASON_TURN:
        buf_addstr(out, "its turn among equals");
        break;
    case REASON_SESSION:
        buf_addstr(out, "the session lives there");
        break;
    case REASON_NONE:
    case REASON_BACKLOG: /* nobody is chosen */
    case REASON_COUNT:
        break;
    }
}

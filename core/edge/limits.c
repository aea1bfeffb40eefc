#include "core/edge/limits.h"

#include <stdio.h>

#define MINUTE_NS (60 * UINT64_C(1000000000))

enum { NS_PER_MS = 1000000, CONCURRENT_WAIT_NS = 1000000000 };

/* How long the bucket takes to refill n, rounded up: never more than the limit gets through. */
static uint64_t cost_ns(uint64_t n, uint32_t per_minute)
{
    const uint64_t minutes = n / per_minute, rest = n % per_minute;
    return minutes * MINUTE_NS + (rest * MINUTE_NS + per_minute - 1) / per_minute;
}

static uint64_t full_at(const struct bucket *b)
{
    return atomic_load_explicit(&b->full_at_ns, memory_order_relaxed);
}

uint64_t bucket_take(struct bucket *b, uint32_t per_minute, uint64_t n, uint64_t now_ns)
{
    if (n > per_minute)
        return UINT64_MAX;
    const uint64_t cost = cost_ns(n, per_minute);
    unsigned long long was = full_at(b);
    for (;;) {
        const uint64_t then = u64_max(was, now_ns) + cost;
        if (then > now_ns + MINUTE_NS)
            return then - now_ns - MINUTE_NS;
        if (atomic_compare_exchange_weak_explicit(&b->full_at_ns, &was, then, memory_order_relaxed,
                                                  memory_order_relaxed))
            return 0;
    }
}

void bucket_settle(struct bucket *b, uint32_t per_minute, uint64_t reserved, uint64_t used,
                   uint64_t now_ns)
{
    const uint64_t had = cost_ns(reserved, per_minute), needs = cost_ns(used, per_minute);
    if (needs <= had) { /* the part above it is there: it was added by our own bucket_take */
        atomic_fetch_sub_explicit(&b->full_at_ns, had - needs, memory_order_relaxed);
        return;
    }
    unsigned long long was = full_at(b);
    while (!atomic_compare_exchange_weak_explicit(&b->full_at_ns, &was,
                                                  u64_max(was, now_ns) + needs - had,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

uint64_t bucket_refill_ns(const struct bucket *b, uint64_t now_ns)
{
    const uint64_t at = full_at(b);
    return at > now_ns ? at - now_ns : 0;
}

uint32_t bucket_left(const struct bucket *b, uint32_t per_minute, uint64_t now_ns)
{
    const uint64_t missing = bucket_refill_ns(b, now_ns);
    return missing >= MINUTE_NS ? 0 : (uint32_t)((MINUTE_NS - missing) * per_minute / MINUTE_NS);
}

/* ---- a key ---- */

static bool refuse(struct key_use *use, enum limit_kind kind, uint64_t wait_ns,
                   struct limit_refusal *why)
{
    *why = (struct limit_refusal){.kind = kind, .wait_ns = wait_ns};
    atomic_fetch_add_explicit(&use->n_limited[kind], 1, memory_order_relaxed);
    return false;
}

static bool take_place(struct key_use *use, uint32_t max)
{
    unsigned n = atomic_load_explicit(&use->n_running, memory_order_relaxed);
    do {
        if (max > 0 && n >= max)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&use->n_running, &n, n + 1,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

bool key_enter(struct key_hold *h, struct key_use *use, const struct key_limits *limits,
               uint64_t now_ns, struct limit_refusal *why)
{
    if (!take_place(use, limits->max_concurrent))
        return refuse(use, LIMIT_CONCURRENT, CONCURRENT_WAIT_NS, why);
    const uint32_t rate = limits->requests_per_minute;
    const uint64_t wait = rate ? bucket_take(&use->requests, rate, 1, now_ns) : 0;
    if (wait > 0) {
        atomic_fetch_sub_explicit(&use->n_running, 1, memory_order_relaxed);
        return refuse(use, LIMIT_REQUESTS, wait, why);
    }
    *h = (struct key_hold){.use = use, .limits = limits, .counted = true};
    return true;
}

bool key_reserve(struct key_hold *h, const struct key_demand *d, uint64_t now_ns,
                 struct limit_refusal *why)
{
    const uint32_t rate = h->use ? h->limits->tokens_per_minute : 0;
    if (rate == 0)
        return true;
    bucket_settle(&h->use->tokens, rate, h->reserved, 0, now_ns);
    h->reserved = 0;
    const uint64_t beside = rate - u64_min(rate, d->n_prompt);
    const uint64_t each = u64_min(d->max_tokens, LIMIT_OUTPUT_RESERVE);
    const uint64_t wanted = d->n_prompt + u64_min(d->n_choices * each, beside);
    const uint64_t wait = bucket_take(&h->use->tokens, rate, wanted, now_ns);
    if (wait > 0)
        return refuse(h->use, LIMIT_TOKENS, wait, why);
    h->reserved = wanted;
    return true;
}

void key_settle(struct key_hold *h, uint64_t n_prompt, uint64_t n_output, uint64_t now_ns)
{
    if (!h->use || h->settled)
        return;
    if (h->limits->tokens_per_minute > 0)
        bucket_settle(&h->use->tokens, h->limits->tokens_per_minute, h->reserved,
                      n_prompt + n_output, now_ns);
    h->reserved = 0;
    h->settled = true;
    atomic_fetch_add_explicit(&h->use->n_prompt_tokens, n_prompt, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->use->n_output_tokens, n_output, memory_order_relaxed);
}

void key_give_back(struct key_hold *h, uint64_t now_ns)
{
    if (!h->use || !h->counted)
        return;
    if (h->limits->requests_per_minute > 0)
        bucket_settle(&h->use->requests, h->limits->requests_per_minute, 1, 0, now_ns);
    h->counted = false;
}

void key_leave(struct key_hold *h, uint64_t now_ns)
{
    if (!h->use)
        return;
    if (h->reserved > 0)
        bucket_settle(&h->use->tokens, h->limits->tokens_per_minute, h->reserved, 0, now_ns);
    atomic_fetch_add_explicit(&h->use->n_requests, h->counted, memory_order_relaxed);
    atomic_fetch_sub_explicit(&h->use->n_running, 1, memory_order_relaxed);
    *h = (struct key_hold){.use = NULL};
}

void limit_format_reset(uint64_t ns, struct buf *out)
{
    uint64_t ms = ns / NS_PER_MS + (ns % NS_PER_MS != 0);
    if (ms < 1000) {
        buf_addf(out, "%llums", (unsigned long long)ms);
        return;
    }
    if (ms >= 60000)
        buf_addf(out, "%llum", (unsigned long long)(ms / 60000));
    ms %= 60000;
    buf_addf(out, "%llu", (unsigned long long)(ms / 1000));
    if (ms % 1000 > 0) {
        char part[8];
        int n = snprintf(part, sizeof(part), ".%03u", (unsigned)(ms % 1000));
        while (part[n - 1] == '0')
            n--;
        buf_add(out, part, (size_t)n);
    }
    buf_addch(out, 's');
}

/* submit.c - the way of a request to a worker.
 *
 *   router_submit ── dispatch_new (prompt hashed, no lock)
 *        │ router.mu: decide; nobody before it and somebody can take it?
 *        ├─ yes: books_bind ── unlock ── worker_submit
 *        └─ no:  fair_queue ── ... a report comes: submit_pump ── books_bind ── worker_submit
 *
 * While a request waits, the router is the producer of its stream: so it hears of a client that
 * leaves, and can fail it. */
#include <stdlib.h>
#include <string.h>

#include "core/router/router_int.h"
#include "core/util/clock.h"

enum {
    ASKED_AT_ONCE = 64,    /* requests that one report may look at */
    PATIENCE_US = 1000000, /* then nobody passes a request that waits for KV blocks */
    COST_MAX = 1 << 30,
    SPARE_CANDIDATES = 2, /* of a record: for workers that are added while the request lives */
};

const struct err submit_nobody = {.code = LLMD_ENOTREADY,
                                  .msg = "no worker is left that could take the request"};

/* --- dispatches --- */

static int dispatch_new(struct router *r, struct request *req, struct dispatch **out, struct err *e)
{
    const uint32_t n_names = req->n_prompt / PREFIX_BLOCK_TOKENS;
    struct dispatch *dp = calloc(1, sizeof(*dp) + n_names * sizeof(dp->names[0]));
    const uint32_t n_slots = atomic_load_explicit(&r->most_slots, memory_order_relaxed);
    uint64_t *promised = calloc(n_names / 64 + 1, sizeof(*promised));
    if (!dp || !promised || !record_begin(req, n_slots + SPARE_CANDIDATES)) {
        free(dp);
        free(promised);
        return err_set(e, LLMD_ENOMEM, "out of memory for a request of %u tokens", req->n_prompt);
    }
    dp->router = r;
    dp->req = req;
    dp->record = req->record;
    dp->promised = promised;
    dp->n_names = n_names;
    prefix_hash_prompt(req->prompt, req->n_prompt, req->cache_salt, dp->names);
    *out = dp;
    return 0;
}

/* Frees all but the request. */
static void route_drop(struct dispatch *dp)
{
    free(dp->promised);
    free(dp);
}

void dispatch_free(struct dispatch *dp)
{
    struct request *req = dp->req;
    route_drop(dp);
    request_unref(req);
}

/* A worker's report makes the router look at what waits. r->mu is held. */
static void nudge_somebody(const struct routed *m)
{
    for (uint32_t i = 0; i < m->n_slots; i++)
        if (router_slot_able(m->slots[i])) {
            worker_nudge(m->slots[i]->link->worker);
            return;
        }
}

/* The stream's call while no worker has the request. Whoever looks at what waits next fails it: that
 * cannot be done from within this call. */
static void poke(void *ctx)
{
    struct dispatch *dp = ctx;
    struct router *r = dp->router;
    if (!request_is_cancelled(dp->req))
        return;
    lock_take(&r->mu);
    dp->cancelled = true;
    if (dp->item.flow) { /* it keeps nobody from the queue any more */
        fair_queue_remove(dp->routed->queue, &dp->item);
        submit_move(dp->routed, dp);
    }
    if (dp->moving)
        nudge_somebody(dp->routed);
    lock_drop(&r->mu);
}

bool dispatch_attach(struct dispatch *dp)
{
    struct request *req = dp->req;
    dp->epoch = stream_attach(req, poke, dp);
    lock_take(&req->stream.mu);
    const bool live = req->stream.n_unfinished > 0;
    lock_drop(&req->stream.mu);
    if (live && request_is_cancelled(req)) /* before it could poke us */
        poke(dp);
    return live;
}

void dispatch_adopt(struct dispatch *dp, struct routed *m)
{
    if (dp->routed)
        dp->routed->n_dispatches--;
    dp->routed = m;
    if (m)
        m->n_dispatches++;
}

void dispatch_forget(struct router *r, struct dispatch *dp)
{
    BUG_ON(dp->slot || dp->item.flow || dp->moving); /* I1 */
    records_unlist(r, dp);
    dispatch_adopt(dp, NULL);
    pthread_cond_broadcast(&r->changed);
}

void dispatch_end(struct router *r, struct dispatch *dp, const struct err *why)
{
    records_end(r, dp, why);
    dispatch_forget(r, dp);
}

void submit_fail(struct router *r, struct dispatch_list *list, const struct err *why)
{
    struct waker_set touched = {.n = 0};
    for (struct dispatch *dp; (dp = dispatch_list_pop(list)) != NULL; dispatch_free(dp)) {
        lock_take(&r->mu);
        dispatch_end(r, dp, why);
        lock_drop(&r->mu);
        stream_fail(dp->req, dp->epoch, why, &touched);
    }
    waker_set_flush(&touched);
}

/* --- the queue --- */

/* Tokens to compute, for the shares of the keys. */
static uint32_t cost_of(const struct request *req)
{
    return (uint32_t)u64_min((uint64_t)req->n_prompt + req->sampling.n, COST_MAX);
}

/* From now on, unless it does already: who was refused by a worker goes on. */
static void waits(struct dispatch *dp)
{
    if (dp->queued_us != 0)
        return;
    dp->queued_us = clock_now_us();
    if (dp->record->queued_us == 0)
        dp->record->queued_us = dp->queued_us;
}

static int push(struct routed *m, struct dispatch *dp)
{
    const struct request *req = dp->req;
    return fair_queue_push(m->queue, &dp->item, req->key_name ? req->key_name : "", req->priority,
                           cost_of(req));
}

static int enqueue(struct routed *m, struct dispatch *dp, struct err *e)
{
    int rc = wait_verdict(m, dp, cost_of(dp->req), e);
    if (rc)
        return rc;
    rc = push(m, dp);
    if (rc)
        return err_set(e, -rc, "out of memory for the queue of model \"%s\"", m->name);
    waits(dp);
    submit_note_waiting(m);
    return 0;
}

struct pump {
    struct routed *m;
    struct dispatch_list *out;
};

/* What keeps everybody from taking it; of several bars the one that will go first. */
static enum route_wait wait_of(const struct decision *d)
{
    enum route_wait w = WAIT_WORKER;
    if (d->reason == REASON_BACKLOG)
        return WAIT_BACKLOG;
    for (uint32_t i = 0; i < d->n_candidates; i++) {
        if (d->candidates[i].bar == BAR_KV)
            return WAIT_KV;
        if (d->candidates[i].bar == BAR_SEQS || d->candidates[i].bar == BAR_REFUSES)
            w = WAIT_SEQS;
    }
    return w;
}

/* Whether some worker could take a small request now. */
static bool anybody_has_room(const struct decision *d)
{
    for (uint32_t i = 0; i < d->n_candidates; i++)
        switch (d->candidates[i].bar) {
        case BAR_STATE:
        case BAR_DRAINED:
        case BAR_SUSPECT:
        case BAR_REFUSES:
        case BAR_SEQS:
            continue;
        default:
            return true;
        }
    return false;
}

/* Whether it has waited so long for KV blocks that those who fit beside it must not take them. */
static bool waited_long_enough(const struct dispatch *dp, const struct decision *d)
{
    if (d->reason != REASON_NONE || d->at_us < dp->queued_us + PATIENCE_US)
        return false;
    for (uint32_t i = 0; i < d->n_candidates; i++)
        if (d->candidates[i].bar == BAR_KV)
            return true;
    return false;
}

/* Decides for one that waits. FAIR_TAKE: it is on the list, bound or cancelled. */
static enum fair_verdict try_bind(struct pump *p, struct dispatch *dp)
{
    if (!dp->cancelled) {
        const struct decision *d = books_decide(p->m, dp);
        if (d->chosen < 0) {
            p->m->wait = wait_of(d);
            return anybody_has_room(d) && !waited_long_enough(dp, d) ? FAIR_PASS : FAIR_STOP;
        }
        books_bind(p->m, dp, d);
    }
    dispatch_list_add(p->out, dp);
    return FAIR_TAKE;
}

static enum fair_verdict visit_queued(void *ctx, struct fair_item *item)
{
    struct pump *p = ctx;
    struct dispatch *dp = (struct dispatch *)item;
    const enum fair_verdict v = try_bind(p, dp);
    if (v == FAIR_TAKE && dp->slot)
        wait_learn_wait(p->m, dp);
    return v;
}

void submit_pump(struct routed *m, struct dispatch_list *out)
{
    struct pump p = {.m = m, .out = out};
    struct dispatch_list movers = m->movers;
    uint32_t left = ASKED_AT_ONCE;
    m->movers = (struct dispatch_list){NULL, NULL};
    m->n_movers = 0;
    for (struct dispatch *dp; (dp = dispatch_list_pop(&movers)) != NULL;) {
        dp->moving = false;
        enum fair_verdict v = FAIR_STOP;
        if (dp->cancelled || left > 0)
            v = try_bind(&p, dp);
        left = v == FAIR_STOP ? 0 : left - (left > 0);
        if (v != FAIR_TAKE)
            submit_move(m, dp);
    }
    if (fair_queue_n(m->queue) > 0 && left > 0)
        fair_queue_scan(m->queue, left, visit_queued, &p);
    submit_note_waiting(m);
}

void submit_move(struct routed *m, struct dispatch *dp)
{
    waits(dp);
    dp->moving = true;
    dispatch_list_add(&m->movers, dp);
    m->n_movers++;
}

void submit_rejoin(struct routed *m, struct dispatch *dp)
{
    if (dp->cancelled || dp->n_lost_by > 0 || push(m, dp) != 0)
        submit_move(m, dp);
}

uint32_t submit_n_waiting(const struct routed *m)
{
    return fair_queue_n(m->queue) + m->n_movers;
}

void submit_note_waiting(struct routed *m)
{
    uint32_t n = submit_n_waiting(m);
    for (const struct routed *o = m->router->models; o; o = o->next)
        if (o != m && strcmp(o->name, m->name) == 0)
            n += submit_n_waiting(o);
    metric_set(m->metrics.waiting, n);
    metric_set(m->metrics.waiting_for_room, n);
    for (int i = 0; i < N_ROUTE_WAITS; i++)
        metric_set(m->metrics.waits[i], i == WAIT_MOVE      ? m->n_movers
                                        : i == (int)m->wait ? n - m->n_movers
                                                            : 0);
}

void submit_take_waiting(struct routed *m, struct dispatch_list *out)
{
    struct dispatch *dp;
    while ((dp = dispatch_list_pop(&m->movers)) != NULL) {
        dp->moving = false;
        dispatch_list_add(out, dp);
    }
    m->n_movers = 0;
    for (struct fair_item *i; (i = fair_queue_any(m->queue)) != NULL;) {
        fair_queue_remove(m->queue, i);
        dispatch_list_add(out, (struct dispatch *)i);
    }
    submit_note_waiting(m);
}

struct sweep {
    struct routed *m;
    bool (*gone)(const struct routed *m, const struct dispatch *dp);
    struct dispatch_list *out;
};

static bool take_if_gone(void *ctx, struct fair_item *item)
{
    struct sweep *sw = ctx;
    struct dispatch *dp = (struct dispatch *)item;
    if (!sw->gone(sw->m, dp))
        return false;
    dispatch_list_add(sw->out, dp);
    return true;
}

void submit_sweep(struct routed *m, bool (*gone)(const struct routed *m, const struct dispatch *dp),
                  struct dispatch_list *out)
{
    struct sweep sw = {.m = m, .gone = gone, .out = out};
    struct dispatch_list movers = m->movers;
    m->movers = (struct dispatch_list){NULL, NULL};
    m->n_movers = 0;
    for (struct dispatch *dp; (dp = dispatch_list_pop(&movers)) != NULL;) {
        dp->moving = false;
        if (!take_if_gone(&sw, &dp->item))
            submit_move(m, dp);
    }
    fair_queue_sweep(m->queue, take_if_gone, &sw);
    submit_note_waiting(m);
}

static bool hopeless(const struct routed *m, const struct dispatch *dp)
{
    return !books_has_future(m, dp);
}

void submit_take_hopeless(struct routed *m, struct dispatch_list *out)
{
    struct dispatch_list lost = {NULL, NULL};
    submit_sweep(m, hopeless, &lost);
    for (struct dispatch *dp; (dp = dispatch_list_pop(&lost)) != NULL; dispatch_list_add(out, dp))
        metric_add(m->metrics.lost_requests, 1);
}

/* --- handing over --- */

/* What became of a bound route when worker_submit returned. */
enum outcome {
    HANDED_OVER, /* the worker has it */
    OVER,        /* the stream has all that it will get: the dispatch is gone */
    AGAIN,       /* another worker may take it */
    MOVED,       /* the worker was lost meanwhile */
    FAILED,      /* no worker will take it */
};

/* The lock was taken again after worker_submit gave rc. */
static enum outcome settle(struct router *r, struct dispatch *dp, int rc, const struct err *why)
{
    struct link *l = dp->link;
    struct slot *s = dp->slot;
    dp->submitting = false;
    l->n_calls--;
    pthread_cond_broadcast(&r->changed);
    if (rc == 0)
        dp->queued_us = 0;
    if (rc == 0 && !dp->over && !l->lost)
        return HANDED_OVER;
    books_unbind(dp);
    if (l->lost) { /* it may have been done with the request without ending it, too */
        books_lost_by(dp, l);
        return MOVED;
    }
    if (rc == 0)
        return OVER;
    record_event(&dp->record->refusals, dp->req, s->opts->index,
                 why->code ? why->msg : "it is taken out of service");
    if (rc == -LLMD_ETOOBIG)
        dp->too_small |= 1ull << s->bit;
    else if (rc == -LLMD_ENOMEM || !err_retryable(-rc))
        return FAILED;
    else if (s->n_reports == dp->n_reports)
        s->refuses = true; /* what could change its mind makes it report */
    return AGAIN;
}

/* Gives a bound route to its worker. Not under the lock. HANDED_OVER and OVER: the dispatch is not
 * ours any more. */
static enum outcome hand_over(struct router *r, struct dispatch *dp, struct err *e)
{
    int rc = worker_submit(dp->link->worker, request_ref(dp->req), e);
    if (rc)
        request_unref(dp->req);
    if (rc == -LLMD_EDRAINING) /* the worker's end, not the server's */
        err_clear(e);
    lock_take(&r->mu);
    enum outcome out = settle(r, dp, rc, e);
    lock_drop(&r->mu);
    if (out == MOVED && !dispatch_attach(dp))
        out = OVER;
    if (out != OVER)
        return out;
    lock_take(&r->mu);
    dispatch_end(r, dp, NULL);
    lock_drop(&r->mu);
    dispatch_free(dp);
    return OVER;
}

void submit_bound(struct router *r, struct dispatch_list *bound)
{
    static const struct err cancelled = {.code = LLMD_ECANCELLED, .msg = "cancelled"};
    struct dispatch *dp;
    while ((dp = dispatch_list_pop(bound)) != NULL) {
        struct dispatch_list one = {dp, dp};
        struct err e = {0};
        if (!dp->slot) {
            submit_fail(r, &one, &cancelled);
            continue;
        }
        enum outcome out = hand_over(r, dp, &e);
        if (out == HANDED_OVER || out == OVER)
            continue;
        struct routed *m = dp->routed;
        lock_take(&r->mu);
        const bool waits = out != FAILED && books_has_future(m, dp);
        if (waits)
            submit_move(m, dp);
        else if (e.code == 0)
            err_set(&e, LLMD_ENOTREADY, "no worker of model \"%s\" is left that could take it",
                    m->name);
        submit_pump(m, bound); /* what was reserved for it is free again */
        lock_drop(&r->mu);
        if (!waits)
            submit_fail(r, &one, &e);
    }
}

/* --- submission --- */

static int refuse_size(const struct request *req, struct err *e)
{
    if (req->sampling.max_tokens_yields)
        return err_set(e, LLMD_ETOOBIG,
                       "the prompt of %u tokens can never fit the KV cache of a worker; shorten it",
                       req->n_prompt);
    return err_set(e, LLMD_ETOOBIG,
                   "prompt and answer of %u + %u tokens can never fit the KV cache of a worker; "
                   "ask for fewer max_tokens",
                   req->n_prompt, req->sampling.max_tokens);
}

/* r->mu is held. */
static int admit(struct router *r, struct routed *m, const struct dispatch *dp, struct err *e)
{
    const struct request *req = dp->req;
    bool able = router_awaits(m);
    for (uint32_t i = 0; i < m->n_slots; i++)
        able |= router_slot_able(m->slots[i]);
    if (r->draining || !able)
        return router_refuse(r, m, e);
    if (!books_could_fit(m, dp))
        return refuse_size(req, e);
    if (!books_has_future(m, dp))
        return err_set(e, LLMD_ENOTREADY, "no worker of model \"%s\" that could take it is ready",
                       m->name);
    return 0;
}

/* Binds it when it may go before nobody, else lets it wait. r->mu is held. */
static int place(struct routed *m, struct dispatch *dp, struct err *e)
{
    if (dp->cancelled) { /* for the next that looks at what waits */
        submit_move(m, dp);
        return 0;
    }
    if (submit_n_waiting(m) == 0) {
        const struct decision *d = books_decide(m, dp);
        if (d->chosen >= 0) {
            books_bind(m, dp, d);
            return 0;
        }
        m->wait = wait_of(d);
    }
    return enqueue(m, dp, e);
}

/* The request stays with the caller. */
static void give_back(struct router *r, struct dispatch *dp, int rc, const struct err *why)
{
    struct err e = {0};
    err_set(&e, -rc, "%s", why ? why->msg : err_text(rc));
    lock_take(&r->mu);
    record_end(dp->record, dp->req, &e);
    dp->record->outcome = OUTCOME_REFUSED;
    lock_drop(&r->mu);
    (void)stream_attach(dp->req, NULL, NULL); /* no call to the dispatch any more */
    route_drop(dp);
}

/* Where to with a dispatch that its worker did not take, for the reason *why (code 0: none)? Places it
 * again or takes it off the books; *why is then the reason. r->mu is held. */
static int place_again(struct router *r, struct dispatch *dp, enum outcome out, struct err *why)
{
    struct err now = {0};
    int rc = out == FAILED ? -why->code : admit(r, dp->routed, dp, &now);
    if (rc == 0)
        rc = place(dp->routed, dp, &now);
    if (rc == 0)
        return 0;
    dispatch_forget(r, dp);
    if (why->code == 0)
        *why = now;
    return -why->code;
}

/* A bound route to its worker, or to the next when that one refuses. *out: what else can go. */
static int hand_over_first(struct router *r, struct dispatch *dp, struct dispatch_list *out_bound,
                           struct err *e)
{
    struct routed *m = dp->routed;
    for (;;) {
        struct err why = {0};
        enum outcome out = hand_over(r, dp, &why);
        if (out == HANDED_OVER || out == OVER)
            return 0;
        lock_take(&r->mu);
        int rc = place_again(r, dp, out, &why);
        const bool goes = rc == 0 && dp->slot;
        if (!goes)
            submit_pump(m, out_bound); /* what was reserved for it is free again */
        lock_drop(&r->mu);
        if (rc && e && e->code == 0)
            *e = why;
        if (!goes)
            return rc;
    }
}

int router_submit(struct router *r, struct request *req, struct err *e)
{
    struct dispatch_list bound = {NULL, NULL};
    struct dispatch *dp;
    int rc = dispatch_new(r, req, &dp, e);
    if (rc)
        return rc;
    (void)dispatch_attach(dp); /* there is all to produce */
    lock_take(&req->stream.mu);
    req->trace.queued_us = clock_now_us();
    lock_drop(&req->stream.mu);
    lock_take(&r->mu);
    struct routed *m = routed_of(r, req, e);
    rc = m ? admit(r, m, dp, e) : -LLMD_ENOTFOUND;
    if (rc == 0)
        rc = place(m, dp, e);
    const bool goes = rc == 0 && dp->slot;
    if (rc == 0) {
        records_list(r, dp);
        dispatch_adopt(dp, m);
        if (!goes) /* it may go before others of its model that wait for a certain worker */
            submit_pump(m, &bound);
    }
    lock_drop(&r->mu);
    if (goes)
        rc = hand_over_first(r, dp, &bound, e);
    if (rc)
        give_back(r, dp, rc, e);
    submit_bound(r, &bound);
    return rc;
}

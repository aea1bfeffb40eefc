/* submit.c - the way of a request to a worker.
 *
 *   router_submit ── route_new (prompt hashed, no lock)
 *        │ router.mu: decide; nobody before it and somebody can take it?
 *        ├─ yes: books_bind ── unlock ── worker_submit
 *        └─ no:  fair_queue ── ... a report comes: submit_pump ── books_bind ── worker_submit
 *
 * While a request waits, the router is the producer of its stream: so it hears of a client that
 * leaves, and can fail it. */
#include <stdlib.h>

#include "core/router/router_int.h"
#include "core/util/clock.h"

enum {
    ASKED_AT_ONCE = 64, /* requests that one report may look at */
    COST_MAX = 1 << 30,
};

/* --- routes --- */

static int route_new(struct router *r, struct request *req, struct route **out, struct err *e)
{
    const uint32_t n_names = req->n_prompt / PREFIX_BLOCK_TOKENS;
    struct route *rt = calloc(1, sizeof(*rt) + n_names * sizeof(rt->names[0]));
    struct decision *d = malloc(decision_bytes());
    uint64_t *promised = calloc(n_names / 64 + 1, sizeof(*promised));
    if (!rt || !d || !promised) {
        free(rt);
        free(d);
        free(promised);
        return err_set(e, LLMD_ENOMEM, "out of memory for a request of %u tokens", req->n_prompt);
    }
    *d = (struct decision){.chosen = -1, .awaited = -1};
    rt->router = r;
    rt->req = req;
    rt->decision = d;
    rt->promised = promised;
    rt->n_names = n_names;
    prefix_hash_prompt(req->prompt, req->n_prompt, req->cache_salt, rt->names);
    *out = rt;
    return 0;
}

/* Frees all but the request. */
static void route_drop(struct route *rt)
{
    free(rt->decision);
    free(rt->promised);
    free(rt);
}

void route_free(struct route *rt)
{
    struct request *req = rt->req;
    route_drop(rt);
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

void route_poke(void *ctx)
{
    struct route *rt = ctx;
    struct router *r = rt->router;
    if (!request_is_cancelled(rt->req))
        return;
    lock_take(&r->mu);
    rt->cancelled = true; /* whoever looks at what waits next fails it: not from within this call */
    if (rt->item.flow || rt->moving)
        nudge_somebody(rt->routed);
    lock_drop(&r->mu);
}

void route_forget(struct router *r, struct route *rt)
{
    BUG_ON(rt->slot || rt->item.flow || rt->moving); /* I1 */
    rt->req->route = NULL;
    r->n_routes--;
    pthread_cond_broadcast(&r->changed);
}

void submit_fail(struct router *r, struct route_list *list, const struct err *why)
{
    struct waker_set touched = {.n = 0};
    for (struct route *rt; (rt = route_list_pop(list)) != NULL; route_free(rt)) {
        lock_take(&r->mu);
        route_forget(r, rt);
        lock_drop(&r->mu);
        stream_fail(rt->req, rt->epoch, why, &touched);
    }
    waker_set_flush(&touched);
}

/* --- the queue --- */

/* Tokens to compute, for the shares of the keys. */
static uint32_t cost_of(const struct request *req)
{
    return (uint32_t)u64_min((uint64_t)req->n_prompt + req->sampling.n, COST_MAX);
}

/* Whether one more may wait. r->mu is held. */
static int queue_verdict(const struct routed *m, struct err *e)
{
    const uint32_t n = fair_queue_n(m->queue);
    const double wait_us = m->bind_interval_us * (n + 1);
    if (n >= m->opts.max_queue)
        return err_set(e, LLMD_EFULL, "%u requests wait already; try again later", n);
    if (m->opts.max_queue_us > 0 && n > 0 && wait_us > (double)m->opts.max_queue_us)
        return err_set(e, LLMD_EFULL,
                       "%u requests wait; at the present rate this one would wait %.0f s, longer "
                       "than the %.0f s that are allowed",
                       n, wait_us / 1e6, (double)m->opts.max_queue_us / 1e6);
    return 0;
}

static int enqueue(struct routed *m, struct route *rt, struct err *e)
{
    const struct request *req = rt->req;
    int rc = queue_verdict(m, e);
    if (rc)
        return rc;
    rc = fair_queue_push(m->queue, &rt->item, req->key_name ? req->key_name : "", req->priority,
                         cost_of(req));
    if (rc)
        return err_set(e, -rc, "out of memory for the queue of model \"%s\"", m->name);
    if (fair_queue_n(m->queue) == 1)
        m->last_bound_us = clock_now_us();
    rt->queued_us = clock_now_us();
    metric_set(m->metrics.waiting, submit_n_waiting(m));
    return 0;
}

/* One left the queue: how long did it take since the one before? */
static void note_interval(struct routed *m)
{
    static const double weight = 0.1;
    const uint64_t now_us = clock_now_us();
    const double us = (double)(now_us - m->last_bound_us);
    m->bind_interval_us =
        m->bind_interval_us > 0 ? m->bind_interval_us * (1 - weight) + us * weight : us;
    m->last_bound_us = now_us;
}

struct pump {
    struct routed *m;
    struct route_list *out;
};

/* Whether some worker could take a small request now. */
static bool anybody_has_room(const struct decision *d)
{
    for (uint32_t i = 0; i < d->n_candidates; i++)
        if (d->candidates[i].bar != BAR_STATE && d->candidates[i].bar != BAR_SEQS)
            return true;
    return false;
}

/* Decides for one that waits. FAIR_TAKE: it is on the list, bound or cancelled. */
static enum fair_verdict try_bind(struct pump *p, struct route *rt)
{
    if (!rt->cancelled) {
        books_decide(p->m, rt);
        if (rt->decision->chosen < 0) {
            rt->refused = 0;
            return anybody_has_room(rt->decision) ? FAIR_PASS : FAIR_STOP;
        }
        books_bind(p->m, rt);
    }
    route_list_add(p->out, rt);
    return FAIR_TAKE;
}

static enum fair_verdict visit_queued(void *ctx, struct fair_item *item)
{
    struct pump *p = ctx;
    const enum fair_verdict v = try_bind(p, (struct route *)item);
    if (v == FAIR_TAKE)
        note_interval(p->m);
    return v;
}

void submit_pump(struct routed *m, struct route_list *out)
{
    struct pump p = {.m = m, .out = out};
    struct route_list movers = m->movers;
    m->movers = (struct route_list){NULL, NULL};
    for (struct route *rt; (rt = route_list_pop(&movers)) != NULL;) {
        rt->moving = false;
        if (try_bind(&p, rt) != FAIR_TAKE)
            submit_move(m, rt);
    }
    if (fair_queue_n(m->queue) > 0)
        fair_queue_scan(m->queue, ASKED_AT_ONCE, visit_queued, &p);
    if (out->first)
        metric_set(m->metrics.waiting, submit_n_waiting(m));
}

void submit_move(struct routed *m, struct route *rt)
{
    rt->moving = true;
    route_list_add(&m->movers, rt);
}

uint32_t submit_n_waiting(const struct routed *m)
{
    uint32_t n = fair_queue_n(m->queue);
    for (const struct route *rt = m->movers.first; rt; rt = rt->after)
        n++;
    return n;
}

void submit_take_waiting(struct routed *m, struct route_list *out)
{
    struct route *rt;
    while ((rt = route_list_pop(&m->movers)) != NULL) {
        rt->moving = false;
        route_list_add(out, rt);
    }
    for (struct fair_item *i; (i = fair_queue_any(m->queue)) != NULL;) {
        fair_queue_remove(m->queue, i);
        route_list_add(out, (struct route *)i);
    }
    metric_set(m->metrics.waiting, 0);
}

/* --- handing over --- */

/* What became of a bound route when worker_submit returned. */
enum outcome {
    HANDED_OVER, /* the worker has it */
    OVER,        /* the worker was already done with it: the route is gone */
    AGAIN,       /* another worker may take it */
    MOVED,       /* the worker was lost meanwhile */
    FAILED,      /* no worker will take it */
};

/* The lock was taken again after worker_submit gave rc. */
static enum outcome settle(struct router *r, struct route *rt, int rc)
{
    struct link *l = rt->link;
    const uint32_t bit = rt->slot->bit;
    rt->submitting = false;
    l->n_submitting--;
    pthread_cond_broadcast(&r->changed);
    if (rc == 0 && !rt->over && !l->lost)
        return HANDED_OVER;
    books_unbind(rt);
    if (rc == 0 && rt->over) {
        route_forget(r, rt);
        return OVER;
    }
    if (rc == 0 || l->lost) {
        books_lost_by(rt, l);
        return MOVED;
    }
    if (rc == -LLMD_ETOOBIG)
        rt->too_small |= 1ull << bit;
    else if (err_retryable(-rc))
        rt->refused |= 1ull << bit;
    else
        return FAILED;
    return AGAIN;
}

/* Gives a bound route to its worker. Not under the lock. */
static enum outcome hand_over(struct router *r, struct route *rt, struct err *e)
{
    int rc = worker_submit(rt->link->worker, request_ref(rt->req), e);
    if (rc)
        request_unref(rt->req);
    lock_take(&r->mu);
    enum outcome out = settle(r, rt, rc);
    lock_drop(&r->mu);
    if (out == OVER)
        route_free(rt);
    return out;
}

/* The producer is the router again: the worker that had it was lost. */
static void reattach(struct route *rt)
{
    rt->epoch = stream_attach(rt->req, route_poke, rt);
}

void submit_bound(struct router *r, struct route_list *bound)
{
    static const struct err cancelled = {.code = LLMD_ECANCELLED, .msg = "cancelled"};
    struct route *rt;
    while ((rt = route_list_pop(bound)) != NULL) {
        struct route_list one = {rt, rt};
        struct err e = {0};
        if (!rt->slot) {
            submit_fail(r, &one, &cancelled);
            continue;
        }
        enum outcome out = hand_over(r, rt, &e);
        if (out == HANDED_OVER || out == OVER)
            continue;
        if (out == FAILED) {
            submit_fail(r, &one, &e);
            continue;
        }
        if (out == MOVED)
            reattach(rt);
        lock_take(&r->mu);
        submit_move(rt->routed, rt);
        submit_pump(rt->routed, bound);
        lock_drop(&r->mu);
    }
}

/* --- submission --- */

/* r->mu is held. */
static int admit(struct router *r, struct routed *m, const struct request *req, struct err *e)
{
    if (!m)
        return err_set(e, LLMD_ENOTFOUND, "The model `%s` does not exist.", req->model);
    bool able = false;
    for (uint32_t i = 0; i < m->n_slots; i++)
        able |= router_slot_able(m->slots[i]);
    if (r->draining || !able)
        return router_refuse(r, m, e);
    if (!books_could_fit(m, req))
        return err_set(
            e, LLMD_ETOOBIG,
            "prompt and answer of %u + %u tokens can never fit the KV cache of a worker; "
            "ask for fewer max_tokens",
            req->n_prompt, req->sampling.max_tokens);
    return 0;
}

/* Binds it when it may go before nobody, else lets it wait. r->mu is held. */
static int place(struct routed *m, struct route *rt, struct err *e)
{
    if (submit_n_waiting(m) == 0) {
        books_decide(m, rt);
        if (rt->decision->chosen >= 0) {
            books_bind(m, rt);
            return 0;
        }
    }
    return enqueue(m, rt, e);
}

/* The request stays with the caller. */
static void give_back(struct route *rt)
{
    (void)stream_attach(rt->req, NULL, NULL); /* no call to the route any more */
    route_drop(rt);
}

/* Where to with a route that its worker did not take, for the reason *why (code 0: none)? Places it
 * again or takes it off the books; *why is then the reason. r->mu is held. */
static int place_again(struct router *r, struct route *rt, enum outcome out, struct err *why)
{
    struct err now = {0};
    int rc = out == FAILED ? -why->code : admit(r, rt->routed, rt->req, &now);
    if (rc == 0 && (rt->too_small != 0 || rt->n_lost_by > 0)) { /* somebody must be left for it */
        books_decide(rt->routed, rt);
        if (rt->decision->reason == REASON_NONE && rt->refused == 0)
            rc = err_set(&now, LLMD_ENOTREADY, "no other worker of model \"%s\" can take it",
                         rt->routed->name);
    }
    if (rc == 0)
        rc = place(rt->routed, rt, &now);
    if (rc == 0)
        return 0;
    route_forget(r, rt);
    if (why->code == 0)
        *why = now;
    return -why->code;
}

/* A bound route to its worker, or to the next when that one refuses. */
static int hand_over_first(struct router *r, struct route *rt, struct err *e)
{
    for (;;) {
        struct err why = {0};
        enum outcome out = hand_over(r, rt, &why);
        if (out == HANDED_OVER || out == OVER)
            return 0;
        if (out == MOVED)
            reattach(rt);
        lock_take(&r->mu);
        int rc = place_again(r, rt, out, &why);
        const bool bound = rc == 0 && rt->slot;
        lock_drop(&r->mu);
        if (rc && e && e->code == 0)
            *e = why;
        if (rc || !bound)
            return rc;
    }
}

int router_submit(struct router *r, struct request *req, struct err *e)
{
    struct route_list bound = {NULL, NULL};
    struct route *rt;
    int rc = route_new(r, req, &rt, e);
    if (rc)
        return rc;
    reattach(rt);
    lock_take(&r->mu);
    struct routed *m = router_find_model(r, req->model);
    rc = admit(r, m, req, e);
    if (rc == 0) {
        rt->routed = m;
        rc = place(m, rt, e);
    }
    const bool goes = rc == 0 && rt->slot;
    if (rc == 0) {
        req->route = rt;
        r->n_routes++;
        if (!goes) /* it may go before others of its model that wait for a certain worker */
            submit_pump(m, &bound);
    }
    lock_drop(&r->mu);
    if (goes)
        rc = hand_over_first(r, rt, e);
    if (rc)
        give_back(rt);
    submit_bound(r, &bound);
    return rc;
}

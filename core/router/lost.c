/* lost.c - what workers tell, and what follows when one is lost.
 *
 *   dying (its own thread) or router_lose (it stalls)
 *     -> link_lose: the worker is abandoned, its requests leave the slot
 *     -> their streams take the router as producer: what the worker still pushes is dropped
 *     -> each goes on at another worker from prompt and output so far, in front of all that waits;
 *        with nobody left, or too many moves behind it, it fails */
#include <stdlib.h>

#include "core/router/router_int.h"
#include "core/util/clock.h"

/* --- callbacks --- */

static bool is_current(const struct link *l)
{
    return l->slot->link == l && !l->lost;
}

static void on_published(void *ctx, struct worker *w, const struct worker_report *r)
{
    struct link *l = ctx;
    struct slot *s = l->slot;
    struct dispatch_list bound = {NULL, NULL}, unborn = bound;
    lock_take(&s->router->mu);
    if (!l->worker) /* worker_start has not returned yet */
        l->worker = w;
    if (is_current(l)) {
        books_report(s, r);
        drain_settle(s, &unborn);
        submit_pump(s->routed, &bound);
    }
    lock_drop(&s->router->mu);
    submit_fail(s->router, &unborn, &submit_nobody);
    submit_bound(s->router, &bound);
}

static void on_started(void *ctx, struct worker *w, struct request *req)
{
    struct link *l = ctx;
    (void)w;
    lock_take(&l->slot->router->mu);
    if (req->dispatch && req->dispatch->link == l)
        books_started(req->dispatch);
    lock_drop(&l->slot->router->mu);
}

/* The length of answers, for what one more sequence costs. */
static void learn_output(struct routed *m, const struct request *req)
{
    static const double weight = 0.02;
    double n = 0;
    for (uint32_t i = 0; i < req->stream.n_choices; i++)
        n += req->stream.n_outputs[i];
    n /= req->stream.n_choices;
    m->mean_output = m->mean_output > 0 ? m->mean_output * (1 - weight) + n * weight : n;
}

static void on_over(void *ctx, struct worker *w, struct request *req)
{
    struct link *l = ctx;
    struct router *r = l->slot->router;
    struct dispatch *dp;
    (void)w;
    lock_take(&r->mu);
    dp = req->dispatch && req->dispatch->link == l ? req->dispatch : NULL;
    if (dp && dp->submitting) { /* whoever submitted it frees it */
        dp->over = true;
        dp = NULL;
    }
    if (dp) {
        learn_output(dp->routed, req);
        wait_learn_stay(dp->routed, dp);
        books_unbind(dp);
        dispatch_end(r, dp, NULL);
    }
    lock_drop(&r->mu);
    if (dp)
        dispatch_free(dp);
}

static void on_dying(void *ctx, struct worker *w, const struct err *why)
{
    struct link *l = ctx;
    lock_take(&l->slot->router->mu);
    if (!l->worker)
        l->worker = w;
    lock_drop(&l->slot->router->mu);
    link_lose(l, why);
}

static void on_dead(void *ctx, struct worker *w, const struct err *why)
{
    struct link *l = ctx;
    struct slot *s = l->slot;
    struct router *r = s->router;
    struct dispatch_list unborn = {NULL, NULL};
    (void)w;
    lock_take(&r->mu);
    if (is_current(l)) {
        s->status.state = WORKER_DEAD;
        s->why = *why;
        drain_settle(s, &unborn);
        if (s->routed->map)
            prefix_map_forget(s->routed->map, s->bit);
    }
    lock_drop(&r->mu);
    submit_fail(r, &unborn, &submit_nobody);
    lock_take(&r->mu);
    l->ended = true;
    pthread_cond_broadcast(&r->changed);
    lock_drop(&r->mu);
}

/* --- a worker is lost --- */

/* Takes the requests of a lost worker that nobody is submitting right now. r->mu is held. */
static void take_routes(struct slot *s, struct link *l, struct dispatch_list *out)
{
    for (struct dispatch *dp = s->dispatches, *next; dp; dp = next) {
        next = dp->next;
        if (dp->link != l || dp->submitting)
            continue;
        books_unbind(dp);
        books_lost_by(dp, l);
        dp->n_migrations++;
        s->n_migrated++;
        s->routed->n_migrations++;
        metric_add(s->routed->metrics.migrations, 1);
        dispatch_list_add(out, dp);
    }
}

/* Takes the stream of a dispatch back. False when there is nothing left to produce. */
static bool take_stream(struct dispatch *dp)
{
    struct request *req = dp->req;
    if (!dispatch_attach(dp))
        return false;
    lock_take(&req->stream.mu);
    req->trace.n_migrations++;
    lock_drop(&req->stream.mu);
    return true;
}

static void move_routes(struct router *r, struct routed *m, struct dispatch_list *moved,
                        const struct err *why)
{
    struct dispatch_list bound = {NULL, NULL}, hopeless = bound, finished = bound, live = bound,
                         unborn = bound;
    struct dispatch *dp;
    while ((dp = dispatch_list_pop(moved)) != NULL)
        dispatch_list_add(take_stream(dp) ? &live : &finished, dp);

    lock_take(&r->mu);
    while ((dp = dispatch_list_pop(&live)) != NULL) {
        if (dp->n_migrations <= m->opts.max_migrations && books_has_future(m, dp))
            submit_move(m, dp);
        else {
            dispatch_list_add(&hopeless, dp);
            metric_add(m->metrics.lost_requests, 1);
        }
    }
    submit_take_hopeless(m, &unborn);
    submit_pump(m, &bound);
    lock_drop(&r->mu);

    struct err failure = *why;
    failure.code = LLMD_EWORKER;
    submit_fail(r, &hopeless, &failure);
    submit_fail(r, &finished, &failure); /* their streams have all they will get */
    failure.code = LLMD_ENOTREADY;       /* as for those that come a moment later */
    submit_fail(r, &unborn, &failure);
    submit_bound(r, &bound);
}

void link_lose(struct link *l, const struct err *why)
{
    struct slot *s = l->slot;
    struct router *r = s->router;
    struct dispatch_list moved = {NULL, NULL};
    lock_take(&r->mu);
    const bool news = is_current(l) && l->worker;
    if (news) {
        l->lost = true;
        l->n_calls++;
        s->status.state = WORKER_DEAD; /* it reports no more; what it had is others' now */
        s->status.n_running = s->status.n_waiting = 0;
        s->status.n_prefill_tokens = 0;
        s->why = *why;
        if (s->service == SLOT_RETURNING)
            s->service = SLOT_SERVES;
        take_routes(s, l, &moved);
        if (s->routed->map)
            prefix_map_forget(s->routed->map, s->bit);
    }
    struct worker *w = l->worker;
    pthread_cond_broadcast(&r->changed);
    lock_drop(&r->mu);
    if (!news)
        return;
    worker_abandon(w);
    move_routes(r, s->routed, &moved, why);
    lock_take(&r->mu);
    l->n_calls--;
    lock_drop(&r->mu);
}

void router_lose(struct router *r, uint32_t index, const struct err *why)
{
    lock_take(&r->mu);
    struct slot *s = router_find_slot(r, index);
    struct link *l = s ? s->link : NULL;
    if (l)
        l->n_calls++; /* it must not be freed meanwhile */
    lock_drop(&r->mu);
    if (!l)
        return;
    link_lose(l, why);
    lock_take(&r->mu);
    l->n_calls--;
    lock_drop(&r->mu);
}

void router_suspect(struct router *r, uint32_t index, bool suspect)
{
    struct dispatch_list bound = {NULL, NULL};
    lock_take(&r->mu);
    struct slot *s = router_find_slot(r, index);
    if (s && s->suspect != suspect) {
        s->suspect = suspect;
        submit_pump(s->routed, &bound); /* what waits for it may go elsewhere, or to it again */
    }
    lock_drop(&r->mu);
    submit_bound(r, &bound);
}

/* --- start, and start again --- */

static void start_failed(struct slot *s)
{
    lock_take(&s->router->mu);
    s->link = NULL;
    s->status.state = WORKER_DEAD;
    if (s->service == SLOT_RETURNING)
        s->service = SLOT_DRAINED;
    lock_drop(&s->router->mu);
}

int link_start(struct slot *s, struct err *e)
{
    const struct worker_callbacks callbacks = {
        .published = on_published,
        .started = on_started,
        .over = on_over,
        .dying = on_dying,
        .dead = on_dead,
        .ctx = calloc(1, sizeof(struct link)),
    };
    struct link *l = callbacks.ctx;
    struct worker *w = NULL;
    if (!l) {
        start_failed(s);
        return err_set(e, LLMD_ENOMEM, "out of memory for a worker of \"%s\"", s->routed->name);
    }
    l->slot = s;
    lock_take(&s->router->mu);
    l->number = ++s->router->n_links;
    s->link = l;
    s->status = (struct worker_status){.state = WORKER_STARTING, .heartbeat_us = clock_now_us()};
    s->suspect = false;
    lock_drop(&s->router->mu);
    int rc = worker_start(s->opts, &callbacks, &w, e);
    if (rc) {
        start_failed(s);
        free(l);
        return rc;
    }
    lock_take(&s->router->mu);
    if (!l->worker) /* its first callback was sooner: somebody may submit to it already */
        l->worker = w;
    s->n_starts++;
    if (s->service == SLOT_DRAINED) /* meanwhile */
        worker_drain(w);
    lock_drop(&s->router->mu);
    return 0;
}

bool link_is_down(const struct slot *s)
{
    return s->status.state == WORKER_DEAD && (!s->link || s->link->lost || s->link->ended);
}

void link_retire(struct slot *s)
{
    s->fresh = (struct demand){0};
    if (!s->link)
        return;
    s->link->next = s->router->lost;
    s->router->lost = s->link;
    s->link = NULL;
}

int router_restart_worker(struct router *r, uint32_t index, struct err *e)
{
    lock_take(&r->mu);
    struct slot *s = router_find_slot(r, index);
    const bool fit = s && !r->draining && s->service != SLOT_DRAINED && link_is_down(s);
    if (fit) {
        link_retire(s);
        s->status.state = WORKER_STARTING; /* nobody else starts it */
    }
    lock_drop(&r->mu);
    if (!fit)
        return err_set(e, LLMD_EINVAL, "there is no worker %u that could be started again", index);
    return link_start(s, e);
}

void router_reap(struct router *r)
{
    lock_take(&r->mu);
    struct link *ended = NULL;
    for (struct link **at = &r->lost; *at;) {
        struct link *l = *at;
        if (!l->ended || l->n_calls > 0) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        l->next = ended;
        ended = l;
    }
    lock_drop(&r->mu);
    for (struct link *l = ended, *next; l; l = next) {
        next = l->next;
        worker_free(l->worker);
        free(l);
    }
}

/* drain.c - workers that are taken out of service, and returned.
 *
 *   SLOT_SERVES ── router_drain_worker ──> SLOT_DRAINED: finishes what it has, ends, stays down
 *        ^                                   │    │
 *        │                                   │    └── router_remove_worker ──> SLOT_REMOVED
 *        └── ready or dead ── SLOT_RETURNING <┘ router_return_worker
 *
 * From the drain to ready again the worker is awaited: what no other can take waits for it. A worker
 * that fails on its way back is awaited no more. Whatever a request waits for, it does so no longer
 * than the model's max_queue_us (router_expire). */
#include "core/router/router_int.h"
#include "core/util/clock.h"

enum { EXPIRY_US = 100000 }; /* a look at all that waits */

/* The slot of that index, with the lock held. */
static int find(const struct router *r, uint32_t index, struct slot **out, struct err *e)
{
    *out = router_find_slot(r, index);
    if (!*out)
        return err_set(e, LLMD_ENOTFOUND, "there is no worker %u", index);
    if (r->draining)
        return err_set(e, LLMD_EDRAINING, "the server is shutting down");
    return 0;
}

/* One that was drained and has ended, with the lock held. */
static int find_down(const struct router *r, uint32_t index, struct slot **out, struct err *e)
{
    int rc = find(r, index, out, e);
    if (rc)
        return rc;
    if ((*out)->service != SLOT_DRAINED)
        return err_set(e, LLMD_EINVAL, "worker %u is in service", index);
    if (!link_is_down(*out))
        return err_set(e, LLMD_ENOTREADY,
                       "worker %u still finishes what it has; wait until it has ended", index);
    return 0;
}

int router_drain_worker(struct router *r, uint32_t index, struct err *e)
{
    struct dispatch_list bound = {NULL, NULL};
    struct slot *s;
    lock_take(&r->mu);
    int rc = find(r, index, &s, e);
    if (rc == 0) {
        s->service = SLOT_DRAINED;
        if (s->status.state == WORKER_READY)
            s->status.state = WORKER_DRAINING;
        if (s->link && s->link->worker && !s->link->lost)
            worker_drain(s->link->worker); /* takes the inbox's lock: of a higher rank */
        submit_pump(s->routed, &bound);    /* what waited for it goes to others */
    }
    lock_drop(&r->mu);
    submit_bound(r, &bound);
    return rc;
}

int router_return_worker(struct router *r, uint32_t index, struct err *e)
{
    struct slot *s;
    lock_take(&r->mu);
    int rc = find_down(r, index, &s, e);
    if (rc == 0) {
        link_retire(s);
        s->service = SLOT_RETURNING;
        s->status.state = WORKER_STARTING; /* nobody else starts it */
    }
    lock_drop(&r->mu);
    return rc ? rc : link_start(s, e);
}

static void unlist(struct slot *s)
{
    struct router *r = s->router;
    struct slot **at = &r->first;
    r->last = NULL;
    while (*at) {
        if (*at == s) {
            *at = s->next;
            continue;
        }
        r->last = *at;
        at = &(*at)->next;
    }
    s->next = NULL;
    r->n_slots--;
}

int router_remove_worker(struct router *r, uint32_t index, struct err *e)
{
    struct dispatch_list unborn = {NULL, NULL};
    struct slot *s;
    lock_take(&r->mu);
    int rc = find_down(r, index, &s, e);
    if (rc == 0) {
        link_retire(s);
        unlist(s);
        s->service = SLOT_REMOVED;
        submit_take_hopeless(s->routed, &unborn);
    }
    lock_drop(&r->mu);
    submit_fail(r, &unborn, &submit_nobody);
    return rc;
}

void drain_settle(struct slot *s, struct dispatch_list *out)
{
    const enum worker_state state = s->status.state;
    if (s->service != SLOT_RETURNING || (state != WORKER_READY && state != WORKER_DEAD))
        return;
    s->service = SLOT_SERVES;
    submit_take_hopeless(s->routed, out);
}

static bool late(const struct routed *m, const struct dispatch *dp)
{
    return clock_now_us() > dp->queued_us + m->opts.max_queue_us;
}

static bool late_and_alone(const struct routed *m, const struct dispatch *dp)
{
    return late(m, dp) && !books_has_taker(m, dp);
}

/* Where no worker reports, nobody else looks. */
static bool has_left(const struct routed *m, const struct dispatch *dp)
{
    (void)m;
    return dp->cancelled;
}

/* Those that are full of slow readers may be idle: they look whom to end when they are woken. */
static void nudge_full_ones(const struct routed *m)
{
    for (uint32_t i = 0; i < m->n_slots; i++)
        if (m->slots[i]->refuses && router_slot_able(m->slots[i]))
            worker_nudge(m->slots[i]->link->worker); /* takes the inbox's lock: of a higher rank */
}

/* What dead workers held leaves the maps, with the lock for a moment at a time. */
static void sweep_maps(struct router *r)
{
    enum { SLOTS_AT_ONCE = 8192 };
    bool done = false;
    while (!done) {
        lock_take(&r->mu);
        done = true;
        for (struct routed *m = r->models; m; m = m->next)
            if (m->map)
                done &= prefix_map_sweep(m->map, SLOTS_AT_ONCE);
        lock_drop(&r->mu);
    }
}

void router_expire(struct router *r)
{
    static const struct err
        nobody = {.code = LLMD_ENOTREADY,
                  .msg = "no worker came back into service within max_queue_time_s; try again "
                         "later"},
        busy = {.code = LLMD_EFULL,
                .msg = "the request waited for max_queue_time_s, and no worker could start it; try "
                       "again later"};
    struct dispatch_list alone = {NULL, NULL}, others = alone, left = alone;
    const uint64_t now_us = clock_now_us();
    sweep_maps(r);
    lock_take(&r->mu);
    const bool due = now_us >= r->next_expiry_us;
    if (due)
        r->next_expiry_us = now_us + EXPIRY_US;
    for (struct routed *m = r->models; m && due; m = m->next) {
        if (submit_n_waiting(m) == 0)
            continue;
        nudge_full_ones(m);
        submit_sweep(m, has_left, &left);
        if (m->opts.max_queue_us == 0)
            continue;
        submit_sweep(m, late_and_alone, &alone);
        submit_sweep(m, late, &others);
    }
    for (const struct dispatch *dp = others.first; dp; dp = dp->after)
        wait_learn_wait(dp->routed, dp);
    lock_drop(&r->mu);
    submit_bound(r, &left);
    submit_fail(r, &alone, &nobody);
    submit_fail(r, &others, &busy);
}

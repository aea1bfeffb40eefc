#include "cmd/roll.h"

#include <string.h>

#include "core/observe/events.h"

static const char *name_of(const struct roll *r)
{
    const struct served *s = r->old ? r->old : r->new;
    BUG_ON(!s);
    return s->c.name;
}

/* The worker at the roll's index, of that generation. False: there is none. */
static bool look(const struct roll *r, const struct served *s, struct router_worker_view *out)
{
    struct router_worker_view v[FLEET_PLACES];
    const uint32_t n = fleet_workers(r->fleet, s, v);
    for (uint32_t i = 0; i < n; i++)
        if (v[i].index == r->index) {
            *out = v[i];
            return true;
        }
    return false;
}

static bool is_up(const struct router_worker_view *v)
{
    return v->status.state == WORKER_READY || v->status.state == WORKER_SUSPECT;
}

/* --- who is served --- */

/* Puts `to` where `from` is in the line-up: at the end when from is NULL, nowhere when to is. False: out of
 * memory, nothing is changed. */
static bool serve(struct roll *r, struct served *from, struct served *to)
{
    struct fleet *f = r->fleet;
    struct fleet before = *f;
    struct err e = {0};
    uint32_t i = 0;
    while (i < f->n_line_up && f->line_up[i] != from)
        i++;
    if (to) {
        f->n_line_up += i == f->n_line_up;
        f->line_up[i] = to;
    } else {
        BUG_ON(i == f->n_line_up);
        f->n_line_up--;
        for (; i < f->n_line_up; i++)
            f->line_up[i] = f->line_up[i + 1];
    }
    if (fleet_publish(f, &e) == 0)
        return true;
    log_warn("reload", "model \"%s\": %s; trying again", name_of(r), e.msg);
    memcpy(f->line_up, before.line_up, sizeof(f->line_up));
    f->n_line_up = before.n_line_up;
    return false;
}

/* New requests go to the new model. */
static bool switch_over(struct roll *r)
{
    if (r->switched)
        return true;
    if (!serve(r, r->old, r->new))
        return false;
    if (r->old)
        router_close_model(r->fleet->router, r->old->generation, true);
    r->switched = true;
    return true;
}

/* --- the steps --- */

/* The worker at the roll's index is to end. */
static void take_out(const struct roll *r)
{
    struct err e = {0};
    if (router_drain_worker(r->fleet->router, r->index, &e) == 0)
        event_note(LOG_INFO, "reload", "draining worker=%u model=%s", r->index, name_of(r));
    else
        log_warn("reload", "worker=%u model=%s: %s", r->index, name_of(r), e.msg);
}

static void drain_at(struct roll *r, uint32_t index)
{
    r->index = index;
    r->state = ROLL_DRAIN;
    take_out(r);
}

/* A GPU's new worker comes where its old one was: only there is memory free. */
static void match_gpu(struct roll *r, uint32_t k, int64_t index)
{
    struct worker_opts *new = r->new->workers, *old = NULL;
    for (uint32_t i = 0; r->old && i < r->old->n_workers; i++)
        if ((int64_t)r->old->workers[i].index == index)
            old = &r->old->workers[i];
    if (!old || old->device != DEVICE_CUDA)
        return;
    for (uint32_t i = k; i < r->new->n_workers; i++)
        if (new[i].device == DEVICE_CUDA &&new[i].gpu == old->gpu) {
            const struct worker_opts first = new[k];
            new[k] = new[i];
            new[i] = first;
            return;
        }
}

/* The next new worker, in the place of an old one or in any. */
static void start_next(struct roll *r, int64_t index)
{
    struct err e = {0};
    struct served *s = r->new;
    const uint32_t k = r->n_started++;
    match_gpu(r, k, index);
    r->state = ROLL_START;
    if (fleet_start_worker(r->fleet, s, k, index, &e) == 0) {
        r->index = s->workers[k].index;
        event_note(LOG_INFO, "reload", "starting worker=%u model=%s", r->index, name_of(r));
        return;
    }
    r->index = s->workers[k].index;
    if (r->why.code == 0)
        r->why = e;
}

/* The old worker that goes next: one that is down, or the last. */
static uint32_t choose_old(const struct router_worker_view *v, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (v[i].status.state == WORKER_DEAD)
            return v[i].index;
    return v[n - 1].index;
}

static enum roll_outcome choose(struct roll *r)
{
    struct router_worker_view v[FLEET_PLACES];
    const uint32_t n_old = r->old ? fleet_workers(r->fleet, r->old, v) : 0;
    const uint32_t n_new = r->new ? r->new->n_workers : 0;
    if (n_old > 1 && r->new) {
        drain_at(r, choose_old(v, n_old));
        return ROLL_GOES_ON;
    }
    if (n_old > 0 || !r->new) { /* nothing of the old may be left behind from here on */
        if (n_old == 0 && r->switched) {
            fleet_retire(r->fleet, r->old);
            return ROLL_DONE;
        }
        if (r->new && !r->switched)
            router_hold_model(r->fleet->router, r->new->generation, true);
        if (switch_over(r))
            r->state = ROLL_QUIET;
        return ROLL_GOES_ON;
    }
    if (r->n_started < n_new) {
        start_next(r, -1);
        return ROLL_GOES_ON;
    }
    if (r->old)
        fleet_retire(r->fleet, r->old);
    return ROLL_DONE;
}

/* Whether the old model's requests have ended; what waits for workers that are all down goes over to the
 * new one, or fails. */
static void await_quiet(struct roll *r)
{
    struct router_worker_view v[FLEET_PLACES];
    struct router_model_view m = {0};
    const uint32_t n = fleet_workers(r->fleet, r->old, v);
    bool down = true;
    for (uint32_t i = 0; i < n; i++)
        down &= v[i].status.state == WORKER_DEAD;
    if (down && r->new && r->new->opened == r->old->opened)
        router_move_waiting(r->fleet->router, r->old->generation, r->new->generation);
    if (router_model_generation(r->fleet->router, r->old->generation, &m) && m.n_requests > 0 &&
        !down)
        return;
    if (n > 0)
        drain_at(r, v[n - 1].index);
    else
        r->state = ROLL_CHOOSE;
}

/* Whether the worker at the roll's index, which was drained, has ended and is removed. */
static bool is_gone(const struct roll *r, const struct served *s)
{
    struct router_worker_view v;
    struct err e = {0};
    if (!look(r, s, &v))
        return true;
    const int rc = router_remove_worker(r->fleet->router, r->index, &e);
    if (rc == -LLMD_EINVAL) /* somebody returned it */
        take_out(r);
    return rc == 0;
}

static void await_drained(struct roll *r)
{
    if (!is_gone(r, r->old))
        return;
    if (r->new && r->n_started < r->new->n_workers)
        start_next(r, r->index);
    else
        r->state = ROLL_CHOOSE;
}

/* The new worker is there: from the first one on there is no way back. */
static void arrive(struct roll *r)
{
    if (!switch_over(r))
        return;
    router_hold_model(r->fleet->router, r->new->generation, false);
    event_note(LOG_INFO, "reload", "ready worker=%u model=%s", r->index, name_of(r));
    r->arrived = true;
    r->state = ROLL_CHOOSE;
}

static void await_ready(struct roll *r)
{
    struct router_worker_view v = {.status.state = WORKER_DEAD};
    const bool there = look(r, r->new, &v);
    if (there && is_up(&v)) {
        arrive(r);
        return;
    }
    if (there && v.n_starts <= 1 && v.status.state != WORKER_DEAD)
        return;
    if (r->arrived) { /* the supervisor's from now on */
        event_note(LOG_WARN, "reload", "worker=%u model=%s does not start: %s", r->index,
                   name_of(r), v.error);
        r->state = ROLL_CHOOSE;
        return;
    }
    if (r->why.code == 0)
        err_set(&r->why, LLMD_EWORKER, "worker %u: %s", r->index, v.error);
    if (there)
        take_out(r);
    r->state = ROLL_BACK_DRAIN;
}

/* --- back --- */

/* The old worker that was in this place; n_workers: there was none. */
static uint32_t old_worker_at(const struct roll *r)
{
    uint32_t k = 0;
    while (k < r->old->n_workers && r->old->workers[k].index != r->index)
        k++;
    return k;
}

static enum roll_outcome fail(struct roll *r, struct err *out)
{
    if (r->old)
        router_hold_model(r->fleet->router, r->old->generation, false);
    fleet_retire(r->fleet, r->new);
    *out = r->why;
    return ROLL_FAILED;
}

/* The new worker is gone: who waited for it goes back, if the token ids mean the same to the old model. */
static enum roll_outcome go_back(struct roll *r, struct err *out)
{
    struct router *router = r->fleet->router;
    struct err e = {0};
    if (!is_gone(r, r->new))
        return ROLL_GOES_ON;
    if (!r->old)
        return fail(r, out);
    if (r->switched && !serve(r, r->new, r->old))
        return ROLL_GOES_ON;
    router_hold_model(router, r->old->generation, true);
    router_close_model(router, r->old->generation, false);
    router_close_model(router, r->new->generation, true);
    if (r->new->opened == r->old->opened)
        router_move_waiting(router, r->new->generation, r->old->generation);
    router_hold_model(router, r->new->generation, false);
    const uint32_t k = old_worker_at(r);
    r->state = ROLL_BACK_START;
    if (k < r->old->n_workers && fleet_start_worker(r->fleet, r->old, k, r->index, &e) != 0)
        event_note(LOG_ERROR, "reload", "worker=%u model=%s does not come back: %s", r->index,
                   name_of(r), e.msg);
    return ROLL_GOES_ON;
}

static enum roll_outcome await_back(struct roll *r, struct err *out)
{
    struct router_worker_view v;
    if (look(r, r->old, &v) && !is_up(&v) && v.status.state != WORKER_DEAD)
        return ROLL_GOES_ON;
    return fail(r, out);
}

void roll_begin(struct roll *r, struct fleet *f, struct served *old, struct served *new)
{
    *r = (struct roll){.fleet = f, .old = old, .new = new, .state = ROLL_CHOOSE};
}

enum roll_outcome roll_step(struct roll *r, struct err *out)
{
    switch (r->state) {
    case ROLL_CHOOSE:
        return choose(r);
    case ROLL_QUIET:
        await_quiet(r);
        break;
    case ROLL_DRAIN:
        await_drained(r);
        break;
    case ROLL_START:
        await_ready(r);
        break;
    case ROLL_BACK_DRAIN:
        return go_back(r, out);
    case ROLL_BACK_START:
        return await_back(r, out);
    }
    return ROLL_GOES_ON;
}

/* router.c - models and their workers: declaration, views, the end. */
#include "core/router/router.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/router/router_int.h"
#include "core/util/clock.h"

enum {
    HANGING_WAIT_US = 2000000,  /* for the threads of lost workers, at the end */
    UNKNOWN_STEP_US = 60000000, /* a step of a worker that cannot say how long one takes */
    LOOK_AGAIN_US = 100000,
};

int router_new(struct router **out, struct err *e)
{
    struct router *r = calloc(1, sizeof(*r));
    if (!r)
        return err_set(e, LLMD_ENOMEM, "out of memory for the router");
    if (records_init(&r->records) != 0) {
        free(r);
        return err_set(e, LLMD_ENOMEM, "out of memory for the router");
    }
    lock_init(&r->mu, LOCK_RANK_ROUTER);
    lock_cond_init(&r->changed);
    *out = r;
    return 0;
}

static void free_link(struct link *l)
{
    if (!l)
        return;
    worker_free(l->worker);
    free(l);
}

/* Whether the thread of a worker that was lost still runs. r->mu is held. */
static bool any_hangs(const struct router *r)
{
    for (const struct slot *s = r->first; s; s = s->next)
        if (s->link && s->link->lost && !s->link->ended)
            return true;
    for (const struct link *l = r->lost; l; l = l->next)
        if (!l->ended)
            return true;
    return false;
}

void router_free(struct router *r)
{
    if (!r)
        return;
    lock_take(&r->mu);
    const bool hangs = any_hangs(r);
    lock_drop(&r->mu);
    if (hangs) /* it may come back and call: all of this goes with the process */
        return;
    for (struct slot *s = r->first; s; s = s->next)
        if (s->link)
            worker_stop(s->link->worker);
    for (struct slot *s = r->first; s; s = s->next)
        free_link(s->link);
    for (struct link *l = r->lost, *next; l; l = next) {
        next = l->next;
        free_link(l);
    }
    for (struct routed *m = r->models, *next; m; m = next) {
        next = m->next;
        routed_free(m);
    }
    records_fini(&r->records);
    pthread_cond_destroy(&r->changed);
    lock_fini(&r->mu);
    free(r);
}

/* --- workers --- */

/* Whether nothing is left of a worker that was removed. r->mu is held. */
static bool is_vacant(const struct slot *s)
{
    if (s->service != SLOT_REMOVED)
        return false;
    for (const struct link *l = s->router->lost; l; l = l->next)
        if (l->slot == s)
            return false;
    return true;
}

/* The model's first bit that no worker has; PREFIX_MAP_WORKERS: there is none. r->mu is held. */
static uint32_t free_bit(struct routed *m)
{
    for (uint32_t i = 0; i < m->n_slots; i++)
        if (is_vacant(m->slots[i])) {
            free(m->slots[i]);
            m->slots[i] = NULL;
            return i;
        }
    return m->n_slots;
}

static void list_slot(struct router *r, struct routed *m, struct slot *s)
{
    if (r->last)
        r->last->next = s;
    else
        r->first = s;
    r->last = s;
    r->n_slots++;
    s->number = ++r->n_places;
    m->slots[s->bit] = s;
    if (s->bit == m->n_slots)
        m->n_slots++;
    if (m->n_slots > atomic_load_explicit(&r->most_slots, memory_order_relaxed))
        atomic_store_explicit(&r->most_slots, m->n_slots, memory_order_relaxed);
}

int router_add_worker(struct router *r, uint64_t generation, const struct worker_opts *opts,
                      struct err *e)
{
    struct slot *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(e, LLMD_ENOMEM, "out of memory for a worker of \"%s\"", opts->model_name);
    lock_take(&r->mu);
    struct routed *m = routed_find(r, generation);
    const uint32_t bit = m ? free_bit(m) : 0;
    const bool full = bit == PREFIX_MAP_WORKERS;
    if (m && !full) {
        *s = (struct slot){.router = r, .routed = m, .opts = opts, .bit = bit};
        list_slot(r, m, s);
    }
    lock_drop(&r->mu);
    if (m && !full)
        return link_start(s, e);
    free(s);
    if (full)
        return err_set(e, LLMD_EINVAL, "model \"%s\" has more than %d workers", opts->model_name,
                       PREFIX_MAP_WORKERS);
    return err_set(e, LLMD_ENOTFOUND, "model \"%s\" is not declared", opts->model_name);
}

int router_start_worker(struct router *r, const char *model, const struct worker_opts *opts,
                        struct err *e)
{
    const uint64_t generation = router_generation(r, model);
    if (generation == 0)
        return err_set(e, LLMD_ENOTFOUND, "model \"%s\" is not declared", model);
    return router_add_worker(r, generation, opts, e);
}

bool router_slot_able(const struct slot *s)
{
    return s->status.state == WORKER_READY && s->service != SLOT_DRAINED;
}

bool router_slot_awaited(const struct slot *s)
{
    return s->service == SLOT_DRAINED || s->service == SLOT_RETURNING;
}

struct slot *router_find_slot(const struct router *r, uint32_t index)
{
    struct slot *s = r->first;
    while (s && s->opts->index != index)
        s = s->next;
    return s;
}

bool router_awaits(const struct routed *m)
{
    bool awaited = m->held;
    for (uint32_t i = 0; i < m->n_slots; i++)
        awaited |= router_slot_awaited(m->slots[i]);
    return awaited;
}

int router_refuse(const struct router *r, const struct routed *m, struct err *e)
{
    uint32_t n = 0, n_dead = 0, percent = 0;
    const char *why = "";
    if (r->draining)
        return err_set(e, LLMD_EDRAINING, "the server is shutting down");
    for (uint32_t i = 0; i < m->n_slots; i++) {
        const struct slot *s = m->slots[i];
        if (s->service == SLOT_REMOVED)
            continue;
        n++;
        if (s->status.state == WORKER_DEAD) {
            n_dead++;
            why = s->why.msg;
        } else if (load_percent(&s->status.load) > percent)
            percent = load_percent(&s->status.load);
    }
    if (n_dead == n && n_dead > 0)
        return err_set(e, LLMD_ENOTREADY, "no worker of model \"%s\" is alive: %s", m->name, why);
    return err_set(e, LLMD_ENOTREADY, "model \"%s\" is loading: %u %% of its weights are there",
                   m->name, percent);
}

/* --- views --- */

/* Whether a worker of that name is ready, whatever the generation. r->mu is held. */
static bool name_is_ready(const struct router *r, const char *name)
{
    for (const struct slot *s = r->first; s; s = s->next)
        if (router_slot_able(s) && strcmp(s->routed->name, name) == 0)
            return true;
    return false;
}

bool router_model_ready(struct router *r, const char *model)
{
    lock_take(&r->mu);
    const struct routed *m = router_find_model(r, model);
    const bool ready = m && (m->held || name_is_ready(r, model));
    lock_drop(&r->mu);
    return ready;
}

bool router_all_ready(struct router *r)
{
    lock_take(&r->mu);
    bool ready = true;
    for (const struct routed *m = r->models; m; m = m->next)
        ready &= m->closed || name_is_ready(r, m->name);
    lock_drop(&r->mu);
    return ready;
}

/* The worker's own word, newer than its last report: its inbox counts too. r->mu is held. */
static void current_status(const struct slot *s, struct worker_status *out)
{
    *out = s->status;
    if (!s->link || !s->link->worker || s->link->lost)
        return;
    worker_status(s->link->worker, out);
    out->state = s->status.state; /* what submissions go by */
    if (s->suspect && out->state == WORKER_READY)
        out->state = WORKER_SUSPECT;
}

/* r->mu is held. */
static uint32_t count_hanging(const struct slot *s)
{
    uint32_t n = s->link && s->link->lost && !s->link->ended;
    for (const struct link *l = s->router->lost; l; l = l->next)
        n += l->slot == s && l->lost && !l->ended;
    return n;
}

bool router_progressing(struct router *r, uint64_t stall_us)
{
    uint64_t now_us = clock_now_us();
    bool busy = false, moving = false;
    lock_take(&r->mu);
    for (const struct slot *s = r->first; s; s = s->next) {
        struct worker_status now;
        current_status(s, &now);
        if (now.state == WORKER_DEAD || now.n_running + now.n_waiting == 0)
            continue;
        busy = true;
        moving |= now.heartbeat_us >= now_us || now_us - now.heartbeat_us < stall_us;
    }
    lock_drop(&r->mu);
    return !busy || moving;
}

uint32_t router_n_hanging(struct router *r)
{
    uint32_t n = 0;
    lock_take(&r->mu);
    for (const struct slot *s = r->first; s; s = s->next)
        n += s->link && s->link->lost && !s->link->ended;
    for (const struct link *l = r->lost; l; l = l->next)
        n += l->lost && !l->ended;
    lock_drop(&r->mu);
    return n;
}

uint32_t router_kv_blocks(struct router *r, uint32_t index, uint32_t from, uint32_t n, uint8_t *out)
{
    uint32_t n_blocks = 0;
    BUG_ON(n > ROUTER_KV_AT_ONCE);
    lock_take(&r->mu);
    for (const struct slot *s = r->first; s; s = s->next)
        if (s->opts->index == index && s->link && s->link->worker)
            n_blocks = worker_kv_blocks(s->link->worker, from, n, out);
    lock_drop(&r->mu);
    return n_blocks;
}

uint32_t router_workers(struct router *r, struct router_worker_view *out, uint32_t max)
{
    uint32_t n = 0;
    lock_take(&r->mu);
    for (const struct slot *s = r->first; s && n < max; s = s->next, n++) {
        struct router_worker_view *v = &out[n];
        *v = (struct router_worker_view){.generation = s->routed->generation,
                                         .model_was_ready = s->routed->was_ready,
                                         .index = s->opts->index,
                                         .place = s->number,
                                         .n_hanging = count_hanging(s),
                                         .device = s->opts->device,
                                         .gpu = s->opts->gpu,
                                         .n_starts = s->n_starts,
                                         .n_bound = s->n_bound,
                                         .n_bound_cached = s->n_bound_cached,
                                         .n_chosen = s->n_chosen,
                                         .n_migrated = s->n_migrated,
                                         .drained = s->service == SLOT_DRAINED};
        snprintf(v->model, sizeof(v->model), "%.*s", (int)sizeof(v->model) - 1, s->routed->name);
        snprintf(v->error, sizeof(v->error), "%.*s", (int)sizeof(v->error) - 1, s->why.msg);
        current_status(s, &v->status);
        v->poisoned = v->status.state == WORKER_DEAD && s->why.code == LLMD_EPOISONED;
    }
    n = r->n_slots;
    lock_drop(&r->mu);
    return n;
}

/* r->mu is held. */
static void view_model(const struct routed *m, struct router_model_view *out)
{
    *out = (struct router_model_view){
        .generation = m->generation,
        .n_requests = m->n_dispatches,
        .n_waiting = submit_n_waiting(m),
        .n_waiting_tokens = fair_queue_cost(m->queue),
        .n_decisions = m->n_decisions,
        .n_migrations = m->n_migrations,
        .delta = books_delta(m),
        .map_bytes = m->map ? prefix_map_bytes(m->map) : 0,
        .n_map_entries = m->map ? prefix_map_n_entries(m->map) : 0,
    };
}

bool router_model(struct router *r, const char *model, struct router_model_view *out)
{
    lock_take(&r->mu);
    const struct routed *m = router_find_model(r, model);
    if (m)
        view_model(m, out);
    lock_drop(&r->mu);
    return m != NULL;
}

bool router_model_generation(struct router *r, uint64_t generation, struct router_model_view *out)
{
    lock_take(&r->mu);
    const struct routed *m = routed_find(r, generation);
    if (m)
        view_model(m, out);
    lock_drop(&r->mu);
    return m != NULL;
}

bool router_placed(struct router *r, struct request *req, struct router_placement *out)
{
    lock_take(&r->mu);
    const struct dispatch *dp = req->dispatch && req->dispatch->slot ? req->dispatch : NULL;
    if (dp)
        *out = (struct router_placement){.worker = dp->slot->opts->index,
                                         .n_cached_tokens = dp->record->n_cached_tokens};
    lock_drop(&r->mu);
    return dp != NULL;
}

/* --- the end --- */

/* Workers that may still push. r->mu is held. */
static bool all_ended(const struct router *r)
{
    for (const struct slot *s = r->first; s; s = s->next)
        if (s->link && !s->link->ended && !s->link->lost)
            return false;
    return true;
}

static bool anybody_waits(const struct router *r)
{
    for (const struct routed *m = r->models; m; m = m->next)
        if (submit_n_waiting(m) > 0)
            return true;
    return false;
}

/* Nobody will take what still waits. Not under the lock. */
static void fail_waiting(struct router *r)
{
    static const struct err why = {.code = LLMD_EDRAINING, .msg = "the server is shutting down"};
    struct dispatch_list left = {NULL, NULL};
    lock_take(&r->mu);
    for (struct routed *m = r->models; m; m = m->next)
        submit_take_waiting(m, &left);
    lock_drop(&r->mu);
    submit_fail(r, &left, &why);
}

static void tell_workers(struct router *r, void (*tell)(struct worker *w))
{
    for (struct slot *s = r->first; s; s = s->next)
        if (s->link && s->link->worker && !s->link->lost)
            tell(s->link->worker); /* takes the inbox's lock: of a higher rank */
}

/* Whether the worker's last step takes longer than it can, or nothing more of its weights comes since it
 * was told to stop. */
static bool is_stuck(const struct worker_status *st, uint64_t told_us)
{
    const uint64_t now_us = clock_now_us();
    if (st->state == WORKER_STARTING || st->state == WORKER_LOADING)
        return now_us > u64_max(st->heartbeat_us, told_us) + HANGING_WAIT_US;
    const uint64_t limit_us = st->step_limit_us ? st->step_limit_us : UNKNOWN_STEP_US;
    return st->step_began_us != 0 && now_us > st->step_began_us + limit_us + HANGING_WAIT_US;
}

/* A worker that is stuck; NULL: there is none. r->mu is held. */
static struct link *find_stuck(const struct router *r, uint64_t told_us)
{
    for (const struct slot *s = r->first; s; s = s->next) {
        struct worker_status st;
        if (!s->link || s->link->ended || s->link->lost || !s->link->worker)
            continue;
        worker_status(s->link->worker, &st);
        if (is_stuck(&st, told_us))
            return s->link;
    }
    return NULL;
}

/* A stopped worker ends after the step that it is in, or with the next piece of its weights; one that is
 * stuck there is given up. */
static void wait_for_last_steps(struct router *r)
{
    static const struct err why = {.code = LLMD_EWORKER,
                                   .msg = "the worker stalls in its last step"};
    const uint64_t told_us = clock_now_us();
    lock_take(&r->mu);
    while (!all_ended(r)) {
        tell_workers(r, worker_stop); /* also one that was just being started when the end began */
        struct link *stuck = find_stuck(r, told_us);
        lock_drop(&r->mu);
        if (stuck)
            link_lose(stuck, &why);
        lock_take(&r->mu);
        if (!all_ended(r))
            lock_wait(&r->mu, &r->changed, clock_now_us() + LOOK_AGAIN_US);
    }
    lock_drop(&r->mu);
}

bool router_shutdown(struct router *r, uint64_t until_us)
{
    lock_take(&r->mu);
    r->draining = true;
    while (anybody_waits(r) && clock_now_us() < until_us)
        lock_wait(&r->mu, &r->changed, until_us);
    lock_drop(&r->mu);
    fail_waiting(r);

    lock_take(&r->mu);
    tell_workers(r, worker_drain);
    while (!all_ended(r) && clock_now_us() < until_us)
        lock_wait(&r->mu, &r->changed, until_us);
    lock_drop(&r->mu);
    const uint64_t patience_us = clock_now_us() + HANGING_WAIT_US;
    wait_for_last_steps(r);

    lock_take(&r->mu);
    while (any_hangs(r) && clock_now_us() < patience_us)
        lock_wait(&r->mu, &r->changed, patience_us);
    const bool clean = !any_hangs(r);
    lock_drop(&r->mu);
    fail_waiting(r); /* what a worker that died on the way left behind */
    router_reap(r);
    return clean;
}

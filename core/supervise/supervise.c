#include "core/supervise/supervise.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/observe/log.h"
#include "core/router/router.h"
#include "core/util/clock.h"
#include "core/util/lock.h"

enum { WORKERS_MAX = 256 };

static const uint64_t second_us = 1000000;

/* What is remembered of one worker. */
struct watched {
    uint64_t place; /* of the worker; 0: of none */
    bool suspect, down;
    uint32_t n_starts;        /* seen */
    uint32_t n_failed_starts; /* in a row, without a token */
    uint64_t start_at_us;     /* while down */
    uint64_t step_began_us;   /* of the step that was seen last */
    uint64_t step_seen_us;    /* ran_us when it was first seen */
};

struct supervise {
    struct supervise_opts o;
    pthread_t thread;
    struct lock mu; /* guards stop */
    pthread_cond_t wake;
    bool stop;
    uint64_t last_us, ran_us; /* last look; time in which this thread itself came to look */
    struct watched watched[WORKERS_MAX]; /* by the worker's index */
    struct router_worker_view views[WORKERS_MAX];
};

static void set_default(uint64_t *v, uint64_t by_default)
{
    if (*v == 0)
        *v = by_default;
}

static void fill_defaults(struct supervise_opts *o)
{
    set_default(&o->tick_us, second_us / 20);
    set_default(&o->suspect_us, second_us);
    set_default(&o->stall_us, second_us * 18 / 10);
    set_default(&o->unknown_us, 60 * second_us);
    set_default(&o->restart_first_us, second_us / 2);
    set_default(&o->restart_max_us, 30 * second_us);
    set_default(&o->breaker_us, 60 * second_us);
    if (o->breaker_starts == 0)
        o->breaker_starts = 5;
}

/* Time passes for steps as long as it does for this thread: a process that was stopped, or got no
 * processor, has no stalled workers. */
static void pass_time(struct supervise *s, uint64_t now_us)
{
    if (s->last_us != 0)
        s->ran_us += u64_min(now_us - s->last_us, 2 * s->o.tick_us);
    s->last_us = now_us;
}

/* How long the worker's present step takes too long already: 0, not at all. */
static uint64_t overdue_us(const struct supervise *s, struct watched *w,
                           const struct worker_status *st, uint64_t now_us)
{
    const bool steps = st->state == WORKER_READY || st->state == WORKER_DRAINING;
    if (!steps || st->step_began_us == 0 || now_us <= st->step_began_us)
        return 0;
    const uint64_t limit_us = st->step_limit_us ? st->step_limit_us : s->o.unknown_us;
    if (w->step_began_us != st->step_began_us) {
        w->step_began_us = st->step_began_us;
        w->step_seen_us = s->ran_us;
    }
    const uint64_t seen_us = s->ran_us - w->step_seen_us + s->o.tick_us;
    const uint64_t us = u64_min(now_us - st->step_began_us, seen_us);
    return us > limit_us ? us : 0;
}

static void watch_steps(struct supervise *s, struct watched *w, const struct router_worker_view *v,
                        uint64_t now_us)
{
    const uint64_t us = overdue_us(s, w, &v->status, now_us);
    if (us < s->o.suspect_us) {
        if (w->suspect)
            log_info("supervise", "recovered worker=%u model=%s", v->index, v->model);
        w->suspect = false;
        return;
    }
    if (!w->suspect)
        log_warn("supervise", "suspect worker=%u model=%s step_ms=%llu", v->index, v->model,
                 (unsigned long long)(us / 1000));
    w->suspect = true;
    if (us < s->o.stall_us)
        return;
    struct err why = {0};
    err_set(&why, LLMD_EWORKER, "worker %u of model \"%s\" stalls: its step takes %llu ms already",
            v->index, v->model, (unsigned long long)(us / 1000));
    log_error("supervise", "stalled worker=%u model=%s step_ms=%llu; its requests move", v->index,
              v->model, (unsigned long long)(us / 1000));
    router_lose(s->o.router, v->index, &why);
    w->suspect = false;
}

static uint64_t back_off(const struct supervise *s, const struct watched *w)
{
    if (w->n_failed_starts >= s->o.breaker_starts)
        return s->o.breaker_us;
    uint64_t us = s->o.restart_first_us;
    for (uint32_t i = 0; i < w->n_failed_starts && us < s->o.restart_max_us; i++)
        us *= 2;
    return u64_min(us, s->o.restart_max_us);
}

static void worker_down(struct supervise *s, struct watched *w, const struct router_worker_view *v,
                        uint64_t now_us)
{
    w->n_failed_starts = v->status.generated_tokens > 0 ? 0 : w->n_failed_starts + 1;
    const uint64_t wait_us = back_off(s, w);
    w->down = true;
    w->start_at_us = now_us + wait_us;
    log_warn("supervise", "down worker=%u model=%s again_in_ms=%llu reason=\"%s\"", v->index,
             v->model, (unsigned long long)(wait_us / 1000), v->error);
}

static void start_again(struct supervise *s, struct watched *w, const struct router_worker_view *v,
                        uint64_t now_us)
{
    struct err e = {0};
    w->down = false;
    router_reap(s->o.router);
    if (router_restart_worker(s->o.router, v->index, &e) == 0) {
        log_info("supervise", "starting worker=%u model=%s", v->index, v->model);
        return;
    }
    log_error("supervise", "cannot start worker=%u model=%s: %s", v->index, v->model, e.msg);
    worker_down(s, w, v, now_us);
}

static void watch(struct supervise *s, struct watched *w, const struct router_worker_view *v,
                  uint64_t now_us)
{
    if (w->place != v->place) /* another one that got a free index */
        *w = (struct watched){.place = v->place, .n_starts = v->n_starts};
    if (w->n_starts != v->n_starts)
        *w = (struct watched){
            .place = v->place, .n_starts = v->n_starts, .n_failed_starts = w->n_failed_starts};
    if (v->status.state != WORKER_DEAD)
        watch_steps(s, w, v, now_us);
    else if (v->drained) /* by the operator, who returns it */
        w->down = false;
    else if (!w->down)
        worker_down(s, w, v, now_us);
    else if (now_us >= w->start_at_us)
        start_again(s, w, v, now_us);
}

static void *supervise_main(void *arg)
{
    struct supervise *s = arg;
    (void)pthread_setname_np(pthread_self(), "llmd-supervise");
    lock_take(&s->mu);
    while (!s->stop) {
        lock_drop(&s->mu);
        const uint32_t n = router_workers(s->o.router, s->views, WORKERS_MAX);
        pass_time(s, clock_now_us());
        for (uint32_t i = 0; i < u64_min(n, WORKERS_MAX); i++)
            if (s->views[i].index < WORKERS_MAX)
                watch(s, &s->watched[s->views[i].index], &s->views[i], clock_now_us());
        router_expire(s->o.router);
        lock_take(&s->mu);
        if (!s->stop)
            (void)lock_wait(&s->mu, &s->wake, clock_now_us() + s->o.tick_us);
    }
    lock_drop(&s->mu);
    return NULL;
}

int supervise_start(const struct supervise_opts *o, struct supervise **out, struct err *e)
{
    struct supervise *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(e, LLMD_ENOMEM, "out of memory for the supervisor");
    s->o = *o;
    fill_defaults(&s->o);
    lock_init(&s->mu, LOCK_RANK_LEAF);
    lock_cond_init(&s->wake);
    const int rc = pthread_create(&s->thread, NULL, supervise_main, s);
    if (rc) {
        pthread_cond_destroy(&s->wake);
        lock_fini(&s->mu);
        free(s);
        return err_set(e, LLMD_EIO, "cannot start the supervisor: %s", strerror(rc));
    }
    *out = s;
    return 0;
}

void supervise_stop(struct supervise *s)
{
    if (!s)
        return;
    lock_take(&s->mu);
    s->stop = true;
    pthread_cond_signal(&s->wake);
    lock_drop(&s->mu);
    BUG_ON(pthread_join(s->thread, NULL) != 0);
    pthread_cond_destroy(&s->wake);
    lock_fini(&s->mu);
    free(s);
}

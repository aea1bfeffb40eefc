#include "core/supervise/supervise.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/observe/events.h"
#include "core/observe/metrics.h"
#include "core/router/router.h"
#include "core/util/clock.h"
#include "core/util/lock.h"

enum {
    WORKERS_MAX = 256,
    HANGING_OF_ONE = 1, /* threads left behind that a place may have and still be started again, */
    HANGING_OF_ALL = 2, /* and all places together: each keeps its KV cache */
};

static const uint64_t second_us = 1000000;

/* What is remembered of one worker. */
struct watched {
    uint64_t place; /* of the worker; 0: of none */
    bool suspect, down;
    bool seen;                /* at this look */
    uint32_t n_starts;        /* seen */
    uint32_t n_failed_starts; /* in a row, without a token */
    uint64_t start_at_us;     /* while down */
    uint64_t step_began_us;   /* of the step that was seen last */
    uint64_t step_seen_us;    /* ran_us when it was first seen */
    uint64_t overdue_us;      /* ran_us when a step last took too long */
    uint64_t progress_us;     /* ran_us when it last came on with its start: */
    uint64_t n_loaded_bytes;
    uint64_t n_migrated; /* requests that it lost */
    enum worker_state state;
    struct metric_gauge *states[WORKER_STATES], *loaded, *healthy;
    struct metric_counter *restarts;
};

struct supervise {
    struct supervise_opts o;
    pthread_t thread;
    struct lock mu; /* guards stop */
    pthread_cond_t wake;
    bool stop;
    struct err must_exit;     /* code 0: it need not; guarded by mu */
    uint64_t last_us, ran_us; /* last look; time in which this thread itself came to look */
    struct watched watched[WORKERS_MAX]; /* by the worker's index */
    struct router_worker_view views[WORKERS_MAX];
    uint32_t n; /* views */
};

static struct watched *watched_of(struct supervise *s, const struct router_worker_view *v)
{
    BUG_ON(v->index >= WORKERS_MAX);
    return &s->watched[v->index];
}

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
    set_default(&o->recover_us, second_us);
    set_default(&o->unknown_us, 60 * second_us);
    set_default(&o->load_us, 120 * second_us);
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
    if (st->step_began_us == 0 || now_us <= st->step_began_us)
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

static void suspect(struct supervise *s, struct watched *w, const struct router_worker_view *v,
                    bool is_suspect)
{
    w->suspect = is_suspect;
    router_suspect(s->o.router, v->index, is_suspect);
}

/* A thread that hangs within a device of its own keeps it: only a new process helps. */
static int code_of_loss(const struct router_worker_view *v)
{
    return v->device == DEVICE_CUDA ? LLMD_EPOISONED : LLMD_EWORKER;
}

static void watch_steps(struct supervise *s, struct watched *w, const struct router_worker_view *v,
                        uint64_t now_us)
{
    const uint64_t us = overdue_us(s, w, &v->status, now_us);
    if (us < s->o.suspect_us) { /* but not at once: who stalls again and again is none to trust */
        if (w->suspect && s->ran_us - w->overdue_us >= s->o.recover_us) {
            event_note(LOG_INFO, "supervise", "recovered worker=%u model=%s", v->index, v->model);
            suspect(s, w, v, false);
        }
        return;
    }
    w->overdue_us = s->ran_us;
    if (!w->suspect) {
        event_note(LOG_WARN, "supervise", "suspect worker=%u model=%s step_ms=%llu", v->index,
                   v->model, (unsigned long long)(us / 1000));
        suspect(s, w, v, true);
    }
    if (us < s->o.stall_us)
        return;
    struct err why = {0};
    err_set(&why, code_of_loss(v),
            "worker %u of model \"%s\" stalls: its step takes %llu ms already", v->index, v->model,
            (unsigned long long)(us / 1000));
    event_note(LOG_ERROR, "supervise", "stalled worker=%u model=%s step_ms=%llu; its requests move",
               v->index, v->model, (unsigned long long)(us / 1000));
    router_lose(s->o.router, v->index, &why);
    w->suspect = false;
}

/* When something of the worker's start was last seen to come on. Who has not begun may wait for
 * another of its model to load the weights of both. */
static uint64_t last_progress(const struct supervise *s, const struct watched *w,
                              const struct router_worker_view *v)
{
    uint64_t us = w->progress_us;
    for (uint32_t i = 0; i < s->n && v->status.load.total_bytes == 0; i++)
        if (s->views[i].generation == v->generation)
            us = u64_max(us, s->watched[s->views[i].index].progress_us);
    return us;
}

static void watch_start(struct supervise *s, const struct watched *w,
                        const struct router_worker_view *v)
{
    const uint64_t us = s->ran_us - last_progress(s, w, v);
    if (us < s->o.load_us)
        return;
    struct err why = {0};
    err_set(&why, code_of_loss(v),
            "worker %u of model \"%s\" hangs while it is %s: %u %% of its weights are there, and "
            "nothing more came for %llu s",
            v->index, v->model, worker_state_name(v->status.state), load_percent(&v->status.load),
            (unsigned long long)(us / second_us));
    event_note(LOG_ERROR, "supervise", "hanging worker=%u model=%s state=%s loaded_percent=%u",
               v->index, v->model, worker_state_name(v->status.state),
               load_percent(&v->status.load));
    router_lose(s->o.router, v->index, &why);
}

/* --- down, and up again --- */

/* Nothing in this process can help any more. */
static void give_up(struct supervise *s, const struct err *why)
{
    lock_take(&s->mu);
    const bool news = s->must_exit.code == 0;
    if (news)
        s->must_exit = *why;
    lock_drop(&s->mu);
    if (news)
        event_note(LOG_ERROR, "supervise", "a new process is needed: %s", why->msg);
}

bool supervise_must_exit(struct supervise *s, struct err *out)
{
    lock_take(&s->mu);
    const bool must = s->must_exit.code != 0;
    if (must)
        *out = s->must_exit;
    lock_drop(&s->mu);
    return must;
}

/* The threads of workers that were given up and never came back: each keeps its memory. */
static bool too_many_hang(const struct supervise *s, const struct router_worker_view *v)
{
    return v->n_hanging > HANGING_OF_ONE || router_n_hanging(s->o.router) > HANGING_OF_ALL;
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
    if (v->poisoned) {
        struct err why = {0};
        err_set(&why, LLMD_EPOISONED, "%s", v->error);
        give_up(s, &why);
    }
    w->down = true;
    w->start_at_us = now_us + wait_us;
    event_note(LOG_WARN, "supervise", "down worker=%u model=%s again_in_ms=%llu reason=\"%s\"",
               v->index, v->model, (unsigned long long)(wait_us / 1000), v->error);
}

static void start_again(struct supervise *s, struct watched *w, const struct router_worker_view *v,
                        uint64_t now_us)
{
    struct err e = {0};
    if (v->poisoned)
        return;
    if (too_many_hang(s, v)) {
        err_set(&e, LLMD_EWORKER,
                "worker %u of model \"%s\" was given up, as others before, and their threads hang",
                v->index, v->model);
        give_up(s, &e);
        return;
    }
    w->down = false;
    if (router_restart_worker(s->o.router, v->index, &e) == 0) {
        metric_add(w->restarts, 1);
        event_note(LOG_INFO, "supervise", "starting worker=%u model=%s", v->index, v->model);
        return;
    }
    event_note(LOG_ERROR, "supervise", "cannot start worker=%u model=%s: %s", v->index, v->model,
               e.msg);
    worker_down(s, w, v, now_us);
}

/* --- the watch --- */

/* production-stack's dashboards count a worker as it counts a pod. */
static void show_worker(const struct supervise *s, struct watched *w,
                        const struct router_worker_view *v)
{
    struct buf labels = {0}, index = {0}, name = {0};
    buf_addf(&index, "%u", v->index);
    metrics_label(&labels, "model_name", v->model);
    metrics_label(&labels, "engine", buf_str(&index));
    w->restarts = metrics_counter(s->o.metrics, "llmd_worker_restarts_total",
                                  "Times the worker was started again.", buf_str(&labels));
    w->loaded = metrics_gauge(s->o.metrics, "llmd_worker_loaded_ratio",
                              "Share of the model's weights that the worker has, 0 to 1.",
                              buf_str(&labels));
    buf_clear(&labels);
    buf_addf(&name, "%s/%u", v->model, v->index);
    metrics_label(&labels, "server", buf_str(&name));
    w->healthy = metrics_gauge(s->o.metrics, "vllm:healthy_pods_total",
                               "1 while the worker is ready.", buf_str(&labels));
    buf_fini(&labels);
    buf_fini(&index);
    buf_fini(&name);
}

static void show_state(const struct supervise *s, struct watched *w,
                       const struct router_worker_view *v)
{
    struct buf labels = {0}, index = {0};
    for (uint32_t i = 0; i < WORKER_STATES && s->o.metrics; i++) {
        buf_clear(&labels);
        buf_clear(&index);
        buf_addf(&index, "%u", v->index);
        metrics_label(&labels, "model_name", v->model);
        metrics_label(&labels, "engine", buf_str(&index));
        metrics_label(&labels, "state", worker_state_name((enum worker_state)i));
        if (!w->states[i])
            w->states[i] =
                metrics_gauge(s->o.metrics, "llmd_worker_state",
                              "1 for the state that the worker is in.", buf_str(&labels));
        metric_set(w->states[i], i == v->status.state);
    }
    if (s->o.metrics && !w->restarts)
        show_worker(s, w, v);
    const enum worker_state now = v->status.state;
    const bool whole = now == WORKER_WARMING || now == WORKER_READY || now == WORKER_SUSPECT ||
                       now == WORKER_DRAINING; /* also when there were none to load */
    metric_set(w->healthy, now == WORKER_READY);
    metric_set(w->loaded, whole ? 1 : load_percent(&v->status.load) / 100.0);
    buf_fini(&labels);
    buf_fini(&index);
}

/* The place is gone, or another has its index. */
static void forget(struct watched *w)
{
    for (uint32_t i = 0; i < WORKER_STATES; i++)
        metric_set(w->states[i], 0);
    metric_set(w->loaded, 0);
    metric_set(w->healthy, 0);
    *w = (struct watched){.place = 0};
}

static void forget_removed(struct supervise *s)
{
    for (uint32_t i = 0; i < WORKERS_MAX; i++) {
        if (s->watched[i].place != 0 && !s->watched[i].seen)
            forget(&s->watched[i]);
        s->watched[i].seen = false;
    }
}

/* What nobody here did, but an operator will want to know. */
static void tell_changes(const struct watched *w, const struct router_worker_view *v)
{
    const enum worker_state state = v->status.state;
    const bool came = state != w->state;
    if (v->n_migrated > w->n_migrated)
        event_note(LOG_INFO, "supervise", "moved worker=%u model=%s requests=%llu", v->index,
                   v->model, (unsigned long long)(v->n_migrated - w->n_migrated));
    if (came && state == WORKER_READY && w->state != WORKER_SUSPECT)
        event_note(LOG_INFO, "supervise", "ready worker=%u model=%s starts=%u", v->index, v->model,
                   v->n_starts);
    if (came && state == WORKER_DEAD && v->drained)
        event_note(LOG_INFO, "supervise", "drained worker=%u model=%s", v->index, v->model);
}

/* What is seen of the worker since the last look. */
static void note(struct supervise *s, struct watched *w, const struct router_worker_view *v)
{
    if (w->place != 0 && w->place != v->place)
        forget(w);
    const bool anew = w->place == 0 || w->n_starts != v->n_starts;
    if (anew) {
        w->down = w->suspect = false;
        w->step_began_us = 0;
    }
    tell_changes(w, v);
    if (anew || w->state != v->status.state)
        show_state(s, w, v);
    if (anew || w->state != v->status.state || w->n_loaded_bytes != v->status.load.done_bytes)
        w->progress_us = s->ran_us;
    w->seen = true;
    w->place = v->place;
    w->n_starts = v->n_starts;
    w->state = v->status.state;
    w->n_migrated = v->n_migrated;
    w->n_loaded_bytes = v->status.load.done_bytes;
}

static void watch(struct supervise *s, struct watched *w, const struct router_worker_view *v,
                  uint64_t now_us)
{
    const enum worker_state state = v->status.state;
    if (state == WORKER_STARTING || state == WORKER_LOADING)
        watch_start(s, w, v);
    else if (state != WORKER_DEAD)
        watch_steps(s, w, v, now_us);
    else if (v->drained) /* by the operator, who returns it */
        w->down = false;
    else if (!v->model_was_ready) /* the operator's to mend */
        return;
    else if (!w->down)
        worker_down(s, w, v, now_us);
    else if (now_us >= w->start_at_us)
        start_again(s, w, v, now_us);
}

static void look(struct supervise *s)
{
    s->n = (uint32_t)u64_min(router_workers(s->o.router, s->views, WORKERS_MAX), WORKERS_MAX);
    pass_time(s, clock_now_us());
    for (uint32_t i = 0; i < s->n; i++)
        note(s, watched_of(s, &s->views[i]), &s->views[i]);
    forget_removed(s);
    for (uint32_t i = 0; i < s->n; i++)
        watch(s, watched_of(s, &s->views[i]), &s->views[i], clock_now_us());
}

static void *supervise_main(void *arg)
{
    struct supervise *s = arg;
    (void)pthread_setname_np(pthread_self(), "llmd-supervise");
    lock_take(&s->mu);
    while (!s->stop) {
        lock_drop(&s->mu);
        look(s);
        router_expire(s->o.router);
        router_reap(s->o.router); /* also of workers that an operator returned or a roll replaced */
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

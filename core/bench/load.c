#include "core/bench/load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "core/bench/client_int.h"
#include "core/util/clock.h"

enum { EVENTS = 256, TICK_US = 100000, PROGRESS_TICKS = 5, REST_US = 100000, RAMP_STEP_US = 5000 };
#define TIMER_INDEX UINT32_MAX

struct load {
    struct load_opts o;
    int epoll, timer;
    struct client **clients; /* [n_clients], made when they are first needed */
    uint32_t n_clients, cap_clients;
    uint32_t *idle; /* [n_idle], a stack: connections that were used last are used first */
    uint32_t n_idle;
    char *buffer; /* CLIENT_BUFFER */
    uint64_t now_us;
    uint64_t timer_us; /* when the timer fires; 0: it is off */

    /* The run under way. */
    const struct load_run *run;
    struct measure *m;
    struct arrivals arrivals;
    uint64_t start_us, next_tick_us;
    uint32_t n_ticks, n_active;
    uint64_t n_started, n_pieces, n_bytes;
    bool has_next; /* next is waiting for its time or for a client */
    struct work next;
    uint64_t next_due_us; /* 0: as soon as a client is free */
    bool exhausted, cancelled;
};

/* ---- clients ---- */

static int grow(struct load *l)
{
    if (l->n_clients < l->cap_clients)
        return 0;
    uint32_t cap = l->cap_clients ? 2 * l->cap_clients : 64;
    struct client **clients = realloc(l->clients, cap * sizeof(struct client *));
    if (clients)
        l->clients = clients;
    uint32_t *idle = realloc(l->idle, cap * sizeof(*idle));
    if (idle)
        l->idle = idle;
    if (!clients || !idle)
        return -LLMD_ENOMEM;
    l->cap_clients = cap;
    return 0;
}

/* A client that rests or a new one; NULL: out of memory. */
static struct client *take_client(struct load *l)
{
    if (l->n_idle > 0)
        return l->clients[l->idle[--l->n_idle]];
    if (grow(l) != 0)
        return NULL;
    struct client *c = malloc(sizeof(*c));
    if (!c)
        return NULL;
    client_init(c, l->n_clients, l->epoll, &l->now_us);
    c->n_pieces = &l->n_pieces;
    c->n_bytes = &l->n_bytes;
    l->clients[l->n_clients++] = c;
    return c;
}

int load_open(struct load **out, const struct load_opts *o, struct err *e)
{
    struct load *l = calloc(1, sizeof(*l));
    if (!l)
        return err_set(e, LLMD_ENOMEM, "out of memory");
    l->o = *o;
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    l->buffer = malloc(CLIENT_BUFFER);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = TIMER_INDEX};
    if (l->epoll < 0 || l->timer < 0 || !l->buffer ||
        epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->timer, &event) != 0) {
        load_close(l);
        return err_set(e, LLMD_EIO, "epoll cannot be set up");
    }
    *out = l;
    return 0;
}

void load_close(struct load *l)
{
    if (!l)
        return;
    for (uint32_t i = 0; i < l->n_clients; i++) {
        client_fini(l->clients[i]);
        free(l->clients[i]);
    }
    free(l->clients);
    free(l->idle);
    free(l->buffer);
    if (l->timer >= 0)
        close(l->timer);
    if (l->epoll >= 0)
        close(l->epoll);
    free(l);
}

/* ---- what to start when ---- */

static uint64_t elapsed(const struct load *l)
{
    return l->now_us - l->start_us;
}

static bool open_loop(const struct load *l)
{
    return l->run->arrivals || l->run->work->o.replay;
}

/* Whether a further request may be started at all. */
static bool may_start_more(const struct load *l)
{
    const struct load_run *r = l->run;
    return !l->cancelled && (r->n_requests == 0 || l->n_started < r->n_requests) &&
           (r->duration_us == 0 || elapsed(l) < r->duration_us);
}

/* Makes the next request known: its work and its time. False: there is none. */
static bool fetch_next(struct load *l)
{
    if (!may_start_more(l))
        l->has_next = false;
    else if (l->has_next)
        return true;
    if (l->exhausted || !may_start_more(l))
        return false;
    if (!workload_next(l->run->work, &l->next)) {
        l->exhausted = true;
        return false;
    }
    l->next_due_us = 0;
    if (l->run->arrivals)
        l->next_due_us = l->start_us + arrivals_next(&l->arrivals);
    else if (l->run->work->o.replay)
        l->next_due_us = l->start_us + l->next.due_us;
    if (l->run->duration_us && l->next_due_us > l->start_us + l->run->duration_us) {
        l->exhausted = true;
        return false;
    }
    l->has_next = true;
    return true;
}

/* Clients that may be busy now. */
static uint32_t allowed_clients(const struct load *l)
{
    const struct load_run *r = l->run;
    if (open_loop(l) || r->ramp_us == 0 || elapsed(l) >= r->ramp_us)
        return r->concurrency;
    return 1 + (uint32_t)((double)(r->concurrency - 1) * (double)elapsed(l) / (double)r->ramp_us);
}

static void set_timer(struct load *l, uint64_t at_us)
{
    if (l->timer_us == at_us)
        return;
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)(at_us / 1000000),
                                           .tv_nsec = (long)(at_us % 1000000) * 1000}};
    (void)timerfd_settime(l->timer, TFD_TIMER_ABSTIME, &when, NULL);
    l->timer_us = at_us;
}

/* ---- requests ---- */

static void start(struct load *l, struct client *c, uint64_t due_us);

/* A request is over: counted; the conversation goes on, or the client rests. */
static void over(struct load *l, struct client *c, const struct sample *s)
{
    measure_add(l->m, s);
    l->n_active--;
    c->rested_us = 0;
    if (s->outcome == OUTCOME_OK && may_start_more(l) && l->run->work->o.turns > 1) {
        struct work said = c->work;
        if (workload_turn(l->run->work, &c->work)) {
            workload_heard(l->run->work, &said, &c->answer.text, &c->history);
            start(l, c, 0);
            return;
        }
    }
    if (s->outcome != OUTCOME_OK && !open_loop(l))
        c->rested_us = l->now_us + REST_US;
    l->idle[l->n_idle++] = c->index;
}

static void start(struct load *l, struct client *c, uint64_t due_us)
{
    struct sample s;
    l->n_started++;
    l->n_active++;
    l->m->peak = l->n_active > l->m->peak ? l->n_active : l->m->peak;
    enum client_verdict v = client_start(c, l->o.target, l->run->work, due_us, &s);
    if (due_us)
        histogram_add(&l->m->late, c->started_us - due_us);
    if (v == CLIENT_OVER)
        over(l, c, &s);
}

/* Whether the client on top of the stack, if there is one, may ask again; else the timer is set. */
static bool is_rested(struct load *l)
{
    if (l->n_idle == 0 || l->clients[l->idle[l->n_idle - 1]]->rested_us <= l->now_us)
        return true;
    /* Another one may be: the one that has rested longest goes to the top. */
    uint32_t best = 0;
    for (uint32_t i = 1; i < l->n_idle; i++)
        if (l->clients[l->idle[i]]->rested_us < l->clients[l->idle[best]]->rested_us)
            best = i;
    uint32_t top = l->idle[l->n_idle - 1];
    l->idle[l->n_idle - 1] = l->idle[best];
    l->idle[best] = top;
    uint64_t rested_us = l->clients[l->idle[l->n_idle - 1]]->rested_us;
    if (rested_us > l->now_us)
        set_timer(l, rested_us);
    return rested_us <= l->now_us;
}

/* Starts all that is due. */
static int start_due(struct load *l)
{
    while (fetch_next(l)) {
        l->now_us = clock_now_us();
        if (l->next_due_us > l->now_us) {
            set_timer(l, l->next_due_us);
            break;
        }
        uint32_t allowed = allowed_clients(l);
        if (l->n_active >= allowed && allowed < l->run->concurrency)
            set_timer(l, l->now_us + RAMP_STEP_US);
        if (l->n_active >= allowed || !is_rested(l))
            break;
        struct client *c = take_client(l);
        if (!c)
            return -LLMD_ENOMEM;
        c->work = l->next;
        buf_clear(&c->history);
        l->has_next = false;
        start(l, c, l->next_due_us);
    }
    return 0;
}

/* ---- the loop ---- */

static void abort_clients(struct load *l, enum outcome why, const char *message, bool all)
{
    for (uint32_t i = 0; i < l->n_clients; i++) {
        struct client *c = l->clients[i];
        struct sample s;
        if (c->state == CLIENT_IDLE || (!all && l->now_us - c->started_us < l->o.timeout_us))
            continue;
        client_abort(c, why, message, &s);
        over(l, c, &s);
    }
}

static void report_progress(const struct load *l)
{
    struct load_progress p = {
        .elapsed_us = elapsed(l),
        .n_ended = measure_ended(l->m),
        .n_failed = measure_failed(l->m),
        .n_pieces = l->n_pieces,
        .n_active = l->n_active,
    };
    l->o.on_progress(l->o.ctx, &p);
}

/* Ten times a second. */
static void tick(struct load *l)
{
    l->now_us = clock_now_us();
    if (l->now_us < l->next_tick_us)
        return;
    l->next_tick_us = l->now_us + TICK_US;
    if (l->o.cancelled && l->o.cancelled(l->o.ctx)) {
        l->cancelled = true;
        l->has_next = false;
        abort_clients(l, OUTCOME_CANCELLED, NULL, true);
    } else if (l->o.timeout_us)
        abort_clients(l, OUTCOME_TIMEOUT, "the answer was not whole in time", false);
    if (l->o.on_progress && ++l->n_ticks % PROGRESS_TICKS == 0)
        report_progress(l);
}

static void handle(struct load *l, const struct epoll_event *event)
{
    struct sample s;
    if (event->data.u32 == TIMER_INDEX) {
        uint64_t n;
        ssize_t k = read(l->timer, &n, sizeof(n));
        (void)k; /* it may have been set anew: nothing to read then */
        l->timer_us = 0;
        return;
    }
    struct client *c = l->clients[event->data.u32];
    if (client_event(c, l->buffer, &s) == CLIENT_OVER)
        over(l, c, &s);
}

static int loop(struct load *l, struct err *e)
{
    struct epoll_event events[EVENTS];
    for (;;) {
        if (start_due(l) != 0)
            return err_set(e, LLMD_ENOMEM, "out of memory for clients");
        if (l->n_active == 0 && !fetch_next(l))
            return 0;
        int n = epoll_wait(l->epoll, events, EVENTS, TICK_US / 1000);
        if (n < 0 && errno != EINTR)
            return err_set(e, LLMD_EIO, "epoll: %s", strerror(errno));
        for (int i = 0; i < n; i++)
            handle(l, &events[i]);
        tick(l);
    }
}

static uint64_t cpu_us(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0)
        return 0;
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

int load_perform(struct load *l, const struct load_run *run, struct measure *m, struct err *e)
{
    uint64_t cpu = cpu_us();
    l->run = run;
    l->m = m;
    if (run->arrivals)
        l->arrivals = *run->arrivals;
    l->start_us = l->now_us = clock_now_us();
    l->next_tick_us = l->now_us + TICK_US;
    l->n_ticks = l->n_active = 0;
    l->n_started = l->n_pieces = l->n_bytes = 0;
    l->has_next = l->exhausted = l->cancelled = false;
    int rc = loop(l, e);
    m->wall_us = clock_now_us() - l->start_us;
    m->cpu_us = cpu_us() - cpu;
    m->n_pieces = l->n_pieces;
    m->n_bytes = l->n_bytes;
    if (rc == 0 && l->cancelled)
        rc = err_set(e, LLMD_ECANCELLED, "interrupted");
    return rc;
}

#include "cmd/service.h"

#include <stdio.h>
#include <string.h>

#include "core/util/clock.h"
#include "core/util/printable.h"

enum {
    SECOND_US = 1000000,
    STATUS_US = 1 * SECOND_US, /* at most one line in this time */
    ALIVE_PER_WATCHDOG = 4,    /* times that WATCHDOG=1 is said in the time it is asked for */
    MORE_TIME_S = 60,          /* asked for again every STATUS_US, while there is a reason to */
};

void service_init(struct service *s)
{
    *s = (struct service){.phase = SERVICE_LOADING};
    notify_open(&s->notify);
}

void service_fini(struct service *s)
{
    notify_close(&s->notify);
}

/* The worker whose weights are the farthest from being there. */
static const struct router_worker_view *slowest(const struct router_worker_view *v, uint32_t n)
{
    const struct router_worker_view *at = NULL;
    for (uint32_t i = 0; i < n; i++) {
        const enum worker_state state = v[i].status.state;
        if (state != WORKER_STARTING && state != WORKER_LOADING && state != WORKER_WARMING)
            continue;
        if (!at || load_percent(&v[i].status.load) < load_percent(&at->status.load))
            at = &v[i];
    }
    return at;
}

static void say_loading(const struct router_worker_view *v, uint32_t n, char *out, size_t n_out)
{
    const struct router_worker_view *at = slowest(v, n);
    char name[160];
    if (!at) {
        snprintf(out, n_out, "Starting");
        return;
    }
    const double left_s = load_seconds_left(&at->status.load);
    printable_text(at->model, strlen(at->model), "", name, sizeof(name));
    const int k = snprintf(out, n_out, "Loading %s: %u %%", name, load_percent(&at->status.load));
    if (left_s > 0 && k > 0 && (size_t)k < n_out)
        snprintf(out + k, n_out - (size_t)k, ", about %.0f s left", left_s + 0.5);
}

static void say_serving(const struct fleet *f, const struct router_worker_view *v, uint32_t n,
                        char *out, size_t n_out)
{
    uint32_t n_ready = 0, n_requests = 0;
    for (uint32_t i = 0; i < n; i++) {
        n_ready += v[i].status.state == WORKER_READY;
        n_requests += v[i].n_bound;
    }
    snprintf(out, n_out, "%s %u model%s, %u of %u workers ready, %u request%s running",
             n_ready == n ? "Serving" : "Degraded: serving", f->n_line_up,
             f->n_line_up == 1 ? "" : "s", n_ready, n, n_requests, n_requests == 1 ? "" : "s");
}

/* One line: what the server does. */
static void say_status(const struct fleet *f, enum service_phase phase, char *out, size_t n_out)
{
    struct router_worker_view v[FLEET_PLACES];
    const uint32_t n = (uint32_t)u64_min(router_workers(f->router, v, FLEET_PLACES), FLEET_PLACES);
    if (phase == SERVICE_DRAINING)
        snprintf(out, n_out, "Draining: %u answers left", edge_active(f->edge));
    else if (phase == SERVICE_RELOADING)
        snprintf(out, n_out, "Reloading the configuration");
    else if (f->n_line_up == 0)
        snprintf(out, n_out, "No model is configured: run llmd setup, or add one and reload");
    else if (phase == SERVICE_LOADING)
        say_loading(v, n, out, n_out);
    else
        say_serving(f, v, n, out, n_out);
}

/* False: the manager's queue is full. */
static bool tell_phase(const struct service *s, enum service_phase phase)
{
    switch (phase) {
    case SERVICE_LOADING:
        break;
    case SERVICE_SERVING:
        return notify_send(&s->notify, "READY=1\nSTATUS=%s", s->status);
    case SERVICE_RELOADING:
        return notify_send(&s->notify, "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=%s",
                           (unsigned long long)clock_now_us(), s->status);
    case SERVICE_DRAINING:
        return notify_send(&s->notify, "STOPPING=1\nSTATUS=%s", s->status);
    }
    return notify_send(&s->notify, "STATUS=%s", s->status);
}

/* While it loads or drains it may take longer than the unit's time limits. */
static void ask_for_time(const struct service *s, enum service_phase phase, uint64_t left_us)
{
    const unsigned long long more_us = (unsigned long long)MORE_TIME_S * SECOND_US;
    if (phase == SERVICE_LOADING)
        (void)notify_send(&s->notify, "EXTEND_TIMEOUT_USEC=%llu", more_us);
    else if (phase == SERVICE_DRAINING)
        (void)notify_send(&s->notify, "EXTEND_TIMEOUT_USEC=%llu",
                          more_us + (unsigned long long)left_us);
}

static void say_alive(struct service *s, const struct fleet *f, uint64_t now_us)
{
    const uint64_t limit_us = s->notify.watchdog_us;
    if (limit_us == 0 || now_us - s->alive_us < limit_us / ALIVE_PER_WATCHDOG)
        return;
    if (now_us - u64_min(edge_beat_us(f->edge), now_us) > limit_us / 2 ||
        !router_progressing(f->router, limit_us / 2))
        return;
    if (notify_send(&s->notify, "WATCHDOG=1"))
        s->alive_us = now_us;
}

void service_tick(struct service *s, const struct fleet *f, enum service_phase phase,
                  uint64_t left_us)
{
    char now[sizeof(s->status)];
    const uint64_t now_us = clock_now_us();
    if (s->notify.fd < 0)
        return;
    say_alive(s, f, now_us);
    if (s->told && phase == s->phase && now_us - s->told_us < STATUS_US)
        return;
    say_status(f, phase, now, sizeof(now));
    const bool changed = strcmp(now, s->status) != 0;
    memcpy(s->status, now, sizeof(now));
    if (!s->told || phase != s->phase) {
        if (tell_phase(s, phase)) { /* else again at the next tick */
            s->told = true;
            s->phase = phase;
        }
    } else if (changed && !notify_send(&s->notify, "STATUS=%s", s->status))
        s->status[0] = '\0';
    ask_for_time(s, phase, left_us);
    s->told_us = now_us;
}

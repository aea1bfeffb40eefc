/* load_log.c - see load_log.h. */
#include "cmd/load_log.h"

#include "core/observe/log.h"

static const uint64_t SECOND_US = 1000000;
static const double MIB = 1 << 20;

static void say(const struct router_worker_view *v)
{
    const struct load_progress *p = &v->status.load;
    char model[160];
    log_info(
        "load",
        "loading model=%s worker=%u percent=%u mib=%.0f of=%.0f mib_per_s=%.0f seconds_left=%.0f",
        log_quote(v->model, model, sizeof(model)), v->index, load_percent(p),
        (double)p->done_bytes / MIB, (double)p->total_bytes / MIB, load_mib_per_s(p),
        load_seconds_left(p));
}

static void say_done(const struct router_worker_view *v)
{
    const struct load_progress *p = &v->status.load;
    char model[160];
    log_quote(v->model, model, sizeof(model));
    if (p->elapsed_us == 0)
        log_info("load", "loaded model=%s worker=%u shared=true", model, v->index);
    else
        log_info("load", "loaded model=%s worker=%u mib=%.0f seconds=%.2f mib_per_s=%.0f", model,
                 v->index, (double)p->total_bytes / MIB, (double)p->elapsed_us / (double)SECOND_US,
                 load_mib_per_s(p));
}

void load_log_update(struct load_log *l, const struct router_worker_view *views, uint32_t n,
                     uint64_t started_us, uint64_t now_us)
{
    for (uint32_t i = 0; i < u64_min(n, LOAD_LOG_WORKERS); i++) {
        const struct router_worker_view *v = &views[i];
        const struct load_progress *p = &v->status.load;
        uint64_t since = now_us - u64_max(l->workers[i].last_us, started_us);
        uint32_t percent = load_percent(p);
        if (l->workers[i].done || p->total_bytes == 0)
            continue;
        if (p->done_bytes == p->total_bytes) {
            l->workers[i].done = true;
            say_done(v);
        } else if (p->done_bytes > 0 && v->status.state != WORKER_DEAD &&
                   ((percent >= l->workers[i].percent + 10 && since >= 2 * SECOND_US) ||
                    since >= 10 * SECOND_US)) {
            l->workers[i].last_us = now_us;
            l->workers[i].percent = percent;
            say(v);
        }
    }
}

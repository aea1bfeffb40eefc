/* page_tick.c - once a second, on the thread of the edge's owner: what was counted is read, the server
 * judged, the history goes on, and a snapshot is written for all who look. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/edge/page.h"
#include "core/edge/page_snapshot.h"
#include "core/edge/page_stream.h"
#include "core/edge/tls.h"
#include "core/edge/worker_json.h"
#include "core/observe/log.h"
#include "core/store/store.h"
#include "core/util/clock.h"
#include "core/util/json.h"

enum { SECOND_US = 1000000, MINUTE_S = 60, SECONDS = 10 };

/* All that a tick looks at. */
struct tick {
    struct edge *edge;
    struct catalog *served;
    struct router_worker_view *workers; /* [n_workers] */
    uint32_t n_workers;
    struct health_model *models; /* [served->n_models] */
    struct rates_facts rates;
    struct snapshot_facts shown;
    struct store_status log;
    struct buf reload_fault;
};

/* Why the last reload failed, as the process says it. */
static void read_reload(const struct edge_control *c, struct buf *out)
{
    struct buf text = {0};
    json_t *v = NULL;
    if (!c->reload_state)
        return;
    c->reload_state(c->ctx, &text);
    if (!text.failed && json_parse(buf_str(&text), text.len, &v, NULL) == 0) {
        const char *state = json_string_value(json_object_get(v, "state"));
        const char *message = json_string_value(json_object_get(v, "message"));
        if (state && message && strcmp(state, "failed") == 0)
            buf_addstr(out, message);
    }
    json_decref(v);
    buf_fini(&text);
}

static void read_models(struct tick *t)
{
    struct router *r = t->edge->opts.router;
    for (uint32_t i = 0; i < t->served->n_models; i++) {
        const struct edge_model *m = &t->served->models[i];
        struct router_model_view v = {0};
        t->models[i] = (struct health_model){m->name, router_model_ready(r, m->name)};
        if (m->generation > 0 ? router_model_generation(r, m->generation, &v)
                              : router_model(r, m->name, &v))
            t->rates.n_waiting += v.n_waiting;
    }
}

static void read_workers(struct tick *t)
{
    uint64_t n_blocks = 0, n_free = 0;
    t->n_workers = (uint32_t)u64_min(router_workers(t->edge->opts.router, t->workers, WORKER_VIEWS),
                                     WORKER_VIEWS);
    for (uint32_t i = 0; i < t->n_workers; i++) {
        const struct worker_status *s = &t->workers[i].status;
        t->rates.n_running += s->n_running;
        t->rates.n_waiting += s->n_waiting;
        n_blocks += s->n_kv_blocks;
        n_free += s->n_free_kv_blocks;
    }
    t->rates.kv = n_blocks > 0 ? (double)(n_blocks - n_free) / (double)n_blocks : NAN;
    t->rates.workers = t->workers;
    t->rates.n_workers = t->n_workers;
}

static bool read_facts(struct tick *t, struct edge *edge)
{
    *t = (struct tick){.edge = edge, .served = edge_catalog(edge)};
    t->workers = calloc(WORKER_VIEWS, sizeof(*t->workers));
    t->models = calloc(t->served->n_models + 1, sizeof(*t->models));
    if (!t->workers || !t->models)
        return false;
    t->rates.now_us = clock_now_us();
    t->rates.n_requests = atomic_load(&edge->n_requests);
    t->rates.n_failed = atomic_load(&edge->n_failed);
    read_workers(t);
    read_models(t);
    read_reload(&edge->opts.control, &t->reload_fault);
    if (edge->opts.store)
        store_status(edge->opts.store, &t->log);
    return true;
}

static void fini_facts(struct tick *t)
{
    catalog_unref(t->served);
    free(t->workers);
    free(t->models);
    buf_fini(&t->reload_fault);
}

static void judge(struct tick *t)
{
    struct edge *edge = t->edge;
    struct page *p = edge->page;
    struct buf verdict = {0};
    const struct health_facts f = {
        .now_us = t->rates.now_us,
        .wall_us = t->shown.wall_us,
        .draining = atomic_load(&edge->draining) || atomic_load(&edge->stopping),
        .progressing = router_progressing(edge->opts.router, t->served->limits.stall_us),
        .n_answering = edge_active(edge),
        .models = t->models,
        .n_models = t->served->n_models,
        .workers = t->workers,
        .n_workers = t->n_workers,
        .n_running = t->rates.n_running,
        .n_waiting = t->rates.n_waiting,
        .n_waiting_for_clients = router_n_waiting_for_clients(edge->opts.router),
        .kv = t->rates.kv,
        .preempted_s = (double)t->shown.seconds.v[COLUMN_preempt_s],
        .requests_s = (double)t->shown.minute.v[COLUMN_req_s],
        .failed_s = (double)t->shown.minute.v[COLUMN_failed_s],
        .request_log_fault = t->shown.request_log_fault,
        .reload_fault = t->reload_fault.len > 0 ? buf_str(&t->reload_fault) : NULL,
        .n_log_lost = log_dropped(),
        .certificate_expires = edge->tls ? tls_expires(edge->tls) : 0,
    };
    page_health_judge(&p->health, &f);
    page_health_add_verdict(&p->health, &verdict);
    lock_take(&p->mu);
    if (!verdict.failed && verdict.len < sizeof(p->verdict))
        memcpy(p->verdict, buf_str(&verdict), verdict.len + 1);
    lock_drop(&p->mu);
    buf_fini(&verdict);
}

/* The second and, when they are full, the 15 seconds that ended just now. */
static void remember(struct tick *t)
{
    struct page *p = t->edge->page;
    for (int i = 0; i < N_SPANS; i++) {
        const uint32_t step_s = page_span_step_s((enum page_span)i);
        struct page_sample s = {.t = (int64_t)(t->shown.wall_us / SECOND_US)};
        if (p->rates.n == 1 || (p->rates.n - 1) % step_s != 0)
            continue; /* nothing can be told from one reading */
        page_rates_sample(&p->rates, &t->rates, step_s, &s);
        page_history_add(&p->history, (enum page_span)i, &s);
    }
}

static void publish(struct page *p, const struct tick *t)
{
    struct snapshot *s = calloc(1, sizeof(*s));
    if (!s)
        return;
    atomic_store(&s->refs, 1);
    s->number = p->number;
    buf_addf(&s->event, "retry: 2000\nid: %s:%llu\nevent: snapshot\ndata: ", p->process,
             (unsigned long long)p->number);
    s->n_head = s->event.len;
    snapshot_write(t->edge, &t->shown, &s->event);
    s->n_json = s->event.len - s->n_head;
    buf_addstr(&s->event, "\n\n");
    if (s->event.failed) {
        snapshot_unref(s);
        return;
    }
    p->number++;
    lock_take(&p->mu);
    struct snapshot *before = p->latest;
    p->latest = s;
    lock_drop(&p->mu);
    snapshot_unref(before);
}

uint64_t page_tick(struct edge *edge)
{
    struct page *p = edge->page;
    struct tick t;
    const uint64_t now_us = clock_now_us();
    if (now_us < p->next_us)
        return p->next_us - now_us;
    /* Even steps, unless they were missed. */
    p->next_us = now_us - p->next_us < SECOND_US ? p->next_us + SECOND_US : now_us + SECOND_US;
    if (read_facts(&t, edge)) {
        page_rates_read(&p->rates, edge->opts.metrics, &t.rates);
        t.shown = (struct snapshot_facts){.now_us = t.rates.now_us,
                                          .wall_us = clock_wall_us(),
                                          .served = t.served,
                                          .workers = t.workers,
                                          .n_workers = t.n_workers,
                                          .request_log_fault = t.log.degraded ? t.log.why : NULL};
        page_rates_sample(&p->rates, &t.rates, MINUTE_S, &t.shown.minute);
        page_rates_sample(&p->rates, &t.rates, SECONDS, &t.shown.seconds);
        judge(&t);
        remember(&t);
        publish(p, &t);
        page_stream_wake(edge);
    }
    fini_facts(&t);
    return p->next_us > now_us ? p->next_us - now_us : 0;
}

/* edge_server.h - an edge on a free port and a scripted router under it.
 *
 * The router's thread makes steps: on each, every choice of every request gets its next token, a
 * byte of `script` over and over, until max_tokens. Steps come every step_us, or one by one by
 * router_step() when step_us is 0. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "core/observe/log.h"
#include "core/observe/metrics.h"
#include "core/request/request.h"
#include "core/router/router.h"
#include "core/util/clock.h"
#include "tests/unit/edge_client.h"
#include "tests/unit/edge_fixture.h"
#include "tests/unit/patience.h"

enum { SERVER_MAX_RUNS = 1024, SERVER_MAX_CHOICES = 64 };

struct run { /* one request in the router */
    struct request *request;
    uint32_t epoch;
    uint32_t n_made[SERVER_MAX_CHOICES];
    bool over[SERVER_MAX_CHOICES];
};

struct router {
    pthread_t thread;
    pthread_mutex_t mu;
    const struct fixture *fixture;
    struct run runs[SERVER_MAX_RUNS]; /* guarded by mu, like n_runs */
    uint32_t n_runs;
    const char *script;     /* guarded by mu once the thread runs */
    atomic_uint step_us;    /* 0: only router_step makes steps */
    atomic_uint n_wanted;   /* steps asked for */
    atomic_int refuse;      /* error code that router_submit returns */
    atomic_uint fail_after; /* tokens; 0: never */
    atomic_bool stop, ready, progressing;
    atomic_uint n_submitted, n_cancelled, n_full, n_steps, n_loops;
    atomic_uint n_drained, n_returned;
    atomic_uint n_asked, n_let; /* questions of progress; more than n_let of them wait a while */
    atomic_ullong gone;         /* generation whose requests get ENOTFOUND; 0: none */
    void (*on_gone)(struct router *r); /* called then; NULL: nothing */
    atomic_ullong generation;          /* of the last request; so also: */
    atomic_ullong cache_salt;
    atomic_llong priority;
    atomic_ullong cancelled_us; /* when the last cancellation was seen */
};

int router_submit(struct router *r, struct request *req, struct err *e)
{
    int code = atomic_load(&r->refuse);
    if (code)
        return err_set(e, code, "scripted refusal");
    if (req->generation > 0 && req->generation == atomic_load(&r->gone)) {
        if (r->on_gone)
            r->on_gone(r);
        return err_set(e, LLMD_ENOTFOUND, "The model `%s` does not exist.", req->model);
    }
    atomic_store(&r->generation, req->generation);
    atomic_store(&r->cache_salt, req->cache_salt);
    atomic_store(&r->priority, req->priority);
    pthread_mutex_lock(&r->mu);
    BUG_ON(r->n_runs == SERVER_MAX_RUNS || req->sampling.n > SERVER_MAX_CHOICES);
    r->runs[r->n_runs++] = (struct run){.request = req, .epoch = stream_attach(req, NULL, NULL)};
    pthread_mutex_unlock(&r->mu);
    atomic_fetch_add(&r->n_submitted, 1);
    return 0;
}

bool router_model_ready(struct router *r, const char *model)
{
    return atomic_load(&r->ready) && strcmp(model, "tiny") == 0;
}

bool router_progressing(struct router *r, uint64_t stall_us)
{
    (void)stall_us;
    const uint32_t k = atomic_fetch_add(&r->n_asked, 1) + 1;
    const uint64_t until_us = clock_now_us() + PATIENCE_US;
    while (k > atomic_load(&r->n_let) && clock_now_us() < until_us)
        clock_sleep_us(50);
    return atomic_load(&r->progressing);
}

bool router_placed(struct router *r, struct request *req, struct router_placement *out)
{
    (void)r;
    (void)req;
    *out = (struct router_placement){.worker = 3, .n_cached_tokens = 32};
    return true;
}

uint32_t router_workers(struct router *r, struct router_worker_view *out, uint32_t max)
{
    (void)r;
    (void)max;
    out[0] = (struct router_worker_view){.model = "tiny", .error = "out of \"luck\""};
    out[0].status.state = WORKER_LOADING;
    out[0].status.load = (struct load_progress){
        .done_bytes = 37 << 20, .total_bytes = 100 << 20, .elapsed_us = 1850000};
    return 1;
}

uint32_t router_kv_blocks(struct router *r, uint32_t index, uint32_t from, uint32_t n, uint8_t *out)
{
    enum { BLOCKS = 10000 };
    (void)r;
    (void)index;
    for (uint32_t i = 0; i < n && from + i < BLOCKS; i++)
        out[i] = from + i < 9 ? KV_BLOCK_USED : from + i < 10 ? KV_BLOCK_SHARED : KV_BLOCK_FREE;
    return BLOCKS;
}

bool router_model(struct router *r, const char *model, struct router_model_view *out)
{
    (void)r;
    (void)model;
    *out = (struct router_model_view){.n_waiting = 7, .n_decisions = 11};
    return true;
}

bool router_model_generation(struct router *r, uint64_t generation, struct router_model_view *out)
{
    return generation > 0 && router_model(r, "tiny", out);
}

/* There is worker 0 and no other. */
static inline int router_known(uint32_t index, struct err *e)
{
    return index == 0 ? 0 : err_set(e, LLMD_ENOTFOUND, "there is no worker %u", index);
}

int router_drain_worker(struct router *r, uint32_t index, struct err *e)
{
    atomic_fetch_add(&r->n_drained, index == 0);
    return router_known(index, e);
}

int router_return_worker(struct router *r, uint32_t index, struct err *e)
{
    atomic_fetch_add(&r->n_returned, index == 0);
    return router_known(index, e);
}

uint32_t router_n_waiting_for_clients(struct router *r)
{
    (void)r;
    return 0;
}

uint32_t router_requests(struct router *r, struct router_request_view *out, uint32_t max)
{
    (void)max;
    pthread_mutex_lock(&r->mu);
    uint32_t n = r->n_runs;
    for (uint32_t i = 0; i < n; i++) {
        out[i] = (struct router_request_view){.model = "tiny", .worker = i ? 0 : -1};
        snprintf(out[i].id, sizeof(out[i].id), "%s", r->runs[i].request->id);
    }
    pthread_mutex_unlock(&r->mu);
    return n;
}

uint32_t router_cancel(struct router *r, const char *id)
{
    struct request *found[SERVER_MAX_RUNS];
    uint32_t n = 0;
    pthread_mutex_lock(&r->mu);
    for (uint32_t i = 0; i < r->n_runs; i++)
        if (strcmp(r->runs[i].request->id, id) == 0)
            found[n++] = request_ref(r->runs[i].request);
    pthread_mutex_unlock(&r->mu);
    for (uint32_t i = 0; i < n; i++) {
        request_cancel(found[i]);
        request_unref(found[i]);
    }
    return n;
}

struct route_record *router_record(struct router *r, struct request *req)
{
    (void)r;
    (void)req;
    return NULL;
}

bool router_record_json(struct router *r, const char *id, struct buf *out)
{
    (void)r;
    if (strcmp(id, "cmpl-known") != 0)
        return false;
    buf_addstr(out, "{\"id\":\"cmpl-known\"}");
    return true;
}

uint32_t router_decisions(struct router *r, uint32_t n, struct buf *out)
{
    (void)r;
    buf_addf(out, "[%u]", n);
    return 1;
}

/* One token for one choice. Returns true when the choice has ended. */
static inline bool run_choice(struct router *r, struct run *run, uint32_t k,
                              struct waker_set *touched)
{
    struct request *req = run->request;
    uint32_t n = run->n_made[k];
    bool last = n + 1 == req->sampling.max_tokens;
    struct stream_item item = {
        .choice = k,
        .token = fixture_byte(r->fixture, (unsigned char)r->script[n % strlen(r->script)]),
        .stop_id = -1,
        .finish = last ? FINISH_LENGTH : FINISH_NONE};
    int rc = stream_push(req, run->epoch, &item, touched);
    if (rc == -LLMD_EFULL)
        atomic_fetch_add(&r->n_full, 1);
    if (rc != 0)
        return false;
    run->n_made[k]++;
    return last;
}

/* True when the request is over. */
static inline bool run_step(struct router *r, struct run *run, struct waker_set *touched)
{
    struct request *req = run->request;
    struct err e = {0};
    uint32_t limit = atomic_load(&r->fail_after);
    if (request_is_cancelled(req))
        err_set(&e, LLMD_ECANCELLED, "cancelled");
    else if (limit > 0 && run->n_made[0] >= limit)
        err_set(&e, LLMD_EWORKER, "scripted failure");
    if (e.code) {
        stream_fail(req, run->epoch, &e, touched);
        if (e.code == LLMD_ECANCELLED) {
            atomic_store(&r->cancelled_us, clock_now_us());
            atomic_fetch_add(&r->n_cancelled, 1);
        }
        return true;
    }
    bool over = true;
    for (uint32_t k = 0; k < req->sampling.n; k++) {
        if (!run->over[k])
            run->over[k] = run_choice(r, run, k, touched);
        over = over && run->over[k];
    }
    return over;
}

static inline void router_turn(struct router *r)
{
    struct waker_set touched = {.n = 0};
    pthread_mutex_lock(&r->mu);
    for (uint32_t i = 0; i < r->n_runs;) {
        if (run_step(r, &r->runs[i], &touched)) {
            request_unref(r->runs[i].request);
            r->runs[i] = r->runs[--r->n_runs];
        } else
            i++;
    }
    pthread_mutex_unlock(&r->mu);
    waker_set_flush(&touched);
    atomic_fetch_add(&r->n_steps, 1);
}

static inline void *router_main(void *arg)
{
    struct router *r = arg;
    while (!atomic_load(&r->stop)) {
        atomic_fetch_add(&r->n_loops, 1);
        uint32_t pace = atomic_load(&r->step_us);
        clock_sleep_us(pace ? pace : 200);
        if (pace || atomic_load(&r->n_steps) < atomic_load(&r->n_wanted))
            router_turn(r);
    }
    return NULL;
}

/* Changes the pace; after 0 no step is under way. */
static inline void router_pace(struct router *r, uint32_t us)
{
    atomic_store(&r->step_us, us);
    for (uint32_t from = atomic_load(&r->n_loops); atomic_load(&r->n_loops) < from + 2;)
        clock_sleep_us(50);
}

static inline void router_script(struct router *r, const char *script)
{
    pthread_mutex_lock(&r->mu);
    r->script = script;
    pthread_mutex_unlock(&r->mu);
}

/* Makes one step and waits for it. */
static inline void router_step(struct router *r)
{
    uint32_t want = atomic_load(&r->n_steps) + 1;
    atomic_store(&r->n_wanted, want);
    while (atomic_load(&r->n_steps) < want)
        clock_sleep_us(50);
}

static inline uint32_t router_running(struct router *r)
{
    pthread_mutex_lock(&r->mu);
    uint32_t n = r->n_runs;
    pthread_mutex_unlock(&r->mu);
    return n;
}

/* ---- the server ---- */

struct server {
    struct fixture fixture;
    struct router router;
    struct edge *edge;
    uint16_t port;
};

static const struct edge_listener server_listen[] = {{.address = "127.0.0.1:0"}};

/* Everything but the edge, whose options the test may still change. */
static inline void server_prepare(struct server *s)
{
    memset(s, 0, sizeof(*s));
    log_init(STDERR_FILENO, LOG_ERROR, false);
    assert_true(fixture_init(&s->fixture));
    struct router *r = &s->router;
    pthread_mutex_init(&r->mu, NULL);
    r->fixture = &s->fixture;
    r->script = "abcdefghijklmnopqrstuvwxyz";
    atomic_store(&r->step_us, 500);
    atomic_store(&r->ready, true);
    atomic_store(&r->progressing, true);
    atomic_store(&r->n_let, UINT32_MAX);
    s->fixture.opts.router = r;
    s->fixture.opts.metrics = metrics_new();
    s->fixture.opts.listen = server_listen;
    s->fixture.opts.n_listen = 1;
}

/* At whatever its options name. */
static inline void server_start_at(struct server *s)
{
    struct err e = {0};
    assert_int_equal(pthread_create(&s->router.thread, NULL, router_main, &s->router), 0);
    if (edge_start(&s->fixture.opts, &s->edge, &e) != 0)
        fail_msg("edge_start: %s", e.msg);
}

static inline void server_start(struct server *s)
{
    server_start_at(s);
    s->port = edge_port(s->edge, 0);
    assert_int_not_equal(s->port, 0);
}

/* Ends the router as router_shutdown would: what runs fails with EDRAINING. */
static inline void server_end_router(struct server *s)
{
    struct waker_set touched = {.n = 0};
    struct err e = {0};
    atomic_store(&s->router.stop, true);
    pthread_join(s->router.thread, NULL);
    err_set(&e, LLMD_EDRAINING, "the server is shutting down");
    for (uint32_t i = 0; i < s->router.n_runs; i++) {
        stream_fail(s->router.runs[i].request, s->router.runs[i].epoch, &e, &touched);
        request_unref(s->router.runs[i].request);
    }
    s->router.n_runs = 0;
    waker_set_flush(&touched);
}

static inline void server_stop(struct server *s)
{
    if (!atomic_load(&s->router.stop))
        server_end_router(s);
    edge_stop(s->edge);
    metrics_free(s->fixture.opts.metrics);
    fixture_fini(&s->fixture);
    pthread_mutex_destroy(&s->router.mu);
}

static inline void wait_for(atomic_uint *counter, uint32_t value)
{
    assert_soon(atomic_load(counter) == value);
}

#include "core/router/router.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/request/request.h"
#include "core/util/clock.h"
#include "core/util/lock.h"

enum { MAX_MODELS = 64, MAX_WORKERS = 64, MODEL_NAME_BYTES = 128 };

/* A worker and what the router last heard of it. The entry is the context of its callbacks. */
struct entry {
    struct router *router;
    struct worker *worker; /* set once, by start or by the first callback */
    uint32_t model;
    struct worker_status status; /* as last published */
    bool ready;                  /* generated a token and lives */
    bool dead;
    uint64_t busy_since_us; /* first request since it was last seen idle; 0: idle */
    struct err error;       /* why it is dead */
};

struct router {
    struct lock mu;
    pthread_cond_t changed; /* a worker died */
    /* All below is guarded by mu. Entries are never freed before the router. */
    char models[MAX_MODELS][MODEL_NAME_BYTES];
    uint32_t next[MAX_MODELS]; /* where the next round begins */
    uint32_t n_models;
    struct entry *entries[MAX_WORKERS];
    uint32_t n_entries;
    bool draining;
};

int router_new(struct router **out, struct err *e)
{
    struct router *r = calloc(1, sizeof(*r));
    if (!r)
        return err_set(e, LLMD_ENOMEM, "out of memory for the router");
    lock_init(&r->mu, LOCK_RANK_ROUTER);
    lock_cond_init(&r->changed);
    *out = r;
    return 0;
}

void router_free(struct router *r)
{
    if (!r)
        return;
    for (uint32_t i = 0; i < r->n_entries; i++)
        worker_free(r->entries[i]->worker); /* its last callback has run when this returns */
    for (uint32_t i = 0; i < r->n_entries; i++)
        free(r->entries[i]);
    pthread_cond_destroy(&r->changed);
    lock_fini(&r->mu);
    free(r);
}

/* Index of a model, -1 when there is none of that name. mu is held. */
static int find_model(const struct router *r, const char *name)
{
    for (uint32_t i = 0; i < r->n_models; i++)
        if (strcmp(r->models[i], name) == 0)
            return (int)i;
    return -1;
}

int router_add_model(struct router *r, const char *name, struct err *e)
{
    int rc = 0;
    lock_take(&r->mu);
    if (find_model(r, name) >= 0)
        rc = err_set(e, LLMD_EINVAL, "the model name '%s' is used twice", name);
    else if (r->n_models == MAX_MODELS)
        rc = err_set(e, LLMD_ELIMIT, "more than %d models", MAX_MODELS);
    else if (strlen(name) >= MODEL_NAME_BYTES)
        rc = err_set(e, LLMD_EINVAL, "a model name has more than %d bytes", MODEL_NAME_BYTES - 1);
    else
        snprintf(r->models[r->n_models++], MODEL_NAME_BYTES, "%s", name);
    lock_drop(&r->mu);
    return rc;
}

/* --- what workers tell; on their threads, without locks of theirs --- */

static void on_step(void *ctx, struct worker *w, const struct worker_status *s)
{
    struct entry *n = ctx;
    lock_take(&n->router->mu);
    n->worker = w;
    n->status = *s;
    if (s->n_running + s->n_waiting == 0)
        n->busy_since_us = 0;
    else if (n->busy_since_us == 0)
        n->busy_since_us = s->heartbeat_us;
    lock_drop(&n->router->mu);
}

static void on_ready(void *ctx, struct worker *w)
{
    struct entry *n = ctx;
    lock_take(&n->router->mu);
    n->worker = w;
    n->ready = true;
    n->status.state = WORKER_READY;
    lock_drop(&n->router->mu);
}

static void on_dead(void *ctx, struct worker *w, const struct err *why)
{
    struct entry *n = ctx;
    lock_take(&n->router->mu);
    n->worker = w;
    n->ready = false;
    n->dead = true;
    n->busy_since_us = 0;
    n->status.state = WORKER_DEAD;
    if (why)
        n->error = *why;
    pthread_cond_broadcast(&n->router->changed);
    lock_drop(&n->router->mu);
}

/* A new entry for the model, listed. */
static int add_entry(struct router *r, const char *model, struct entry **out, struct err *e)
{
    struct entry *n = calloc(1, sizeof(*n));
    if (!n)
        return err_set(e, LLMD_ENOMEM, "out of memory for a worker");
    int rc = 0;
    lock_take(&r->mu);
    int index = find_model(r, model);
    if (index < 0)
        rc = err_set(e, LLMD_ENOTFOUND, "there is no model '%s'", model);
    else if (r->n_entries == MAX_WORKERS)
        rc = err_set(e, LLMD_ELIMIT, "more than %d workers", MAX_WORKERS);
    else {
        *n = (struct entry){.router = r, .model = (uint32_t)index};
        r->entries[r->n_entries++] = n;
    }
    lock_drop(&r->mu);
    if (rc != 0)
        free(n);
    else
        *out = n;
    return rc;
}

int router_start_worker(struct router *r, const char *model, const struct worker_opts *opts,
                        struct err *e)
{
    struct entry *n;
    int rc = add_entry(r, model, &n, e);
    if (rc != 0)
        return rc;
    const struct worker_callbacks cb = {
        .ctx = n, .step_published = on_step, .ready = on_ready, .dead = on_dead};
    struct worker *w = NULL;
    rc = worker_start(opts, &cb, &w, e);
    lock_take(&r->mu);
    n->worker = w;
    if (rc != 0) { /* nothing runs: the entry stays listed as dead */
        n->dead = true;
        n->status.state = WORKER_DEAD;
        if (e)
            n->error = *e;
    }
    lock_drop(&r->mu);
    return rc;
}

/* --- choosing --- */

/* The ready workers of the model in this turn's order; moves the turn on. */
static uint32_t take_turn(struct router *r, uint32_t model, struct entry *out[])
{
    uint32_t n = 0, start = r->next[model];
    for (uint32_t i = 0; i < r->n_entries; i++) {
        struct entry *c = r->entries[(start + i) % r->n_entries];
        if (c->model != model || !c->ready)
            continue;
        if (n == 0)
            r->next[model] = (start + i + 1) % r->n_entries;
        out[n++] = c;
    }
    return n;
}

/* Fills out with the workers to try, first choice first. */
static int candidates(struct router *r, const char *name, struct entry *out[], uint32_t *out_n,
                      struct err *e)
{
    int rc = 0;
    lock_take(&r->mu);
    int model = find_model(r, name);
    if (r->draining)
        rc = err_set(e, LLMD_EDRAINING, "the server is shutting down");
    else if (model < 0)
        rc = err_set_param(e, LLMD_ENOTFOUND, "model", "the model `%s` does not exist", name);
    else if ((*out_n = take_turn(r, (uint32_t)model, out)) == 0)
        rc = err_set(e, LLMD_ENOTREADY, "no worker of the model `%s` is ready", name);
    lock_drop(&r->mu);
    return rc;
}

static void note_busy(struct router *r, struct entry *n)
{
    lock_take(&r->mu);
    if (n->busy_since_us == 0 && !n->dead)
        n->busy_since_us = clock_now_us();
    lock_drop(&r->mu);
}

int router_submit(struct router *r, struct request *req, struct err *e)
{
    struct entry *list[MAX_WORKERS];
    uint32_t n = 0;
    int rc = candidates(r, req->model, list, &n, e);
    if (rc != 0)
        return rc;
    struct err full = {0}, other = {0};
    for (uint32_t i = 0; i < n; i++) {
        struct err why = {0};
        rc = worker_submit(list[i]->worker, req, &why);
        if (rc == 0) {
            note_busy(r, list[i]);
            return 0;
        }
        *(rc == -LLMD_EFULL ? &full : &other) = why;
    }
    /* A full worker may take it later: that is the better news to pass on. */
    const struct err *verdict = full.code ? &full : &other;
    if (e && !e->code)
        *e = *verdict;
    return -verdict->code;
}

/* --- what others ask --- */

static bool model_ready(const struct router *r, uint32_t model)
{
    for (uint32_t i = 0; i < r->n_entries; i++)
        if (r->entries[i]->model == model && r->entries[i]->ready)
            return true;
    return false;
}

bool router_model_ready(struct router *r, const char *name)
{
    lock_take(&r->mu);
    int model = find_model(r, name);
    bool ready = model >= 0 && model_ready(r, (uint32_t)model);
    lock_drop(&r->mu);
    return ready;
}

bool router_all_ready(struct router *r)
{
    lock_take(&r->mu);
    bool ready = r->n_models > 0;
    for (uint32_t i = 0; ready && i < r->n_models; i++)
        ready = model_ready(r, i);
    lock_drop(&r->mu);
    return ready;
}

bool router_progressing(struct router *r, uint64_t stall_us)
{
    uint64_t now = clock_now_us();
    uint32_t n_busy = 0, n_stuck = 0;
    lock_take(&r->mu);
    for (uint32_t i = 0; i < r->n_entries; i++) {
        const struct entry *n = r->entries[i];
        if (n->busy_since_us == 0)
            continue;
        n_busy++;
        uint64_t last = u64_max(n->busy_since_us, n->status.heartbeat_us);
        if (now > last && now - last > stall_us)
            n_stuck++;
    }
    lock_drop(&r->mu);
    return n_busy == 0 || n_stuck < n_busy;
}

uint32_t router_workers(struct router *r, struct router_worker_view *out, uint32_t max)
{
    lock_take(&r->mu);
    uint32_t n = r->n_entries;
    for (uint32_t i = 0; i < n && i < max; i++) {
        const struct entry *c = r->entries[i];
        snprintf(out[i].model, sizeof(out[i].model), "%s", r->models[c->model]);
        snprintf(out[i].error, sizeof(out[i].error), "%.*s", (int)sizeof(out[i].error) - 1,
                 c->error.msg);
        out[i].index = i;
        out[i].status = c->status;
    }
    lock_drop(&r->mu);
    return n;
}

/* --- the end --- */

/* Copies the workers that were started. */
static uint32_t all_workers(struct router *r, struct worker *out[])
{
    uint32_t n = 0;
    lock_take(&r->mu);
    r->draining = true;
    for (uint32_t i = 0; i < r->n_entries; i++)
        if (r->entries[i]->worker)
            out[n++] = r->entries[i]->worker;
    lock_drop(&r->mu);
    return n;
}

static bool all_dead(const struct router *r)
{
    for (uint32_t i = 0; i < r->n_entries; i++)
        if (!r->entries[i]->dead)
            return false;
    return true;
}

void router_shutdown(struct router *r, uint64_t until_us)
{
    struct worker *workers[MAX_WORKERS];
    uint32_t n = all_workers(r, workers);
    for (uint32_t i = 0; i < n; i++)
        worker_drain(workers[i]);
    lock_take(&r->mu);
    while (!all_dead(r) && lock_wait(&r->mu, &r->changed, until_us))
        ;
    lock_drop(&r->mu);
    for (uint32_t i = 0; i < n; i++)
        worker_stop(workers[i]);
}

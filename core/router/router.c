#include "core/router/router.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/request/request.h"
#include "core/util/clock.h"
#include "core/util/lock.h"

enum { MAX_WORKERS_PER_MODEL = 256 };

/* One worker and what its callbacks said last. */
struct slot {
    struct router *router;
    struct worker *worker; /* set once, before the slot is listed */
    struct slot *next;     /* all workers, in the order they were started */
    const struct routed *routed;
    struct worker_status status; /* guarded by router.mu, as is: */
    struct err why;              /* it is dead */
};

/* A model and its workers. */
struct routed {
    struct routed *next;
    struct slot *slots[MAX_WORKERS_PER_MODEL];
    uint32_t n_slots;
    uint32_t turn; /* whose turn it is */
    char name[];
};

struct router {
    struct lock mu;         /* rank ROUTER; guards all below */
    pthread_cond_t changed; /* a worker died */
    struct routed *models;
    struct slot *first, *last;
    uint32_t n_slots;
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
    for (struct slot *s = r->first; s; s = s->next)
        worker_stop(s->worker);
    for (struct slot *s = r->first, *next; s; s = next) {
        next = s->next;
        worker_free(s->worker);
        free(s);
    }
    for (struct routed *m = r->models, *next; m; m = next) {
        next = m->next;
        free(m);
    }
    pthread_cond_destroy(&r->changed);
    lock_fini(&r->mu);
    free(r);
}

/* r->mu is held. */
static struct routed *find_model(const struct router *r, const char *name)
{
    struct routed *m = r->models;
    while (m && strcmp(m->name, name) != 0)
        m = m->next;
    return m;
}

int router_add_model(struct router *r, const char *name, struct err *e)
{
    size_t n = strlen(name) + 1;
    struct routed *m = calloc(1, sizeof(*m) + n);
    if (!m)
        return err_set(e, LLMD_ENOMEM, "out of memory for model \"%s\"", name);
    memcpy(m->name, name, n);
    lock_take(&r->mu);
    bool known = find_model(r, name) != NULL;
    if (!known) {
        m->next = r->models;
        r->models = m;
    }
    lock_drop(&r->mu);
    if (!known)
        return 0;
    free(m);
    return err_set(e, LLMD_EINVAL, "model \"%s\" is declared twice", name);
}

/* --- callbacks: on the workers' threads --- */

static void on_published(void *ctx, struct worker *w, const struct worker_report *r)
{
    struct slot *s = ctx;
    (void)w;
    lock_take(&s->router->mu);
    s->status = r->status;
    lock_drop(&s->router->mu);
}

static void on_dead(void *ctx, struct worker *w, const struct err *why)
{
    struct slot *s = ctx;
    (void)w;
    lock_take(&s->router->mu);
    s->status.state = WORKER_DEAD;
    s->why = *why;
    pthread_cond_broadcast(&s->router->changed);
    lock_drop(&s->router->mu);
}

/* --- workers --- */

static void list_slot(struct router *r, struct routed *m, struct slot *s)
{
    lock_take(&r->mu);
    if (r->last)
        r->last->next = s;
    else
        r->first = s;
    r->last = s;
    r->n_slots++;
    m->slots[m->n_slots++] = s;
    lock_drop(&r->mu);
}

int router_start_worker(struct router *r, const char *model, const struct worker_opts *opts,
                        struct err *e)
{
    lock_take(&r->mu);
    struct routed *m = find_model(r, model);
    bool full = m && m->n_slots == MAX_WORKERS_PER_MODEL;
    lock_drop(&r->mu);
    if (!m)
        return err_set(e, LLMD_ENOTFOUND, "model \"%s\" is not declared", model);
    if (full)
        return err_set(e, LLMD_EINVAL, "model \"%s\" has more than %d workers", model,
                       MAX_WORKERS_PER_MODEL);
    struct slot *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(e, LLMD_ENOMEM, "out of memory for a worker of \"%s\"", model);
    s->router = r;
    s->routed = m;
    const struct worker_callbacks cb = {.ctx = s, .published = on_published, .dead = on_dead};
    int rc = worker_start(opts, &cb, &s->worker, e);
    if (rc) {
        free(s);
        return rc;
    }
    list_slot(r, m, s);
    return 0;
}

/* --- submission --- */

/* Nobody can take the request. r->mu is held. */
static int refuse(const struct router *r, const struct routed *m, struct err *e)
{
    uint32_t n_dead = 0, percent = 0;
    const char *why = "";
    if (r->draining)
        return err_set(e, LLMD_EDRAINING, "the server is shutting down");
    for (uint32_t i = 0; i < m->n_slots; i++) {
        const struct slot *s = m->slots[i];
        if (s->status.state == WORKER_DEAD) {
            n_dead++;
            why = s->why.msg;
        } else if (load_percent(&s->status.load) > percent)
            percent = load_percent(&s->status.load);
    }
    if (n_dead == m->n_slots && n_dead > 0)
        return err_set(e, LLMD_ENOTREADY, "no worker of model \"%s\" is alive: %s", m->name, why);
    return err_set(e, LLMD_ENOTREADY, "model \"%s\" is loading: %u %% of its weights are there",
                   m->name, percent);
}

/* The ready workers of the model, the one whose turn it is first; passes the turn on. */
static int choose(struct router *r, const char *model, struct worker *out[], uint32_t *out_n,
                  struct err *e)
{
    uint32_t n = 0;
    int rc = 0;
    lock_take(&r->mu);
    struct routed *m = find_model(r, model);
    uint32_t turn = m ? m->turn : 0;
    for (uint32_t i = 0; m && i < m->n_slots; i++) {
        uint32_t at = (turn + i) % m->n_slots;
        if (m->slots[at]->status.state != WORKER_READY)
            continue;
        if (n == 0)
            m->turn = (at + 1) % m->n_slots;
        out[n++] = m->slots[at]->worker;
    }
    if (!m)
        rc = err_set(e, LLMD_ENOTFOUND, "The model `%s` does not exist.", model);
    else if (n == 0)
        rc = refuse(r, m, e);
    lock_drop(&r->mu);
    *out_n = n;
    return rc;
}

/* Whether another worker of the model could still take what this one refused. */
static bool worth_another(int code)
{
    return err_retryable(code) || code == LLMD_ETOOBIG;
}

int router_submit(struct router *r, struct request *req, struct err *e)
{
    struct worker *workers[MAX_WORKERS_PER_MODEL];
    uint32_t n = 0;
    struct err why = {0};
    int rc = choose(r, req->model, workers, &n, e);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < n; i++) {
        struct err one = {0};
        rc = worker_submit(workers[i], req, &one);
        if (rc == 0)
            return 0;
        /* "Full here" outweighs "too large there": the client may try again. */
        if (why.code == 0 || (!err_retryable(why.code) && err_retryable(one.code)))
            why = one;
        if (!worth_another(-rc))
            break;
    }
    if (e && e->code == 0)
        *e = why;
    return -why.code;
}

/* --- views --- */

/* r->mu is held. */
static bool model_is_ready(const struct routed *m)
{
    for (uint32_t i = 0; i < m->n_slots; i++)
        if (m->slots[i]->status.state == WORKER_READY)
            return true;
    return false;
}

bool router_model_ready(struct router *r, const char *model)
{
    lock_take(&r->mu);
    const struct routed *m = find_model(r, model);
    bool ready = m && model_is_ready(m);
    lock_drop(&r->mu);
    return ready;
}

bool router_all_ready(struct router *r)
{
    lock_take(&r->mu);
    bool ready = true;
    for (const struct routed *m = r->models; m; m = m->next)
        ready &= model_is_ready(m);
    lock_drop(&r->mu);
    return ready;
}

bool router_progressing(struct router *r, uint64_t stall_us)
{
    uint64_t now_us = clock_now_us();
    bool busy = false, moving = false;
    lock_take(&r->mu);
    for (const struct slot *s = r->first; s; s = s->next) {
        struct worker_status now;
        worker_status(s->worker, &now);
        if (now.state == WORKER_DEAD || now.n_running + now.n_waiting == 0)
            continue;
        busy = true;
        moving |= now.heartbeat_us >= now_us || now_us - now.heartbeat_us < stall_us;
    }
    lock_drop(&r->mu);
    return !busy || moving;
}

uint32_t router_workers(struct router *r, struct router_worker_view *out, uint32_t max)
{
    uint32_t n = 0;
    lock_take(&r->mu);
    for (const struct slot *s = r->first; s && n < max; s = s->next, n++) {
        struct router_worker_view *v = &out[n];
        *v = (struct router_worker_view){.index = worker_options(s->worker)->index};
        snprintf(v->model, sizeof(v->model), "%.*s", (int)sizeof(v->model) - 1, s->routed->name);
        snprintf(v->error, sizeof(v->error), "%.*s", (int)sizeof(v->error) - 1, s->why.msg);
        worker_status(s->worker, &v->status);
        v->status.state = s->status.state; /* what submissions go by */
    }
    n = r->n_slots;
    lock_drop(&r->mu);
    return n;
}

/* --- the end --- */

/* r->mu is held. */
static bool all_dead(const struct router *r)
{
    for (const struct slot *s = r->first; s; s = s->next)
        if (s->status.state != WORKER_DEAD)
            return false;
    return true;
}

void router_shutdown(struct router *r, uint64_t until_us)
{
    lock_take(&r->mu);
    r->draining = true;
    for (struct slot *s = r->first; s; s = s->next)
        worker_drain(s->worker); /* takes the inbox's lock: of a higher rank */
    while (!all_dead(r) && clock_now_us() < until_us)
        lock_wait(&r->mu, &r->changed, until_us);
    for (struct slot *s = r->first; s; s = s->next)
        worker_stop(s->worker);
    while (!all_dead(r)) /* a stopped worker ends after the step that it is in */
        lock_wait(&r->mu, &r->changed, UINT64_MAX);
    lock_drop(&r->mu);
}

/* generation_prep.c - the plan of a large body, made on a thread of the pool.
 *
 * What plan_parse reads belongs to the job: the body, and references to the catalogues of model and
 * key. So a generation may end meanwhile; the job then finds nobody, and frees itself. */
#include <stdlib.h>

#include "core/edge/generation_int.h"
#include "core/edge/prep.h"

enum { LARGE_BODY_BYTES = 16 * 1024 };

struct plan_job {
    struct prep_job job;           /* first: the pool knows no more */
    struct generation *generation; /* the loop's; NULL: it has ended */
    struct catalog *catalog, *key_catalog;
    const struct edge_key *key; /* of key_catalog */
    enum plan_kind kind;
    struct buf body;
    struct plan plan;
    struct err error; /* code 0: the plan is there */
};

static void work(struct prep_job *job)
{
    struct plan_job *p = (struct plan_job *)job;
    (void)!plan_parse(p->catalog, p->key, p->kind, buf_str(&p->body), p->body.len, &p->plan,
                      &p->error);
}

static void free_job(struct plan_job *p)
{
    plan_fini(&p->plan);
    buf_fini(&p->body);
    catalog_unref(p->catalog);
    catalog_unref(p->key_catalog);
    free(p);
}

static void done(struct prep_job *job)
{
    struct plan_job *p = (struct plan_job *)job;
    struct generation *g = p->generation;
    if (g) {
        g->planning = NULL;
        g->plan = p->plan;
        g->exchange->body = p->body;
        if (g->error.code == 0)
            g->error = p->error;
        p->plan = (struct plan){0};
        p->body = (struct buf){0};
        exchange_resume(g->exchange);
    }
    free_job(p);
}

bool generation_is_large(const struct generation *g)
{
    return g->exchange->body.len > LARGE_BODY_BYTES;
}

int generation_plan_later(struct generation *g, struct err *e)
{
    struct exchange *ex = g->exchange;
    struct loop *l = ex->conn->loop;
    struct plan_job *p = calloc(1, sizeof(*p));
    if (!p)
        return err_set(e, LLMD_ENOMEM, "out of memory for the request");
    *p = (struct plan_job){
        .job = {.inbox = &l->prepared, .work = work, .done = done},
        .generation = g,
        .catalog = catalog_ref(g->catalog),
        .key_catalog = catalog_ref(ex->catalog),
        .key = ex->key,
        .kind = g->kind,
        .body = ex->body,
    };
    (void)buf_str(&p->body); /* ends it with a NUL: here, where memory may be short, is the place */
    int rc = prep_give(&l->edge->prep, &p->job, e);
    if (rc != 0) {
        p->body = (struct buf){0};
        free_job(p);
        return rc;
    }
    ex->body = (struct buf){0};
    g->planning = p;
    return 0;
}

void generation_leave_plan(struct generation *g)
{
    if (!g->planning)
        return;
    g->planning->generation = NULL;
    atomic_store(&g->planning->job.abandoned, true);
    g->planning = NULL;
}

/* generation_prep.c - the plan of a large body, made on another thread. */
#include <stdlib.h>

#include "core/edge/generation_int.h"
#include "core/edge/later.h"

struct plan_later {
    struct later later;      /* first */
    struct catalog *catalog; /* of the generation */
    enum plan_kind kind;
    struct plan plan;
    struct err error; /* code 0: the plan is there */
};

static void work(struct prep_job *job)
{
    struct plan_later *p = (struct plan_later *)job;
    const struct buf *body = &p->later.body;
    (void)!plan_parse(p->catalog, p->later.key, p->kind, buf_str(body), body->len, &p->plan,
                      &p->error);
}

static void release(struct later *l)
{
    struct plan_later *p = (struct plan_later *)l;
    plan_fini(&p->plan);
    catalog_unref(p->catalog);
}

int generation_plan_later(struct generation *g, struct err *e)
{
    struct plan_later *p = calloc(1, sizeof(*p));
    if (!p)
        return err_set(e, LLMD_ENOMEM, "out of memory for the request");
    p->catalog = catalog_ref(g->catalog);
    p->kind = g->kind;
    return later_give(g->exchange, &p->later, work, release, e);
}

bool generation_take_plan(struct generation *g)
{
    struct plan_later *p = (struct plan_later *)later_take(g->exchange);
    if (!p)
        return false;
    g->plan = p->plan;
    g->error = p->error;
    p->plan = (struct plan){0};
    later_leave(g->exchange);
    return true;
}

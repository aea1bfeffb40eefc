#include "core/edge/later.h"

#include <stdlib.h>

enum { LARGE_BODY_BYTES = 16 * 1024 };

static void free_later(struct later *l)
{
    l->release(l);
    buf_fini(&l->body);
    catalog_unref(l->catalog);
    free(l);
}

static void done(struct prep_job *job)
{
    struct later *l = (struct later *)job;
    l->done = true;
    if (l->exchange)
        exchange_resume(l->exchange);
    else
        free_later(l);
}

bool later_wanted(const struct exchange *ex)
{
    return ex->body.len > LARGE_BODY_BYTES;
}

int later_give(struct exchange *ex, struct later *l, void (*work)(struct prep_job *job),
               void (*release)(struct later *l), struct err *e)
{
    struct loop *loop = ex->conn->loop;
    BUG_ON(ex->later);
    l->job.inbox = &loop->prepared;
    l->job.work = work;
    l->job.done = done;
    l->job.owner = catalog_key_use(ex->catalog, ex->key);
    l->exchange = ex;
    l->catalog = catalog_ref(ex->catalog);
    l->key = ex->key;
    l->body = ex->body;
    l->release = release;
    int rc = prep_give(l->pool ? l->pool : &loop->edge->prep, &l->job, e);
    if (rc != 0) {
        l->body = (struct buf){0};
        free_later(l);
        return rc;
    }
    ex->body = (struct buf){0};
    ex->later = l;
    conn_watch(ex->conn);
    return 0;
}

struct later *later_take(struct exchange *ex)
{
    struct later *l = ex->later;
    if (!l || !l->done)
        return NULL;
    ex->body = l->body;
    l->body = (struct buf){0};
    return l;
}

void later_leave(struct exchange *ex)
{
    struct later *l = ex->later;
    ex->later = NULL;
    if (!l)
        return;
    if (l->done) {
        free_later(l);
        return;
    }
    l->exchange = NULL;
    atomic_store(&l->job.abandoned, true);
}

#include "core/edge/page.h"

#include <stdlib.h>
#include <string.h>

int page_new(struct page **out, struct err *e)
{
    struct page *p = calloc(1, sizeof(*p));
    char token[SESSION_TOKEN_BYTES] = "";
    if (!p)
        return err_set(e, LLMD_ENOMEM, "out of memory for the status page");
    lock_init(&p->mu, LOCK_RANK_LEAF);
    sessions_init(&p->sessions);
    login_tries_init(&p->tries);
    int rc = page_history_init(&p->history);
    if (rc != 0)
        rc = err_set(e, LLMD_ENOMEM, "out of memory for the status page");
    if (rc == 0)
        rc = session_token(token, e);
    if (rc != 0) {
        page_free(p);
        return rc;
    }
    memcpy(p->process, token, sizeof(p->process) - 1);
    *out = p;
    return 0;
}

void page_free(struct page *p)
{
    if (!p)
        return;
    snapshot_unref(p->latest);
    page_history_fini(&p->history);
    sessions_fini(&p->sessions);
    login_tries_fini(&p->tries);
    lock_fini(&p->mu);
    free(p);
}

struct snapshot *page_latest(struct page *p)
{
    lock_take(&p->mu);
    struct snapshot *s = p->latest;
    if (s)
        atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    lock_drop(&p->mu);
    return s;
}

void snapshot_unref(struct snapshot *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) > 1)
        return;
    buf_fini(&s->event);
    free(s);
}

void page_add_verdict(struct page *p, struct buf *out)
{
    lock_take(&p->mu);
    buf_addstr(out, p->verdict[0] ? p->verdict : "null");
    lock_drop(&p->mu);
}

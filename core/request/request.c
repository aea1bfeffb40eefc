#include "core/request/request.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

int request_new(struct request **out)
{
    struct request *r = calloc(1, sizeof(*r));
    if (!r)
        return -LLMD_ENOMEM;

    atomic_init(&r->refs, 1);
    atomic_init(&r->cancelled, false);
    arena_init(&r->arena, 0);
    lock_init(&r->stream.mu, LOCK_RANK_STREAM); /* request_cancel needs it before stream_init */
    atomic_init(&r->stream.room_calls, 0);
    r->trace.worker = -1;
    *out = r;
    return 0;
}

struct request *request_ref(struct request *r)
{
    unsigned before = atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
    BUG_ON(before == 0);
    return r;
}

void request_unref(struct request *r)
{
    if (!r)
        return;
    unsigned before = atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel);
    BUG_ON(before == 0);
    if (before > 1)
        return;

    BUG_ON(r->stream.linked); /* the link holds a reference */
    lock_fini(&r->stream.mu);
    free(r->stream.outputs);
    arena_fini(&r->arena); /* the ring is in it */
    free(r);
}

uint64_t request_session(const char *name)
{
    const uint64_t h = XXH3_64bits(name, strlen(name));
    return h ? h : 1;
}

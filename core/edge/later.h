/* later.h - the work of a handler on another thread (prep.h), while its exchange is suspended: what large
 * bodies need.
 *
 *   handler   later_give, exchange_suspend
 *   thread    work: reads the body, by key and catalogue; writes what the handler added
 *   loop      the exchange is resumed: the handler is called again, later_take
 *
 * Ownership  The handler allocates a struct that begins with a struct later; later_give makes it the
 *            exchange's (ex->later), and the pool's until it is done. An exchange that ends before leaves
 *            it behind (later_leave), and it frees itself when it comes back. The body belongs to it
 *            meanwhile, and a reference to the catalogue of the key: work() needs nothing of the exchange.
 * Thread     that of the exchange's loop, but for work. */
#pragma once
#include "core/edge/edge_int.h"

struct later {
    struct prep_job job;       /* first: the pool knows no more */
    struct prep *pool;         /* that does it; NULL: the one for large bodies */
    struct exchange *exchange; /* the loop's; NULL: it is over */
    struct catalog *catalog;   /* the exchange's */
    const struct edge_key *key;
    struct buf body;
    bool done;
    void (*release)(struct later *l); /* frees what the handler added */
};

/* The body is so large that the loop's other connections would have to wait. */
bool later_wanted(const struct exchange *ex);
/* Takes l, which is otherwise zeroed, and the exchange's body. Errors: EFULL; l is freed then, and the
 * body is where it was. */
MUST_CHECK int later_give(struct exchange *ex, struct later *l, void (*work)(struct prep_job *job),
                          void (*release)(struct later *l), struct err *e);
/* What is done, with the body back in the exchange; NULL: not yet. It stays the exchange's. */
struct later *later_take(struct exchange *ex);
/* The exchange needs it no more, or is over. Nothing when there is none. */
void later_leave(struct exchange *ex);

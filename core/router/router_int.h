/* router_int.h - the router's books, shared by its files.
 *
 *   router.c    models and workers: start, views, the end
 *   books.c     what is known of each worker: reports, reservations, candidates
 *   submit.c    requests: submission, the queue, binding
 *   wait.c      how long a request would wait, and whether it may
 *   lost.c      workers that are lost: their requests move, the worker is started again
 *   models.c    models come, follow each other under one name, and go
 *   drain.c     workers that are taken out of service and returned; waiting has an end
 *   records.c   what is kept of requests and decisions
 *
 *   router ── routed (a model) ── slot (a worker's place) ── link (the worker in it)
 *                 │ queue, map        │ dispatches bound to it
 *                 └── dispatch (a request) ┘
 *
 * Invariants  I1: a dispatch is in exactly one of: a slot's list (slot set), the model's queue
 *                 (item.flow set), its movers list (moving), the hands of the thread that submits,
 *                 moves or fails it.
 *             I2: a slot's sums are those of its dispatches: unstarted ones in `unstarted`.
 *             I3: what a dispatch promised in the map (n_promised > 0) is promised to its slot.
 * Lock        router.mu guards all of it. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "core/request/request.h"
#include "core/router/fair_queue.h"
#include "core/router/history.h"
#include "core/router/prefix_map.h"
#include "core/router/router.h"
#include "core/router/router_metrics.h"
#include "core/util/lock.h"

enum { LOST_BY_MAX = 8 };

/* What requests ask of a worker. */
struct demand {
    uint32_t n_seqs;
    uint64_t n_tokens; /* of prompts, that it must compute */
    uint64_t n_blocks; /* of its KV cache, that it must find */
};

/* One request. Outside of the lock only its request and names may be read. */
struct dispatch {
    struct fair_item item; /* first: items are cast to dispatches */
    struct request *req;   /* one reference */
    struct router *router;
    struct routed *routed;
    struct slot *slot;              /* where it is bound; NULL: nowhere */
    struct link *link;              /* the worker there */
    struct dispatch *prev, *next;   /* of the slot's dispatches */
    struct dispatch *after;         /* of the movers, or of some thread's list */
    struct dispatch *older, *newer; /* of all requests that are with the router */
    bool moving;                    /* among the movers */
    bool submitting;    /* worker_submit is under way: whoever does it sees to the rest */
    bool cached;        /* most of its prompt was cached where it is bound */
    bool over;          /* meanwhile its worker was done with it */
    bool started;       /* its worker's reports count it */
    bool cancelled;     /* its client went while it waited: to be failed */
    uint32_t epoch;     /* of its stream, while no worker has it */
    uint64_t too_small; /* bit per slot: can never hold it */
    uint64_t n_reports; /* of its slot, when it was bound */
    uint64_t lost_by[LOST_BY_MAX]; /* numbers of the links that lost it, the last ones */
    uint32_t n_lost_by;
    uint32_t n_migrations;
    uint64_t queued_us;          /* when it began to wait here; 0: a worker took it */
    double projected_us;         /* how long it would wait, when it began to; 0: not known */
    struct demand demand;        /* of its slot, while it is not started */
    struct route_record *record; /* the request's */
    uint64_t *promised;          /* bit per name: promised to slot */
    uint32_t n_promised;
    uint32_t n_names;
    struct prefix_hash names[];
};

/* Dispatches in the hands of one thread, or movers. */
struct dispatch_list {
    struct dispatch *first, *last;
};

static inline void dispatch_list_add(struct dispatch_list *l, struct dispatch *dp)
{
    dp->after = NULL;
    if (l->last)
        l->last->after = dp;
    else
        l->first = dp;
    l->last = dp;
}

static inline struct dispatch *dispatch_list_pop(struct dispatch_list *l)
{
    struct dispatch *dp = l->first;
    if (!dp)
        return NULL;
    l->first = dp->after;
    if (!l->first)
        l->last = NULL;
    dp->after = NULL;
    return dp;
}

/* The worker in a slot; one that was lost stays until its thread has ended. */
struct link {
    struct link *next; /* of router.lost */
    struct slot *slot;
    struct worker *worker;
    uint64_t number;  /* of the router's links, from 1 */
    uint32_t n_calls; /* of it, under way without the lock: it must not be freed */
    bool lost;        /* its requests were taken away */
    bool ended;       /* its last callback was made */
};

/* Whether a place is in service, see drain.c. */
enum slot_service {
    SLOT_SERVES,
    SLOT_DRAINED,   /* takes nothing new, and stays down when its worker has ended */
    SLOT_RETURNING, /* its worker starts again: not ready yet */
    SLOT_REMOVED,   /* out of the router's list; it stays with its model until that is collected */
};

struct slot {
    struct router *router;
    struct routed *routed;
    struct slot *next; /* all slots, in the order they were started */
    uint32_t bit;      /* index within the model */
    const struct worker_opts *opts;
    struct link *link; /* the present worker */
    struct worker_status status;
    struct err why;              /* state DEAD: the reason */
    struct demand unstarted;     /* bound, its reports do not count them yet */
    struct demand fresh;         /* started since the last report */
    struct dispatch *dispatches; /* bound here */
    uint32_t n_bound, n_starts;  /* dispatches; workers that were started here */
    uint32_t n_bound_cached;     /* of n_bound: dispatches that are `cached` */
    uint32_t n_kv_blocks;        /* of the last worker here that told; 0: none did */
    uint64_t n_reports;
    uint64_t number; /* of the router's slots, from 1 */
    enum slot_service service;
    bool suspect; /* seems to stall; of the present worker */
    bool refuses; /* took no request, for a reason of its own: nothing more until it reports */
    uint64_t last_chosen, n_chosen, n_migrated;
};

/* A model and its workers: one generation of what is served under that name. */
struct routed {
    struct routed *next; /* newest first */
    struct router *router;
    uint64_t generation;   /* of the router's models, from 1 */
    uint32_t n_dispatches; /* requests that are with it */
    bool held;             /* requests wait though no worker is ready: the first is on its way */
    bool closed;           /* takes no new requests */
    bool was_ready;        /* a worker of it was, once */
    struct router_model_opts opts;
    struct slot *slots[PREFIX_MAP_WORKERS];
    uint32_t n_slots;
    struct prefix_map *map; /* NULL until a worker told the size of its cache */
    uint32_t n_map_blocks;  /* that the map was made for */
    struct fair_queue *queue;
    struct dispatch_list movers; /* lost their worker, or are cancelled: they go before the queue */
    uint32_t n_movers;
    enum route_wait wait; /* of the request that was last found nobody to take it */
    uint64_t n_decisions, n_migrations;
    struct router_metrics metrics;
    double mean_output;                     /* tokens of an answer, exponentially weighted */
    double mean_stay_us;                    /* of a request at its worker, likewise; 0: not known */
    double waited_us, projected_us;         /* of those that left the queue, likewise */
    struct decision *decision;              /* being made; room for DECISION_CANDIDATES */
    uint8_t candidates[PREFIX_MAP_WORKERS]; /* of it: their slots' bits */
    char name[];
};

struct records {
    struct dispatch *oldest, *newest; /* all that are with the router, and markers */
    uint32_t n_live;
    struct history ended;     /* route_records of the last requests */
    struct history decisions; /* the last ones, see records.c */
};

struct router {
    struct lock mu;         /* rank ROUTER */
    pthread_cond_t changed; /* a worker died, a request was bound or left */
    struct routed *models;
    struct slot *first, *last;
    uint32_t n_slots;
    struct link *lost;                /* not in a slot any more; their threads may still run */
    uint64_t n_links;                 /* started so far */
    uint64_t n_generations, n_places; /* models and slots so far */
    uint64_t next_expiry_us;
    atomic_uint most_slots; /* of any model: how many candidates a decision may have */
    struct records records;
    bool draining;
};

/* router.c; r->mu is held */
struct routed *router_find_model(const struct router *r, const char *name); /* the newest */
struct slot *router_find_slot(const struct router *r, uint32_t index);
bool router_slot_able(const struct slot *s); /* ready, as far as the router knows */
/* Drained or on its way back: what nobody else takes may wait for it. */
bool router_slot_awaited(const struct slot *s);
/* Whether a request may wait though no worker is ready: one is about to come back. */
bool router_awaits(const struct routed *m);
/* Why nobody can take a request of the model. */
int router_refuse(const struct router *r, const struct routed *m, struct err *e);

/* books.c; r->mu is held */
/* Makes a decision for now and records it; it is there until the model's next one. */
const struct decision *books_decide(struct routed *m, struct dispatch *dp);
/* Binds dp to the slot that the decision, just made for it, chose: reservations and promises. */
void books_bind(struct routed *m, struct dispatch *dp, const struct decision *d);
/* Its worker's reports count it from now on. */
void books_started(struct dispatch *dp);
/* Takes all of that back. */
void books_unbind(struct dispatch *dp);
void books_report(struct slot *s, const struct worker_report *r);
/* The gauge of the prefix index, over all generations of the model's name. r->mu is held. */
void books_note_index(const struct routed *m);
/* The worker lost the request: it does not get it again. */
void books_lost_by(struct dispatch *dp, const struct link *l);
bool books_was_lost_by(const struct dispatch *dp, const struct link *l);
/* Whether a worker of the model could ever hold the request; true while that is not known. */
bool books_could_fit(const struct routed *m, const struct dispatch *dp);
/* Whether a worker that is ready may take the dispatch, now or later. */
bool books_has_taker(const struct routed *m, const struct dispatch *dp);
/* Whether a worker that is ready or awaited may take the dispatch, now or later. */
bool books_has_future(const struct routed *m, const struct dispatch *dp);
/* What one more sequence costs the others over its answer, in prefill tokens. */
double books_delta(const struct routed *m);

/* submit.c */
/* What waits and can go is bound and put on *out, for submit_bound() outside of the lock; so are
 * requests whose clients have gone. r->mu is held. */
void submit_pump(struct routed *m, struct dispatch_list *out);
void submit_bound(struct router *r, struct dispatch_list *bound);
/* Lets a dispatch wait in front of the queue. r->mu is held. */
void submit_move(struct routed *m, struct dispatch *dp);
/* Lets one that waited for another generation wait on: behind those of its key, so that the shares of the
 * keys hold; in front when it has lost a worker before, or without memory. r->mu is held. */
void submit_rejoin(struct routed *m, struct dispatch *dp);
/* All that waits for the model. r->mu is held. */
void submit_take_waiting(struct routed *m, struct dispatch_list *out);
/* Of that, what gone() says. r->mu is held. */
void submit_sweep(struct routed *m, bool (*gone)(const struct routed *m, const struct dispatch *dp),
                  struct dispatch_list *out);
/* Of that, what no worker that is ready or awaited can take, now or later. r->mu is held. */
void submit_take_hopeless(struct routed *m, struct dispatch_list *out);
uint32_t submit_n_waiting(const struct routed *m);
void submit_note_waiting(struct routed *m); /* the gauge, over all generations of the name */
/* The dispatch is of the model from now on. r->mu is held. */
void dispatch_adopt(struct dispatch *dp, struct routed *m);
/* Ends the streams of dispatches that no worker has, and frees the dispatches. */
extern const struct err submit_nobody; /* why: they waited in vain */
void submit_fail(struct router *r, struct dispatch_list *list, const struct err *why);
/* The dispatch leaves the router's books; dispatch_free() comes after, outside of the lock. r->mu is
 * held. */
void dispatch_forget(struct router *r, struct dispatch *dp);
/* The same at the end of its request, whose record is kept; why: see record_end(). */
void dispatch_end(struct router *r, struct dispatch *dp, const struct err *why);
void dispatch_free(struct dispatch *dp); /* with the reference of its request */
/* The router is the producer of the stream from now on. False when there is nothing left to
 * produce. Not under the lock. */
bool dispatch_attach(struct dispatch *dp);

/* wait.c; r->mu is held */
/* A request is over at its worker; it was bound after it has waited. */
void wait_learn_stay(struct routed *m, const struct dispatch *dp);
void wait_learn_wait(struct routed *m, const struct dispatch *dp);
/* Whether one more may wait: -LLMD_EFULL, with the reason in e, when it may not. */
MUST_CHECK int wait_verdict(const struct routed *m, struct dispatch *dp, uint32_t cost,
                            struct err *e);

/* models.c; r->mu is held */
struct routed *routed_find(const struct router *r, uint64_t generation);
/* The model that a request was made for; NULL with ENOTFOUND in e. */
struct routed *routed_of(const struct router *r, const struct request *req, struct err *e);
void routed_free(struct routed *m); /* NULL is fine */

/* drain.c */
/* A worker that was awaited is ready, or will not come: what waited for it in vain is put on *out.
 * r->mu is held. */
void drain_settle(struct slot *s, struct dispatch_list *out);
/* records.c; r->mu is held, but by records_init() and records_fini() */
MUST_CHECK int records_init(struct records *k);
void records_fini(struct records *k);
/* The dispatch is with the router from now on; not any more (idempotent). */
void records_list(struct router *r, struct dispatch *dp);
void records_unlist(struct router *r, struct dispatch *dp);
void records_decided(struct router *r, struct dispatch *dp, const struct decision *d);
/* Its request is over: the record is kept. */
void records_end(struct router *r, struct dispatch *dp, const struct err *why);

/* lost.c */
/* Puts the worker of a slot among those that were lost, to be freed when its thread has ended. r->mu
 * is held. */
void link_retire(struct slot *s);
/* Whether its worker has ended or was given up: another may be started there. r->mu is held. */
bool link_is_down(const struct slot *s);
/* Starts a worker in the slot; on failure the slot is down again. Not under the lock. */
MUST_CHECK int link_start(struct slot *s, struct err *e);
/* The worker is lost: its requests go on elsewhere, or fail when nobody is left. Idempotent; not
 * under the lock. */
void link_lose(struct link *l, const struct err *why);

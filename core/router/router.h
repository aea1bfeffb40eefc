/* router.h - decides which worker gets a request, keeps what must wait, and moves the requests of
 * a worker that is lost to another.
 *
 *   edge     router_submit ── decision ──┬─ bound: worker_submit
 *                                        └─ queued per model, bound when a worker can start it
 *   worker   published, started, over ── the books that decisions go by; then what waits is bound
 *            dying, or router_lose ───── its requests go on elsewhere, from what their streams keep
 *
 * A request is with the router from router_submit until its worker is done with it (or it fails
 * while it waits). Its decision record says how it got where it is.
 *
 * Lock    router.mu (rank ROUTER) guards everything; a decision and the reservation that follows
 *         from it are one critical section, so that a burst does not herd. Prompts are hashed, workers
 *         and streams called outside it.
 * Thread  any. The callbacks given to workers run on the workers' threads. */
#pragma once
#include "core/engine/worker.h"
#include "core/router/decision.h"
#include "core/router/record.h"
#include "core/util/base.h"
#include "core/util/err.h"

struct metrics;
struct request;
struct router;

struct router_model_opts {
    enum route_policy policy;
    double alpha;            /* see decision.h; 0: 0.1 */
    double delta;            /* 0: learned from the workers' steps */
    uint32_t max_queue;      /* requests that wait here; twice as many with those of keys that have
                              * less than their share of it */
    uint64_t max_queue_us;   /* a longer wait is refused at once; 0: any */
    uint32_t max_migrations; /* of one request */
    struct metrics *metrics; /* NULL: none */
};

MUST_CHECK int router_new(struct router **out, struct err *e);
void router_free(struct router *r); /* after router_shutdown; NULL is fine */

/* Declares a model; its workers are added by router_start_worker. Several may have one name: they are
 * generations of it, and by name the newest is meant. A request is submitted for one of them
 * (request.generation), because its token ids are those of that model's tokenizer. */
MUST_CHECK int router_add_model(struct router *r, const char *name,
                                const struct router_model_opts *o, struct err *e);
/* The number of the newest model of that name; 0: there is none. */
uint64_t router_generation(struct router *r, const char *name);
/* What is decided from now on goes by these options; metrics and metrics' names stay. */
void router_set_model(struct router *r, uint64_t generation, const struct router_model_opts *o);
/* Held: requests wait (max_queue, max_queue_us) though no worker of it is ready. Let go, those that no
 * worker can take fail. */
void router_hold_model(struct router *r, uint64_t generation, bool held);
/* Closed: takes no new requests (router_submit says ENOTFOUND); what it has ends. */
void router_close_model(struct router *r, uint64_t generation, bool closed);
/* What waits for one goes over to the other's queue, where the keys have their turns; its token ids must
 * mean the same to both. */
void router_move_waiting(struct router *r, uint64_t from, uint64_t to);
/* Gives up a drained worker's place. ENOTREADY: it still finishes what it has; EINVAL: it was not
 * drained; ENOTFOUND. */
MUST_CHECK int router_remove_worker(struct router *r, uint32_t index, struct err *e);
/* Frees a closed model when all its workers were removed and have ended and its last request is gone;
 * then, and only then, true (also when there is no such model): nothing reads its options any more. */
bool router_collect_model(struct router *r, uint64_t generation);
/* Starts a worker (worker_start) whose callbacks feed the router; the router owns it. opts outlive it.
 * At most PREFIX_MAP_WORKERS of a model. Of two workers none has the other's index. */
MUST_CHECK int router_add_worker(struct router *r, uint64_t generation,
                                 const struct worker_opts *opts, struct err *e);
/* Of the newest model of that name. */
MUST_CHECK int router_start_worker(struct router *r, const char *model,
                                   const struct worker_opts *opts, struct err *e);

/* Takes the request: binds it to a worker or lets it wait; moves one reference on success. Errors,
 * with the caller's reference kept: ENOTFOUND no such model or a closed one, ENOTREADY no worker ready, EFULL too
 * many wait or the wait would be too long, ETOOBIG fits no worker, EDRAINING, those of
 * worker_submit. What goes wrong later is the stream's error. */
MUST_CHECK int router_submit(struct router *r, struct request *req, struct err *e);

/* Gives up on a worker of this index (it stalls): its requests go on elsewhere. why is copied. */
void router_lose(struct router *r, uint32_t index, const struct err *why);
/* The worker seems to stall, or does not any more: meanwhile nobody gets new requests from it who can
 * have them from another. */
void router_suspect(struct router *r, uint32_t index, bool suspect);
/* Starts a lost or dead worker again, with its options. EINVAL: it is neither, or it was drained. */
MUST_CHECK int router_restart_worker(struct router *r, uint32_t index, struct err *e);
/* Frees workers that were replaced in their places and have ended. Call it every second or more often. */
void router_reap(struct router *r);

/* Takes a worker out of service: it gets nothing new, finishes what it has and ends. What waits goes to
 * others; without any the model's requests wait for its return, at most max_queue of them, each for
 * max_queue_us (router_expire). Its place stays down until router_return_worker. Idempotent. ENOTFOUND:
 * no such worker; EDRAINING: the whole router shuts down. */
MUST_CHECK int router_drain_worker(struct router *r, uint32_t index, struct err *e);
/* Starts a drained worker again, with its options. EINVAL: it was not drained; ENOTREADY: it still
 * finishes what it had; ENOTFOUND, EDRAINING as above. */
MUST_CHECK int router_return_worker(struct router *r, uint32_t index, struct err *e);
/* Fails what has waited longer than it may, and whose client has left. Call it every second or more
 * often. */
void router_expire(struct router *r);

/* A model is ready when a worker of it generated a token and lives, whatever the generation, or it is
 * held: then its requests wait for such a worker. All are ready: without those that are only held. */
bool router_model_ready(struct router *r, const char *model);
bool router_all_ready(struct router *r);
/* False when requests run and no worker made a step for stall_us: /health then says 503. */
bool router_progressing(struct router *r, uint64_t stall_us);

struct router_worker_view {
    char model[128];
    uint64_t generation;  /* of the model */
    bool model_was_ready; /* a worker of that generation was, once */
    uint32_t index;
    uint64_t place; /* number of its place among all that ever were; indexes are used again */
    struct worker_status status;
    char error[256]; /* why it is dead */
    bool poisoned;   /* dead, and to be had again only in a new process */
    enum worker_device device;
    uint32_t gpu;       /* cuda; its number */
    uint32_t n_hanging; /* workers of this place that were given up and whose threads still run */
    uint32_t n_starts;  /* times it was started */
    uint32_t n_bound;   /* requests that are with it */
    uint32_t n_bound_cached; /* of these: most of the prompt was cached there */
    uint64_t n_chosen;       /* decisions for it */
    uint64_t n_migrated;     /* requests that it lost to others */
    bool drained;            /* taken out of service; it still finishes until its state is DEAD */
};
/* Threads of workers that were given up and have not ended, of all places that are or were. */
uint32_t router_n_hanging(struct router *r);
/* Fills up to max views; returns how many workers there are. */
uint32_t router_workers(struct router *r, struct router_worker_view *out, uint32_t max);

/* States of KV blocks (worker_kv_blocks) of the worker of that index; copied under the router's lock: at
 * most ROUTER_KV_AT_ONCE. 0: there is no such worker, or it has none yet. */
enum { ROUTER_KV_AT_ONCE = 4096 };
uint32_t router_kv_blocks(struct router *r, uint32_t index, uint32_t from, uint32_t n,
                          uint8_t *out);

struct router_model_view {
    uint64_t generation;
    uint32_t n_requests; /* that are with it, waiting or not */
    uint32_t n_waiting;  /* requests that no worker has yet */
    uint64_t n_waiting_tokens;
    uint64_t n_decisions, n_migrations;
    double delta;
    size_t map_bytes;
    uint32_t n_map_entries;
};
/* Of the newest of that name. False: no such model. */
bool router_model(struct router *r, const char *model, struct router_model_view *out);
/* Of that generation. False: it is gone. */
bool router_model_generation(struct router *r, uint64_t generation, struct router_model_view *out);
/* Where the request is bound, and how much of its prompt was expected in the cache there; false while
 * it waits. Only while the request is with the router. */
struct router_placement {
    uint32_t worker, n_cached_tokens;
};
bool router_placed(struct router *r, struct request *req, struct router_placement *out);

/* --- what was decided, and why --- */

struct router_request_view { /* of a request that is with the router */
    char id[160], model[128], key[64];
    int32_t worker; /* -1: it waits */
    uint32_t n_prompt_tokens, n_cached_tokens, n_output_tokens, n_choices, n_migrations;
    uint64_t submitted_us, bound_us, first_token_us; /* clock_now_us(); 0: not yet */
    bool waits_for_client;                           /* it takes nothing: the sequence is paused */
};
/* Fills up to max views, oldest first; returns how many such requests there are. Those that come or
 * go meanwhile may be missed. */
uint32_t router_requests(struct router *r, struct router_request_view *out, uint32_t max);
/* How many of them wait for their clients. */
uint32_t router_n_waiting_for_clients(struct router *r);
/* Cancels what is with the router under that id, as if its clients had left; their streams end with
 * ECANCELLED. Returns how many there were: clients may choose an id twice. */
uint32_t router_cancel(struct router *r, const char *id);
/* A copy of the request's record, for free(): while it is with the router, and afterwards for as
 * long as the caller has a reference to it, also when router_submit refused it. NULL: it was never
 * submitted, or out of memory. */
struct route_record *router_record(struct router *r, struct request *req);
/* The record of that id as JSON, appended: of a request that is with the router, or of one of the last
 * 1,024 that ended (fewer when their records take more than 4 MiB). False: there is none. */
bool router_record_json(struct router *r, const char *id, struct buf *out);
/* The last n decisions as a JSON array, one per line, oldest first: what decision_add_json() says,
 * with "request" and "model". Decisions that only repeat that a request waits are left out. 1 MiB of
 * them are kept (about 1,600 for 8 workers). Returns how many there are. */
uint32_t router_decisions(struct router *r, uint32_t n, struct buf *out);

/* Refuses new requests, lets those that wait and run end, drains all workers; waits until they
 * ended or until_us (clock_now_us), then stops the rest and waits for those too: when it returns,
 * no worker pushes to any stream any more. False: the thread of a lost worker hangs; what it may
 * use (models, weights) must stay, and router_free() frees nothing. */
bool router_shutdown(struct router *r, uint64_t until_us);

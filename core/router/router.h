/* router.h - decides which worker gets a request.
 *
 * For now: round robin over the ready workers of the model, skipping full ones.
 *
 * Lock    router.mu (rank ROUTER) guards the worker lists and states; worker_submit is called
 *         outside it.
 * Thread  any. The callbacks given to workers run on the workers' threads. */
#pragma once
#include "core/engine/worker.h"
#include "core/util/base.h"
#include "core/util/err.h"

struct request;
struct router;

MUST_CHECK int router_new(struct router **out, struct err *e);
void router_free(struct router *r); /* after all workers are gone; NULL is fine */

/* Declares a model; its workers are added by router_start_worker. Names are unique. */
MUST_CHECK int router_add_model(struct router *r, const char *name, struct err *e);
/* Starts a worker (worker_start) whose callbacks feed the router; the router owns it. */
MUST_CHECK int router_start_worker(struct router *r, const char *model,
                                   const struct worker_opts *opts, struct err *e);

/* Hands the request to a worker; moves one reference on success. Errors, with the caller's
 * reference kept: ENOTFOUND no such model, ENOTREADY no worker ready, EFULL all queues full,
 * ETOOBIG fits no worker, EDRAINING. */
MUST_CHECK int router_submit(struct router *r, struct request *req, struct err *e);

/* A model is ready when a worker of it generated a token and lives. */
bool router_model_ready(struct router *r, const char *model);
bool router_all_ready(struct router *r);
/* False when requests run and no worker made a step for stall_us: /health then says 503. */
bool router_progressing(struct router *r, uint64_t stall_us);

struct router_worker_view {
    char model[128];
    uint32_t index;
    struct worker_status status;
    char error[256]; /* why it is dead */
};
/* Fills up to max views; returns how many workers there are. */
uint32_t router_workers(struct router *r, struct router_worker_view *out, uint32_t max);

/* Drains all workers; waits until they ended or until_us (clock_now_us), then stops the rest and
 * waits for those too: when it returns, no worker pushes to any stream any more. */
void router_shutdown(struct router *r, uint64_t until_us);

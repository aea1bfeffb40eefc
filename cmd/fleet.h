/* fleet.h - the models and workers that the configuration asks for, as they are while the server runs.
 *
 *   config ──> served (a generation of a model) ──> worker_opts ──> router: its workers
 *                 │ opened (files, weights)
 *   line-up: what clients can ask for, in the configuration's order ──> edge: its catalogue
 *
 * A generation comes with fleet_add(), is given workers, enters the line-up, leaves it for its successor
 * or for good, and is retired when its workers are gone: then fleet_reap() frees it, as soon as neither the
 * router nor a request that runs needs it any more. roll.h does that under load.
 *
 * Thread  the main thread alone. */
#pragma once
#include "cmd/collector.h"
#include "core/config/config.h"
#include "core/edge/edge.h"
#include "core/engine/worker.h"
#include "core/router/router.h"
#include "core/util/base.h"
#include "core/util/err.h"

enum {
    FLEET_PLACES = 128, /* of workers: twice what a configuration can ask for */
    FLEET_MODELS = 256, /* in the line-up, those included that are about to leave it */
};

/* A model's files, read for one kind of arithmetic. Generations that need the same share it. */
struct opened {
    struct opened *next;
    char *path, *dtype, *isa;
    uint64_t identity; /* of the files, when they were opened */
    struct model *model;
    struct shared_weights *shared;
    uint32_t n_users;
};

/* One generation of a configured model. */
struct served {
    struct served *next;   /* of all that there are */
    bool retired;          /* to be freed when nobody needs it */
    struct config_model c; /* its section; options that change at a reload are as they are now */
    const struct config *base, *live; /* whose strings these are */
    struct opened *opened;
    uint64_t generation; /* the router's number of it */
    uint32_t max_model_len;
    int64_t created; /* seconds since 1970 */
    struct worker_opts
        *workers; /* [n_workers] as its section asks for; indexes come with their start */
    uint32_t n_workers;
};

/* A configuration that something may still point into. */
struct kept_config {
    struct kept_config *next;
    struct config *config;
};

struct fleet {
    struct router *router;
    struct edge *edge; /* NULL before it is started */
    struct metrics *metrics;
    struct traces *traces;
    char instance[COLLECTOR_INSTANCE_BYTES]; /* of this process, in traces */
    const struct config *config;             /* in force */
    struct kept_config *configs;
    struct served *line_up[FLEET_MODELS];
    uint32_t n_line_up;
    struct served *all;
    struct opened *opened;
};

/* Takes the configuration over: it is freed when it is not in force and no model is made from it. Errors:
 * ENOMEM, and it stays the caller's. */
MUST_CHECK int fleet_keep_config(struct fleet *f, struct config *c, struct err *e);
/* Opens a model of that configuration, which is kept, and declares it to the router. It has no workers yet,
 * and is not in the line-up. */
MUST_CHECK int fleet_add(struct fleet *f, const struct config *c, const struct config_model *m,
                         struct served **out, struct err *e);
/* Starts its k-th worker under a free index, or under the given one; index < 0: any. */
MUST_CHECK int fleet_start_worker(struct fleet *f, struct served *s, uint32_t k, int64_t index,
                                  struct err *e);
/* The generation that has this name in the line-up; NULL. */
struct served *fleet_find(const struct fleet *f, const char *name);
/* Takes over what a reload changes in running models, and tells the router. */
void fleet_set_live(struct fleet *f, struct served *s, const struct config *c,
                    const struct config_model *m);
/* Whether the files have changed since they were opened. */
bool fleet_is_outdated(const struct served *s);

/* Whether a worker of any generation has a GPU. */
bool fleet_has_gpus(const struct fleet *f);

/* What the edge serves: line-up, keys and limits. *out_arrays holds it together: free() after use. */
MUST_CHECK int fleet_catalog(const struct fleet *f, struct edge_served *out, void **out_arrays,
                             struct err *e);
/* Makes the edge serve that. */
MUST_CHECK int fleet_publish(struct fleet *f, struct err *e);
/* Nothing leads to it any more, but requests that run: closes it, and fleet_reap() frees it in time. */
void fleet_retire(struct fleet *f, struct served *s);
void fleet_reap(struct fleet *f);
/* After edge_stop and router_free. */
void fleet_fini(struct fleet *f);

/* Workers of a generation, as the router sees them; returns how many there are in out. */
uint32_t fleet_workers(const struct fleet *f, const struct served *s,
                       struct router_worker_view out[FLEET_PLACES]);

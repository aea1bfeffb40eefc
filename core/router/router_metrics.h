/* router_metrics.h - the series of one model that the router knows.
 *
 * What waits here counts under vLLM's own name, as that of an engine called "router": the sum over
 * the label `engine` is what waits in all. A zeroed struct counts nothing. */
#pragma once
#include "core/observe/metrics.h"
#include "core/router/decision.h"
#include "core/util/base.h"
#include "core/util/err.h"

/* Why no worker has a request yet. */
enum route_wait {
    WAIT_WORKER,  /* none is ready */
    WAIT_SEQS,    /* those that are ready run as many sequences as they may */
    WAIT_KV,      /* their KV caches are full */
    WAIT_BACKLOG, /* they owe prefill enough for two steps */
    WAIT_MOVE,    /* it lost its worker */
    N_ROUTE_WAITS
};

struct router_metrics {
    struct metric_gauge *waiting, *waiting_for_room, *index_blocks;
    struct metric_gauge *waits[N_ROUTE_WAITS];
    struct metric_counter *decisions[REASON_COUNT];
    struct metric_counter *migrations, *lost_requests;
    struct metric_histogram *decision_time;
};

/* Registers all series at zero; m may be NULL. ENOMEM when the labels cannot be built. */
MUST_CHECK int router_metrics_init(struct router_metrics *rm, struct metrics *m,
                                   const char *model_name);

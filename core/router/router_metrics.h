/* router_metrics.h - the series of one model that the router knows.
 *
 * What waits here counts under vLLM's own name, as that of an engine called "router": the sum over
 * the label `engine` is what waits in all. A zeroed struct counts nothing. */
#pragma once
#include "core/observe/metrics.h"
#include "core/router/decision.h"
#include "core/util/base.h"
#include "core/util/err.h"

struct router_metrics {
    struct metric_gauge *waiting, *index_blocks;
    struct metric_counter *decisions[REASON_COUNT];
    struct metric_counter *migrations, *lost_requests;
    struct metric_histogram *decision_time;
};

/* Registers all series at zero; m may be NULL. ENOMEM when the labels cannot be built. */
MUST_CHECK int router_metrics_init(struct router_metrics *rm, struct metrics *m,
                                   const char *model_name);

/* control.h - what the edge asks of the process when an operator tells it to: the control socket and
 * the admin routes end here.
 *
 * Thread  called on the edge's threads, and must not block: what takes time is begun, and its state
 *         is asked for. A NULL function is something that this process cannot do. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

struct edge_control {
    void *ctx;
    /* Begins to drain: running answers end, then the process. Idempotent. */
    void (*drain)(void *ctx);
    /* Begins to read the configuration again. An error when it cannot begin (EFULL: one is under
     * way); what becomes of it is in the state. */
    int (*reload)(void *ctx, struct err *e);
    /* Appends {"state":"idle|running|done|failed","number":n,"message":"...","changes":["..."]}. */
    void (*reload_state)(void *ctx, struct buf *json);
    /* Appends the configuration in force as one JSON object, digests shortened. */
    void (*config)(void *ctx, struct buf *json);
    /* Appends it option by option, beside what its file says now (PAGE.md, config/options). */
    void (*options)(void *ctx, struct buf *json);
    /* Appends what is known of a GPU's state as one JSON object, or null. */
    void (*gpu)(void *ctx, uint32_t gpu, struct buf *json);
};

/* supervise.h - watches the workers: takes requests from those that stall, starts again those that
 * ended.
 *
 *            step longer than it can be          for stall_us in all
 *   ready ------------------------------ suspect --------------------> lost: its requests move
 *     ^   <----- a step ends -----------                                  |
 *     |                                                                   | back-off, then a start
 *     +--- a generated token: the back-off begins anew --- starting <-----+--- died by itself
 *                                                             |
 *                                                             +--- fails: the back-off doubles;
 *                                                                  after breaker_starts of them in a
 *                                                                  row it stays down for breaker_us
 *
 * A step is too long when it takes longer than the worker itself, by the steps before, says that one
 * of so many rows can (worker_status.step_limit_us), and longer than suspect_us. A worker that has
 * not made enough steps to say so is given unknown_us.
 *
 * A worker that was drained (router_drain_worker) stays down until it is returned.
 *
 * Only cpu and sim workers can be started again within the process: the thread of a lost one is left
 * behind until it ends.
 *
 * Thread  one of its own; it alone calls router_lose, router_restart_worker, router_reap.
 * Errors  what happens is logged, once per change. */
#pragma once
#include "core/util/base.h"
#include "core/util/err.h"

struct router;
struct supervise;

struct supervise_opts {
    struct router *router;
    uint64_t tick_us;                          /* 0: 50 ms; so for all: 0 is a default */
    uint64_t suspect_us, stall_us;             /* 1 s, 1.8 s from the beginning of the step */
    uint64_t unknown_us;                       /* 60 s */
    uint64_t restart_first_us, restart_max_us; /* 0.5 s, doubling up to 30 s */
    uint32_t breaker_starts;                   /* 5 */
    uint64_t breaker_us;                       /* 60 s */
};

MUST_CHECK int supervise_start(const struct supervise_opts *o, struct supervise **out,
                               struct err *e);
/* Ends the thread and frees; before router_shutdown. NULL is fine. */
void supervise_stop(struct supervise *s);

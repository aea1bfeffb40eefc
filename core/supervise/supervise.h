/* supervise.h - watches the workers: takes requests from those that stall, starts again those that
 * ended.
 *
 *            step longer than it can be          for stall_us in all
 *   ready ------------------------------ suspect --------------------> lost: its requests move
 *     ^   <- no such step for recover_us -                                |
 *     |                                                                   | back-off, then a start
 *     +--- a generated token: the back-off begins anew --- starting <-----+--- died by itself
 *                                                             |
 *                                                             +--- fails: the back-off doubles;
 *                                                                  after breaker_starts of them in a
 *                                                                  row it stays down for breaker_us
 *
 * A step is too long when it takes longer than the worker itself, by the steps before, says that one
 * of so many rows can (worker_status.step_limit_us), and longer than suspect_us. A worker that has
 * not made enough steps to say so (while it warms up, above all) is given unknown_us. One that loads is
 * lost when nothing more of its weights comes for load_us. A suspect worker gets no new requests while
 * there is another.
 *
 * A worker that was drained (router_drain_worker) stays down until it is returned.
 *
 * Only cpu and sim workers can be started again within the process: the thread of a lost one is left
 * behind until it ends, with the memory of its KV cache. Where that does not help supervise_must_exit()
 * says so: a device is poisoned (a GPU whose worker is lost counts as that), or a second worker of a
 * place hangs, or a third one of all. A model none of whose workers ever got ready is left down: that is
 * the operator's to mend.
 *
 * Thread  one of its own; it alone calls router_lose, router_suspect, router_restart_worker;
 *         supervise_must_exit from any.
 * Errors  what happens is an event (events.h), once per change. */
#pragma once
#include "core/util/base.h"
#include "core/util/err.h"

struct metrics;
struct router;
struct supervise;

struct supervise_opts {
    struct router *router;
    struct metrics *metrics;                   /* for llmd_worker_state; may be NULL */
    uint64_t tick_us;                          /* 0: 50 ms; so for all: 0 is a default */
    uint64_t suspect_us, stall_us;             /* 1 s, 1.8 s from the beginning of the step */
    uint64_t recover_us;                       /* 1 s */
    uint64_t unknown_us;                       /* 60 s */
    uint64_t load_us;                          /* 120 s */
    uint64_t restart_first_us, restart_max_us; /* 0.5 s, doubling up to 30 s */
    uint32_t breaker_starts;                   /* 5 */
    uint64_t breaker_us;                       /* 60 s */
};

MUST_CHECK int supervise_start(const struct supervise_opts *o, struct supervise **out,
                               struct err *e);
/* True: the process is to let its requests end, and to exit so that it is started anew; *out says why. */
bool supervise_must_exit(struct supervise *s, struct err *out);
/* Ends the thread and frees; before router_shutdown. NULL is fine. */
void supervise_stop(struct supervise *s);

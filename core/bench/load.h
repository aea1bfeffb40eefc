/* load.h - the load itself: many streams at once from one thread.
 *
 * Closed loop: each of `concurrency` clients asks, reads the whole answer, asks again. Open loop: requests
 * start when they are due (arrivals, or the workload's own times), at most `concurrency` at once; one
 * that has to wait for that is late, and its times count from when it was due.
 *
 * One epoll loop. Every client keeps its connection; an answer is parsed where recv put it, its
 * pieces are stamped with the time behind that recv, and nothing is allocated for a token. After a
 * failed request a client of a closed loop rests for 100 ms.
 *
 * Thread  confined. Errors: ENOMEM, EIO (epoll); what becomes of a request is never an error here,
 * it is counted. */
#pragma once
#include "core/bench/arrivals.h"
#include "core/bench/measure.h"
#include "core/bench/target.h"
#include "core/bench/workload.h"

struct load;

struct load_progress {
    uint64_t elapsed_us;
    uint64_t n_ended, n_failed, n_pieces;
    uint32_t n_active;
};

struct load_opts {
    const struct target *target;
    uint64_t timeout_us; /* of a request, from its start */
    /* Asked ten times a second; true ends the run: open requests count as cancelled. NULL: never. */
    bool (*cancelled)(void *ctx);
    void (*on_progress)(void *ctx, const struct load_progress *p); /* twice a second; NULL: none */
    void *ctx;
};

/* One run. */
struct load_run {
    struct workload *work;
    uint32_t concurrency;
    const struct arrivals *arrivals; /* open loop; copied; NULL: closed, or the workload's times */
    uint64_t n_requests;             /* to start; 0: any number */
    uint64_t duration_us;            /* no request starts later; 0: any time */
    uint64_t ramp_us;                /* closed loop: until all clients have started */
};

MUST_CHECK int load_open(struct load **out, const struct load_opts *o, struct err *e);
void load_close(struct load *l); /* NULL is fine */
/* Runs until all is answered. m is zeroed by the caller, but for its slo; connections stay open for a
 * next run. ECANCELLED: m holds what there is. */
MUST_CHECK int load_perform(struct load *l, const struct load_run *run, struct measure *m,
                            struct err *e);

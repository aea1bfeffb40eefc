/* page_verdict.h - how the server does, in one word, one sentence and what to do about it: the same for
 * the status page, `llmd top` and `llmd status`.
 *
 * Pure functions over facts; since when something holds is kept by struct page_health, from call to
 * call.
 *
 * Thread  one at a time. */
#pragma once
#include "core/router/router.h"
#include "core/util/base.h"
#include "core/util/buf.h"

/* By the first that holds. */
enum verdict_state {
    VERDICT_DRAINING,
    VERDICT_STALLED,  /* requests run, and no worker makes a step */
    VERDICT_DOWN,     /* a model without a worker that lives, or no model */
    VERDICT_LOADING,  /* a model without a worker that is ready */
    VERDICT_DEGRADED, /* it serves, but there are problems */
    VERDICT_SERVING,
    VERDICT_IDLE, /* nothing for a minute */
    N_VERDICTS,
};

enum verdict_level { LEVEL_OK, LEVEL_WARN, LEVEL_BAD };

enum problem_kind {
    PROBLEM_WORKER_DEAD,
    PROBLEM_WORKER_SUSPECT,
    PROBLEM_WORKER_RESTARTS,
    PROBLEM_WORKER_SLOW_STEP,
    PROBLEM_WORKER_SLOW,
    PROBLEM_KV_FULL,
    PROBLEM_QUEUE,
    PROBLEM_FAILURES,
    PROBLEM_REQUEST_LOG,
    PROBLEM_LOG_LOST,
    PROBLEM_RELOAD_FAILED,
    PROBLEM_CERTIFICATE,
    PROBLEM_HOT_PREFIX, /* these two are LEVEL_OK: no fault of the server, but what explains it */
    PROBLEM_SLOW_CLIENTS,
    N_PROBLEMS,
};

struct health_model {
    const char *name;
    bool ready;
};

struct health_facts {
    uint64_t now_us, wall_us; /* clock_now_us(), clock_wall_us() */
    bool draining, progressing;
    uint32_t n_answering;
    const struct health_model *models; /* [n_models] */
    uint32_t n_models;
    const struct router_worker_view *workers; /* [n_workers] */
    uint32_t n_workers;
    uint32_t n_running, n_waiting;
    uint32_t n_waiting_for_clients; /* of those that run */
    double kv;                      /* NaN: not known */
    double preempted_s;             /* requests, over the last seconds; NaN: not known */
    double requests_s, failed_s;    /* over the last minute */
    const char *request_log_fault;  /* NULL: none */
    const char *reload_fault;       /* why the last reload failed; NULL */
    uint64_t n_log_lost;            /* lines, ever */
    int64_t certificate_expires;    /* seconds since 1970; 0: there is none */
};

struct problem {
    enum problem_kind kind;
    enum verdict_level level;
    uint64_t since_us; /* wall; 0: it is not there */
    char text[240];
    const char *advice;
};

struct page_health {
    enum verdict_state state;
    uint64_t since_us;   /* wall; 0: nothing was judged yet */
    uint64_t active_us;  /* when something was last under way */
    uint64_t n_log_lost; /* a minute ago or less */
    uint64_t log_looked_us;
    uint32_t n_deep; /* seconds that the queue has been long, or */
    uint32_t n_full; /* the KV pools nearly full; likewise: */
    uint32_t n_slow, n_hot, n_paused;
    char reason[320];
    const char *advice; /* NULL: none is needed */
    enum verdict_level level;
    struct problem problems[N_PROBLEMS]; /* by kind; the first of each */
};

/* Called once a second. */
void page_health_judge(struct page_health *h, const struct health_facts *f);
const char *verdict_state_name(enum verdict_state s);
/* {"state","level","reason","since","advice"} */
void page_health_add_verdict(const struct page_health *h, struct buf *out);
/* [{"what","level","text","advice","since"}] */
void page_health_add_problems(const struct page_health *h, struct buf *out);

/* traces_int.h - what traces.c (callers' side) and traces_send.c (the thread) share. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "core/observe/traces.h"
#include "core/util/lock.h"

enum {
    BATCH_MS = 1000,               /* spans wait so long for others to join them */
    IDLE_US = 60 * 1000 * 1000,    /* without spans: nothing to look after */
    GIVE_UP_US = 60 * 1000 * 1000, /* a batch is tried for so long */
    PAUSE_MIN_US = 250 * 1000,     /* between two attempts, twice as long each time, up to: */
    PAUSE_MAX_US = 10 * 1000 * 1000,
    RETRY_AFTER_MAX_US = 60 * 1000 * 1000,
    FLUSH_US = 2 * 1000 * 1000, /* for all that waits, when the server ends */
    JOIN_US = FLUSH_US + 1000 * 1000,
    BODY_BYTES = 1 << 20, /* of one post, and what exceeds it of one request */
    NICENESS = 5,
};

/* In front of the spans of one request. */
struct traces_record {
    uint32_t n_bytes, n_spans;
};

struct traces_queue {
    char *bytes; /* [cap] records, one after the other, unaligned */
    size_t n_bytes, cap;
};

/* struct traces_opts, copied. */
struct traces_target {
    char *url, *ca_file;
    char **headers; /* [n_headers] */
    uint32_t n_headers;
    struct buf resource;
    uint32_t timeout_ms;
};

struct traces {
    pthread_t thread;
    bool running;
    atomic_uint one_in; /* 0: nothing is traced without being asked to */
    atomic_bool on;
    atomic_bool closing;
    atomic_ullong flush_until_us; /* set before closing */
    atomic_uint batch_ms;

    struct lock mu; /* rank LEAF; guards: */
    pthread_cond_t wake;
    struct traces_queue filling;
    struct traces_target *next; /* that the thread is to take over; NULL */
    bool has_ended;             /* the thread touches nothing any more */

    /* The thread's own. */
    struct traces_queue sending;
    struct traces_target *target;
    struct buf body;
    uint64_t failing_since_us; /* since when nobody answers; 0: somebody did */
    char fault[256];           /* the last that was said */

    struct metric_counter *sent, *full, *refused, *gave_up, *ended;
    struct metric_counter *ok, *retried, *failed;
    struct metric_gauge *queue_bytes;
};

void *traces_run(void *traces);
void traces_target_free(struct traces_target *t); /* NULL is fine */

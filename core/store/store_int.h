/* store_int.h - what store.c (callers' side) and writer.c (the thread) share. */
#pragma once
#include <pthread.h>

#include "core/observe/sink.h"
#include "core/store/db.h"
#include "core/store/store.h"
#include "core/util/lock.h"

enum {
    BATCH_US = 50 * 1000,       /* rows wait so long for others to join them */
    IDLE_US = 1000 * 1000,      /* how often the thread looks after the files without rows */
    RETRY_US = 5 * 1000 * 1000, /* a batch is tried for so long */
    RETRY_PAUSE_US = 200 * 1000,
    FLUSH_US = 2 * 1000 * 1000, /* the same, when the store is being closed */
    RETAIN_US = 60 * 1000 * 1000,
    NICENESS = 5,
    ACCESS_WAIT_MS = 20,           /* for a reader of the access log that is slow */
    EXPIRE_US = 600 * 1000 * 1000, /* prompts in the files of earlier days */
};

/* Packed rows, one after the other. */
struct rows {
    char *bytes; /* [cap] */
    size_t n_bytes, cap;
    uint32_t n;
};

struct store {
    struct store_opts opts;
    char directory[4096];
    pthread_t thread;

    struct lock mu; /* rank LEAF; guards all down to `closing` */
    pthread_cond_t wake;
    struct rows filling;
    struct store_status status;
    bool closing;

    /* The thread's own. */
    struct rows writing;
    struct sink access; /* when opts.access_fd > 0 */
    struct buf line;    /* of it */
    struct db db;
    int64_t doubtful_seq; /* last row of a commit that failed, which may be in the file; 0: none */
    uint64_t failing_since_us; /* monotonic; 0: the last attempt succeeded */
    uint64_t flush_until_us;   /* set when closing */
    uint64_t next_retain_us, next_expire_us;
    int64_t retained_day;

    struct metric_counter *rows_total, *dropped_total, *errors_total, *access_dropped_total;
    struct metric_gauge *degraded, *bytes;
};

void *writer_run(void *store);
uint64_t store_wall_us(const struct store *s);

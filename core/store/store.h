/* store.h - the request log: one row per request, kept in SQLite, one file per day.
 *
 *   edge threads ── store_log: copies the row into the buffer that fills ──► writer thread
 *                   full: the row is dropped and counted                     swaps the two buffers at
 *                                                                            most 100 ms later; one
 *                                                                            transaction per batch
 *
 * Faults never reach the caller. A batch that cannot be written is tried again for RETRY_US, then
 * dropped and counted; meanwhile store_status() says degraded and why. A damaged file is set aside
 * (.corrupt-N) and begun anew, one that vanished is made again.
 *
 * A row is acknowledged when n_written (llmd_log_rows_total) counts it, which is after its
 * transaction was committed: it then survives the end of the process at any moment.
 *
 * The access log is the same rows as JSON lines on a descriptor, written by the same thread before the
 * batch goes to the file, without the long fields.
 *
 * Thread  store_log, store_status, store_directory: any. store_log holds a lock of rank LEAF for the time of a copy;
 *         it never waits for the disk and never allocates.
 * Memory  two buffers of buffer_bytes, taken by store_open. */
#pragma once
#include "core/store/row.h"
#include "core/util/base.h"
#include "core/util/err.h"

struct metrics;
struct store;

struct store_opts {
    const char *directory; /* made when only its last part is missing; "": no files */
    int access_fd;         /* of the access log; 0: none */
    uint32_t keep_days;    /* older days are unlinked; 0: any age */
    uint64_t max_bytes;    /* of all files together; 0: any. The current day is never unlinked, but
                            * grows no further either */
    uint64_t prompt_keep_us; /* after that time a prompt is deleted */
    size_t buffer_bytes;     /* of each buffer; 0: 8 MiB */
    struct metrics *metrics; /* NULL: none */
    /* For tests; NULL: clock_wall_us. */
    uint64_t (*wall_us)(void *ctx);
    void *wall_ctx;
};

struct store_status {
    bool degraded;
    char why[256];      /* of the last fault, when degraded */
    uint64_t n_written; /* rows, committed */
    uint64_t n_dropped; /* rows */
    uint64_t n_errors;  /* attempts that failed, files set aside */
};

/* opts and its strings are copied. Fails only for want of memory or of a thread: what is wrong with the
 * directory is a fault like later ones. */
MUST_CHECK int store_open(const struct store_opts *opts, struct store **out, struct err *e);
/* Copies the row; false when it was dropped. */
bool store_log(struct store *s, const struct store_row *row);
/* Where its files are; "": there are none. */
const char *store_directory(const struct store *s);
void store_status(struct store *s, struct store_status *out);
/* Writes what is buffered (for at most two seconds), ends the thread, frees. NULL is fine. */
void store_close(struct store *s);

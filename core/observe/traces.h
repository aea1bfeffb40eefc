/* traces.h - sends spans to a collector by OTLP/HTTP, and never makes anyone wait for that.
 *
 *   edge threads ── traces_put: copies a request's spans into the buffer that fills ──► own thread
 *                   full: they are dropped and counted                        swaps the two buffers
 *                                                                             and posts them
 *
 * A batch that is not taken is sent again when the collector is away, too busy (429, 502, 503, 504; its
 * Retry-After is heeded) or too slow, for GIVE_UP_US from the first failure on; then, and at once when the
 * collector refuses it, it is dropped and counted. While a collector is away longer than that, each batch
 * is tried once. One line of the log says that it is away, one that it is back.
 *
 * Metrics  llmd_trace_spans_total, llmd_trace_spans_dropped_total{reason}, llmd_trace_exports_total{result},
 *          llmd_trace_queue_bytes
 * Thread   traces_new, traces_set, traces_close: one thread, the owner's. All others: any; traces_put holds a
 *          lock of rank LEAF for the time of a copy, waits for nothing and allocates nothing.
 * Memory   two buffers of queue_bytes, taken by the first traces_set that names a collector, as is the
 *          thread; one body of at most BODY_BYTES and a request's spans while it is sent. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

struct metrics;
struct traces;

enum { TRACES_QUEUE_MIN = 64 << 10 };

struct traces_opts {
    const char *url;            /* of the collector, with its path; "": nothing is traced */
    const char *const *headers; /* [n_headers] "Name: value" */
    uint32_t n_headers;
    const char *ca_file;        /* PEM of who may have signed its certificate; "": the system's */
    const struct buf *resource; /* attributes of the resource, as otlp.h writes them */
    uint32_t sample_one_in;     /* of the requests that come without a trace; 0: none of them */
    uint32_t timeout_ms;        /* of one attempt */
    uint32_t batch_ms;          /* spans wait so long for others to join them; 0: a second */
    size_t queue_bytes;         /* that may wait; counts the first time */
};

MUST_CHECK int traces_new(struct metrics *m, struct traces **out, struct err *e);
/* From now on; what waits goes by the new options. Copied. Errors: ENOMEM, nothing is changed. */
MUST_CHECK int traces_set(struct traces *t, const struct traces_opts *opts, struct err *e);
/* Sends what waits, for at most two seconds, ends the thread, frees. False: the thread hangs in a system
 * call (a name that is being resolved): nothing that it may touch was freed, the process is to end. NULL
 * is fine. */
bool traces_close(struct traces *t);

/* Whether requests are traced at all. NULL: no. */
bool traces_on(const struct traces *t);
/* Whether a new trace of that random id is to be recorded. */
bool traces_sample(const struct traces *t, uint64_t id);
/* Copies n_spans spans of one request. False: they were dropped, and counted. */
bool traces_put(struct traces *t, const struct buf *spans, uint32_t n_spans);

#include "core/observe/traces.h"

#include <stdlib.h>
#include <string.h>

#include "core/observe/metrics.h"
#include "core/observe/traces_int.h"
#include "core/util/clock.h"

/* ---- options ---- */

void traces_target_free(struct traces_target *t)
{
    if (!t)
        return;
    for (uint32_t i = 0; i < t->n_headers; i++)
        free(t->headers[i]);
    free(t->headers);
    free(t->url);
    free(t->ca_file);
    buf_fini(&t->resource);
    free(t);
}

static bool copy_headers(struct traces_target *t, const struct traces_opts *o)
{
    t->headers = calloc(o->n_headers + 1, sizeof(*t->headers));
    for (uint32_t i = 0; t->headers && i < o->n_headers; i++) {
        t->headers[i] = strdup(o->headers[i]);
        if (!t->headers[i])
            return false;
        t->n_headers++;
    }
    return t->headers;
}

static struct traces_target *target_new(const struct traces_opts *o)
{
    struct traces_target *t = calloc(1, sizeof(*t));
    if (!t)
        return NULL;
    t->url = strdup(o->url);
    t->ca_file = strdup(o->ca_file);
    t->timeout_ms = o->timeout_ms;
    buf_add(&t->resource, buf_str(o->resource), o->resource->len);
    if (copy_headers(t, o) && t->url && t->ca_file && !t->resource.failed)
        return t;
    traces_target_free(t);
    return NULL;
}

static void free_queues(struct traces *t)
{
    free(t->filling.bytes);
    free(t->sending.bytes);
    t->filling = t->sending = (struct traces_queue){.bytes = NULL};
}

/* Buffers and thread, when there are none yet. */
static int start(struct traces *t, size_t queue_bytes, struct err *e)
{
    if (t->running)
        return 0;
    queue_bytes = queue_bytes > TRACES_QUEUE_MIN ? queue_bytes : TRACES_QUEUE_MIN;
    t->filling = (struct traces_queue){.bytes = malloc(queue_bytes), .cap = queue_bytes};
    t->sending = (struct traces_queue){.bytes = malloc(queue_bytes), .cap = queue_bytes};
    t->running = t->filling.bytes && t->sending.bytes &&
                 pthread_create(&t->thread, NULL, traces_run, t) == 0;
    if (t->running)
        return 0;
    free_queues(t);
    return err_set(e, LLMD_ENOMEM, "no memory or no thread to send traces with");
}

int traces_set(struct traces *t, const struct traces_opts *opts, struct err *e)
{
    const bool on = opts->url[0] != '\0';
    struct traces_target *next = on ? target_new(opts) : NULL;
    if (on && !next)
        return err_set(e, LLMD_ENOMEM, "out of memory for traces");
    int rc = on ? start(t, opts->queue_bytes, e) : 0;
    if (rc != 0) {
        traces_target_free(next);
        return rc;
    }
    if (on) { /* the thread looks for it when there are spans: not before traces are on */
        lock_take(&t->mu);
        struct traces_target *before = t->next;
        t->next = next;
        lock_drop(&t->mu);
        traces_target_free(before);
    }
    atomic_store(&t->batch_ms, opts->batch_ms ? opts->batch_ms : BATCH_MS);
    atomic_store(&t->one_in, on ? opts->sample_one_in : 0);
    atomic_store(&t->on, on);
    return 0;
}

/* ---- life ---- */

static struct metric_counter *dropped(struct metrics *m, const char *labels)
{
    return metrics_counter(
        m, "llmd_trace_spans_dropped_total",
        "Spans that were lost: the queue was full, the collector refused them, it was "
        "away too long, or the server ended.",
        labels);
}

static struct metric_counter *exports(struct metrics *m, const char *labels)
{
    return metrics_counter(m, "llmd_trace_exports_total",
                           "Attempts to send a batch of spans, by what became of it.", labels);
}

static void register_metrics(struct traces *t, struct metrics *m)
{
    if (!m)
        return;
    t->sent = metrics_counter(m, "llmd_trace_spans_total", "Spans that the collector took.", "");
    t->full = dropped(m, "reason=\"queue_full\"");
    t->refused = dropped(m, "reason=\"refused\"");
    t->gave_up = dropped(m, "reason=\"unreachable\"");
    t->ended = dropped(m, "reason=\"shutdown\"");
    t->ok = exports(m, "result=\"ok\"");
    t->retried = exports(m, "result=\"retry\"");
    t->failed = exports(m, "result=\"refused\"");
    t->queue_bytes =
        metrics_gauge(m, "llmd_trace_queue_bytes", "Spans that wait to be sent, in bytes.", "");
}

int traces_new(struct metrics *m, struct traces **out, struct err *e)
{
    struct traces *t = calloc(1, sizeof(*t));
    if (!t)
        return err_set(e, LLMD_ENOMEM, "out of memory at start-up");
    lock_init(&t->mu, LOCK_RANK_LEAF);
    lock_cond_init(&t->wake);
    register_metrics(t, m);
    *out = t;
    return 0;
}

static void free_all(struct traces *t)
{
    traces_target_free(t->next);
    traces_target_free(t->target);
    free_queues(t);
    buf_fini(&t->body);
    pthread_cond_destroy(&t->wake);
    lock_fini(&t->mu);
    free(t);
}

/* Tells the thread to end. Whether it did in time. */
static bool end_thread(struct traces *t)
{
    const uint64_t until_us = clock_now_us() + JOIN_US;
    lock_take(&t->mu);
    atomic_store(&t->flush_until_us, clock_now_us() + FLUSH_US);
    atomic_store(&t->closing, true);
    pthread_cond_broadcast(&t->wake);
    while (!t->has_ended && lock_wait(&t->mu, &t->wake, until_us))
        ;
    const bool ended = t->has_ended;
    lock_drop(&t->mu);
    if (ended)
        pthread_join(t->thread, NULL);
    return ended;
}

bool traces_close(struct traces *t)
{
    if (!t)
        return true;
    atomic_store(&t->on, false);
    atomic_store(&t->one_in, 0);
    if (t->running && !end_thread(t))
        return false;
    free_all(t);
    return true;
}

/* ---- requests ---- */

bool traces_on(const struct traces *t)
{
    return t && atomic_load_explicit(&t->on, memory_order_relaxed);
}

bool traces_sample(const struct traces *t, uint64_t id)
{
    const uint32_t one_in =
        traces_on(t) ? atomic_load_explicit(&t->one_in, memory_order_relaxed) : 0;
    return one_in != 0 && id <= UINT64_MAX / one_in;
}

/* Room for it is made by nobody else: the caller holds t->mu. */
static void append(struct traces_queue *q, const void *data, size_t n)
{
    memcpy(q->bytes + q->n_bytes, data, n);
    q->n_bytes += n;
}

bool traces_put(struct traces *t, const struct buf *spans, uint32_t n_spans)
{
    const struct traces_record head = {.n_bytes = (uint32_t)spans->len, .n_spans = n_spans};
    const size_t n = sizeof(head) + spans->len;
    bool fits = false;
    if (!spans->failed && spans->len <= UINT32_MAX) {
        lock_take(&t->mu);
        struct traces_queue *q = &t->filling;
        const bool first = q->n_bytes == 0;
        fits = n <= q->cap - q->n_bytes;
        if (fits) {
            append(q, &head, sizeof(head));
            append(q, buf_str(spans), spans->len);
        }
        if (fits && (first || q->n_bytes > q->cap / 2))
            pthread_cond_signal(&t->wake);
        metric_set(t->queue_bytes, (double)q->n_bytes); /* in turn with the thread's 0 */
        lock_drop(&t->mu);
    }
    if (!fits)
        metric_add(t->full, n_spans);
    return fits;
}

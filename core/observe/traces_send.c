/* traces_send.c - the thread that posts spans.
 *
 *   wait for a record ─ let others join it (batch_ms) ─ swap the buffers ─ posts of up to BODY_BYTES
 *                                                                           │ away, busy, slow
 *                     drop it after GIVE_UP_US ◄── pause (Retry-After) ◄────┘
 *
 * Each post has a connection of its own: at one in a second that costs less than to find out whether the
 * collector has closed it. */
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/observe/log.h"
#include "core/observe/metrics.h"
#include "core/observe/otlp.h"
#include "core/observe/traces_int.h"
#include "core/util/clock.h"
#include "core/util/http.h"

enum outcome { TAKEN, AGAIN, REFUSED };

/* What the collector said, or why it said nothing. */
struct answer {
    enum outcome outcome;
    uint64_t n_rejected;
    uint64_t retry_after_us;
    struct err why;
};

/* ---- what is said ---- */

/* One line per new reason: a fault that lasts is said once. */
static void note_fault(struct traces *t, const struct err *why)
{
    if (strncmp(t->fault, why->msg, sizeof(t->fault) - 1) == 0)
        return;
    memcpy(t->fault, why->msg, sizeof(t->fault) - 1);
    log_warn("traces", "the collector does not take spans: %s", why->msg);
}

static void note_taken(struct traces *t)
{
    if (t->fault[0])
        log_info("traces", "the collector takes spans again");
    t->fault[0] = '\0';
}

/* ---- one attempt ---- */

static bool over(const struct traces *t)
{
    return atomic_load(&t->closing) && clock_now_us() >= atomic_load(&t->flush_until_us);
}

static bool is_over(void *ctx)
{
    return over(ctx);
}

static bool is_busy(int status)
{
    return status == 429 || status == 502 || status == 503 || status == 504;
}

/* 2xx: what of it was rejected. */
static void read_reply(const struct http_response *r, struct answer *out)
{
    struct otlp_reply said = {0};
    out->outcome = TAKEN;
    if (otlp_read_reply(buf_str(&r->body), r->body.len, &said) != 0)
        return; /* it took them, and what else it says is no protobuf */
    out->n_rejected = said.n_rejected;
    if (said.n_rejected > 0 || said.why[0])
        err_set(&out->why, LLMD_EIO, "of a batch it refused %llu spans: %s",
                (unsigned long long)said.n_rejected, said.why[0] ? said.why : "it did not say why");
}

static void read_status(const char *url, const struct http_response *r, struct answer *out)
{
    struct otlp_reply said = {0};
    if (otlp_read_status(buf_str(&r->body), r->body.len, &said) != 0)
        said.why[0] = '\0';
    out->outcome = is_busy(r->status) ? AGAIN : REFUSED;
    out->retry_after_us = u64_min(r->retry_after_s, RETRY_AFTER_MAX_US / 1000000) * 1000000;
    err_set(&out->why, LLMD_EIO, "%s answered %d%s%s", url, r->status, said.why[0] ? ": " : "",
            said.why);
}

static void post(struct traces *t, struct answer *out)
{
    enum { REPLY_MAX = 64 << 10 };
    const struct traces_target *to = t->target;
    struct http_response answer;
    struct http_request r = {
        .method = "POST",
        .url = to->url,
        .ca_file = to->ca_file[0] ? to->ca_file : NULL,
        .headers = (const char *const *)to->headers,
        .n_headers = to->n_headers,
        .body = buf_str(&t->body),
        .n_body = t->body.len,
        .connect_timeout_ms = to->timeout_ms,
        .timeout_ms = to->timeout_ms,
        .cancelled = is_over,
        .ctx = t,
        .max_body = REPLY_MAX,
    };
    *out = (struct answer){.outcome = AGAIN};
    int rc = http_perform(&r, &answer, &out->why);
    if (rc == -LLMD_ETOOBIG && answer.status / 100 == 2) {
        err_clear(&out->why);
        out->outcome = TAKEN;
    } else if (rc == 0 && answer.status / 100 == 2)
        read_reply(&answer, out);
    else if (rc == 0)
        read_status(to->url, &answer, out);
    http_response_fini(&answer);
}

/* ---- one batch ---- */

/* Sleeps until then, or until the thread is to end. */
static void pause_until(struct traces *t, uint64_t until_us)
{
    lock_take(&t->mu);
    while (!atomic_load(&t->closing) && lock_wait(&t->mu, &t->wake, until_us))
        ;
    lock_drop(&t->mu);
    if (atomic_load(&t->closing)) /* no more than one last try per pause */
        clock_sleep_us(PAUSE_MIN_US / 2);
}

/* The target may have changed since the last batch. */
static void take_target(struct traces *t)
{
    lock_take(&t->mu);
    struct traces_target *next = t->next;
    t->next = NULL;
    lock_drop(&t->mu);
    if (!next)
        return;
    traces_target_free(t->target);
    t->target = next;
}

/* What is in the body: until it is taken, refused, or given up. */
static void send_body(struct traces *t, uint64_t n_spans)
{
    struct answer a;
    for (uint64_t pause_us = PAUSE_MIN_US;; pause_us = u64_min(2 * pause_us, PAUSE_MAX_US)) {
        if (over(t)) {
            metric_add(t->ended, n_spans);
            return;
        }
        post(t, &a);
        if (a.why.code != 0)
            note_fault(t, &a.why);
        if (a.outcome != AGAIN)
            break;
        metric_add(t->retried, 1);
        if (t->failing_since_us == 0)
            t->failing_since_us = clock_now_us();
        if (clock_now_us() >= t->failing_since_us + GIVE_UP_US) {
            metric_add(t->gave_up, n_spans);
            return;
        }
        pause_until(t, clock_now_us() + u64_max(a.retry_after_us, pause_us));
    }
    t->failing_since_us = 0;
    const uint64_t n_rejected = a.outcome == REFUSED ? n_spans : u64_min(a.n_rejected, n_spans);
    metric_add(a.outcome == REFUSED ? t->failed : t->ok, 1);
    metric_add(t->refused, n_rejected);
    metric_add(t->sent, n_spans - n_rejected);
    if (a.why.code == 0)
        note_taken(t);
}

/* The record at `at` of what is being sent. */
static struct traces_record record_at(const struct traces *t, size_t at)
{
    struct traces_record r;
    memcpy(&r, t->sending.bytes + at, sizeof(r));
    return r;
}

/* Moves the records from *at on together, as many as a body takes: their spans lie one behind the other
 * then, from *at on. Returns how many bytes; *at moves behind the records. */
static size_t gather(struct traces *t, size_t *at, uint64_t *out_n_spans)
{
    char *const spans = t->sending.bytes + *at;
    size_t n = 0;
    *out_n_spans = 0;
    while (*at < t->sending.n_bytes) {
        const struct traces_record r = record_at(t, *at);
        if (n > 0 && n + r.n_bytes > BODY_BYTES)
            break;
        memmove(spans + n, t->sending.bytes + *at + sizeof(r), r.n_bytes);
        n += r.n_bytes;
        *at += sizeof(r) + r.n_bytes;
        *out_n_spans += r.n_spans;
    }
    return n;
}

static void send_all(struct traces *t)
{
    for (size_t at = 0; at < t->sending.n_bytes;) {
        const char *spans = t->sending.bytes + at;
        uint64_t n_spans;
        const size_t n = gather(t, &at, &n_spans);
        take_target(t);
        buf_clear(&t->body);
        otlp_request(&t->body, &t->target->resource, spans, n);
        if (t->body.failed)
            metric_add(t->gave_up, n_spans);
        else
            send_body(t, n_spans);
    }
    t->sending.n_bytes = 0;
}

/* ---- the thread ---- */

/* Waits for records and swaps the buffers. False: closed, and nothing is left. */
static bool take_records(struct traces *t)
{
    lock_take(&t->mu);
    if (t->filling.n_bytes == 0 && !atomic_load(&t->closing))
        (void)lock_wait(&t->mu, &t->wake, clock_now_us() + IDLE_US);
    const uint64_t until_us = clock_now_us() + atomic_load(&t->batch_ms) * 1000ull;
    while (t->filling.n_bytes > 0 && t->filling.n_bytes <= t->filling.cap / 2 &&
           !atomic_load(&t->closing) && lock_wait(&t->mu, &t->wake, until_us))
        ;
    const struct traces_queue empty = t->sending;
    t->sending = t->filling;
    t->filling = empty;
    metric_set(t->queue_bytes, 0);
    const bool go_on = !atomic_load(&t->closing) || t->sending.n_bytes > 0;
    lock_drop(&t->mu);
    return go_on;
}

void *traces_run(void *traces)
{
    struct traces *t = traces;
    pthread_setname_np(pthread_self(), "llmd-traces");
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(),
                      NICENESS); /* of this thread: tokens come first */
    while (take_records(t))
        send_all(t);
    lock_take(&t->mu);
    t->has_ended = true;
    pthread_cond_broadcast(&t->wake);
    lock_drop(&t->mu);
    return NULL;
}

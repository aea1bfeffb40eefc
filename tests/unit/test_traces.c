/* test_traces.c - what sends spans: at a collector that takes, refuses, is busy, or says nothing. The real
 * receiver, and the spans themselves, are in tests/observe. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/observe/metrics.h"
#include "core/observe/traces_int.h"
#include "core/util/fault.h"
#include "core/util/http.h"
#include "core/util/protobuf.h"
#include "tests/unit/patience.h"

/* A collector: one connection after the other gets the same answer; "" gets none and waits. */
struct collector {
    int fd;
    char url[64];
    const char *_Atomic answer;
    atomic_uint n_posts, n_bytes;
    atomic_bool closing;
    pthread_t thread;
};

/* The whole request: head, then as many bytes as it says. */
static void take_request(struct collector *c, int fd)
{
    char head[4096] = "";
    size_t len = 0;
    while (len + 1 < sizeof(head) && !strstr(head, "\r\n\r\n") && recv(fd, head + len, 1, 0) == 1)
        head[++len] = '\0';
    const char *length = strstr(head, "Content-Length: ");
    long left = length ? strtol(length + 16, NULL, 10) : 0;
    atomic_fetch_add(&c->n_bytes, (unsigned)left);
    for (ssize_t n; left > 0 && (n = recv(fd, head, u64_min(sizeof(head), (uint64_t)left), 0)) > 0;)
        left -= n;
    atomic_fetch_add(&c->n_posts, 1);
}

static void *collect(void *arg)
{
    struct collector *c = arg;
    char byte;
    for (int fd; !atomic_load(&c->closing) && (fd = accept(c->fd, NULL, NULL)) >= 0; close(fd)) {
        if (atomic_load(&c->closing))
            continue;
        take_request(c, fd);
        const char *answer = atomic_load(&c->answer);
        if (answer[0])
            (void)!send(fd, answer, strlen(answer), MSG_NOSIGNAL);
        else
            (void)!recv(fd, &byte, 1, 0); /* until it gives up */
    }
    return NULL;
}

static void open_collector(struct collector *c, const char *answer)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    memset(c, 0, sizeof(*c));
    atomic_store(&c->answer, answer);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(c->fd, (struct sockaddr *)&a, n), 0);
    assert_int_equal(listen(c->fd, 16), 0);
    assert_int_equal(getsockname(c->fd, (struct sockaddr *)&a, &n), 0);
    snprintf(c->url, sizeof(c->url), "http://127.0.0.1:%u/v1/traces", ntohs(a.sin_port));
    assert_int_equal(pthread_create(&c->thread, NULL, collect, c), 0);
}

static void close_collector(struct collector *c)
{
    atomic_store(&c->closing, true);
    shutdown(c->fd, SHUT_RDWR);
    pthread_join(c->thread, NULL);
    close(c->fd);
}

#define TAKES   "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
#define REFUSES "HTTP/1.1 400 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
#define BUSY    "HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

struct world {
    struct metrics *metrics;
    struct traces *traces;
    struct buf resource, spans;
};

static void set_url(struct world *w, const char *url, uint32_t one_in)
{
    static const char *const headers[] = {"Content-Type: application/x-protobuf"};
    const struct traces_opts o = {.url = url,
                                  .headers = headers,
                                  .n_headers = 1,
                                  .ca_file = "",
                                  .resource = &w->resource,
                                  .sample_one_in = one_in,
                                  .timeout_ms = 60000,
                                  .batch_ms = 20,
                                  .queue_bytes = TRACES_QUEUE_MIN};
    assert_int_equal(traces_set(w->traces, &o, NULL), 0);
}

static void begin(struct world *w, const char *url)
{
    memset(w, 0, sizeof(*w));
    w->metrics = metrics_new();
    pb_text(&w->spans, 2, "as if these were three spans", 100);
    assert_int_equal(traces_new(w->metrics, &w->traces, NULL), 0);
    set_url(w, url, 1);
}

static void end(struct world *w)
{
    assert_true(traces_close(w->traces));
    metrics_free(w->metrics);
    buf_fini(&w->resource);
    buf_fini(&w->spans);
}

static double metric(struct world *w, const char *series)
{
    struct buf text = {0};
    metrics_write(w->metrics, METRICS_TEXT, &text);
    const char *at = strstr(buf_str(&text), series);
    assert_non_null(at);
    const double v = strtod(at + strlen(series), NULL);
    buf_fini(&text);
    return v;
}

#define SENT       "\nllmd_trace_spans_total "
#define FULL       "\nllmd_trace_spans_dropped_total{reason=\"queue_full\"} "
#define REFUSED    "\nllmd_trace_spans_dropped_total{reason=\"refused\"} "
#define AT_END     "\nllmd_trace_spans_dropped_total{reason=\"shutdown\"} "
#define TRIED_ANEW "\nllmd_trace_exports_total{result=\"retry\"} "

static void test_taken(void **state)
{
    (void)state;
    struct collector c;
    struct world w;
    open_collector(&c, TAKES);
    begin(&w, c.url);
    for (int i = 0; i < 10; i++)
        assert_true(traces_put(w.traces, &w.spans, 3));
    assert_soon(metric(&w, SENT) == 30);
    assert_in_range(atomic_load(&c.n_posts), 1, 10);
    assert_in_range(atomic_load(&c.n_bytes), 10 * w.spans.len, 10 * w.spans.len + 10 * 64);
    end(&w);
    close_collector(&c);
}

/* What waits when the server ends is still sent, at once. */
static void test_flushed(void **state)
{
    (void)state;
    struct collector c;
    struct world w;
    open_collector(&c, TAKES);
    begin(&w, c.url);
    assert_true(traces_put(w.traces, &w.spans, 3));
    assert_true(traces_close(w.traces));
    assert_true(metric(&w, SENT) == 3);
    w.traces = NULL;
    end(&w);
    close_collector(&c);
}

static void test_refused(void **state)
{
    (void)state;
    struct collector c;
    struct world w;
    open_collector(&c, REFUSES);
    begin(&w, c.url);
    assert_true(traces_put(w.traces, &w.spans, 3));
    assert_soon(metric(&w, REFUSED) == 3);
    assert_int_equal(atomic_load(&c.n_posts), 1); /* it is not asked again */
    end(&w);
    close_collector(&c);
}

/* Busy, then there again: the same batch. */
static void test_busy(void **state)
{
    (void)state;
    struct collector c;
    struct world w;
    open_collector(&c, BUSY);
    begin(&w, c.url);
    assert_true(traces_put(w.traces, &w.spans, 3));
    assert_soon(metric(&w, TRIED_ANEW) >= 1);
    atomic_store(&c.answer, TAKES);
    assert_soon(metric(&w, SENT) == 3);
    assert_true(metric(&w, REFUSED) == 0);
    end(&w);
    close_collector(&c);
}

/* It takes the connection and says nothing: puts go on as if nothing were, what does not fit is dropped
 * and counted, and the end does not wait for its answer (the time-out is a minute). */
static void test_hanging(void **state)
{
    (void)state;
    struct collector c;
    struct world w;
    uint64_t n_put = 0, n_full = 0;
    open_collector(&c, "");
    begin(&w, c.url);
    assert_true(traces_put(w.traces, &w.spans, 3));
    assert_soon(atomic_load(&c.n_posts) == 1);
    while (n_full < 1000)
        if (traces_put(w.traces, &w.spans, 3))
            n_put++;
        else
            n_full++;
    assert_in_range(n_put, 1, TRACES_QUEUE_MIN / w.spans.len);
    assert_true(metric(&w, FULL) == 3000);
    const uint64_t began_us = clock_now_us();
    assert_true(traces_close(w.traces));
    assert_in_range(clock_now_us() - began_us, 0, 30 * 1000 * 1000);
    assert_true(metric(&w, AT_END) + metric(&w, SENT) >= 3);
    w.traces = NULL;
    end(&w);
    close_collector(&c);
}

/* Another collector while it runs, and none. */
static void test_set(void **state)
{
    (void)state;
    struct collector a, b;
    struct world w;
    open_collector(&a, TAKES);
    open_collector(&b, TAKES);
    begin(&w, a.url);
    assert_true(traces_on(w.traces) && traces_sample(w.traces, UINT64_MAX));
    assert_true(traces_put(w.traces, &w.spans, 3));
    assert_soon(metric(&w, SENT) == 3);
    set_url(&w, b.url, 4);
    assert_true(traces_put(w.traces, &w.spans, 3));
    assert_soon(metric(&w, SENT) == 6);
    assert_true(atomic_load(&b.n_posts) == 1 && atomic_load(&a.n_posts) == 1);
    assert_true(traces_sample(w.traces, UINT64_MAX / 4) &&
                !traces_sample(w.traces, UINT64_MAX / 4 + 1));
    set_url(&w, "", 4);
    assert_false(traces_on(w.traces) || traces_sample(w.traces, 1));
    assert_false(traces_on(NULL) || traces_sample(NULL, 1));
    end(&w);
    close_collector(&a);
    close_collector(&b);
}

/* Whichever allocation of the first traces_set fails: nothing is left of it, and the next one works. */
static void test_no_memory(void **state)
{
    (void)state;
    static const char *const headers[] = {"Content-Type: application/x-protobuf"};
    struct traces_opts o = {.url = "http://127.0.0.1:9/",
                            .headers = headers,
                            .n_headers = 1,
                            .ca_file = "",
                            .queue_bytes = TRACES_QUEUE_MIN};
    struct buf resource = {0};
    struct traces *t = NULL;
    int rc = -1;
    buf_addstr(&resource, "x");
    o.resource = &resource;
    assert_int_equal(traces_new(NULL, &t, NULL), 0);
    for (uint64_t at = 1; rc != 0; at++) {
        struct err e = {0};
        assert_true(at < 50);
        fault_add(&(struct fault){.point = FAULT_ALLOCATION, .at = at, .times = 1});
        rc = traces_set(t, &o, &e);
        fault_clear();
        assert_int_equal(e.code, -rc);
        assert_true(traces_on(t) == (rc == 0) && t->running == (rc == 0));
        if (rc != 0)
            assert_true(!t->next && !t->filling.bytes && !t->sending.bytes && !t->filling.cap);
    }
    assert_true(traces_close(t));
    buf_fini(&resource);
}

struct putter {
    struct world *w;
    pthread_t thread;
};

static void *put_many(void *arg)
{
    const struct putter *p = arg;
    for (int i = 0; i < 2000; i++)
        (void)traces_put(p->w->traces, &p->w->spans, 3);
    return NULL;
}

/* From several threads, beside reloads: every span is counted once. */
static void test_threads(void **state)
{
    (void)state;
    struct collector c;
    struct world w;
    struct putter p[4];
    open_collector(&c, TAKES);
    begin(&w, c.url);
    for (size_t i = 0; i < ARRAY_LEN(p); i++) {
        p[i].w = &w;
        assert_int_equal(pthread_create(&p[i].thread, NULL, put_many, &p[i]), 0);
    }
    for (int i = 0; i < 20; i++)
        set_url(&w, c.url, 1);
    for (size_t i = 0; i < ARRAY_LEN(p); i++)
        pthread_join(p[i].thread, NULL);
    assert_soon(metric(&w, SENT) + metric(&w, FULL) == 4 * 2000 * 3);
    end(&w);
    close_collector(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken),   cmocka_unit_test(test_flushed),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_busy),
        cmocka_unit_test(test_hanging), cmocka_unit_test(test_set),
        cmocka_unit_test(test_threads), cmocka_unit_test(test_no_memory),
    };
    if (http_global_init(NULL) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

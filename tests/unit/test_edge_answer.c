/* Requests that the front answers itself: to the byte what libmicrohttpd answers, and nothing but plain
 * requests. A header field that changes nothing, but that the front does not know, makes libmicrohttpd
 * answer, which is told by the descriptors that it costs. Once plain, once over TLS. */
#include <dirent.h>

#include "core/edge/answer.h"
#include "tests/unit/edge_server.h"
#include "tests/unit/tls_identity.h"

#define OTHER "X-Nothing: 1\r\n"

enum { OURS = 2, THEIRS = 4 }; /* descriptors of a connection: both its ends; and a socket pair */

static struct server server;
static struct identity identity;
static int log_fds[2];
static uint32_t idle_fds; /* without a connection */

static uint32_t n_fds(void)
{
    uint32_t n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* Digits and letters of what differs from reply to reply become dots. */
static void mask(char *reply, const char *field)
{
    for (char *at = reply; (at = strstr(at, field)) != NULL;)
        for (at += strlen(field); *at && *at != '\r'; at++)
            *at = '.';
}

/* Sends a request, waits for replies that hold `until` n times, and says what came and by which way. */
static char *reply_to(const char *request, const char *until, uint32_t *out_fds)
{
    struct client c;
    assert_soon(n_fds() == idle_fds);
    assert_true(client_connect(&c, server.port, 0));
    client_send_str(&c, request);
    client_until(&c, until, 1);
    *out_fds = n_fds() - idle_fds;
    client_leave(&c);
    char *reply = buf_steal(&c.in, NULL);
    mask(reply, "\r\nDate: ");
    mask(reply, "\r\nX-Request-Id: ");
    return reply;
}

static const char *const paths[] = {"/health",  "/ping", "/livez",      "/ready",
                                    "/version", "/load", "/is_sleeping"};

static void test_both_ways_say_the_same(void **state)
{
    (void)state;
    static const char *const fields[] = {
        "", "Connection: keep-alive\r\n", "connection:KEEP-ALIVE\r\n",
        "User-Agent: x\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nHost:  y \r\n",
        "X-Request-Id: a:b_c.d-e\r\n"};
    for (size_t p = 0; p < ARRAY_LEN(paths); p++)
        for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
            char request[256];
            uint32_t n_ours, n_theirs;
            const char *host = strstr(fields[i], "Host") ? "" : "Host: x\r\n";
            snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n%s%s\r\n", paths[p], host,
                     fields[i]);
            char *ours = reply_to(request, "\r\n\r\n", &n_ours);
            snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n%s%s" OTHER "\r\n", paths[p],
                     host, fields[i]);
            char *theirs = reply_to(request, "\r\n\r\n", &n_theirs);
            assert_string_equal(ours, theirs);
            assert_int_equal(status_of(ours), 200);
            assert_int_equal(n_ours, OURS);
            assert_int_equal(n_theirs, THEIRS);
            free(ours);
            free(theirs);
        }
}

/* Whole, to its close. */
static char *last_reply(const char *path, const char *more)
{
    char request[256];
    snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n",
             path, more);
    char *reply = ask(server.port, request);
    mask(reply, "\r\nDate: ");
    mask(reply, "\r\nX-Request-Id: ");
    return reply;
}

static void test_the_last_reply_and_its_close(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(paths); p++) {
        char *ours = last_reply(paths[p], ""), *theirs = last_reply(paths[p], OTHER);
        assert_string_equal(ours, theirs);
        assert_non_null(strstr(ours, "\r\nConnection: close\r\n"));
        free(ours);
        free(theirs);
    }
    /* what comes behind it is not answered, and takes nothing back */
    struct client c;
    assert_true(client_connect(&c, server.port, 0));
    client_send_str(&c, "GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                        "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(client_until_closed(&c));
    assert_int_equal(client_count(&c, "HTTP/1.1 200 OK\r\n"), 1);
    client_close(&c);
}

/* What is unusual in any way is libmicrohttpd's. */
static void test_the_rest_goes_on(void **state)
{
    (void)state;
    static const struct {
        const char *request, *until;
    } cases[] = {
        {"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n", " 200 OK\r\n"},
        {"POST /ping HTTP/1.1\r\nHost: x\r\n\r\n", " 200 OK\r\n"},
        {"POST /health HTTP/1.1\r\nHost: x\r\n\r\n", " 405 Method Not Allowed\r\n"},
        {"OPTIONS /health HTTP/1.1\r\nHost: x\r\n\r\n", " 204 No Content\r\n"},
        {"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "Connection: Keep-Alive\r\n"},
        {"GET /health?x HTTP/1.1\r\nHost: x\r\n\r\n", " 200 OK\r\n"},
        {"GET /h%65alth HTTP/1.1\r\nHost: x\r\n\r\n", " 200 OK\r\n"},
        {"GET /healthy HTTP/1.1\r\nHost: x\r\n\r\n", " 404 Not Found\r\n"},
        {"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "llmd_edge_connections"},
        {"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", " 200 OK\r\n"},
        {"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nxx", " 200 OK\r\n"},
        {"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         " 200 OK\r\n"},
        {"GET /health HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, x\r\n\r\n", " 200 OK\r\n"},
        {"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-Id: no good\r\n\r\n", " 200 OK\r\n"},
        {"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\r\nX-Request-Id: b\r\n\r\n",
         "X-Request-Id: a\r\n"},
        {"GET /health HTTP/1.1\r\nHost: x\r\nCookie: a=b\r\n\r\n", " 200 OK\r\n"},
        {"GET /health HTTP/1.1\r\nHost: x\r\n"
         "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n",
         "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct client c;
        assert_soon(n_fds() == idle_fds);
        assert_true(client_connect(&c, server.port, 0));
        client_send_str(&c, cases[i].request);
        client_until(&c, cases[i].until, 1);
        client_until(&c, "\r\n\r\n", 1);
        if (n_fds() - idle_fds != THEIRS)
            fail_msg("%u descriptors for %s", n_fds() - idle_fds, cases[i].request);
        client_close(&c);
    }
}

static void test_who_is_not_well_says_so(void **state)
{
    (void)state;
    uint32_t n;
    atomic_store(&server.router.progressing, false);
    char *a = reply_to("GET /health HTTP/1.1\r\nHost: x\r\n\r\n", "makes progress", &n);
    assert_int_equal(status_of(a), 503);
    assert_non_null(strstr(a, "\r\nRetry-After: "));
    assert_int_equal(n, THEIRS);
    free(a);
    atomic_store(&server.router.progressing, true);
}

/* In one piece, and with a request among them that only libmicrohttpd answers: then it answers the rest. */
static void test_replies_come_in_order(void **state)
{
    (void)state;
    struct client c;
    struct buf all = {0}, want = {0};
    for (int i = 0; i < 40; i++) {
        buf_addf(&all, "GET /%s HTTP/1.1\r\nHost: x\r\nX-Request-Id: n-%d\r\n%s\r\n",
                 i % 7 == 3 ? "v1/models" : "version", i, i == 20 ? OTHER : "");
        buf_addf(&want, "n-%d ", i);
    }
    for (int in_pieces = 0; in_pieces < 2; in_pieces++) {
        struct buf got = {0};
        assert_true(client_connect(&c, server.port, 0));
        for (size_t at = 0; in_pieces && at < all.len; at += 11)
            client_send(&c, all.data + at, (size_t)u64_min(11, all.len - at));
        if (!in_pieces)
            client_send(&c, all.data, all.len);
        client_until(&c, "X-Request-Id: n-", 40);
        for (const char *at = c.in.data; (at = strstr(at, "X-Request-Id: ")) != NULL;) {
            at += strlen("X-Request-Id: ");
            buf_add(&got, at, strcspn(at, "\r"));
            buf_addch(&got, ' ');
        }
        assert_string_equal(got.data, want.data);
        buf_fini(&got);
        client_close(&c);
    }
    buf_fini(&all);
    buf_fini(&want);
}

/* A client that sends many at once does not keep the loop from the others: it waits its turn. */
static void test_many_at_once_go_on(void **state)
{
    (void)state;
    enum { ONE_TURN = 8 };
    struct client c;
    for (int n = ONE_TURN; n <= ONE_TURN + 1; n++) {
        struct buf all = {0};
        for (int i = 0; i < n; i++)
            buf_addstr(&all, "GET /ready HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_soon(n_fds() == idle_fds);
        assert_true(client_connect(&c, server.port, 0));
        client_send(&c, all.data, all.len);
        client_until(&c, "HTTP/1.1 200 OK\r\n", n);
        assert_int_equal(n_fds() - idle_fds, n > ONE_TURN ? THEIRS : OURS);
        client_close(&c);
        buf_fini(&all);
    }
}

/* However much it asks before it reads: nothing is lost, and no more is kept for it than for others.
 * Those that fit into one piece get their answers also when the client has said that it is done. */
static void test_a_client_that_reads_late(void **state)
{
    (void)state;
    enum { N = 100000, AT_ONCE = 100, QUIET_MS = 300 };
    static const char request[] = "GET /ready HTTP/1.1\r\nHost: x\r\n\r\n";
    static const int small = 16 * 1024, on = 1;
    struct client c;
    struct buf all = {0};
    for (int i = 0; i < AT_ONCE; i++)
        buf_add(&all, request, sizeof(request) - 1);
    assert_true(client_connect(&c, server.port, 64 * 1024));
    setsockopt(c.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    setsockopt(c.fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof(on));
    uint32_t sent = 0, got = 0;
    fcntl(c.fd, F_SETFL, O_NONBLOCK);
    for (size_t at = 0; sent < N;) {
        struct pollfd p = {.fd = c.fd, .events = POLLOUT};
        if (poll(&p, 1, QUIET_MS) <= 0)
            break;
        const ssize_t k = client_put(&c, all.data + at, all.len - at);
        if (k <= 0)
            continue;
        at = (at + (size_t)k) % all.len;
        sent += at == 0 ? AT_ONCE : 0;
    }
    assert_true(sent < N); /* nobody reads for it without end */
    assert_true(sent > 0);
    fcntl(c.fd, F_SETFL, 0);
    while (got < sent) {
        assert_true(client_read(&c, PATIENCE_MS));
        const uint32_t n = client_count(&c, "HTTP/1.1 200 OK\r\n");
        const size_t keep = u64_min(c.in.len, 20); /* a reply's first line may be cut */
        got += n;
        buf_consume(&c.in, c.in.len - keep);
        got -= client_count(&c, "HTTP/1.1 200 OK\r\n");
    }
    client_close(&c);

    assert_true(client_connect(&c, server.port, 0));
    client_send(&c, all.data, all.len);
    shutdown(c.fd, SHUT_WR);
    assert_true(client_until_closed(&c));
    assert_int_equal(client_count(&c, "HTTP/1.1 200 OK\r\n"), AT_ONCE);
    client_close(&c);
    buf_fini(&all);
    assert_soon(edge_active(server.edge) == 0);
}

/* By the same clock as libmicrohttpd's, and the next head by that of heads. */
static void test_idle_connections_are_closed(void **state)
{
    (void)state;
    static const char over[] = "GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    static const char *const requests[] = {
        "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n", "GET /ping HTTP/1.1\r\nHost: x\r\n" OTHER "\r\n",
        "GET /ping HTTP/1.1\r\nHost: x\r\n\r\nGET /ping", over /* already, and so not idle */};
    struct client c[ARRAY_LEN(requests)];
    server_stop(&server);
    server_prepare(&server);
    server.fixture.opts.served.limits.keepalive_timeout_s = 1;
    server.fixture.opts.served.limits.header_timeout_s = 1;
    if (client_tls)
        server_speak_tls(&server, &identity);
    server_start(&server);
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        assert_true(client_connect(&c[i], server.port, 0));
        client_send_str(&c[i], requests[i]);
        client_until(&c[i], "\r\n\r\n", 1);
    }
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        assert_true(client_until_closed(&c[i]));
        client_close(&c[i]);
    }
    struct buf out = {0};
    metrics_write(server.fixture.opts.metrics, 0, &out);
    assert_non_null(strstr(out.data, "dropped_total{reason=\"keepalive_timeout\"} 2.0\n"));
    assert_non_null(strstr(out.data, "dropped_total{reason=\"header_timeout\"} 1.0\n"));
    buf_fini(&out);
}

#define KNOWN "GET /version HTTP/1.1\r\nHost: x\r\nX-Request-Id: known\r\nConnection: close\r\n"

/* The line that the log gets; without what differs from request to request. */
static char *log_line_of(const char *request)
{
    char line[512];
    log_init(log_fds[1], LOG_DEBUG, false);
    free(ask(server.port, request));
    for (;;) {
        const ssize_t n = read(log_fds[0], line, sizeof(line) - 1);
        assert_true(n > 0);
        line[n] = '\0';
        char *at = strstr(line, "reply id=known ");
        if (!at)
            continue;
        log_init(STDERR_FILENO, LOG_ERROR, false);
        at[strcspn(at, "\n")] = '\0';
        char *ms = strstr(at, "total_ms=");
        assert_non_null(ms);
        *ms = '\0';
        return strdup(at);
    }
}

static void test_both_ways_count_the_same(void **state)
{
    (void)state;
    char *ours = log_line_of(KNOWN "\r\n"), *theirs = log_line_of(KNOWN OTHER "\r\n");
    assert_string_equal(ours, theirs);
    free(ours);
    free(theirs);
    struct buf out = {0};
    metrics_write(server.fixture.opts.metrics, 0, &out);
    assert_null(strstr(out.data, "handler=\"/version\"")); /* of neither */
    buf_fini(&out);
}

/* ---- what the front can read ---- */

static void test_plain_requests(void **state)
{
    (void)state;
    static const struct {
        const char *head, *path, *id; /* path NULL: not plain; id "": none */
        bool close;
    } cases[] = {
        {"GET /a HTTP/1.1\r\n\r\n", "/a", "", false},
        {"GET /a HTTP/1.1\r\nHost: x\r\nAccept:*/*\r\n\r\n", "/a", "", false},
        {"GET / HTTP/1.1\r\nConnection:\t Close\r\nX-REQUEST-ID:  1\r\n\r\n", "/", "1", true},
        {"GET /a HTTP/1.1\r\nConnection: keep-alive\r\n\r\n", "/a", "", false},
        {"GET /a HTTP/1.1\r\nUser-Agent:\r\n\r\n", "/a", "", false},
        {"GET /a HTTP/1.0\r\n\r\n", NULL, "", false},
        {"get /a HTTP/1.1\r\n\r\n", NULL, "", false},
        {"HEAD /a HTTP/1.1\r\n\r\n", NULL, "", false},
        {"GET /a? HTTP/1.1\r\n\r\n", NULL, "", false},
        {"GET /%61 HTTP/1.1\r\n\r\n", NULL, "", false},
        {"GET /a HTTP/1.1\r\nConnection:\r\n\r\n", NULL, "", false},
        {"GET /a HTTP/1.1\r\nConnection: close \r\n\r\n", NULL, "", false},
        {"GET /a HTTP/1.1\r\nConnection: close, x\r\n\r\n", NULL, "", false},
        {"GET /a HTTP/1.1\r\nConnection: close\r\nConnection: close\r\n\r\n", NULL, "", false},
        {"GET /a HTTP/1.1\r\nX-Request-Id: \r\n\r\n", NULL, "", false},
        {"GET /a HTTP/1.1\r\nX-Request-Id: a\t\r\n\r\n", NULL, "", false},
        {"GET /a HTTP/1.1\r\nX-Request-Id: a\r\nX-Request-Id: a\r\n\r\n", NULL, "", false},
        {"GET /a HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", NULL, "", false},
        {"GET /a HTTP/1.1\r\nContent-Length: 0\r\n\r\n", NULL, "", false},
        {"GET /a HTTP/1.1\r\nHos: x\r\n\r\n", NULL, "", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct plain_get get = {.path = NULL};
        const bool good = plain_get_read(cases[i].head, strlen(cases[i].head), &get);
        if (good != (cases[i].path != NULL))
            fail_msg("%s", cases[i].head);
        if (!good)
            continue;
        assert_int_equal(get.n_path, strlen(cases[i].path));
        assert_memory_equal(get.path, cases[i].path, get.n_path);
        assert_int_equal(get.n_id, strlen(cases[i].id));
        if (get.id)
            assert_memory_equal(get.id, cases[i].id, get.n_id);
        assert_int_equal(get.close, cases[i].close);
    }
}

static int setup(void **state)
{
    (void)state;
    server_prepare(&server);
    if (client_tls)
        server_speak_tls(&server, &identity);
    server_start(&server);
    idle_fds = n_fds();
    return 0;
}

static int setup_tls(void **state)
{
    identity_make(&identity, &(struct identity_opts){.name = "localhost"});
    client_tls = SSL_CTX_new(TLS_client_method());
    return setup(state);
}

static int teardown(void **state)
{
    (void)state;
    server_stop(&server);
    return 0;
}

static int teardown_tls(void **state)
{
    SSL_CTX_free(client_tls);
    client_tls = NULL;
    identity_fini(&identity);
    return teardown(state);
}

int main(void)
{
    const struct CMUnitTest pure[] = {cmocka_unit_test(test_plain_requests)};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ways_say_the_same),
        cmocka_unit_test(test_the_last_reply_and_its_close),
        cmocka_unit_test(test_the_rest_goes_on),
        cmocka_unit_test(test_who_is_not_well_says_so),
        cmocka_unit_test(test_replies_come_in_order),
        cmocka_unit_test(test_many_at_once_go_on),
        cmocka_unit_test(test_a_client_that_reads_late),
        cmocka_unit_test(test_both_ways_count_the_same),
        cmocka_unit_test(test_idle_connections_are_closed),
    };
    if (pipe(log_fds) != 0)
        return 1;
    int rc = cmocka_run_group_tests_name("pure", pure, NULL, NULL);
    rc += cmocka_run_group_tests_name("plain", tests, setup, teardown);
    return rc + cmocka_run_group_tests_name("tls", tests, setup_tls, teardown_tls);
}

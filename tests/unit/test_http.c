/* test_http.c - the HTTP client against a server of one answer. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/util/clock.h"
#include "core/util/http.h"

/* Listens on a free port, takes one connection, reads its request, answers in pieces. */
struct server {
    int fd;
    uint16_t port;
    char url[64];
    const char *pieces[4]; /* written 20 ms apart; NULL ends */
    bool hang;             /* then waits for the client to close */
    bool saw_close;
    char request[4096];
    pthread_t thread;
};

static void *serve(void *arg)
{
    struct server *s = arg;
    size_t len = 0;
    ssize_t n;
    char byte;
    int fd = accept(s->fd, NULL, NULL);
    if (fd < 0)
        return NULL;
    while (len + 1 < sizeof(s->request) && !strstr(s->request, "\r\n\r\n") &&
           (n = recv(fd, s->request + len, 1, 0)) > 0)
        s->request[++len] = '\0';
    const char *length = strstr(s->request, "Content-Length: ");
    for (long body = length ? strtol(length + 16, NULL, 10) : 0; body > 0; body--)
        if (recv(fd, s->request + len, 1, 0) == 1)
            s->request[++len] = '\0';
    for (int i = 0; i < 4 && s->pieces[i]; i++) {
        if (i > 0)
            clock_sleep_us(20000);
        (void)!send(fd, s->pieces[i], strlen(s->pieces[i]), MSG_NOSIGNAL);
    }
    if (s->hang)
        s->saw_close = recv(fd, &byte, 1, 0) <= 0;
    close(fd);
    return NULL;
}

static void start(struct server *s)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&a, n), 0);
    assert_int_equal(listen(s->fd, 1), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&a, &n), 0);
    s->port = ntohs(a.sin_port);
    snprintf(s->url, sizeof(s->url), "http://127.0.0.1:%u/x", s->port);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void finish(struct server *s)
{
    pthread_join(s->thread, NULL);
    close(s->fd);
}

static int collect(void *ctx, const char *bytes, size_t n)
{
    buf_add(ctx, bytes, n);
    return 0;
}

static int refuse(void *ctx, const char *bytes, size_t n)
{
    (void)ctx;
    (void)bytes;
    (void)n;
    return -LLMD_EPARSE;
}

/* True from the second data on. */
static bool has_data(void *ctx)
{
    return ((const struct buf *)ctx)->len > 0;
}

static void test_get(void **state)
{
    (void)state;
    struct server s = {.pieces = {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", "llo"}};
    start(&s);
    static const char *const headers[] = {"X-A: b", "Authorization: Bearer k"};
    struct http_request r = {.method = "GET", .url = s.url, .headers = headers, .n_headers = 2};
    struct http_response out;
    assert_int_equal(http_perform(&r, &out, NULL), 0);
    finish(&s);
    assert_int_equal(out.status, 200);
    assert_true(out.connected);
    assert_string_equal(buf_str(&out.body), "hello");
    assert_memory_equal(s.request, "GET /x HTTP/1.1\r\n", 17);
    assert_non_null(strstr(s.request, "\r\nX-A: b\r\n"));
    assert_non_null(strstr(s.request, "\r\nAuthorization: Bearer k\r\n"));
    assert_non_null(strstr(s.request, "\r\nUser-Agent: llmd/"));
    http_response_fini(&out);
}

static void test_post_stream(void **state)
{
    (void)state;
    struct server s = {.pieces = {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                                  "2\r\nab\r\n", "2\r\ncd\r\n", "0\r\n\r\n"}};
    start(&s);
    struct buf got = {0};
    struct http_request r = {.method = "POST",
                             .url = s.url,
                             .body = "{\"a\":1}",
                             .n_body = 7,
                             .on_data = collect,
                             .ctx = &got};
    struct http_response out;
    assert_int_equal(http_perform(&r, &out, NULL), 0);
    finish(&s);
    assert_string_equal(buf_str(&got), "abcd");
    assert_int_equal(out.body.len, 0);
    assert_memory_equal(s.request, "POST /x HTTP/1.1\r\n", 18);
    assert_non_null(strstr(s.request, "\r\n\r\n{\"a\":1}"));
    assert_null(strstr(s.request, "Expect"));
    buf_fini(&got);
    http_response_fini(&out);
}

/* The body of an error is collected even when data is wanted piece by piece. */
static void test_error_status(void **state)
{
    (void)state;
    struct server s = {.pieces = {"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"}};
    start(&s);
    struct buf got = {0};
    struct http_request r = {.method = "GET", .url = s.url, .on_data = collect, .ctx = &got};
    struct http_response out;
    assert_int_equal(http_perform(&r, &out, NULL), 0);
    finish(&s);
    assert_int_equal(out.status, 404);
    assert_string_equal(buf_str(&out.body), "no");
    assert_int_equal(got.len, 0);
    http_response_fini(&out);
}

/* A redirect is an answer like others. */
static void test_no_redirect(void **state)
{
    (void)state;
    struct server s = {
        .pieces = {
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"}};
    start(&s);
    struct http_request r = {.method = "GET", .url = s.url};
    struct http_response out;
    assert_int_equal(http_perform(&r, &out, NULL), 0);
    finish(&s);
    assert_int_equal(out.status, 302);
    http_response_fini(&out);
}

static void test_refused(void **state)
{
    (void)state;
    struct http_request r = {.method = "GET", .url = "http://127.0.0.1:1/x"};
    struct http_response out;
    struct err e = {0};
    assert_int_equal(http_perform(&r, &out, &e), -LLMD_EIO);
    assert_false(out.connected);
    assert_int_equal(out.status, 0);
    assert_string_equal(e.msg, "http://127.0.0.1:1/x: Connection refused");
    http_response_fini(&out);
}

static void test_unix_socket(void **state)
{
    (void)state;
    struct server s = {.pieces = {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"}};
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char folder[] = "/tmp/llmd-test-http-XXXXXX";
    assert_non_null(mkdtemp(folder));
    snprintf(a.sun_path, sizeof(a.sun_path), "%s/s", folder);
    struct http_request r = {.method = "GET", .url = "http://host/x", .unix_socket = a.sun_path};
    struct http_response out;
    struct err e = {0};
    char missing[160];
    assert_int_equal(http_perform(&r, &out, &e), -LLMD_EIO);
    assert_false(out.connected);
    assert_int_equal(out.os_errno, ENOENT);
    snprintf(missing, sizeof(missing), "%s: No such file or directory", a.sun_path);
    assert_string_equal(e.msg, missing);
    http_response_fini(&out);

    s.fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(s.fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(http_perform(&r, &out, NULL), -LLMD_EIO);
    assert_int_equal(out.os_errno, ECONNREFUSED);
    http_response_fini(&out);
    assert_int_equal(listen(s.fd, 1), 0);
    assert_int_equal(pthread_create(&s.thread, NULL, serve, &s), 0);
    assert_int_equal(http_perform(&r, &out, NULL), 0);
    finish(&s);
    assert_string_equal(buf_str(&out.body), "hello");
    assert_memory_equal(s.request, "GET /x HTTP/1.1\r\nHost: host\r\n", 29);
    http_response_fini(&out);
    unlink(a.sun_path);
    assert_int_equal(rmdir(folder), 0);
}

static void test_bad_urls(void **state)
{
    (void)state;
    static const char *const urls[] = {"", "http://", "file:///etc/passwd", "gopher://x", "x y"};
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        struct http_request r = {.method = "GET", .url = urls[i]};
        struct http_response out;
        struct err e = {0};
        assert_true(http_perform(&r, &out, &e) < 0);
        assert_true(e.msg[0] != '\0');
        assert_int_equal(out.status, 0);
        http_response_fini(&out);
    }
}

/* An answer that breaks off is an error, not a short answer. */
static void test_truncated(void **state)
{
    (void)state;
    struct server s = {.pieces = {"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhe"}};
    start(&s);
    struct http_request r = {.method = "GET", .url = s.url};
    struct http_response out;
    struct err e = {0};
    assert_int_equal(http_perform(&r, &out, &e), -LLMD_EIO);
    finish(&s);
    assert_true(out.connected);
    assert_int_equal(out.status, 200);
    http_response_fini(&out);
}

static void test_cancel_closes(void **state)
{
    (void)state;
    struct server s = {
        .pieces = {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"},
        .hang = true};
    start(&s);
    struct buf got = {0};
    struct http_request r = {
        .method = "GET", .url = s.url, .on_data = collect, .cancelled = has_data, .ctx = &got};
    struct http_response out;
    uint64_t from = clock_now_us();
    assert_int_equal(http_perform(&r, &out, NULL), -LLMD_ECANCELLED);
    assert_true(clock_now_us() - from < 15000000);
    finish(&s); /* returns because the connection was closed */
    assert_true(s.saw_close);
    buf_fini(&got);
    http_response_fini(&out);
}

static void test_timeout(void **state)
{
    (void)state;
    struct server s = {.hang = true};
    start(&s);
    struct http_request r = {.method = "GET", .url = s.url, .timeout_ms = 100};
    struct http_response out;
    assert_int_equal(http_perform(&r, &out, NULL), -LLMD_ETIMEOUT);
    finish(&s);
    http_response_fini(&out);
}

static void test_limits(void **state)
{
    (void)state;
    struct server s = {.pieces = {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"},
                       .hang = true};
    start(&s);
    struct http_request r = {.method = "GET", .url = s.url, .max_body = 4};
    struct http_response out;
    struct err e = {0};
    assert_int_equal(http_perform(&r, &out, &e), -LLMD_ETOOBIG);
    assert_non_null(strstr(e.msg, "larger than 4 bytes"));
    finish(&s);
    http_response_fini(&out);
}

static void test_callback_fails(void **state)
{
    (void)state;
    struct server s = {.pieces = {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"},
                       .hang = true};
    start(&s);
    struct http_request r = {.method = "GET", .url = s.url, .on_data = refuse};
    struct http_response out;
    assert_int_equal(http_perform(&r, &out, NULL), -LLMD_EPARSE);
    finish(&s);
    http_response_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get),           cmocka_unit_test(test_post_stream),
        cmocka_unit_test(test_error_status),  cmocka_unit_test(test_no_redirect),
        cmocka_unit_test(test_refused),       cmocka_unit_test(test_unix_socket),
        cmocka_unit_test(test_bad_urls),      cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_cancel_closes), cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_limits),        cmocka_unit_test(test_callback_fails),
    };
    struct err e = {0};
    if (http_global_init(&e) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

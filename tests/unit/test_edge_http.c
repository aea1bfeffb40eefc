/* HTTP itself, over raw sockets: framing, keep-alive, limits, keys, deadlines, errors. */
#include "tests/unit/edge_server.h"

#include <jansson.h>
#include <openssl/sha.h>

#include "core/util/json.h"

static struct server server;

#define HI         "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"max_tokens\":4}"
#define GET(path)  "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"
#define LAST(path) "GET " path " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

static void check_error(const char *answer, int status, const char *type, const char *words)
{
    struct err e = {0};
    json_t *v = NULL;
    if (status_of(answer) != status || json_parse(body_of(answer), strlen(body_of(answer)), &v, &e))
        fail_msg("%s\n%s", e.msg, answer);
    json_t *o = json_object_get(v, "error");
    assert_int_equal(json_object_size(o), 4);
    assert_non_null(json_object_get(o, "param"));
    assert_string_equal(json_string_value(json_object_get(o, "type")), type);
    if (!strstr(json_string_value(json_object_get(o, "message")), words))
        fail_msg("no '%s' in:\n%s", words, answer);
    json_decref(v);
}

static void test_keep_alive_and_pipelining(void **state)
{
    (void)state;
    struct client c;
    assert_true(client_connect(&c, server.port, 0));
    client_send_str(&c, GET("/version"));
    client_until(&c, "\"version\"", 1);
    client_send_str(&c, GET("/health") GET("/version") GET("/health"));
    client_post(&c, CHAT, "", HI);
    client_post(&c, CHAT, "",
                "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"max_tokens\":2,"
                "\"stream\":true}");
    client_send_str(&c, LAST("/version"));
    assert_true(client_until_closed(&c));
    assert_int_equal(client_count(&c, "HTTP/1.1 200 OK"), 7);
    assert_int_equal(client_count(&c, "\"version\""), 3);
    assert_int_equal(client_count(&c, "\"content\":\"abcd\""), 1);
    assert_int_equal(client_count(&c, "data: [DONE]\n\n"), 1);
    client_close(&c);
}

static void test_head_options_and_http_1_0(void **state)
{
    (void)state;
    char *a = ask(server.port, "HEAD /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_int_equal(status_of(a), 200);
    assert_string_equal(body_of(a), "");
    assert_non_null(strstr(a, "Content-Length: "));
    free(a);
    a = ask(server.port, "OPTIONS " CHAT " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_int_equal(status_of(a), 204);
    assert_non_null(strstr(a, "Allow: POST, OPTIONS\r\n"));
    free(a);
    a = ask(server.port, "GET /version HTTP/1.0\r\n\r\n");
    assert_non_null(strstr(a, " 200 OK"));
    free(a);
    a = ask(server.port, "POST " CHAT " HTTP/1.0\r\nContent-Type: application/json\r\n"
                         "Content-Length: 85\r\n\r\n{\"messages\":[{\"role\":\"user\",\"content\":"
                         "\"Hi\"}],\"max_tokens\":2,\"stream\":true}            ");
    assert_null(strstr(a, "chunked"));
    assert_non_null(strstr(a, "data: [DONE]\n\n"));
    free(a);
}

static void test_unknown_paths_and_methods(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        int status;
        const char *type, *words, *allow;
    } tries[] = {
        {"GET /nothing", 404, "NotFoundError", "no such path", NULL},
        {"GET /index.html", 404, "NotFoundError", "no such path", NULL},
        {"GET /ui/../nothing", 404, "NotFoundError", "no such file", NULL},
        {"GET /v1/models/", 404, "NotFoundError", "no such path", NULL},
        {"GET /v1/models/gpt-4", 404, "NotFoundError", "`gpt-4` does not exist", NULL},
        {"GET " CHAT, 405, "MethodNotAllowedError", CHAT, "POST, OPTIONS"},
        {"PUT " TEXT, 405, "MethodNotAllowedError", TEXT, "POST, OPTIONS"},
        {"DELETE /health", 405, "MethodNotAllowedError", "/health", "GET, HEAD, OPTIONS"},
        {"POST /v1/models/tiny", 405, "MethodNotAllowedError", "{id}", "GET, HEAD, OPTIONS"},
        {"OPTIONS /nothing", 404, "NotFoundError", "no such path", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
        char request[256], allow[64];
        snprintf(request, sizeof(request), "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                 tries[i].line);
        char *a = ask(server.port, request);
        check_error(a, tries[i].status, tries[i].type, tries[i].words);
        if (tries[i].allow) {
            snprintf(allow, sizeof(allow), "Allow: %s\r\n", tries[i].allow);
            assert_non_null(strstr(a, allow));
        }
        free(a);
    }
}

static void test_bad_framing_closes(void **state)
{
    (void)state;
    static const char *const heads[] = {
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "Content-Length : 5\r\n\r\nhello",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: 5x\r\n\r\nhello",
        "Content-Length: 18446744073709551616\r\n\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        struct client c;
        assert_true(client_connect(&c, server.port, 0));
        client_send_str(&c, "POST " CHAT " HTTP/1.1\r\nHost: x\r\n");
        client_send_str(&c, heads[i]);
        client_send_str(&c, GET("/version")); /* must never be answered */
        assert_true(client_until_closed(&c));
        assert_int_equal(client_count(&c, "\"version\""), 0);
        assert_in_set(status_of(buf_str(&c.in)), ((const unsigned long[]){400, 413}), 2);
        client_close(&c);
    }
}

/* A body over the limit, sent with this head. Returns the answer. */
static char *oversize(size_t n, const char *head)
{
    struct client c;
    char line[256];
    char *body = malloc(n);
    assert_non_null(body);
    memset(body, 'x', n);
    assert_true(client_connect(&c, server.port, 0));
    snprintf(line, sizeof(line), "POST " CHAT " HTTP/1.1\r\nHost: x\r\n%s\r\n", head);
    client_send_str(&c, line);
    client_send(&c, body, n);
    while (client_read(&c, PATIENCE_MS))
        ;
    close(c.fd);
    free(body);
    return buf_steal(&c.in, NULL);
}

static void test_body_limit(void **state)
{
    (void)state;
    char head[128];
    size_t limit = server.fixture.opts.served.limits.max_body_bytes,
           sizes[] = {limit + 1, 4 * limit, 32 * limit};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        snprintf(head, sizeof(head), "Content-Length: %zu\r\n", sizes[i]);
        char *a = oversize(sizes[i], head);
        check_error(a, 413, "RequestTooLargeError", "65536 bytes");
        free(a);
    }
    /* with Expect the body is not even asked for */
    snprintf(head, sizeof(head), "Content-Length: %zu\r\nExpect: 100-continue\r\n", limit + 1);
    char *a = oversize(0, head);
    check_error(a, 413, "RequestTooLargeError", "65536 bytes");
    free(a);
}

static char *chunked(size_t n)
{
    struct client c;
    char piece[4096 + 16];
    size_t at = (size_t)snprintf(piece, 16, "1000\r\n");
    memset(piece + at, 'x', 4096);
    memcpy(piece + at + 4096, "\r\n", 2);
    assert_true(client_connect(&c, server.port, 0));
    client_send_str(&c, "POST " CHAT " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                        "Content-Type: application/json\r\nConnection: close\r\n\r\n");
    for (size_t i = 0; i < n / 4096; i++)
        client_send(&c, piece, at + 4098);
    client_send_str(&c, "0\r\n\r\n");
    while (client_read(&c, PATIENCE_MS))
        ;
    close(c.fd);
    return buf_steal(&c.in, NULL);
}

static void test_chunked_bodies(void **state)
{
    (void)state;
    size_t limit = server.fixture.opts.served.limits.max_body_bytes;
    char *a = chunked(limit / 2);
    check_error(a, 400, "BadRequestError", "invalid JSON");
    free(a);
    a = chunked(2 * limit);
    check_error(a, 413, "RequestTooLargeError", "65536 bytes");
    free(a);
    a = chunked(40 * limit);
    assert_true(status_of(a ? a : "") == -1 || status_of(a) == 413); /* dropped half way */
    free(a);
}

static void test_expect_continue(void **state)
{
    (void)state;
    struct client c;
    char head[256];
    assert_true(client_connect(&c, server.port, 0));
    snprintf(head, sizeof(head),
             "POST " CHAT " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
             "Content-Length: %zu\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
             strlen(HI));
    client_send_str(&c, head);
    client_until(&c, "HTTP/1.1 100 Continue\r\n\r\n", 1);
    client_send_str(&c, HI);
    client_until(&c, "\"content\":\"abcd\"", 1);
    client_close(&c);
}

static void test_bad_bodies(void **state)
{
    (void)state;
    char *a = post(server.port, CHAT, "", "");
    check_error(a, 400, "BadRequestError", "empty");
    free(a);
    a = post(server.port, CHAT, "", "{\"messages\":");
    check_error(a, 400, "BadRequestError", "invalid JSON");
    free(a);
    a = post(server.port, CHAT, "Content-Encoding: gzip\r\n", HI);
    check_error(a, 400, "BadRequestError", "Content-Encoding");
    free(a);
    a = ask(server.port, "POST " CHAT " HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
                         "Content-Length: 2\r\nConnection: close\r\n\r\n{}");
    check_error(a, 400, "BadRequestError", "Content-Type");
    free(a);
    a = ask(server.port,
            "POST " CHAT " HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
            "Content-Type: Application/JSON; charset=utf-8\r\nConnection: close\r\n\r\n{}");
    check_error(a, 400, "BadRequestError", "messages");
    free(a);
}

/* What the body says decides what it is; the rest is as at the other two. */
static void test_invocations(void **state)
{
    (void)state;
    char *a = post(server.port, "/invocations", "", HI);
    assert_int_equal(status_of(a), 200);
    assert_non_null(strstr(a, "\"object\":\"chat.completion\""));
    free(a);
    a = post(server.port, "/invocations", "", "{\"prompt\":\"x\",\"max_tokens\":2}");
    assert_non_null(strstr(a, "\"object\":\"text_completion\""));
    free(a);
    a = post(server.port, "/invocations", "", "{\"prompt\":\"x\",\"max_tokens\":-1}");
    check_error(a, 400, "BadRequestError", "max_tokens");
    free(a);
    a = post(server.port, "/invocations", "", "{\"model\":\"tiny\"}");
    check_error(a, 400, "BadRequestError", "'messages' for a chat, or 'prompt'");
    free(a);
}

static void test_request_ids(void **state)
{
    (void)state;
    char *a = post(server.port, CHAT, "X-Request-Id: abc-1.2\r\n", HI);
    assert_non_null(strstr(a, "X-Request-Id: abc-1.2\r\n"));
    assert_non_null(strstr(a, "\"id\":\"chatcmpl-abc-1.2\""));
    free(a);
    a = post(server.port, TEXT, "X-Request-Id: a\"b\r\n", "{\"prompt\":\"x\"}");
    assert_null(strstr(a, "a\"b"));
    assert_non_null(strstr(a, "X-Request-Id: "));
    free(a);
    a = post(server.port, TEXT, "", "{\"prompt\":\"x\",\"request_id\":\"mine\"}");
    assert_non_null(strstr(a, "\"id\":\"cmpl-mine\""));
    free(a);
    a = post(server.port, TEXT,
             "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n",
             "{\"prompt\":\"x\"}");
    assert_non_null(strstr(a, "\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-"));
    assert_null(strstr(a, "00f067aa0ba902b7")); /* the span is ours */
    free(a);
    a = post(server.port, TEXT, "traceparent: 00-4bf9-00f067aa0ba902b7-01\r\n",
             "{\"prompt\":\"x\"}");
    assert_null(strstr(a, "traceparent"));
    free(a);
    a = ask(server.port, "GET /nothing HTTP/1.1\r\nHost: x\r\nX-Request-Id: q7\r\n"
                         "Connection: close\r\n\r\n");
    assert_non_null(strstr(a, "X-Request-Id: q7\r\n"));
    free(a);
}

static void test_router_errors(void **state)
{
    (void)state;
    static const struct {
        int code, status;
        const char *type;
        bool retry;
    } tries[] = {
        {LLMD_EFULL, 503, "ServiceUnavailableError", true},
        {LLMD_ENOTREADY, 503, "ServiceUnavailableError", true},
        {LLMD_EDRAINING, 503, "ServiceUnavailableError", true},
        {LLMD_ETOOBIG, 413, "RequestTooLargeError", false},
        {LLMD_EINTERNAL, 500, "InternalServerError", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
        atomic_store(&server.router.refuse, tries[i].code);
        char *a = post(server.port, CHAT, "", HI);
        check_error(a, tries[i].status, tries[i].type, "scripted refusal");
        assert_true((strstr(a, "Retry-After: ") != NULL) == tries[i].retry);
        free(a);
        /* a stream is refused with a status, too */
        a = post(server.port, TEXT, "", "{\"prompt\":\"x\",\"stream\":true}");
        check_error(a, tries[i].status, tries[i].type, "scripted refusal");
        free(a);
    }
    atomic_store(&server.router.refuse, 0);
}

static void test_models(void **state)
{
    (void)state;
    char *a = ask(server.port, LAST("/v1/models"));
    assert_int_equal(status_of(a), 200);
    assert_non_null(
        strstr(a, "{\"object\":\"list\",\"data\":[{\"id\":\"tiny\",\"object\":\"model\""));
    assert_non_null(strstr(a, "{\"id\":\"org/alias\""));
    assert_non_null(strstr(a, "\"max_model_len\":1000"));
    free(a);
    a = ask(server.port, LAST("/v1/models/org/alias"));
    assert_int_equal(status_of(a), 200);
    free(a);
    a = ask(server.port, LAST("/v1/models/org%2Falias"));
    assert_int_equal(status_of(a), 200);
    free(a);
    atomic_store(&server.router.ready, false);
    a = ask(server.port, LAST("/v1/models"));
    check_error(a, 503, "ServiceUnavailableError", "loading");
    free(a);
    atomic_store(&server.router.ready, true);
}

static void test_health_ready_version_metrics(void **state)
{
    (void)state;
    char *a = ask(server.port, LAST("/health"));
    assert_int_equal(status_of(a), 200);
    assert_string_equal(body_of(a), "");
    free(a);
    atomic_store(&server.router.progressing, false);
    a = ask(server.port, LAST("/health"));
    check_error(a, 503, "ServiceUnavailableError", "no worker makes progress");
    free(a);
    atomic_store(&server.router.progressing, true);
    a = ask(server.port, LAST("/ready"));
    assert_int_equal(status_of(a), 200);
    free(a);
    atomic_store(&server.router.ready, false);
    a = ask(server.port, LAST("/ready"));
    assert_int_equal(status_of(a), 503);
    assert_non_null(
        strstr(a, "{\"status\":\"loading\",\"workers\":[{\"model\":\"tiny\",\"worker\":0,"));
    assert_non_null(
        strstr(a, "\"loaded_percent\":37,\"loaded_bytes\":38797312,"
                  "\"total_bytes\":104857600,\"mib_per_s\":20,"
                  "\"seconds_left\":3.2,\"drained\":false,\"error\":\"out of \\\"luck\\\"\"}"));
    free(a);
    atomic_store(&server.router.ready, true);
    a = ask(server.port, LAST("/version"));
    assert_string_equal(body_of(a), "{\"version\":\"" LLMD_VERSION "\"}");
    free(a);
    static const char *const paths[] = {LAST("/metrics"), LAST("/metrics/")};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        a = ask(server.port, paths[i]);
        assert_int_equal(status_of(a), 200);
        assert_non_null(strstr(a, "Content-Type: text/plain; version=0.0.4"));
        assert_non_null(strstr(a, "vllm:request_success_total{model_name=\"tiny\",engine=\"0\","
                                  "finished_reason=\"error\"} 0"));
        assert_non_null(strstr(a, "http_requests_total{handler=\"/v1/completions\",method=\"POST\","
                                  "status=\"5xx\"} "));
        free(a);
    }
}

static int setup(void **state)
{
    (void)state;
    server_prepare(&server);
    server_start(&server);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    server_stop(&server);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keep_alive_and_pipelining),
        cmocka_unit_test(test_head_options_and_http_1_0),
        cmocka_unit_test(test_unknown_paths_and_methods),
        cmocka_unit_test(test_bad_framing_closes),
        cmocka_unit_test(test_body_limit),
        cmocka_unit_test(test_chunked_bodies),
        cmocka_unit_test(test_expect_continue),
        cmocka_unit_test(test_bad_bodies),
        cmocka_unit_test(test_invocations),
        cmocka_unit_test(test_request_ids),
        cmocka_unit_test(test_router_errors),
        cmocka_unit_test(test_models),
        cmocka_unit_test(test_health_ready_version_metrics),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

/* The edge's life: limits on connections and time, keys, drain, stop. Each test starts
 * a server of its own. */
#include "tests/unit/edge_server.h"

#include <openssl/sha.h>

static struct server server;

#define HI      "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"
#define VERSION "GET /version HTTP/1.1\r\nHost: x\r\n\r\n"

enum { MUCH_S = 15 }; /* for what takes a second or two; without an end it would be all patience */

static double seconds_since(uint64_t us)
{
    return (double)(clock_now_us() - us) * 1e-6;
}

static void test_drain(void **state)
{
    (void)state;
    struct client stream, plain, idle;
    server_prepare(&server);
    atomic_store(&server.router.step_us, 0);
    server_start(&server);
    assert_true(client_connect(&stream, server.port, 0) && client_connect(&plain, server.port, 0) &&
                client_connect(&idle, server.port, 0));
    client_post(&stream, CHAT, "", "{" HI ",\"max_tokens\":5,\"stream\":true}");
    client_post(&plain, CHAT, "", "{" HI ",\"max_tokens\":5}");
    client_send_str(&idle, VERSION);
    client_until(&idle, "\"version\"", 1);
    wait_for(&server.router.n_submitted, 2);
    router_step(&server.router);
    assert_soon(edge_active(server.edge) == 2); /* that of the idle one is over */

    edge_drain(server.edge);
    assert_soon(client_is_refused(server.port));
    client_post(&idle, CHAT, "", "{" HI "}");
    assert_true(client_until_closed(&idle));
    assert_int_equal(client_count(&idle, "HTTP/1.1 503 "), 1);
    assert_int_equal(client_count(&idle, "Retry-After: "), 1);
    assert_int_equal(client_count(&idle, "Connection: close"), 1);

    for (int i = 0; i < 4; i++)
        router_step(&server.router);
    client_until(&stream, "data: [DONE]\n\n", 1);
    assert_int_equal(client_count(&stream, "\"finish_reason\":\"length\""), 1);
    assert_true(client_until_closed(&plain));
    assert_int_equal(client_count(&plain, "\"content\":\"abcde\""), 1);
    assert_soon(edge_active(server.edge) == 0);
    client_close(&stream);
    client_close(&plain);
    client_close(&idle);
    server_stop(&server);
}

/* Stop with requests in every state: each client gets an answer to its request, then the end. */
static void test_stop(void **state)
{
    (void)state;
    enum { N = 20 };
    struct client streams[N], plains[N], idle;
    server_prepare(&server);
    atomic_store(&server.router.step_us, 0);
    server_start(&server);
    assert_true(client_connect(&idle, server.port, 0));
    for (int i = 0; i < N; i++) {
        assert_true(client_connect(&streams[i], server.port, 0));
        assert_true(client_connect(&plains[i], server.port, 0));
        client_post(&streams[i], CHAT, "", "{" HI ",\"stream\":true}");
        client_post(&plains[i], TEXT, "", "{\"prompt\":\"x\"}");
    }
    wait_for(&server.router.n_submitted, 2 * N);
    router_step(&server.router);
    server_end_router(&server);
    uint64_t start = clock_now_us();
    server_stop(&server);
    assert_true(seconds_since(start) < MUCH_S);
    for (int i = 0; i < N; i++) {
        assert_true(client_until_closed(&streams[i]));
        assert_int_equal(client_count(&streams[i], "shutting down"), 1);
        assert_int_equal(client_count(&streams[i], "data: [DONE]\n\n"), 1);
        assert_true(client_until_closed(&plains[i]));
        assert_int_equal(client_count(&plains[i], "HTTP/1.1 503 "), 1);
        client_close(&streams[i]);
        client_close(&plains[i]);
    }
    assert_true(client_until_closed(&idle));
    client_close(&idle);
}

static void *stop_main(void *arg)
{
    edge_stop(((struct server *)arg)->edge);
    return NULL;
}

/* Who connects right before the end and then asks is answered, not reset. On a busy machine the question
 * may come too late: one of some is in time. */
static void test_stop_under_a_newcomer(void **state)
{
    (void)state;
    uint32_t n_answered = 0;
    for (int i = 0; i < 20 && n_answered == 0; i++) {
        struct client c;
        pthread_t stopper;
        server_prepare(&server);
        server_start(&server);
        assert_true(client_connect(&c, server.port, 0));
        assert_int_equal(pthread_create(&stopper, NULL, stop_main, &server), 0);
        assert_soon(client_is_refused(server.port)); /* nobody else is let in */
        client_post(&c, CHAT, "", "{" HI "}");
        (void)client_until_closed(&c);
        n_answered = client_count(&c, "HTTP/1.1 503 ");
        assert_int_equal(client_count(&c, "Retry-After: "), n_answered);
        client_close(&c);
        pthread_join(stopper, NULL);
        server.edge = NULL;
        server_stop(&server);
    }
    assert_int_equal(n_answered, 1);
}

/* Without an end from the router, and with a client that does not read. */
static void test_stop_cuts_what_does_not_end(void **state)
{
    (void)state;
    struct client stream, deaf;
    server_prepare(&server);
    atomic_store(&server.router.step_us, 20);
    server_start(&server);
    assert_true(client_connect(&stream, server.port, 0) &&
                client_connect(&deaf, server.port, 2048));
    client_post(&deaf, CHAT, "", "{" HI ",\"n\":8,\"stream\":true}");
    wait_for(&server.router.n_submitted, 1);
    assert_soon(atomic_load(&server.router.n_full) > 0);
    router_pace(&server.router, 0);
    client_post(&stream, CHAT, "", "{" HI ",\"stream\":true}");
    wait_for(&server.router.n_submitted, 2);
    atomic_store(&server.router.stop, true);
    pthread_join(server.router.thread, NULL);
    uint64_t start = clock_now_us();
    edge_stop(server.edge);
    server.edge = NULL;
    assert_true(seconds_since(start) < MUCH_S);
    assert_true(client_until_closed(&stream));
    assert_int_equal(client_count(&stream, "data: [DONE]\n\n"), 1);
    for (uint32_t i = 0; i < server.router.n_runs; i++) {
        assert_true(request_is_cancelled(server.router.runs[i].request));
        request_unref(server.router.runs[i].request);
    }
    client_close(&stream);
    client_close(&deaf);
    server_stop(&server);
}

/* Whether a new connection is let in; c is open then. */
static bool is_served(struct client *c)
{
    assert_true(client_connect(c, server.port, 0));
    client_send_str(c, VERSION);
    if (client_read(c, PATIENCE_MS) && client_count(c, " 200 OK") == 1)
        return true;
    client_close(c);
    return false;
}

static void test_max_connections(void **state)
{
    (void)state;
    enum { LIMIT = 5 };
    struct client in[LIMIT], out;
    server_prepare(&server);
    server.fixture.opts.max_connections = LIMIT;
    server_start(&server);
    for (int i = 0; i < LIMIT; i++) {
        assert_true(client_connect(&in[i], server.port, 0));
        client_send_str(&in[i], VERSION);
        client_until(&in[i], "\"version\"", 1);
    }
    assert_true(client_connect(&out, server.port, 0));
    assert_true(client_until_closed(&out));
    assert_int_equal(client_count(&out, "HTTP/1.1 503 "), 1);
    assert_int_equal(client_count(&out, "Retry-After: 1"), 1);
    assert_int_equal(client_count(&out, "too many connections"), 1);
    client_close(&out);
    client_close(&in[0]); /* makes room for one more */
    assert_soon(is_served(&in[0]));
    for (int i = 0; i < LIMIT; i++)
        client_close(&in[i]);
    server_stop(&server);
}

static void test_deadlines(void **state)
{
    (void)state;
    struct client none, head, body, idle;
    server_prepare(&server);
    server.fixture.opts.served.limits.header_timeout_s =
        server.fixture.opts.served.limits.body_timeout_s = 1;
    server.fixture.opts.served.limits.keepalive_timeout_s = 1;
    server_start(&server);
    assert_true(client_connect(&none, server.port, 0) && client_connect(&head, server.port, 0) &&
                client_connect(&body, server.port, 0) && client_connect(&idle, server.port, 0));
    uint64_t start = clock_now_us();
    client_send_str(&idle, VERSION);
    client_send_str(&head, "GET /version HTTP/1.1\r\nX: ");
    client_send_str(&body, "POST " CHAT " HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n");
    /* Trickling does not help. */
    for (int i = 0; i < 10; i++) {
        clock_sleep_us(100000);
        client_send_str(&head, "x");
        client_send_str(&body, "x");
    }
    struct client *all[] = {&none, &head, &body, &idle};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        assert_true(client_until_closed(all[i]));
        assert_true(seconds_since(start) < MUCH_S);
        client_close(all[i]);
    }
    server_stop(&server);
}

static void test_silence_is_broken(void **state)
{
    (void)state;
    struct client c;
    server_prepare(&server);
    server.fixture.opts.served.limits.sse_keepalive_s = 1;
    atomic_store(&server.router.step_us, 0);
    server_start(&server);
    assert_true(client_connect(&c, server.port, 0));
    client_post(&c, CHAT, "", "{" HI ",\"max_tokens\":1,\"stream\":true}");
    client_until(&c, ": keep-alive\n\n", 2);
    router_step(&server.router);
    client_until(&c, "data: [DONE]\n\n", 1);
    client_close(&c);
    server_stop(&server);
}

static void test_keys(void **state)
{
    (void)state;
    struct edge_key keys[2] = {{.name = "one"}, {.name = "two"}};
    SHA256((const unsigned char *)"sk-1", 4, keys[0].sha256);
    SHA256((const unsigned char *)"sk-2", 4, keys[1].sha256);
    server_prepare(&server);
    server.fixture.opts.served.keys = keys;
    server.fixture.opts.served.n_keys = 2;
    server_start(&server);
    /* before the body is looked at */
    char *a = post(server.port, CHAT, "Authorization: Bearer sk-3\r\n", "not JSON");
    assert_int_equal(status_of(a), 401);
    assert_non_null(strstr(a, "WWW-Authenticate: Bearer\r\n"));
    assert_non_null(strstr(a, "\"type\":\"authentication_error\",\"param\":null,"
                              "\"code\":\"invalid_api_key\""));
    free(a);
    static const char *const guarded[] = {"/v1/models", "/v1/nothing", "/v1"};
    for (size_t i = 0; i < ARRAY_LEN(guarded); i++) {
        char request[128];
        snprintf(request, sizeof(request),
                 "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", guarded[i]);
        a = ask(server.port, request);
        assert_int_equal(status_of(a), 401);
        free(a);
    }
    a = ask(server.port, "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_int_equal(status_of(a), 200);
    free(a);
    a = ask(server.port, "OPTIONS /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_int_equal(status_of(a), 204);
    free(a);
    a = post(server.port, CHAT, "Authorization: bearer sk-2\r\n", "{" HI ",\"max_tokens\":2}");
    assert_int_equal(status_of(a), 200);
    free(a);
    server_stop(&server);
}

/* Connections come and go in every way at once; nothing leaks (ASan) or races (TSan). */
static void *hammer(void *arg)
{
    uint32_t x = *(const uint32_t *)arg;
    for (int i = 0; i < 150; i++) {
        struct client c;
        x = x * 1664525u + 1013904223u;
        uint32_t pick = (x >> 16) % 8;
        if (!client_connect(&c, server.port, 0))
            continue;
        if (pick > 0)
            client_post(&c, CHAT, pick == 1 ? "Connection: close\r\n" : "",
                        pick & 1 ? "{" HI ",\"max_tokens\":30,\"stream\":true}"
                                 : "{" HI ",\"max_tokens\":30,\"n\":2}");
        if (pick == 2)
            client_post(&c, TEXT, "", "{\"prompt\":[\"a\",\"b\"],\"max_tokens\":3}");
        if (pick == 3)
            shutdown(c.fd, SHUT_WR);
        if (pick > 4)
            client_read(&c, (int)((x >> 8) % 20));
        if (pick == 4)
            client_until(&c, "\"finish_reason\":\"length\"", 2);
        client_close(&c);
    }
    return NULL;
}

static void test_chaos(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    uint32_t seeds[THREADS] = {1, 2, 3, 4};
    server_prepare(&server);
    server_start(&server);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, &seeds[i]), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_soon(edge_active(server.edge) == 0 && router_running(&server.router) == 0);
    server_stop(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_stop_under_a_newcomer),
        cmocka_unit_test(test_stop_cuts_what_does_not_end),
        cmocka_unit_test(test_max_connections),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_silence_is_broken),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_chaos),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

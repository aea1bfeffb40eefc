/* Time limits of answers: in all, to the first token, between tokens, and of clients that take nothing.
 *
 * Each limit is two seconds. Three servers run at once: the setup asks all of them, the tests read. */
#include "tests/unit/edge_server.h"

static struct server in_all, tokens, taking;

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"

static struct client plain, stream, none, some, stuck, spared, deaf;
static uint64_t deaf_us; /* since when it takes nothing */

static void prepare(struct server *s, uint32_t step_us)
{
    server_prepare(s);
    s->fixture.served.max_model_len = 1u << 20;
    atomic_store(&s->router.step_us, step_us);
}

static void connect_and_post(struct client *c, struct server *s, int rcvbuf, const char *body)
{
    const uint32_t n = atomic_load(&s->router.n_submitted);
    assert_true(client_connect(c, s->port, rcvbuf));
    client_post(c, CHAT, "Connection: close\r\n", body);
    assert_soon(atomic_load(&s->router.n_submitted) == n + 1);
}

/* Asks for nothing good, over and over, and reads no answer until no more is taken from it. */
static void ask_in_vain(struct client *c, struct server *s)
{
    static const char bad[] = "POST " CHAT " HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
                              "Content-Type: application/json\r\n\r\n{}";
    const struct timeval patience = {.tv_usec = 300000};
    struct buf all = {0};
    for (int i = 0; i < 500; i++)
        buf_addstr(&all, bad);
    assert_true(client_connect(c, s->port, 2048));
    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    for (int i = 0; i < 200 && client_put(c, all.data, all.len) == (ssize_t)all.len; i++)
        ;
    buf_fini(&all);
    deaf_us = clock_now_us();
}

static int start(void **state)
{
    (void)state;
    prepare(&in_all, 0);
    in_all.fixture.opts.served.limits.request_timeout_s = 2;
    server_start(&in_all);
    prepare(&tokens, 0);
    tokens.fixture.opts.served.limits.first_token_timeout_s = 2;
    tokens.fixture.opts.served.limits.token_timeout_s = 2;
    server_start(&tokens);
    prepare(&taking, 50);
    taking.fixture.opts.served.limits.client_write_timeout_s = 2;
    taking.fixture.opts.served.limits.token_timeout_s = 2; /* does not count meanwhile */
    server_start(&taking);

    connect_and_post(&plain, &in_all, 0, "{" HI ",\"max_tokens\":9}");
    connect_and_post(&stream, &in_all, 0, "{" HI ",\"max_tokens\":9,\"stream\":true}");
    ask_in_vain(&deaf, &in_all);
    connect_and_post(&some, &tokens, 0, "{" HI ",\"max_tokens\":9,\"stream\":true}");
    router_step(&tokens.router);
    connect_and_post(&none, &tokens, 0, "{" HI ",\"max_tokens\":9}");
    connect_and_post(&stuck, &taking, 2048,
                     "{" HI ",\"max_tokens\":900000,\"n\":32,\"stream\":true}");
    return 0;
}

static int stop(void **state)
{
    (void)state;
    server_stop(&in_all);
    server_stop(&tokens);
    server_stop(&taking);
    return 0;
}

static void expect_metric(const struct server *s, const char *line)
{
    char *a = ask(s->port, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    if (!strstr(a, line))
        fail_msg("no %s in %s", line, a);
    free(a);
}

static void test_in_all(void **state)
{
    (void)state;
    assert_true(client_until_closed(&plain) && client_until_closed(&stream));
    assert_int_equal(status_of(buf_str(&plain.in)), 504);
    assert_int_equal(client_count(&plain, "within 2 s (request_timeout_s of the server)"), 1);
    assert_int_equal(client_count(&plain, "\"type\":\"TimeoutError\""), 1);
    assert_int_equal(status_of(buf_str(&stream.in)), 200);
    assert_int_equal(client_count(&stream, "data: {\"error\":{"), 1);
    assert_int_equal(client_count(&stream, "data: [DONE]\n\n"), 1);
    assert_soon(router_running(&in_all.router) == 0 || (router_step(&in_all.router), false));
    assert_int_equal(atomic_load(&in_all.router.n_cancelled), 2);
    expect_metric(&in_all, "llmd_edge_timeouts_total{reason=\"request_timeout\"} 2.0\n");
    client_close(&plain);
    client_close(&stream);
}

/* What was refused took no time; that its client takes no answer is another matter. */
static void test_refused_in_time(void **state)
{
    (void)state;
    while (clock_now_us() < deaf_us + 3000000)
        clock_sleep_us(10000);
    expect_metric(&in_all, "llmd_edge_timeouts_total{reason=\"request_timeout\"} 2.0\n");
    client_close(&deaf);
}

static void test_tokens(void **state)
{
    (void)state;
    assert_true(client_until_closed(&none) && client_until_closed(&some));
    assert_int_equal(status_of(buf_str(&none.in)), 504);
    assert_int_equal(client_count(&none, "within 2 s (first_token_timeout_s of"), 1);
    assert_int_equal(client_count(&some, "\"content\":\"a\""), 1);
    assert_int_equal(client_count(&some, "within 2 s (token_timeout_s of the server)"), 1);
    assert_int_equal(client_count(&some, "data: [DONE]\n\n"), 1);
    expect_metric(&tokens, "llmd_edge_timeouts_total{reason=\"first_token_timeout\"} 1.0\n");
    expect_metric(&tokens, "llmd_edge_timeouts_total{reason=\"token_timeout\"} 1.0\n");
    client_close(&none);
    client_close(&some);
}

/* Whoever takes a little now and then goes on. */
static void test_clients_that_take_nothing(void **state)
{
    (void)state;
    connect_and_post(&spared, &taking, 2048,
                     "{" HI ",\"max_tokens\":900000,\"n\":8,\"stream\":true}");
    assert_soon(client_read(&spared, 0) && atomic_load(&taking.router.n_cancelled) == 1);
    assert_int_equal(router_running(&taking.router), 1);
    expect_metric(&taking,
                  "llmd_edge_connections_dropped_total{reason=\"client_write_timeout\"} 1.0\n");
    expect_metric(&taking, "llmd_edge_timeouts_total{reason=\"token_timeout\"} 0.0\n");
    client_close(&spared);
    client_close(&stuck);
    assert_soon(edge_active(taking.edge) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_all),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_refused_in_time),
        cmocka_unit_test(test_clients_that_take_nothing),
    };
    return cmocka_run_group_tests(tests, start, stop);
}

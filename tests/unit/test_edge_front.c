/* What passes between a client and libmicrohttpd when one of them is ahead: bursts of tokens, replies
 * larger than all buffers, clients that leave behind what they sent. Once plain, once over TLS. */
#include "tests/unit/edge_server.h"
#include "tests/unit/tls_identity.h"

enum { ALIASES = 4000 };

static struct server server;
static struct identity identity;

/* All tokens of all requests at once, as when the loop was busy meanwhile. */
static void make_all(struct router *r)
{
    struct waker_set touched = {.n = 0};
    pthread_mutex_lock(&r->mu);
    while (r->n_runs > 0)
        if (run_step(r, &r->runs[r->n_runs - 1], &touched))
            request_unref(r->runs[--r->n_runs].request);
    pthread_mutex_unlock(&r->mu);
    waker_set_flush(&touched);
}

/* More than `out` holds waits in the ring, and no later token wakes the stream for its rest. */
static void test_a_burst_leaves_whole(void **state)
{
    (void)state;
    enum { CHOICES = SERVER_MAX_CHOICES, TOKENS = 4 };
    struct client c;
    char body[256], id[129], head[160];
    router_pace(&server.router, 0);
    memset(id, 'x', sizeof(id) - 1);
    id[sizeof(id) - 1] = '\0';
    snprintf(head, sizeof(head), "X-Request-Id: %s\r\n", id);
    snprintf(body, sizeof(body), "{\"prompt\":\"x\",\"n\":%d,\"max_tokens\":%d,\"stream\":true}",
             CHOICES, TOKENS);
    assert_true(client_connect(&c, server.port, 0));
    client_post(&c, TEXT, head, body);
    client_until(&c, "\r\n\r\n", 1);
    make_all(&server.router);
    client_until(&c, "data: [DONE]\n\n", 1);
    assert_true(c.in.len > 64 * 1024);
    assert_int_equal(client_count(&c, "\"text\":"), CHOICES * TOKENS);
    assert_int_equal(client_count(&c, "\"finish_reason\":\"length\""), CHOICES);
    client_close(&c);
    router_pace(&server.router, 500);
}

#define MODELS "GET /v1/models HTTP/1.1\r\nHost: x\r\n"

static void read_bytes(struct client *c, size_t n)
{
    while (c->in.len < n)
        if (!client_read(c, PATIENCE_MS))
            fail_msg("%zu bytes came, not %zu", c->in.len, n);
    assert_int_equal(c->in.len, n);
    buf_clear(&c->in);
}

/* Replies larger than all buffers on their way arrive whole, also while the loop sweeps. */
static void test_large_replies(void **state)
{
    (void)state;
    struct client c;
    assert_true(client_connect(&c, server.port, 0));
    client_send_str(&c, MODELS "Connection: close\r\n\r\n");
    assert_true(client_until_closed(&c));
    assert_int_equal(client_count(&c, "\"object\":\"model\""), ALIASES + 1);
    const size_t n = c.in.len - strlen("Connection: close\r\n");
    client_close(&c);
    assert_true(client_connect(&c, server.port, 0));
    for (uint64_t until = clock_now_us() + 1200000; clock_now_us() < until;) {
        client_send_str(&c, MODELS "\r\n" MODELS "\r\n" MODELS "\r\n");
        read_bytes(&c, 3 * n);
    }
    client_close(&c);
}

static int setup(void **state)
{
    (void)state;
    static char names[ALIASES][16];
    static const char *aliases[ALIASES];
    for (uint32_t i = 0; i < ALIASES; i++) {
        snprintf(names[i], sizeof(names[i]), "alias-%u", i);
        aliases[i] = names[i];
    }
    server_prepare(&server);
    server.fixture.served.aliases = aliases;
    server.fixture.served.n_aliases = ALIASES;
    if (client_tls)
        server_speak_tls(&server, &identity);
    server_start(&server);
    return 0;
}

static int setup_tls(void **state)
{
    identity_make(&identity, &(struct identity_opts){.name = "localhost"});
    client_tls = SSL_CTX_new(TLS_client_method());
    return setup(state);
}

/* A reply counts until its end has left: who stops when none counts any more cuts nothing off, however
 * slowly a client reads. */
static void test_a_slow_reply_survives_the_stop(void **state)
{
    struct client c;
    char data[4096];
    char *a = ask(server.port, MODELS "Connection: close\r\n\r\n");
    size_t left = strlen(a);
    free(a);
    assert_true(client_connect(&c, server.port, 2048));
    client_send_str(&c, MODELS "Connection: close\r\n\r\n");
    do {
        ssize_t n = client_get(&c, data, sizeof(data));
        assert_true(n >= 0);
        left -= (size_t)n;
        clock_sleep_us(200);
    } while (left > 0 && edge_active(server.edge) > 0);
    server_stop(&server);
    assert_true(client_until_closed(&c));
    assert_int_equal(c.in.len, left);
    client_close(&c);
    setup(state);
}

/* However much the client sent behind its request, its end is heard of while tokens are made: half of
 * an end as well, while the kernel can take all that was sent before. */
static void test_an_end_behind_much_input(void **state)
{
    (void)state;
    enum { STEP = 32 * 1024, N = 16, N_HALF = 9 };
    static char content[STEP];
    memset(content, 'x', sizeof(content));
    router_pace(&server.router, 20000); /* it would go on for 18 seconds */
    for (int n = 0; n < N; n++) {
        struct client c;
        uint32_t before = atomic_load(&server.router.n_cancelled);
        assert_true(client_connect(&c, server.port, 0));
        client_post(&c, TEXT, "", "{\"prompt\":\"x\",\"max_tokens\":900,\"stream\":true}");
        client_until(&c, "data: ", 1);
        client_send_str(&c, "POST " TEXT " HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
        for (int i = 0; i < n; i++)
            if (!client_try_send(&c, content, STEP))
                break;
        if (n < N_HALF)
            shutdown(c.fd, SHUT_WR);
        else
            client_leave(&c);
        wait_for(&server.router.n_cancelled, before + 1);
        if (n < N_HALF)
            client_leave(&c);
        buf_fini(&c.in);
    }
    router_pace(&server.router, 500);
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_burst_leaves_whole),
        cmocka_unit_test(test_large_replies),
        cmocka_unit_test(test_a_slow_reply_survives_the_stop),
        cmocka_unit_test(test_an_end_behind_much_input),
    };
    int rc = cmocka_run_group_tests_name("plain", tests, setup, teardown);
    return rc + cmocka_run_group_tests_name("tls", tests, setup_tls, teardown_tls);
}

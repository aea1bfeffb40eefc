/* What is served changes while the edge runs: streams go on by what they began with, newcomers go by
 * what is new, and nothing is kept longer than it is needed. */
#include <openssl/sha.h>

#include "core/edge/catalog.h"
#include "core/edge/edge_int.h"
#include "tests/unit/edge_server.h"

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static struct server server;
static struct fixture successor; /* a model of the same kind, elsewhere in memory */

static void serve(const struct model *model, const char *name, uint64_t generation,
                  const struct edge_key *keys, uint32_t n_keys)
{
    struct edge_model m = server.fixture.served;
    struct edge_served s = {.keys = keys, .n_keys = n_keys, .models = &m, .n_models = 1};
    struct err e = {0};
    s.limits = server.fixture.opts.served.limits;
    m.model = model;
    m.name = name;
    m.generation = generation;
    if (edge_set_catalog(server.edge, &s, &e) != 0)
        fail_msg("%s", e.msg);
}

static void wait_unused(const struct model *model)
{
    assert_soon(!edge_uses_model(server.edge, model));
}

static void start(void)
{
    server_prepare(&server);
    assert_true(fixture_init(&successor));
    server_start(&server);
}

static void stop(void)
{
    server_stop(&server);
    fixture_fini(&successor);
}

static void test_streams_keep_what_they_began_with(void **state)
{
    (void)state;
    struct client c;
    struct edge_key keys[2] = {{.name = "old"}, {.name = "new"}};
    SHA256((const unsigned char *)"sk-old", 6, keys[0].sha256);
    SHA256((const unsigned char *)"sk-new", 6, keys[1].sha256);
    start();
    serve(&server.fixture.model, "tiny", 1, &keys[0], 1);
    router_pace(&server.router, 0);
    assert_true(client_connect(&c, server.port, 0));
    client_post(&c, CHAT, "Authorization: Bearer sk-old\r\nConnection: close\r\n",
                "{" HI ",\"max_tokens\":20,\"stream\":true}");
    wait_for(&server.router.n_submitted, 1);
    router_step(&server.router);

    serve(&successor.model, "tiny", 2, &keys[1], 1); /* the old key, name and model are gone */
    assert_true(edge_uses_model(server.edge, &server.fixture.model));
    router_pace(&server.router, 500);
    assert_true(client_until_closed(&c));
    assert_int_equal(client_count(&c, "data: [DONE]\n\n"), 1);
    assert_int_equal(client_count(&c, "\"finish_reason\":\"length\""), 1);
    assert_int_equal(client_count(&c, "\"content\":\"t\""), 1); /* the last letter of twenty */
    client_close(&c);
    wait_unused(&server.fixture.model);
    assert_true(edge_uses_model(server.edge, &successor.model));

    char *a =
        post(server.port, CHAT, "Authorization: Bearer sk-old\r\n", "{" HI ",\"max_tokens\":2}");
    assert_int_equal(status_of(a), 401);
    free(a);
    a = post(server.port, CHAT, "Authorization: Bearer sk-new\r\n", "{" HI ",\"max_tokens\":2}");
    assert_int_equal(status_of(a), 200);
    assert_int_equal(atomic_load(&server.router.generation), 2);
    free(a);
    stop();
}

/* The body decides: it comes long after the head was admitted. */
static void test_a_request_goes_by_what_is_served_when_it_is_complete(void **state)
{
    (void)state;
    static const char body[] = "{" HI ",\"model\":\"newer\",\"max_tokens\":2}";
    struct client c;
    char head[256];
    start();
    assert_true(client_connect(&c, server.port, 0));
    snprintf(head, sizeof(head),
             "POST " CHAT " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
             "Connection: close\r\nContent-Length: %zu\r\n\r\n",
             strlen(body));
    client_send_str(&c, head);
    client_send(&c, body, 10);
    assert_soon(edge_active(server.edge) == 1);
    serve(&successor.model, "newer", 7, NULL, 0);
    client_send_str(&c, body + 10);
    assert_true(client_until_closed(&c));
    assert_int_equal(client_count(&c, "HTTP/1.1 200 "), 1);
    assert_int_equal(atomic_load(&server.router.generation), 7);
    client_close(&c);
    char *a = post(server.port, CHAT, "", "{" HI ",\"model\":\"tiny\",\"max_tokens\":2}");
    assert_int_equal(status_of(a), 404);
    assert_non_null(strstr(a, "Valid names: newer, alias, org/alias."));
    free(a);
    wait_unused(&server.fixture.model);
    stop();
}

static void replace(struct router *r)
{
    r->on_gone = NULL;
    serve(&successor.model, "tiny", 2, NULL, 0);
}

/* The model is replaced after the prompt was tokenized and before the router has the request. */
static void test_replaced_on_the_way(void **state)
{
    (void)state;
    start();
    serve(&server.fixture.model, "tiny", 1, NULL, 0);
    atomic_store(&server.router.gone, 1);
    server.router.on_gone = replace;
    char *a =
        post(server.port, TEXT, "", "{\"prompt\":[\"a\",\"b\"],\"max_tokens\":2,\"stream\":true}");
    assert_int_equal(status_of(a), 200);
    assert_non_null(strstr(a, "data: [DONE]"));
    assert_null(strstr(a, "error"));
    assert_int_equal(atomic_load(&server.router.generation), 2);
    free(a);
    wait_unused(&server.fixture.model);
    /* without a successor it is what it seems */
    atomic_store(&server.router.gone, 2);
    a = post(server.port, TEXT, "", "{\"prompt\":\"a\",\"max_tokens\":2}");
    assert_int_equal(status_of(a), 404);
    free(a);
    stop();
}

static void test_limits_change(void **state)
{
    (void)state;
    char big[3000];
    start();
    memset(big, ' ', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    memcpy(big, "{" HI ",\"max_tokens\":2}", sizeof("{" HI ",\"max_tokens\":2}") - 1);
    char *a = post(server.port, CHAT, "", big);
    assert_int_equal(status_of(a), 200);
    free(a);
    server.fixture.opts.served.limits.max_body_bytes = 1000;
    serve(&server.fixture.model, "tiny", 0, NULL, 0);
    a = post(server.port, CHAT, "", big);
    assert_int_equal(status_of(a), 413);
    free(a);
    stop();
}

/* Keys and limits may change every minute for years. */
static void test_what_was_served_is_freed(void **state)
{
    (void)state;
    uint32_t n_old = 0;
    start();
    for (uint32_t i = 0; i < 100; i++)
        serve(&server.fixture.model, "tiny", 0, NULL, 0);
    for (const struct catalog *c = server.edge->old; c; c = c->next)
        n_old++;
    assert_in_range(n_old, 0, 2);
    stop();
}

static void *ask_on(void *arg)
{
    enum { N = 40 };
    uint32_t *n_good = arg;
    for (uint32_t i = 0; i < N; i++) {
        char *a = post(server.port, CHAT, "", "{" HI ",\"max_tokens\":5,\"stream\":true}");
        *n_good += status_of(a) == 200 && strstr(a, "data: [DONE]") != NULL;
        free(a);
    }
    return NULL;
}

static void test_changes_under_load(void **state)
{
    (void)state;
    enum { CLIENTS = 4, ASKED = 40 };
    pthread_t clients[CLIENTS];
    uint32_t n_good[CLIENTS] = {0}, n_changes = 0;
    start();
    for (uint32_t i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&clients[i], NULL, ask_on, &n_good[i]), 0);
    while (atomic_load(&server.router.n_submitted) < CLIENTS * ASKED) {
        const bool even = n_changes++ % 2 == 0;
        serve(even ? &successor.model : &server.fixture.model, "tiny", n_changes, NULL, 0);
        (void)edge_uses_model(server.edge, &server.fixture.model);
        clock_sleep_us(500);
    }
    for (uint32_t i = 0; i < CLIENTS; i++) {
        pthread_join(clients[i], NULL);
        assert_int_equal(n_good[i], ASKED);
    }
    serve(&successor.model, "tiny", 0, NULL, 0);
    wait_unused(&server.fixture.model);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams_keep_what_they_began_with),
        cmocka_unit_test(test_a_request_goes_by_what_is_served_when_it_is_complete),
        cmocka_unit_test(test_replaced_on_the_way),
        cmocka_unit_test(test_limits_change),
        cmocka_unit_test(test_what_was_served_is_freed),
        cmocka_unit_test(test_changes_under_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_edge_keys.c - what a key may do, over real sockets: limits and their headers, models, expiry,
 * scopes, a prefix cache of its own; and what does not happen for who has none. */
#include <openssl/sha.h>

#include "core/edge/catalog.h"
#include "core/edge/edge_int.h"
#include "core/edge/routes.h"
#include "tests/unit/edge_server.h"

#define A     "Authorization: Bearer sk-a\r\n"
#define B     "Authorization: Bearer sk-b\r\n"
#define FIVE  "{\"prompt\":\"abcde\",\"max_tokens\":10}" /* 5 tokens of prompt, 10 of answer */
#define BLOCK "0123456789abcdef"

static struct server server;
static struct edge_key keys[2];

static void set_secret(struct edge_key *k, const char *secret)
{
    SHA256((const unsigned char *)secret, strlen(secret), k->sha256);
}

static void begin(void)
{
    memset(keys, 0, sizeof(keys));
    keys[0].name = "a";
    keys[1].name = "b";
    set_secret(&keys[0], "sk-a");
    set_secret(&keys[1], "sk-b");
    server_prepare(&server);
    server.fixture.opts.served.keys = keys;
    server.fixture.opts.served.n_keys = 2;
}

static void serve(bool share_prefixes, uint32_t n_keys)
{
    struct edge_served s = {.keys = keys,
                            .n_keys = n_keys,
                            .models = &server.fixture.served,
                            .n_models = 1,
                            .share_prefixes = share_prefixes,
                            .limits = server.fixture.opts.served.limits};
    struct err e = {0};
    assert_int_equal(edge_set_catalog(server.edge, &s, &e), 0);
}

static struct key_use *use_of(uint32_t i)
{
    return catalog_key_use(server.edge->catalog, &server.edge->catalog->keys[i]);
}

/* Until nothing of the key runs: its last reply may still be under way to its end. */
static void wait_idle(uint32_t i)
{
    wait_for(&use_of(i)->n_running, 0);
}

static uint32_t tokens_left(uint32_t i)
{
    return bucket_left(&use_of(i)->tokens, keys[i].limits.tokens_per_minute, clock_now_us() * 1000);
}

/* The value of a header as a number; fails when it is missing. */
static double header(const char *answer, const char *name)
{
    char line[64];
    snprintf(line, sizeof(line), "\r\n%s: ", name);
    const char *at = strcasestr(answer, line);
    if (!at)
        fail_msg("no %s in:\n%s", name, answer);
    return strtod(at + strlen(line), NULL);
}

static void expect(const char *headers, const char *body, int status, const char *words)
{
    char *a = post(server.port, TEXT, headers, body);
    if (status_of(a) != status || !strstr(a, words))
        fail_msg("wanted %d and '%s', got:\n%s", status, words, a);
    free(a);
}

/* ---- limits ---- */

static void test_requests_per_minute(void **state)
{
    (void)state;
    begin();
    keys[0].limits.requests_per_minute = 3;
    server_start(&server);
    for (int left = 2; left >= 0; left--) {
        char *a = post(server.port, TEXT, A, FIVE);
        assert_int_equal(status_of(a), 200);
        assert_true(header(a, "x-ratelimit-limit-requests") == 3);
        assert_true(header(a, "x-ratelimit-remaining-requests") == left);
        assert_null(strstr(a, "-tokens: ")); /* no such limit */
        free(a);
    }
    const uint64_t from = clock_now_us();
    char *a = post(server.port, TEXT, A, FIVE);
    const double took_s = (double)(clock_now_us() - from) * 1e-6 + 0.1;
    assert_int_equal(status_of(a), 429);
    /* one comes back every 20 seconds; the first was taken a moment ago */
    const double wait_ms = header(a, "retry-after-ms"), wait_s = header(a, "Retry-After");
    assert_true(wait_ms <= 20000 && wait_ms > 1000 && took_s > 0);
    assert_true(wait_s >= wait_ms / 1000 && wait_s < wait_ms / 1000 + 1);
    assert_true(header(a, "x-ratelimit-remaining-requests") == 0);
    assert_non_null(
        strstr(a, "\"type\":\"requests\",\"param\":null,\"code\":\"rate_limit_exceeded\""));
    assert_non_null(
        strstr(a, "Rate limit reached for key \\\"a\\\" on requests per minute: limit 3."));
    free(a);
    expect(B, FIVE, 200, "\"usage\""); /* another key's minute is its own */
    assert_int_equal(atomic_load(&server.router.n_submitted), 4);
    assert_int_equal(use_of(0)->n_limited[LIMIT_REQUESTS], 1);
    server_stop(&server);
}

/* What generates nothing counts as a request, too. */
static void test_tokenize_counts(void **state)
{
    (void)state;
    static const struct {
        const char *path, *body;
        int status, left;
    } asks[] = {{"/tokenize", "{\"prompt\":\"ab\"}", 200, 2},
                {"/detokenize", "{\"tokens\":[5]}", 200, 1},
                {"/tokenize", "{\"prompt\":7}", 400, 0},
                {"/detokenize", "{\"tokens\":[5]}", 429, 0}};
    begin();
    keys[0].limits.requests_per_minute = 3;
    server_start(&server);
    for (size_t i = 0; i < ARRAY_LEN(asks); i++) {
        char *a = post(server.port, asks[i].path, A, asks[i].body);
        assert_int_equal(status_of(a), asks[i].status);
        assert_true(header(a, "x-ratelimit-remaining-requests") == asks[i].left);
        assert_true((strcasestr(a, "retry-after-ms: ") != NULL) == (asks[i].status == 429));
        free(a);
    }
    wait_idle(0);
    assert_int_equal(use_of(0)->n_requests, 3);
    server_stop(&server);
}

static void test_tokens_are_settled(void **state)
{
    (void)state;
    begin();
    keys[0].limits.tokens_per_minute = 100000; /* 1,667 a second: what passes is seen, too */
    server_start(&server);
    router_pace(&server.router, 0);
    struct client c;
    assert_true(client_connect(&c, server.port, 0));
    client_post(&c, TEXT, A, "{\"prompt\":\"abcde\",\"max_tokens\":900,\"n\":2,\"temperature\":1}");
    wait_for(&server.router.n_submitted, 1);
    assert_in_range(tokens_left(0), 100000 - 1805, 100000); /* 5 + 2 * 900, less what came back */
    router_step(&server.router);
    router_pace(&server.router, 100);
    client_until(&c, "\"usage\"", 1);
    client_close(&c);
    wait_idle(0);
    assert_int_equal(use_of(0)->n_prompt_tokens, 5);
    assert_int_equal(use_of(0)->n_output_tokens, 1800);
    char *a = post(server.port, TEXT, A, FIVE);
    assert_true(header(a, "x-ratelimit-limit-tokens") == 100000);
    assert_true(header(a, "x-ratelimit-remaining-tokens") <= 100000);
    (void)header(a, "x-ratelimit-reset-tokens");
    free(a);
    server_stop(&server);
}

/* However it ends, what was not used comes back: the bucket refills too slowly to hide it. */
static void test_what_was_not_used_comes_back(void **state)
{
    (void)state;
    static const char stream[] = "{\"prompt\":\"abcde\",\"max_tokens\":500,\"stream\":true}";
    struct client c;
    begin();
    keys[0].limits = (struct key_limits){.requests_per_minute = 1000, .tokens_per_minute = 600};
    server_start(&server);
    router_pace(&server.router, 0);
    /* the client leaves */
    assert_true(client_connect(&c, server.port, 0));
    client_post(&c, TEXT, A, stream);
    wait_for(&server.router.n_submitted, 1);
    router_step(&server.router);
    client_until(&c, "data: ", 1);
    client_close(&c);
    router_pace(&server.router, 20000); /* ten seconds for the edge to see it */
    wait_idle(0);
    router_pace(&server.router, 500);
    assert_int_equal(use_of(0)->n_prompt_tokens, 5);
    assert_in_range(use_of(0)->n_output_tokens, 1, 490);
    assert_in_range(tokens_left(0), 600 - 5 - use_of(0)->n_output_tokens, 600);
    /* the worker fails */
    const uint64_t before = use_of(0)->n_output_tokens;
    atomic_store(&server.router.fail_after, 4);
    expect(A, "{\"prompt\":\"abcde\",\"max_tokens\":50}", 503, "scripted failure");
    wait_idle(0);
    assert_int_equal(use_of(0)->n_output_tokens, before + 4);
    atomic_store(&server.router.fail_after, 0);
    /* the router is full: then it is no request either */
    const uint64_t n = use_of(0)->n_requests;
    atomic_store(&server.router.refuse, LLMD_EFULL);
    expect(A, FIVE, 503, "scripted refusal");
    wait_idle(0);
    assert_int_equal(use_of(0)->n_requests, n);
    atomic_store(&server.router.refuse, 0);
    /* a body that is refused is one, and takes no tokens */
    expect(A, "{\"prompt\":7}", 400, "prompt");
    wait_idle(0);
    assert_int_equal(use_of(0)->n_requests, n + 1);
    assert_int_equal(use_of(0)->n_prompt_tokens, 10);
    server_stop(&server);
}

static void test_tokens_per_minute(void **state)
{
    (void)state;
    begin();
    keys[0].limits = (struct key_limits){.requests_per_minute = 10, .tokens_per_minute = 20};
    server_start(&server);
    expect(A, FIVE, 200, "\"usage\"");
    char *a = post(server.port, TEXT, A, FIVE); /* 15 of 20 are gone, and 15 are wanted */
    assert_int_equal(status_of(a), 429);
    const double wait_ms = header(a, "retry-after-ms");
    assert_true(wait_ms > 1000 && wait_ms <= 30000); /* 10 tokens at one in three seconds */
    assert_true(header(a, "x-ratelimit-remaining-requests") == 9); /* the refused is none */
    assert_non_null(
        strstr(a, "\"type\":\"tokens\",\"param\":null,\"code\":\"rate_limit_exceeded\""));
    free(a);
    /* never: a 400, which nobody tries again */
    expect(A, "{\"prompt\":\"abcdefghijklmnopqrstu\",\"max_tokens\":1}", 400,
           "the prompt has 21 tokens, and key \\\"a\\\" may use 20 per minute: it will never fit");
    server_stop(&server);
}

static void test_concurrent(void **state)
{
    (void)state;
    struct client c;
    begin();
    keys[0].limits.max_concurrent = 1;
    server_start(&server);
    router_pace(&server.router, 0);
    assert_true(client_connect(&c, server.port, 0));
    client_post(&c, TEXT, A, "{\"prompt\":\"a\",\"max_tokens\":50,\"stream\":true}");
    wait_for(&server.router.n_submitted, 1);
    char *a = post(server.port, TEXT, A, FIVE);
    assert_int_equal(status_of(a), 429);
    assert_true(header(a, "Retry-After") == 1);
    assert_non_null(strstr(a, "on concurrent requests: limit 1."));
    free(a);
    router_pace(&server.router, 500);
    expect(B, FIVE, 200, "\"usage\"");
    client_close(&c);
    wait_idle(0);
    expect(A, FIVE, 200, "\"usage\"");
    server_stop(&server);
}

/* ---- reloads ---- */

static void test_buckets_outlive_reloads(void **state)
{
    (void)state;
    begin();
    keys[0].limits.requests_per_minute = keys[1].limits.requests_per_minute = 1;
    server_start(&server);
    expect(A, FIVE, 200, "\"usage\"");
    expect(A, FIVE, 429, "requests per minute");
    for (int i = 0; i < 20; i++)
        serve(i % 2 == 0, 2);
    expect(A, FIVE, 429, "requests per minute");
    /* taken out and put back */
    struct edge_key first = keys[0];
    keys[0] = keys[1];
    serve(false, 1);
    expect(A, FIVE, 401, "invalid_api_key");
    keys[0] = first;
    serve(false, 2);
    expect(A, FIVE, 429, "requests per minute");
    expect(B, FIVE, 200, "\"usage\"");
    /* a higher limit takes effect at once: what was used is a share of it, and the next is there in
     * 60 us; a new secret is another key */
    keys[0].limits.requests_per_minute = 1000000;
    serve(false, 2);
    expect(A, FIVE, 200, "\"usage\"");
    keys[1].limits.requests_per_minute = 1;
    set_secret(&keys[1], "sk-new");
    serve(false, 2);
    expect(B, FIVE, 401, "invalid_api_key");
    expect("Authorization: Bearer sk-new\r\n", FIVE, 200, "\"usage\"");
    expect("Authorization: Bearer sk-new\r\n", FIVE, 429, "requests per minute");
    server_stop(&server);
}

/* States of keys that are gone do not pile up, and neither do their series. */
static void test_keys_that_come_and_go(void **state)
{
    (void)state;
    char name[16];
    uint32_t n = 0;
    begin();
    server.fixture.opts.served.limits.metrics = METRICS_ALL;
    server_start(&server);
    for (uint32_t i = 0; i < 300; i++) {
        snprintf(name, sizeof(name), "k%u", i);
        keys[1].name = name;
        set_secret(&keys[1], name);
        serve(false, 2);
    }
    for (struct key_state *s = server.edge->key_states.first; s; s = s->next)
        n++;
    assert_in_range(n, 2, 4);
    char *a = ask(server.port, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_non_null(strstr(a, "\nllmd_key_requests_total{key=\"a\"} 0.0\n"));
    assert_non_null(strstr(a, "\nllmd_key_limited_total{key=\"k299\",limit=\"tokens\"} 0.0\n"));
    assert_null(strstr(a, "k298"));
    free(a);
    server_stop(&server);
}

struct asker {
    const char *key;
    uint32_t n_good, n_late;
};

static void *ask_on(void *arg)
{
    enum { N = 40 };
    struct asker *k = arg;
    char line[64];
    snprintf(line, sizeof(line), "Authorization: Bearer %s\r\n", k->key);
    for (uint32_t i = 0; i < N; i++) {
        char *a =
            post(server.port, TEXT, line, "{\"prompt\":\"abc\",\"max_tokens\":5,\"stream\":true}");
        k->n_good += status_of(a) == 200 && strstr(a, "data: [DONE]") != NULL;
        k->n_late += status_of(a) == 401;
        free(a);
    }
    return NULL;
}

/* One key stays, the other comes and goes: who is allowed never notices. */
static void test_keys_change_under_load(void **state)
{
    (void)state;
    struct asker askers[4] = {{.key = "sk-a"}, {.key = "sk-b"}, {.key = "sk-a"}, {.key = "sk-b"}};
    pthread_t threads[4];
    begin();
    keys[0].limits = (struct key_limits){.requests_per_minute = 1000000, .max_concurrent = 10};
    server_start(&server);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_on, &askers[i]), 0);
    for (uint32_t i = 0; i < 200; i++) {
        keys[0].limits.tokens_per_minute = i % 3 ? 10000000 : 0;
        serve(i % 5 == 0, 1 + i % 2);
        clock_sleep_us(300);
    }
    serve(false, 2);
    for (uint32_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(askers[i].n_good + askers[i].n_late, 40);
        assert_true(i % 2 == 1 || askers[i].n_late == 0);
    }
    wait_idle(0);
    assert_int_equal(use_of(0)->n_requests, 80);
    assert_int_equal(use_of(0)->n_output_tokens, 400);
    server_stop(&server);
}

/* ---- what a key opens ---- */

static void test_models(void **state)
{
    (void)state;
    static const char *const by_alias[] = {"alias"}, *const other[] = {"other"};
    begin();
    keys[0].models = by_alias;
    keys[1].models = other;
    keys[0].n_models = keys[1].n_models = 1;
    server_start(&server);
    expect(A, "{\"prompt\":\"a\",\"max_tokens\":1,\"model\":\"tiny\"}", 200, "\"usage\"");
    expect(A, "{\"prompt\":\"a\",\"max_tokens\":1,\"model\":\"org/alias\"}", 200, "\"usage\"");
    /* as if it did not exist, and the first one is not its first */
    expect(B, "{\"prompt\":\"a\",\"max_tokens\":1,\"model\":\"tiny\"}", 404,
           "The model `tiny` does not exist. Valid names: .");
    expect(B, "{\"prompt\":\"a\",\"max_tokens\":1}", 404, "does not exist");
    char *a =
        ask(server.port, "GET /v1/models HTTP/1.1\r\nHost: x\r\n" A "Connection: close\r\n\r\n");
    assert_non_null(strstr(a, "\"id\":\"tiny\""));
    free(a);
    a = ask(server.port, "GET /v1/models HTTP/1.1\r\nHost: x\r\n" B "Connection: close\r\n\r\n");
    assert_non_null(strstr(a, "{\"object\":\"list\",\"data\":[]}"));
    free(a);
    a = ask(server.port,
            "GET /v1/models/tiny HTTP/1.1\r\nHost: x\r\n" B "Connection: close\r\n\r\n");
    assert_int_equal(status_of(a), 404);
    free(a);
    server_stop(&server);
}

static void test_expiry_and_scope(void **state)
{
    (void)state;
    begin();
    keys[0].expires_s = 1000000000;
    keys[1].scope = SCOPE_READ_ONLY;
    server_start(&server);
    expect(A, FIVE, 401, "the API key expired at 2001-09-09T01:46:40Z; ask for a new one");
    expect(A, FIVE, 401, "\"code\":\"expired_api_key\"");
    expect(B, FIVE, 403, "for looking only");
    static const struct {
        const char *line;
        int status;
    } looks[] = {{"GET /v1/models", 200},
                 {"GET /admin/v1/keys", 200},
                 {"HEAD /admin/v1/status", 200},
                 {"GET /admin/v1/nothing", 404},
                 {"POST /admin/v1/drain", 403},
                 {"POST /admin/v1/reload", 403},
                 {"DELETE /admin/v1/requests/x", 403},
                 {"POST /admin/v1/log_level", 403}};
    for (size_t i = 0; i < ARRAY_LEN(looks); i++) {
        char request[160];
        snprintf(request, sizeof(request),
                 "%s HTTP/1.1\r\nHost: x\r\n" B "Connection: close\r\n\r\n", looks[i].line);
        char *a = ask(server.port, request);
        if (status_of(a) != looks[i].status)
            fail_msg("%s: %s", looks[i].line, a);
        free(a);
    }
    keys[0].expires_s = (int64_t)(clock_wall_us() / 1000000) + 3600;
    serve(false, 2);
    expect(A, FIVE, 200, "\"usage\"");
    server_stop(&server);
}

static uint64_t salt_of(const char *headers, const char *more)
{
    char body[128];
    snprintf(body, sizeof(body), "{\"prompt\":\"" BLOCK "\",\"max_tokens\":1%s}", more);
    expect(headers, body, 200, "\"usage\"");
    return atomic_load(&server.router.cache_salt);
}

static void test_prefixes_are_a_key_s_own(void **state)
{
    (void)state;
    begin();
    server_start(&server);
    const uint64_t a = salt_of(A, ""), b = salt_of(B, "");
    const uint64_t a_x = salt_of(A, ",\"cache_salt\":\"x\""),
                   b_x = salt_of(B, ",\"cache_salt\":\"x\"");
    assert_true(a != 0 && b != 0 && a != b && a_x != a && b_x != b && a_x != b_x);
    serve(false, 2); /* a reload changes nothing */
    assert_int_equal(salt_of(A, ""), a);
    serve(true, 2);
    assert_int_equal(salt_of(A, ""), 0);
    assert_int_equal(salt_of(A, ",\"cache_salt\":\"x\""), salt_of(B, ",\"cache_salt\":\"x\""));
    serve(false, 0); /* without keys nothing is salted */
    assert_int_equal(salt_of("", ""), 0);
    server_stop(&server);
}

static int compare_salts(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* No two keys and salts share one, and a key's own is not what another may ask for. */
static void test_salts_never_meet(void **state)
{
    (void)state;
    enum { N = 3000 };
    static uint64_t all[3 * N];
    begin();
    server_start(&server);
    const struct catalog *c = server.edge->catalog;
    for (uint64_t i = 0; i < N; i++) {
        all[3 * i] = catalog_prefix_salt(c, &c->keys[0], i);
        all[3 * i + 1] = catalog_prefix_salt(c, &c->keys[1], i);
        all[3 * i + 2] = catalog_prefix_salt(c, &c->keys[0], all[3 * i]);
    }
    qsort(all, ARRAY_LEN(all), sizeof(all[0]), compare_salts);
    assert_true(all[0] != 0);
    for (size_t i = 1; i < ARRAY_LEN(all); i++)
        assert_true(all[i] != all[i - 1]);
    server_stop(&server);
}

static int64_t priority_of(const char *more)
{
    char body[128];
    snprintf(body, sizeof(body), "{\"prompt\":\"a\",\"max_tokens\":1%s}", more);
    expect(A, body, 200, "\"usage\"");
    return atomic_load(&server.router.priority);
}

static void test_priority(void **state)
{
    (void)state;
    begin();
    keys[0].priority = -5;
    server_start(&server);
    assert_int_equal(priority_of(""), -5);
    assert_int_equal(priority_of(",\"priority\":3"), 3);
    assert_int_equal(priority_of(",\"priority\":-5"), -5);
    assert_int_equal(priority_of(",\"priority\":-6"), -5);
    server_stop(&server);
}

/* ---- who has none ---- */

/* The body of a stranger is neither waited for nor looked at; nothing behind the edge hears of it. */
static void test_strangers_cost_nothing(void **state)
{
    (void)state;
    struct client c;
    begin();
    server_start(&server);
    static const char *const heads[] = {
        "Content-Length: 60000\r\n", "Transfer-Encoding: chunked\r\n",
        "Content-Length: 60000\r\nExpect: 100-continue\r\n", "Content-Length: 99999999\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        assert_true(client_connect(&c, server.port, 0));
        client_send_str(&c, "POST " CHAT " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-x\r\n");
        client_send_str(&c, heads[i]);
        client_send_str(&c, "\r\n"); /* and not a byte of the body */
        client_until(&c, "HTTP/1.1 401 ", 1);
        client_until(&c, "invalid_api_key", 1);
        client_close(&c);
    }
    /* a small one is dropped, and the connection goes on */
    assert_true(client_connect(&c, server.port, 0));
    for (uint32_t i = 1; i <= 3; i++) {
        client_post(&c, CHAT, "Authorization: Bearer sk-x\r\n", "\xff no JSON");
        client_until(&c, "HTTP/1.1 401 ", i);
    }
    client_close(&c);
    assert_int_equal(atomic_load(&server.router.n_submitted), 0);
    for (uint32_t i = 0; i < 2; i++)
        assert_true(use_of(i)->n_requests == 0 && use_of(i)->n_running == 0);
    server_stop(&server);
}

/* What asks for no key keeps no body: 4096 connections with 4 MiB each would be 16 GiB of strangers. */
static void test_bodies_of_open_routes_are_not_kept(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path;
        size_t n_kept;
    } cases[] = {
        {"POST", CHAT, 4},
        {"POST", "/admin/v1/drain", 4},
        {"OPTIONS", CHAT, 0}, /* a browser's question, which any page may make it ask */
        {"POST", "/ping", 0},
        {"GET", "/ping", 0},
        {"GET", "/admin/v1/reload", 0},
    };
    begin();
    server_start(&server);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct exchange ex = {.catalog = server.edge->catalog,
                              .route = route_find(cases[i].path),
                              .method = cases[i].method};
        assert_true(body_take(&ex, "body", 4));
        assert_int_equal(ex.n_body, 4);
        assert_int_equal(ex.body.len, cases[i].n_kept);
        buf_fini(&ex.body);
    }
    server_stop(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_per_minute),
        cmocka_unit_test(test_tokenize_counts),
        cmocka_unit_test(test_tokens_are_settled),
        cmocka_unit_test(test_what_was_not_used_comes_back),
        cmocka_unit_test(test_tokens_per_minute),
        cmocka_unit_test(test_concurrent),
        cmocka_unit_test(test_buckets_outlive_reloads),
        cmocka_unit_test(test_keys_that_come_and_go),
        cmocka_unit_test(test_keys_change_under_load),
        cmocka_unit_test(test_models),
        cmocka_unit_test(test_expiry_and_scope),
        cmocka_unit_test(test_prefixes_are_a_key_s_own),
        cmocka_unit_test(test_salts_never_meet),
        cmocka_unit_test(test_priority),
        cmocka_unit_test(test_strangers_cost_nothing),
        cmocka_unit_test(test_bodies_of_open_routes_are_not_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

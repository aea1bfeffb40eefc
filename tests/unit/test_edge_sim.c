/* The edge over a real router and real workers (simulated device): what a client's leaving frees,
 * and how soon; shutdown in the order that serve uses. */
#include "tests/unit/edge_client.h"
#include "tests/unit/worker_fixture.h"

#include "core/edge/edge.h"
#include "core/observe/log.h"
#include "core/router/router.h"

#define LONG "{\"prompt\":\"x\",\"max_tokens\":400,\"ignore_eos\":true"

struct world {
    struct sample_llama sample;
    struct worker_opts worker;
    struct router *router;
    struct edge_model model;
    struct edge *edge;
    uint16_t port;
};

static void world_start_small(struct world *w, uint64_t step_us, uint32_t max_num_seqs,
                              uint32_t n_kv_blocks)
{
    static const struct edge_listener listen[] = {{.address = "127.0.0.1:0"}};
    struct err e = {0};
    memset(w, 0, sizeof(*w));
    log_init(STDERR_FILENO, LOG_ERROR, false);
    sample_open(&w->sample);
    w->worker = sim_worker_opts(&w->sample);
    w->worker.sim_step_us = step_us;
    w->worker.max_num_seqs = max_num_seqs;
    w->worker.kv_cache_blocks = n_kv_blocks;
    w->model = (struct edge_model){
        .name = "tiny", .model = w->sample.model, .max_model_len = w->worker.max_model_len};
    const struct router_model_opts route = {.max_queue = 64, .max_migrations = 2};
    assert_int_equal(router_new(&w->router, &e), 0);
    assert_int_equal(router_add_model(w->router, "tiny", &route, &e), 0);
    assert_int_equal(router_start_worker(w->router, "tiny", &w->worker, &e), 0);
    const struct edge_opts opts = {
        .listen = listen,
        .n_listen = 1,
        .n_threads = 2,
        .served = {.models = &w->model,
                   .n_models = 1,
                   .limits = {.max_body_bytes = 65536,
                              .header_timeout_s = 10,
                              .body_timeout_s = 10,
                              .keepalive_timeout_s = 10,
                              .client_write_timeout_s = 60,
                              .stall_us = 10000000}},
        .router = w->router,
        .max_connections = 100,
    };
    if (edge_start(&opts, &w->edge, &e) != 0)
        fail_msg("%s", e.msg);
    w->port = edge_port(w->edge, 0);
    assert_soon(router_all_ready(w->router));
}

static void world_start(struct world *w, uint64_t step_us, uint32_t max_num_seqs)
{
    world_start_small(w, step_us, max_num_seqs, 256);
}

static void world_stop(struct world *w)
{
    (void)router_shutdown(w->router, clock_now_us());
    edge_stop(w->edge);
    router_free(w->router);
    sample_close(&w->sample);
}

static struct worker_status status(struct world *w)
{
    struct router_worker_view v;
    assert_int_equal(router_workers(w->router, &v, 1), 1);
    return v.status;
}

/* Waits until so many sequences run and requests wait, at the worker or in the router; returns the
 * status that said so. */
static struct worker_status settle(struct world *w, uint32_t n_running, uint32_t n_waiting)
{
    const uint64_t until = clock_now_us() + PATIENCE_US;
    for (;;) {
        struct router_model_view m;
        assert_true(router_model(w->router, "tiny", &m));
        struct worker_status s = status(w);
        if (s.n_running == n_running && s.n_waiting + m.n_waiting == n_waiting)
            return s;
        if (clock_now_us() > until)
            fail_msg("%u running, %u waiting; wanted %u, %u", s.n_running,
                     s.n_waiting + m.n_waiting, n_running, n_waiting);
        clock_sleep_us(200);
    }
}

static void test_a_stream_runs_through(void **state)
{
    (void)state;
    struct world w;
    world_start(&w, 100, 16);
    char *a =
        post(w.port, CHAT, "",
             "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"max_tokens\":20,"
             "\"ignore_eos\":true,\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    assert_int_equal(status_of(a), 200);
    assert_non_null(strstr(a, "\"completion_tokens\":20,"));
    assert_non_null(strstr(a, "data: [DONE]\n\n"));
    uint32_t n = 0;
    for (const char *at = a; (at = strstr(at, "\"delta\":{\"content\"")) != NULL; at++)
        n++;
    assert_int_equal(n, 20);
    free(a);
    /* The same prompt again comes from the prefix cache, and says so. */
    static const char again[] =
        "{\"prompt\":\"a prompt that is longer than a block of the KV cache is\",\"max_tokens\":1}";
    free(post(w.port, TEXT, "", again));
    a = post(w.port, TEXT, "", again);
    assert_non_null(strstr(a, "\"cached_tokens\":"));
    assert_null(strstr(a, "\"cached_tokens\":0,"));
    free(a);
    world_stop(&w);
}

/* A pool smaller than the context: who says no number gets what fits, who says one too large 413. */
static void test_a_small_pool(void **state)
{
    (void)state;
    struct world w;
    world_start_small(&w, 100, 16, 8);
    static const char hi[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],"
                             "\"ignore_eos\":true,\"max_tokens\":%s}";
    char body[160];
    snprintf(body, sizeof(body), hi, "null");
    char *a = post(w.port, CHAT, "", body);
    assert_int_equal(status_of(a), 200);
    assert_non_null(strstr(a, "\"finish_reason\":\"length\""));
    assert_non_null(strstr(a, "\"total_tokens\":129,")); /* the last is never fed */
    free(a);
    snprintf(body, sizeof(body), hi, "300");
    a = post(w.port, CHAT, "", body);
    assert_int_equal(status_of(a), 413);
    free(a);
    world_stop(&w);
}

/* How many steps a request runs on after its client has left. */
static uint64_t steps_after_hang_up(struct world *w, bool streaming)
{
    struct client c;
    const uint32_t n_free = status(w).n_free_kv_blocks;
    assert_true(client_connect(&c, w->port, 0));
    client_post(&c, TEXT, "", streaming ? LONG ",\"stream\":true}" : LONG "}");
    settle(w, 1, 0);
    const uint64_t before = status(w).n_steps;
    client_close(&c);
    const struct worker_status after = settle(w, 0, 0);
    assert_int_equal(after.n_free_kv_blocks, n_free);
    return after.n_steps - before;
}

/* Within two steps: the one that runs when the client leaves, and the next. A busy machine may keep the
 * edge from running for longer than a step: the best of some tries counts. */
static void test_hang_up_frees_within_two_steps(void **state)
{
    (void)state;
    struct world w;
    world_start(&w, 100000, 16);
    for (int streaming = 0; streaming < 2; streaming++) {
        uint64_t best = UINT64_MAX;
        for (int i = 0; i < 10 && best > 2; i++)
            best = u64_min(best, steps_after_hang_up(&w, streaming));
        assert_in_range(best, 0, 2);
    }
    world_stop(&w);
}

/* Its status comes with its first token, and before it. */
static void test_a_stream_that_waits_begins_with_its_head(void **state)
{
    (void)state;
    struct world w;
    struct client c[3];
    world_start(&w, 5000, 1);
    for (int i = 0; i < 3; i++) {
        assert_true(client_connect(&c[i], w.port, 0));
        client_post(&c[i], TEXT, "",
                    "{\"prompt\":\"x\",\"max_tokens\":20,\"ignore_eos\":true,\"stream\":true}");
        if (i == 0)
            client_until(&c[i], "data: {", 1);
    }
    for (int i = 0; i < 3; i++) {
        client_until(&c[i], "data: [DONE]\n\n", 1);
        assert_int_equal(status_of(buf_str(&c[i].in)), 200);
        assert_int_equal(client_count(&c[i], "X-Llmd-Worker: 0\r\n"), 1);
        assert_int_equal(client_count(&c[i], "HTTP/1.1 "), 1);
        assert_int_equal(client_count(&c[i], "data: {"), 20);
        client_close(&c[i]);
    }
    world_stop(&w);
}

static void test_hang_up_in_the_queue(void **state)
{
    (void)state;
    struct world w;
    struct client running, queued[3];
    world_start(&w, 40000, 1); /* the first goes on for 16 seconds */
    assert_true(client_connect(&running, w.port, 0));
    client_post(&running, TEXT, "", LONG ",\"stream\":true}");
    settle(&w, 1, 0);
    for (int i = 0; i < 3; i++) {
        assert_true(client_connect(&queued[i], w.port, 0));
        client_post(&queued[i], TEXT, "", i ? LONG "}" : LONG ",\"stream\":true}");
    }
    settle(&w, 1, 3);
    for (int i = 0; i < 3; i++)
        client_close(&queued[i]);
    settle(&w, 1, 0);
    client_until(&running, "data: ", 10); /* undisturbed */
    client_close(&running);
    settle(&w, 0, 0);
    world_stop(&w);
}

static void test_shutdown_tells_everybody(void **state)
{
    (void)state;
    enum { N = 8 };
    struct world w;
    struct client streams[N], plains[N];
    world_start(&w, 40000, 4); /* most of them wait, for 16 seconds */
    for (int i = 0; i < N; i++) {
        assert_true(client_connect(&streams[i], w.port, 0) &&
                    client_connect(&plains[i], w.port, 0));
        client_post(&streams[i], TEXT, "", LONG ",\"stream\":true}");
        client_post(&plains[i], TEXT, "", LONG "}");
    }
    settle(&w, 4, 2 * N - 4);
    edge_drain(w.edge);
    world_stop(&w);
    int n_refused = 0;
    for (int i = 0; i < N; i++) {
        assert_true(client_until_closed(&streams[i]));
        assert_int_equal(client_count(&streams[i], "\"code\":503"), 1);
        const int refused = client_count(&streams[i], "HTTP/1.1 503 "); /* it had not begun */
        assert_int_equal(client_count(&streams[i], "data: [DONE]\n\n"), 1 - refused);
        n_refused += refused;
        assert_true(client_until_closed(&plains[i]));
        assert_int_equal(client_count(&plains[i], "HTTP/1.1 503 "), 1);
        client_close(&streams[i]);
        client_close(&plains[i]);
    }
    assert_in_range(n_refused, N - 4, N);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stream_runs_through),
        cmocka_unit_test(test_a_small_pool),
        cmocka_unit_test(test_hang_up_frees_within_two_steps),
        cmocka_unit_test(test_a_stream_that_waits_begins_with_its_head),
        cmocka_unit_test(test_hang_up_in_the_queue),
        cmocka_unit_test(test_shutdown_tells_everybody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

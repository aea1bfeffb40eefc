/* What the status page paints: percentiles, rates, history, the verdict; the snapshot and its stream. */
#include "tests/unit/edge_server.h"

#include <jansson.h>
#include <math.h>
#include <openssl/sha.h>

#include "core/edge/edge_int.h"
#include "core/edge/page.h"
#include "core/observe/metrics_read.h"
#include "core/util/json.h"

/* ---- figures ---- */

static void test_percentiles_between_two_readings(void **state)
{
    (void)state;
    static const double bounds[] = {1, 2, 4};
    struct metrics *m = metrics_new();
    struct metric_histogram *a =
        metrics_histogram(m, "x_seconds", "x", "engine=\"0\",model_name=\"m\"", bounds, 3);
    struct metric_histogram *b = metrics_histogram(m, "x_seconds", "x", "engine=\"1\"", bounds, 3);
    struct metric_buckets before, now;
    metrics_buckets(m, "x_seconds", "", &before);
    assert_int_equal(before.n, 4);
    assert_true(isnan(metric_buckets_quantile(&before, &before, 0.5)));
    metric_observe_n(a, 0.5, 10);
    metric_observe_n(b, 1.5, 10);
    metrics_buckets(m, "x_seconds", "", &now);
    assert_float_equal(metric_buckets_quantile(&now, &before, 0.5), 1, 1e-9);
    assert_float_equal(metric_buckets_quantile(&now, &before, 0.25), 0.5, 1e-9);
    assert_float_equal(metric_buckets_quantile(&now, &before, 0.75), 1.5, 1e-9);
    before = now;
    metric_observe_n(a, 100, 1); /* above all bounds */
    metrics_buckets(m, "x_seconds", "", &now);
    assert_float_equal(metric_buckets_quantile(&now, &before, 0.5), 4, 1e-9);
    metrics_buckets(m, "x_seconds", "engine=\"1\"", &now); /* of one worker alone */
    assert_int_equal(now.counts[0], 0);
    assert_int_equal(now.counts[1], 10);
    metrics_buckets(m, "x_seconds", "engine=\"10\"", &now);
    assert_int_equal(now.n, 0);
    metrics_buckets(m, "none", "", &now);
    assert_int_equal(now.n, 0);
    assert_true(isnan(metric_buckets_quantile(&now, &now, 0.5)));

    metric_add(metrics_counter(m, "c_total", "c", "engine=\"0\""), 3);
    metric_add(metrics_counter(m, "c_total", "c", "engine=\"11\""), 4);
    /* a value that looks like a label is none */
    metric_add(metrics_counter(m, "c_total", "c", "model_name=\"a,engine=\\\"0\\\"\""), 8);
    metric_set(metrics_gauge(m, "g", "g", ""), 0.5);
    assert_float_equal(metrics_sum(m, "c_total", ""), 15, 0);
    assert_float_equal(metrics_sum(m, "c_total", "engine=\"0\""), 3, 0);
    assert_float_equal(metrics_sum(m, "c_total", "engine=\"1\""), 0, 0);
    assert_float_equal(metrics_sum(m, "g", ""), 0.5, 0);
    assert_float_equal(metrics_sum(m, "none", ""), 0, 0);
    metrics_free(m);
}

static void test_rates(void **state)
{
    (void)state;
    static struct page_rates r;
    struct metrics *m = metrics_new();
    struct metric_counter *tokens =
        metrics_counter(m, "vllm:generation_tokens_total", "t", "engine=\"2\"");
    struct router_worker_view worker = {.index = 2, .place = 7};
    struct rates_facts f = {.workers = &worker, .n_workers = 1, .kv = NAN, .n_running = 3};
    struct page_sample s;
    struct worker_rates w;
    memset(&r, 0, sizeof(r));
    page_rates_read(&r, m, &f);
    page_rates_sample(&r, &f, 1, &s); /* of one reading nothing can be told */
    assert_true(isnan(s.v[COLUMN_tok_s]) && isnan(s.v[COLUMN_ttft_p50]) && isnan(s.v[COLUMN_kv]));
    for (int i = 1; i <= 200; i++) { /* 100 tokens a second, then 50 */
        f.now_us += 1000000;
        metric_add(tokens, i <= 100 ? 100 : 50);
        f.n_requests += 2;
        page_rates_read(&r, m, &f);
        if (i == 105) {
            page_rates_sample(&r, &f, 10, &s);
            assert_float_equal(s.v[COLUMN_tok_s], 75, 1e-3);
        }
    }
    page_rates_sample(&r, &f, 60, &s);
    assert_float_equal(s.v[COLUMN_tok_s], 50, 1e-3);
    assert_float_equal(s.v[COLUMN_req_s], 2, 1e-3);
    assert_float_equal(s.v[COLUMN_running], 3, 0);
    assert_true(isnan(s.v[COLUMN_hit_rate]));
    page_rates_worker(&r, 7, &w);
    assert_float_equal(w.tok_s, 50, 1e-3);
    assert_true(isnan(w.hit_rate));
    page_rates_worker(&r, 8, &w);
    assert_true(isnan(w.tok_s));
    /* workers that come and go do not fill the table */
    for (uint64_t place = 100; place < 100 + 3 * RATES_WORKERS; place++) {
        worker.place = place;
        page_rates_read(&r, m, &f);
        page_rates_worker(&r, place, &w);
        assert_float_equal(w.preemptions, 0, 0);
    }
    metrics_free(m);
}

static void test_history(void **state)
{
    (void)state;
    struct page_history h = {.rings = {{.all = NULL}}};
    struct buf text = {0};
    struct err e = {0};
    json_t *v = NULL;
    assert_int_equal(page_history_init(&h), 0);
    for (int i = 0; i < 1000; i++) {
        struct page_sample s = {.t = 5000 + i};
        for (int c = 0; c < N_PAGE_COLUMNS; c++)
            s.v[c] = c == COLUMN_tok_s ? (float)i : NAN;
        page_history_add(&h, SPAN_15M, &s);
    }
    page_history_add_json(&h, SPAN_15M, 0, "p", &text);
    assert_int_equal(json_parse(buf_str(&text), text.len, &v, &e), 0);
    const json_t *t = json_object_get(v, "t"), *tok = json_object_get(v, "tok_s");
    assert_int_equal(json_array_size(t), 900);
    assert_int_equal(json_integer_value(json_array_get(t, 0)), 5100);
    assert_int_equal(json_integer_value(json_array_get(t, 899)), 5999);
    assert_float_equal(json_number_value(json_array_get(tok, 899)), 999, 0);
    for (int c = 0; c < N_PAGE_COLUMNS; c++)
        assert_int_equal(json_array_size(json_object_get(v, page_column_name(c))), 900);
    assert_true(json_is_null(json_array_get(json_object_get(v, "kv"), 5)));
    json_decref(v);
    buf_clear(&text);
    page_history_add_json(&h, SPAN_15M, 5997, "p", &text); /* what is newer alone */
    assert_non_null(strstr(buf_str(&text), "\"t\":[5998,5999],"));
    buf_clear(&text);
    page_history_add_json(&h, SPAN_15M, 5999, "p", &text);
    assert_non_null(strstr(buf_str(&text), "\"t\":[],\"ttft_p50\":[],"));
    buf_clear(&text);
    page_history_add_json(&h, SPAN_6H, 0, "p", &text);
    assert_non_null(strstr(buf_str(&text), "\"span\":\"6h\",\"step\":15,\"t\":[],\"ttft_p50\":[]"));
    buf_fini(&text);
    page_history_fini(&h);
}

/* ---- the verdict ---- */

static void expect_verdict(struct page_health *h, const struct health_facts *f,
                           enum verdict_state want, const char *words)
{
    page_health_judge(h, f);
    if (h->state != want || !strstr(h->reason, words))
        fail_msg("wanted %s and '%s', got %s: %s", verdict_state_name(want), words,
                 verdict_state_name(h->state), h->reason);
}

/* Both are JSON, and the level is that. */
static void expect_json(const struct page_health *h, const char *level)
{
    struct buf text = {0};
    json_t *v = NULL;
    page_health_add_verdict(h, &text);
    assert_int_equal(json_parse(buf_str(&text), text.len, &v, NULL), 0);
    assert_string_equal(json_string_value(json_object_get(v, "level")), level);
    json_decref(v);
    buf_clear(&text);
    page_health_add_problems(h, &text);
    assert_int_equal(json_parse(buf_str(&text), text.len, &v, NULL), 0);
    json_decref(v);
    buf_fini(&text);
}

static void test_verdict(void **state)
{
    (void)state;
    struct router_worker_view w[2] = {{.model = "m", .n_starts = 1},
                                      {.index = 1, .model = "m", .n_starts = 1}};
    struct health_model model = {.name = "m"};
    struct page_health h = {.since_us = 0};
    struct health_facts f = {.now_us = 1000000,
                             .wall_us = 5000000,
                             .progressing = true,
                             .models = &model,
                             .n_models = 1,
                             .workers = w,
                             .n_workers = 2,
                             .kv = NAN};
    w[1].status.state = WORKER_LOADING;
    w[1].status.load =
        (struct load_progress){.done_bytes = 43, .total_bytes = 100, .elapsed_us = 1000000};
    expect_verdict(&h, &f, VERDICT_LOADING, "m loads: 43 %");
    assert_int_equal(h.since_us, 5000000);
    w[0].status.state = w[1].status.state = WORKER_READY;
    model.ready = true;
    f.wall_us += 1000000;
    f.n_running = 2;
    expect_verdict(&h, &f, VERDICT_SERVING, "2 requests run on 2 workers");
    assert_int_equal(h.since_us, 6000000);
    f.n_running = 0;
    f.wall_us += 30000000;
    f.now_us += 30000000;
    expect_verdict(&h, &f, VERDICT_SERVING, "0 requests run");
    assert_int_equal(h.since_us, 6000000); /* it is as it was */
    f.now_us += 31000000;
    expect_verdict(&h, &f, VERDICT_IDLE, "nothing to do");

    w[1].status.state = WORKER_DEAD;
    snprintf(w[1].error, sizeof(w[1].error), "no \"luck\"");
    expect_verdict(&h, &f, VERDICT_DEGRADED, "worker 1 of m is dead: no \"luck\"");
    assert_int_equal(h.level, LEVEL_BAD);
    w[1].drained = true; /* an operator wanted it so */
    expect_verdict(&h, &f, VERDICT_IDLE, "1 worker is ready");
    f.n_waiting = 60;
    for (int i = 0; i < 4; i++)
        expect_verdict(&h, &f, VERDICT_SERVING, "60 wait"); /* for seconds: no problem yet */
    expect_verdict(&h, &f, VERDICT_DEGRADED, "60 requests wait");
    f.kv = 0.99;
    for (int i = 0; i < 5; i++)
        page_health_judge(&h, &f);
    assert_true(h.problems[PROBLEM_KV_FULL].since_us > 0 && h.problems[PROBLEM_QUEUE].since_us > 0);
    f.n_waiting = 0;
    f.kv = 0.5;
    f.reload_fault = "llmd.conf:3: no";
    expect_verdict(&h, &f, VERDICT_DEGRADED, "the last reload failed: llmd.conf:3: no");
    f.reload_fault = NULL;
    f.request_log_fault = "disk full";
    expect_verdict(&h, &f, VERDICT_DEGRADED, "disk full");
    f.request_log_fault = NULL;
    f.certificate_expires = (int64_t)(f.wall_us / 1000000) + 3600;
    expect_verdict(&h, &f, VERDICT_DEGRADED, "the certificate expires in 1 h");
    f.certificate_expires = 0;
    f.requests_s = 10;
    f.failed_s = 1;
    expect_verdict(&h, &f, VERDICT_DEGRADED, "10.0 % of the last minute's requests failed");
    f.failed_s = 0;

    model.ready = false;
    w[0].status.state = WORKER_DEAD;
    expect_verdict(&h, &f, VERDICT_DOWN, "m has no worker: no \"luck\"");
    f.progressing = false;
    expect_verdict(&h, &f, VERDICT_STALLED, "no worker makes a step");
    f.draining = true;
    f.n_answering = 1;
    expect_verdict(&h, &f, VERDICT_DRAINING, "1 answer is still under way");
    f.draining = false;
    f.progressing = true;
    f.n_models = 0;
    expect_verdict(&h, &f, VERDICT_DOWN, "no model is configured");
    expect_json(&h, "bad");
}

/* ---- the stream ---- */

static struct server server;
static struct edge_key keys[] = {{.name = "ops", .scope = SCOPE_ADMIN},
                                 {.name = "eye", .scope = SCOPE_READ_ONLY}};

static void begin(void)
{
    server_prepare(&server);
    SHA256((const unsigned char *)"sk-ops", 6, keys[0].sha256);
    SHA256((const unsigned char *)"sk-eye", 6, keys[1].sha256);
    server.fixture.opts.served.keys = keys;
    server.fixture.opts.served.n_keys = ARRAY_LEN(keys);
    server_start(&server);
}

/* A second passes. */
static void tick(void)
{
    server.edge->page->next_us = 0;
    assert_true(edge_tick(server.edge) > 0);
}

/* How snapshot n begins. */
static const char *event_id(uint64_t n)
{
    static char text[64];
    snprintf(text, sizeof(text), "id: %s:%llu\nevent: snapshot\ndata: {\"process\":\"",
             server.edge->page->process, (unsigned long long)n);
    return text;
}

static void watch(struct client *c, const char *key, const char *version)
{
    char head[200];
    snprintf(head, sizeof(head),
             "GET /admin/v1/stream HTTP/%s\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", version,
             key);
    assert_true(client_connect(c, server.port, 0));
    client_send_str(c, head);
    client_until(c, event_id(0), 1);
}

static void test_each_tab_gets_each_snapshot(void **state)
{
    (void)state;
    struct client c[4];
    begin();
    for (size_t i = 0; i < ARRAY_LEN(c); i++)
        watch(&c[i], i % 2 ? "sk-eye" : "sk-ops", i == 3 ? "1.0" : "1.1");
    assert_int_equal(atomic_load(&server.edge->page->n_streams), ARRAY_LEN(c));
    assert_soon(edge_active(server.edge) == 0); /* no drain waits for them */
    for (uint32_t n = 1; n < 5; n++) {
        tick();
        for (size_t i = 0; i < ARRAY_LEN(c); i++)
            client_until(&c[i], event_id(n), 1);
    }
    client_close(&c[0]);
    assert_soon(atomic_load(&server.edge->page->n_streams) == ARRAY_LEN(c) - 1);
    assert_soon(edge_active(server.edge) == 0);
    server_stop(&server); /* with streams open */
    for (size_t i = 1; i < ARRAY_LEN(c); i++) {
        while (client_read(&c[i], PATIENCE_MS))
            ;
        client_close(&c[i]);
    }
}

static void test_a_stream_ends_with_its_key(void **state)
{
    (void)state;
    struct client ops, eye;
    struct err e = {0};
    begin();
    watch(&ops, "sk-ops", "1.1");
    watch(&eye, "sk-eye", "1.1");
    struct edge_served served = server.fixture.opts.served;
    served.n_keys = 1;
    assert_int_equal(edge_set_catalog(server.edge, &served, &e), 0);
    tick();
    client_until(&ops, event_id(1), 1);
    client_until(&eye, "0\r\n\r\n", 1); /* the end of its chunks */
    assert_null(strstr(buf_str(&eye.in), event_id(1)));
    /* no stream holds what is served no more */
    assert_int_equal(edge_set_catalog(server.edge, &served, &e), 0);
    tick();
    client_until(&ops, event_id(2), 1);
    assert_int_equal(edge_set_catalog(server.edge, &served, &e), 0);
    assert_true(!server.edge->old || !server.edge->old->next);
    client_close(&ops);
    client_close(&eye);
    server_stop(&server);
}

/* It misses snapshots, costs no memory for them, and then gets a new one. */
static void test_a_tab_that_does_not_read(void **state)
{
    (void)state;
    struct client slow, quick;
    enum { TICKS = 400 };
    uint64_t n;
    begin();
    watch(&quick, "sk-ops", "1.1");
    assert_true(client_connect(&slow, server.port, 2048));
    client_send_str(&slow, "GET /admin/v1/stream HTTP/1.1\r\nHost: x\r\n"
                           "Authorization: Bearer sk-ops\r\n\r\n");
    assert_soon(atomic_load(&server.edge->page->n_streams) == 2);
    for (n = 1; n <= TICKS; n++) {
        tick();
        client_until(&quick, event_id(n), 1);
        buf_clear(&quick.in);
    }
    client_until(&slow, "event: snapshot", 1);
    for (bool got = false; !got; n++) { /* once it reads it gets the newest again */
        assert_true(n < 10 * TICKS);
        tick();
        while (client_read(&slow, 20))
            ;
        got = strstr(buf_str(&slow.in), event_id(n)) != NULL;
    }
    assert_true(client_count(&slow, "event: snapshot") < TICKS);
    client_close(&slow);
    client_close(&quick);
    server_stop(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_percentiles_between_two_readings),
        cmocka_unit_test(test_rates),
        cmocka_unit_test(test_history),
        cmocka_unit_test(test_verdict),
        cmocka_unit_test(test_each_tab_gets_each_snapshot),
        cmocka_unit_test(test_a_stream_ends_with_its_key),
        cmocka_unit_test(test_a_tab_that_does_not_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

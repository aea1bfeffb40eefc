/* The worker on the simulated device: its life, its promises to submitters, and load. */
#include <poll.h>
#include <stdio.h>

#include "core/observe/metrics.h"
#include "tests/unit/llama_fixture.h"

static const uint32_t *prompt_of(uint32_t seed, uint32_t n)
{
    static _Thread_local uint32_t tokens[512];
    for (uint32_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        tokens[i] = 3 + (seed >> 8) % 200;
    }
    return tokens;
}

static struct worker_status status_of(struct worker *w)
{
    struct worker_status s;
    worker_status(w, &s);
    return s;
}

static bool is_idle(struct worker *w)
{
    const struct worker_status s = status_of(w);
    return s.n_running + s.n_waiting == 0;
}

static bool is_free(struct worker *w)
{
    const struct worker_status s = status_of(w);
    return s.n_running + s.n_waiting == 0 && s.n_free_kv_blocks == s.n_kv_blocks;
}

/* --- life --- */

static void test_ready_means_it_generated(void **state)
{
    (void)state;
    struct noted_worker n;
    struct worker_status s;
    struct worker_opts o = sim_worker_opts(&llama);
    o.sim_step_us = 5000;
    uint64_t before_us = clock_now_us();
    noted_start(&n, &o);
    assert_true(n.ready && !n.dead);
    assert_true(clock_now_us() - before_us >= 2 * 5000); /* prefill and decode */
    worker_status(n.w, &s);
    assert_int_equal(s.state, WORKER_READY);
    assert_int_equal(load_percent(&s.load), 100);
    assert_int_equal(s.load.done_bytes, s.load.total_bytes);
    assert_int_equal(s.n_steps + s.generated_tokens, 0); /* the warm-up does not count */
    assert_int_equal(s.n_kv_blocks, 256);
    assert_int_equal(s.n_free_kv_blocks, 256);
    assert_ptr_equal(worker_options(n.w), &o);
    noted_finish(&n);
}

static void test_bad_options_and_pools_are_named(void **state)
{
    (void)state;
    struct worker *w;
    struct noted_worker n;
    struct err e = {0};
    const struct worker_callbacks none = {0};
    struct worker_opts o = sim_worker_opts(&llama);
    o.max_model_len = 1;
    assert_int_equal(worker_start(&o, &none, &w, &e), -LLMD_EINVAL);
    assert_non_null(strstr(e.msg, "max_model_len"));

    o = sim_worker_opts(&llama);
    o.kv_cache_blocks = 0;
    o.kv_cache_bytes = 10;
    noted_start(&n, &o);
    assert_true(n.dead && !n.ready);
    assert_int_equal(n.why.code, LLMD_EINVAL);
    assert_non_null(strstr(n.why.msg, "kv_cache_mb"));
    struct reader rd;
    reader_init(&rd, NULL, prompt_of(1, 4), 4, 4, 1);
    assert_int_equal(reader_submit(&rd, n.w, NULL), -LLMD_ENOTREADY);
    reader_fini(&rd);
    noted_free(&n);

    o.kv_cache_bytes = 1ull << 50;
    noted_start(&n, &o);
    assert_true(n.dead);
    assert_int_equal(n.why.code, LLMD_EINVAL);
    assert_non_null(strstr(n.why.msg, "of memory are left; lower kv_cache_mb"));
    noted_free(&n);
}

static void test_the_pool_is_sized(void **state)
{
    (void)state;
    struct noted_worker n;
    struct worker_opts o = sim_worker_opts(&llama);
    o.kv_cache_blocks = 0;
    noted_start(&n, &o); /* 16 sequences, a quarter of 512 tokens each */
    assert_int_equal(n.last.n_kv_blocks, 16 * 8);
    noted_finish(&n);
    o.kv_cache_bytes = 64 * 1024; /* 2 layers, 1 head of 6, 16 tokens, F16: 768 bytes a block */
    noted_start(&n, &o);
    assert_int_equal(n.last.n_kv_blocks, 64 * 1024 / 768);
    noted_finish(&n);
}

static void test_not_before_ready(void **state)
{
    (void)state;
    struct worker *w;
    struct reader rd;
    struct err e = {0};
    const struct worker_callbacks none = {0};
    struct worker_opts o = sim_worker_opts(&llama);
    o.sim_step_us = 500000; /* of which it makes two before it is ready */
    assert_int_equal(worker_start(&o, &none, &w, NULL), 0);
    reader_init(&rd, NULL, prompt_of(1, 4), 4, 4, 1);
    assert_int_equal(reader_submit(&rd, w, &e), -LLMD_ENOTREADY);
    assert_non_null(strstr(e.msg, "tiny"));
    reader_fini(&rd);
    worker_stop(w); /* while it starts */
    worker_free(w);
}

static void test_drain_finishes_what_is_there(void **state)
{
    (void)state;
    struct noted_worker n;
    struct reader rd[3];
    struct worker_opts o = sim_worker_opts(&llama);
    o.sim_step_us = 200;
    o.max_num_seqs = 1; /* so that two of them wait */
    noted_start(&n, &o);
    for (uint32_t i = 0; i < 3; i++) { /* not over before they are read */
        reader_init(&rd[i], NULL, prompt_of(i, 20), 20, 100, 1);
        assert_int_equal(reader_submit(&rd[i], n.w, NULL), 0);
    }
    worker_drain(n.w);
    struct reader late;
    reader_init(&late, NULL, prompt_of(9, 20), 20, 10, 1);
    assert_int_equal(reader_submit(&late, n.w, NULL), -LLMD_EDRAINING);
    for (uint32_t i = 0; i < 3; i++) {
        reader_wait(&rd[i]);
        assert_int_equal(rd[i].n_got[0], 100);
        assert_int_equal(rd[i].finish[0], FINISH_LENGTH);
        reader_fini(&rd[i]);
    }
    reader_fini(&late);
    noted_finish(&n);
}

static void test_stop_ends_at_once(void **state)
{
    (void)state;
    struct noted_worker n;
    struct reader rd[3];
    struct err e = {0};
    struct worker_opts o = sim_worker_opts(&llama);
    o.sim_step_us = 2000;
    o.max_num_seqs = 1;
    noted_start(&n, &o);
    for (uint32_t i = 0; i < 3; i++) {
        reader_init(&rd[i], NULL, prompt_of(i, 20), 20, 400, 2);
        assert_int_equal(reader_submit(&rd[i], n.w, NULL), 0);
    }
    worker_stop(n.w);
    noted_wait_dead(&n);
    assert_int_equal(n.why.code, LLMD_EDRAINING);
    for (uint32_t i = 0; i < 3; i++) {
        reader_wait(&rd[i]);
        assert_int_equal(rd[i].finish[0], FINISH_ERROR);
        assert_int_equal(rd[i].finish[1], FINISH_ERROR);
        assert_true(stream_error(rd[i].r, &e));
        assert_int_equal(e.code, LLMD_EDRAINING);
        reader_fini(&rd[i]);
    }
    noted_free(&n);
}

/* --- one request --- */

static void test_ends_of_a_text(void **state)
{
    (void)state;
    struct noted_worker n;
    struct reader whole, rd;
    struct worker_opts o = sim_worker_opts(&llama);
    noted_start(&n, &o);
    reader_init(&whole, NULL, prompt_of(1, 20), 20, 50, 1);
    assert_int_equal(reader_submit(&whole, n.w, NULL), 0);
    reader_wait(&whole);
    assert_int_equal(whole.n_got[0], 50);
    assert_int_equal(whole.n_shown[0], 50);
    assert_int_equal(whole.finish[0], FINISH_LENGTH);

    const uint32_t stop[] = {whole.got[0][10]};
    uint32_t first = 0, second = 11;
    while (whole.got[0][first] != stop[0])
        first++;
    while (second < 50 && whole.got[0][second] != stop[0])
        second++;
    for (uint32_t as_eos = 0; as_eos < 2; as_eos++) {
        reader_init(&rd, NULL, prompt_of(1, 20), 20, 50, 1);
        rd.r->sampling.ignore_eos = false;
        rd.r->sampling.eos_ids = as_eos ? stop : NULL;
        rd.r->sampling.n_eos_ids = as_eos;
        rd.r->sampling.stop_ids = as_eos ? NULL : stop;
        rd.r->sampling.n_stop_ids = !as_eos;
        assert_int_equal(reader_submit(&rd, n.w, NULL), 0);
        reader_wait(&rd);
        assert_int_equal(rd.n_got[0], first + 1); /* counted, not shown */
        assert_int_equal(rd.n_shown[0], first);
        assert_int_equal(rd.finish[0], FINISH_STOP);
        assert_int_equal(rd.stop_id[0], as_eos ? -1 : (int64_t)stop[0]);
        reader_fini(&rd);
    }
    reader_init(&rd, NULL, prompt_of(1, 20), 20, 50, 1);
    rd.r->sampling.stop_ids = stop;
    rd.r->sampling.n_stop_ids = 1;
    rd.r->sampling.min_tokens = 11; /* no stop before the twelfth token */
    assert_int_equal(reader_submit(&rd, n.w, NULL), 0);
    reader_wait(&rd);
    assert_int_equal(rd.n_got[0], second < 50 ? second + 1 : 50);
    reader_fini(&rd);
    reader_fini(&whole);
    noted_finish(&n);
}

static void test_the_context_ends_a_text(void **state)
{
    (void)state;
    struct noted_worker n;
    struct reader rd;
    struct err e = {0};
    struct worker_opts o = sim_worker_opts(&llama);
    o.max_model_len = 64;
    noted_start(&n, &o);
    reader_init(&rd, NULL, prompt_of(1, 60), 60, 50, 1);
    assert_int_equal(reader_submit(&rd, n.w, NULL), 0);
    reader_wait(&rd);
    assert_int_equal(rd.n_got[0], 4);
    assert_int_equal(rd.finish[0], FINISH_LENGTH);
    reader_fini(&rd);
    reader_init(&rd, NULL, prompt_of(1, 64), 64, 1, 1);
    assert_int_equal(reader_submit(&rd, n.w, &e), -LLMD_ECONTEXT);
    assert_non_null(strstr(e.msg, "maximum context length is 64 tokens"));
    reader_fini(&rd);
    noted_finish(&n);
}

static void test_trace_tells_the_story(void **state)
{
    (void)state;
    struct noted_worker n;
    struct reader rd;
    struct worker_opts o = sim_worker_opts(&llama);
    o.sim_step_us = 500;
    o.index = 3;
    noted_start(&n, &o);
    for (uint32_t round = 0; round < 2; round++) {
        reader_init(&rd, NULL, prompt_of(1, 100), 100, 5, 2);
        assert_int_equal(reader_submit(&rd, n.w, NULL), 0);
        reader_wait(&rd);
        const struct request_trace *t = &rd.r->trace;
        assert_true(rd.r->arrival_us <= t->queued_us && t->queued_us <= t->scheduled_us);
        assert_true(t->scheduled_us + 500 <= t->first_token_us);
        assert_true(t->first_token_us + 4 * 500 <= t->last_token_us);
        assert_int_equal(t->worker, 3);
        assert_int_equal(t->n_cached_tokens, round * 96);
        assert_int_equal(t->n_preemptions, 0);
        reader_fini(&rd);
    }
    noted_finish(&n);
}

/* --- limits --- */

static void test_refusals(void **state)
{
    (void)state;
    struct noted_worker n;
    struct reader rd[4];
    struct err e = {0};
    struct worker_opts o = sim_worker_opts(&llama);
    o.sim_step_us = 100000; /* the first one runs for seconds */
    o.kv_cache_blocks = 4;
    o.max_num_seqs = 1;
    o.max_queue = 2;
    noted_start(&n, &o);
    reader_init(&rd[0], NULL, prompt_of(1, 60), 60, 6, 1);
    assert_int_equal(reader_submit(&rd[0], n.w, &e), -LLMD_ETOOBIG);
    assert_non_null(strstr(e.msg, "never fit"));
    reader_fini(&rd[0]);
    for (uint32_t i = 0; i < 4; i++) { /* one runs, two wait */
        reader_init(&rd[i], NULL, prompt_of(1, 10), 10, 50, 1);
        err_clear(&e);
        int rc = reader_submit(&rd[i], n.w, &e);
        assert_int_equal(rc, i < 3 ? 0 : -LLMD_EFULL);
    }
    assert_non_null(strstr(e.msg, "try again"));
    for (uint32_t i = 0; i < 3; i++)
        request_cancel(rd[i].r);
    for (uint32_t i = 0; i < 3; i++)
        reader_wait(&rd[i]);
    assert_soon(is_free(n.w));
    rd[3].r->sampling.max_tokens = 2;
    assert_int_equal(reader_submit(&rd[3], n.w, NULL), 0); /* there is room again */
    reader_wait(&rd[3]);
    for (uint32_t i = 0; i < 4; i++)
        reader_fini(&rd[i]);
    noted_finish(&n);
}

static void test_cancelled_within_two_steps(void **state)
{
    (void)state;
    struct noted_worker n;
    struct worker_opts o = sim_worker_opts(&llama);
    o.sim_step_us = 10000;
    o.max_num_batched_tokens = 64;
    noted_start(&n, &o);
    for (uint32_t stage = 0; stage < 3; stage++) {
        /* waiting or in the first chunk; in the middle of the prompt; decoding */
        static const uint32_t steps[] = {0, 2, 8};
        struct reader rd;
        const uint64_t start = status_of(n.w).n_steps;
        reader_init(&rd, NULL, prompt_of(stage, 300), 300, 200, 3);
        assert_int_equal(reader_submit(&rd, n.w, NULL), 0);
        assert_soon(status_of(n.w).n_steps >= start + steps[stage]);
        request_cancel(rd.r);
        const uint64_t cancelled = status_of(n.w).n_steps;
        reader_wait(&rd);
        assert_soon(is_free(n.w));
        assert_in_range(status_of(n.w).n_steps - cancelled, 0, 2);
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(rd.finish[i], FINISH_ABORT);
        reader_fini(&rd);
    }
    struct reader gone; /* cancelled before it was submitted */
    reader_init(&gone, NULL, prompt_of(9, 10), 10, 20, 1);
    request_cancel(gone.r);
    assert_int_equal(reader_submit(&gone, n.w, NULL), 0);
    reader_wait(&gone);
    assert_int_equal(gone.finish[0], FINISH_ABORT);
    reader_fini(&gone);
    noted_finish(&n);
}

static void test_a_slow_reader_delays_only_itself(void **state)
{
    (void)state;
    struct noted_worker n;
    struct reader slow, brisk;
    struct worker_opts o = sim_worker_opts(&llama);
    o.max_num_seqs = 1;
    noted_start(&n, &o);
    reader_init(&slow, NULL, prompt_of(1, 10), 10, 300, 1);
    assert_int_equal(reader_submit(&slow, n.w, NULL), 0);
    reader_init(&brisk, NULL, prompt_of(2, 10), 10, 300, 1);
    assert_int_equal(reader_submit(&brisk, n.w, NULL), 0);
    reader_wait(&brisk); /* gets the only place, although the other came first */
    assert_int_equal(brisk.n_got[0], 300);
    assert_soon(is_idle(n.w)); /* who pauses neither runs nor waits */
    assert_false(is_free(n.w));
    for (uint64_t until_us = clock_now_us() + PATIENCE_US; !reader_finished(&slow);) {
        reader_pull(&slow, 3);
        assert_true(clock_now_us() < until_us);
    }
    assert_int_equal(slow.n_got[0], 300);
    reader_fini(&slow);

    reader_init(&slow, NULL, prompt_of(1, 10), 10, 300, 1); /* one that never reads */
    assert_int_equal(reader_submit(&slow, n.w, NULL), 0);
    assert_soon(is_idle(n.w) && !is_free(n.w));
    request_cancel(slow.r);
    assert_soon(is_free(n.w));
    reader_fini(&slow);
    reader_fini(&brisk);
    noted_finish(&n);
}

/* --- load --- */

enum { N_LOAD = 1000, N_EDGES = 2 };

struct edge_thread {
    pthread_t thread;
    struct waker waker;
    uint32_t n_left;
    uint32_t n_wakeups;
};

static struct reader load_readers[N_LOAD], lone_readers[N_LOAD];

static struct reader *reader_of(const struct request *r)
{
    return r->consumer;
}

static void *edge_main(void *arg)
{
    struct edge_thread *t = arg;
    struct request *ready[64];
    while (t->n_left > 0) {
        struct pollfd p = {.fd = t->waker.event_fd, .events = POLLIN};
        if (poll(&p, 1, PATIENCE_US / 1000) != 1)
            break; /* n_left tells */
        t->n_wakeups++;
        uint32_t n;
        do {
            n = waker_take(&t->waker, ready, ARRAY_LEN(ready));
            for (uint32_t i = 0; i < n; i++) {
                struct reader *rd = reader_of(ready[i]);
                bool was_finished = reader_finished(rd);
                reader_pull(rd, UINT32_MAX);
                t->n_left -= !was_finished && reader_finished(rd);
                request_unref(ready[i]);
            }
        } while (n == ARRAY_LEN(ready));
    }
    return NULL;
}

/* Sends N_LOAD requests to a worker, read by two threads; their texts are in readers. */
static void run_load(const struct worker_opts *o, struct reader *readers, uint32_t *out_preempted)
{
    struct noted_worker n;
    struct edge_thread edges[N_EDGES];
    noted_start(&n, o);
    for (uint32_t i = 0; i < N_EDGES; i++) {
        edges[i] = (struct edge_thread){.n_left = N_LOAD / N_EDGES};
        assert_int_equal(waker_init(&edges[i].waker, NULL), 0);
    }
    for (uint32_t i = 0; i < N_LOAD; i++) {
        struct reader *rd = &readers[i];
        uint32_t n_prompt = 1 + i * 7 % 90;
        reader_init(rd, &edges[i % N_EDGES].waker, prompt_of(i % 50, n_prompt), n_prompt,
                    1 + i * 13 % 60, 1 + (i % 10 == 0));
        rd->r->sampling.seed = i;
        rd->r->consumer = rd;
    }
    for (uint32_t i = 0; i < N_EDGES; i++)
        assert_int_equal(pthread_create(&edges[i].thread, NULL, edge_main, &edges[i]), 0);
    for (uint32_t i = 0; i < N_LOAD; i++)
        assert_int_equal(reader_submit(&readers[i], n.w, NULL), 0);
    for (uint32_t i = 0; i < N_EDGES; i++)
        pthread_join(edges[i].thread, NULL);
    uint32_t n_published, max_running;
    noted_counts(&n, &n_published, &max_running);
    assert_true(max_running <= o->max_num_seqs);
    for (uint32_t i = 0; i < N_EDGES; i++) {
        assert_int_equal(edges[i].n_left, 0);
        assert_true(edges[i].n_wakeups <= 2 * n_published + 1); /* two of a large step */
        waker_fini(&edges[i].waker);
    }
    *out_preempted = 0;
    for (uint32_t i = 0; i < N_LOAD; i++)
        *out_preempted += readers[i].r->trace.n_preemptions;
    noted_finish(&n);
}

static void test_a_thousand_requests(void **state)
{
    (void)state;
    uint32_t n_preempted;
    struct worker_opts wide = sim_worker_opts(&llama), narrow = sim_worker_opts(&llama);
    wide.max_num_seqs = 1000;
    wide.max_num_batched_tokens = 4096;
    wide.kv_cache_blocks = 16384;
    wide.max_queue = N_LOAD;
    wide.sim_step_us = 1000;
    run_load(&wide, load_readers, &n_preempted);
    assert_int_equal(n_preempted, 0);

    narrow.max_num_seqs = 24;
    narrow.max_num_batched_tokens = 64;
    narrow.kv_cache_blocks = 24; /* dry again and again */
    narrow.max_queue = N_LOAD;
    narrow.sim_step_us = 200;
    run_load(&narrow, lone_readers, &n_preempted);
    assert_true(n_preempted > 0);
    for (uint32_t i = 0; i < N_LOAD; i++) {
        for (uint32_t c = 0; c < load_readers[i].r->sampling.n; c++)
            assert_int_equal(load_readers[i].n_got[c], load_readers[i].max_tokens);
        assert_same_text(&load_readers[i], &lone_readers[i]);
        reader_fini(&load_readers[i]);
        reader_fini(&lone_readers[i]);
    }
}

static void test_metrics(void **state)
{
    (void)state;
    struct noted_worker n;
    struct reader rd;
    struct buf text = {0};
    struct worker_opts o = sim_worker_opts(&llama);
    static const char *const lines[] = {
        "vllm:prompt_tokens_total{model_name=\"tiny\",engine=\"0\"} 200",
        "vllm:prompt_tokens_cached_total{model_name=\"tiny\",engine=\"0\"} 96",
        "vllm:generation_tokens_total{model_name=\"tiny\",engine=\"0\"} 20",
        "vllm:prefix_cache_queries_total{model_name=\"tiny\",engine=\"0\"} 200.0\n",
        "vllm:prefix_cache_hits_total{model_name=\"tiny\",engine=\"0\"} 96",
        "vllm:num_preemptions_total{model_name=\"tiny\",engine=\"0\"} 0",
        "vllm:num_requests_running{model_name=\"tiny\",engine=\"0\"} 0",
        "vllm:num_requests_waiting{model_name=\"tiny\",engine=\"0\"} 0",
        "vllm:kv_cache_usage_perc{model_name=\"tiny\",engine=\"0\"} 0",
        "vllm:time_to_first_token_seconds_count{model_name=\"tiny\",engine=\"0\"} 2",
        "vllm:inter_token_latency_seconds_count{model_name=\"tiny\",engine=\"0\"} 18",
        "vllm:request_queue_time_seconds_count{model_name=\"tiny\",engine=\"0\"} 2",
        "vllm:request_prefill_time_seconds_count{model_name=\"tiny\",engine=\"0\"} 2",
        "vllm:request_decode_time_seconds_count{model_name=\"tiny\",engine=\"0\"} 2",
        "vllm:request_inference_time_seconds_count{model_name=\"tiny\",engine=\"0\"} 2",
        "vllm:iteration_tokens_total_sum{model_name=\"tiny\",engine=\"0\"} 122",
        "vllm:cache_config_info{model_name=\"tiny\",engine=\"0\",",
        "block_size=\"16\",num_gpu_blocks=\"256\",cache_dtype=\"auto\",enable_prefix_caching="
        "\"True\",",
        "vllm:prompt_tokens_by_source_total{model_name=\"tiny\",engine=\"0\",source=\"local_"
        "compute\"} "
        "104",
        "vllm:prompt_tokens_by_source_total{model_name=\"tiny\",engine=\"0\",source=\"local_cache_"
        "hit\"} "
        "96",
        "vllm:prompt_tokens_cached_by_source_total{model_name=\"tiny\",engine=\"0\",source="
        "\"device\"} 96",
        "vllm:request_prefill_kv_computed_tokens_sum{model_name=\"tiny\",engine=\"0\"} 104",
        "vllm:request_num_preemptions_count{model_name=\"tiny\",engine=\"0\"} 2",
        "vllm:gpu_prefix_cache_hit_rate{model_name=\"tiny\",engine=\"0\"} 0.48",
        "vllm:time_per_output_token_seconds_count{model_name=\"tiny\",engine=\"0\"} 18",
        "llmd_step_duration_seconds_count{model_name=\"tiny\",engine=\"0\"} 20",
        "llmd_scale_load 0",
    };
    o.metrics = metrics_new();
    assert_non_null(o.metrics);
    noted_start(&n, &o);
    for (uint32_t i = 0; i < 2; i++) {
        reader_init(&rd, NULL, prompt_of(1, 100), 100, 10, 1);
        assert_int_equal(reader_submit(&rd, n.w, NULL), 0);
        reader_wait(&rd);
        reader_fini(&rd);
    }
    noted_finish(&n);
    metrics_write(o.metrics, METRICS_TEXT, &text);
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        if (!strstr(buf_str(&text), lines[i]))
            fail_msg("no line %s in\n%s", lines[i], buf_str(&text));
    buf_fini(&text);
    metrics_free(o.metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ready_means_it_generated),
        cmocka_unit_test(test_bad_options_and_pools_are_named),
        cmocka_unit_test(test_the_pool_is_sized),
        cmocka_unit_test(test_not_before_ready),
        cmocka_unit_test(test_drain_finishes_what_is_there),
        cmocka_unit_test(test_stop_ends_at_once),
        cmocka_unit_test(test_ends_of_a_text),
        cmocka_unit_test(test_the_context_ends_a_text),
        cmocka_unit_test(test_trace_tells_the_story),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_cancelled_within_two_steps),
        cmocka_unit_test(test_a_slow_reader_delays_only_itself),
        cmocka_unit_test(test_a_thousand_requests),
        cmocka_unit_test(test_metrics),
    };
    return cmocka_run_group_tests(tests, open_llama, close_llama);
}

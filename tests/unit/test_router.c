/* The router over simulated workers: turns, refusals, readiness, the end. */
#include "core/router/router.h"
#include "tests/unit/worker_fixture.h"

static struct sample_llama llama;

static int open_llama(void **state)
{
    (void)state;
    sample_open(&llama);
    return 0;
}

static int close_llama(void **state)
{
    (void)state;
    sample_close(&llama);
    return 0;
}

enum { MAX_WORKERS = 8 };

struct world {
    struct router *router;
    struct worker_opts opts[MAX_WORKERS];
    uint32_t n;
};

static void world_init(struct world *w)
{
    memset(w, 0, sizeof(*w));
    assert_int_equal(router_new(&w->router, NULL), 0);
    assert_int_equal(router_add_model(w->router, "tiny", NULL), 0);
}

static struct worker_opts *add_opts(struct world *w)
{
    assert_true(w->n < MAX_WORKERS);
    struct worker_opts *o = &w->opts[w->n];
    *o = sim_worker_opts(&llama);
    o->index = w->n++;
    return o;
}

static void start(struct world *w, const struct worker_opts *o)
{
    assert_int_equal(router_start_worker(w->router, "tiny", o, NULL), 0);
}

static void wait_ready(struct world *w)
{
    struct router_worker_view v[MAX_WORKERS];
    uint64_t until_us = clock_now_us() + WAIT_LIMIT_US;
    for (uint32_t n_up = 0; n_up < w->n;) {
        n_up = 0;
        for (uint32_t i = 0; i < router_workers(w->router, v, MAX_WORKERS); i++)
            n_up += v[i].status.state == WORKER_READY || v[i].status.state == WORKER_DEAD;
        assert_true(clock_now_us() < until_us);
    }
}

static void world_fini(struct world *w)
{
    router_shutdown(w->router, clock_now_us() + WAIT_LIMIT_US);
    router_free(w->router);
}

static void request_to(struct reader *rd, const char *model, uint32_t n_prompt, uint32_t max_tokens)
{
    static const uint32_t prompt[500] = {5, 6, 7};
    reader_init(rd, NULL, prompt, n_prompt, max_tokens, 1);
    rd->r->model = model;
}

static int submit(struct world *w, struct reader *rd, struct err *e)
{
    err_clear(e);
    request_ref(rd->r);
    int rc = router_submit(w->router, rd->r, e);
    assert_int_equal(rc, -e->code);
    if (rc)
        request_unref(rd->r);
    return rc;
}

static void test_takes_turns(void **state)
{
    (void)state;
    struct world w;
    struct reader rd[9];
    struct err e = {0};
    uint32_t n_of[3] = {0};
    world_init(&w);
    for (uint32_t i = 0; i < 3; i++)
        start(&w, add_opts(&w));
    wait_ready(&w);
    for (uint32_t i = 0; i < 9; i++) {
        request_to(&rd[i], "tiny", 10, 4);
        assert_int_equal(submit(&w, &rd[i], &e), 0);
    }
    for (uint32_t i = 0; i < 9; i++) {
        reader_wait(&rd[i]);
        n_of[rd[i].r->trace.worker]++;
        assert_same_text(&rd[i], &rd[0]); /* whichever worker */
    }
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(n_of[i], 3);
    for (uint32_t i = 0; i < 9; i++)
        reader_fini(&rd[i]);
    world_fini(&w);
}

static void test_skips_the_full_and_the_small(void **state)
{
    (void)state;
    struct world w;
    struct reader rd[8], big;
    struct err e = {0};
    world_init(&w);
    for (uint32_t i = 0; i < 2; i++) {
        struct worker_opts *o = add_opts(&w);
        o->sim_step_us = 50000;
        o->max_num_seqs = 1;
        o->max_queue = i == 0 ? 1 : 4;
        o->kv_cache_blocks = i == 0 ? 4 : 32;
        start(&w, o);
    }
    wait_ready(&w);
    for (uint32_t i = 0; i < 8; i++) {
        request_to(&rd[i], "tiny", 10, 20);
        int rc = submit(&w, &rd[i], &e);
        assert_int_equal(rc, i < 7 ? 0 : -LLMD_EFULL); /* 2 in one, 5 in the other */
    }
    request_to(&big, "tiny", 500, 12); /* 32 blocks: one worker is too small, one is full */
    assert_int_equal(submit(&w, &big, &e), -LLMD_EFULL);
    for (uint32_t i = 0; i < 7; i++)
        request_cancel(rd[i].r);
    for (uint32_t i = 0; i < 7; i++)
        reader_wait(&rd[i]);
    for (uint32_t i = 0; i < 8; i++)
        reader_fini(&rd[i]);
    for (uint32_t i = 0; i < 2; i++) { /* its turn or not, it goes to the larger */
        struct reader again;
        request_to(&again, "tiny", 500, 1);
        assert_int_equal(submit(&w, &again, &e), 0);
        reader_wait(&again);
        assert_int_equal(again.r->trace.worker, 1);
        reader_fini(&again);
    }
    reader_fini(&big);
    world_fini(&w);
}

static void test_refusals_say_why(void **state)
{
    (void)state;
    struct world w;
    struct reader rd;
    struct err e = {0};
    world_init(&w);
    assert_int_equal(router_add_model(w.router, "tiny", &e), -LLMD_EINVAL);
    request_to(&rd, "large", 10, 4);
    assert_int_equal(submit(&w, &rd, &e), -LLMD_ENOTFOUND);
    rd.r->model = "tiny";
    assert_int_equal(submit(&w, &rd, &e), -LLMD_ENOTREADY);
    assert_false(router_model_ready(w.router, "tiny"));
    assert_false(router_all_ready(w.router));

    struct worker_opts *o = add_opts(&w);
    o->kv_cache_blocks = 0;
    o->kv_cache_bytes = 1; /* it cannot start */
    start(&w, o);
    wait_ready(&w);
    int rc;
    do /* its last callback may still be on the way */
        rc = submit(&w, &rd, &e);
    while (!strstr(e.msg, "kv_cache_mb"));
    assert_int_equal(rc, -LLMD_ENOTREADY);
    struct router_worker_view v;
    assert_int_equal(router_workers(w.router, &v, 1), 1);
    assert_string_equal(v.model, "tiny");
    assert_int_equal(v.status.state, WORKER_DEAD);
    assert_non_null(strstr(v.error, "kv_cache_mb"));

    o = add_opts(&w);
    o->kv_cache_blocks = 4;
    start(&w, o);
    wait_ready(&w);
    while (!router_all_ready(w.router))
        ;
    assert_true(router_model_ready(w.router, "tiny"));
    assert_false(router_model_ready(w.router, "large"));
    assert_int_equal(submit(&w, &rd, &e), 0);
    reader_wait(&rd);
    reader_fini(&rd);
    request_to(&rd, "tiny", 100, 4);
    assert_int_equal(submit(&w, &rd, &e), -LLMD_ETOOBIG);
    reader_fini(&rd);
    world_fini(&w);
}

static void test_a_long_step_is_a_stall(void **state)
{
    (void)state;
    struct world w;
    struct reader rd;
    struct err e = {0};
    world_init(&w);
    assert_true(router_progressing(w.router, 1));
    struct worker_opts *o = add_opts(&w);
    o->sim_step_us = 400000;
    start(&w, o);
    wait_ready(&w);
    clock_sleep_us(50000);
    assert_true(router_progressing(w.router, 1000)); /* idle */
    request_to(&rd, "tiny", 10, 2);
    assert_int_equal(submit(&w, &rd, &e), 0);
    assert_true(router_progressing(w.router, 300000)); /* it has only just begun */
    clock_sleep_us(150000);
    assert_false(router_progressing(w.router, 100000));
    assert_true(router_progressing(w.router, UINT64_MAX));
    reader_wait(&rd);
    reader_fini(&rd);
    world_fini(&w);
}

static void test_shutdown_drains_then_stops(void **state)
{
    (void)state;
    for (uint32_t in_time = 0; in_time < 2; in_time++) {
        struct world w;
        struct reader rd[4];
        struct err e = {0};
        world_init(&w);
        for (uint32_t i = 0; i < 2; i++) {
            struct worker_opts *o = add_opts(&w);
            o->sim_step_us = 5000;
            start(&w, o);
        }
        wait_ready(&w);
        for (uint32_t i = 0; i < 4; i++) {
            request_to(&rd[i], "tiny", 10, in_time ? 5 : 400);
            assert_int_equal(submit(&w, &rd[i], &e), 0);
        }
        router_shutdown(w.router, clock_now_us() + (in_time ? WAIT_LIMIT_US : 20000));
        struct reader late;
        request_to(&late, "tiny", 10, 5);
        assert_int_equal(submit(&w, &late, &e), -LLMD_EDRAINING);
        reader_fini(&late);
        for (uint32_t i = 0; i < 4; i++) {
            reader_wait(&rd[i]);
            assert_int_equal(rd[i].finish[0], in_time ? FINISH_LENGTH : FINISH_ERROR);
            reader_fini(&rd[i]);
        }
        router_free(w.router);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_turns),
        cmocka_unit_test(test_skips_the_full_and_the_small),
        cmocka_unit_test(test_refusals_say_why),
        cmocka_unit_test(test_a_long_step_is_a_stall),
        cmocka_unit_test(test_shutdown_drains_then_stops),
    };
    return cmocka_run_group_tests(tests, open_llama, close_llama);
}

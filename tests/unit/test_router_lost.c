/* Workers that are lost: requests go on elsewhere with the same text, whoever submits meanwhile;
 * nobody left; started again. Simulated workers, so that the text of a request is known. */
#include "core/observe/metrics.h"
#include "tests/unit/router_fixture.h"

enum { N_WORKERS = 4, N_STREAMS = 32, N_LOSSES = 150 };

static const struct err stalled = {.code = LLMD_EWORKER, .msg = "worker stalls"};

static uint32_t seed;

static void open_world(struct world *w, uint32_t n, uint64_t step_us)
{
    const struct router_model_opts o = {.max_queue = 1000, .max_migrations = 1000};
    seed = 1;
    world_init(w, &o);
    for (uint32_t i = 0; i < n; i++)
        world_add(w)->sim_step_us = step_us;
    world_start(w);
}

static uint32_t rnd(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(seed >> 8) * n >> 24);
}

/* Longer than a stream holds: not over before it is read. */
static void make(struct reader *rd, uint32_t number, uint32_t n)
{
    uint32_t prompt[64];
    const uint32_t n_prompt = 20 + number % 40, max_tokens = 80 + number * 7 % 60;
    for (uint32_t i = 0; i < n_prompt; i++)
        prompt[i] = (number * 13 + i) % 200;
    reader_init(rd, NULL, prompt, n_prompt, max_tokens, n);
    rd->r->model = "tiny";
    rd->r->sampling.seed = number;
}

/* The texts that undisturbed workers give. */
static void undisturbed(struct reader expected[N_STREAMS], uint32_t n)
{
    struct world w;
    open_world(&w, 1, 0);
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        make(&expected[i], i, n);
        world_submit(&w, &expected[i]);
        reader_wait(&expected[i]);
    }
    (void)world_end(&w);
}

/* Loses and restarts random workers, never the last that is ready. */
static void lose_one(struct world *w)
{
    const uint32_t victim = rnd(w->n);
    router_lose(w->router, victim, &stalled);
    router_reap(w->router);
    assert_int_equal(router_restart_worker(w->router, victim, NULL), 0);
    world_wait_ready(w);
}

static void run_drill(uint32_t n_choices)
{
    struct world w;
    static struct reader expected[N_STREAMS], rd[N_STREAMS];
    struct router_model_view v;
    uint32_t n_moved = 0;
    undisturbed(expected, n_choices);
    open_world(&w, N_WORKERS, 300);
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        make(&rd[i], i, n_choices);
        world_submit(&w, &rd[i]);
    }
    for (uint32_t losses = 0; losses < N_LOSSES; losses++) {
        clock_sleep_us(rnd(3000));
        lose_one(&w);
        for (uint32_t i = 0; i < N_STREAMS; i++) {
            if (!reader_ended_as(&rd[i], &expected[i]))
                continue;
            n_moved += rd[i].r->trace.n_migrations;
            reader_fini(&rd[i]);
            make(&rd[i], i, n_choices);
            world_submit(&w, &rd[i]);
        }
    }
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        reader_wait(&rd[i]);
        assert_same_text(&rd[i], &expected[i]);
        n_moved += rd[i].r->trace.n_migrations;
        reader_fini(&rd[i]);
        reader_fini(&expected[i]);
    }
    assert_true(router_model(w.router, "tiny", &v));
    assert_true(n_moved > 50 && v.n_migrations >= n_moved);
    (void)world_end(&w);
}

static void test_texts_survive_lost_workers(void **state)
{
    (void)state;
    run_drill(1);
}

static void test_so_do_several_choices(void **state)
{
    (void)state;
    run_drill(3);
}

static void test_with_nobody_left_requests_fail(void **state)
{
    (void)state;
    struct world w;
    struct reader rd[24];
    struct err e = {0};
    open_world(&w, 1, 50000);           /* seconds until they pause */
    for (uint32_t i = 0; i < 24; i++) { /* 16 run, 8 wait */
        make(&rd[i], i, 1);
        world_submit(&w, &rd[i]);
    }
    assert_soon(world_view(&w, 0).status.n_running == 16);
    router_lose(w.router, 0, &stalled);
    for (uint32_t i = 0; i < 24; i++) {
        reader_wait(&rd[i]);
        assert_int_equal(rd[i].finish[0], FINISH_ERROR);
        assert_true(stream_error(rd[i].r, &e));
        assert_int_equal(e.code, i < 16 ? LLMD_EWORKER : LLMD_ENOTREADY);
        assert_string_equal(e.msg, "worker stalls");
        err_clear(&e);
        reader_fini(&rd[i]);
    }
    struct router_worker_view v;
    assert_int_equal(router_workers(w.router, &v, 1), 1);
    assert_int_equal(v.status.state, WORKER_DEAD);
    assert_int_equal(v.n_bound, 0);
    assert_int_equal(v.status.n_running, 0);
    make(&rd[0], 0, 1);
    rd[0].r->sampling.max_tokens = 2;
    assert_int_equal(router_submit(w.router, rd[0].r, &e), -LLMD_ENOTREADY);
    assert_int_equal(router_restart_worker(w.router, 7, &e), -LLMD_EINVAL);
    assert_int_equal(router_restart_worker(w.router, 0, NULL), 0);
    assert_int_equal(router_restart_worker(w.router, 0, NULL), -LLMD_EINVAL); /* it is not dead */
    world_wait_ready(&w);
    world_submit(&w, &rd[0]);
    reader_finish(&rd[0]);
    (void)world_end(&w);
}

/* The worker that it has come to; -1: none yet. */
static int32_t worker_of(struct reader *rd)
{
    lock_take(&rd->r->stream.mu);
    const int32_t at = rd->r->trace.worker;
    lock_drop(&rd->r->stream.mu);
    return at;
}

static void test_moves_are_bounded(void **state)
{
    (void)state;
    struct world w;
    struct reader rd;
    const struct router_model_opts o = {.max_queue = 10, .max_migrations = 1};
    open_world(&w, 3, 2000);
    assert_int_equal(router_add_model(w.router, "once", &o, NULL), 0);
    for (uint32_t i = 0; i < 3; i++) {
        struct worker_opts *of_once = world_add(&w);
        of_once->sim_step_us = 2000;
        of_once->index = 10 + i;
        assert_int_equal(router_start_worker(w.router, "once", of_once, NULL), 0);
    }
    world_wait_ready(&w);
    make(&rd, 3, 1);
    rd.r->model = "once";
    world_submit(&w, &rd);
    for (int32_t lost = 0, last = -1; lost < 2; lost++) {
        assert_soon(worker_of(&rd) != last);
        last = worker_of(&rd);
        router_lose(w.router, (uint32_t)last, &stalled);
    }
    reader_wait(&rd);
    assert_int_equal(rd.finish[0], FINISH_ERROR);
    assert_int_equal(rd.r->trace.n_migrations, 2);
    reader_fini(&rd);
    (void)world_end(&w);
}

/* Sum of a series over its labels. */
static uint64_t sum_of(struct metrics *m, const char *name)
{
    struct buf text = {0};
    uint64_t sum = 0;
    metrics_write(m, METRICS_TEXT, &text);
    for (const char *at = buf_str(&text); (at = strstr(at, name)) != NULL; at++) {
        const char *value = strchr(at, '}');
        assert_non_null(value);
        sum += strtoull(value + 1, NULL, 10);
    }
    buf_fini(&text);
    return sum;
}

static void test_a_first_token_is_the_first_once(void **state)
{
    (void)state;
    struct world w;
    struct reader rd;
    struct metrics *m = metrics_new();
    open_world(&w, 0, 0);
    for (uint32_t i = 0; i < 2; i++) {
        struct worker_opts *o = world_add(&w);
        o->sim_step_us = 2000;
        o->metrics = m;
    }
    world_start(&w);
    make(&rd, 3, 1);
    world_submit(&w, &rd);
    assert_soon(reader_pull(&rd, 1) > 0);
    router_lose(w.router, (uint32_t)worker_of(&rd), &stalled);
    reader_wait(&rd);
    assert_int_equal(rd.finish[0], FINISH_LENGTH);
    assert_int_equal(rd.r->trace.n_migrations, 1);
    reader_fini(&rd);
    (void)world_end(&w);
    assert_int_equal(sum_of(m, "vllm:time_to_first_token_seconds_count{"), 1);
    assert_int_equal(sum_of(m, "vllm:generation_tokens_total{"), 101);
    metrics_free(m);
}

/* Clients that leave while their requests move or wait. */
static void test_cancelled_while_it_moves(void **state)
{
    (void)state;
    struct world w;
    struct reader rd[N_STREAMS];
    open_world(&w, 2, 500);
    for (uint32_t round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < N_STREAMS; i++) {
            make(&rd[i], i, 1);
            world_submit(&w, &rd[i]);
        }
        clock_sleep_us(rnd(4000));
        for (uint32_t i = 0; i < N_STREAMS; i += 2)
            request_cancel(rd[i].r);
        lose_one(&w);
        for (uint32_t i = 0; i < N_STREAMS; i++)
            request_cancel(rd[i].r);
        for (uint32_t i = 0; i < N_STREAMS; i++) {
            reader_wait(&rd[i]);
            reader_fini(&rd[i]);
        }
    }
    (void)world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts_survive_lost_workers),
        cmocka_unit_test(test_so_do_several_choices),
        cmocka_unit_test(test_with_nobody_left_requests_fail),
        cmocka_unit_test(test_moves_are_bounded),
        cmocka_unit_test(test_a_first_token_is_the_first_once),
        cmocka_unit_test(test_cancelled_while_it_moves),
    };
    return cmocka_run_group_tests(tests, open_llama, close_llama);
}

/* What waits in the router always goes or ends: slow readers, long prompts among short ones, workers
 * that are lost while a request is handed over, workers that will never do. */
#include "core/util/fault.h"
#include "tests/unit/router_fixture.h"

static const struct err taken = {.code = LLMD_EWORKER, .msg = "taken away"};

/* Of a queue of that length and, unless 0, duration. */
static void open_world(struct world *w, uint32_t max_queue, uint64_t max_queue_us)
{
    const struct router_model_opts o = {
        .delta = 250, .max_queue = max_queue, .max_queue_us = max_queue_us, .max_migrations = 1000};
    world_init(w, &o);
}

/* No two numbers have a prefix in common. */
static void make(struct reader *rd, uint32_t number, uint32_t n_prompt, uint32_t max_tokens)
{
    uint32_t prompt[500];
    for (uint32_t i = 0; i < n_prompt; i++)
        prompt[i] = (number * 31 + i * 7) % 200;
    reader_init(rd, NULL, prompt, n_prompt, max_tokens, 1);
    rd->r->model = "tiny";
}

/* Of a key; what became of it. */
static int submit_for(struct world *w, struct reader *rd, const char *key, struct err *e)
{
    err_clear(e);
    rd->r->key_name = key;
    return world_try(w, rd, e);
}

static uint32_t n_waiting(struct world *w)
{
    struct router_model_view v;
    assert_true(router_model(w->router, "tiny", &v));
    return v.n_waiting;
}

/* Whether the only worker has so many sequences, and all of them pause: nobody reads. */
static bool all_pause(struct world *w, uint32_t n)
{
    const struct worker_status s = world_view(w, 0).status;
    return s.generated_tokens >= n * 63 && s.n_running + s.n_waiting == 0;
}

/* Paused sequences are in nobody's way in the router's books, but they are requests of the worker,
 * and it takes no more than so many: it refuses what the router would bind. */
static void test_a_worker_full_of_slow_readers(void **state)
{
    (void)state;
    enum { SLOW = 6, MORE = 4 };
    struct world w;
    struct reader slow[SLOW], more[MORE];
    open_world(&w, 1000, 0);
    struct worker_opts *o = world_add(&w);
    o->max_num_seqs = 4;
    o->max_queue = SLOW - 4;
    world_start(&w);
    for (uint32_t i = 0; i < SLOW; i++) {
        make(&slow[i], i, 20, 200);
        world_submit(&w, &slow[i]);
        assert_soon(all_pause(&w, i + 1));
    }
    for (uint32_t i = 0; i < MORE; i++) {
        make(&more[i], SLOW + i, 20, 5);
        world_submit(&w, &more[i]);
    }
    assert_int_equal(n_waiting(&w), MORE);
    reader_wait(&slow[0]);
    for (uint32_t i = 0; i < MORE; i++) {
        reader_wait(&more[i]);
        assert_int_equal(more[i].finish[0], FINISH_LENGTH);
        reader_fini(&more[i]);
    }
    for (uint32_t i = 0; i < SLOW; i++) {
        reader_wait(&slow[i]);
        reader_fini(&slow[i]);
    }
    world_fini(&w);
}

/* 64 clients never read. Those who do get their answers: the slowest are ended, one by one. */
static void test_who_never_reads_is_ended_when_others_wait(void **state)
{
    (void)state;
    enum { SLOW = 64, MORE = 8 };
    struct world w;
    static struct reader slow[SLOW], more[MORE];
    struct err e = {0};
    uint32_t n_ended = 0;
    open_world(&w, 1000, 0);
    struct worker_opts *o = world_add(&w);
    o->max_queue = SLOW - o->max_num_seqs;
    o->slow_reader_us = 200000;
    world_start(&w);
    for (uint32_t i = 0; i < SLOW; i++) {
        make(&slow[i], i, 20, 200);
        world_submit(&w, &slow[i]);
    }
    assert_soon(all_pause(&w, SLOW));
    for (uint32_t i = 0; i < MORE; i++) {
        make(&more[i], SLOW + i, 20, 200);
        world_submit(&w, &more[i]);
    }
    for (uint64_t until_us = clock_now_us() + PATIENCE_US, n_done = 0; n_done < MORE;) {
        assert_true(clock_now_us() < until_us);
        router_expire(w.router);
        n_done = 0;
        for (uint32_t i = 0; i < MORE; i++) {
            (void)reader_pull(&more[i], UINT32_MAX);
            n_done += reader_finished(&more[i]);
        }
        clock_sleep_us(1000);
    }
    for (uint32_t i = 0; i < MORE; i++) {
        assert_int_equal(more[i].finish[0], FINISH_LENGTH);
        reader_fini(&more[i]);
    }
    for (uint32_t i = 0; i < SLOW; i++) {
        reader_wait(&slow[i]);
        err_clear(&e);
        if (stream_error(slow[i].r, &e)) {
            assert_int_equal(e.code, LLMD_ELIMIT);
            n_ended++;
        } else
            assert_int_equal(slow[i].finish[0], FINISH_LENGTH);
        reader_fini(&slow[i]);
    }
    assert_in_range(n_ended, 1, MORE + 1);
    world_fini(&w);
}

/* Short requests that never end to come do not keep a long one from its blocks for ever. */
static void test_a_long_prompt_among_short_ones(void **state)
{
    (void)state;
    enum { SHORT = 4 };
    struct world w;
    struct reader rd[SHORT], large;
    uint32_t number = 0;
    open_world(&w, 1000, 0);
    struct worker_opts *o = world_add(&w);
    o->kv_cache_blocks = 32;
    o->sim_step_us = 500;
    world_start(&w);
    for (uint32_t i = 0; i < SHORT; i++) {
        make(&rd[i], ++number, 20, 20 + 3 * i);
        world_submit(&w, &rd[i]);
    }
    make(&large, 0, 480, 4); /* 30 or 31 of the 32 blocks */
    world_submit(&w, &large);
    const uint64_t until_us = clock_now_us() + PATIENCE_US;
    while (!reader_finished(&large)) {
        assert_true(clock_now_us() < until_us);
        (void)reader_pull(&large, UINT32_MAX);
        for (uint32_t i = 0; i < SHORT; i++) {
            (void)reader_pull(&rd[i], UINT32_MAX);
            if (!reader_finished(&rd[i]))
                continue;
            reader_fini(&rd[i]);
            make(&rd[i], ++number, 20, 20 + 3 * i);
            world_submit(&w, &rd[i]);
        }
    }
    assert_int_equal(large.finish[0], FINISH_LENGTH);
    reader_fini(&large);
    for (uint32_t i = 0; i < SHORT; i++) {
        reader_wait(&rd[i]);
        reader_fini(&rd[i]);
    }
    world_fini(&w);
}

struct client {
    pthread_t thread;
    struct world *w;
    uint32_t seed;
    atomic_bool *end;
};

static void *client_main(void *arg)
{
    struct client *c = arg;
    for (uint32_t i = 0; !atomic_load(c->end); i++) {
        struct reader rd;
        struct err e = {0};
        make(&rd, c->seed + i, 20, 1 + i % 3);
        if (world_try(c->w, &rd, &e) == 0) {
            reader_wait(&rd);
            assert_true(rd.finish[0] == FINISH_LENGTH || rd.finish[0] == FINISH_ERROR);
        }
        reader_fini(&rd);
    }
    return NULL;
}

/* Clients submit while workers are lost: a worker may end between its taking a request and the
 * router's noting it. */
static void test_lost_while_requests_are_handed_over(void **state)
{
    (void)state;
    enum { CLIENTS = 6, LOSSES = 300 };
    struct world w;
    struct client c[CLIENTS];
    atomic_bool end = false;
    open_world(&w, 1000, 0);
    for (uint32_t i = 0; i < 2; i++)
        world_add(&w);
    world_start(&w);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        c[i] = (struct client){.w = &w, .seed = i * 10007, .end = &end};
        assert_int_equal(pthread_create(&c[i].thread, NULL, client_main, &c[i]), 0);
    }
    for (uint32_t i = 0; i < LOSSES; i++) {
        router_lose(w.router, i % 2, &taken);
        router_reap(w.router);
        assert_int_equal(router_restart_worker(w.router, i % 2, NULL), 0);
        world_wait_ready(&w);
    }
    atomic_store(&end, true);
    for (uint32_t i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_join(c[i].thread, NULL), 0);
    world_fini(&w);
}

/* The worker that alone can hold a request is lost: the request fails though another worker is
 * there, whether it ran or waited; while that worker is away, a request for it is told to come
 * again, not that it is too large. */
static void test_only_the_lost_worker_could_hold_it(void **state)
{
    (void)state;
    struct world w;
    struct reader runs, waits, late;
    struct err e = {0};
    open_world(&w, 1000, 0);
    world_add(&w)->kv_cache_blocks = 4;
    struct worker_opts *o = world_add(&w);
    o->max_num_seqs = 1;
    o->sim_step_us = 50000; /* seconds until it pauses */
    world_start(&w);
    make(&runs, 1, 300, 100);
    make(&waits, 2, 300, 100);
    make(&late, 3, 300, 100);
    world_submit(&w, &runs);
    world_submit(&w, &waits);
    assert_int_equal(n_waiting(&w), 1);
    router_lose(w.router, 1, &taken);
    reader_wait(&runs);
    reader_wait(&waits);
    assert_true(stream_error(runs.r, &e));
    assert_int_equal(e.code, LLMD_EWORKER);
    assert_true(stream_error(waits.r, &e));
    assert_int_equal(e.code, LLMD_ENOTREADY);
    err_clear(&e);
    assert_int_equal(router_submit(w.router, late.r, &e), -LLMD_ENOTREADY);
    fault_add(
        &(struct fault){.point = FAULT_STEP_FAILS, .worker = 1, .at = 1}); /* nor comes back */
    assert_int_equal(router_restart_worker(w.router, 1, NULL), 0);
    err_clear(&e);
    assert_int_equal(router_submit(w.router, late.r, &e), -LLMD_ENOTREADY);
    reader_fini(&runs);
    reader_fini(&waits);
    reader_fini(&late);
    world_fini(&w);
    fault_clear();
}

/* The promise of max_queue_us is kept, whatever the rate seemed to be at submission. */
static void test_nobody_waits_longer_than_allowed(void **state)
{
    (void)state;
    struct world w;
    struct reader runs, waits, moved;
    struct err e = {0};
    open_world(&w, 1000, 200000);
    struct worker_opts *o = world_add(&w);
    o->max_num_seqs = 1;
    o->sim_step_us = 100000; /* the first one runs for seconds, until it pauses */
    world_start(&w);
    make(&runs, 1, 100, 100);
    make(&waits, 2, 100, 100);
    make(&moved, 3, 100, 2);
    world_submit(&w, &runs);
    const uint64_t began_us = clock_now_us();
    world_submit(&w, &waits);
    assert_soon(world_expired(&w, &waits));
    assert_true(clock_now_us() >= began_us + 200000);
    assert_true(stream_error(waits.r, &e));
    assert_int_equal(e.code, LLMD_EFULL);
    assert_int_equal(n_waiting(&w), 0);
    world_submit(&w, &moved); /* it waits less */
    request_cancel(runs.r);
    reader_wait(&moved);
    assert_int_equal(moved.finish[0], FINISH_LENGTH);
    router_expire(w.router);
    reader_wait(&runs);
    reader_fini(&runs);
    reader_fini(&waits);
    reader_fini(&moved);
    world_fini(&w);
}

/* Who leaves makes room in the queue at once, wherever it waits. */
static void test_cancelled_in_the_queue(void **state)
{
    (void)state;
    enum { N = 200 };
    struct world w;
    struct reader rd[N];
    open_world(&w, 1000, 0);
    struct worker_opts *o = world_add(&w);
    o->max_num_seqs = 1;
    o->sim_step_us = 20000;
    world_start(&w);
    for (uint32_t i = 0; i < N; i++) {
        make(&rd[i], i, 20, 100);
        world_submit(&w, &rd[i]);
    }
    for (uint32_t i = N - 1; i > 1; i--)
        request_cancel(rd[i].r);
    assert_soon(n_waiting(&w) <= 1);
    for (uint32_t i = 2; i < N; i++) {
        reader_wait(&rd[i]);
        assert_int_equal(rd[i].finish[0], FINISH_ABORT);
    }
    request_cancel(rd[0].r);
    request_cancel(rd[1].r);
    for (uint32_t i = 0; i < N; i++) {
        reader_wait(&rd[i]);
        reader_fini(&rd[i]);
    }
    world_fini(&w);
}

/* Whoever would wait too long is refused, by what is before it: the flood of a key is not before the
 * first request of another. False: a busy machine spoiled it, too few or too many could wait. */
static bool long_waits_refused(void)
{
    enum { FLOOD = 60, N_STEPS = 10 };
    struct world w;
    struct reader flood[FLOOD], other;
    struct err e = {0};
    uint32_t n = 0;
    open_world(&w, 1000, 600000);
    struct worker_opts *o = world_add(&w);
    o->max_num_seqs = 2;
    o->sim_step_us = 10000;
    world_start(&w);
    for (uint32_t i = 0; i < 4; i++) { /* about 20 requests a second */
        make(&flood[i], i, 100, N_STEPS);
        world_submit(&w, &flood[i]);
        reader_wait(&flood[i]);
        reader_fini(&flood[i]);
    }
    for (; n < FLOOD; n++) {
        make(&flood[n], n, 100, N_STEPS);
        if (submit_for(&w, &flood[n], "flood", &e) != 0)
            break;
    }
    const bool fit = n >= 2 + 3 && n <= 2 + 12;
    if (n < FLOOD)
        reader_fini(&flood[n]);
    if (fit) {
        assert_int_equal(e.code, LLMD_EFULL);
        assert_non_null(strstr(e.msg, "this one would wait"));
        make(&other, 100, 100, N_STEPS);
        assert_int_equal(submit_for(&w, &other, "other", &e), 0);
        reader_wait(&other);
        reader_wait(&flood[n - 1]);
        assert_true(other.r->trace.first_token_us < flood[n - 1].r->trace.first_token_us);
        reader_fini(&other);
    }
    for (uint32_t i = 0; i < n; i++) {
        reader_wait(&flood[i]);
        reader_fini(&flood[i]);
    }
    world_fini(&w);
    return fit;
}

static void test_too_long_a_wait_is_refused(void **state)
{
    (void)state;
    assert_soon(long_waits_refused());
}

/* A queue that one key fills has room for others, up to their share and as much again in all. */
static void test_a_full_queue_has_room_for_other_keys(void **state)
{
    (void)state;
    static const char *const keys[] = {"flood", "a", "b", "a", "c", "d", "e", "f"};
    static const uint32_t n_taken[] = {1 + 8, 4, 3, 0, 1, 0, 0, 0};
    struct world w;
    struct reader rd[32];
    struct err e = {0};
    uint32_t n = 0;
    open_world(&w, 8, 0);
    struct worker_opts *o = world_add(&w);
    o->max_num_seqs = 1;
    o->sim_step_us = 100000; /* the first one runs for seconds */
    world_start(&w);
    for (uint32_t k = 0; k < ARRAY_LEN(keys); k++) {
        uint32_t n_of = 0;
        for (;; n_of++, n++) {
            make(&rd[n], n, 20, 100);
            rd[n].r->priority = n_of % 2; /* it makes no difference */
            if (submit_for(&w, &rd[n], keys[k], &e) != 0)
                break;
        }
        assert_int_equal(e.code, LLMD_EFULL);
        reader_fini(&rd[n]);
        assert_int_equal(n_of, n_taken[k]);
    }
    assert_int_equal(n_waiting(&w), 16);
    for (uint32_t i = 0; i < n; i++)
        request_cancel(rd[i].r);
    for (uint32_t i = 0; i < n; i++) {
        reader_wait(&rd[i]);
        reader_fini(&rd[i]);
    }
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_worker_full_of_slow_readers),
        cmocka_unit_test(test_who_never_reads_is_ended_when_others_wait),
        cmocka_unit_test(test_a_long_prompt_among_short_ones),
        cmocka_unit_test(test_lost_while_requests_are_handed_over),
        cmocka_unit_test(test_only_the_lost_worker_could_hold_it),
        cmocka_unit_test(test_nobody_waits_longer_than_allowed),
        cmocka_unit_test(test_cancelled_in_the_queue),
        cmocka_unit_test(test_too_long_a_wait_is_refused),
        cmocka_unit_test(test_a_full_queue_has_room_for_other_keys),
    };
    return cmocka_run_group_tests(tests, open_llama, close_llama);
}

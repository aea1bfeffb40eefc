/* Models that follow each other under one name: requests go to the one that they were made for, wait
 * for its first worker, and what is gone is freed. */
#include "core/observe/metrics.h"
#include "tests/unit/router_fixture.h"

enum { N_STREAMS = 16 };

static uint64_t add_model(struct world *w)
{
    const struct router_model_opts o = {.max_queue = 100, .max_migrations = 3};
    assert_int_equal(router_add_model(w->router, "tiny", &o, NULL), 0);
    return router_generation(w->router, "tiny");
}

/* A worker's tokens depend on its model's vocabulary and the request alone. */
static void add_worker(struct world *w, uint64_t generation, uint32_t index)
{
    struct worker_opts *o = world_add(w);
    struct err e = {0};
    o->index = index;
    o->sim_step_us = 200;
    if (router_add_worker(w->router, generation, o, &e) != 0)
        fail_msg("%s", e.msg);
}

static void drain_and_remove(struct world *w, uint32_t index)
{
    struct router_worker_view v;
    assert_int_equal(router_drain_worker(w->router, index, NULL), 0);
    assert_soon(router_remove_worker(w->router, index, NULL) == 0);
    w->n--;
    assert_false(world_find(w, index, &v));
}

static void wait_collected(struct world *w, uint64_t generation)
{
    struct router_model_view v;
    assert_soon(router_collect_model(w->router, generation));
    assert_false(router_model_generation(w->router, generation, &v));
}

static void make(struct reader *rd, uint32_t number, uint64_t generation)
{
    reader_init_number(rd, number);
    rd->r->generation = generation;
}

static void test_requests_go_to_their_generation(void **state)
{
    (void)state;
    struct world w;
    struct reader old, new, any;
    world_init(&w, NULL);
    const uint64_t first = add_model(&w);
    add_worker(&w, first, 0);
    const uint64_t second = add_model(&w);
    add_worker(&w, second, 1);
    assert_true(second > first);
    world_wait_state(&w, 0, WORKER_READY);
    world_wait_state(&w, 1, WORKER_READY);
    make(&old, 1, first);
    make(&new, 1, second);
    make(&any, 1, 0);
    world_submit(&w, &old);
    world_submit(&w, &new);
    world_submit(&w, &any);
    reader_wait(&old);
    reader_wait(&new);
    reader_wait(&any);
    assert_int_equal(old.r->trace.worker, 0);
    assert_int_equal(new.r->trace.worker, 1);
    assert_int_equal(any.r->trace.worker, 1); /* the newest */
    reader_finish(&old);
    reader_finish(&new);
    reader_finish(&any);
    world_fini(&w);
}

static void test_a_closed_one_ends_and_is_collected(void **state)
{
    (void)state;
    struct world w;
    struct reader rd[N_STREAMS], late;
    struct err e = {0};
    struct router_model_view v;
    world_init(&w, NULL);
    const uint64_t first = add_model(&w);
    add_worker(&w, first, 0);
    add_worker(&w, first, 1);
    world_wait_state(&w, 0, WORKER_READY);
    world_wait_state(&w, 1, WORKER_READY);
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        make(&rd[i], i, first);
        world_submit(&w, &rd[i]);
    }
    router_close_model(w.router, first, true);
    make(&late, 99, first);
    assert_int_equal(router_submit(w.router, late.r, &e), -LLMD_ENOTFOUND);
    err_clear(&e);
    assert_int_equal(router_remove_worker(w.router, 0, &e), -LLMD_EINVAL); /* not drained */
    err_clear(&e);
    assert_int_equal(router_drain_worker(w.router, 0, NULL), 0);
    assert_int_equal(router_remove_worker(w.router, 0, &e), -LLMD_ENOTREADY); /* it finishes */
    assert_false(router_collect_model(w.router, first));
    assert_true(router_model_generation(w.router, first, &v));
    assert_in_range(v.n_requests, 1, N_STREAMS);
    for (uint32_t i = 0; i < N_STREAMS; i++)
        reader_finish(&rd[i]);
    drain_and_remove(&w, 0);
    assert_false(router_collect_model(w.router, first)); /* a worker is left */
    drain_and_remove(&w, 1);
    wait_collected(&w, first);
    err_clear(&e);
    assert_int_equal(router_submit(w.router, late.r, &e), -LLMD_ENOTFOUND); /* unknown by now */
    assert_int_equal(router_workers(w.router, NULL, 0), 0);
    reader_fini(&late);
    world_fini(&w);
}

/* Of the decision that gave a request to a worker. */
static uint32_t count_candidates(struct world *w, uint32_t number)
{
    struct reader rd;
    make(&rd, number, 0);
    world_submit(w, &rd);
    reader_wait(&rd);
    struct route_record *rec = router_record(w->router, rd.r);
    assert_non_null(rec);
    const struct decision *d = record_last_binding(rec);
    assert_non_null(d);
    const uint32_t n = d->n_candidates;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < i; k++)
            assert_true(d->candidates[i].worker != d->candidates[k].worker);
    free(rec);
    reader_finish(&rd);
    return n;
}

static void test_who_was_removed_is_no_candidate(void **state)
{
    (void)state;
    struct world w;
    world_init(&w, NULL);
    const uint64_t only = add_model(&w);
    for (uint32_t i = 0; i < 3; i++) {
        add_worker(&w, only, i);
        world_wait_state(&w, i, WORKER_READY);
    }
    assert_int_equal(count_candidates(&w, 0), 3);
    drain_and_remove(&w, 0);
    assert_int_equal(count_candidates(&w, 1), 2);
    add_worker(&w, only, 0); /* before the old one was joined */
    world_wait_state(&w, 0, WORKER_READY);
    assert_int_equal(count_candidates(&w, 2), 3);
    drain_and_remove(&w, 1);
    drain_and_remove(&w, 2);
    assert_int_equal(count_candidates(&w, 3), 1);
    world_fini(&w);
}

/* What only it could hold is too large from then on; when the others are dead, all are. */
static void test_who_was_removed_does_not_count(void **state)
{
    (void)state;
    static const struct err stalled = {.code = LLMD_EWORKER, .msg = "it stalls"};
    struct world w;
    struct reader large, small, any;
    struct err e = {0};
    world_init(&w, NULL);
    const uint64_t only = add_model(&w);
    add_worker(&w, only, 0);
    struct worker_opts *o = world_add(&w);
    o->kv_cache_blocks = 4;
    assert_int_equal(router_add_worker(w.router, only, o, NULL), 0);
    world_wait_state(&w, 0, WORKER_READY);
    world_wait_state(&w, 1, WORKER_READY);
    make(&large, 0, only); /* 20 + 70 tokens: 6 blocks */
    make(&small, 0, only);
    small.r->sampling.max_tokens = 2;
    drain_and_remove(&w, 0);
    assert_int_equal(router_submit(w.router, large.r, &e), -LLMD_ETOOBIG);
    make(&any, 0, only); /* the same, but nobody asked for the 70 */
    any.r->sampling.max_tokens_yields = true;
    assert_int_equal(router_submit(w.router, request_ref(any.r), &e), 0);
    reader_wait(&any);
    assert_int_equal(any.n_got[0], 4 * 16 - 20 + 1);
    assert_int_equal(any.finish[0], FINISH_LENGTH);
    router_lose(w.router, 1, &stalled);
    err_clear(&e);
    assert_int_equal(router_submit(w.router, small.r, &e), -LLMD_ENOTREADY);
    assert_string_equal(e.msg, "no worker of model \"tiny\" is alive: it stalls");
    reader_fini(&large);
    reader_fini(&small);
    reader_fini(&any);
    world_fini(&w);
}

static double index_blocks(struct metrics *m)
{
    static const char name[] = "llmd_router_index_blocks{model_name=\"tiny\"} ";
    struct buf text = {0};
    metrics_write(m, METRICS_TEXT, &text);
    const char *at = strstr(buf_str(&text), name);
    const double n = at ? strtod(at + strlen(name), NULL) : -1;
    buf_fini(&text);
    return n;
}

static void test_what_it_knew_of_prefixes_goes_with_a_model(void **state)
{
    (void)state;
    struct world w;
    struct reader rd;
    struct metrics *m = metrics_new();
    const struct router_model_opts o = {.max_queue = 100, .metrics = m};
    world_init(&w, &o);
    const uint64_t only = router_generation(w.router, "tiny");
    add_worker(&w, only, 0);
    world_wait_state(&w, 0, WORKER_READY);
    make(&rd, 0, only);
    world_submit(&w, &rd);
    reader_finish(&rd);
    assert_soon(index_blocks(m) > 0);
    router_close_model(w.router, only, true);
    drain_and_remove(&w, 0);
    wait_collected(&w, only);
    assert_true(index_blocks(m) == 0);
    world_fini(&w);
    metrics_free(m);
}

static void test_held_requests_wait_for_the_first_worker(void **state)
{
    (void)state;
    struct world w;
    struct reader rd[N_STREAMS];
    struct err e = {0};
    world_init(&w, NULL);
    const uint64_t first = add_model(&w);
    make(&rd[0], 0, first);
    assert_int_equal(router_submit(w.router, rd[0].r, &e), -LLMD_ENOTREADY);
    assert_false(router_model_ready(w.router, "tiny"));
    router_hold_model(w.router, first, true);
    assert_true(router_model_ready(w.router, "tiny"));
    assert_false(router_all_ready(w.router));
    world_submit(&w, &rd[0]);
    for (uint32_t i = 1; i < N_STREAMS; i++) {
        make(&rd[i], i, first);
        world_submit(&w, &rd[i]);
    }
    add_worker(&w, first, 0);
    world_wait_state(&w, 0, WORKER_READY);
    router_hold_model(w.router, first, false);
    for (uint32_t i = 0; i < N_STREAMS; i++)
        reader_finish(&rd[i]);
    world_fini(&w);
}

static void test_who_leaves_waits_for_no_worker(void **state)
{
    (void)state;
    struct world w;
    struct reader rd;
    struct router_model_view v;
    world_init(&w, NULL);
    const uint64_t first = add_model(&w);
    router_hold_model(w.router, first, true);
    make(&rd, 0, first);
    world_submit(&w, &rd);
    request_cancel(rd.r);
    assert_soon(world_expired(&w, &rd));
    assert_true(router_model_generation(w.router, first, &v));
    assert_int_equal(v.n_requests, 0);
    assert_int_equal(rd.finish[0], FINISH_ABORT);
    reader_fini(&rd);
    world_fini(&w);
}

/* The successor's first worker does not start: what waited for it goes on at its predecessor. */
static void test_waiting_requests_go_back(void **state)
{
    (void)state;
    struct world w;
    struct reader rd[N_STREAMS], lost;
    struct err e = {0};
    struct router_model_view v;
    world_init(&w, NULL);
    const uint64_t first = add_model(&w), second = add_model(&w);
    router_hold_model(w.router, second, true);
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        make(&rd[i], i, second);
        world_submit(&w, &rd[i]);
    }
    router_hold_model(w.router, first, true);
    router_move_waiting(w.router, second, first);
    assert_true(router_model_generation(w.router, first, &v));
    assert_int_equal(v.n_waiting, N_STREAMS);
    make(&lost, 0, second);
    world_submit(&w, &lost);
    router_close_model(w.router, second, true);
    router_hold_model(w.router, second, false); /* what is left there fails */
    reader_wait(&lost);
    assert_int_equal(lost.finish[0], FINISH_ERROR);
    assert_true(stream_error(lost.r, &e));
    assert_int_equal(e.code, LLMD_ENOTREADY);
    reader_fini(&lost);
    wait_collected(&w, second);
    add_worker(&w, first, 0);
    for (uint32_t i = 0; i < N_STREAMS; i++)
        reader_finish(&rd[i]);
    world_fini(&w);
}

/* Of a successor from the same files: the queue goes over as it is, the keys have their turns. */
static void test_who_waits_keeps_its_turn(void **state)
{
    (void)state;
    enum { N_GREEDY = 40 };
    struct world w;
    struct reader greedy[N_GREEDY], modest;
    uint64_t last_us = 0;
    world_init(&w, NULL);
    const uint64_t first = add_model(&w), second = add_model(&w);
    router_hold_model(w.router, first, true);
    router_hold_model(w.router, second, true);
    for (uint32_t i = 0; i <= N_GREEDY; i++) {
        struct reader *rd = i < N_GREEDY ? &greedy[i] : &modest;
        make(rd, i, first);
        rd->r->sampling.max_tokens = 2;
        rd->r->key_name = i < N_GREEDY ? "greedy" : "modest";
        world_submit(&w, rd);
    }
    router_move_waiting(w.router, first, second);
    struct worker_opts *o = world_add(&w);
    o->max_num_seqs = 1;
    o->sim_step_us = 200;
    assert_int_equal(router_add_worker(w.router, second, o, NULL), 0);
    for (uint32_t i = 0; i < N_GREEDY; i++) {
        reader_wait(&greedy[i]);
        last_us = u64_max(last_us, greedy[i].r->trace.scheduled_us);
    }
    reader_wait(&modest);
    assert_true(modest.r->trace.scheduled_us < last_us);
    for (uint32_t i = 0; i < N_GREEDY; i++)
        reader_finish(&greedy[i]);
    reader_finish(&modest);
    world_fini(&w);
}

/* Generations follow each other under streams: each is taken by whoever is there, all texts stay. */
static void test_texts_over_many_generations(void **state)
{
    (void)state;
    enum { ROUNDS = 20 };
    struct world w;
    struct reader expected[N_STREAMS], rd[N_STREAMS];
    uint32_t n_done = 0;
    world_init(&w, NULL);
    uint64_t now = add_model(&w);
    add_worker(&w, now, 0);
    world_wait_state(&w, 0, WORKER_READY);
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        make(&expected[i], i, now);
        world_submit(&w, &expected[i]);
        reader_wait(&expected[i]);
        make(&rd[i], i, now);
        world_submit(&w, &rd[i]);
    }
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        const uint64_t next = add_model(&w);
        router_hold_model(w.router, next, true);
        router_close_model(w.router, now, true);
        struct router_model_view v = {.n_requests = 1};
        while (v.n_requests > 0) {
            for (uint32_t i = 0; i < N_STREAMS; i++) {
                if (!reader_ended_as(&rd[i], &expected[i]))
                    continue;
                reader_fini(&rd[i]);
                make(&rd[i], i, next);
                world_submit(&w, &rd[i]);
                n_done++;
            }
            assert_true(router_model_generation(w.router, now, &v));
        }
        drain_and_remove(&w, 0);
        add_worker(&w, next, 0);
        world_wait_state(&w, 0, WORKER_READY);
        router_hold_model(w.router, next, false);
        wait_collected(&w, now);
        now = next;
    }
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        reader_wait(&rd[i]);
        assert_same_text(&rd[i], &expected[i]);
        reader_fini(&rd[i]);
        reader_fini(&expected[i]);
    }
    assert_in_range(n_done, N_STREAMS * ROUNDS / 2, UINT32_MAX);
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_go_to_their_generation),
        cmocka_unit_test(test_a_closed_one_ends_and_is_collected),
        cmocka_unit_test(test_who_was_removed_is_no_candidate),
        cmocka_unit_test(test_who_was_removed_does_not_count),
        cmocka_unit_test(test_what_it_knew_of_prefixes_goes_with_a_model),
        cmocka_unit_test(test_held_requests_wait_for_the_first_worker),
        cmocka_unit_test(test_who_leaves_waits_for_no_worker),
        cmocka_unit_test(test_waiting_requests_go_back),
        cmocka_unit_test(test_who_waits_keeps_its_turn),
        cmocka_unit_test(test_texts_over_many_generations),
    };
    return cmocka_run_group_tests(tests, open_llama, close_llama);
}

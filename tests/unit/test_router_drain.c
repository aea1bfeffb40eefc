/* Workers that are taken out of service and returned: what they have ends there, nothing new comes,
 * what nobody else can take waits as long as it may. Simulated workers, so that texts are known. */
#include "tests/unit/router_fixture.h"

enum { N_WORKERS = 3, N_STREAMS = 24 };

static void open_world(struct world *w, uint32_t n, const struct router_model_opts *o)
{
    const struct router_model_opts roomy = {.max_queue = 1000, .max_migrations = 0};
    world_init(w, o ? o : &roomy);
    for (uint32_t i = 0; i < n; i++)
        world_add(w)->sim_step_us = 200;
    world_start(w);
}

/* It never moved. */
static void finish(struct reader *rd)
{
    reader_wait(rd);
    assert_int_equal(rd->r->trace.n_migrations, 0);
    reader_finish(rd);
}

static void drain(struct world *w, uint32_t i)
{
    struct err e = {0};
    if (router_drain_worker(w->router, i, &e) != 0)
        fail_msg("%s", e.msg);
}

/* When its thread has ended, too. */
static int return_it(struct world *w, uint32_t i, struct err *e)
{
    int rc;
    world_wait_state(w, i, WORKER_DEAD);
    while ((rc = router_return_worker(w->router, i, e)) == -LLMD_ENOTREADY) {
        err_clear(e);
        clock_sleep_us(200);
    }
    return rc;
}

static void bring_back(struct world *w, uint32_t i)
{
    struct err e = {0};
    assert_int_equal(return_it(w, i, &e), 0);
    router_reap(w->router);
}

static void test_it_finishes_what_it_has_and_takes_no_more(void **state)
{
    (void)state;
    struct world w;
    struct reader rd[N_STREAMS], more[4];
    open_world(&w, 2, NULL);
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        reader_init_number(&rd[i], i);
        world_submit(&w, &rd[i]);
    }
    drain(&w, 0);
    drain(&w, 0); /* idempotent */
    assert_true(world_view(&w, 0).drained && !world_view(&w, 1).drained);
    const uint64_t n_chosen = world_view(&w, 0).n_chosen;
    assert_true(n_chosen > 0);
    for (uint32_t i = 0; i < 4; i++) {
        struct buf why = {0};
        reader_init_number(&more[i], 100 + i);
        world_submit(&w, &more[i]);
        struct route_record *rec = router_record(w.router, more[i].r);
        assert_non_null(rec);
        record_add_json(rec, &why);
        if (record_n_kept(rec) > 0)
            assert_non_null(strstr(buf_str(&why), "taken out of service"));
        free(rec);
        buf_fini(&why);
    }
    for (uint32_t i = 0; i < N_STREAMS; i++)
        finish(&rd[i]);
    for (uint32_t i = 0; i < 4; i++) {
        reader_wait(&more[i]);
        assert_int_equal(more[i].r->trace.worker, 1);
        finish(&more[i]);
    }
    world_wait_state(&w, 0, WORKER_DEAD);
    assert_int_equal(world_view(&w, 0).n_chosen, n_chosen);
    world_fini(&w);
}

static void test_its_place_stays_down_until_it_is_returned(void **state)
{
    (void)state;
    struct world w;
    struct reader rd;
    struct err e = {0};
    open_world(&w, 1, NULL);
    assert_int_equal(router_drain_worker(w.router, 7, &e), -LLMD_ENOTFOUND);
    err_clear(&e);
    assert_int_equal(router_return_worker(w.router, 0, &e), -LLMD_EINVAL);
    assert_non_null(strstr(e.msg, "in service"));
    err_clear(&e);
    reader_init_number(&rd, 1);
    world_submit(&w, &rd);
    drain(&w, 0);
    assert_int_equal(router_return_worker(w.router, 0, &e), -LLMD_ENOTREADY);
    finish(&rd);
    world_wait_state(&w, 0, WORKER_DEAD);
    assert_int_equal(router_restart_worker(w.router, 0, NULL), -LLMD_EINVAL);
    assert_true(world_view(&w, 0).drained);
    bring_back(&w, 0);
    world_wait_state(&w, 0, WORKER_READY);
    assert_false(world_view(&w, 0).drained);
    assert_int_equal(world_view(&w, 0).n_starts, 2);
    reader_init_number(&rd, 2);
    world_submit(&w, &rd);
    finish(&rd);
    world_fini(&w);
}

static void test_it_is_drained_again_when_it_cannot_start(void **state)
{
    (void)state;
    struct world w;
    struct err e = {0};
    open_world(&w, 1, NULL);
    drain(&w, 0);
    w.opts[0].max_num_seqs = 0;
    assert_int_equal(return_it(&w, 0, &e), -LLMD_EINVAL);
    assert_non_null(strstr(e.msg, "max_num_seqs"));
    assert_true(world_view(&w, 0).drained);
    assert_int_equal(world_view(&w, 0).status.state, WORKER_DEAD);
    assert_int_equal(router_restart_worker(w.router, 0, NULL), -LLMD_EINVAL);

    w.opts[0].max_num_seqs = sim_worker_opts(&llama).max_num_seqs;
    bring_back(&w, 0);
    world_wait_state(&w, 0, WORKER_READY);
    assert_false(world_view(&w, 0).drained);
    world_fini(&w);
}

static void test_without_others_requests_wait_for_its_return(void **state)
{
    (void)state;
    struct world w;
    struct reader rd[N_STREAMS];
    struct router_model_view v;
    open_world(&w, 1, NULL);
    drain(&w, 0);
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        reader_init_number(&rd[i], i);
        world_submit(&w, &rd[i]);
    }
    assert_true(router_model(w.router, "tiny", &v));
    assert_int_equal(v.n_waiting, N_STREAMS);
    router_expire(w.router); /* any wait */
    bring_back(&w, 0);
    for (uint32_t i = 0; i < N_STREAMS; i++)
        finish(&rd[i]);
    world_fini(&w);
}

static void test_waiting_is_bounded(void **state)
{
    (void)state;
    struct world w;
    struct reader rd[3];
    struct err e = {0};
    enum { ALLOWED_US = 100000 };
    const struct router_model_opts o = {.max_queue = 2, .max_queue_us = ALLOWED_US};
    open_world(&w, 1, &o);
    drain(&w, 0);
    for (uint32_t i = 0; i < 3; i++)
        reader_init_number(&rd[i], i);
    const uint64_t began_us = clock_now_us();
    world_submit(&w, &rd[0]);
    world_submit(&w, &rd[1]);
    assert_int_equal(router_submit(w.router, rd[2].r, &e), -LLMD_EFULL);
    for (uint32_t i = 0; i < 2; i++) {
        err_clear(&e);
        assert_soon(world_expired(&w, &rd[i]));
        assert_true(clock_now_us() >= began_us + ALLOWED_US);
        assert_int_equal(rd[i].finish[0], FINISH_ERROR);
        assert_true(stream_error(rd[i].r, &e));
        assert_int_equal(e.code, LLMD_ENOTREADY);
    }
    for (uint32_t i = 0; i < 3; i++)
        reader_fini(&rd[i]);
    world_fini(&w);
}

static void test_what_its_successor_cannot_hold_fails(void **state)
{
    (void)state;
    struct world w;
    struct reader rd;
    struct err e = {0};
    open_world(&w, 1, NULL);
    drain(&w, 0);
    reader_init_number(&rd, 1); /* 21 + 71 tokens: 6 blocks */
    world_submit(&w, &rd);
    world_wait_state(&w, 0, WORKER_DEAD);
    w.opts[0].kv_cache_blocks = 3;
    bring_back(&w, 0);
    reader_wait(&rd);
    assert_int_equal(rd.finish[0], FINISH_ERROR);
    assert_true(stream_error(rd.r, &e));
    assert_int_equal(e.code, LLMD_ENOTREADY);
    reader_fini(&rd);
    world_fini(&w);
}

/* The texts stay those of undisturbed workers, and nothing moves: what a worker has ends there. */
static void test_texts_under_drains(void **state)
{
    (void)state;
    enum { ROUNDS = 20 };
    struct world w;
    struct reader expected[N_STREAMS], rd[N_STREAMS];
    uint32_t n_done = 0;
    open_world(&w, 1, NULL);
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        reader_init_number(&expected[i], i);
        world_submit(&w, &expected[i]);
        reader_wait(&expected[i]);
    }
    world_fini(&w);
    open_world(&w, N_WORKERS, NULL);
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        reader_init_number(&rd[i], i);
        world_submit(&w, &rd[i]);
    }
    for (uint32_t round = 0; round < ROUNDS; round++) {
        const uint32_t victim = round * 7 % N_WORKERS;
        drain(&w, victim);
        while (world_view(&w, victim).status.state != WORKER_DEAD)
            for (uint32_t i = 0; i < N_STREAMS; i++) {
                if (!reader_ended_as(&rd[i], &expected[i]))
                    continue;
                finish(&rd[i]);
                n_done++;
                reader_init_number(&rd[i], i);
                world_submit(&w, &rd[i]);
            }
        bring_back(&w, victim);
    }
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        reader_wait(&rd[i]);
        assert_same_text(&rd[i], &expected[i]);
        finish(&rd[i]);
        reader_fini(&expected[i]);
    }
    assert_true(n_done > ROUNDS);
    world_fini(&w);
}

/* --- the operator drains and returns while the supervisor gives up and starts again --- */

struct race {
    struct world *w;
    atomic_bool over;
};

static void *operate(void *arg)
{
    struct race *race = arg;
    for (uint32_t i = 0; !atomic_load(&race->over); i++) {
        assert_int_equal(router_drain_worker(race->w->router, 1 + i % 2, NULL), 0);
        clock_sleep_us(i * 37 % 1000);
        while (router_return_worker(race->w->router, 1 + i % 2, NULL) == -LLMD_ENOTREADY)
            clock_sleep_us(100);
    }
    return NULL;
}

static void *watch_over(void *arg)
{
    static const struct err why = {.code = LLMD_EWORKER, .msg = "given up"};
    struct race *race = arg;
    for (uint32_t i = 0; !atomic_load(&race->over); i++) {
        router_lose(race->w->router, 1 + i % 2, &why);
        clock_sleep_us(i * 53 % 1500);
        router_reap(race->w->router);
        const int rc = router_restart_worker(race->w->router, 1 + i % 2, NULL);
        assert_true(rc == 0 || rc == -LLMD_EINVAL);
        router_expire(race->w->router);
    }
    return NULL;
}

/* In service and ready, however the race left it. */
static bool restored(struct world *w, uint32_t i)
{
    if (router_return_worker(w->router, i, NULL) == 0 ||
        router_restart_worker(w->router, i, NULL) == 0)
        return false; /* not yet */
    return world_is(w, i, WORKER_READY, 0);
}

static void test_drained_while_it_is_given_up(void **state)
{
    (void)state;
    const struct router_model_opts o = {.max_queue = 1000, .max_migrations = 100000};
    struct world w;
    struct race race = {.w = &w};
    struct reader rd[N_STREAMS];
    pthread_t operator, supervisor;
    open_world(&w, N_WORKERS, &o);
    assert_int_equal(pthread_create(&operator, NULL, operate, &race), 0);
    assert_int_equal(pthread_create(&supervisor, NULL, watch_over, &race), 0);
    for (uint64_t until_us = clock_now_us() + 400000; clock_now_us() < until_us;) {
        for (uint32_t i = 0; i < N_STREAMS; i++) {
            reader_init_number(&rd[i], i);
            world_submit(&w, &rd[i]);
        }
        for (uint32_t i = 0; i < N_STREAMS; i++) {
            reader_wait(&rd[i]);
            assert_int_equal(rd[i].finish[0], FINISH_LENGTH);
            reader_fini(&rd[i]);
        }
    }
    atomic_store(&race.over, true);
    pthread_join(operator, NULL);
    pthread_join(supervisor, NULL);
    assert_soon(restored(&w, 1));
    assert_soon(restored(&w, 2));
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_finishes_what_it_has_and_takes_no_more),
        cmocka_unit_test(test_its_place_stays_down_until_it_is_returned),
        cmocka_unit_test(test_it_is_drained_again_when_it_cannot_start),
        cmocka_unit_test(test_without_others_requests_wait_for_its_return),
        cmocka_unit_test(test_waiting_is_bounded),
        cmocka_unit_test(test_what_its_successor_cannot_hold_fails),
        cmocka_unit_test(test_texts_under_drains),
        cmocka_unit_test(test_drained_while_it_is_given_up),
    };
    return cmocka_run_group_tests(tests, open_llama, close_llama);
}

/* The router over simulated workers: turns, prefixes, waiting, refusals, readiness, the end. */
#include "tests/unit/router_fixture.h"

static const struct router_model_opts model_opts = {
    .policy = ROUTE_PREFIX, .delta = 250, .max_queue = 6, .max_migrations = 2};

static void request_to(struct reader *rd, const char *model, uint32_t n_prompt, uint32_t max_tokens)
{
    static const uint32_t prompt[500] = {5, 6, 7};
    reader_init(rd, NULL, prompt, n_prompt, max_tokens, 1);
    rd->r->model = model;
}

static int submit(struct world *w, struct reader *rd, struct err *e)
{
    err_clear(e);
    const int rc = world_try(w, rd, e);
    assert_int_equal(rc, -e->code);
    return rc;
}

/* The last decision about it, as JSON. */
static void explain(struct world *w, struct reader *rd, struct buf *out)
{
    uint64_t n_times, first_us;
    struct route_record *rec = router_record(w->router, rd->r);
    assert_true(rec && record_n_kept(rec) > 0);
    decision_add_json(record_kept(rec, record_n_kept(rec) - 1, &n_times, &first_us), out);
    free(rec);
}

static void test_takes_turns(void **state)
{
    (void)state;
    struct world w;
    struct reader rd[9];
    struct err e = {0};
    uint32_t n_of[3] = {0};
    struct router_model_opts turns = model_opts;
    turns.policy = ROUTE_ROUNDROBIN;
    world_init(&w, &turns);
    for (uint32_t i = 0; i < 3; i++)
        world_add(&w);
    world_start(&w);
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
    (void)world_end(&w);
}

/* Everything that does not fit the workers waits in the router, in order; what is too much is
 * refused; who leaves while waiting makes room. */
static void test_waits_for_a_place(void **state)
{
    (void)state;
    struct world w;
    struct reader rd[10];
    struct err e = {0};
    struct router_model_view v;
    world_init(&w, &model_opts);
    for (uint32_t i = 0; i < 2; i++) {
        struct worker_opts *o = world_add(&w);
        o->sim_step_us = 20000;
        o->max_num_seqs = 1;
    }
    world_start(&w);
    for (uint32_t i = 0; i < 9; i++) { /* the first two run until they are cancelled */
        request_to(&rd[i], "tiny", 10, i < 2 ? 400 : 8);
        assert_int_equal(submit(&w, &rd[i], &e), i < 8 ? 0 : -LLMD_EFULL);
    }
    assert_non_null(strstr(e.msg, "6 requests wait already"));
    assert_true(router_model(w.router, "tiny", &v));
    assert_int_equal(v.n_waiting, 6);
    request_cancel(rd[5].r); /* waits */
    request_cancel(rd[0].r);
    request_cancel(rd[1].r);
    for (uint32_t i = 0; i < 8; i++) {
        reader_wait(&rd[i]);
        assert_int_equal(rd[i].finish[0], i < 2 || i == 5 ? FINISH_ABORT : FINISH_LENGTH);
    }
    assert_true(rd[6].r->trace.first_token_us > rd[2].r->trace.last_token_us);
    assert_true(rd[6].r->trace.queued_us < rd[2].r->trace.first_token_us);
    for (uint32_t i = 0; i < 9; i++)
        reader_fini(&rd[i]);
    (void)world_end(&w);
}

static void test_goes_where_it_fits(void **state)
{
    (void)state;
    struct world w;
    struct reader rd;
    struct err e = {0};
    world_init(&w, &model_opts);
    for (uint32_t i = 0; i < 2; i++) {
        struct worker_opts *o = world_add(&w);
        o->kv_cache_blocks = i == 0 ? 4 : 32;
    }
    world_start(&w);
    for (uint32_t i = 0; i < 3; i++) {
        request_to(&rd, "tiny", 500, 12);
        assert_int_equal(submit(&w, &rd, &e), 0);
        reader_wait(&rd);
        assert_int_equal(rd.r->trace.worker, 1);
        reader_fini(&rd);
    }
    (void)world_end(&w);
}

/* A reader whose prompt of n tokens begins with n_shared common ones of this family. */
static void family_request(struct reader *rd, uint32_t family, uint32_t member, uint32_t n_shared,
                           uint32_t n)
{
    uint32_t prompt[512];
    for (uint32_t i = 0; i < n; i++)
        prompt[i] = i < n_shared ? (family * 31 + i) % 200 : (family + member * 7 + i * 3) % 200;
    reader_init(rd, NULL, prompt, n, 4, 1);
    rd->r->model = "tiny";
}

/* Families of prompts stay together, and both workers have some. */
static void test_prefixes_stay_together(void **state)
{
    (void)state;
    enum { FAMILIES = 4, MEMBERS = 6 };
    struct world w;
    struct err e = {0};
    uint32_t n_of[2] = {0};
    world_init(&w, &model_opts);
    for (uint32_t i = 0; i < 2; i++)
        world_add(&w);
    world_start(&w);
    int32_t homes[FAMILIES];
    for (uint32_t member = 0; member < MEMBERS; member++)
        for (uint32_t f = 0; f < FAMILIES; f++) {
            struct reader rd;
            family_request(&rd, f, member, 320, 340);
            world_wait_idle(&w);
            assert_int_equal(submit(&w, &rd, &e), 0);
            reader_wait(&rd);
            if (member == 0)
                homes[f] = rd.r->trace.worker;
            assert_int_equal(rd.r->trace.worker, homes[f]);
            assert_int_equal(rd.r->trace.n_cached_tokens, member == 0 ? 0 : 320);
            n_of[rd.r->trace.worker]++;
            reader_fini(&rd);
        }
    assert_int_equal(n_of[0], n_of[1]);
    (void)world_end(&w);
}

/* Of siblings that come at once, the later ones see what the first have only promised to compute:
 * the second is better off alone (the first would have to be computed before it), the third is not.
 * False: a busy machine took so long that the first may have been computed meanwhile. */
static bool promises_counted(void)
{
    enum { SIBLINGS = 3, STEP_US = 50000 };
    struct world w;
    struct reader rd[SIBLINGS];
    struct err e = {0};
    struct buf b = {0};
    world_init(&w, &model_opts);
    for (uint32_t i = 0; i < 2; i++) {
        struct worker_opts *o = world_add(&w);
        o->sim_step_us = STEP_US;
        o->max_num_batched_tokens = 512;
    }
    world_start(&w);
    const uint64_t began_us = clock_now_us();
    for (uint32_t i = 0; i < SIBLINGS; i++) {
        family_request(&rd[i], 1, i, 480, 500);
        assert_int_equal(submit(&w, &rd[i], &e), 0);
    }
    const bool at_once = clock_now_us() < began_us + STEP_US;
    explain(&w, &rd[2], &b);
    for (uint32_t i = 0; i < SIBLINGS; i++)
        reader_wait(&rd[i]);
    if (at_once) {
        assert_non_null(strstr(buf_str(&b), "\"cached_tokens\":480,\"held_tokens\":0"));
        assert_true(rd[0].r->trace.worker != rd[1].r->trace.worker);
        assert_int_equal(rd[2].r->trace.n_cached_tokens, 480);
    }
    for (uint32_t i = 0; i < SIBLINGS; i++)
        reader_fini(&rd[i]);
    buf_fini(&b);
    (void)world_end(&w);
    return at_once;
}

static void test_promised_blocks_count(void **state)
{
    (void)state;
    assert_soon(promises_counted());
}

/* A worker without a prefix cache shares nothing: siblings are not drawn to it. */
static void test_no_cache_no_promises(void **state)
{
    (void)state;
    struct world w;
    struct reader rd[2];
    struct err e = {0};
    struct buf b = {0};
    world_init(&w, &model_opts);
    struct worker_opts *o = world_add(&w);
    o->sim_step_us = 20000;
    o->enable_prefix_caching = false;
    world_start(&w);
    for (uint32_t i = 0; i < 2; i++) {
        family_request(&rd[i], 1, i, 320, 340);
        assert_int_equal(submit(&w, &rd[i], &e), 0);
    }
    explain(&w, &rd[1], &b);
    assert_non_null(strstr(buf_str(&b), "\"cached_tokens\":0,"));
    for (uint32_t i = 0; i < 2; i++) {
        reader_wait(&rd[i]);
        reader_fini(&rd[i]);
    }
    buf_fini(&b);
    (void)world_end(&w);
}

static void test_decisions_are_explained(void **state)
{
    (void)state;
    struct world w;
    struct reader rd;
    struct err e = {0};
    struct buf b = {0};
    struct router_model_view v;
    world_init(&w, &model_opts);
    for (uint32_t i = 0; i < 2; i++) {
        struct worker_opts *o = world_add(&w);
        o->sim_step_us = 30000;
    }
    world_start(&w);
    family_request(&rd, 1, 0, 320, 340);
    assert_null(router_record(w.router, rd.r));
    assert_int_equal(submit(&w, &rd, &e), 0);
    explain(&w, &rd, &b);
    assert_non_null(strstr(buf_str(&b), "\"why\":\"worker 0: its turn among equals\""));
    reader_wait(&rd);
    assert_true(router_model(w.router, "tiny", &v));
    assert_int_equal(v.n_decisions, 1);
    assert_true(v.map_bytes > 0 && v.n_map_entries >= 320 / 16);
    assert_false(router_model(w.router, "large", &v));
    reader_fini(&rd);
    buf_fini(&b);
    (void)world_end(&w);
}

static void test_refusals_say_why(void **state)
{
    (void)state;
    struct world w;
    struct reader rd;
    struct err e = {0};
    world_init(&w, &model_opts);
    request_to(&rd, "large", 10, 4);
    assert_int_equal(submit(&w, &rd, &e), -LLMD_ENOTFOUND);
    rd.r->model = "tiny";
    assert_int_equal(submit(&w, &rd, &e), -LLMD_ENOTREADY);
    assert_false(router_model_ready(w.router, "tiny"));
    assert_false(router_all_ready(w.router));

    struct worker_opts *o = world_add(&w);
    o->kv_cache_blocks = 0;
    o->kv_cache_bytes = 1; /* it cannot start */
    assert_int_equal(router_start_worker(w.router, "tiny", o, NULL), 0);
    world_wait_state(&w, 0, WORKER_DEAD);
    /* its last callback may still be on the way */
    assert_soon(submit(&w, &rd, &e) == -LLMD_ENOTREADY && strstr(e.msg, "kv_cache_mb"));
    struct router_worker_view v;
    assert_int_equal(router_workers(w.router, &v, 1), 1);
    assert_string_equal(v.model, "tiny");
    assert_int_equal(v.status.state, WORKER_DEAD);
    assert_non_null(strstr(v.error, "kv_cache_mb"));

    o = world_add(&w);
    o->kv_cache_blocks = 4;
    assert_int_equal(router_start_worker(w.router, "tiny", o, NULL), 0);
    world_wait_state(&w, 1, WORKER_READY);
    assert_soon(router_all_ready(w.router));
    assert_true(router_model_ready(w.router, "tiny"));
    assert_false(router_model_ready(w.router, "large"));
    assert_int_equal(submit(&w, &rd, &e), 0);
    reader_wait(&rd);
    reader_fini(&rd);
    request_to(&rd, "tiny", 100, 4);
    assert_int_equal(submit(&w, &rd, &e), -LLMD_ETOOBIG);
    reader_fini(&rd);
    (void)world_end(&w);
}

static void test_a_long_step_is_a_stall(void **state)
{
    (void)state;
    struct world w;
    struct reader rd;
    struct err e = {0};
    world_init(&w, &model_opts);
    assert_true(router_progressing(w.router, 1));
    struct worker_opts *o = world_add(&w);
    o->sim_step_us = 200000;
    world_start(&w);
    clock_sleep_us(50000);
    assert_true(router_progressing(w.router, 1000)); /* idle */
    request_to(&rd, "tiny", 10, 400);
    assert_int_equal(submit(&w, &rd, &e), 0);
    assert_true(router_progressing(w.router, PATIENCE_US)); /* it has only just begun */
    assert_soon(!router_progressing(w.router, 100000));     /* in one of its steps */
    assert_true(router_progressing(w.router, UINT64_MAX));
    request_cancel(rd.r);
    reader_wait(&rd);
    reader_fini(&rd);
    (void)world_end(&w);
}

static void test_shutdown_drains_then_stops(void **state)
{
    (void)state;
    for (uint32_t in_time = 0; in_time < 2; in_time++) {
        struct world w;
        struct reader rd[4];
        struct err e = {0};
        world_init(&w, &model_opts);
        for (uint32_t i = 0; i < 2; i++) {
            struct worker_opts *o = world_add(&w);
            o->sim_step_us = 5000;
        }
        world_start(&w);
        for (uint32_t i = 0; i < 4; i++) { /* the long ones are not over before they are read */
            request_to(&rd[i], "tiny", 10, in_time ? 5 : 400);
            assert_int_equal(submit(&w, &rd[i], &e), 0);
        }
        (void)router_shutdown(w.router, clock_now_us() + (in_time ? PATIENCE_US : 20000));
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
        cmocka_unit_test(test_waits_for_a_place),
        cmocka_unit_test(test_goes_where_it_fits),
        cmocka_unit_test(test_prefixes_stay_together),
        cmocka_unit_test(test_promised_blocks_count),
        cmocka_unit_test(test_no_cache_no_promises),
        cmocka_unit_test(test_decisions_are_explained),
        cmocka_unit_test(test_refusals_say_why),
        cmocka_unit_test(test_a_long_step_is_a_stall),
        cmocka_unit_test(test_shutdown_drains_then_stops),
    };
    return cmocka_run_group_tests(tests, open_llama, close_llama);
}

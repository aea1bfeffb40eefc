/* The supervisor over simulated workers that fail or stall: requests go on with the same text, the
 * worker comes back; one that cannot start is tried ever less often. */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/observe/log.h"
#include "core/observe/metrics.h"
#include "core/supervise/supervise.h"
#include "core/util/fault.h"
#include "tests/unit/router_fixture.h"

enum { N_STREAMS = 8 };

static struct supervise *supervise; /* of the test's world */

static void open_world(struct world *w)
{
    const struct router_model_opts o = {.max_queue = 100, .max_migrations = 2};
    supervise = NULL;
    world_init(w, &o);
}

static struct worker_opts *add(struct world *w)
{
    struct worker_opts *o = world_add(w);
    o->sim_step_us = 1000;
    return o;
}

static void start(struct world *w, const struct supervise_opts *base)
{
    struct supervise_opts o = *base;
    world_start(w);
    o.router = w->router;
    assert_int_equal(supervise_start(&o, &supervise, NULL), 0);
}

static void close_world(struct world *w)
{
    supervise_stop(supervise);
    world_fini(w);
}

static void submit(struct world *w, struct reader *rd, uint32_t number)
{
    uint32_t prompt[16];
    for (uint32_t i = 0; i < 16; i++)
        prompt[i] = number * 3 + i;
    reader_init(rd, NULL, prompt, 16, 100, 1);
    rd->r->model = "tiny";
    world_submit(w, rd);
}

/* Streams over two workers, of which the first has a fault on its way. */
static void run_with_fault(const struct fault *f, const struct supervise_opts *o)
{
    struct world w;
    struct reader rd[2][N_STREAMS];
    for (int faulty = 0; faulty < 2; faulty++) {
        open_world(&w);
        for (uint32_t i = 0; i < 2; i++)
            add(&w);
        if (faulty)
            fault_add(f);
        start(&w, o);
        uint32_t n_migrations = 0;
        for (uint32_t i = 0; i < N_STREAMS; i++)
            submit(&w, &rd[faulty][i], i);
        for (uint32_t i = 0; i < N_STREAMS; i++) {
            reader_wait(&rd[faulty][i]);
            assert_int_equal(rd[faulty][i].finish[0], FINISH_LENGTH);
            n_migrations += rd[faulty][i].r->trace.n_migrations;
        }
        assert_true(faulty ? n_migrations > 0 : n_migrations == 0);
        if (faulty)
            world_wait_start(&w, 0, WORKER_READY, 2);
        fault_clear();
        close_world(&w);
    }
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        assert_same_text(&rd[0][i], &rd[1][i]);
        reader_fini(&rd[0][i]);
        reader_fini(&rd[1][i]);
    }
}

static void test_a_failed_worker_comes_back(void **state)
{
    (void)state;
    const struct supervise_opts o = {.tick_us = 5000, .restart_first_us = 20000};
    run_with_fault(&(struct fault){.point = FAULT_STEP_FAILS, .at = 40}, &o);
}

/* By default after two seconds; more where the machine is busy. */
static void test_a_stalled_worker_is_left(void **state)
{
    (void)state;
    const struct supervise_opts defaults = {.restart_first_us = 20000};
    const uint64_t began_us = clock_now_us();
    run_with_fault(
        &(struct fault){.point = FAULT_STEP_STALLS, .at = 40, .us = UINT64_MAX, .times = 1},
        &defaults);
    assert_in_range(clock_now_us() - began_us, 1800000, PATIENCE_US);
}

/* What a busy machine may spoil, for it looks like what is tested: one of some tries succeeds. */
static bool one_of_some(bool (*try)(void))
{
    for (uint32_t i = 0; i < 10; i++)
        if (try())
            return true;
    return false;
}

/* Steps that are slow as steps go, but no longer than they can be. True: nobody was given up. */
static bool slow_is_left_alone(void)
{
    struct world w;
    struct reader rd;
    struct router_worker_view v;
    const struct supervise_opts o = {.tick_us = 2000, .suspect_us = 20000, .stall_us = 40000};
    open_world(&w);
    add(&w)->sim_step_us = 60000;
    start(&w, &o);
    submit(&w, &rd, 1);
    clock_sleep_us(600000);
    request_cancel(rd.r);
    reader_wait(&rd);
    reader_fini(&rd);
    v = world_view(&w, 0);
    close_world(&w);
    return v.n_starts == 1 && v.status.state == WORKER_READY;
}

static void test_slow_is_not_stalled(void **state)
{
    (void)state;
    assert_true(one_of_some(slow_is_left_alone));
}

/* Streams of a process that is stopped again and again. True when no worker was given up for it. */
static bool outlives_being_stopped(void)
{
    struct world w;
    struct reader rd;
    struct router_worker_view v;
    const struct supervise_opts o = {.tick_us = 2000, .suspect_us = 20000, .stall_us = 40000};
    open_world(&w);
    add(&w)->sim_step_us = 20000;
    start(&w, &o);
    submit(&w, &rd, 1);
    clock_sleep_us(200000); /* until it knows how long a step takes */
    for (uint32_t i = 0; i < 6; i++) {
        raise(SIGSTOP);
        clock_sleep_us(30000);
    }
    v = world_view(&w, 0);
    const bool same = v.n_starts == 1 && v.status.state == WORKER_READY;
    request_cancel(rd.r);
    reader_wait(&rd);
    reader_fini(&rd);
    close_world(&w);
    return same;
}

/* In a process of its own, which is stopped for five times as long as a step may take. */
static bool stopped_process_keeps_its_workers(void)
{
    int status = 0;
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(outlives_being_stopped() ? 0 : 1);
    while (waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status)) {
        clock_sleep_us(200000);
        assert_int_equal(kill(pid, SIGCONT), 0);
    }
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status) == 0;
}

/* A step that began before the whole process was stopped did not take that long. */
static void test_a_stopped_process_is_not_a_stalled_worker(void **state)
{
    (void)state;
    assert_true(one_of_some(stopped_process_keeps_its_workers));
}

static void test_what_cannot_start_is_tried_less_and_less(void **state)
{
    (void)state;
    struct world w;
    struct reader rd;
    struct router_worker_view v;
    const struct supervise_opts o = {.tick_us = 1000,
                                     .restart_first_us = 10000,
                                     .restart_max_us = 40000,
                                     .breaker_starts = 4,
                                     .breaker_us = PATIENCE_US};
    open_world(&w);
    add(&w);
    add(&w);
    fault_add(&(struct fault){.point = FAULT_STEP_FAILS, .worker = 1, .at = 20});
    start(&w, &o);
    fault_add(&(struct fault){.point = FAULT_STEP_FAILS, .worker = 1, .at = 1}); /* its warm-up */
    for (uint32_t i = 0; i < 6; i++) {
        submit(&w, &rd, i);
        reader_wait(&rd);
        assert_int_equal(rd.finish[0], FINISH_LENGTH);
        reader_fini(&rd);
    }
    world_wait_start(&w, 1, WORKER_DEAD, 5); /* after 10, 20, 40, 40 ms; then the breaker */
    clock_sleep_us(100000);
    v = world_view(&w, 1);
    assert_int_equal(v.n_starts, 5);
    assert_true(router_model_ready(w.router, "tiny"));
    close_world(&w);
    fault_clear();
}

/* The operator took it out of service: it is started by nobody else, and what waits for it in vain is
 * told so. */
static void test_a_drained_worker_is_left_alone(void **state)
{
    (void)state;
    struct world w;
    struct reader rd;
    struct router_worker_view v;
    struct err e = {0};
    const struct router_model_opts hasty = {.max_queue = 10, .max_queue_us = 50000};
    open_world(&w);
    assert_int_equal(router_add_model(w.router, "hasty", &hasty, NULL), 0);
    *add(&w) = sim_worker_opts(&llama);
    assert_int_equal(router_start_worker(w.router, "hasty", &w.opts[0], NULL), 0);
    world_wait_state(&w, 0, WORKER_READY);
    const struct supervise_opts o = {.router = w.router, .tick_us = 1000, .restart_first_us = 1000};
    assert_int_equal(supervise_start(&o, &supervise, NULL), 0);
    assert_int_equal(router_drain_worker(w.router, 0, NULL), 0);
    uint32_t prompt[4] = {1, 2, 3, 4};
    reader_init(&rd, NULL, prompt, 4, 10, 1);
    rd.r->model = "hasty";
    assert_int_equal(router_submit(w.router, request_ref(rd.r), &e), 0);
    reader_wait(&rd);
    assert_int_equal(rd.finish[0], FINISH_ERROR);
    assert_true(stream_error(rd.r, &e));
    assert_int_equal(e.code, LLMD_ENOTREADY);
    reader_fini(&rd);
    world_wait_state(&w, 0, WORKER_DEAD);
    clock_sleep_us(50000);
    v = world_view(&w, 0);
    assert_true(v.drained);
    assert_int_equal(v.n_starts, 1);
    assert_soon(router_return_worker(w.router, 0, NULL) == 0);
    world_wait_start(&w, 0, WORKER_READY, 2);
    close_world(&w);
}

/* A model that was served comes back also in a place of its own that is new, as when an update is taken
 * back; its first worker there fails. */
static void test_a_model_that_was_ready_is_not_given_up(void **state)
{
    (void)state;
    struct world w;
    const struct supervise_opts o = {.tick_us = 1000, .restart_first_us = 1000};
    open_world(&w);
    add(&w);
    start(&w, &o);
    assert_int_equal(router_drain_worker(w.router, 0, NULL), 0);
    assert_soon(router_remove_worker(w.router, 0, NULL) == 0);
    clock_sleep_us(20000); /* the supervisor sees it, or finds the next one in its place */
    fault_add(&(struct fault){.point = FAULT_STEP_FAILS, .at = 1, .times = 1});
    assert_int_equal(router_start_worker(w.router, "tiny", &w.opts[0], NULL), 0);
    world_wait_start(&w, 0, WORKER_READY, 2);
    fault_clear();
    close_world(&w);
}

/* Address space, which a thread's stack takes until somebody has joined it. */
static uint64_t mapped_bytes(void)
{
    unsigned long long n_pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%llu", &n_pages), 1);
    fclose(f);
    return (uint64_t)n_pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void drain_and_return(struct world *w, uint32_t n_times)
{
    for (uint32_t i = 0; i < n_times; i++) {
        struct router_worker_view v;
        v = world_view(w, 0);
        assert_int_equal(router_drain_worker(w->router, 0, NULL), 0);
        assert_soon(router_return_worker(w->router, 0, NULL) == 0);
        world_wait_start(w, 0, WORKER_READY, v.n_starts + 1);
    }
}

static void test_replaced_workers_leave_nothing_behind(void **state)
{
    (void)state;
    enum { N_TIMES = 40 };
    struct world w;
    (void)mallopt(M_ARENA_MAX, 1); /* how many arenas threads need depends on who runs when */
    open_world(&w);
    add(&w);
    start(&w, &(struct supervise_opts){.tick_us = 1000});
    drain_and_return(&w, 10); /* what is kept for the next ones is there */
    const uint64_t before = mapped_bytes();
    drain_and_return(&w, N_TIMES);
    const uint64_t after = mapped_bytes();
    assert_in_range(after > before ? after - before : 0, 0, (N_TIMES / 2) * (8ull << 20));
    close_world(&w);
}

static bool is_in_a_long_step(struct world *w, uint32_t index)
{
    const struct worker_status s = world_view(w, index).status;
    return s.step_began_us != 0 && clock_now_us() > s.step_began_us + 100000;
}

/* Nobody supervises any more; one worker stalls in the step that is its last, one while it loads. */
static void test_the_end_does_not_wait_for_stalled_workers(void **state)
{
    (void)state;
    struct world w;
    struct reader rd;
    open_world(&w);
    add(&w);
    fault_add(&(struct fault){.point = FAULT_STEP_STALLS, .at = 50, .us = UINT64_MAX});
    start(&w, &(struct supervise_opts){.tick_us = 0});
    supervise_stop(supervise);
    fault_add(&(struct fault){.point = FAULT_LOAD_STALLS, .worker = 1, .at = 2, .us = UINT64_MAX});
    assert_int_equal(router_start_worker(w.router, "tiny", add(&w), NULL), 0);
    submit(&w, &rd, 1);
    assert_soon(is_in_a_long_step(&w, 0));
    const uint64_t began_us = clock_now_us();
    const bool clean = router_shutdown(w.router, clock_now_us());
    assert_in_range(clock_now_us() - began_us, 1000000, PATIENCE_US);
    reader_wait(&rd);
    assert_int_equal(rd.finish[0], FINISH_ERROR);
    reader_fini(&rd);
    assert_false(clean); /* its thread sleeps on: the world must stay */
    fault_clear();
    assert_true(router_shutdown(w.router, clock_now_us()));
    router_free(w.router);
}

/* --- suspicion --- */

static bool shows_state(struct metrics *m, const char *state)
{
    struct buf text = {0}, line = {0};
    metrics_write(m, METRICS_TEXT, &text);
    buf_addf(&line, "llmd_worker_state{model_name=\"tiny\",engine=\"0\",state=\"%s\"} 1", state);
    const bool found = strstr(buf_str(&text), buf_str(&line)) != NULL;
    buf_fini(&text);
    buf_fini(&line);
    return found;
}

/* Who makes a long step is suspect, and stays so for a while; others get what comes meanwhile. */
static void test_a_suspect_gets_nothing_new(void **state)
{
    (void)state;
    struct world w;
    struct reader first, rd[4];
    struct router_worker_view v;
    struct metrics *m = metrics_new();
    const struct supervise_opts o = {.metrics = m,
                                     .tick_us = 2000,
                                     .suspect_us = 300000, /* not the other, on a busy machine */
                                     .stall_us = PATIENCE_US,
                                     .recover_us = 200000};
    open_world(&w);
    add(&w);
    add(&w);
    fault_add(&(struct fault){.point = FAULT_STEP_STALLS, .at = 40, .us = UINT64_MAX, .times = 1});
    start(&w, &o);
    submit(&w, &first, 0);
    world_wait_state(&w, 0, WORKER_SUSPECT);
    assert_true(router_model_ready(w.router, "tiny"));
    for (uint32_t i = 0; i < ARRAY_LEN(rd); i++) {
        submit(&w, &rd[i], 1 + i);
        reader_wait(&rd[i]);
        assert_int_equal(rd[i].r->trace.worker, 1);
        reader_fini(&rd[i]);
    }
    assert_soon(shows_state(m, "suspect"));
    const uint64_t freed_us = clock_now_us();
    fault_clear();
    reader_wait(&first);
    world_wait_state(&w, 0, WORKER_READY);
    assert_true(clock_now_us() >= freed_us + 150000);
    reader_fini(&first);
    v = world_view(&w, 0);
    assert_int_equal(v.n_starts, 1);
    close_world(&w);
    metrics_free(m);
}

/* With nobody else, a suspect is better than none. */
static void test_a_lone_suspect_still_works(void **state)
{
    (void)state;
    struct world w;
    struct reader rd[2];
    const struct supervise_opts o = {.tick_us = 2000, .suspect_us = 20000, .stall_us = PATIENCE_US};
    open_world(&w);
    add(&w);
    fault_add(&(struct fault){.point = FAULT_STEP_STALLS, .at = 40, .us = UINT64_MAX, .times = 1});
    start(&w, &o);
    submit(&w, &rd[0], 0);
    world_wait_state(&w, 0, WORKER_SUSPECT);
    submit(&w, &rd[1], 1);
    fault_clear();
    for (uint32_t i = 0; i < 2; i++) {
        reader_wait(&rd[i]);
        assert_int_equal(rd[i].finish[0], FINISH_LENGTH);
        reader_fini(&rd[i]);
    }
    close_world(&w);
}

/* --- hanging --- */

/* A worker fails and hangs once on its way back; it is given up there and comes back after all. */
static void hangs_on_its_way_back(const struct fault *f)
{
    struct world w;
    struct reader rd;
    const struct supervise_opts o = {.tick_us = 2000,
                                     .suspect_us = 100000,
                                     .stall_us = 400000, /* more than a busy machine takes */
                                     .unknown_us = 400000,
                                     .load_us = 400000,
                                     .restart_first_us = 10000};
    open_world(&w);
    add(&w);
    fault_add(&(struct fault){.point = FAULT_STEP_FAILS, .at = 40, .times = 1});
    start(&w, &o);
    fault_add(f);
    submit(&w, &rd, 0);
    reader_wait(&rd);
    assert_int_equal(rd.finish[0], FINISH_ERROR);
    reader_fini(&rd);
    world_wait_start(&w, 0, WORKER_READY, 3);
    submit(&w, &rd, 0);
    reader_wait(&rd);
    assert_int_equal(rd.finish[0], FINISH_LENGTH);
    reader_fini(&rd);
    fault_clear();
    close_world(&w);
}

static void test_hangs_while_loading(void **state)
{
    (void)state;
    hangs_on_its_way_back(
        &(struct fault){.point = FAULT_LOAD_STALLS, .at = 2, .us = UINT64_MAX, .times = 1});
}

static void test_hangs_while_warming(void **state)
{
    (void)state;
    hangs_on_its_way_back(
        &(struct fault){.point = FAULT_STEP_STALLS, .at = 2, .us = UINT64_MAX, .times = 1});
}

/* --- what only a new process heals --- */

/* Worker 0 has the fault, 1 takes over; when the supervisor asks for a new process, worker 0 was
 * started so many times. */
static void needs_a_new_process(const struct fault *f, int code, uint32_t n_starts)
{
    struct world w;
    struct reader rd[N_STREAMS];
    struct router_worker_view v;
    struct err why = {0};
    const struct supervise_opts o = {
        .tick_us = 2000, .suspect_us = 100000, .stall_us = 400000, .restart_first_us = 10000};
    open_world(&w);
    add(&w);
    add(&w);
    fault_add(f);
    start(&w, &o);
    const uint64_t until_us = clock_now_us() + PATIENCE_US;
    while (!supervise_must_exit(supervise, &why)) {
        assert_true(clock_now_us() < until_us);
        for (uint32_t i = 0; i < N_STREAMS; i++)
            submit(&w, &rd[i], i);
        for (uint32_t i = 0; i < N_STREAMS; i++) {
            reader_wait(&rd[i]);
            assert_int_equal(rd[i].finish[0], FINISH_LENGTH);
            reader_fini(&rd[i]);
        }
    }
    assert_int_equal(why.code, code);
    clock_sleep_us(100000);
    v = world_view(&w, 0);
    assert_int_equal(v.status.state, WORKER_DEAD);
    assert_int_equal(v.n_starts, n_starts);
    fault_clear();
    close_world(&w);
}

static void test_a_poisoned_device(void **state)
{
    (void)state;
    needs_a_new_process(&(struct fault){.point = FAULT_STEP_POISONS, .at = 40}, LLMD_EPOISONED, 1);
}

static void test_threads_that_never_end_are_bounded(void **state)
{
    (void)state;
    needs_a_new_process(&(struct fault){.point = FAULT_STEP_STALLS, .at = 40, .us = UINT64_MAX},
                        LLMD_EWORKER, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_failed_worker_comes_back),
        cmocka_unit_test(test_a_stalled_worker_is_left),
        cmocka_unit_test(test_slow_is_not_stalled),
        cmocka_unit_test(test_a_stopped_process_is_not_a_stalled_worker),
        cmocka_unit_test(test_what_cannot_start_is_tried_less_and_less),
        cmocka_unit_test(test_a_drained_worker_is_left_alone),
        cmocka_unit_test(test_a_model_that_was_ready_is_not_given_up),
        cmocka_unit_test(test_replaced_workers_leave_nothing_behind),
        cmocka_unit_test(test_a_suspect_gets_nothing_new),
        cmocka_unit_test(test_a_lone_suspect_still_works),
        cmocka_unit_test(test_hangs_while_loading),
        cmocka_unit_test(test_hangs_while_warming),
        cmocka_unit_test(test_a_poisoned_device),
        cmocka_unit_test(test_threads_that_never_end_are_bounded),
        cmocka_unit_test(test_the_end_does_not_wait_for_stalled_workers),
    };
    return cmocka_run_group_tests(tests, open_llama, close_llama);
}

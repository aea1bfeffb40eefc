/* test_cpu_team.c - the thread team: every chunk of every job runs once, on any number of threads,
 * whether the helpers spin, sleep or are late. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/backend/cpu_team_int.h"
#include "core/util/clock.h"
#include "tests/unit/patience.h"

enum { MAX_CHUNKS = 70000 };

struct job {
    uint32_t n_threads;
    atomic_uint ran;
    atomic_uint foreign; /* chunks that a helper ran */
    uint8_t seen[MAX_CHUNKS];
    uint64_t stamp;
};

static void mark(void *ctx, uint32_t chunk, uint32_t thread)
{
    struct job *j = ctx;
    if (thread >= j->n_threads || chunk >= MAX_CHUNKS || j->stamp != 42)
        abort();
    j->seen[chunk]++; /* two runs of one chunk are a data race: the thread sanitizer's part */
    atomic_fetch_add_explicit(&j->ran, 1, memory_order_relaxed);
    if (thread != 0)
        atomic_fetch_add_explicit(&j->foreign, 1, memory_order_relaxed);
}

static void check_job(struct cpu_team *t, struct job *j, uint32_t n)
{
    memset(j->seen, 0, sizeof(j->seen));
    atomic_store(&j->ran, 0);
    j->stamp = 42;
    cpu_team_run(t, n, mark, j);
    j->stamp = 0; /* a chunk that runs later aborts */
    assert_int_equal(atomic_load(&j->ran), n);
    for (uint32_t i = 0; i < MAX_CHUNKS; i++)
        assert_int_equal(j->seen[i], i < n);
}

static void test_every_chunk_once(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 2, 3, 7, 64, 0, 1000, 65279, 65281, 70000};
    struct job *j = calloc(1, sizeof(*j));
    for (uint32_t threads = 1; threads <= 5; threads++) {
        struct cpu_team *t;
        assert_int_equal(cpu_team_new(threads, &t, NULL), 0);
        assert_int_equal(cpu_team_size(t), threads);
        j->n_threads = threads;
        for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++)
            check_job(t, j, counts[i]);
        cpu_team_free(t);
    }
    free(j);
}

/* Chunks of data that the next job reads: what one job wrote is there for all in the next. */
struct chain {
    uint32_t in[64], out[64];
    uint32_t n;
};

static void add_up(void *ctx, uint32_t chunk, uint32_t thread)
{
    struct chain *c = ctx;
    (void)thread;
    uint32_t sum = chunk;
    for (uint32_t i = 0; i < c->n; i++)
        sum = sum * 31 + c->in[i];
    c->out[chunk] = sum;
}

static void copy_back(void *ctx, uint32_t chunk, uint32_t thread)
{
    struct chain *c = ctx;
    (void)thread;
    c->in[chunk] = c->out[chunk];
}

static uint32_t run_chain(uint32_t threads, uint32_t pause_every)
{
    struct cpu_team *t;
    struct chain c = {.n = 24};
    uint32_t sum = 0;
    assert_int_equal(cpu_team_new(threads, &t, NULL), 0);
    for (uint32_t i = 0; i < 300; i++) {
        if (pause_every && i % pause_every == 0)
            clock_sleep_us(1500); /* the helpers fall asleep */
        if (i % 7 == 0)
            cpu_team_wake(t);
        cpu_team_run(t, c.n, add_up, &c);
        cpu_team_run(t, c.n, copy_back, &c);
    }
    for (uint32_t i = 0; i < c.n; i++)
        sum = sum * 17 + c.in[i];
    cpu_team_free(t);
    return sum;
}

static void test_jobs_follow_each_other(void **state)
{
    (void)state;
    const uint32_t want = run_chain(1, 0);
    for (uint32_t threads = 2; threads <= 4; threads++) {
        assert_int_equal(run_chain(threads, 0), want);
        assert_int_equal(run_chain(threads, 30), want);
    }
}

static void slow(void *ctx, uint32_t chunk, uint32_t thread)
{
    clock_sleep_us(2000);
    mark(ctx, chunk, thread);
}

/* Whether the helper ran a chunk; on a busy machine it may come too late. */
static bool is_helped(struct cpu_team *t, struct job *j, uint64_t rest_us)
{
    atomic_store(&j->ran, 0);
    atomic_store(&j->foreign, 0);
    clock_sleep_us(rest_us);
    cpu_team_run(t, 20, slow, j);
    assert_int_equal(atomic_load(&j->ran), 20);
    return atomic_load(&j->foreign) > 0;
}

static void test_helpers_help(void **state)
{
    (void)state;
    struct cpu_team *t;
    struct job *j = calloc(1, sizeof(*j));
    assert_int_equal(cpu_team_new(2, &t, NULL), 0);
    j->n_threads = 2;
    j->stamp = 42;
    assert_soon(is_helped(t, j, 0));
    assert_soon(is_helped(t, j, 20000)); /* it sleeps by then */
    cpu_team_free(t);
    free(j);
}

static void test_sizes(void **state)
{
    (void)state;
    struct cpu_team *t = NULL;
    struct err e = {0};
    assert_int_equal(cpu_team_new(0, &t, &e), -LLMD_EINVAL);
    assert_int_equal(cpu_team_new(CPU_TEAM_MAX + 1, &t, &e), -LLMD_EINVAL);
    assert_null(t);
    cpu_team_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_chunk_once),
        cmocka_unit_test(test_jobs_follow_each_other),
        cmocka_unit_test(test_helpers_help),
        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

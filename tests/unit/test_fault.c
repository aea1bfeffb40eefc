/* Faults on demand: what is asked for happens, then and there alone. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/util/clock.h"
#include "core/util/fault.h"

static void *run_steps(void *arg)
{
    int *rcs = arg;
    for (int i = 0; i < 4; i++)
        rcs[i] = fault_step(2, NULL);
    return NULL;
}

static void steps_of_a_new_worker(int rcs[4])
{
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, run_steps, rcs), 0);
    assert_int_equal(pthread_join(t, NULL), 0);
}

static void test_steps(void **state)
{
    (void)state;
    int rcs[4];
    fault_add(&(struct fault){.point = FAULT_STEP_FAILS, .worker = 1, .at = 1});
    fault_add(&(struct fault){.point = FAULT_STEP_FAILS, .worker = 2, .at = 2});
    fault_add(&(struct fault){
        .point = FAULT_STEP_POISONS, .worker = FAULT_ANY_WORKER, .at = 3, .times = 1});
    for (int starts = 0; starts < 2; starts++) {
        steps_of_a_new_worker(rcs);
        assert_int_equal(rcs[0], 0);
        assert_int_equal(rcs[1], -LLMD_EGPU);
        assert_int_equal(rcs[2], starts == 0 ? -LLMD_EPOISONED : 0);
        assert_int_equal(rcs[3], 0);
    }
    fault_clear();
    steps_of_a_new_worker(rcs);
    assert_int_equal(rcs[1], 0);
}

static void test_time(void **state)
{
    (void)state;
    int rcs[4];
    struct err e = {0};
    assert_int_equal(fault_parse("step-slow worker=2 at=3 ms=20; step-stalls at=2 ms=30;", &e), 0);
    const uint64_t began_us = clock_now_us();
    steps_of_a_new_worker(rcs);
    assert_in_range(clock_now_us() - began_us, 70000, 15000000);
    fault_clear();
}

static void test_allocations(void **state)
{
    (void)state;
    fault_add(&(struct fault){.point = FAULT_ALLOCATION, .at = 3, .times = 2});
    void *volatile first = malloc(8); /* volatile: the compiler knows what malloc does */
    void *volatile second = calloc(2, 8);
    errno = 0;
    void *volatile third = realloc(first, 64);
    assert_null(third);
    assert_int_equal(errno, ENOMEM);
    char *volatile copy = strdup("x");
    assert_null(copy);
    copy = strndup("xy", 1);
    assert_string_equal(copy, "x");
    assert_int_equal(fault_n_allocations(), 5);
    fault_clear();
    free(first);
    free(second);
    free(copy);
}

static void test_text_that_is_none(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"step-flies", "no fault \"step-flies\""},
        {"step-fails at", "\"at\" is not NAME=NUMBER"},
        {"step-fails at=", "\"at=\" is not NAME=NUMBER"},
        {"step-fails at=3x", "is not NAME=NUMBER"},
        {"step-fails on=3", "a fault has worker, at, ms, times"},
        {"step-fails at=0", "at counts from 1"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err e = {0};
        assert_int_equal(fault_parse(cases[i].text, &e), -LLMD_EINVAL);
        assert_non_null(strstr(e.msg, cases[i].says));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_allocations),
        cmocka_unit_test(test_text_that_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

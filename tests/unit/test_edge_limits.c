/* test_edge_limits.c - token buckets against the obvious way with fractions, what a key may use, and
 * many threads at one bucket. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/edge/limits.h"

static const uint64_t SECOND = 1000000000, MINUTE = 60 * SECOND, START = 1000 * SECOND;

static void test_take(void **state)
{
    (void)state;
    struct bucket b = {0};
    assert_int_equal(bucket_left(&b, 60, START), 60);
    for (int i = 0; i < 60; i++) /* an idle key may use its whole minute at once */
        assert_int_equal(bucket_take(&b, 60, 1, START), 0);
    assert_int_equal(bucket_left(&b, 60, START), 0);
    assert_int_equal(bucket_refill_ns(&b, START), MINUTE);
    assert_int_equal(bucket_take(&b, 60, 1, START), SECOND);
    assert_int_equal(bucket_take(&b, 60, 5, START), 5 * SECOND);
    /* exactly then, and not a nanosecond earlier */
    assert_int_equal(bucket_take(&b, 60, 5, START + 5 * SECOND - 1), 1);
    assert_int_equal(bucket_take(&b, 60, 5, START + 5 * SECOND), 0);
    /* more than a minute's worth never fits, and costs nothing */
    assert_int_equal(bucket_take(&b, 60, 61, START + 3600 * SECOND), UINT64_MAX);
    assert_int_equal(bucket_left(&b, 60, START + 3600 * SECOND), 60);
    assert_int_equal(bucket_take(&b, 60, 0, START + 3600 * SECOND), 0);
}

static void test_settle(void **state)
{
    (void)state;
    struct bucket b = {0};
    assert_int_equal(bucket_take(&b, 600, 500, START), 0);
    bucket_settle(&b, 600, 500, 200, START);
    assert_int_equal(bucket_left(&b, 600, START), 400);
    bucket_settle(&b, 600, 0, 1000, START); /* 600 beyond what there was */
    assert_int_equal(bucket_left(&b, 600, START), 0);
    assert_int_equal(bucket_refill_ns(&b, START), 2 * MINUTE);
    assert_int_equal(bucket_take(&b, 600, 1, START), MINUTE + SECOND / 10);
    assert_int_equal(bucket_left(&b, 600, START + 61 * SECOND), 10);
    /* what comes back to a bucket that is full is lost */
    assert_int_equal(bucket_take(&b, 600, 600, START + 2 * MINUTE), 0);
    bucket_settle(&b, 600, 600, 0, START + 10 * MINUTE);
    assert_int_equal(bucket_left(&b, 600, START + 10 * MINUTE), 600);
    assert_int_equal(bucket_take(&b, 600, 600, START + 10 * MINUTE), 0);
    assert_int_equal(bucket_take(&b, 600, 1, START + 10 * MINUTE), SECOND / 10);
}

/* The share that was used stays used when the limit changes. */
static void test_other_limit(void **state)
{
    (void)state;
    struct bucket b = {0};
    assert_int_equal(bucket_take(&b, 100, 75, START), 0);
    assert_int_equal(bucket_left(&b, 1000, START), 250);
    assert_int_equal(bucket_left(&b, 8, START), 2);
}

static void test_largest_numbers(void **state)
{
    (void)state;
    struct bucket b = {0};
    const uint32_t most = LIMIT_MAX_PER_MINUTE;
    assert_int_equal(bucket_take(&b, most, most - 1, START), 0);
    assert_int_equal(bucket_left(&b, most, START), 1);
    assert_int_equal(bucket_take(&b, most, 1, START), 0);
    assert_int_equal(bucket_take(&b, most, 1, START), 600);
    bucket_settle(&b, most, 0, UINT32_MAX, START);
    assert_in_range(bucket_refill_ns(&b, START), MINUTE * 42, MINUTE * 44);
    struct bucket one = {0};
    assert_int_equal(bucket_take(&one, 1, 1, START), 0);
    bucket_settle(&one, 1, 1, 3, START);
    assert_int_equal(bucket_take(&one, 1, 1, START), 3 * MINUTE);
}

/* A bucket as one would draw it: a level that rises, and never above the brim. */
struct plain {
    double level, at_s;
};

static double rise(struct plain *p, uint32_t limit, double now_s)
{
    p->level += (now_s - p->at_s) * limit / 60;
    p->level = p->level > limit ? limit : p->level;
    p->at_s = now_s;
    return p->level;
}

static void test_against_the_obvious_way(void **state)
{
    (void)state;
    uint64_t random = 88172645463325252u;
    for (uint32_t round = 0; round < 50; round++) {
        const uint32_t limit = 1u << (round % 25) | round;
        struct bucket b = {0};
        struct plain p = {.level = limit, .at_s = 0};
        uint64_t now = START;
        for (uint32_t i = 0; i < 2000; i++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            now += random % (2 * SECOND);
            const uint64_t n = random / 3 % (limit / 4 + 2);
            const double level = rise(&p, limit, (double)(now - START) * 1e-9);
            const double slack = 1e-6 * limit + 1e-6;
            const uint64_t wait = bucket_take(&b, limit, n, now);
            if (wait == 0) {
                assert_true(n <= level + slack);
                p.level -= (double)n;
                if (random % 3 == 0) { /* half of it comes back */
                    bucket_settle(&b, limit, n, n - n / 2, now);
                    p.level += (double)(n / 2);
                }
            } else if (wait != UINT64_MAX) {
                assert_true((double)n > level - slack);
                const double wants_s = ((double)n - level) * 60 / limit;
                const double off = (double)wait * 1e-9 - wants_s;
                assert_true(off > -1e-3 && off < 1e-3);
            }
            const double left = bucket_left(&b, limit, now);
            assert_true(left <= p.level + slack && left >= p.level - 1 - slack);
        }
    }
}

/* ---- a key ---- */

static void test_a_request_of_a_key(void **state)
{
    (void)state;
    static const struct key_limits l = {
        .requests_per_minute = 60, .tokens_per_minute = 6000, .max_concurrent = 2};
    struct key_use use = {.n_running = 0};
    struct key_hold a = {.use = NULL}, b = {.use = NULL}, c = {.use = NULL};
    struct limit_refusal why = {.kind = LIMIT_NONE};
    const struct key_demand d = {.n_prompt = 100, .n_choices = 2, .max_tokens = 1500};
    assert_true(key_enter(&a, &use, &l, START, &why) && key_enter(&b, &use, &l, START, &why));
    assert_false(key_enter(&c, &use, &l, START, &why));
    assert_true(why.kind == LIMIT_CONCURRENT && why.wait_ns > 0 && !c.use);
    /* 100 + 2 * 1024 */
    assert_true(key_reserve(&a, &d, START, &why));
    assert_int_equal(bucket_left(&use.tokens, 6000, START), 6000 - 2148);
    assert_true(key_reserve(&a, &d, START, &why)); /* planned anew: not twice */
    assert_int_equal(bucket_left(&use.tokens, 6000, START), 6000 - 2148);
    key_settle(&a, 100, 3000, START); /* longer than what was reserved */
    assert_int_equal(bucket_left(&use.tokens, 6000, START), 2900);
    key_settle(&a, 100, 3000, START); /* once */
    key_leave(&a, START);
    assert_int_equal(bucket_left(&use.tokens, 6000, START), 2900);
    assert_int_equal(use.n_running, 1);
    assert_int_equal(use.n_requests, 1);
    /* what was given up comes back, the request too */
    const struct key_demand big = {.n_prompt = 2901, .n_choices = 1, .max_tokens = 10};
    assert_false(key_reserve(&b, &big, START, &why));
    assert_true(why.kind == LIMIT_TOKENS && why.wait_ns == 110000000); /* 11 tokens */
    assert_int_equal(bucket_left(&use.requests, 60, START), 58);
    key_give_back(&b, START);
    key_give_back(&b, START);
    assert_int_equal(bucket_left(&use.requests, 60, START), 59);
    key_leave(&b, START);
    key_leave(&b, START);
    assert_int_equal(use.n_running, 0);
    assert_int_equal(use.n_requests, 1);
    assert_int_equal(use.n_prompt_tokens, 100);
    assert_int_equal(use.n_output_tokens, 3000);
    assert_true(use.n_limited[LIMIT_CONCURRENT] == 1 && use.n_limited[LIMIT_TOKENS] == 1);
    /* abandoned: nothing stays reserved */
    assert_true(key_enter(&a, &use, &l, START, &why));
    assert_true(key_reserve(&a, &d, START, &why));
    key_leave(&a, START);
    assert_int_equal(bucket_left(&use.tokens, 6000, START), 2900);
}

/* Answers never keep a prompt out; a prompt that is larger than a minute's tokens never gets in. */
static void test_what_never_fits(void **state)
{
    (void)state;
    static const struct key_limits l = {.tokens_per_minute = 500};
    struct key_use use = {.n_running = 0};
    struct key_hold h = {.use = NULL};
    struct limit_refusal why = {.kind = LIMIT_NONE};
    struct key_demand d = {.n_prompt = 400, .n_choices = 8, .max_tokens = 100000};
    assert_true(key_enter(&h, &use, &l, START, &why));
    assert_true(key_reserve(&h, &d, START, &why));
    assert_int_equal(bucket_left(&use.tokens, 500, START), 0);
    d.n_prompt = 501;
    assert_false(key_reserve(&h, &d, START, &why));
    assert_true(why.kind == LIMIT_TOKENS && why.wait_ns == UINT64_MAX);
    assert_int_equal(bucket_left(&use.tokens, 500, START), 500);
    d.n_prompt = 500;
    assert_true(key_reserve(&h, &d, START, &why));
    key_leave(&h, START);
}

static void test_without_limits(void **state)
{
    (void)state;
    static const struct key_limits l = {.max_concurrent = 0};
    struct key_use use = {.n_running = 0};
    struct key_hold h[100] = {{.use = NULL}}, none = {.use = NULL};
    struct limit_refusal why;
    const struct key_demand d = {.n_prompt = 1 << 30, .n_choices = 1, .max_tokens = 1};
    for (int i = 0; i < 100; i++)
        assert_true(key_enter(&h[i], &use, &l, START, &why) && key_reserve(&h[i], &d, START, &why));
    key_settle(&h[0], 5, 6, START);
    for (int i = 0; i < 100; i++)
        key_leave(&h[i], START);
    assert_true(use.n_requests == 100 && use.n_prompt_tokens == 5 && use.n_output_tokens == 6);
    assert_true(key_reserve(&none, &d, START, &why)); /* no key: everything is without effect */
    key_settle(&none, 1, 1, START);
    key_give_back(&none, START);
    key_leave(&none, START);
}

/* ---- threads ---- */

enum { THREADS = 4, TRIES = 20000, PLACES = 3 };

static const struct key_limits crowded = {
    .requests_per_minute = 10000, .tokens_per_minute = 1000000, .max_concurrent = PLACES};

struct crowd {
    struct key_use use;
    atomic_uint n_inside, n_most, n_in;
};

static void *push_in(void *arg)
{
    struct crowd *c = arg;
    struct limit_refusal why;
    const struct key_demand d = {.n_prompt = 1, .n_choices = 1, .max_tokens = 8};
    for (int i = 0; i < TRIES; i++) {
        struct key_hold h = {.use = NULL};
        if (!key_enter(&h, &c->use, &crowded, START, &why))
            continue;
        const unsigned n = atomic_fetch_add(&c->n_inside, 1) + 1;
        if (n > atomic_load(&c->n_most))
            atomic_store(&c->n_most, n);
        if (key_reserve(&h, &d, START, &why))
            key_settle(&h, 1, 8, START);
        atomic_fetch_add(&c->n_in, 1);
        atomic_fetch_sub(&c->n_inside, 1);
        key_leave(&h, START);
    }
    return NULL;
}

/* Time stands still: exactly a minute's worth gets through, whoever tries. */
static void test_many_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    struct crowd c = {.n_inside = 0};
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, push_in, &c), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_in_range(c.n_most, 1, PLACES);
    assert_int_equal(c.n_in, 10000);
    assert_int_equal(bucket_left(&c.use.requests, 10000, START), 0);
    assert_int_equal(bucket_left(&c.use.tokens, 1000000, START), 1000000 - 90000);
    assert_int_equal(c.use.n_running, 0);
    assert_int_equal(c.use.n_output_tokens, 80000);
}

static void test_format(void **state)
{
    (void)state;
    static const struct {
        uint64_t ns;
        const char *want;
    } cases[] = {
        {0, "0ms"},
        {1, "1ms"},
        {120000000, "120ms"},
        {120000001, "121ms"},
        {999000001, "1s"},
        {1500000000, "1.5s"},
        {8640000000, "8.64s"},
        {12345000000, "12.345s"},
        {60000000000, "1m0s"},
        {360000000000, "6m0s"},
        {90250000000, "1m30.25s"},
        {7200000000000, "120m0s"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf b = {0};
        limit_format_reset(cases[i].ns, &b);
        assert_string_equal(buf_str(&b), cases[i].want);
        buf_fini(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take),
        cmocka_unit_test(test_settle),
        cmocka_unit_test(test_other_limit),
        cmocka_unit_test(test_largest_numbers),
        cmocka_unit_test(test_against_the_obvious_way),
        cmocka_unit_test(test_a_request_of_a_key),
        cmocka_unit_test(test_what_never_fits),
        cmocka_unit_test(test_without_limits),
        cmocka_unit_test(test_many_threads),
        cmocka_unit_test(test_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

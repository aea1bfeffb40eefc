/* The last items of a fixed piece of memory, against a naive list of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/router/history.h"
#include "core/util/err.h"

static uint32_t seed;

static uint32_t rnd(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(seed >> 8) * n >> 24);
}

static size_t size_of(uint64_t number, uint32_t max)
{
    return 1 + (size_t)(number * 2654435761u % max);
}

static void check(const struct history *h, uint64_t number, uint32_t max)
{
    size_t n = 0;
    const unsigned char *p = history_get(h, number, &n);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 16, 0);
    assert_int_equal(n, size_of(number, max));
    for (size_t i = 0; i < n; i++)
        assert_int_equal(p[i], (unsigned char)number);
}

/* What is kept is always a row of the newest, whole, and of no less bytes than could be asked for. */
static void test_keeps_the_newest(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 60; round++) {
        struct history h;
        seed = round;
        const uint32_t max_items = 1 + rnd(30), max = 1 + rnd(300);
        const size_t n_bytes = 16 * (20 + rnd(200));
        assert_int_equal(history_init(&h, max_items, n_bytes), 0);
        for (uint64_t number = 1; number < 800; number++) {
            size_t kept = 0, n = size_of(number, max);
            unsigned char *p = history_add(&h, n);
            assert_non_null(p);
            memset(p, (unsigned char)number, n);
            assert_int_equal(h.next, number + 1);
            for (uint64_t i = h.first; i < h.next; i++) {
                check(&h, i, max);
                kept += size_of(i, max) + 15;
            }
            assert_true(h.next - h.first <= max_items);
            /* nothing goes that need not: an item and its alignment may be lost at the end */
            if (h.first > 1 && h.next - h.first < max_items)
                assert_true(kept + 2 * (max + 32) >= n_bytes);
        }
        assert_null(history_get(&h, h.first - 1, &(size_t){0}));
        assert_null(history_get(&h, h.next, &(size_t){0}));
        history_fini(&h);
    }
}

static void test_what_never_fits_changes_nothing(void **state)
{
    (void)state;
    struct history h;
    size_t n;
    assert_int_equal(history_init(&h, 4, 64), 0);
    assert_null(history_get(&h, 1, &n));
    assert_non_null(history_add(&h, 10));
    assert_null(history_add(&h, 65));
    assert_null(history_add(&h, SIZE_MAX));
    assert_non_null(history_get(&h, 1, &n));
    assert_int_equal(n, 10);
    assert_non_null(history_add(&h, 64)); /* the whole of it */
    assert_null(history_get(&h, 1, &n));
    assert_non_null(history_get(&h, 2, &n));
    history_fini(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_the_newest),
        cmocka_unit_test(test_what_never_fits_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

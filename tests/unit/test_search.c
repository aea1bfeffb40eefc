/* search_last against the obvious way, and its time on texts made to be slow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/util/search.h"

static int obvious(const char *hay, size_t n, const char *needle, size_t m, size_t *out_at)
{
    for (size_t i = n + 1; i-- > 0;)
        if (i + m <= n && memcmp(hay + i, needle, m) == 0) {
            *out_at = i;
            return 0;
        }
    return -LLMD_ENOTFOUND;
}

static void test_random(void **state)
{
    (void)state;
    uint32_t random = 1, found = 0;
    for (int i = 0; i < 200000; i++) {
        char hay[24], needle[6];
        size_t n = 0, m = 0, a = 99, b = 99;
        random = random * 1664525u + 1013904223u;
        n = random >> 8 & 15;
        m = 1 + (random >> 16) % sizeof(needle);
        for (size_t k = 0; k < sizeof(hay); k++) {
            random = random * 1664525u + 1013904223u;
            hay[k] = "ab"[random >> 30 & 1];
            if (k < m)
                needle[k] = "ab"[random >> 29 & 1];
        }
        int want = obvious(hay, n, needle, m, &b);
        assert_int_equal(search_last(hay, n, needle, m, &a), want);
        assert_int_equal(a, b);
        found += want == 0;
    }
    assert_in_range(found, 1000, 199000);
}

static void test_linear(void **state)
{
    enum { N = 4 << 20 };
    (void)state;
    char *hay = malloc(N), *needle = malloc(N / 2);
    size_t at;
    assert_non_null(hay);
    assert_non_null(needle);
    memset(hay, 'a', N);
    memset(needle, 'a', N / 2);
    needle[0] = 'b'; /* differs only in the byte that is looked at last */
    const clock_t from = clock();
    assert_int_equal(search_last(hay, N, needle, N / 2, &at), -LLMD_ENOTFOUND);
    assert_true(clock() - from < 5 * CLOCKS_PER_SEC);
    needle[0] = 'a';
    assert_int_equal(search_last(hay, N, needle, N / 2, &at), 0);
    assert_int_equal(at, N / 2);
    free(hay);
    free(needle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random),
                                       cmocka_unit_test(test_linear)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

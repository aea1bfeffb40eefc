/* test_arena.c - memory with one end: zeroed, aligned, disjoint, limited. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/util/arena.h"

enum { N = 3000 };

static uint64_t seed = 11;

static uint32_t roll(uint32_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

/* Small and large ones mixed: each zeroed when given out, none touched by another. */
static void test_disjoint(void **state)
{
    static unsigned char *p[N];
    static uint32_t n[N];
    struct arena a;
    size_t sum = 0;
    (void)state;
    arena_init(&a, 0);
    for (int i = 0; i < N; i++) {
        n[i] = roll(10) ? roll(200) : roll(20000);
        p[i] = arena_alloc(&a, n[i]);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 16, 0);
        for (uint32_t j = 0; j < n[i]; j++)
            assert_int_equal(p[i][j], 0);
        memset(p[i], 1 + i % 255, n[i]);
        sum += (n[i] + 15u) / 16 * 16;
        assert_int_equal(a.used_bytes, sum);
    }
    for (int i = 0; i < N; i++)
        for (uint32_t j = 0; j < n[i]; j++)
            if (p[i][j] != 1 + i % 255)
                fail_msg("allocation %d was overwritten", i);
    arena_fini(&a);
    assert_null(a.chunks);
    assert_int_equal(a.used_bytes, 0);
    arena_fini(&a);
}

/* A large allocation leaves the room of the newest chunk in use. */
static void test_large_beside_small(void **state)
{
    struct arena a;
    (void)state;
    arena_init(&a, 0);
    unsigned char *first = arena_alloc(&a, 16);
    assert_non_null(arena_alloc(&a, 100000));
    unsigned char *second = arena_alloc(&a, 16);
    assert_ptr_equal(second, first + 16);
    arena_fini(&a);
    arena_init(&a, 0);
    assert_non_null(arena_alloc(&a, 100000)); /* the first of all */
    assert_non_null(arena_alloc(&a, 16));
    arena_fini(&a);
}

static void test_limit(void **state)
{
    struct arena a;
    (void)state;
    arena_init(&a, 100);
    assert_non_null(arena_alloc(&a, 50)); /* counts as 64 */
    assert_null(arena_alloc(&a, 40));
    assert_non_null(arena_alloc(&a, 32));
    assert_null(arena_alloc(&a, 16));
    assert_non_null(arena_alloc(&a, 0));
    assert_int_equal(a.used_bytes, 96);
    arena_fini(&a);
}

static void test_overflow(void **state)
{
    struct arena a;
    (void)state;
    arena_init(&a, 0);
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX - 15));
    assert_null(arena_alloc(&a, SIZE_MAX - 40)); /* wraps with the chunk's header */
    assert_null(arena_array(&a, SIZE_MAX / 8 + 2, 8));
    assert_null(arena_strndup(&a, "", SIZE_MAX));
    assert_int_equal(a.used_bytes, 0);
    assert_non_null(arena_array(&a, 3, 8));
    arena_fini(&a);
}

static void test_strings(void **state)
{
    struct arena a;
    (void)state;
    arena_init(&a, 0);
    assert_string_equal(arena_strdup(&a, "text"), "text");
    assert_string_equal(arena_strndup(&a, "text", 2), "te");
    assert_string_equal(arena_strndup(&a, NULL, 0), "");
    assert_memory_equal(arena_strndup(&a, "a\0b", 3), "a\0b", 4);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_disjoint), cmocka_unit_test(test_large_beside_small),
        cmocka_unit_test(test_limit),    cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

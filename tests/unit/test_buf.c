/* test_buf.c - the growing byte string against a plain array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/util/buf.h"

static uint64_t seed = 7;

static uint32_t roll(uint32_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

static void assert_same(const struct buf *b, const char *want, size_t n)
{
    assert_int_equal(b->len, n);
    assert_memory_equal(buf_str(b), want, n);
    assert_int_equal(buf_str(b)[n], '\0'); /* I1 */
    assert_true(!b->data || b->cap > b->len);
}

/* 100,000 random operations. */
static void test_model(void **state)
{
    enum { MAX = 4096 };
    static char want[MAX + 256];
    size_t n = 0;
    struct buf b = {0};
    (void)state;
    for (int i = 0; i < 100000; i++) {
        char piece[64];
        uint32_t k = roll(sizeof(piece)), op = roll(8);
        for (uint32_t j = 0; j < k; j++)
            piece[j] = (char)('a' + roll(26));
        if (n > MAX)
            op = 5 + op % 3;
        if (op <= 1) {
            buf_add(&b, piece, k);
            memcpy(want + n, piece, k);
            n += k;
        } else if (op == 2) {
            buf_addch(&b, '\0');
            want[n++] = '\0';
        } else if (op == 3) {
            buf_addf(&b, "%u:%.*s", k, (int)k, piece);
            n += (size_t)snprintf(want + n, 128, "%u:%.*s", k, (int)k, piece);
        } else if (op == 4) {
            assert_true(buf_reserve(&b, k));
            assert_true(b.cap - b.len > k);
        } else if (op == 5) {
            size_t cut = roll((uint32_t)n + 1);
            buf_consume(&b, cut);
            memmove(want, want + cut, n - cut);
            n -= cut;
        } else if (op == 6) {
            n -= roll((uint32_t)n + 1) / 2;
            buf_truncate(&b, n);
        } else if (roll(20) == 0) {
            size_t len = 1;
            char *p = buf_steal(&b, &len);
            assert_non_null(p);
            assert_int_equal(len, n);
            assert_memory_equal(p, want, n);
            assert_int_equal(p[n], '\0');
            free(p);
            n = 0;
        }
        assert_false(b.failed);
        assert_same(&b, want, n);
    }
    buf_clear(&b);
    assert_same(&b, "", 0);
    buf_fini(&b);
}

static void test_empty(void **state)
{
    struct buf b = {0};
    size_t n = 5;
    (void)state;
    assert_string_equal(buf_str(&b), "");
    buf_add(&b, NULL, 0);
    buf_addstr(&b, "");
    buf_consume(&b, 0);
    buf_truncate(&b, 0);
    buf_clear(&b);
    assert_null(b.data);
    char *p = buf_steal(&b, &n);
    assert_string_equal(p, "");
    assert_int_equal(n, 0);
    free(p);
    buf_fini(&b);
    buf_fini(&b);
}

/* A limit: exactly as much fits; one byte more fails, all later appends do nothing (I2). */
static void test_limit(void **state)
{
    struct buf b = {.max_len = 10};
    (void)state;
    buf_addstr(&b, "0123456789");
    assert_false(b.failed);
    buf_addstr(&b, "");
    assert_false(b.failed);
    buf_addch(&b, 'x');
    assert_true(b.failed);
    buf_consume(&b, 5);
    buf_addch(&b, 'x');
    buf_addf(&b, "%d", 1);
    assert_false(buf_reserve(&b, 0));
    assert_same(&b, "56789", 5);
    assert_null(buf_steal(&b, NULL));
    assert_null(b.data);

    b = (struct buf){.max_len = 10};
    buf_addf(&b, "%s", "01");
    buf_addf(&b, "%s", "23456789"); /* within what is there */
    assert_same(&b, "0123456789", 10);
    buf_addf(&b, "%d", 1);
    assert_true(b.failed);
    assert_same(&b, "0123456789", 10);
    assert_int_equal(strlen(b.data), 10);
    buf_fini(&b);

    b = (struct buf){.max_len = 10};
    buf_addf(&b, "%s", "0123456789a");
    assert_true(b.failed);
    assert_int_equal(b.len, 0);
    buf_clear(&b);
    assert_false(b.failed);
    buf_addstr(&b, "fine");
    free(buf_steal(&b, NULL));
    buf_addstr(&b, "0123456789a"); /* a stolen buf keeps its limit */
    assert_true(b.failed);
    buf_fini(&b);
}

static void test_overflow(void **state)
{
    struct buf b = {0};
    (void)state;
    buf_addstr(&b, "abc");
    assert_false(buf_reserve(&b, SIZE_MAX));
    assert_true(b.failed);
    assert_same(&b, "abc", 3);
    buf_clear(&b);
    assert_false(buf_reserve(&b, SIZE_MAX)); /* with the NUL it wraps */
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_printable.c - what is shown of foreign text: never a control character, never broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/util/printable.h"
#include "core/util/utf8.h"

static bool is_safe(const char *s, size_t n)
{
    for (size_t i = 0, k; i < n; i += k) {
        uint32_t cp;
        k = utf8_decode(s + i, n - i, &cp);
        if (k == 0 || !cp_printable(cp))
            return false;
    }
    return true;
}

/* Every code point shows as itself or as an escape in ASCII, and is taken whole. */
static void test_every_character(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        char s[4], out[PRINTABLE_ESCAPE_MAX];
        size_t n = utf8_encode(cp, s), n_out = 99;
        if (n == 0)
            continue;
        assert_int_equal(printable_next(s, n, out, &n_out), n);
        assert_true(n_out > 0 && n_out <= sizeof(out) && is_safe(out, n_out));
        if (cp_printable(cp)) {
            assert_int_equal(n_out, n);
            assert_memory_equal(out, s, n);
        } else
            assert_int_equal(out[0], '\\');
        if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0) || cp == 0x202e || cp == 0x2028)
            assert_false(cp_printable(cp));
    }
}

static void test_escapes(void **state)
{
    static const struct {
        const char *s, *want;
        size_t used;
    } cases[] = {
        {"a", "a", 1},
        {"\n", "\\n", 1},
        {"\t", "\\t", 1},
        {"\r", "\\r", 1},
        {"\x1b", "\\x1b", 1},
        {"\x7f", "\\x7f", 1},
        {"\xff", "\\xff", 1},
        {"\xe2\x82", "\\xe2", 1},
        {"\xc2\x9b", "\\u009b", 2},
        {"\xe2\x80\xae", "\\u202e", 3},
        {"\xf3\xa0\x80\x81", "\\U000e0001", 4},
        {"\xc3\xa9x", "\xc3\xa9", 2},
    };
    char out[PRINTABLE_ESCAPE_MAX];
    size_t n;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(printable_next(cases[i].s, strlen(cases[i].s), out, &n), cases[i].used);
        assert_int_equal(n, strlen(cases[i].want));
        assert_memory_equal(out, cases[i].want, n);
    }
    assert_int_equal(printable_next("\0", 1, out, &n), 1);
    assert_memory_equal(out, "\\x00", 4);
}

/* Random bytes into rooms of every size: terminated, safe, and whole when it fits. */
static void test_text(void **state)
{
    uint64_t seed = 17;
    (void)state;
    for (int round = 0; round < 50000; round++) {
        char s[24], out[128], whole[sizeof(s) * PRINTABLE_ESCAPE_MAX + 1];
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t n = (seed >> 33) % sizeof(s), room = 1 + (seed >> 40) % 40;
        for (size_t i = 0; i < n; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            s[i] = seed >> 62 ? "ab\"\\ \xc3\xa9\xe2"[seed >> 33 & 7] : (char)(seed >> 33);
        }
        size_t n_whole = printable_text(s, n, "\"\\", whole, sizeof(whole));
        assert_int_equal(whole[n_whole], '\0');
        assert_true(is_safe(whole, n_whole));
        memset(out, 'X', sizeof(out));
        size_t n_out = printable_text(s, n, "\"\\", out, room);
        assert_true(n_out < room);
        assert_int_equal(strlen(out), n_out);
        assert_int_equal(out[room], 'X');
        assert_true(is_safe(out, n_out));
        if (n_whole < room)
            assert_string_equal(out, whole);
        else if (room >= 4) {
            assert_string_equal(out + n_out - 3, "...");
            assert_memory_equal(out, whole, n_out - 3);
        } else
            assert_int_equal(n_out, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_character),
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

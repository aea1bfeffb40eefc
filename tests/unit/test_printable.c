/* test_printable.c - escapes, cuts, text for terminals. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/util/buf.h"
#include "core/util/printable.h"
#include "core/util/utf8.h"

static void test_classes(void **state)
{
    (void)state;
    static const uint32_t refused[] = {0,      0x1b,   '\n',   0x7f,   0x85,    0x9b,   0x2028,
                                       0x202e, 0x2066, 0xfeff, 0xfffe, 0xe0041, 0xfdd0, 0x10ffff};
    static const uint32_t fine[] = {' ', '~', 0xa0, 0xe9, 0x200d, 0x4e2d, 0x1f600, 0xfffd};
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        assert_false(cp_printable(refused[i]));
    for (size_t i = 0; i < ARRAY_LEN(fine); i++)
        assert_true(cp_printable(fine[i]));
}

static void test_next(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        size_t n, used;
        const char *out;
    } cases[] = {
        {"a", 1, 1, "a"},
        {"\xc3\xa9x", 3, 2, "\xc3\xa9"},
        {"\n", 1, 1, "\\n"},
        {"\r", 1, 1, "\\r"},
        {"\t", 1, 1, "\\t"},
        {"\0", 1, 1, "\\x00"},
        {"\x1b", 1, 1, "\\x1b"},
        {"\xff", 1, 1, "\\xff"},
        {"\xc3", 1, 1, "\\xc3"},
        {"\xc2\x9b", 2, 2, "\\u009b"},
        {"\xe2\x80\xae", 3, 3, "\\u202e"},
        {"\xf3\xa0\x81\x81", 4, 4, "\\U000e0041"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char out[PRINTABLE_ESCAPE_MAX];
        size_t len, used = printable_next(cases[i].in, cases[i].n, out, &len);
        assert_int_equal(used, cases[i].used);
        assert_int_equal(len, strlen(cases[i].out));
        assert_memory_equal(out, cases[i].out, len);
    }
}

static void test_text(void **state)
{
    (void)state;
    static const struct {
        const char *in, *escape;
        size_t room;
        const char *out;
    } cases[] = {
        {"plain", "", 64, "plain"},
        {"plain", "", 6, "plain"},
        {"plain", "", 5, "p..."},
        {"plain", "", 4, "..."},
        {"plain", "", 3, ""},
        {"", "", 1, ""},
        {"a'b\\", "'\\", 64, "a\\'b\\\\"},
        {"a\nb", "", 64, "a\\nb"},
        {"ab\n", "", 5, "ab\\n"},
        {"abc\n", "", 5, "a..."},
        {"\xe2\x82\xac\xe2\x82\xac", "", 7, "\xe2\x82\xac\xe2\x82\xac"},
        {"\xe2\x82\xac\xe2\x82\xac", "", 6, "..."},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char out[64];
        memset(out, '#', sizeof(out));
        size_t n =
            printable_text(cases[i].in, strlen(cases[i].in), cases[i].escape, out, cases[i].room);
        assert_string_equal(out, cases[i].out);
        assert_int_equal(n, strlen(cases[i].out));
        for (size_t k = cases[i].room; k < sizeof(out); k++)
            assert_int_equal(out[k], '#');
    }
}

/* Random bytes: what comes out is UTF-8, printable but for \n and \t, and keeps what was. */
static void test_add(void **state)
{
    (void)state;
    struct buf b = {0};
    printable_add(&b, "a\x1b[2J\tb\n\xff\xc2\x85\0c", 13);
    assert_string_equal(buf_str(&b), "a[2J\tb\n\xef\xbf\xbd"
                                     "c");
    srand(3);
    for (int round = 0; round < 20000; round++) {
        char in[32];
        size_t n = (size_t)rand() % sizeof(in);
        for (size_t i = 0; i < n; i++)
            in[i] = (char)(rand() % 256);
        buf_clear(&b);
        printable_add(&b, in, n);
        uint32_t cp;
        for (size_t i = 0, k; i < b.len; i += k) {
            k = utf8_decode(b.data + i, b.len - i, &cp);
            assert_true(k > 0 && (cp_printable(cp) || cp == '\n' || cp == '\t'));
        }
    }
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_next),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_add),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

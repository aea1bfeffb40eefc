/* test_utf8.c - decoding, encoding and replacement, over all code points and all short strings. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/util/buf.h"
#include "core/util/utf8.h"

static bool is_scalar(uint32_t cp)
{
    return cp <= 0x10ffff && (cp < 0xd800 || cp > 0xdfff);
}

/* The encoding as table 3-6 of the standard spreads the bits, for every 32-bit value around. */
static void test_code_points(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp < 0x120000; cp++) {
        char s[5] = {1, 1, 1, 1, 1};
        uint32_t back = 0xffffffff;
        size_t n = utf8_encode(cp, s);
        if (!is_scalar(cp)) {
            assert_int_equal(n, 0);
            continue;
        }
        assert_int_equal(n, cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4);
        assert_int_equal(s[n], 1); /* nothing behind it was touched */
        assert_int_equal(utf8_decode(s, n, &back), n);
        assert_int_equal(back, cp);
        assert_int_equal(utf8_decode(s, sizeof(s), &back), n);
        assert_true(utf8_valid(s, n));
        assert_int_equal(utf8_safe_prefix(s, n), n);
        for (size_t k = 1; k < n; k++) { /* cut short: invalid, but it may still become valid */
            assert_int_equal(utf8_decode(s, k, &back), 0);
            assert_false(utf8_valid(s, k));
            assert_int_equal(utf8_safe_prefix(s, k), 0);
        }
    }
    char s[4];
    assert_int_equal(utf8_encode(UINT32_MAX, s), 0);
}

/* Every string of up to 4 bytes that decodes stands for the code point that encodes to it: no
 * second form of any character gets through. */
static void test_one_form_each(void **state)
{
    static const unsigned char tails[] = {0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f,
                                          0xa0, 0xad, 0xbf, 0xc0, 0xc2, 0xe0, 0xff};
    (void)state;
    for (unsigned a = 0; a < 256; a++)
        for (unsigned b = 0; b < 256; b++)
            for (size_t c = 0; c < ARRAY_LEN(tails); c++)
                for (size_t d = 0; d < ARRAY_LEN(tails); d++) {
                    char s[4] = {(char)a, (char)b, (char)tails[c], (char)tails[d]}, again[4];
                    uint32_t cp = 0xffffffff;
                    size_t n = utf8_decode(s, 4, &cp);
                    if (n == 0) {
                        assert_int_equal(cp, 0xffffffff); /* untouched */
                        continue;
                    }
                    assert_true(is_scalar(cp));
                    assert_int_equal(utf8_encode(cp, again), n);
                    assert_memory_equal(s, again, n);
                }
    uint32_t cp;
    assert_int_equal(utf8_decode("", 0, &cp), 0);
    assert_true(utf8_valid("", 0));
    assert_int_equal(utf8_safe_prefix("", 0), 0);
}

static void assert_lossy(const char *s, const char *want)
{
    struct buf b = {0};
    utf8_add_lossy(&b, s, strlen(s));
    assert_string_equal(buf_str(&b), want);
    buf_fini(&b);
}

#define R "\xef\xbf\xbd" /* U+FFFD */

static void test_replacement(void **state)
{
    (void)state;
    assert_lossy("", "");
    assert_lossy("caf\xc3\xa9", "caf\xc3\xa9");
    assert_lossy("caf\xc3", "caf" R);
    assert_lossy("\xe2\x82x", R "x");    /* one for a maximal subpart */
    assert_lossy("\xe0\x80\x80", R R R); /* overlong: not even a beginning */
    assert_lossy("\xed\xa0\x80", R R R); /* surrogate */
    assert_lossy("\xf0\x9f\x98\xf0\x9f\x98\x80", R "\xf0\x9f\x98\x80");
    assert_lossy("\xf4\x90\x80\x80", R R R R); /* above U+10FFFF */
    assert_lossy("\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64",
                 "a" R R R "b" R "c" R R "d"); /* the standard's own example, table 3-8 */
}

static uint64_t fnv1a(uint64_t h, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 0x100000001b3u;
    return h;
}

/* What the three functions over strings say of one string must fit together. */
static void assert_consistent(const char *s, size_t n, const struct buf *lossy)
{
    bool valid = utf8_valid(s, n);
    assert_true(utf8_valid(lossy->data, lossy->len));
    assert_int_equal(valid, lossy->len == n && memcmp(lossy->data, s, n) == 0);
    size_t safe = utf8_safe_prefix(s, n);
    assert_true(safe <= n && n - safe <= 3);
    if (valid)
        assert_int_equal(safe, n);
    if (safe < n) { /* the tail becomes a character with the right bytes behind it */
        static const char *const ends[] = {"\x80", "\x90\x80\x80", "\xa0\x80", "\x80\x80\x80"};
        char whole[8];
        bool can = false;
        for (size_t i = 0; i < ARRAY_LEN(ends); i++)
            for (size_t k = 1; k <= strlen(ends[i]); k++) {
                memcpy(whole, s + safe, n - safe);
                memcpy(whole + n - safe, ends[i], k);
                can |= utf8_valid(whole, n - safe + k);
            }
        assert_true(can);
        assert_false(utf8_valid(s + safe, n - safe));
    }
}

/* All strings of 1 and 2 bytes, and 3 and 4 over a byte of every class, against Python. */
static void test_against_python(void **state)
{
    static const unsigned char classes[] = {0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf,
                                            0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed,
                                            0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff};
    FILE *f = fopen("tests/golden/data/utf8_lossy.txt", "r");
    (void)state;
    if (!f)
        fail_msg("tests/golden/data/utf8_lossy.txt: run from the root of the tree");
    for (unsigned length = 1; length <= 4; length++) {
        unsigned of_line;
        uint64_t count, want, h = 0xcbf29ce484222325u;
        assert_int_equal(fscanf(f, "%u %" SCNu64 " %" SCNx64, &of_line, &count, &want), 3);
        assert_int_equal(of_line, length);
        unsigned base = length <= 2 ? 256 : ARRAY_LEN(classes);
        struct buf b = {0};
        for (uint64_t i = 0; i < count; i++) {
            char s[4];
            uint64_t rest = i;
            for (unsigned k = length; k-- > 0; rest /= base)
                s[k] = (char)(length <= 2 ? rest % base : classes[rest % base]);
            assert_int_equal(rest, 0);
            buf_clear(&b);
            utf8_add_lossy(&b, s, length);
            assert_consistent(s, length, &b);
            h = fnv1a(h, b.data, b.len + 1); /* with the NUL */
        }
        buf_fini(&b);
        if (h != want)
            fail_msg("strings of %u bytes: digest %016" PRIx64 ", not %016" PRIx64, length, h,
                     want);
    }
    fclose(f);
}

/* However a text is cut into pieces, holding back the unsafe tail gives the same text again. */
static void test_cut_anywhere(void **state)
{
    static const char text[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z\xff\xe2\x82!\xf0\x9f";
    size_t n = sizeof(text) - 1;
    struct buf whole = {0};
    (void)state;
    utf8_add_lossy(&whole, text, n);
    for (size_t step = 1; step <= n; step++) {
        struct buf held = {0}, out = {0};
        for (size_t i = 0; i < n; i += step) {
            buf_add(&held, text + i, step < n - i ? step : n - i);
            size_t safe = utf8_safe_prefix(held.data, held.len);
            utf8_add_lossy(&out, held.data, safe);
            buf_consume(&held, safe);
        }
        utf8_add_lossy(&out, buf_str(&held), held.len);
        assert_string_equal(out.data, whole.data);
        buf_fini(&held);
        buf_fini(&out);
    }
    buf_fini(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_code_points),  cmocka_unit_test(test_one_form_each),
        cmocka_unit_test(test_replacement),  cmocka_unit_test(test_against_python),
        cmocka_unit_test(test_cut_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

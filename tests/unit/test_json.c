/* test_json.c - JSON in within limits, JSON out that reads back. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/util/fault.h"
#include "core/util/json.h"
#include "core/util/utf8.h"

static uint64_t seed = 3;

static uint64_t roll64(void)
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return seed;
}

static void test_accepts(void **state)
{
    static const char *const texts[] = {"null",
                                        " true ",
                                        "\t\r\n1",
                                        "-0",
                                        "1e3",
                                        "0.5",
                                        "\"\"",
                                        "[]",
                                        "{}",
                                        "[1,[2,{\"a\":[]}]]",
                                        "9223372036854775807",
                                        "-9223372036854775808",
                                        "\"\\u00e9\\ud83d\\ude00\\n\"",
                                        "\"caf\xc3\xa9\"",
                                        "{\"a\":1,\"b\":null}",
                                        "\"[[[[{{{{\\\"[[\""};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        json_t *v = NULL;
        struct err e = {0};
        assert_int_equal(json_parse(texts[i], strlen(texts[i]), &v, &e), 0);
        assert_non_null(v);
        json_decref(v);
    }
}

static void test_refuses(void **state)
{
    static const char *const texts[] = {"",
                                        " ",
                                        "nul",
                                        "True",
                                        "NaN",
                                        "Infinity",
                                        "-",
                                        "01",
                                        "+1",
                                        ".5",
                                        "1.",
                                        "1e",
                                        "0x10",
                                        "'a'",
                                        "\"a",
                                        "\"\\x\"",
                                        "\"\\u12\"",
                                        "\"\\ud800\"",
                                        "\"\\udc00\\ud800\"",
                                        "\"a\nb\"",
                                        "\"\x01\"",
                                        "\"\xff\"",
                                        "\"\xc0\x80\"",
                                        "\"\xed\xa0\x80\"",
                                        "[",
                                        "]",
                                        "[1",
                                        "[1,]",
                                        "[,1]",
                                        "[1 2]",
                                        "{",
                                        "{\"a\"}",
                                        "{\"a\":}",
                                        "{\"a\":1,}",
                                        "{a:1}",
                                        "{1:2}",
                                        "[}",
                                        "1 2",
                                        "[]]",
                                        "{}x",
                                        "// c\n1",
                                        "/* c */1",
                                        "\xef\xbb\xbf[]",
                                        "9223372036854775808",
                                        "-9223372036854775809",
                                        "1e400",
                                        "\"\\\n\"",
                                        "{\"a\\u0000b\":1}"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        json_t *v = NULL;
        struct err e = {0};
        int rc = json_parse(texts[i], strlen(texts[i]), &v, &e);
        if (rc != -LLMD_EPARSE)
            fail_msg("'%s' gave %d", texts[i], rc);
        assert_null(v);
        assert_non_null(strstr(e.msg, "line "));
        for (const char *p = e.msg; *p; p++)
            assert_true((unsigned char)*p >= 0x20 && *p != 0x7f); /* one line, fit to show */
    }
}

/* A NUL ends nothing: behind a value it is refused, inside a string it belongs to it. */
static void test_nul(void **state)
{
    json_t *v = NULL;
    struct err e = {0};
    (void)state;
    assert_int_equal(json_parse("1\0", 2, &v, &e), -LLMD_EPARSE);
    assert_string_equal(e.msg, "invalid JSON: byte 1 is NUL");
    assert_int_equal(json_parse("{}\0{}", 5, &v, NULL), -LLMD_EPARSE);
    assert_int_equal(json_parse("[1\0]", 4, &v, NULL), -LLMD_EPARSE);
    assert_int_equal(json_parse("\"\0\"", 3, &v, NULL), -LLMD_EPARSE);
    assert_int_equal(json_parse("\"a\\u0000b\"", 10, &v, NULL), 0);
    assert_int_equal(json_string_length(v), 3);
    assert_memory_equal(json_string_value(v), "a\0b", 3);
    json_decref(v);
    assert_int_equal(json_parse("{\"a\":1,\"a\":2}", 13, &v, NULL), 0); /* the last wins */
    assert_int_equal(json_integer_value(json_object_get(v, "a")), 2);
    json_decref(v);
}

static void test_reals(void **state)
{
    static const char text[] = "[1, 1000000000000000019884624838656, 0.5]";
    json_t *v = NULL;
    struct err e = {0};
    (void)state;
    assert_int_equal(json_parse(text, strlen(text), &v, &e), -LLMD_EPARSE);
    assert_int_equal(json_parse_reals(text, strlen(text), &v, NULL), 0);
    assert_true(json_is_real(json_array_get(v, 0)));
    assert_true(json_real_value(json_array_get(v, 1)) == 1e30);
    json_decref(v);
}

static void test_depth(void **state)
{
    static char text[2 * (JSON_MAX_DEPTH + 1)];
    (void)state;
    for (int depth = JSON_MAX_DEPTH - 1; depth <= JSON_MAX_DEPTH + 1; depth++) {
        json_t *v = NULL;
        struct err e = {0};
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        int rc = json_parse(text, (size_t)depth * 2, &v, &e);
        assert_int_equal(rc, depth <= JSON_MAX_DEPTH ? 0 : -LLMD_EPARSE);
        if (rc)
            assert_string_equal(e.msg, "JSON is nested deeper than 128 levels");
        json_decref(v);
    }
    /* A megabyte of brackets is refused without walking into it. */
    char *many = malloc(1 << 20);
    json_t *v;
    memset(many, '[', 1 << 20);
    assert_int_equal(json_parse(many, 1 << 20, &v, NULL), -LLMD_EPARSE);
    free(many);
    /* Wide is not deep, and brackets in strings do not count. */
    struct buf b = {0};
    for (int i = 0; i < 1000; i++)
        buf_addstr(&b, i ? ",[\"[[[[\\\\\\\"{\"]" : "[[]");
    buf_addstr(&b, "]");
    assert_int_equal(json_parse(b.data, b.len, &v, NULL), 0);
    assert_int_equal(json_array_size(v), 1000);
    json_decref(v);
    buf_fini(&b);
}

static void assert_written(const char *s, size_t n, const char *want)
{
    struct buf b = {0};
    json_add_str(&b, s, n);
    assert_string_equal(buf_str(&b), want);
    buf_fini(&b);
}

static void test_write_strings(void **state)
{
    struct buf b = {0};
    (void)state;
    assert_written("", 0, "\"\"");
    assert_written("a\"b\\c/d<e>", 10, "\"a\\\"b\\\\c/d<e>\"");
    assert_written("\b\t\n\f\r", 5, "\"\\b\\t\\n\\f\\r\"");
    assert_written("\0\x01\x1f\x7f", 4, "\"\\u0000\\u0001\\u001f\x7f\"");
    assert_written("caf\xc3\xa9 \xf0\x9f\x98\x80", 10, "\"caf\xc3\xa9 \xf0\x9f\x98\x80\"");
    assert_written("\xff\"\xe2\x82", 4, "\"\xef\xbf\xbd\\\"\xef\xbf\xbd\"");
    json_add_cstr(&b, NULL);
    json_add_cstr(&b, "x");
    assert_string_equal(b.data, "null\"x\"");
    buf_fini(&b);
    b = (struct buf){.max_len = 4};
    json_add_str(&b, "\xff\xff\xff", 3); /* longer once replaced */
    assert_true(b.failed);
    buf_fini(&b);
}

/* Whatever the bytes, what is written parses back to them (what is no UTF-8 replaced). */
static void test_strings_round_trip(void **state)
{
    static const char pieces[][5] = {
        "\"", "\\", "\n",   "\x01", "a",    "\xc3\xa9",        "\xe2\x82\xac",
        "u",  "/",  "\xff", "\xe2", "\x7f", "\xf0\x9f\x98\x80"};
    (void)state;
    for (int round = 0; round < 20000; round++) {
        struct buf in = {0}, text = {0}, want = {0};
        json_t *v = NULL;
        for (uint64_t k = roll64() % 12; k > 0; k--) {
            uint64_t r = roll64() % (ARRAY_LEN(pieces) + 1);
            if (r == ARRAY_LEN(pieces))
                buf_addch(&in, '\0');
            else
                buf_addstr(&in, pieces[r]);
        }
        json_add_str(&text, buf_str(&in), in.len);
        utf8_add_lossy(&want, buf_str(&in), in.len);
        assert_int_equal(json_parse(text.data, text.len, &v, NULL), 0);
        assert_int_equal(json_string_length(v), want.len);
        assert_memory_equal(json_string_value(v), buf_str(&want), want.len);
        json_decref(v);
        buf_fini(&in);
        buf_fini(&text);
        buf_fini(&want);
    }
}

static void assert_double(double v, const char *want)
{
    struct buf b = {0};
    json_add_double(&b, v);
    assert_string_equal(buf_str(&b), want);
    buf_fini(&b);
}

static void test_doubles(void **state)
{
    (void)state;
    assert_double(0, "0");
    assert_double(-0.0, "-0");
    assert_double(1, "1");
    assert_double(10, "10");
    assert_double(100000, "100000");
    assert_double(-1234567, "-1234567");
    assert_double(0.1, "0.1");
    assert_double(0.1 + 0.2, "0.30000000000000004");
    assert_double(1.0 / 3, "0.3333333333333333");
    assert_double(0.00001, "0.00001");
    assert_double(0.000001, "1e-06");
    assert_double(1.5e-7, "1.5e-07");
    assert_double(123456.789, "123456.789");
    assert_double(1e15, "1000000000000000");
    assert_double(9007199254740993.0, "9007199254740992");
    assert_double(1e16, "1e+16");
    assert_double(1e300, "1e+300");
    assert_double(1.7976931348623157e308, "1.7976931348623157e+308");
    assert_double(2.2250738585072014e-308, "2.2250738585072014e-308");
    assert_double(5e-324, "5e-324");
    assert_double(NAN, "null");
    assert_double(INFINITY, "null");
    assert_double(-INFINITY, "null");
}

/* Random bit patterns: each reads back as itself, and one digit less would not do. */
static void test_doubles_round_trip(void **state)
{
    (void)state;
    for (int round = 0; round < 50000; round++) {
        double v, back;
        uint64_t bits = roll64();
        struct buf b = {0};
        if (round % 3 == 1)
            v = (double)(float)((double)(bits >> 40) / 4096.0 - 2000.0);
        else if (round % 3 == 2)
            v = (double)(int64_t)(bits >> 20) / 1000.0;
        else
            memcpy(&v, &bits, sizeof(v));
        if (!isfinite(v))
            continue;
        json_add_double(&b, v);
        json_t *j = NULL;
        assert_int_equal(json_parse(b.data, b.len, &j, NULL), 0);
        back = json_number_value(j);
        json_decref(j);
        assert_true(back == v);
        int digits = 0; /* significant ones */
        for (const char *p = b.data; *p && *p != 'e'; p++)
            if (*p >= '1' && *p <= '9')
                digits = 1;
        if (digits) {
            const char *first = strpbrk(b.data, "123456789"), *last = first;
            for (const char *p = first; *p && *p != 'e'; p++)
                if (*p >= '1' && *p <= '9')
                    last = p;
            digits = 0;
            for (const char *p = first; p <= last; p++)
                digits += *p != '.';
        }
        if (digits > 1 && digits < 17) {
            char shorter[40];
            snprintf(shorter, sizeof(shorter), "%.*e", digits - 2, v);
            assert_true(strtod(shorter, NULL) != v);
        }
        assert_true(digits <= 17);
        buf_fini(&b);
    }
}

/* Whichever allocations fail, one or all from one on: the whole value, or ENOMEM. */
static void test_without_memory(void **state)
{
    (void)state;
    static const char text[] =
        "{\"a key of thirty-one characters\": [\"a value as long as that, and "
        "longer than the first buffers\", \"\\u00e9\\n\", -12.5e3, 4711, "
        "true, {}], \"2\": null, \"a\": {\"b\": {\"c\": \"d\"}}}";
    json_t *whole, *v;
    assert_int_equal(json_parse(text, sizeof(text) - 1, &whole, NULL), 0);
    for (uint32_t times = 0; times < 2; times++) {
        int rc = -LLMD_ENOMEM;
        for (uint64_t at = 1; rc != 0; at++) {
            struct err e = {0};
            assert_true(at < 200);
            fault_add(&(struct fault){.point = FAULT_ALLOCATION, .at = at, .times = times});
            rc = json_parse(text, sizeof(text) - 1, &v, &e);
            fault_clear();
            assert_int_equal(e.code, -rc);
            assert_true(rc == 0 || rc == -LLMD_ENOMEM);
        }
        assert_true(json_equal(v, whole));
        json_decref(v);
    }
    json_decref(whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts),       cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_nul),           cmocka_unit_test(test_reals),
        cmocka_unit_test(test_depth),         cmocka_unit_test(test_without_memory),
        cmocka_unit_test(test_write_strings), cmocka_unit_test(test_strings_round_trip),
        cmocka_unit_test(test_doubles),       cmocka_unit_test(test_doubles_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

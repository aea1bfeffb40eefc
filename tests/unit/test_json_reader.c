/* test_json_reader.c - JSON without a tree: agrees with jansson on all texts, says where a fault
 * is, copies only what has escapes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/unit/json_tree.h"

static uint64_t seed = 7;

static size_t below(size_t n)
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (size_t)(seed % n);
}

/* In memory that ends with the text, so that a read behind it is found. */
static void check(const char *text, size_t n)
{
    const char *why;
    char *copy = malloc(n + 1);
    assert_non_null(copy);
    memcpy(copy + 1, text, n);
    if (!json_readers_agree(copy + 1, n, &why))
        fail_msg("%s: %.*s", why, (int)n, text);
    free(copy);
}

static const char *const listed[] = {"",
                                     " ",
                                     "null",
                                     " true ",
                                     "false",
                                     "nul",
                                     "nulll",
                                     "t",
                                     "True",
                                     "NaN",
                                     "-",
                                     "-0",
                                     "0",
                                     "01",
                                     "+1",
                                     "1.",
                                     ".5",
                                     "1.5",
                                     "1e",
                                     "1e5",
                                     "1E+05",
                                     "1e-",
                                     "-1.25e-3",
                                     "18446744073709551616",
                                     "1e999",
                                     "\"\"",
                                     "\"a",
                                     "\"\\\"",
                                     "\"\\",
                                     "\"\\\"\"",
                                     "\"\\u00e9\"",
                                     "\"\\u00g9\"",
                                     "\"\\u12\"",
                                     "\"\\ud83d\\ude00\"",
                                     "\"\\ud83d\"",
                                     "\"\\ude00\"",
                                     "\"\\ud83d\\u0041\"",
                                     "\"\\ud83d\\ud83d\"",
                                     "\"\\u0000\"",
                                     "\"\\b\\f\\n\\r\\t\\/\\\\\\\"\"",
                                     "\"\\a\"",
                                     "\"\x01\"",
                                     "\"\n\"",
                                     "\"\x7f\"",
                                     "\"\xc3\xa9\"",
                                     "\"\xc3\"",
                                     "\"\xff\"",
                                     "\"\xed\xa0\x80\"",
                                     "\"\\\xc3\xa9\"",
                                     "\xc3\xa9",
                                     "[]",
                                     "[ ]",
                                     "[1]",
                                     "[1,]",
                                     "[,1]",
                                     "[1,2",
                                     "[1 2]",
                                     "]",
                                     "[}",
                                     "[[],[[]]]",
                                     "{}",
                                     "{ }",
                                     "{\"a\":1}",
                                     "{\"a\":1,}",
                                     "{\"a\"}",
                                     "{\"a\" 1}",
                                     "{a:1}",
                                     "{,}",
                                     "{\"a\":1 \"b\":2}",
                                     "{\"a\":{\"b\":[1,{}]},\"c\":null}",
                                     "{\"a\":1,\"a\":2}",
                                     "{\"\\u0000\":1}",
                                     "{} {}",
                                     "1 2",
                                     "\xef\xbb\xbf{}",
                                     "/**/1",
                                     "[1]//",
                                     "{\"\":\"\"}",
                                     "[\"\\u00\"]",
                                     "{\"a\":}",
                                     "{1:2}"};

static void test_agrees_on_listed(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(listed); i++)
        check(listed[i], strlen(listed[i]));
}

/* Every prefix, and many one-byte changes. */
static void test_agrees_on_broken(void **state)
{
    static const char text[] =
        "{\"version\": \"1.0\", \"added\": [{\"id\": 0, \"special\": true}, {\"id\": -1.5e3}],\r\n"
        "\t\"model\": {\"vocab\": {\"\\u0120a\\\"\\\\\": 12, \"caf\xc3\xa9\": 3, \"\": null},"
        " \"merges\": [[\"a b\", \"\\ud83d\\ude00\"], [\"\", \"c\"]]}, \"x\": [[[]], {\"y\": "
        "false}]}";
    static const char bytes[] = "{}[]:,\"\\ntfu0159eE+-. \n\x01\xc3\xa9\xff\xed\xa0";
    char changed[sizeof(text)];
    (void)state;
    for (size_t n = 0; n < sizeof(text); n++)
        check(text, n);
    for (int i = 0; i < 20000; i++) {
        memcpy(changed, text, sizeof(text));
        for (size_t k = 1 + below(3); k > 0; k--)
            changed[below(sizeof(text) - 1)] = bytes[below(sizeof(bytes) - 1)];
        check(changed, sizeof(text) - 1);
    }
}

static void test_depth(void **state)
{
    char text[2 * JSON_MAX_DEPTH + 2];
    (void)state;
    memset(text, '[', JSON_MAX_DEPTH + 1);
    memset(text + JSON_MAX_DEPTH + 1, ']', JSON_MAX_DEPTH + 1);
    check(text, sizeof(text));         /* one too many: refused */
    check(text + 1, sizeof(text) - 2); /* the deepest that is taken */
    struct err e = {0};
    struct json_reader r;
    json_reader_init(&r, text, sizeof(text), NULL, &e);
    assert_false(json_skip(&r, NULL));
    assert_non_null(strstr(e.msg, "too deeply"));
    json_reader_init(&r, text + 1, sizeof(text) - 2, NULL, NULL);
    assert_true(json_skip(&r, NULL) && json_end(&r));
}

static void begin(struct json_reader *r, struct arena *a, const char *text, struct err *e)
{
    memset(e, 0, sizeof(*e));
    json_reader_init(r, text, strlen(text), a, e);
}

static void test_values(void **state)
{
    struct json_reader r;
    struct arena a;
    struct err e;
    struct json_str s = {0}, key;
    uint32_t v = 0;
    bool flag = false;
    (void)state;
    arena_init(&a, 0);
    begin(&r, &a, " {\"a\": 4294967295, \"b\\t\": [true, null, \"x\"], \"c\": {\"d\": [1]} } ", &e);
    assert_true(json_open_object(&r));
    assert_true(json_next_key(&r, &key) && json_str_is(key, "a"));
    assert_true(json_read_u32(&r, &v) && v == UINT32_MAX);
    assert_int_equal(a.used_bytes, 0);
    assert_true(json_next_key(&r, &key) && json_str_is(key, "b\t"));
    assert_true(a.used_bytes > 0);
    assert_true(json_open_array(&r) && json_next_item(&r) && json_read_bool(&r, &flag) && flag);
    assert_true(json_next_item(&r) && json_read_null(&r));
    assert_true(json_next_item(&r) && !json_read_null(&r) && json_read_str(&r, &s));
    assert_true(json_str_is(s, "x") && !json_next_item(&r));
    assert_true(json_next_key(&r, &key) && json_skip(&r, &s) && json_str_is(s, "{\"d\": [1]}"));
    assert_true(!json_next_key(&r, &key) && json_end(&r));
    assert_int_equal(r.rc, 0);
    arena_fini(&a);
}

/* A wrong kind of value is a fault with its place; after it nothing is read any more. */
static void test_faults(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[1,\n  x]", "line 2 column 3: a value is expected"},
        {"[4294967296]", "line 1 column 2: an integer from 0 to 4294967295 is expected"},
        {"[-1]", "line 1 column 2: an integer from 0 to 4294967295 is expected"},
        {"[1.0]", "line 1 column 2: an integer from 0 to 4294967295 is expected"},
        {"[\"1\"]", "line 1 column 2: a value is expected"},
        {"[1", "line 1 column 3: the text ends too early"},
        {"[1 1]", "line 1 column 4: ',' or ']' is expected"},
        {"{}", "line 1 column 1: an array is expected"},
    };
    struct json_reader r;
    struct err e;
    uint32_t v;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        begin(&r, NULL, cases[i].text, &e);
        for (json_open_array(&r); json_next_item(&r);)
            json_read_u32(&r, &v);
        assert_string_equal(e.msg, cases[i].message);
        assert_int_equal(r.rc, -LLMD_EPARSE);
        assert_int_equal(json_peek(&r), 0);
        assert_false(json_end(&r) || json_read_null(&r) || json_skip(&r, NULL));
    }
}

static void test_no_memory(void **state)
{
    struct json_reader r;
    struct arena a;
    struct err e;
    struct json_str s;
    (void)state;
    arena_init(&a, 8);
    begin(&r, &a, "\"\\n0123456789abcdef0123456789\"", &e);
    assert_false(json_read_str(&r, &s));
    assert_int_equal(r.rc, -LLMD_ENOMEM);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_on_listed),
        cmocka_unit_test(test_agrees_on_broken),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

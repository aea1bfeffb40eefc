/* test_err.c - error codes and messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/util/err.h"

/* Every code has a number of its own, a text, a status and a type. */
static void test_table(void **state)
{
    static const int codes[] = {
#define X(name, number, text, status, type, retryable) LLMD_##name,
        LLMD_ERRORS(X)
#undef X
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(codes[i], codes[j]);
            assert_string_not_equal(err_text(codes[i]), err_text(codes[j]));
        }
        assert_in_range(err_http_status(codes[i]), 400, 599);
        assert_true(err_text(codes[i])[0] != '\0' && err_openai_type(codes[i])[0] != '\0');
        assert_int_equal(err_http_status(-codes[i]), err_http_status(codes[i]));
        /* What the caller did wrong is wrong the second time too; too early is not. */
        if (err_http_status(codes[i]) < 500 && codes[i] != LLMD_ERATE)
            assert_false(err_retryable(codes[i]));
    }
    assert_int_equal(err_http_status(LLMD_EAUTH), 401);
    assert_int_equal(err_http_status(-LLMD_ECONTEXT), 400);
    assert_true(err_retryable(-LLMD_EFULL));
    static const int unknown[] = {0, 1000, -1000, INT32_MAX, -INT32_MAX};
    for (size_t i = 0; i < ARRAY_LEN(unknown); i++)
        assert_string_equal(err_text(unknown[i]), err_text(LLMD_EINTERNAL));
}

static void test_first_writer_wins(void **state)
{
    struct err e = {0};
    (void)state;
    assert_int_equal(err_set(&e, LLMD_EPARSE, "line %d", 7), -LLMD_EPARSE);
    int line = __LINE__ - 1;
    assert_int_equal(err_set(&e, LLMD_ENOMEM, "later"), -LLMD_ENOMEM);
    assert_int_equal(e.code, LLMD_EPARSE);
    assert_string_equal(e.msg, "line 7");
    assert_string_equal(e.param, "");
    assert_int_equal(e.line, line);
    assert_non_null(strstr(e.file, "test_err.c"));
    err_clear(&e);
    assert_int_equal(e.code, 0);
    assert_string_equal(e.msg, "");
    assert_int_equal(err_set_param(&e, LLMD_EINVAL, "top_p", "must be %s", "positive"),
                     -LLMD_EINVAL);
    assert_string_equal(e.param, "top_p");
    assert_string_equal(e.msg, "must be positive");
}

static void test_prefix(void **state)
{
    struct err e = {0};
    (void)state;
    err_prefix(&e, "nothing happened: ");
    assert_string_equal(e.msg, "");
    (void)!err_set(&e, LLMD_EIO, "disk full");
    err_prefix(&e, "%s: ", "a/b");
    err_prefix(&e, "while saving: ");
    assert_string_equal(e.msg, "while saving: a/b: disk full");
}

static void test_no_err(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, LLMD_EIO, "x"), -LLMD_EIO);
    assert_int_equal(err_set_param(NULL, LLMD_EIO, "p", "x"), -LLMD_EIO);
    err_prefix(NULL, "x");
    err_clear(NULL);
}

/* Too long is cut, never run over. */
static void test_truncation(void **state)
{
    char text[2000];
    struct err e = {0};
    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    (void)!err_set_param(&e, LLMD_EPARSE, text, "%s", text);
    assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
    assert_int_equal(strlen(e.param), sizeof(e.param) - 1);
    err_prefix(&e, "here: ");
    assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
    assert_int_equal(strncmp(e.msg, "here: xxx", 9), 0);
    err_prefix(&e, "%s", text);
    assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
    assert_int_equal(e.line != 0, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),      cmocka_unit_test(test_first_writer_wins),
        cmocka_unit_test(test_prefix),     cmocka_unit_test(test_no_err),
        cmocka_unit_test(test_truncation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

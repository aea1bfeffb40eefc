/* The header traceparent: what is one, what is none, what the reply says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "core/edge/trace_context.h"

#define TRACE  "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"
#define ZEROS  "00000000000000000000000000000000"

static void test_what_is_one(void **state)
{
    (void)state;
    static const struct {
        const char *value, *reply;
    } cases[] = {
        {"00-" TRACE "-" PARENT "-01", "00-" TRACE "-0000000000001234-01"},
        {"00-" TRACE "-" PARENT "-00", "00-" TRACE "-0000000000001234-00"},
        {"00-" TRACE "-" PARENT "-ff", "00-" TRACE "-0000000000001234-03"},
        {"cc-" TRACE "-" PARENT "-01", "00-" TRACE "-0000000000001234-01"},
        {"cc-" TRACE "-" PARENT "-01-what-the-future-holds", "00-" TRACE "-0000000000001234-01"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct trace_context t;
        char reply[TRACEPARENT_BYTES];
        assert_true(trace_context_take(cases[i].value, 0x1234, &t));
        assert_string_equal(t.trace_id, TRACE);
        trace_context_write(&t, reply);
        assert_string_equal(reply, cases[i].reply);
        assert_true(trace_context_take(reply, UINT64_MAX, &t)); /* what we say we would take */
        assert_string_equal(t.span_id, "ffffffffffffffff");
    }
}

/* One that begins here: what we say of it we would take. */
static void test_begun(void **state)
{
    (void)state;
    struct trace_context t, again;
    char header[TRACEPARENT_BYTES];
    trace_context_begin(1, 2, 3, &t);
    assert_non_null(trace_context_recorded(&t));
    assert_string_equal(t.parent_id, "");
    trace_context_write(&t, header);
    assert_string_equal(header, "00-00000000000000010000000000000002-0000000000000003-01");
    assert_true(trace_context_take(header, 4, &again));
    assert_non_null(trace_context_recorded(&again));
    assert_string_equal(again.parent_id, t.span_id);
    again.flags = 2;
    assert_null(trace_context_recorded(&again));
    assert_null(trace_context_recorded(&(struct trace_context){.flags = TRACE_SAMPLED}));
}

static void test_what_is_none(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "00",
                                      "00-" TRACE,
                                      "00-" TRACE "-" PARENT,
                                      "00-" TRACE "-" PARENT "-",
                                      "00-" TRACE "-" PARENT "-0",
                                      "00-" TRACE "-" PARENT "-011",
                                      "00-" TRACE "-" PARENT "-01-",
                                      "00-" TRACE "-" PARENT "-01 ",
                                      "00-" TRACE "-" PARENT "-0X",
                                      "cc-" TRACE "-" PARENT "-01.",
                                      "ff-" TRACE "-" PARENT "-01",
                                      "0-" TRACE "-" PARENT "-01",
                                      "000-" TRACE "-" PARENT "-01",
                                      " 00-" TRACE "-" PARENT "-01",
                                      "00-" ZEROS "-" PARENT "-01",
                                      "00-" TRACE "-0000000000000000-01",
                                      "00-" TRACE "0-" PARENT "-01",
                                      "00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01",
                                      "00-" TRACE "_" PARENT "-01"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct trace_context t = {.trace_id = "x"};
        if (trace_context_take(bad[i], 1, &t))
            fail_msg("taken: %s", bad[i]);
        assert_string_equal(t.trace_id, "");
    }
}

/* Any one byte in any place of a good one: taken or not, it is never read past its end (ASan), and what
 * is taken has the form of one. */
static void test_any_byte_anywhere(void **state)
{
    (void)state;
    static const char good[] = "00-" TRACE "-" PARENT "-01";
    uint32_t n_taken = 0;
    for (size_t at = 0; at < sizeof(good); at++)
        for (int byte = 0; byte < 256; byte++) {
            char value[sizeof(good)];
            struct trace_context t;
            memcpy(value, good, sizeof(good));
            value[at] = (char)byte;
            value[sizeof(good) - 1] = '\0';
            if (!trace_context_take(value, 1, &t))
                continue;
            n_taken++;
            assert_int_equal(strlen(t.trace_id), TRACE_ID_DIGITS);
            assert_int_equal(strspn(t.trace_id, "0123456789abcdef"), TRACE_ID_DIGITS);
        }
    /* 16 digits in each of 52 places, three dashes, and whatever stood behind the end. */
    assert_int_equal(n_taken, 52 * 16 + 3 + 256);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_one),
        cmocka_unit_test(test_begun),
        cmocka_unit_test(test_what_is_none),
        cmocka_unit_test(test_any_byte_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

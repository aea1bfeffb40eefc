/* test_otlp.c - the wire format of Protocol Buffers, and OTLP on it: byte for byte, and what answers say. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/observe/otlp.h"
#include "core/util/protobuf.h"

#define BYTES(literal) (literal), sizeof(literal) - 1

static void assert_bytes(const struct buf *b, const char *want, size_t n)
{
    assert_false(b->failed);
    assert_int_equal(b->len, n);
    assert_memory_equal(b->data, want, n);
}

/* ---- the wire format: the examples of its documentation, and the limits ---- */

static void test_fields(void **state)
{
    (void)state;
    struct buf b = {0};
    pb_uint(&b, 1, 150);
    pb_bytes(&b, 2, "testing", 7);
    const size_t inner = pb_open(&b, 3);
    pb_uint(&b, 1, 150);
    pb_close(&b, inner);
    assert_bytes(&b, BYTES("\x08\x96\x01\x12\x07testing\x1a\x03\x08\x96\x01"));
    buf_clear(&b);
    pb_uint(&b, PB_MAX_FIELD, UINT64_MAX);
    pb_fixed32(&b, 4, 0x01020304);
    pb_double(&b, 5, 1.0);
    assert_bytes(&b, BYTES("\xf8\xff\xff\xff\x0f\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
                           "\x25\x04\x03\x02\x01\x29\0\0\0\0\0\0\xf0\x3f"));
    buf_fini(&b);
}

/* Lengths of one, two and three bytes, in each other. */
static void test_long_messages(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 125, 126, 127, 128, 16380, 16383, 16384, 70000};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct buf b = {0};
        char *text = calloc(1, sizes[i] + 1);
        struct pb_field f;
        memset(text, 'x', sizes[i]);
        pb_uint(&b, 1, 7);
        const size_t outer = pb_open(&b, 2), inner = pb_open(&b, 3);
        pb_bytes(&b, 4, text, sizes[i]);
        pb_close(&b, inner);
        pb_uint(&b, 5, 8);
        pb_close(&b, outer);
        const uint8_t *at = (const uint8_t *)b.data, *end = at + b.len;
        assert_int_equal(pb_next(&at, end, &f), 1);
        assert_int_equal(f.value, 7);
        assert_int_equal(pb_next(&at, end, &f), 1);
        assert_int_equal(f.number, 2);
        assert_int_equal(pb_next(&at, end, &f), 0);
        at = f.bytes;
        end = at + f.n;
        struct pb_field in, last;
        assert_int_equal(pb_next(&at, end, &in), 1);
        assert_int_equal(pb_next(&at, end, &last), 1);
        assert_int_equal(last.value, 8);
        at = in.bytes;
        assert_int_equal(pb_next(&at, in.bytes + in.n, &f), 1);
        assert_int_equal(f.n, sizes[i]);
        assert_memory_equal(f.bytes, text, sizes[i]);
        free(text);
        buf_fini(&b);
    }
}

static void test_texts(void **state)
{
    (void)state;
    struct buf b = {0};
    pb_text(&b, 1, "h\xc3\xa9", 100);
    pb_text(&b, 1, "h\xc3\xa9", 2); /* not half a character */
    pb_text(&b, 1, "a\xff", 100);
    pb_text(&b, 1, "", 100);
    assert_bytes(&b, BYTES("\x0a\x03h\xc3\xa9\x0a\x01h\x0a\x04"
                           "a\xef\xbf\xbd\x0a\x00"));
    buf_fini(&b);
}

static void test_what_is_no_message(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
    } bad[] = {
        {BYTES("\x08")},                                             /* no value */
        {BYTES("\x08\x80")},                                         /* half of one */
        {BYTES("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02")},     /* of 65 bits */
        {BYTES("\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00")}, /* of 11 bytes */
        {BYTES("\x0a\x02x")},                                        /* shorter than it says */
        {BYTES("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")},     /* as long as memory */
        {BYTES("\x0d\x01\x02\x03")},                 /* 4 bytes, of which 3 are there */
        {BYTES("\x09\x01\x02\x03\x04\x05\x06\x07")}, /* 8, 7 */
        {BYTES("\x00\x00")},                         /* field 0 */
        {BYTES("\x0b\x0c")},                         /* a group */
        {BYTES("\x0e")},                             /* types that do not exist */
        {BYTES("\x0f")},
        {BYTES("\x80\x80\x80\x80\x80\x01\x00")}, /* a number beyond the last field */
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const uint8_t *at = (const uint8_t *)bad[i].bytes;
        struct pb_field f = {.number = 77};
        if (pb_next(&at, at + bad[i].n, &f) != -LLMD_EPARSE || f.number != 77)
            fail_msg("case %zu was taken", i);
    }
}

/* ---- spans ---- */

static void test_a_span(void **state)
{
    (void)state;
    struct buf b = {0};
    const struct otlp_span s = {.trace_id = "0123456789abcde",
                                .id = 0x0102030405060708,
                                .parent = 0xf1f2f3f4f5f6f7f8,
                                .remote = true,
                                .kind = OTLP_SERVER,
                                .name = "n",
                                .start_us = 1,
                                .end_us = 0, /* before its start */
                                .error = true,
                                .why = "w"};
    const size_t span = otlp_span_open(&b, &s);
    otlp_bool(&b, OTLP_OF_SPAN, OTLP_REQUEST_STREAM, true);
    const size_t event = otlp_event_open(&b, "e", 2);
    otlp_int(&b, OTLP_OF_EVENT, OTLP_CHOICE, -1);
    otlp_close(&b, event);
    otlp_close(&b, span);
    assert_bytes(
        &b,
        BYTES("\x12\x91\x01"
              "\x0a\x10"
              "0123456789abcde\0"
              "\x12\x08\x01\x02\x03\x04\x05\x06\x07\x08"
              "\x22\x08\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8"
              "\x2a\x01n"
              "\x30\x02"
              "\x39\xe8\x03\0\0\0\0\0\0"
              "\x41\xe8\x03\0\0\0\0\0\0"
              "\x7a\x05\x12\x01w\x18\x02"
              "\x85\x01\x01\x03\0\0"
              "\x4a\x1b\x0a\x15"
              "gen_ai.request.stream"
              "\x12\x02\x10\x01"
              "\x5a\x28\x09\xd0\x07\0\0\0\0\0\0"
              "\x12\x01"
              "e"
              "\x1a\x1a\x0a\x0bllmd.choice\x12\x0b\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"));
    buf_fini(&b);
}

/* The field of that number in the message, which has it once. */
static struct pb_field member(const void *bytes, size_t n, uint32_t number)
{
    const uint8_t *at = bytes, *end = at + n;
    struct pb_field f, found = {0};
    while (pb_next(&at, end, &f) == 1)
        if (f.number == number) {
            assert_int_equal(found.number, 0);
            found = f;
        }
    assert_true(found.number == number && at == end);
    return found;
}

/* The envelope: resource and scope in front, the spans as they are behind them. */
static void test_a_request(void **state)
{
    (void)state;
    struct buf b = {0}, resource = {0}, spans = {0};
    otlp_named(&resource, OTLP_OF_RESOURCE, "a", "b");
    for (int i = 0; i < 3; i++)
        pb_text(&spans, 2, "span", 100);
    otlp_request(&b, &resource, spans.data, spans.len);
    const struct pb_field all = member(b.data, b.len, 1);
    const struct pb_field who = member(all.bytes, all.n, 1), scopes = member(all.bytes, all.n, 2);
    assert_int_equal(who.n, resource.len);
    assert_memory_equal(who.bytes,
                        "\x0a\x08\x0a\x01"
                        "a\x12\x03\x0a\x01"
                        "b",
                        who.n);
    const struct pb_field scope = member(scopes.bytes, scopes.n, 1);
    assert_memory_equal(scope.bytes, "\x0a\x04llmd\x12", 7);
    assert_memory_equal(scopes.bytes + scopes.n - spans.len, spans.data, spans.len);
    assert_ptr_equal(scope.bytes + scope.n, scopes.bytes + scopes.n - spans.len);
    buf_fini(&b);
    buf_fini(&resource);
    buf_fini(&spans);
}

static void test_values(void **state)
{
    (void)state;
    struct buf b = {0};
    const char *two[] = {"a", "b"};
    otlp_texts(&b, OTLP_OF_SPAN, OTLP_KEY, two, 2);
    otlp_real(&b, OTLP_OF_SPAN, OTLP_KEY, 1.0);
    assert_bytes(&b, BYTES("\x4a\x1d\x0a\x0dllmd.key.name\x12\x0c\x2a\x0a\x0a\x03\x0a\x01"
                           "a\x0a\x03\x0a\x01"
                           "b"
                           "\x4a\x1a\x0a\x0dllmd.key.name\x12\x09\x21\0\0\0\0\0\0\xf0\x3f"));
    buf_fini(&b);
}

/* Each name stands there once. */
static void test_names(void **state)
{
    (void)state;
    enum otlp_name all[] = {
#define OTLP_NAME(id, text) OTLP_##id,
#include "core/observe/otlp_names.def"
#undef OTLP_NAME
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(otlp_name(all[i]), otlp_name(all[k]));
}

/* ---- answers ---- */

static void test_answers(void **state)
{
    (void)state;
    struct otlp_reply r;
    assert_int_equal(otlp_read_reply(NULL, 0, &r), 0);
    assert_true(r.n_rejected == 0 && r.why[0] == '\0');
    assert_int_equal(otlp_read_reply(BYTES("\x0a\x00"), &r), 0);
    assert_int_equal(r.n_rejected, 0);
    assert_int_equal(otlp_read_reply(BYTES("\x10\x05\x0a\x0b\x08\x85\x02\x12\x06too \x1b["), &r),
                     0);
    assert_int_equal(r.n_rejected, 261);
    assert_string_equal(r.why, "too \\x1b["); /* fit for a log */
    assert_int_equal(otlp_read_status(BYTES("\x08\x03\x12\x03"
                                            "bad"),
                                      &r),
                     0);
    assert_string_equal(r.why, "bad");
    /* A number of rejected spans below zero is none. */
    assert_int_equal(
        otlp_read_reply(BYTES("\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), &r), 0);
    assert_int_equal(r.n_rejected, 0);
    r.n_rejected = 9;
    assert_int_equal(otlp_read_reply(BYTES("<html>"), &r), -LLMD_EPARSE);
    assert_int_equal(otlp_read_reply(BYTES("\x0a\x02\x12\x05"), &r), -LLMD_EPARSE);
    assert_int_equal(otlp_read_status(BYTES("<html>"), &r), -LLMD_EPARSE);
    assert_int_equal(r.n_rejected, 9); /* untouched */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),  cmocka_unit_test(test_long_messages),
        cmocka_unit_test(test_texts),   cmocka_unit_test(test_what_is_no_message),
        cmocka_unit_test(test_a_span),  cmocka_unit_test(test_a_request),
        cmocka_unit_test(test_values),  cmocka_unit_test(test_names),
        cmocka_unit_test(test_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

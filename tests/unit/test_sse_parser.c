/* test_sse_parser.c - events out of bytes, cut anywhere. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/util/sse_parser.h"

/* Appends "type=data;" */
static int note(void *ctx, const struct sse_event *e)
{
    struct buf *b = ctx;
    assert_int_equal(e->data[e->n_data], '\0');
    buf_addf(b, "%s=", e->type);
    buf_add(b, e->data, e->n_data);
    buf_addch(b, ';');
    return 0;
}

static const struct {
    const char *bytes, *events;
} cases[] = {
    {"", ""},
    {"data: a\n\n", "message=a;"},
    {"data: a\r\n\r\n", "message=a;"},
    {"data: a\r\rdata: b\r\r", "message=a;message=b;"},
    {"data: a\r\n\ndata: b\n\r\n", "message=a;message=b;"},
    {"data:a\n\n", "message=a;"},
    {"data:  a\n\n", "message= a;"},
    {"data\n\n", "message=;"},
    {"data:\n\n", "message=;"},
    {"data: a\ndata: b\ndata\n\n", "message=a\nb\n;"},
    {"event: x\ndata: a\n\ndata: b\n\n", "x=a;message=b;"},
    {"event: x\nevent: y\ndata: a\n\n", "y=a;"},
    {"event: x\n\ndata: b\n\n", "message=b;"}, /* no data: no event, and x is forgotten */
    {": comment\n\n:\ndata: a\n:data: c\n\n", "message=a;"},
    {"id: 1\nretry: 5\nbogus: x\ndata: a\n\n", "message=a;"},
    {"Data: a\n\ndataa: b\n\ndat: c\n\n", ""},
    {"data: a\n", ""}, /* not complete */
    {"data: a\n\ndata: b", "message=a;"},
    {"\xef\xbb\xbf"
     "data: a\n\n",
     "message=a;"},
    {"\n\xef\xbb\xbf"
     "data: a\n\n",
     ""}, /* only at the start */
    {"\xef\xbb\xbf\xef\xbb\xbf"
     "data: a\n\n",
     ""},
    {"\xef\xbb\xbf\n\ndata: a\n\n", "message=a;"},
    {"data: {\"a\":\"b: c\"}\n\ndata: [DONE]\n\n", "message={\"a\":\"b: c\"};message=[DONE];"},
    {"\n\n\n\n", ""},
    {"data: \xff\n\n", "message=\xff;"},
};

/* Whole, byte by byte, and in every cut in two: the same. */
static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t n = strlen(cases[i].bytes);
        for (size_t cut = 0; cut <= n + 1; cut++) {
            struct sse_parser p = {0};
            struct buf got = {0};
            const char *b = cases[i].bytes;
            if (cut <= n) {
                assert_int_equal(sse_feed(&p, b, cut, note, &got, NULL), 0);
                assert_int_equal(sse_feed(&p, b + cut, n - cut, note, &got, NULL), 0);
            } else
                for (size_t k = 0; k < n; k++)
                    assert_int_equal(sse_feed(&p, b + k, 1, note, &got, NULL), 0);
            assert_string_equal(buf_str(&got), cases[i].events);
            buf_fini(&got);
            sse_parser_fini(&p);
        }
    }
}

/* NUL bytes are data like others. */
static void test_nul(void **state)
{
    (void)state;
    static const char bytes[] = "data: a\0b\n\n";
    struct sse_parser p = {0};
    struct buf got = {0};
    assert_int_equal(sse_feed(&p, bytes, sizeof(bytes) - 1, note, &got, NULL), 0);
    assert_int_equal(got.len, strlen("message=") + 3 + 1);
    buf_fini(&got);
    sse_parser_fini(&p);
}

static int stop(void *ctx, const struct sse_event *e)
{
    (void)e;
    (*(int *)ctx)++;
    return 77;
}

static void test_stop(void **state)
{
    (void)state;
    struct sse_parser p = {0};
    int n = 0;
    assert_int_equal(sse_feed(&p, "data: a\n\ndata: b\n\n", 18, stop, &n, NULL), 77);
    assert_int_equal(n, 1);
    sse_parser_fini(&p);
}

static void test_too_big(void **state)
{
    (void)state;
    enum { PIECE = 1 << 20 };
    char *piece = malloc(PIECE);
    assert_non_null(piece);
    memset(piece, 'x', PIECE);
    for (int lines = 0; lines < 2; lines++) {
        struct sse_parser p = {0};
        struct buf got = {0};
        struct err e = {0};
        int rc = 0, i = 0;
        for (; rc == 0 && i < 100; i++) {
            if (lines) {
                memcpy(piece, "data: ", 6);
                piece[PIECE - 1] = '\n';
            }
            rc = sse_feed(&p, piece, PIECE, note, &got, &e);
        }
        assert_int_equal(rc, -LLMD_ETOOBIG);
        assert_in_range(i, 16, 18);
        assert_non_null(strstr(e.msg, "larger than"));
        buf_fini(&got);
        sse_parser_fini(&p);
    }
    free(piece);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_nul),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_too_big),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

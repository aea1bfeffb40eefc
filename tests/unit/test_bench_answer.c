/* test_bench_answer.c - HTTP responses and streamed answers, cut at every place. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "core/bench/answer.h"
#include "core/bench/response.h"

/* What one feeding of a whole response came to, as a line of text. */
struct reading {
    struct response response;
    struct buf body;
};

static int keep(void *ctx, const char *bytes, size_t n)
{
    struct reading *r = ctx;
    buf_add(&r->body, bytes, n);
    return 0;
}

/* Feeds s in pieces that end at cut and at cut2 (bytewise when step is 1). */
static void read_all(const char *s, size_t n, size_t cut, size_t step, bool close, struct buf *out)
{
    struct reading r = {.body = {0}};
    struct err e = {0};
    int rc = 0;
    for (size_t at = 0; at < n && rc == 0;) {
        size_t k = step ? 1 : at < cut ? cut - at : n - at;
        rc = response_feed(&r.response, s + at, k, keep, &r, &e);
        at += k;
    }
    if (rc == 0 && close)
        rc = response_close(&r.response, &e);
    buf_addf(out, "%d %s%s%s[%s]", r.response.status,
             r.response.state == RESPONSE_DONE ? "done" : "open",
             r.response.keep_alive ? " keep" : "", rc ? " bad " : " ", buf_str(&r.body));
    response_fini(&r.response);
    buf_fini(&r.body);
}

static const struct {
    const char *bytes;
    bool close;
    const char *result;
} responses[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", false, "200 done keep [abc]"},
    {"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", false, "200 done keep [abc]"},
    {"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", false, "200 done [abc]"},
    {"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\na", false,
     "200 done keep [a]"},
    {"HTTP/1.1 200 OK\r\nconnection: x , CLOSE\r\ncontent-length: 1\r\n\r\na", false,
     "200 done [a]"},
    {"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", false, "503 done keep []"},
    {"HTTP/1.1 204\r\n\r\n", false, "204 done keep []"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: "
     "chunked\r\n\r\n3\r\nabc\r\n1A;x=y\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n",
     false, "200 done keep [abcabcdefghijklmnopqrstuvwxyz]"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 7\r\n\r\n1\r\na\r\n0\r\nX: "
     "y\r\n\r\n",
     false, "200 done keep [a]"},
    {"HTTP/1.1 200 OK\r\n\r\nall of it", true, "200 done [all of it]"},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", false,
     "200 done keep [a]"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc", false, "200 done [a]"}, /* too much */
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", true, "200 open bad [abc]"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", true,
     "200 open bad [abc]"},
    {"", true, "0 open bad []"},
    {"SSH-2.0-OpenSSH\r\n", false, "0 open bad []"},
    {"HTTP/2 200\r\n\r\n", false, "0 open bad []"},
    {"HTTP/1.1 2x0 OK\r\n\r\n", false, "0 open bad []"},
    {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", false, "200 open bad []"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", false, "200 open bad []"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", false,
     "200 open bad []"},
    {"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", false, "200 open bad []"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", false, "200 open bad []"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", false, "200 open bad []"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", false, "200 open bad []"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", false,
     "200 open bad [ab]"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", false,
     "200 open bad []"},
};

static void test_responses(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(responses); i++) {
        size_t n = strlen(responses[i].bytes);
        for (size_t cut = 0; cut <= n + 1; cut++) {
            struct buf got = {0};
            read_all(responses[i].bytes, n, cut <= n ? cut : 0, cut > n, responses[i].close, &got);
            if (strcmp(buf_str(&got), responses[i].result) != 0)
                fail_msg("%zu cut at %zu: \"%s\", not \"%s\"", i, cut, buf_str(&got),
                         responses[i].result);
            buf_fini(&got);
        }
    }
}

static void test_large_header(void **state)
{
    (void)state;
    struct response r = {.status = 0};
    struct reading sink = {.body = {0}};
    struct err e = {0};
    int rc = response_feed(&r, "HTTP/1.1 200 OK\r\n", 17, keep, &sink, &e);
    assert_int_equal(rc, 0);
    for (int i = 0; i < 100000 && rc == 0; i++)
        rc = response_feed(&r, "X: yyyyyyyyyyyy\r\n", 17, keep, &sink, &e);
    assert_int_equal(rc, -LLMD_ETOOBIG);
    response_reset(&r);
    for (int i = 0;
         i < 100000 && (rc = response_feed(&r, "HTTP/1.1 200 ", 13, keep, &sink, &e)) == 0; i++)
        ;
    assert_int_equal(rc, -LLMD_ETOOBIG);
    response_fini(&r);
}

static void count(void *ctx)
{
    (*(int *)ctx)++;
}

#define CHUNK(delta) "data: {\"choices\":[{\"index\":0,\"delta\":" delta "}]}\n\n"
#define USAGE                                                                                      \
    "data: "                                                                                       \
    "{\"choices\":[],\"usage\":{\"prompt_tokens\":32,\"total_tokens\":35,\"completion_tokens\":3," \
    "\"prompt_tokens_details\":{\"cached_tokens\":16,\"x\":null}}}\n\n"
#define DONE "data: [DONE]\n\n"

static const struct {
    const char *bytes, *result;
} streams[] = {
    {CHUNK("{\"role\":\"assistant\",\"content\":\"\"}") CHUNK("{\"content\":\"a\"}")
         CHUNK("{\"content\":\"\\u00e9\\\"\"}") USAGE DONE,
     "0: 2 pieces, 32/16/3 [a\\u00e9\\\"]"},
    {": ping\n\n" CHUNK("{\"reasoning_content\":\"hm\"}") CHUNK("{\"tool_calls\":[{\"index\":0}]}")
         DONE,
     "0: 2 pieces, no usage []"},
    {"data: {\"choices\":[{\"text\":\"x\"},{\"text\":\"y\"}]}\n\n" DONE,
     "0: 1 pieces, no usage [xy]"},
    {"data: {\"usage\":null,\"choices\":[{\"text\":\" z\"}]}\n\n" DONE,
     "0: 1 pieces, no usage [ z]"},
    {CHUNK("{\"content\":\"a\"}"), "-10: 1 pieces, no usage [a]"}, /* no [DONE] */
    {CHUNK("{\"content\":\"a\"}") "data: "
                                  "{\"error\":{\"message\":\"worker\\nlost\",\"code\":503}}\n\n",
     "0: 1 pieces, no usage [a] error worker\\nlost"},
    {"data: {\"error\":\"plain\"}\n\n" DONE, "0: 0 pieces, no usage [] error plain"},
    {"data: {\"error\":null,\"choices\":[{\"delta\":null},7,{\"text\":null}]}\n\n" DONE,
     "0: 0 pieces, no usage []"},
    {"data: {\"choices\"\n\n", "-4: 0 pieces, no usage []"},
    {"data: 17\n\n", "-4: 0 pieces, no usage []"},
    {"data: {\"usage\":{\"prompt_tokens\":\"7\",\"completion_tokens\":99999999999}}\n\n" DONE,
     "0: 0 pieces, 0/0/4294967295 []"},
    {"", "-10: 0 pieces, no usage []"},
};

static void test_streams(void **state)
{
    (void)state;
    struct answer a = {.stream = true, .keep_text = true, .on_text = count};
    for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
        size_t n = strlen(streams[i].bytes);
        for (size_t cut = 0; cut <= n; cut++) {
            int pieces = 0;
            struct err e = {0};
            struct buf got = {0};
            answer_reset(&a); /* one parser for all: nothing may be left from the one before */
            a.ctx = &pieces;
            int rc = answer_feed(&a, streams[i].bytes, cut, &e);
            if (rc == 0)
                rc = answer_feed(&a, streams[i].bytes + cut, n - cut, &e);
            if (rc == 0)
                rc = answer_end(&a, &e);
            assert_int_equal(pieces, a.n_pieces);
            assert_true(rc == 0 || e.msg[0]);
            buf_addf(&got, "%d: %u pieces, ", rc, a.n_pieces);
            if (a.has_usage)
                buf_addf(&got, "%u/%u/%u", a.prompt_tokens, a.cached_tokens, a.completion_tokens);
            else
                buf_addstr(&got, "no usage");
            buf_addf(&got, " [%s]%s%s", buf_str(&a.text), a.error ? " error " : "", a.message);
            if (strcmp(buf_str(&got), streams[i].result) != 0)
                fail_msg("%zu cut at %zu: \"%s\", not \"%s\"", i, cut, buf_str(&got),
                         streams[i].result);
            buf_fini(&got);
        }
    }
    answer_fini(&a);
}

static void test_whole_answer(void **state)
{
    (void)state;
    static const char body[] =
        "{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"hi\"}}],"
        "\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1}}";
    int pieces = 0;
    struct err e = {0};
    struct answer a = {.keep_text = true, .on_text = count, .ctx = &pieces};
    assert_int_equal(answer_feed(&a, body, 20, &e), 0);
    assert_int_equal(answer_feed(&a, body + 20, strlen(body) - 20, &e), 0);
    assert_int_equal(answer_end(&a, &e), 0);
    assert_true(pieces == 1 && a.done && a.prompt_tokens == 5 && a.completion_tokens == 1);
    assert_string_equal(buf_str(&a.text), "hi");
    answer_reset(&a);
    assert_int_equal(answer_feed(&a, body, 20, &e), 0);
    assert_int_equal(answer_end(&a, &e), -LLMD_EPARSE);
    answer_fini(&a);
}

static void test_error_texts(void **state)
{
    (void)state;
    static const struct {
        const char *body, *text;
    } cases[] = {
        {"{\"error\":{\"message\":\"too\\tmany\",\"type\":\"x\"}}", "too\\tmany"},
        {"{\"error\":\"no\"}", "no"},
        {"{\"object\":\"error\",\"message\":\"gone\",\"code\":1}", "gone"},
        {"{\"detail\":\"Not Found\"}", "Not Found"},
        {"<html>\x1b[31m", "<html>\\x1b[31m"},
        {"{\"a\":", "{\"a\":"},
        {"", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char shown[ANSWER_SHOWN];
        answer_error_text(cases[i].body, strlen(cases[i].body), shown, sizeof(shown));
        assert_string_equal(shown, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_responses),   cmocka_unit_test(test_large_header),
        cmocka_unit_test(test_streams),     cmocka_unit_test(test_whole_answer),
        cmocka_unit_test(test_error_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

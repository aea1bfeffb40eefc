/* The one framing rule over bytes: each way to smuggle by name, and the same answer wherever the bytes
 * are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/edge/head_scan.h"
#include "core/util/buf.h"

/* Reads pieces of at most `step` bytes, the first of `first`. Heads stand as they came, ended by '#';
 * content as it came, the end of chunks as '$'; a fault as '!' and its status. */
static void render(const char *data, size_t n, size_t first, size_t step, struct buf *out)
{
    struct head_scan s;
    size_t piece = first;
    head_scan_init(&s);
    buf_clear(out);
    for (size_t at = 0; at < n;) {
        size_t end = at + piece < n ? at + piece : n;
        while (at < end) {
            enum scan_kind kind;
            size_t k = head_scan_next(&s, data + at, end - at, &kind);
            if (kind == SCAN_BAD) {
                assert_non_null(s.fault);
                buf_truncate(out, 0); /* what of a head had come differs with the cuts */
                buf_addf(out, "!%u", s.status);
                assert_int_equal(head_scan_next(&s, "G", 1, &kind), 0);
                assert_int_equal(kind, SCAN_BAD);
                return;
            }
            assert_true(k > 0 && k <= end - at);
            if (kind != SCAN_SKIP && kind != SCAN_BODY_END)
                buf_add(out, data + at, k);
            if (kind == SCAN_HEAD_END || kind == SCAN_BODY_END)
                buf_addch(out, kind == SCAN_HEAD_END ? '#' : '$');
            at += k;
        }
        piece = step;
    }
    buf_addstr(out, head_scan_idle(&s) ? "" : "...");
}

/* In one piece, cut at every place, and byte by byte. */
static void check(const char *name, const char *data, size_t n, const char *want)
{
    struct buf out = {0};
    for (size_t cut = 1; cut <= n; cut++) {
        render(data, n, cut, n, &out);
        if (strcmp(buf_str(&out), want) != 0)
            fail_msg("%s, cut at %zu: got '%s', want '%s'", name, cut, buf_str(&out), want);
    }
    render(data, n, 1, 1, &out);
    assert_string_equal(buf_str(&out), want);
    buf_fini(&out);
}

#define LINE    "POST / HTTP/1.1\r\n"
#define HOST    "Host: x\r\n"
#define CHUNKED LINE HOST "Transfer-Encoding: chunked\r\n\r\n"

static void test_good_requests(void **state)
{
    (void)state;
    static const struct {
        const char *name, *data, *want;
    } cases[] = {
        {"get", "GET / HTTP/1.1\r\n" HOST "\r\n", "GET / HTTP/1.1\r\n" HOST "\r\n#"},
        {"1.0 without host", "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\n\r\n#"},
        {"half a head", "GET / HTTP/1.1\r\nHo", "GET / HTTP/1.1\r\nHo..."},
        {"body", LINE HOST "Content-Length: 5\r\n\r\nhello",
         LINE HOST "Content-Length: 5\r\n\r\n#hello"},
        {"half a body", LINE HOST "Content-Length: 5\r\n\r\nhel",
         LINE HOST "Content-Length: 5\r\n\r\n#hel..."},
        {"two requests", LINE HOST "content-length:  2 \r\n\r\nabGET /x HTTP/1.1\r\n" HOST "\r\n",
         LINE HOST "content-length:  2 \r\n\r\n#abGET /x HTTP/1.1\r\n" HOST "\r\n#"},
        {"empty line after a body", LINE HOST "Content-Length: 1\r\n\r\na\r\n" LINE HOST "\r\n",
         LINE HOST "Content-Length: 1\r\n\r\n#a" LINE HOST "\r\n#"},
        {"chunks", CHUNKED "3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\n" LINE HOST "\r\n",
         CHUNKED "#abc0123456789$" LINE HOST "\r\n#"},
        {"leading zeros", CHUNKED "0002\r\nab\r\n000\r\n\r\n", CHUNKED "#ab$"},
        {"trailers", CHUNKED "1\r\na\r\n0\r\nContent-Length: 7\r\nX: y\r\n\r\n" LINE HOST "\r\n",
         CHUNKED "#a$" LINE HOST "\r\n#"},
        {"half a chunk", CHUNKED "5\r\nab", CHUNKED "#ab..."},
        {"odd but legal", "M!# *?a=\"b\" HTTP/1.1\r\n" HOST "X-A:\r\nX-B: \xc3\xa9\t(\"}\r\n\r\n",
         "M!# *?a=\"b\" HTTP/1.1\r\n" HOST "X-A:\r\nX-B: \xc3\xa9\t(\"}\r\n\r\n#"},
        {"long names and values do not matter",
         LINE HOST "Content-Length-But-Longer: x\r\nX-Y-Content-Length: 5\r\n\r\n",
         LINE HOST "Content-Length-But-Longer: x\r\nX-Y-Content-Length: 5\r\n\r\n#"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        check(cases[i].name, cases[i].data, strlen(cases[i].data), cases[i].want);
}

#define BAD(name, data, status)                                                                    \
    {                                                                                              \
        name, data, sizeof(data) - 1, "!" #status                                                  \
    }

static void test_bad_requests(void **state)
{
    (void)state;
    static const struct {
        const char *name, *data;
        size_t n;
        const char *want;
    } cases[] = {
        BAD("length twice", LINE HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400),
        BAD("length signed", LINE HOST "Content-Length: +5\r\n\r\n", 400),
        BAD("length negative", LINE HOST "Content-Length: -5\r\n\r\n", 400),
        BAD("length list", LINE HOST "Content-Length: 5, 5\r\n\r\n", 400),
        BAD("length empty", LINE HOST "Content-Length:\r\n\r\n", 400),
        BAD("length of 400 digits",
            LINE HOST
            "Content-Length: "
            "00000000000000000000000000000000000000000000000000000000000000000000000000000000"
            "00000000000000000000000000000000000000000000000000000000000000000000000000000000"
            "00000000000000000000000000000000000000000000000000000000000000000000000000000000"
            "000000000000000000000000000000000000000000000000000000000000000000000000000005"
            "\r\n\r\n",
            400),
        BAD("length and chunks",
            LINE HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        BAD("chunks and length",
            LINE HOST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400),
        BAD("encoding twice",
            LINE HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        BAD("encoding other", LINE HOST "Transfer-Encoding: gzip, chunked\r\n\r\n", 400),
        BAD("encoding with a tab in front", LINE HOST "Transfer-Encoding:\vchunked\r\n\r\n", 400),
        BAD("encoding in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        BAD("bare LF after the request line", "GET / HTTP/1.1\nHost: x\r\n\r\n", 400),
        BAD("bare LF after a header", LINE "Host: x\nContent-Length: 5\r\n\r\n", 400),
        BAD("bare LF ends the head", LINE HOST "\n", 400),
        BAD("bare CR in a value", LINE HOST "X: a\rb\r\n\r\n", 400),
        BAD("bare CR before a header", LINE HOST "\rX: a\r\n\r\n", 400),
        BAD("CR CR LF", LINE HOST "X: a\r\r\n\r\n", 400),
        BAD("obs-fold", LINE HOST "X: a\r\n b\r\n\r\n", 400),
        BAD("obs-fold by tab", LINE HOST "Transfer-Encoding:\r\n\tchunked\r\n\r\n", 400),
        BAD("blank before the first header", LINE " Host: x\r\n\r\n", 400),
        BAD("NUL in a value", LINE HOST "X: a\0b\r\n\r\n", 400),
        BAD("NUL in a name", LINE HOST "X\0: a\r\n\r\n", 400),
        BAD("NUL in the target", "GET /\0 HTTP/1.1\r\n" HOST "\r\n", 400),
        BAD("blank before the colon", LINE HOST "Content-Length : 5\r\n\r\n", 400),
        BAD("no colon", LINE HOST "Content-Length\r\n\r\n", 400),
        BAD("no name", LINE HOST ": 5\r\n\r\n", 400),
        BAD("odd name", LINE HOST "X(: 5\r\n\r\n", 400),
        BAD("no host", LINE "\r\n", 400),
        BAD("host twice", LINE HOST HOST "\r\n", 400),
        BAD("host bad", LINE "Host: a b\r\n\r\n", 400),
        BAD("host with a path", LINE "Host: a/b\r\n\r\n", 400),
        BAD("two blanks", "GET  / HTTP/1.1\r\n" HOST "\r\n", 400),
        BAD("tab for a blank", "GET\t/ HTTP/1.1\r\n" HOST "\r\n", 400),
        BAD("blank in the target", "GET /a b HTTP/1.1\r\n" HOST "\r\n", 400),
        BAD("blank after the version", "GET / HTTP/1.1 \r\n" HOST "\r\n", 400),
        BAD("no version", "GET /\r\n\r\n", 400),
        BAD("no target", "GET HTTP/1.1\r\n\r\n", 400),
        BAD("version in small letters", "GET / http/1.1\r\n" HOST "\r\n", 400),
        BAD("version 1.10", "GET / HTTP/1.10\r\n" HOST "\r\n", 400),
        BAD("version 2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        BAD("two empty lines before a request", "\r\n\r\n" LINE HOST "\r\n", 400),
        BAD("a TLS hello", "\x16\x03\x01\x02\x00\x01", 400),
        BAD("chunk size signed", CHUNKED "+3\r\nabc\r\n0\r\n\r\n", 400),
        BAD("chunk size 0x", CHUNKED "0x3\r\nabc\r\n0\r\n\r\n", 400),
        BAD("chunk size empty", CHUNKED "\r\nabc\r\n0\r\n\r\n", 400),
        BAD("chunk size with a blank", CHUNKED "3 \r\nabc\r\n0\r\n\r\n", 400),
        BAD("chunk size too large", CHUNKED "1000000000000000\r\n", 400),
        BAD("chunk size and bare LF", CHUNKED "3\nabc\r\n0\r\n\r\n", 400),
        BAD("chunk extension and bare LF", CHUNKED "3;a\nbc\r\n0\r\n\r\n", 400),
        BAD("chunk extension and bare CR", CHUNKED "3;a\rbc\r\n0\r\n\r\n", 400),
        BAD("chunk longer than it says", CHUNKED "3\r\nabcd\r\n0\r\n\r\n", 400),
        BAD("chunk ends with a bare LF", CHUNKED "3\r\nabc\n0\r\n\r\n", 400),
        BAD("last chunk ends with a bare LF", CHUNKED "0\n\n", 400),
        BAD("trailer folded", CHUNKED "0\r\nX: a\r\n b\r\n\r\n", 400),
        BAD("trailer without a colon", CHUNKED "0\r\nGET / HTTP/1.1\r\n\r\n", 400),
        BAD("garbage after a body", LINE HOST "Content-Length: 1\r\n\r\na\x01", 400),
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        check(cases[i].name, cases[i].data, cases[i].n, cases[i].want);
}

/* A request of the given head size or number of fields. */
static const char *answer(size_t n_bytes, uint32_t n_fields)
{
    static struct buf out;
    struct buf b = {0};
    buf_addstr(&b, LINE HOST);
    for (uint32_t i = 1; i < n_fields; i++)
        buf_addf(&b, "X-%u: y\r\n", i);
    if (n_bytes > 0) {
        buf_addstr(&b, "Z: ");
        while (b.len < n_bytes - 4)
            buf_addch(&b, 'z');
        buf_addstr(&b, "\r\n");
    }
    buf_addstr(&b, "\r\n");
    render(b.data, b.len, 1000, 1000, &out);
    static char end[8];
    size_t n = out.len < 4 ? out.len : 4;
    snprintf(end, sizeof(end), "%s", out.data + out.len - n);
    buf_fini(&b);
    buf_fini(&out);
    return end;
}

/* Whether a head passes, however it is cut: LINE's, with this target and one more field. */
static bool passes(const char *target, const char *field, const char *value)
{
    struct buf b = {0}, out = {0};
    buf_addf(&b, "GET %s HTTP/1.1\r\n" HOST "%s:%s\r\n\r\n", target, field, value);
    render(b.data, b.len, 1, 1, &out);
    const bool good = strcmp(buf_str(&out), "!431") != 0;
    render(b.data, b.len, b.len, b.len, &out);
    assert_int_equal(strcmp(buf_str(&out), "!431") != 0, good);
    buf_fini(&b);
    buf_fini(&out);
    return good;
}

/* n times the text. */
static const char *times(const char *text, size_t n)
{
    static char all[2 * SCAN_HEAD_BYTES];
    const size_t n_text = strlen(text);
    assert_true(n * n_text < sizeof(all));
    for (size_t i = 0; i < n; i++)
        memcpy(all + i * n_text, text, n_text);
    all[n * n_text] = '\0';
    return all;
}

/* What libmicrohttpd keeps beside the bytes. */
static void test_what_is_kept_beside(void **state)
{
    (void)state;
    const size_t entries = SCAN_BESIDE_BYTES / SCAN_ENTRY_BYTES - 2; /* Host, the other field */
    assert_true(passes(times("/a&b?", entries / 2), "A", ""));
    assert_false(passes(times("/a&b?", entries / 2 + 1), "A", ""));
    const size_t cookies = SCAN_BESIDE_BYTES - 2 * SCAN_ENTRY_BYTES; /* bytes */
    assert_true(passes("/", "Cookie", times("c", cookies)));
    assert_false(passes("/", "cOOkie", times("c", cookies + 1)));
    assert_true(passes("/", "Cookies", times("c", cookies + 1)));
    const size_t each = 4 + 2 * SCAN_ENTRY_BYTES;
    assert_true(passes("/", "cookie", times("a;b,", cookies / each)));
    assert_false(passes("/", "cookie", times("a;b,", cookies / each + 1)));
}

static void test_limits(void **state)
{
    (void)state;
    const size_t most = SCAN_HEAD_BYTES - 2 * SCAN_ENTRY_BYTES;
    assert_string_equal(answer(most, 1) + 3, "#");
    assert_string_equal(answer(most + 1, 1), "!431");
    assert_string_equal(answer(most - 50 * SCAN_ENTRY_BYTES, 51) + 3, "#");
    assert_string_equal(answer(most - 50 * SCAN_ENTRY_BYTES + 1, 51), "!431");
    assert_string_equal(answer(0, SCAN_FIELDS) + 3, "#");
    assert_string_equal(answer(0, SCAN_FIELDS + 1), "!431");

    struct buf b = {0}, out = {0};
    buf_addstr(&b, CHUNKED "1;");
    for (int i = 0; i < SCAN_MARK_BYTES; i++)
        buf_addch(&b, 'e');
    render(b.data, b.len, 7, 7, &out);
    assert_string_equal(buf_str(&out), "!400");
    buf_clear(&b);
    buf_addstr(&b, CHUNKED);
    for (int i = 0; i < 1000; i++) /* the limit is for each chunk */
        buf_addstr(&b, "1;e=e\r\na\r\n");
    buf_addstr(&b, "0\r\n\r\n");
    render(b.data, b.len, 7, 7, &out);
    assert_int_equal(buf_str(&out)[out.len - 1], '$');
    buf_fini(&b);
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_requests),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_what_is_kept_beside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

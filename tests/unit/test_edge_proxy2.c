/* PROXY headers: the two kinds that are taken, and everything else that is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <netinet/in.h>

#include "core/edge/proxy2.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define TCP4                                                                                       \
    SIGNATURE "\x21\x11\0\x0c"                                                                     \
              "\x0a\x01\x02\x03"                                                                   \
              "\x7f\0\0\1"                                                                         \
              "\x12\x34\0\x50"
#define TCP6                                                                                       \
    SIGNATURE "\x21\x21\0\x24"                                                                     \
              "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1"                                           \
              "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"                                                   \
              "\x12\x34\0\x50"

static enum proxy2_verdict parse(const char *data, size_t n, size_t *out_n,
                                 struct sockaddr_storage *a)
{
    socklen_t n_peer;
    return proxy2_parse((const uint8_t *)data, n, out_n, a, &n_peer);
}

/* Whole: the verdict; every beginning: more. */
static void check(const char *data, size_t n, enum proxy2_verdict want)
{
    struct sockaddr_storage a;
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(parse(data, i, &len, &a), PROXY2_MORE);
        assert_int_equal(proxy2_missing((const uint8_t *)data, i), (i < 16 ? 16 : n) - i);
    }
    assert_int_equal(parse(data, n, &len, &a), want);
    assert_int_equal(len, n);
}

static void test_addresses(void **state)
{
    (void)state;
    struct sockaddr_storage a;
    size_t n;
    check(TCP4, sizeof(TCP4) - 1, PROXY2_PEER);
    check(TCP6, sizeof(TCP6) - 1, PROXY2_PEER);
    assert_int_equal(parse(TCP4 "GET /", sizeof(TCP4) + 4, &n, &a), PROXY2_PEER);
    assert_int_equal(n, sizeof(TCP4) - 1);
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&a;
    assert_int_equal(a.ss_family, AF_INET);
    assert_int_equal(ntohl(v4->sin_addr.s_addr), 0x0a010203);
    assert_int_equal(ntohs(v4->sin_port), 0x1234);
    assert_int_equal(parse(TCP6, sizeof(TCP6) - 1, &n, &a), PROXY2_PEER);
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&a;
    assert_int_equal(a.ss_family, AF_INET6);
    assert_memory_equal(&v6->sin6_addr, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1", 16);
    check(SIGNATURE "\x20\0\0\0", 16, PROXY2_LOCAL);
    check(SIGNATURE "\x20\x11\0\2xy", 18, PROXY2_LOCAL);
    static const char extended[] = SIGNATURE "\x21\x11\0\x13"
                                             "\x0a\x01\x02\x03"
                                             "\x7f\0\0\1"
                                             "\x12\x34\0\x50"
                                             "\4\0\1x"
                                             "\5\0\0";
    check(extended, sizeof(extended) - 1, PROXY2_PEER);
}

static void test_everything_else(void **state)
{
    (void)state;
    static const struct {
        const char *data;
        size_t n;
    } bad[] = {
        {"GET / HTTP/1.1\r\n", 1},
        {"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", 12},
        {SIGNATURE "\x11", 13},       /* version 1 */
        {SIGNATURE "\x22", 13},       /* an unknown command */
        {SIGNATURE "\x21\0\0\0", 16}, /* unspecified, though it is no health check */
        {SIGNATURE "\x21\x12\0\x0c"
                   "0123456789ab",
         28},                           /* UDP */
        {SIGNATURE "\x21\x31\0\0", 16}, /* UNIX */
        {SIGNATURE "\x21\x11\0\x0b"
                   "0123456789a",
         27}, /* too short for its addresses */
        {SIGNATURE "\x21\x21\0\x0c"
                   "0123456789ab",
         28},
        {SIGNATURE "\x21\x11\0\x0e"
                   "0123456789ab\4\0",
         30}, /* half an extension */
        {SIGNATURE "\x21\x11\0\x0f"
                   "0123456789ab\4\0\1",
         31},                               /* one longer than the header */
        {SIGNATURE "\x21\x11\xff\xff", 16}, /* 64 KiB */
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct sockaddr_storage a;
        size_t n;
        if (parse(bad[i].data, bad[i].n, &n, &a) != PROXY2_BAD)
            fail_msg("case %zu is taken", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_everything_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

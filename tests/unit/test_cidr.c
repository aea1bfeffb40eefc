/* Blocks of addresses: what parses, what a block holds; at random against a walk over bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

#include "core/util/cidr.h"

static struct sockaddr_storage address(const char *text)
{
    struct sockaddr_storage a = {.ss_family = AF_INET};
    if (inet_pton(AF_INET, text, &((struct sockaddr_in *)&a)->sin_addr) == 1)
        return a;
    a.ss_family = AF_INET6;
    assert_int_equal(inet_pton(AF_INET6, text, &((struct sockaddr_in6 *)&a)->sin6_addr), 1);
    return a;
}

static void test_what_parses(void **state)
{
    (void)state;
    static const char *const good[] = {
        "10.0.0.0/8", "0.0.0.0/0", "192.0.2.7",     "192.0.2.7/32",    "192.0.2.128/25",
        "::/0",       "::1",       "2001:db8::/32", "2001:db8::1/128", "::ffff:10.0.0.0/104"};
    static const char *const bad[] = {"",
                                      "/8",
                                      "10.0.0.0/",
                                      "10.0.0.0/33",
                                      "10.0.0.0/-1",
                                      "10.0.0.0/+8",
                                      "10.0.0.0/8 ",
                                      " 10.0.0.0/8",
                                      "10.0.0.1/8",
                                      "10.0.0/8",
                                      "10/8",
                                      "010.0.0.0/8",
                                      "10.0.0.0/8/8",
                                      "::/129",
                                      "::1/64",
                                      "2001:db8::/0008",
                                      "fe80::1%lo",
                                      "[::1]",
                                      "localhost",
                                      "10.0.0.0.0",
                                      "*",
                                      "10.0.0.0/0x8"};
    struct err e = {0};
    struct cidr c;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (cidr_parse(good[i], &c, &e) != 0)
            fail_msg("%s: %s", good[i], e.msg);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        err_clear(&e);
        if (cidr_parse(bad[i], &c, &e) != -LLMD_EINVAL)
            fail_msg("'%s' is taken", bad[i]);
    }
}

static void test_what_a_block_holds(void **state)
{
    (void)state;
    static const struct {
        const char *block, *address;
        bool holds;
    } cases[] = {
        {"10.0.0.0/8", "10.255.255.255", true},
        {"10.0.0.0/8", "11.0.0.0", false},
        {"10.0.0.0/8", "9.255.255.255", false},
        {"10.0.0.0/8", "::ffff:10.1.2.3", true},
        {"10.0.0.0/8", "::ffff:11.1.2.3", false},
        {"10.0.0.0/8", "a00::", false},
        {"192.0.2.128/25", "192.0.2.127", false},
        {"192.0.2.128/25", "192.0.2.128", true},
        {"192.0.2.7", "192.0.2.7", true},
        {"192.0.2.7", "192.0.2.6", false},
        {"0.0.0.0/0", "255.255.255.255", true},
        {"0.0.0.0/0", "::1", false},
        {"::/0", "1.2.3.4", true},
        {"::/0", "2001:db8::1", true},
        {"2001:db8::/33", "2001:db8:7fff::1", true},
        {"2001:db8::/33", "2001:db8:8000::", false},
        {"::1", "::1", true},
        {"::1", "127.0.0.1", false},
        {"::ffff:10.0.0.0/104", "10.9.9.9", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct cidr c;
        uint8_t bytes[16];
        const struct sockaddr_storage a = address(cases[i].address);
        assert_int_equal(cidr_parse(cases[i].block, &c, NULL), 0);
        assert_true(cidr_address(&a, bytes));
        if (cidr_any_holds(&c, 1, bytes) != cases[i].holds)
            fail_msg("%s and %s", cases[i].block, cases[i].address);
    }
    const struct sockaddr_storage unix_socket = {.ss_family = AF_UNIX};
    uint8_t bytes[16];
    assert_false(cidr_address(&unix_socket, bytes));
}

static bool same_beginning(const uint8_t *a, const uint8_t *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if ((a[i / 8] >> (7 - i % 8) & 1) != (b[i / 8] >> (7 - i % 8) & 1))
            return false;
    return true;
}

static void test_at_random(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (int i = 0; i < 20000; i++) {
        struct cidr c = {.n_bits = 0};
        uint8_t other[16];
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        c.n_bits = (uint8_t)((seed >> 33) % 129);
        for (int k = 0; k < 16; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            c.address[k] = (uint8_t)(seed >> 33);
            other[k] = c.address[k];
        }
        const unsigned flip = (unsigned)(seed >> 40) % 128;
        other[flip / 8] ^= (uint8_t)(0x80 >> flip % 8);
        assert_int_equal(cidr_holds(&c, other), same_beginning(c.address, other, c.n_bits));
        assert_true(cidr_holds(&c, c.address));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_parses),
        cmocka_unit_test(test_what_a_block_holds),
        cmocka_unit_test(test_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Connections per address: what one address is, and the table at random against a plain list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "core/edge/address_counts.h"

static struct sockaddr_storage address(const char *text)
{
    struct sockaddr_storage a = {.ss_family = AF_INET};
    if (inet_pton(AF_INET, text, &((struct sockaddr_in *)&a)->sin_addr) == 1)
        return a;
    a.ss_family = AF_INET6;
    assert_int_equal(inet_pton(AF_INET6, text, &((struct sockaddr_in6 *)&a)->sin6_addr), 1);
    return a;
}

static struct address_block block(const char *text)
{
    const struct sockaddr_storage a = address(text);
    struct address_block b;
    assert_true(address_block_of(&a, &b));
    return b;
}

static void test_what_one_address_is(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {{"192.0.2.1", "192.0.2.1", true},
                 {"192.0.2.1", "192.0.2.2", false},
                 {"192.0.2.1", "::ffff:192.0.2.1", true},
                 {"192.0.2.1", "::ffff:192.0.2.2", false},
                 {"2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true},
                 {"2001:db8:1:2::1", "2001:db8:1:3::1", false},
                 {"::1", "::2", true},
                 {"::1", "0.0.0.1", false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct address_block a = block(cases[i].a), b = block(cases[i].b);
        assert_int_equal(memcmp(&a, &b, sizeof(a)) == 0, cases[i].same);
    }
    const struct sockaddr_storage file = {.ss_family = AF_UNIX};
    struct address_block b;
    assert_false(address_block_of(&file, &b));
}

static void test_limits(void **state)
{
    (void)state;
    struct address_counts c = {.seed = 1};
    const struct address_block one = block("192.0.2.1"), two = block("192.0.2.2");
    assert_int_equal(address_counts_of(&c, &one), 0);
    assert_int_equal(address_counts_add(&c, &one, 2), 0);
    assert_int_equal(address_counts_add(&c, &one, 2), 0);
    assert_int_equal(address_counts_add(&c, &one, 2), -LLMD_EFULL);
    assert_int_equal(address_counts_add(&c, &two, 1), 0);
    assert_int_equal(address_counts_add(&c, &one, 0), 0); /* any number */
    assert_int_equal(address_counts_of(&c, &one), 3);
    address_counts_drop(&c, &one);
    assert_int_equal(address_counts_add(&c, &one, 2), -LLMD_EFULL); /* the limit was lowered */
    address_counts_drop(&c, &one);
    assert_int_equal(address_counts_add(&c, &one, 2), 0);
    assert_int_equal(c.n_used, 2);
    address_counts_fini(&c);
}

/* Connections come and go, of few addresses and of many: every count is right at any time, and the
 * table holds no more than there is. */
static void test_at_random(void **state)
{
    (void)state;
    enum { ADDRESSES = 700, STEPS = 60000 };
    static uint32_t counts[ADDRESSES];
    struct address_counts c = {.seed = 0x1234567890abcdef};
    uint32_t x = 7, n_used = 0;
    for (uint32_t step = 0; step < STEPS; step++) {
        x = x * 1664525u + 1013904223u;
        const uint32_t range = step / 5000 % 2 ? ADDRESSES : 40, i = (x >> 8) % range;
        const struct address_block b = {.bits = {[0] = (uint8_t)(i >> 8), [1] = (uint8_t)i}};
        if (counts[i] > 0 && (x >> 28) >= (step / 10000 % 2 ? 5 : 9)) {
            address_counts_drop(&c, &b);
            n_used -= --counts[i] == 0;
        } else {
            const int rc = address_counts_add(&c, &b, 6);
            assert_int_equal(rc, counts[i] < 6 ? 0 : -LLMD_EFULL);
            n_used += rc == 0 && counts[i]++ == 0;
        }
        assert_int_equal(address_counts_of(&c, &b), counts[i]);
        assert_int_equal(c.n_used, n_used);
    }
    for (uint32_t i = 0; i < ADDRESSES; i++) {
        const struct address_block b = {.bits = {[0] = (uint8_t)(i >> 8), [1] = (uint8_t)i}};
        assert_int_equal(address_counts_of(&c, &b), counts[i]);
        for (; counts[i] > 0; counts[i]--)
            address_counts_drop(&c, &b);
    }
    assert_int_equal(c.n_used, 0);
    assert_true(c.n_places <= 4 * ADDRESSES);
    address_counts_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_one_address_is),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Framing rules and bearer keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/sha.h>

#include "core/edge/auth.h"
#include "core/edge/framing.h"
#include "core/edge/plan.h"

struct header {
    const char *name, *value;
};

static const struct framing_case {
    struct header headers[3];
    const char *version;
    bool good;
    uint64_t length;
} cases[] = {
    {{{"Content-Length", "5"}}, "HTTP/1.1", true, 5},
    {{{"content-length", "0"}}, "HTTP/1.1", true, 0},
    {{{"Content-Length", "5 \t"}}, "HTTP/1.1", true, 5},
    {{{"Content-Length", "18446744073709551615"}}, "HTTP/1.1", true, UINT64_MAX},
    {{{"Transfer-Encoding", "chunked"}}, "HTTP/1.1", true, 0},
    {{{"TRANSFER-ENCODING", "Chunked"}}, "HTTP/1.1", true, 0},
    {{{"Content-Length", "5"}, {"Content-Length", "5"}}, "HTTP/1.1", false, 0},
    {{{"Content-Length", "5"}, {"content-length", "6"}}, "HTTP/1.1", false, 0},
    {{{"Content-Length", "5"}, {"Transfer-Encoding", "chunked"}}, "HTTP/1.1", false, 0},
    {{{"Content-Length", ""}}, "HTTP/1.1", false, 0},
    {{{"Content-Length", "-1"}}, "HTTP/1.1", false, 0},
    {{{"Content-Length", "+5"}}, "HTTP/1.1", false, 0},
    {{{"Content-Length", "5, 5"}}, "HTTP/1.1", false, 0},
    {{{"Content-Length", "0x5"}}, "HTTP/1.1", false, 0},
    {{{"Content-Length", "five"}}, "HTTP/1.1", false, 0},
    {{{"Content-Length", "18446744073709551616"}}, "HTTP/1.1", false, 0},
    {{{"Content-Length", "99999999999999999999999"}}, "HTTP/1.1", false, 0},
    {{{"Content-Length ", "5"}}, "HTTP/1.1", false, 0},
    {{{" Content-Length", "5"}}, "HTTP/1.1", false, 0},
    {{{"X-A\tB", "5"}}, "HTTP/1.1", false, 0},
    {{{"X-A(B", "5"}}, "HTTP/1.1", false, 0},
    {{{"", "5"}}, "HTTP/1.1", false, 0},
    {{{"Transfer-Encoding", "gzip, chunked"}}, "HTTP/1.1", false, 0},
    {{{"Transfer-Encoding", "chunked, chunked"}}, "HTTP/1.1", false, 0},
    {{{"Transfer-Encoding", "identity"}}, "HTTP/1.1", false, 0},
    {{{"Transfer-Encoding", "xchunked"}}, "HTTP/1.1", false, 0},
    {{{"Transfer-Encoding", ""}}, "HTTP/1.1", false, 0},
    {{{"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}}, "HTTP/1.1", false, 0},
    {{{"Transfer-Encoding", "chunked"}}, "HTTP/1.0", false, 0},
};

static void test_framing(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct framing f = {.n_hosts = 1};
        for (size_t j = 0; j < ARRAY_LEN(cases[i].headers) && cases[i].headers[j].name; j++)
            framing_header(&f, cases[i].headers[j].name, cases[i].headers[j].value);
        const char *fault = framing_fault(&f, cases[i].version);
        if ((fault == NULL) != cases[i].good)
            fail_msg("case %zu: %s", i, fault ? fault : "accepted");
        if (cases[i].good)
            assert_true(f.length == cases[i].length);
    }
}

static void test_framing_of_bodies(void **state)
{
    (void)state;
    struct framing f = {0};
    assert_false(framing_has_body(&f) || framing_chunked(&f) || f.expects);
    framing_header(&f, "Expect", "100-continue");
    framing_header(&f, "Transfer-Encoding", "chunked");
    assert_true(framing_has_body(&f) && framing_chunked(&f) && f.expects);
    framing_header(&f, "X-Empty", NULL);
    framing_header(&f, "Host", "x");
    assert_null(framing_fault(&f, "HTTP/1.1"));
}

static void test_hosts(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        bool good;
    } hosts[] = {
        {"x", true},
        {"", true},
        {"a.example:8080", true},
        {"127.0.0.1", true},
        {"[::1]", true},
        {"[::1]:80", true},
        {"a_b-c.d~e", true},
        {"x ", true},
        {"x:", true},
        {"[fe80::1%1]", false},
        {"a b", false},
        {"a/b", false},
        {"user@x", false},
        {"x:80x", false},
        {"x:655350", false},
        {"x:1:2", false},
        {"[]", false},
        {"[::1", false},
        {"[::1]x", false},
        {"::1", false},
        {"x,y", true},
        {"\xc3\xa9", false},
        {"a\"b", false},
        {"a#b", false},
        {"a?b", false},
        {"[x]", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        struct framing f = {0};
        framing_header(&f, "hOST", hosts[i].value);
        if ((framing_fault(&f, "HTTP/1.1") == NULL) != hosts[i].good)
            fail_msg("'%s'", hosts[i].value);
    }
    struct framing none = {0}, two = {0};
    assert_non_null(framing_fault(&none, "HTTP/1.1"));
    assert_null(framing_fault(&none, "HTTP/1.0"));
    framing_header(&two, "Host", "x");
    framing_header(&two, "Host", "x");
    assert_non_null(framing_fault(&two, "HTTP/1.0"));
    struct framing keys = {0};
    framing_header(&keys, "Host", "x");
    framing_header(&keys, "Authorization", "Bearer a");
    assert_null(framing_fault(&keys, "HTTP/1.1"));
    framing_header(&keys, "AUTHORIZATION", "Bearer a");
    assert_string_equal(framing_fault(&keys, "HTTP/1.1"), "Authorization must be given once");
}

enum { N_KEYS = 5 };
static const char *const secrets[N_KEYS] = {"sk-one", "sk-two", "", "sk-four", "sk-five"};

static void make_keys(struct edge_key *keys)
{
    for (int i = 0; i < N_KEYS; i++) {
        keys[i].name = secrets[i];
        SHA256((const unsigned char *)secrets[i], strlen(secrets[i]), keys[i].sha256);
    }
}

static void test_keys(void **state)
{
    (void)state;
    struct edge_key keys[N_KEYS];
    make_keys(keys);
    static const struct {
        const char *value;
        int want; /* index; -1: refused */
    } tries[] = {
        {"Bearer sk-one", 0},
        {"bearer sk-two", 1},
        {"BEARER   sk-four", 3},
        {"Bearer sk-five ", 4},
        {"Bearer sk-three", -1},
        {"Bearer sk-on", -1},
        {"Bearer sk-onee", -1},
        {"Bearer", -1},
        {"Bearer ", -1},
        {"Bearersk-one", -1},
        {"Basic sk-one", -1},
        {"sk-one", -1},
        {"", -1},
        {NULL, -1},
        {"Bearer sk-one,sk-two", -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
        const struct edge_key *got = auth_find(keys, N_KEYS, tries[i].value);
        const struct edge_key *want = tries[i].want < 0 ? NULL : &keys[tries[i].want];
        if (got != want)
            fail_msg("'%s'", tries[i].value ? tries[i].value : "(null)");
    }
    assert_null(auth_find(keys, 0, "Bearer sk-one"));
    keys[1] = keys[0]; /* the same key twice: one of them, never none */
    assert_non_null(auth_find(keys, N_KEYS, "Bearer sk-one"));
}

/* A key differs in its digest's last or first byte only: still no match. */
static void test_digests_are_compared_whole(void **state)
{
    (void)state;
    struct edge_key keys[N_KEYS];
    for (size_t byte = 0; byte < sizeof(keys[0].sha256); byte++) {
        make_keys(keys);
        keys[0].sha256[byte] ^= 0x80;
        assert_null(auth_find(keys, 1, "Bearer sk-one"));
    }
}

static void test_request_ids(void **state)
{
    (void)state;
    char longest[130];
    memset(longest, 'a', sizeof(longest));
    longest[128] = '\0';
    assert_true(request_id_valid("a") && request_id_valid("A.b_c:d-9") &&
                request_id_valid(longest));
    longest[128] = 'a';
    longest[129] = '\0';
    assert_false(request_id_valid("") || request_id_valid("a b") || request_id_valid("a\"b") ||
                 request_id_valid("\xc3\xa9") || request_id_valid("a\n") ||
                 request_id_valid(longest));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_framing),
        cmocka_unit_test(test_framing_of_bodies),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_digests_are_compared_whole),
        cmocka_unit_test(test_request_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

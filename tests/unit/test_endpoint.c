/* Addresses to listen on: what parses, which are of this host, which exclude each other, which socket is
 * at which. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <stdio.h>
#include <sys/un.h>

#include "core/util/endpoint.h"

static struct endpoint parse(const char *text)
{
    struct endpoint p;
    struct err e = {0};
    if (endpoint_parse(text, &p, &e) != 0)
        fail_msg("%s: %s", text, e.msg);
    return p;
}

static void test_what_parses(void **state)
{
    (void)state;
    struct endpoint p = parse("127.0.0.1:8080");
    assert_true(p.scheme == ENDPOINT_BARE && !p.path && !p.both && p.ip.ss_family == AF_INET);
    assert_int_equal(endpoint_port(&p), 8080);
    p = parse("http://[2001:db8::1]:0");
    assert_true(p.scheme == ENDPOINT_HTTP && p.ip.ss_family == AF_INET6 && p.n_ip > 0);
    assert_int_equal(endpoint_port(&p), 0);
    p = parse("https://*:65535");
    assert_true(p.scheme == ENDPOINT_HTTPS && p.both && p.ip.ss_family == AF_INET6);
    assert_int_equal(endpoint_port(&p), 65535);
    p = parse("unix:relative/x.sock");
    assert_string_equal(p.path, "relative/x.sock");
    assert_int_equal(endpoint_port(&p), 0);
}

static void test_what_does_not(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        ":80",
        "80",
        "*",
        "*:",
        "*:x",
        "[*]:80",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:000080",
        "127.0.0.1:-1",
        "127.0.0.1:80 ",
        "127.1:80",
        "localhost:80",
        "::1:80",
        "[::1]",
        "[::1]80",
        "[::1:80",
        "[127.0.0.1]:80",
        "[::1%lo]:80",
        "http://unix:/x",
        "https:127.0.0.1:80",
        "HTTP://127.0.0.1:80",
        "http://127.0.0.1:80/",
        "unix:",
        "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]:80"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct endpoint p = {.path = "untouched"};
        struct err e = {0};
        assert_int_equal(endpoint_parse(bad[i], &p, &e), -LLMD_EINVAL);
        assert_string_equal(p.path, "untouched");
        assert_non_null(strstr(e.msg, "write \"127.0.0.1:8080\", \"[::1]:8080\", \"*:8080\" or"));
    }
}

static void test_which_are_local(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool local;
    } cases[] = {{"127.0.0.1:1", true}, {"127.255.0.9:1", true}, {"128.0.0.1:1", false},
                 {"0.0.0.0:1", false},  {"[::1]:1", true},       {"[::]:1", false},
                 {"*:1", false},        {"[::2]:1", false},      {"unix:/x", true}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct endpoint p = parse(cases[i].text);
        assert_int_equal(endpoint_is_local(&p), cases[i].local);
    }
}

static void test_which_exclude_each_other(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {{"127.0.0.1:80", "http://127.0.0.1:80", true},
                 {"127.0.0.1:80", "127.0.0.1:81", false},
                 {"127.0.0.1:80", "127.0.0.2:80", false},
                 {"127.0.0.1:0", "127.0.0.1:0", false},
                 {"[::1]:80", "[0::0001]:80", true},
                 {"[::1]:80", "127.0.0.1:80", false},
                 {"0.0.0.0:80", "[::]:80", false},
                 {"0.0.0.0:80", "*:80", true},
                 {"[::]:80", "*:80", true},
                 {"*:80", "*:80", true},
                 {"*:80", "127.0.0.1:80", false},
                 {"unix:/a", "unix:/a", true},
                 {"unix:/a", "unix:/b", false},
                 {"unix:/a", "127.0.0.1:80", false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct endpoint a = parse(cases[i].a), b = parse(cases[i].b);
        assert_int_equal(endpoint_same(&a, &b), cases[i].same);
        assert_int_equal(endpoint_same(&b, &a), cases[i].same);
    }
}

/* What a socket's name is written as, the address of that text, and no other address, is the socket's. */
static void test_names_of_sockets(void **state)
{
    (void)state;
    static const char *const texts[] = {"127.0.0.1:80", "0.0.0.0:80", "[2001:db8::1]:80",
                                        "[::]:80",      "[::]:81",    "unix:/run/x.sock"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        const struct endpoint p = parse(texts[i]);
        struct sockaddr_storage name = p.ip;
        socklen_t n = p.n_ip;
        char written[160];
        if (p.path) {
            struct sockaddr_un *u = (struct sockaddr_un *)&name;
            u->sun_family = AF_UNIX;
            snprintf(u->sun_path, sizeof(u->sun_path), "%s", p.path);
            n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(p.path) + 1);
        }
        endpoint_write(&name, n, written, sizeof(written));
        assert_string_equal(written, texts[i]);
        for (size_t k = 0; k < ARRAY_LEN(texts); k++) {
            const struct endpoint other = parse(texts[k]);
            assert_int_equal(endpoint_matches(&other, &name, n), i == k);
        }
        const struct endpoint both = parse("*:80");
        assert_int_equal(endpoint_matches(&both, &name, n), strcmp(texts[i], "[::]:80") == 0);
    }
    struct sockaddr_storage nameless = {.ss_family = AF_UNIX};
    char written[160];
    const struct endpoint file = parse("unix:/a");
    endpoint_write(&nameless, sizeof(sa_family_t), written, sizeof(written));
    assert_string_equal(written, "");
    assert_false(endpoint_matches(&file, &nameless, sizeof(sa_family_t)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_parses),      cmocka_unit_test(test_what_does_not),
        cmocka_unit_test(test_which_are_local),  cmocka_unit_test(test_which_exclude_each_other),
        cmocka_unit_test(test_names_of_sockets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

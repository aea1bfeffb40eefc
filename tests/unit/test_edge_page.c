/* The status page's login: sessions, cookies, tokens, hosts and origins, roles; and its files. */
#include "tests/unit/edge_server.h"

#include <arpa/inet.h>
#include <openssl/sha.h>

#include "core/edge/access.h"
#include "core/edge/login_tries.h"
#include "core/edge/origin.h"
#include "core/edge/page_assets.h"
#include "core/edge/sessions.h"
#include "core/util/json.h"

enum { SECOND_US = 1000000 };
static const uint64_t SECOND_NS = 1000000000;

/* ---- rules ---- */

static void test_hosts_and_origins(void **state)
{
    (void)state;
    static const struct {
        const char *host, *name;
        bool address, loopback;
    } hosts[] = {
        {"127.0.0.1:8080", "127.0.0.1", true, true},
        {"127.9.9.9", "127.9.9.9", true, true},
        {"[::1]:8080", "::1", true, true},
        {"[2001:db8::1]", "2001:db8::1", true, false},
        {"192.0.2.7:80", "192.0.2.7", true, false},
        {"localhost:8080", "localhost", false, true},
        {"LOCALHOST", "LOCALHOST", false, true},
        {"llmd.example:443", "llmd.example", false, false},
        {"127.0.0.1.evil.example", "127.0.0.1.evil.example", false, false},
        {"localhost.evil.example", "localhost.evil.example", false, false},
        {"0x7f.1", "0x7f.1", false, false},
    };
    static const char *const none[] = {"", ":80", "[::1", "[]"};
    char name[HOST_NAME_BYTES], longest[400];
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        assert_true(host_name(hosts[i].host, name));
        assert_string_equal(name, hosts[i].name);
        assert_int_equal(host_is_address(name), hosts[i].address);
        assert_int_equal(host_is_loopback(name), hosts[i].loopback);
    }
    for (size_t i = 0; i < ARRAY_LEN(none); i++)
        assert_false(host_name(none[i], name));
    assert_false(host_name(NULL, name));
    snprintf(longest, sizeof(longest), "%0300d", 0);
    assert_false(host_name(longest, name));

    assert_true(origin_is_host("http://a:8080", "a:8080", false));
    assert_true(origin_is_host("HTTP://A:8080", "a:8080", false));
    assert_true(origin_is_host("https://a", "a", false)); /* a proxy speaks TLS */
    assert_true(origin_is_host("https://a", "a", true));
    assert_false(origin_is_host("http://a", "a", true));
    static const char *const others[] = {"http://a:8081",
                                         "http://a",
                                         "http://a:8080.evil",
                                         "null",
                                         "",
                                         "a:8080",
                                         "ftp://a:8080",
                                         "http://a:8080/",
                                         "http://evil#a:8080",
                                         "http://evil@a:8080"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_false(origin_is_host(others[i], "a:8080", false));
    assert_false(origin_is_host(NULL, "a", false));
    assert_false(origin_is_host("http://a", NULL, false));
}

static void test_addresses_of_this_host(void **state)
{
    (void)state;
    struct sockaddr_storage a = {.ss_family = AF_INET};
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&a;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&a;
    v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(address_is_loopback(&a));
    v4->sin_addr.s_addr = htonl(0x7fffffff);
    assert_true(address_is_loopback(&a));
    v4->sin_addr.s_addr = htonl(0x80000001);
    assert_false(address_is_loopback(&a));
    a = (struct sockaddr_storage){.ss_family = AF_INET6};
    assert_false(address_is_loopback(&a));
    assert_int_equal(inet_pton(AF_INET6, "::1", &v6->sin6_addr), 1);
    assert_true(address_is_loopback(&a));
    assert_int_equal(inet_pton(AF_INET6, "::ffff:127.0.0.1", &v6->sin6_addr), 1);
    assert_true(address_is_loopback(&a));
    a.ss_family = AF_UNIX;
    assert_false(address_is_loopback(&a));
}

static void test_what_a_session_may(void **state)
{
    (void)state;
    static const struct edge_key plain = {.name = "plain"},
                                 ops = {.name = "ops", .scope = SCOPE_ADMIN},
                                 eye = {.name = "eye", .scope = SCOPE_READ_ONLY};
    struct caller c = {.keys = true, .key = &ops, .page = true};
    assert_int_equal(access_check(ACCESS_ADMIN, &c), ACCESS_FOREIGN_HOST);
    assert_int_equal(access_check(ACCESS_PAGE, &c), ACCESS_GRANTED);
    c.own_host = true;
    assert_int_equal(access_check(ACCESS_ADMIN, &c), ACCESS_NOT_VOUCHED);
    assert_int_equal(access_check(ACCESS_KEY, &c), ACCESS_NOT_VOUCHED);
    c.looks = true;
    assert_int_equal(access_check(ACCESS_ADMIN, &c), ACCESS_GRANTED);
    c.looks = false;
    c.vouched = true;
    assert_int_equal(access_check(ACCESS_ADMIN, &c), ACCESS_GRANTED);
    assert_int_equal(access_check(ACCESS_KEY, &c), ACCESS_GRANTED);
    c.own_host = false;
    assert_int_equal(access_check(ACCESS_ADMIN, &c), ACCESS_FOREIGN_HOST);
    c.own_host = true;
    c.key = &eye;
    assert_int_equal(access_check(ACCESS_ADMIN, &c), ACCESS_ONLY_LOOKS);
    c.key = &plain;
    assert_int_equal(access_check(ACCESS_ADMIN, &c), ACCESS_NOT_ADMIN);
    /* without keys: who asks at this host may look */
    c = (struct caller){.local = true, .page = true, .own_host = true, .looks = true};
    assert_int_equal(access_check(ACCESS_ADMIN, &c), ACCESS_GRANTED);
    c.own_host = false;
    assert_int_equal(access_check(ACCESS_KEY, &c), ACCESS_GRANTED);
    assert_int_equal(access_check(ACCESS_ADMIN, &c), ACCESS_FOREIGN_HOST);
    c.own_host = true;
    c.looks = false;
    c.vouched = true;
    assert_int_equal(access_check(ACCESS_ADMIN, &c), ACCESS_LOCAL_LOOKS);
    assert_int_equal(access_check(ACCESS_KEY, &c), ACCESS_GRANTED);
    /* the page is where operators are */
    c = (struct caller){.keys = true, .admin_elsewhere = true};
    assert_int_equal(access_check(ACCESS_PAGE, &c), ACCESS_NO_PAGE);
    c.admin_listener = true;
    assert_int_equal(access_check(ACCESS_PAGE, &c), ACCESS_GRANTED);
}

/* ---- tables ---- */

static void test_sessions(void **state)
{
    (void)state;
    static struct sessions s;
    static const uint8_t key[32] = {1};
    char a[SESSION_TOKEN_BYTES], b[SESSION_TOKEN_BYTES], csrf[SESSION_TOKEN_BYTES];
    const uint64_t hour = (uint64_t)3600 * SECOND_US;
    uint64_t now = hour;
    struct session found;
    struct err e = {0};
    sessions_init(&s);
    assert_int_equal(sessions_open(&s, key, now, a, &e), 0);
    assert_int_equal(sessions_open(&s, key, now, b, &e), 0);
    assert_int_equal(strlen(a), 64);
    assert_string_not_equal(a, b);
    assert_true(sessions_find(&s, a, now, &found));
    assert_memory_equal(found.key, key, sizeof(key));
    assert_null(memmem(&s, sizeof(s), a, 64)); /* the table cannot be used to log in */
    static const char *const not [] = {
        "", "x", "0000000000000000000000000000000000000000000000000000000000000000"};
    for (size_t i = 0; i < ARRAY_LEN(not ); i++)
        assert_false(sessions_find(&s, not [i], now, &found));
    a[63] = a[63] == '0' ? '1' : '0';
    assert_false(sessions_find(&s, a, now, &found));
    a[63] = '\0';
    assert_false(sessions_find(&s, a, now, &found));

    session_csrf(b, csrf);
    assert_true(session_csrf_is(b, csrf));
    assert_string_not_equal(csrf, b);
    assert_false(session_csrf_is(b, b));
    assert_false(session_csrf_is(b, NULL));
    assert_false(session_csrf_is(b, ""));
    csrf[0] = csrf[0] == '0' ? '1' : '0';
    assert_false(session_csrf_is(b, csrf));

    /* used every half hour it lasts its hours, and no longer */
    for (now += hour / 2; now < hour + (uint64_t)SESSION_MAX_S * SECOND_US; now += hour / 2)
        assert_true(sessions_find(&s, b, now, &found));
    assert_false(sessions_find(&s, b, now, &found));
    /* unused it ends sooner, and stays so */
    assert_int_equal(sessions_open(&s, key, now, a, &e), 0);
    assert_false(sessions_find(&s, a, now + hour, &found));
    assert_false(sessions_find(&s, a, now, &found));
    assert_int_equal(sessions_open(&s, key, now, a, &e), 0);
    sessions_close(&s, a);
    sessions_close(&s, a);
    assert_false(sessions_find(&s, a, now, &found));
    sessions_fini(&s);
}

static void test_a_key_s_sessions_are_few(void **state)
{
    (void)state;
    static struct sessions s;
    static char tokens[SESSIONS_PER_KEY + 1][SESSION_TOKEN_BYTES];
    char other[SESSION_TOKEN_BYTES];
    uint8_t key[32] = {1};
    struct session found;
    struct err e = {0};
    uint64_t now = SECOND_US;
    sessions_init(&s);
    key[0] = 2;
    assert_int_equal(sessions_open(&s, key, now, other, &e), 0);
    key[0] = 1;
    for (size_t i = 0; i < ARRAY_LEN(tokens); i++)
        assert_int_equal(sessions_open(&s, key, ++now, tokens[i], &e), 0);
    assert_false(sessions_find(&s, tokens[0], now, &found)); /* its own oldest went */
    assert_true(sessions_find(&s, other, now, &found));
    for (size_t i = 1; i < ARRAY_LEN(tokens); i++)
        assert_true(sessions_find(&s, tokens[i], now, &found));
    /* a full table: the longest unused goes */
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
        key[1] = (uint8_t)(1 + i / SESSIONS_PER_KEY);
        assert_int_equal(sessions_open(&s, key, ++now, tokens[0], &e), 0);
    }
    assert_false(sessions_find(&s, other, now, &found));
    assert_true(sessions_find(&s, tokens[0], now, &found));
    sessions_fini(&s);
}

static void test_login_tries(void **state)
{
    (void)state;
    static struct login_tries t;
    struct address_block a = {{1}}, b = {{2}};
    uint64_t now = SECOND_NS, wait = 0;
    login_tries_init(&t);
    for (int i = 0; i < LOGIN_TRIES; i++)
        assert_int_equal(login_tries_take(&t, &a, now), 0);
    wait = login_tries_take(&t, &a, now);
    assert_true(wait > 0 && wait <= 6 * SECOND_NS);
    assert_int_equal(login_tries_take(&t, &b, now), 0);
    assert_int_equal(login_tries_take(&t, &a, now + wait), 0);
    assert_true(login_tries_take(&t, &a, now + wait) > 0);
    for (int i = 0; i < 3 * LOGIN_TRIES; i++) { /* what succeeds does not count */
        assert_int_equal(login_tries_take(&t, &b, now), 0);
        login_tries_give_back(&t, &b, now);
    }
    for (int i = 0; i < 2 * LOGIN_PLACES; i++) { /* bounded, and nobody is locked out by others */
        struct address_block many = {{9, (uint8_t)i, (uint8_t)(i >> 8)}};
        assert_int_equal(login_tries_take(&t, &many, now + wait + 1), 0);
    }
    login_tries_fini(&t);
}

/* ---- over HTTP ---- */

static struct server server;
static struct edge_key keys[] = {{.name = "plain"},
                                 {.name = "ops", .scope = SCOPE_ADMIN},
                                 {.name = "eye", .scope = SCOPE_READ_ONLY},
                                 {.name = "old", .scope = SCOPE_ADMIN, .expires_s = 1000}};
static const char *const host_names[] = {"llmd.example"};
static struct edge_listener listeners[] = {{.address = "127.0.0.1:0"},
                                           {.address = "127.0.0.1:0", .admin = true}};
static char cookie[128], csrf[80];

static void begin(bool with_keys, uint32_t n_listen)
{
    server_prepare(&server);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        char text[16];
        int n = snprintf(text, sizeof(text), "sk-%s", keys[i].name);
        SHA256((const unsigned char *)text, (size_t)n, keys[i].sha256);
    }
    struct edge_opts *o = &server.fixture.opts;
    o->served.keys = with_keys ? keys : NULL;
    o->served.n_keys = with_keys ? ARRAY_LEN(keys) : 0;
    o->host_names = host_names;
    o->n_host_names = ARRAY_LEN(host_names);
    o->listen = listeners;
    o->n_listen = n_listen;
    server_start(&server);
    cookie[0] = csrf[0] = '\0';
}

/* The answer to a request with these header lines at listener i; the caller frees. host "": our own. */
static char *call_at(uint32_t i, const char *line, const char *host, const char *headers,
                     const char *body)
{
    struct client c;
    struct buf b = {0};
    assert_true(client_connect(&c, edge_port(server.edge, i), 0));
    buf_addf(&b, "%s HTTP/1.1\r\nConnection: close\r\n%s", line, headers);
    if (*host)
        buf_addf(&b, "Host: %s\r\n", host);
    else
        buf_addf(&b, "Host: 127.0.0.1:%u\r\n", server.port);
    if (body)
        buf_addf(&b, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(body));
    buf_addf(&b, "\r\n%s", body ? body : "");
    client_send(&c, b.data, b.len);
    buf_fini(&b);
    while (client_read(&c, PATIENCE_MS))
        ;
    close(c.fd);
    return buf_steal(&c.in, NULL);
}

static void expect_at(uint32_t i, const char *line, const char *host, const char *headers,
                      const char *body, int status, const char *words)
{
    char *a = call_at(i, line, host, headers, body);
    assert_non_null(a);
    if (status_of(a) != status || !strstr(a, words))
        fail_msg("%s: wanted %d and '%s', got:\n%s", line, status, words, a);
    free(a);
}

static void expect(const char *line, const char *headers, int status, const char *words)
{
    expect_at(0, line, "", headers, NULL, status, words);
}

static void take(const char *from, const char *before, char until, char *out, size_t n_out)
{
    const char *at = strstr(from, before);
    if (!at)
        fail_msg("no '%s' in:\n%s", before, from);
    at += strlen(before);
    size_t n = strcspn(at, (char[]){until, '\0'});
    assert_true(n < n_out);
    memcpy(out, at, n);
    out[n] = '\0';
}

/* Logs in; cookie and csrf are header lines from then on. */
static void log_in(const char *key)
{
    char body[64], value[80];
    snprintf(body, sizeof(body), "{\"key\":\"sk-%s\"}", key);
    char *a = call_at(0, "POST /admin/v1/session", "", "", body);
    assert_int_equal(status_of(a), 200);
    assert_non_null(strstr(a, "; Path=/; HttpOnly; SameSite=Strict\r\n"));
    assert_non_null(strstr(a, "Cache-Control: no-store\r\n"));
    take(a, "Set-Cookie: llmd=", ';', value, sizeof(value));
    snprintf(cookie, sizeof(cookie), "Cookie: llmd=%s\r\n", value);
    take(a, "\"csrf\":\"", '"', value, sizeof(value));
    snprintf(csrf, sizeof(csrf), "%s", value);
    free(a);
}

/* The cookie, the token and our Origin. */
static const char *vouched(void)
{
    static char text[400];
    snprintf(text, sizeof(text), "%sX-CSRF-Token: %s\r\nOrigin: http://127.0.0.1:%u\r\n", cookie,
             csrf, server.port);
    return text;
}

static void test_log_in_and_out(void **state)
{
    (void)state;
    char text[400];
    begin(true, 1);
    expect("GET /admin/v1/session", "", 401, "log in with a key");
    expect("GET /admin/v1/keys", "", 401, "");
    log_in("ops");
    expect("GET /admin/v1/session", cookie, 200,
           "{\"name\":\"ops\",\"role\":\"admin\",\"csrf\":\"");
    expect("GET /admin/v1/session", cookie, 200, csrf);
    expect("GET /admin/v1/keys", cookie, 200, "\"keys\":[");
    expect("GET /v1/models", cookie, 200, "tiny");
    expect(
        "GET /admin/v1/kv", cookie, 200,
        "\"blocks\":10000,\"block_tokens\":16,\"free\":9990,\"cached\":0,\"used\":9,\"shared\":1,"
        "\"blocks_per_cell\":3,\"cells\":3334,\"map\":\"u3f3331\"");
    /* what changes something */
    expect("POST /admin/v1/drain", cookie, 403, "X-CSRF-Token");
    snprintf(text, sizeof(text), "%sX-CSRF-Token: %s\r\n", cookie, csrf);
    expect("POST /admin/v1/drain", text, 403, "X-CSRF-Token");
    snprintf(text, sizeof(text), "%sX-CSRF-Token: %s\r\nOrigin: http://evil.example\r\n", cookie,
             csrf);
    expect("POST /admin/v1/drain", text, 403, "X-CSRF-Token");
    snprintf(text, sizeof(text), "%sX-CSRF-Token: %064d\r\nOrigin: http://127.0.0.1:%u\r\n", cookie,
             0, server.port);
    expect("POST /admin/v1/drain", text, 403, "X-CSRF-Token");
    expect("DELETE /admin/v1/requests/x", cookie, 403, "X-CSRF-Token");
    expect("DELETE /admin/v1/requests/x", vouched(), 404, "no live request");
    expect_at(0, "POST /v1/completions", "", vouched(), "{\"prompt\":\"x\",\"max_tokens\":1}", 200,
              "text_completion");
    /* a key alone counts, wherever there is one */
    snprintf(text, sizeof(text), "%sAuthorization: Bearer sk-plain\r\n", cookie);
    expect("GET /admin/v1/keys", text, 403, "not an administrator's");
    /* hosts, and other sites */
    expect_at(0, "GET /admin/v1/keys", "evil.example", cookie, NULL, 403, "a host that is");
    expect_at(0, "GET /admin/v1/session", "evil.example", cookie, NULL, 403, "a host that is");
    expect_at(0, "GET /admin/v1/keys", "llmd.example:8443", cookie, NULL, 200, "");
    expect_at(0, "GET /admin/v1/keys", "localhost", cookie, NULL, 200, "");
    snprintf(text, sizeof(text), "%sSec-Fetch-Site: cross-site\r\n", cookie);
    expect("GET /admin/v1/keys", text, 403, "its own pages");
    snprintf(text, sizeof(text), "%sSec-Fetch-Site: same-origin\r\n", cookie);
    expect("GET /admin/v1/keys", text, 200, "");
    /* out */
    expect("DELETE /admin/v1/session", cookie, 403, "X-CSRF-Token");
    expect("DELETE /admin/v1/session", vouched(), 204, "Set-Cookie: llmd=; Path=/; Max-Age=0");
    expect("GET /admin/v1/session", cookie, 401, "log in");
    expect("GET /admin/v1/keys", cookie, 401, "");
    expect("GET /admin/v1/session", "Authorization: Bearer sk-ops\r\n", 200, "\"csrf\":null");
    server_stop(&server);
}

static void test_who_may_log_in(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        int status;
        const char *words;
    } tries[] = {
        {"{\"key\":\"sk-none\"}", 401, "there is no such key"},
        {"{\"key\":\"\"}", 401, "there is no such key"},
        {"{\"key\":\"sk-old\"}", 401, "has expired"},
        {"{\"key\":\"sk-plain\"}", 403, "not an administrator's"},
        {"{\"key\":7}", 400, "\"param\":\"key\""},
        {"{\"kez\":\"sk-ops\"}", 400, "\"param\":\"kez\""},
        {"{}", 400, "send {"},
        {"[", 400, ""},
    };
    begin(true, 1);
    for (size_t i = 0; i < ARRAY_LEN(tries); i++)
        expect_at(0, "POST /admin/v1/session", "", "", tries[i].body, tries[i].status,
                  tries[i].words);
    expect_at(0, "POST /admin/v1/session", "evil.example", "", "{\"key\":\"sk-ops\"}", 403, "host");
    expect_at(0, "POST /admin/v1/session", "", "Origin: http://evil.example\r\n",
              "{\"key\":\"sk-ops\"}", 403, "its own pages");
    /* a proxy in front speaks HTTPS: the browser's Origin says so */
    expect_at(0, "POST /admin/v1/session", "llmd.example", "Origin: https://llmd.example\r\n",
              "{\"key\":\"sk-ops\"}", 200, "; Path=/; HttpOnly; SameSite=Strict; Secure\r\n");
    log_in("eye");
    expect("GET /admin/v1/session", cookie, 200, "\"role\":\"read-only\"");
    expect("GET /admin/v1/keys", cookie, 200, "\"keys\":[");
    expect("POST /admin/v1/drain", vouched(), 403, "for looking only");
    expect("DELETE /admin/v1/requests/x", vouched(), 403, "for looking only");
    expect_at(0, "POST /v1/completions", "", vouched(), "{}", 403, "for looking only");
    /* four tries were wrong; the rest of them, then it is enough */
    for (int i = 4; i < LOGIN_TRIES; i++)
        expect_at(0, "POST /admin/v1/session", "", "", "{\"key\":\"no\"}", 401, "no such key");
    expect_at(0, "POST /admin/v1/session", "", "", "{\"key\":\"sk-ops\"}", 429, "Retry-After: ");
    expect("GET /admin/v1/keys", cookie, 200, "\"keys\":["); /* who is in stays in */
    server_stop(&server);
}

static void test_a_login_s_body_is_small(void **state)
{
    (void)state;
    static char body[6000];
    begin(true, 1);
    snprintf(body, sizeof(body), "{\"key\":\"%05000d\"}", 0);
    expect_at(0, "POST /admin/v1/session", "", "", body, 413, "4096 bytes");
    server_stop(&server);
}

static void test_a_session_ends_with_its_key(void **state)
{
    (void)state;
    struct err e = {0};
    begin(true, 1);
    log_in("ops");
    struct edge_served served = server.fixture.opts.served;
    served.n_keys = 1;
    assert_int_equal(edge_set_catalog(server.edge, &served, &e), 0);
    expect("GET /admin/v1/keys", cookie, 401, "");
    expect("GET /admin/v1/session", cookie, 401, "log in");
    served.n_keys = ARRAY_LEN(keys); /* and what the key may is what it may now */
    keys[1].scope = SCOPE_READ_ONLY;
    assert_int_equal(edge_set_catalog(server.edge, &served, &e), 0);
    keys[1].scope = SCOPE_ADMIN;
    expect("GET /admin/v1/session", cookie, 200, "\"role\":\"read-only\"");
    expect("POST /admin/v1/drain", vouched(), 403, "for looking only");
    server_stop(&server);
}

static void test_without_keys_this_host_may_look(void **state)
{
    (void)state;
    char *a;
    begin(false, 1);
    a = call_at(0, "GET /admin/v1/session", "", "", NULL);
    assert_int_equal(status_of(a), 200);
    assert_non_null(strstr(a, "{\"name\":\"local\",\"role\":\"read-only\",\"csrf\":null"));
    assert_null(strstr(a, "Set-Cookie"));
    free(a);
    expect_at(0, "POST /admin/v1/session", "", "", "{\"key\":\"any\"}", 200, "\"name\":\"local\"");
    expect("GET /admin/v1/keys", "", 200, "{\"keys\":[]}");
    expect("DELETE /admin/v1/requests/x", "", 403, "may look and no more");
    expect_at(0, "GET /admin/v1/keys", "192.0.2.7", "", NULL, 403, "a host that is");
    expect_at(0, "GET /admin/v1/keys", "llmd.example", "", NULL, 403, "a host that is");
    expect_at(0, "GET /admin/v1/session", "evil.example", "", NULL, 403, "a host that is");
    expect("GET /admin/v1/keys", "X-Forwarded-For: 192.0.2.1\r\n", 403, "no keys are configured");
    a = ask(server.port, "GET /admin/v1/keys HTTP/1.0\r\nHost: localhost\r\n\r\n");
    assert_int_equal(status_of(a), 403);
    free(a);
    expect("GET /admin/v1/session", "Via: 1.1 proxy\r\n", 403, "no keys are configured");
    expect("GET /admin/v1/keys", "Sec-Fetch-Site: cross-site\r\n", 403, "its own pages");
    expect_at(0, "POST /v1/completions", "", "", "{\"prompt\":\"x\",\"max_tokens\":1}", 200, "");
    server_stop(&server);
}

static void test_the_page_is_where_operators_are(void **state)
{
    (void)state;
    begin(true, 2);
    expect_at(0, "GET /", "", "", NULL, 404, "no such path");
    expect_at(0, "GET /ui/index.html", "", "", NULL, 404, "no such path");
    expect_at(0, "POST /admin/v1/session", "", "", "{\"key\":\"sk-ops\"}", 404, "no such path");
    expect_at(1, "GET /", "", "", NULL, 200, "<!doctype html>");
    expect_at(1, "POST /admin/v1/session", "", "", "{\"key\":\"sk-ops\"}", 200,
              "\"generates\":false}");
    server_stop(&server);
}

static void test_the_page_s_files(void **state)
{
    (void)state;
    const struct page_asset *index = page_asset("index.html");
    char text[80];
    assert_non_null(index);
    assert_null(page_asset(""));
    assert_null(page_asset("embed.sh"));
    begin(true, 1);
    expect("GET /", "", 200, "Content-Security-Policy: default-src 'none'; script-src 'self'; ");
    expect("GET /", "", 200, "<!doctype html>");
    expect("GET /ui/index.html", "", 200, "X-Content-Type-Options: nosniff\r\n");
    expect("GET /ui/none", "", 404, "no such file");
    expect("GET /ui/", "", 404, "no such path");
    expect("POST /", "", 405, "Allow: GET, HEAD, OPTIONS\r\n");
    snprintf(text, sizeof(text), "ETag: \"%s-gzip\"\r\n", index->hash);
    expect("GET /", "Accept-Encoding: br, gzip, deflate\r\n", 200, text);
    expect("GET /", "Accept-Encoding: gzip;q=0.5\r\n", 200, "Content-Encoding: gzip\r\n");
    snprintf(text, sizeof(text), "ETag: \"%s\"\r\n", index->hash);
    expect("GET /", "Accept-Encoding: gzip;q=0\r\n", 200, text);
    expect("GET /", "Accept-Encoding: gzipped\r\n", 200, text);
    expect("HEAD /", "", 200, text);
    snprintf(text, sizeof(text), "If-None-Match: \"%s\"\r\n", index->hash);
    expect("GET /", text, 304, "ETag: ");
    expect("GET /", "If-None-Match: \"0\"\r\n", 200, "<!doctype html>");
    server_stop(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts_and_origins),
        cmocka_unit_test(test_addresses_of_this_host),
        cmocka_unit_test(test_what_a_session_may),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_a_key_s_sessions_are_few),
        cmocka_unit_test(test_login_tries),
        cmocka_unit_test(test_log_in_and_out),
        cmocka_unit_test(test_who_may_log_in),
        cmocka_unit_test(test_a_login_s_body_is_small),
        cmocka_unit_test(test_a_session_ends_with_its_key),
        cmocka_unit_test(test_without_keys_this_host_may_look),
        cmocka_unit_test(test_the_page_is_where_operators_are),
        cmocka_unit_test(test_the_page_s_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

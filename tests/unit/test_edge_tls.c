/* What TLS handshakes with the edge come to, however slowly, brokenly or wrongly they are made. */
#include <openssl/err.h>

#include "tests/unit/tls_server.h"

static void test_versions(void **state)
{
    (void)state;
    static const struct {
        int version;
        const char *series;
    } spoken[] = {{TLS1_2_VERSION, SHAKEN("TLSv1.2", "false")},
                  {TLS1_3_VERSION, SHAKEN("TLSv1.3", "false")}};
    struct client c;
    for (size_t i = 0; i < ARRAY_LEN(spoken); i++) {
        const double before = metric(spoken[i].series);
        use_version(spoken[i].version);
        char *a = ask(server.port, LAST);
        assert_int_equal(status_of(a), 200);
        free(a);
        assert_true(metric(spoken[i].series) == before + 1);
    }
    const double before = metric(FAILED("version"));
    use_version(TLS1_1_VERSION);
    SSL_CTX_set_cipher_list(client_tls, "ALL:@SECLEVEL=0");
    assert_false(client_connect(&c, server.port, 0));
    assert_soon(metric(FAILED("version")) == before + 1);
}

static void test_only_modern_ciphers(void **state)
{
    (void)state;
    struct client c;
    use_version(TLS1_2_VERSION);
    SSL_CTX_set_cipher_list(client_tls, "AES128-SHA:ECDHE-ECDSA-AES128-SHA256:AES128-GCM-SHA256");
    const double before = metric(FAILED("cipher"));
    assert_false(client_connect(&c, server.port, 0));
    assert_soon(metric(FAILED("cipher")) == before + 1);
}

static void test_alpn(void **state)
{
    (void)state;
    static const unsigned char both[] = "\x02h2\x08http/1.1", h2[] = "\x02h2";
    const unsigned char *chosen;
    unsigned n;
    struct client c;
    SSL_CTX_set_alpn_protos(client_tls, both, sizeof(both) - 1);
    assert_true(client_connect(&c, server.port, 0));
    SSL_get0_alpn_selected(c.ssl, &chosen, &n);
    assert_int_equal(n, 8);
    assert_memory_equal(chosen, "http/1.1", 8);
    client_close(&c);
    const double before = metric(FAILED("alpn"));
    SSL_CTX_set_alpn_protos(client_tls, h2, sizeof(h2) - 1);
    ERR_clear_error();
    assert_false(client_connect(&c, server.port, 0));
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_AD_REASON_OFFSET + 120);
    assert_soon(metric(FAILED("alpn")) == before + 1);
}

/* ---- handshakes in pieces ---- */

/* A client whose bytes the test moves itself. */
struct slow_client {
    int fd;
    SSL *ssl;
    BIO *in, *out; /* of the network; ssl's */
};

static void slow_connect(struct slow_client *s)
{
    struct client c;
    SSL_CTX *tls = client_tls;
    client_tls = NULL;
    assert_true(client_connect(&c, server.port, 0));
    client_tls = tls;
    *s = (struct slow_client){.fd = c.fd, .ssl = SSL_new(tls)};
    s->in = BIO_new(BIO_s_mem());
    s->out = BIO_new(BIO_s_mem());
    SSL_set_bio(s->ssl, s->in, s->out);
    SSL_set_connect_state(s->ssl);
}

static void slow_close(struct slow_client *s)
{
    SSL_free(s->ssl);
    close(s->fd);
}

/* What the client would send next; 0: it waits. */
static int slow_next(struct slow_client *s, char *out, int n)
{
    (void)SSL_do_handshake(s->ssl);
    const int k = BIO_read(s->out, out, n);
    return k > 0 ? k : 0;
}

/* Takes what the server sent. False at its end. */
static bool slow_read(struct slow_client *s)
{
    char data[4096];
    struct pollfd p = {.fd = s->fd, .events = POLLIN};
    assert_true(poll(&p, 1, PATIENCE_MS) > 0);
    ssize_t n = recv(s->fd, data, sizeof(data), 0);
    if (n > 0)
        BIO_write(s->in, data, (int)n);
    return n > 0;
}

static void test_byte_by_byte(void **state)
{
    (void)state;
    static const int on = 1;
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct slow_client s;
        char data[8192];
        use_version(version);
        slow_connect(&s);
        setsockopt(s.fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof(on));
        while (!SSL_is_init_finished(s.ssl)) {
            int n = slow_next(&s, data, sizeof(data));
            for (int i = 0; i < n; i++) {
                assert_int_equal(send(s.fd, data + i, 1, MSG_NOSIGNAL), 1);
                clock_sleep_us(20);
            }
            if (!SSL_is_init_finished(s.ssl))
                assert_true(slow_read(&s));
        }
        /* a record for each byte, and each record byte by byte */
        for (const char *p = LAST; *p; p++) {
            assert_int_equal(SSL_write(s.ssl, p, 1), 1);
            const int n = BIO_read(s.out, data, sizeof(data));
            for (int i = 0; i < n; i++)
                assert_int_equal(send(s.fd, data + i, 1, MSG_NOSIGNAL), 1);
        }
        int n;
        while ((n = SSL_read(s.ssl, data, sizeof(data) - 1)) <= 0)
            assert_true(slow_read(&s));
        data[n] = '\0';
        assert_int_equal(status_of(data), 200);
        slow_close(&s);
    }
}

/* Whoever stops in the middle is closed at the deadline, and nobody else waits for that. */
static void test_unfinished_handshakes(void **state)
{
    (void)state;
    enum { N = 40 };
    struct slow_client s[N];
    struct client idle; /* it shakes hands and says no more */
    char data[8192], byte;
    const double before = metric(FAILED("timeout"));
    assert_true(client_connect(&idle, server.port, 0));
    for (int i = 0; i < N; i++) {
        slow_connect(&s[i]);
        const int n = slow_next(&s[i], data, sizeof(data));
        assert_true(n > N);
        /* the last ones send all, and never read */
        const int part = i < N - 4 ? 1 + i * 5 : n;
        assert_int_equal(send(s[i].fd, data, (size_t)(part < n ? part : n), MSG_NOSIGNAL),
                         part < n ? part : n);
    }
    for (int i = 0; i < 20; i++) {
        char *a = ask(server.port, LAST);
        assert_int_equal(status_of(a), 200);
        free(a);
    }
    for (int i = 0; i < N; i++) {
        while (recv(s[i].fd, &byte, 1, 0) == 1)
            ;
        slow_close(&s[i]);
    }
    assert_soon(metric(FAILED("timeout")) == before + N);
    assert_true(ends_with_goodbye(&idle));
    client_close(&idle);
    wait_alone();
}

/* A client leaves at each stage of its handshake, by a FIN or by a reset. */
static void test_leaving_in_the_handshake(void **state)
{
    (void)state;
    static const struct linger reset = {.l_onoff = 1};
    for (int how = 0; how < 60; how++) {
        struct slow_client s;
        char data[8192];
        use_version(how % 4 < 2 ? TLS1_2_VERSION : TLS1_3_VERSION);
        slow_connect(&s);
        int n = slow_next(&s, data, sizeof(data));
        const int part = how < 40 ? how * n / 40 : n;
        assert_int_equal(send(s.fd, data, (size_t)part, MSG_NOSIGNAL), part);
        if (how >= 40) { /* up to the second flight, or a part of it */
            assert_true(slow_read(&s));
            n = slow_next(&s, data, sizeof(data));
            n = n * (how - 40) / 20;
            assert_int_equal(send(s.fd, data, (size_t)n, MSG_NOSIGNAL), n);
        }
        if (how % 2)
            setsockopt(s.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        slow_close(&s);
    }
    wait_alone();
    char *a = ask(server.port, LAST);
    assert_int_equal(status_of(a), 200);
    free(a);
}

/* ---- what is no TLS ---- */

static char *ask_plain(uint16_t port, const char *data, size_t n)
{
    struct client c;
    SSL_CTX *tls = client_tls;
    client_tls = NULL;
    assert_true(client_connect(&c, port, 0));
    client_tls = tls;
    client_send(&c, data, n);
    assert_true(client_until_closed(&c));
    close(c.fd);
    return buf_steal(&c.in, NULL);
}

static void test_plain_http_is_told(void **state)
{
    (void)state;
    static const char *const requests[] = {
        HEALTH, "POST " CHAT " HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "DELETE"};
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        const double before = metric(FAILED("plain_http"));
        char *a = ask_plain(server.port, requests[i], strlen(requests[i]));
        assert_int_equal(status_of(a), 400);
        assert_non_null(strstr(a, "\r\nContent-Type: text/plain\r\n"));
        assert_string_equal(body_of(a),
                            "This port speaks HTTPS: write https:// in front of its address\n");
        const char *length = strstr(a, "Content-Length: ");
        assert_int_equal(strtoul(length + 16, NULL, 10), strlen(body_of(a)));
        free(a);
        assert_true(metric(FAILED("plain_http")) == before + 1);
    }
}

static void test_garbage(void **state)
{
    (void)state;
    static const char ssl2[2 + 0x2e] = "\x80\x2e\x01\0\x02\0\x15\0\0\0\x10";
    static const struct {
        const char *data;
        size_t n;
    } all[] = {
        {"\x16\x03\x01\xff\xff", 5},         /* a record that is too long */
        {"\x16\x03\x01\0\x05hello", 10},     /* no handshake in it */
        {"\x16\x03\x01\0\x04\x01\0\0\0", 9}, /* an empty ClientHello */
        {ssl2, sizeof(ssl2)},
        {"\x17\x03\x03\0\x01x", 6},        /* data before a handshake */
        {"\x15\x03\x01\0\x02\x02\x28", 7}, /* an alert */
        {"\0\0\0\0\0\0\0\0", 8},
        {"get /health HTTP/1.1\r\n\r\n", 24},
    };
    struct client c[ARRAY_LEN(all)];
    SSL_CTX *tls = client_tls;
    client_tls = NULL;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        assert_true(client_connect(&c[i], server.port, 0));
        client_send(&c[i], all[i].data, all[i].n);
    }
    client_tls = tls;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        assert_true(client_until_closed(&c[i]));
        if (client_count(&c[i], "HTTP") > 0)
            fail_msg("%zu: %s", i, buf_str(&c[i].in));
        client_close(&c[i]);
    }
    wait_alone();
    assert_true(metric(FAILED("malformed")) > 0);
}

static void test_garbage_behind_the_handshake(void **state)
{
    (void)state;
    struct client c;
    assert_true(client_connect(&c, server.port, 0));
    client_send_str(&c, HEALTH);
    client_until(&c, "\r\n\r\n", 1);
    assert_int_equal(send(c.fd, "\x17\x03\x03\0\x14garbage garbage garb", 25, MSG_NOSIGNAL), 25);
    while (client_read(&c, PATIENCE_MS))
        ;
    client_close(&c);
    wait_alone();
}

/* The bytes behind a PROXY header are TLS, also when they come with it. */
static void test_behind_a_load_balancer(void **state)
{
    (void)state;
    static const char header[] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"
                                 "\x0a\x01\x02\x03\x7f\0\0\1\x12\x34\0\x50";
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002)};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(server.port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int split = 0; split < 3; split++) {
        struct slow_client s = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
                                .ssl = SSL_new(client_tls)};
        char data[8192];
        memcpy(data, header, sizeof(header) - 1);
        s.in = BIO_new(BIO_s_mem());
        s.out = BIO_new(BIO_s_mem());
        SSL_set_bio(s.ssl, s.in, s.out);
        SSL_set_connect_state(s.ssl);
        assert_int_equal(bind(s.fd, (struct sockaddr *)&from, sizeof(from)), 0);
        assert_int_equal(connect(s.fd, (struct sockaddr *)&to, sizeof(to)), 0);
        int n = (int)sizeof(header) - 1;
        n += slow_next(&s, data + n, (int)sizeof(data) - n);
        const int cut = split == 0 ? n : split == 1 ? 20 : (int)sizeof(header);
        assert_int_equal(send(s.fd, data, (size_t)cut, MSG_NOSIGNAL), cut);
        clock_sleep_us(2000);
        assert_int_equal(send(s.fd, data + cut, (size_t)(n - cut), MSG_NOSIGNAL), n - cut);
        while (!SSL_is_init_finished(s.ssl)) {
            assert_true(slow_read(&s));
            n = slow_next(&s, data, sizeof(data));
            assert_int_equal(send(s.fd, data, (size_t)n, MSG_NOSIGNAL), n);
        }
        slow_close(&s);
    }
    wait_alone();
}

/* ---- many at once, at one loop ---- */

enum { LIMIT = 60 };

static void adapt(struct edge_opts *o)
{
    o->n_threads = 1;
    o->max_connections = LIMIT;
}

static int setup_narrow(void **state)
{
    (void)state;
    return setup_with(adapt);
}

static void connect_plain(struct client *c, uint16_t port)
{
    SSL_CTX *tls = client_tls;
    client_tls = NULL;
    assert_true(client_connect(c, port, 0));
    client_tls = tls;
}

/* How many have an answer to their first flight. */
static uint32_t n_answered(const struct slow_client *s, uint32_t n)
{
    uint32_t answered = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct pollfd p = {.fd = s[i].fd, .events = POLLIN};
        answered += poll(&p, 1, 0) == 1;
    }
    return answered;
}

/* Sixteen steps of handshakes per turn, however many wait. Each turn is held while it answers a plain
 * client, for whom the next one is sent before it goes on. */
static void test_a_crowd_gets_its_turns(void **state)
{
    (void)state;
    enum { CROWD = 40, STEPS = 16, TURNS = 4 };
    struct slow_client s[CROWD];
    struct client plain[TURNS];
    uint32_t answered[TURNS];
    char data[8192];
    for (int i = 0; i < TURNS; i++) { /* known to the loop */
        connect_plain(&plain[i], plain_port);
        client_send_str(&plain[i], HEALTH);
        client_until(&plain[i], " 200 OK", 1);
    }
    const uint32_t asked = atomic_load(&server.router.n_asked);
    atomic_store(&server.router.n_let, asked);
    client_send_str(&plain[0], HEALTH);
    assert_soon(atomic_load(&server.router.n_asked) == asked + 1);
    for (uint32_t i = 0; i < CROWD; i++) {
        slow_connect(&s[i]);
        const int n = slow_next(&s[i], data, sizeof(data));
        assert_int_equal(send(s[i].fd, data, (size_t)n, MSG_NOSIGNAL), n);
    }
    for (uint32_t turn = 1; turn < TURNS; turn++) { /* the first one takes the connections */
        client_send_str(&plain[turn], HEALTH);
        atomic_store(&server.router.n_let, asked + turn);
        assert_soon(atomic_load(&server.router.n_asked) == asked + turn + 1);
        answered[turn] = n_answered(s, CROWD);
    }
    atomic_store(&server.router.n_let, UINT32_MAX);
    assert_soon(n_answered(s, CROWD) == CROWD);
    for (uint32_t turn = 1; turn < TURNS; turn++)
        if (answered[turn] > STEPS * (turn - 1))
            fail_msg("%u steps of handshakes in %u turns", answered[turn], turn - 1);
    for (uint32_t i = 0; i < CROWD; i++)
        slow_close(&s[i]);
    for (int i = 0; i < TURNS; i++) {
        client_until(&plain[i], " 200 OK", 2);
        client_leave(&plain[i]);
        buf_fini(&plain[i].in);
    }
    wait_alone();
}

static double n_refused(void)
{
    static const char series[] = "llmd_edge_connections_refused_total{reason=\"max_connections\"} ";
    struct buf out = {0};
    metrics_write(server.fixture.opts.metrics, 0, &out);
    const char *at = strstr(out.data, series);
    const double n = at ? strtod(at + sizeof(series) - 1, NULL) : -1;
    buf_fini(&out);
    return n;
}

/* Nobody can be told why who has not shaken hands: not a byte, and a close. */
static void test_one_too_many_is_closed(void **state)
{
    (void)state;
    struct client in[LIMIT], out;
    for (int i = 0; i < LIMIT; i++) {
        assert_true(client_connect(&in[i], server.port, 0));
        client_send_str(&in[i], HEALTH);
        client_until(&in[i], " 200 OK", 1);
    }
    const double before = n_refused();
    connect_plain(&out, server.port);
    char byte;
    assert_true(recv(out.fd, &byte, 1, 0) <= 0);
    close(out.fd);
    assert_true(n_refused() == before + 1);
    assert_false(client_connect(&out, server.port, 0));
    assert_true(n_refused() == before + 2);
    client_close(&in[0]); /* makes room for one more */
    assert_soon(client_connect(&in[0], server.port, 0));
    client_send_str(&in[0], HEALTH);
    client_until(&in[0], " 200 OK", 1);
    for (int i = 0; i < LIMIT; i++)
        client_close(&in[i]);
    wait_alone();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_versions),
        TEST(test_only_modern_ciphers),
        TEST(test_alpn),
        TEST(test_byte_by_byte),
        TEST(test_unfinished_handshakes),
        TEST(test_leaving_in_the_handshake),
        TEST(test_plain_http_is_told),
        TEST(test_garbage),
        TEST(test_garbage_behind_the_handshake),
        TEST(test_behind_a_load_balancer),
    };
    const struct CMUnitTest narrow[] = {
        TEST(test_a_crowd_gets_its_turns),
        TEST(test_one_too_many_is_closed),
    };
    return cmocka_run_group_tests(tests, setup, teardown) +
           cmocka_run_group_tests_name("narrow", narrow, setup_narrow, teardown);
}

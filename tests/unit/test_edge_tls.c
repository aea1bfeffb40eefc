/* The edge over TLS: what handshakes come to, however slowly, brokenly or wrongly they are made; tickets;
 * another certificate while streams run; goodbyes. test_edge_front moves the bytes. */
#include <openssl/err.h>

#include "tests/unit/tls_identity.h"

static struct server server;
static struct identity first, second;
static uint16_t plain_port; /* of a listener without TLS */

enum { HEADER_TIMEOUT_S = 1 };

#define HEALTH "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
#define LAST   "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

/* The value of a series, as /metrics of the plain listener shows it; -1: there is none. */
static double metric(const char *series)
{
    SSL_CTX *tls = client_tls;
    client_tls = NULL;
    char *a = ask(plain_port, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    client_tls = tls;
    const char *at = strstr(a, series);
    const double value = at ? strtod(at + strlen(series), NULL) : -1;
    free(a);
    return value;
}

#define FAILED(reason) "llmd_tls_handshake_failures_total{reason=\"" reason "\"} "
#define SHAKEN(protocol, resumed)                                                                  \
    "llmd_tls_handshakes_total{protocol=\"" protocol "\",resumed=\"" resumed "\"} "

/* Only the one that asks for it is left. */
static void wait_alone(void)
{
    assert_soon(metric("\nllmd_edge_connections ") == 1);
}

static void use_version(int version)
{
    SSL_CTX_set_min_proto_version(client_tls, version);
    SSL_CTX_set_max_proto_version(client_tls, version);
}

static int new_client(void **state)
{
    (void)state;
    client_tls = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_security_level(client_tls, 0); /* it may ask for what the server must refuse */
    return 0;
}

static int end_client(void **state)
{
    (void)state;
    SSL_CTX_free(client_tls);
    client_tls = NULL;
    return 0;
}

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

/* An end is said in TLS as well: a cut would be seen. */
static bool ends_with_goodbye(struct client *c)
{
    char data[4096];
    ssize_t n;
    while ((n = client_get(c, data, sizeof(data))) > 0)
        ;
    return n == 0 && (SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
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
    static const struct {
        const char *data;
        size_t n;
    } all[] = {
        {"\x16\x03\x01\xff\xff", 5},                /* a record that is too long */
        {"\x16\x03\x01\0\x05hello", 10},            /* no handshake in it */
        {"\x16\x03\x01\0\x04\x01\0\0\0", 9},        /* an empty ClientHello */
        {"\x80\x2e\x01\0\x02\0\x15\0\0\0\x10", 11}, /* SSL 2 */
        {"\x17\x03\x03\0\x01x", 6},                 /* data before a handshake */
        {"\x15\x03\x01\0\x02\x02\x28", 7},          /* an alert */
        {"\0\0\0\0\0\0\0\0", 8},
        {"get /health HTTP/1.1\r\n\r\n", 24},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        char *a = ask_plain(server.port, all[i].data, all[i].n);
        if (a && strstr(a, "HTTP"))
            fail_msg("%zu: %s", i, a);
        free(a);
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

/* ---- resumption, renewal ---- */

static SSL_SESSION *kept; /* the newest ticket */

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(kept);
    kept = session;
    return 1;
}

/* One request on a connection that offers the kept ticket; whether it was taken. */
static bool resume(void)
{
    struct client c = {.in = {0}};
    SSL_CTX *tls = client_tls;
    client_tls = NULL;
    assert_true(client_connect(&c, server.port, 0));
    client_tls = tls;
    c.ssl = SSL_new(tls);
    SSL_clear_mode(c.ssl, SSL_MODE_AUTO_RETRY);
    SSL_set_fd(c.ssl, c.fd);
    if (kept)
        assert_int_equal(SSL_set_session(c.ssl, kept), 1);
    assert_int_equal(SSL_connect(c.ssl), 1);
    client_send_str(&c, LAST);
    assert_true(client_until_closed(&c));
    assert_int_equal(status_of(buf_str(&c.in)), 200);
    const bool reused = SSL_session_reused(c.ssl) == 1;
    SSL_shutdown(c.ssl); /* OpenSSL forgets sessions that end without */
    client_close(&c);
    return reused;
}

static void test_tickets(void **state)
{
    (void)state;
    SSL_CTX_set_session_cache_mode(client_tls, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(client_tls, on_session);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        const char *series =
            version == TLS1_2_VERSION ? SHAKEN("TLSv1.2", "true") : SHAKEN("TLSv1.3", "true");
        const double before = metric(series);
        use_version(version);
        SSL_SESSION_free(kept);
        kept = NULL;
        assert_false(resume());
        assert_non_null(kept);
        for (int i = 0; i < 5; i++) /* whichever loop it comes to */
            assert_true(resume());
        assert_true(metric(series) == before + 5);
        edge_set_tls(server.edge, identity_tls(&first)); /* other keys */
        assert_false(resume());
        assert_true(resume());
    }
    SSL_SESSION_free(kept);
    kept = NULL;
}

static bool shows(const SSL *ssl, const struct identity *id)
{
    X509 *x = SSL_get1_peer_certificate(ssl);
    const bool same = X509_cmp(x, id->certificate) == 0;
    X509_free(x);
    return same;
}

/* Streams that run keep the certificate that they began with, and lose nothing. */
static void test_renewal(void **state)
{
    (void)state;
    enum { STREAMS = 8, RENEWALS = 20, TOKENS = 200 };
    struct client c[STREAMS], fresh;
    for (int i = 0; i < STREAMS; i++) {
        assert_true(client_connect(&c[i], server.port, 0));
        client_post(&c[i], TEXT, "",
                    "{\"prompt\":\"x\",\"max_tokens\":200,\"ignore_eos\":true,\"stream\":true}");
        client_until(&c[i], "data: ", 1);
    }
    for (int i = 0; i < RENEWALS; i++) {
        const struct identity *id = i % 2 ? &first : &second;
        edge_set_tls(server.edge, identity_tls(id));
        assert_true(client_connect(&fresh, server.port, 0));
        assert_true(shows(fresh.ssl, id));
        client_close(&fresh);
        assert_true(metric("\nllmd_tls_certificate_expiry_seconds ") > 1e9);
    }
    for (int i = 0; i < STREAMS; i++) {
        client_until(&c[i], "data: [DONE]\n\n", 1);
        assert_int_equal(client_count(&c[i], "\"text\":"), TOKENS);
        assert_true(shows(c[i].ssl, &first));
        client_close(&c[i]);
    }
}

/* ---- a connection's life ---- */

static void test_pipelining(void **state)
{
    (void)state;
    enum { N = 20 };
    struct client c;
    struct buf all = {0};
    for (int i = 0; i < N; i++)
        buf_addstr(&all, HEALTH);
    assert_true(client_connect(&c, server.port, 0));
    client_send(&c, all.data, all.len); /* in one record */
    client_until(&c, "HTTP/1.1 200", N);
    client_send_str(&c, LAST);
    assert_true(client_until_closed(&c));
    assert_int_equal(client_count(&c, "HTTP/1.1 200"), N + 1);
    client_close(&c);
    buf_fini(&all);
}

static void test_goodbye(void **state)
{
    (void)state;
    struct client c;
    assert_true(client_connect(&c, server.port, 0));
    client_send_str(&c, LAST);
    assert_true(ends_with_goodbye(&c));
    client_close(&c);
}

/* The client's goodbye is an end though its socket stays open. */
static void test_goodbye_of_the_client(void **state)
{
    (void)state;
    struct client c;
    const uint32_t before = atomic_load(&server.router.n_cancelled);
    router_pace(&server.router, 20000);
    assert_true(client_connect(&c, server.port, 0));
    client_post(&c, TEXT, "",
                "{\"prompt\":\"x\",\"max_tokens\":900,\"ignore_eos\":true,\"stream\":true}");
    client_until(&c, "data: ", 1);
    SSL_shutdown(c.ssl);
    wait_for(&server.router.n_cancelled, before + 1);
    client_close(&c);
    router_pace(&server.router, 500);
}

/* One token is one record, and nothing is held back. */
static void test_a_token_is_a_record(void **state)
{
    (void)state;
    struct client c;
    router_pace(&server.router, 0);
    assert_true(client_connect(&c, server.port, 0));
    client_post(&c, TEXT, "",
                "{\"prompt\":\"x\",\"max_tokens\":50,\"ignore_eos\":true,\"stream\":true}");
    assert_soon(router_running(&server.router) == 1);
    for (uint32_t i = 0; i < 40; i++) {
        router_step(&server.router);
        client_until(&c, "data: ", i + 1);
        if (i == 0) { /* the head may come with it */
            client_until(&c, "\"text\":", 1);
            continue;
        }
        const char *end = buf_str(&c.in) + c.in.len;
        assert_memory_equal(end - 4, "\n\n\r\n", 4);
    }
    /* a read of TLS yields a record: two tokens that are read as one were written as one */
    router_step(&server.router);
    assert_true(client_read(&c, PATIENCE_MS));
    assert_int_equal(client_count(&c, "data: "), 41);
    client_close(&c);
    router_pace(&server.router, 500);
}

/* New keys in the middle of a stream, which the server answers with keys of its own. */
static void test_key_updates(void **state)
{
    (void)state;
    struct client c;
    use_version(TLS1_3_VERSION);
    assert_true(client_connect(&c, server.port, 0));
    client_post(&c, TEXT, "",
                "{\"prompt\":\"x\",\"max_tokens\":200,\"ignore_eos\":true,\"stream\":true}");
    for (int i = 0; i < 20; i++) {
        assert_int_equal(SSL_key_update(c.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(c.ssl), 1);
        client_until(&c, "data: ", (uint32_t)i * 4 + 1);
    }
    client_until(&c, "data: [DONE]\n\n", 1);
    assert_int_equal(client_count(&c, "\"text\":"), 200);
    client_send_str(&c, HEALTH);
    client_until(&c, "HTTP/1.1 200", 2);
    client_close(&c);
}

static void test_no_renegotiation(void **state)
{
    (void)state;
    struct client c;
    use_version(TLS1_2_VERSION);
    assert_true(client_connect(&c, server.port, 0));
    client_send_str(&c, HEALTH);
    client_until(&c, "HTTP/1.1 200", 1);
    assert_int_equal(SSL_renegotiate(c.ssl), 1);
    assert_true(SSL_do_handshake(c.ssl) != 1 || SSL_get_state(c.ssl) != TLS_ST_OK ||
                SSL_num_renegotiations(c.ssl) == 0);
    client_close(&c);
    wait_alone();
}

/* Of a body that is too large the refusal is read, though the client was still sending. */
static void test_a_refused_upload(void **state)
{
    (void)state;
    static char content[400 * 1024];
    struct client c;
    memset(content, 'x', sizeof(content));
    assert_true(client_connect(&c, server.port, 0));
    client_send_str(&c, "POST " TEXT " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                        "Content-Length: 200000000\r\n\r\n");
    client_send(&c, content, sizeof(content));
    client_until(&c, "HTTP/1.1 413", 1);
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

static int setup(void **state)
{
    (void)state;
    static const struct edge_listener listeners[] = {{.address = "127.0.0.1:0", .tls = true},
                                                     {.address = "127.0.0.1:0"}};
    static const char *const balancers[] = {"127.0.0.2"};
    identity_make(&first, &(struct identity_opts){.name = "localhost"});
    identity_make(&second, &(struct identity_opts){.name = "localhost"});
    server_prepare(&server);
    server_speak_tls(&server, &first);
    server.fixture.opts.listen = listeners;
    server.fixture.opts.n_listen = ARRAY_LEN(listeners);
    server.fixture.opts.proxy_from = balancers;
    server.fixture.opts.n_proxy_from = ARRAY_LEN(balancers);
    server.fixture.opts.served.limits.header_timeout_s = HEADER_TIMEOUT_S;
    server_start(&server);
    plain_port = edge_port(server.edge, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    server_stop(&server);
    identity_fini(&first);
    identity_fini(&second);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, new_client, end_client)

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
        TEST(test_tickets),
        TEST(test_renewal),
        TEST(test_pipelining),
        TEST(test_goodbye),
        TEST(test_goodbye_of_the_client),
        TEST(test_a_token_is_a_record),
        TEST(test_key_updates),
        TEST(test_no_renegotiation),
        TEST(test_a_refused_upload),
        TEST(test_behind_a_load_balancer),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

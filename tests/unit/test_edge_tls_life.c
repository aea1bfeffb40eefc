/* TLS connections of the edge behind their handshake: tickets, another certificate while streams run, records,
 * new keys, goodbyes. test_edge_front moves the bytes. */
#include "core/edge/tls_tickets.h"
#include "tests/unit/tls_server.h"

static SSL_SESSION *kept; /* the newest ticket */

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
    SSL_SESSION_free(kept);
    kept = SSL_get1_session(c.ssl);
    SSL_shutdown(c.ssl); /* OpenSSL forgets sessions that end without */
    client_close(&c);
    return reused;
}

static void test_tickets(void **state)
{
    (void)state;
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

/* Tickets outlive one change of the keys, and no second one. */
static void test_ticket_keys_change(void **state)
{
    (void)state;
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct tls *tls = identity_tls(&first);
        SSL_CTX *ctx = tls_context(tls);
        edge_set_tls(server.edge, tls);
        use_version(version);
        SSL_SESSION_free(kept);
        kept = NULL;
        assert_false(resume());
        for (int i = 0; i < 3; i++) { /* each time it gets a new one */
            assert_true(tls_tickets_turn(ctx));
            assert_true(resume());
        }
        assert_true(tls_tickets_turn(ctx) && tls_tickets_turn(ctx));
        assert_false(resume());
        assert_true(resume());
        SSL_CTX_free(ctx);
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

/* n new keys and then a request, in one piece. */
static void send_behind_new_keys(struct client *c, int n, const char *request)
{
    BIO *written = BIO_new(BIO_s_mem());
    char *data;
    size_t k;
    SSL_set0_wbio(c->ssl, written);
    for (int i = 0; i < n; i++) {
        assert_int_equal(SSL_key_update(c->ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(c->ssl), 1);
    }
    assert_int_equal(SSL_write_ex(c->ssl, request, strlen(request), &k), 1);
    const long n_data = BIO_get_mem_data(written, &data);
    assert_int_equal(send(c->fd, data, (size_t)n_data, MSG_NOSIGNAL), n_data);
    SSL_set0_wbio(c->ssl, BIO_new_socket(c->fd, BIO_NOCLOSE));
}

/* OpenSSL stops behind each; no event comes for what is there already. */
static void test_a_request_behind_new_keys(void **state)
{
    (void)state;
    struct client c;
    use_version(TLS1_3_VERSION);
    assert_true(client_connect(&c, server.port, 0));
    for (uint32_t i = 1; i <= 4; i++) { /* in all more than what is too many at once */
        send_behind_new_keys(&c, 20, HEALTH);
        client_until(&c, "HTTP/1.1 200", i);
    }
    client_close(&c);
}

/* Keys cost the server more than the client; a loop must not be kept from the others by them. */
static void test_a_flood_of_new_keys(void **state)
{
    (void)state;
    struct client c;
    use_version(TLS1_3_VERSION);
    assert_true(client_connect(&c, server.port, 0));
    send_behind_new_keys(&c, 500, HEALTH);
    assert_true(client_until_closed(&c));
    assert_int_equal(client_count(&c, "HTTP/1.1 200"), 0);
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
    assert_int_not_equal(SSL_do_handshake(c.ssl), 1);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_tickets),
        TEST(test_ticket_keys_change),
        TEST(test_renewal),
        TEST(test_pipelining),
        TEST(test_goodbye),
        TEST(test_goodbye_of_the_client),
        TEST(test_a_token_is_a_record),
        TEST(test_key_updates),
        TEST(test_a_request_behind_new_keys),
        TEST(test_a_flood_of_new_keys),
        TEST(test_no_renegotiation),
        TEST(test_a_refused_upload),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

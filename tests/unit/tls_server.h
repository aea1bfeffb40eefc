/* tls_server.h - an edge with two listeners, one of TLS, and what its metrics say of it. */
#pragma once
#include "tests/unit/tls_identity.h"

static struct server server;
static struct identity first, second;
static uint16_t plain_port; /* of a listener without TLS */

enum { HEADER_TIMEOUT_S = 3 }; /* a handshake byte by byte must be over by then */

#define HEALTH "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
#define LAST   "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

/* The value of a series, as /metrics of the plain listener shows it; -1: there is none. */
static inline double metric(const char *series)
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
static inline void wait_alone(void)
{
    assert_soon(metric("\nllmd_edge_connections ") == 1);
}

static inline void use_version(int version)
{
    SSL_CTX_set_min_proto_version(client_tls, version);
    SSL_CTX_set_max_proto_version(client_tls, version);
}

static inline int new_client(void **state)
{
    (void)state;
    client_tls = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_security_level(client_tls, 0); /* it may ask for what the server must refuse */
    return 0;
}

static inline int end_client(void **state)
{
    (void)state;
    SSL_CTX_free(client_tls);
    client_tls = NULL;
    return 0;
}

/* An end is said in TLS as well: a cut would be seen. */
static inline bool ends_with_goodbye(struct client *c)
{
    char data[4096];
    ssize_t n;
    while ((n = client_get(c, data, sizeof(data))) > 0)
        ;
    return n == 0 && (SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
}

/* adapt may change the options; NULL: nothing. */
static inline int setup_with(void (*adapt)(struct edge_opts *o))
{
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
    if (adapt)
        adapt(&server.fixture.opts);
    server_start(&server);
    plain_port = edge_port(server.edge, 1);
    return 0;
}

static inline int setup(void **state)
{
    (void)state;
    return setup_with(NULL);
}

static inline int teardown(void **state)
{
    (void)state;
    server_stop(&server);
    identity_fini(&first);
    identity_fini(&second);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, new_client, end_client)

/* Where the edge listens: UNIX sockets, both families, addresses for operators, sockets that another
 * process made. */
#include "tests/unit/edge_server.h"

#include <sys/stat.h>

static struct server server;
static char folder[] = "/tmp/llmd-test-listen-XXXXXX";
static char path[64], address[80];

#define HI        "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"max_tokens\":3}"
#define GET(what) "GET " what " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

static void start(const struct edge_listener *all, uint32_t n)
{
    server_prepare(&server);
    server.fixture.opts.listen = all;
    server.fixture.opts.n_listen = n;
    server_start_at(&server);
}

static bool client_connect_ip6(struct client *c, uint16_t port)
{
    struct sockaddr_in6 a = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_loopback};
    *c = (struct client){.fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (c->fd >= 0 && connect(c->fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return true;
    close(c->fd);
    return false;
}

static int status_at(uint16_t port, const char *request)
{
    char *answer = ask(port, request);
    const int status = status_of(answer);
    free(answer);
    return status;
}

/* The status of a whole answer on a connection that is there; closes it. */
static int status_on(struct client *c, const char *request)
{
    client_send_str(c, request);
    assert_true(client_until_closed(c));
    const int status = status_of(buf_str(&c->in));
    client_close(c);
    return status;
}

static void test_a_unix_socket_serves_clients(void **state)
{
    (void)state;
    const struct edge_listener all[] = {{.address = "127.0.0.1:0"}, {.address = address}};
    struct client c;
    struct stat st;
    start(all, 2);
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode) && (st.st_mode & 07777) == 0660);
    assert_int_equal(edge_port(server.edge, 1), 0);
    for (int i = 0; i < 40; i++) { /* whichever loop takes it */
        assert_true(client_connect_unix(&c, path));
        assert_int_equal(status_on(&c, GET("/version")), 200);
    }
    assert_true(client_connect_unix(&c, path));
    client_post(&c, CHAT, "Connection: close\r\n", HI);
    assert_true(client_until_closed(&c));
    assert_int_equal(client_count(&c, "\"content\":\"abc\""), 1);
    client_close(&c);
    server_stop(&server);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void test_addresses_that_are_taken(void **state)
{
    (void)state;
    const struct edge_listener all[] = {{.address = "127.0.0.1:0"}, {.address = address}};
    char text[40];
    struct edge_listener other = {.address = text};
    struct edge_opts again;
    struct edge *second;
    struct err e = {0};
    start(all, 2);
    again = server.fixture.opts;
    again.metrics = NULL;
    again.listen = &other;
    again.n_listen = 1;
    snprintf(text, sizeof(text), "127.0.0.1:%u", edge_port(server.edge, 0));
    assert_int_equal(edge_start(&again, &second, &e), -LLMD_EIO);
    assert_non_null(strstr(e.msg, "is another server running?"));
    assert_string_equal(e.param, "listen");
    other = (struct edge_listener){.address = address, .admin = true};
    err_clear(&e);
    assert_int_equal(edge_start(&again, &second, &e), -LLMD_EIO);
    assert_non_null(strstr(e.msg, "another server has the socket"));
    assert_non_null(strstr(e.msg, "or name another with admin_listen"));
    other = (struct edge_listener){.address = "localhost:80"};
    err_clear(&e);
    assert_int_equal(edge_start(&again, &second, &e), -LLMD_EINVAL);
    server_stop(&server);
}

/* Listeners behind the one that fails were never opened: nothing of theirs is closed, such as 0. */
static void test_a_failed_start_closes_nothing_else(void **state)
{
    (void)state;
    const struct edge_listener all[] = {{.address = "localhost:80"}, {.address = "127.0.0.1:0"}};
    const int null = open("/dev/null", O_RDONLY | O_CLOEXEC); /* 0, if that was closed */
    struct edge *edge;
    struct err e = {0};
    server_prepare(&server);
    server.fixture.opts.listen = all;
    server.fixture.opts.n_listen = ARRAY_LEN(all);
    assert_int_equal(edge_start(&server.fixture.opts, &edge, &e), -LLMD_EINVAL);
    assert_true(fcntl(0, F_GETFD) >= 0);
    close(null);
    metrics_free(server.fixture.opts.metrics);
    pthread_mutex_destroy(&server.router.mu);
    fixture_fini(&server.fixture);
}

static void test_families_of_addresses(void **state)
{
    (void)state;
    const struct edge_listener all[] = {
        {.address = "[::]:0"}, {.address = "*:0"}, {.address = "0.0.0.0:0"}};
    struct client c;
    const int probe = socket(AF_INET6, SOCK_STREAM, 0);
    if (probe < 0)
        skip(); /* a host without IPv6 */
    close(probe);
    start(all, 3);
    static const bool four[] = {false, true, true}, six[] = {true, true, false};
    for (uint32_t i = 0; i < 3; i++) {
        const uint16_t port = edge_port(server.edge, i);
        assert_int_equal(client_connect(&c, port, 0), four[i]);
        if (four[i])
            assert_int_equal(status_on(&c, GET("/version")), 200);
        assert_int_equal(client_connect_ip6(&c, port), six[i]);
        if (six[i])
            assert_int_equal(status_on(&c, GET("/version")), 200);
    }
    server_stop(&server);
}

/* With 127.0.0.1 allowed, a client of IPv4 is the same by way of a socket for both families. */
static void test_allow_knows_clients_of_a_dual_socket(void **state)
{
    (void)state;
    static const struct edge_listener all[] = {{.address = "*:0"}};
    static const char *const lists[][1] = {{"127.0.0.0/8"}, {"192.0.2.0/24"}};
    for (size_t i = 0; i < 2; i++) {
        server_prepare(&server);
        server.fixture.opts.listen = all;
        server.fixture.opts.allow = lists[i];
        server.fixture.opts.n_allow = 1;
        server_start_at(&server);
        assert_int_equal(status_at(edge_port(server.edge, 0), GET("/version")), i == 0 ? 200 : -1);
        server_stop(&server);
    }
}

static void test_operators_have_addresses_of_their_own(void **state)
{
    (void)state;
    static const struct edge_listener all[] = {{.address = "127.0.0.1:0"},
                                               {.address = "127.0.0.1:0", .admin = true}};
    static const char *const open[] = {GET("/health"), GET("/ready"), GET("/version"),
                                       GET("/metrics")};
    start(all, 2);
    const uint16_t clients = edge_port(server.edge, 0), operators = edge_port(server.edge, 1);
    for (size_t i = 0; i < ARRAY_LEN(open); i++) {
        assert_int_equal(status_at(clients, open[i]), 200);
        assert_int_equal(status_at(operators, open[i]), 200);
    }
    assert_int_equal(status_at(clients, GET("/v1/models")), 200);
    char *answer = ask(operators, GET("/v1/models"));
    assert_int_equal(status_of(answer), 403);
    assert_non_null(strstr(answer, "admin_listen"));
    free(answer);
    answer = ask(clients, GET("/admin/v1/status"));
    assert_int_equal(status_of(answer), 403);
    assert_non_null(strstr(answer, "admin_listen"));
    free(answer);
    /* Without keys this host may look, by a name of its own. */
    answer = ask(operators, GET("/admin/v1/status"));
    assert_int_equal(status_of(answer), 403);
    assert_non_null(strstr(answer, "a host that is this server's"));
    free(answer);
    answer = ask(operators,
                 "GET /admin/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_int_equal(status_of(answer), 200);
    free(answer);
    answer = post(operators, CHAT, "", HI);
    assert_int_equal(status_of(answer), 403);
    free(answer);
    assert_int_equal(atomic_load(&server.router.n_submitted), 0);
    server_stop(&server);
}

/* A listening socket as another process passes it: blocking, kept over an exec. */
static int passed_socket(char *text, size_t n)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t n_a = sizeof(a);
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd > 2 && bind(fd, (struct sockaddr *)&a, n_a) == 0 && listen(fd, 64) == 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n_a), 0);
    snprintf(text, n, "127.0.0.1:%u", ntohs(a.sin_port));
    return fd;
}

/* Whoever connects after the drain waits for the next server: the socket is not ours to end. */
static void test_a_passed_socket(void **state)
{
    (void)state;
    char text[40];
    const int fd = passed_socket(text, sizeof(text)), kept = dup(fd);
    const struct edge_listener all[] = {{.address = text, .inherited_fd = fd}};
    struct client c;
    start(all, 1);
    const uint16_t port = edge_port(server.edge, 0);
    assert_int_equal(port, strtol(strchr(text, ':') + 1, NULL, 10));
    for (int i = 0; i < 20; i++)
        assert_int_equal(status_at(port, GET("/version")), 200);
    server_stop(&server);
    assert_true(client_connect(&c, port, 0));
    const struct edge_listener next[] = {{.address = text, .inherited_fd = kept}};
    start(next, 1);
    assert_int_equal(status_on(&c, GET("/version")), 200);
    server_stop(&server);
    assert_soon(client_is_refused(port)); /* all copies are closed */
}

#define REFUSED "llmd_edge_connections_refused_total{reason=\"max_connections_per_address\"} "

static void expect_refused(const char *n)
{
    struct client c;
    char line[128];
    assert_true(client_connect_unix(&c, path)); /* which does not count */
    client_send_str(&c, GET("/metrics"));
    assert_true(client_until_closed(&c));
    snprintf(line, sizeof(line), REFUSED "%s\n", n);
    if (client_count(&c, line) != 1)
        fail_msg("no %s", line);
    client_close(&c);
}

static void test_connections_per_address(void **state)
{
    (void)state;
    const struct edge_listener all[] = {{.address = "127.0.0.1:0"}, {.address = address}};
    struct client c[3], more, file[4];
    server_prepare(&server);
    server.fixture.opts.listen = all;
    server.fixture.opts.n_listen = 2;
    server.fixture.opts.served.limits.max_connections_per_address = 3;
    server_start_at(&server);
    const uint16_t port = edge_port(server.edge, 0);
    for (int i = 0; i < 3; i++) {
        assert_true(client_connect(&c[i], port, 0));
        client_send_str(&c[i], "GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
        client_until(&c[i], "\"version\"", 1);
    }
    for (int i = 0; i < 4; i++)
        assert_true(client_connect_unix(&file[i], path));
    assert_true(client_connect(&more, port, 0));
    assert_true(client_until_closed(&more));
    assert_int_equal(status_of(buf_str(&more.in)), 429);
    assert_int_equal(client_count(&more, "too many connections from this address"), 1);
    client_close(&more);
    expect_refused("1.0");
    client_close(&c[0]); /* makes room for one more */
    assert_soon(status_at(port, GET("/version")) == 200);
    /* A reload lifts the limit. */
    struct err e = {0};
    struct edge_served served = server.fixture.opts.served;
    served.limits.max_connections_per_address = 0;
    assert_int_equal(edge_set_catalog(server.edge, &served, &e), 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(status_at(port, GET("/version")), 200);
    for (int i = 0; i < 4; i++)
        client_close(&file[i]);
    client_close(&c[1]);
    client_close(&c[2]);
    server_stop(&server);
}

/* A load balancer's connection that names 192.0.2.K as its client. */
static void client_connect_for(struct client *c, uint16_t port, char k)
{
    char header[] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2K\x7f\0\0\1\x10\0\0\x50";
    header[19] = k;
    assert_true(client_connect(c, port, 0));
    client_send(c, header, sizeof(header) - 1);
}

static void test_clients_of_a_load_balancer_count_themselves(void **state)
{
    (void)state;
    static const char *const from[] = {"127.0.0.1"};
    const struct edge_listener all[] = {{.address = "127.0.0.1:0"}, {.address = address}};
    struct client c[4], more;
    server_prepare(&server);
    server.fixture.opts.listen = all;
    server.fixture.opts.n_listen = 2;
    server.fixture.opts.proxy_from = from;
    server.fixture.opts.n_proxy_from = 1;
    server.fixture.opts.served.limits.max_connections_per_address = 1;
    server_start_at(&server);
    const uint16_t port = edge_port(server.edge, 0);
    for (int i = 0; i < 4; i++) {
        client_connect_for(&c[i], port, (char)(i + 1));
        client_send_str(&c[i], "GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
        client_until(&c[i], "\"version\"", 1);
    }
    client_connect_for(&more, port, 3);
    assert_true(client_until_closed(&more));
    assert_int_equal(more.in.len, 0);
    client_close(&more);
    expect_refused("1.0");
    for (int i = 0; i < 4; i++)
        client_close(&c[i]);
    server_stop(&server);
}

static atomic_bool flood_ends;

static void *flood(void *arg)
{
    struct client c;
    while (!atomic_load(&flood_ends))
        if (client_connect_unix(&c, arg))
            client_close(&c);
    return NULL;
}

/* Clients that never stop connecting do not keep the loops from closing the door. */
static void test_a_flood_does_not_delay_the_end(void **state)
{
    (void)state;
    const struct edge_listener all[] = {{.address = address}};
    pthread_t threads[3];
    start(all, 1);
    atomic_store(&flood_ends, false);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, flood, path), 0);
    clock_sleep_us(20000);
    edge_drain(server.edge);
    server_stop(&server);
    atomic_store(&flood_ends, true);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
}

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/http.sock", folder);
    snprintf(address, sizeof(address), "unix:%s", path);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_unix_socket_serves_clients),
        cmocka_unit_test(test_addresses_that_are_taken),
        cmocka_unit_test(test_a_failed_start_closes_nothing_else),
        cmocka_unit_test(test_families_of_addresses),
        cmocka_unit_test(test_allow_knows_clients_of_a_dual_socket),
        cmocka_unit_test(test_operators_have_addresses_of_their_own),
        cmocka_unit_test(test_a_passed_socket),
        cmocka_unit_test(test_connections_per_address),
        cmocka_unit_test(test_clients_of_a_load_balancer_count_themselves),
        cmocka_unit_test(test_a_flood_does_not_delay_the_end),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

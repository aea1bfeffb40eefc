/* The control socket and the routes of operators: who may, what they do, the life of the socket's
 * file. */
#include "tests/unit/edge_server.h"

#include <errno.h>
#include <grp.h>
#include <jansson.h>
#include <openssl/sha.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "core/edge/access.h"
#include "core/edge/routes.h"
#include "core/edge/unix_socket.h"
#include "core/observe/events.h"
#include "core/util/json.h"

static char folder[] = "/tmp/llmd-test-admin-XXXXXX";
static char path[64], lock_path[80];

/* ---- rules ---- */

static void test_who_may_use_which_route(void **state)
{
    (void)state;
    static const struct edge_key plain = {.name = "plain"},
                                 ops = {.name = "ops", .scope = SCOPE_ADMIN},
                                 eye = {.name = "eye", .scope = SCOPE_READ_ONLY},
                                 old = {.name = "old", .scope = SCOPE_ADMIN, .expires_s = 1000};
    enum { YES = ACCESS_GRANTED, NO_KEY = ACCESS_NO_KEY, LOOKS = ACCESS_ONLY_LOOKS };
    enum { NOT_ADMIN = ACCESS_NOT_ADMIN, EXPIRED = ACCESS_EXPIRED, OTHER = ACCESS_WRONG_SOCKET };
    enum {
        NO_KEYS = ACCESS_NO_ADMIN_KEYS,
        USER = ACCESS_WRONG_USER,
        WRONG = ACCESS_WRONG_LISTENER
    };
    static const struct {
        struct caller caller;
        int open, any_key, key, look, act; /* the last two: ADMIN */
    } cases[] = {
        /* listen addresses without keys */
        {{.keys = false}, YES, YES, YES, NO_KEYS, NO_KEYS},
        /* with keys: none given, then one of each scope */
        {{.keys = true}, YES, NO_KEY, NO_KEY, NO_KEY, NO_KEY},
        {{.keys = true, .key = &plain}, YES, YES, YES, NOT_ADMIN, NOT_ADMIN},
        {{.keys = true, .key = &ops}, YES, YES, YES, YES, YES},
        {{.keys = true, .key = &eye}, YES, YES, LOOKS, YES, LOOKS},
        /* its last second, and the one behind it */
        {{.keys = true, .key = &old, .now_s = 999}, YES, YES, YES, YES, YES},
        {{.keys = true, .key = &old, .now_s = 1000}, YES, EXPIRED, EXPIRED, EXPIRED, EXPIRED},
        /* with addresses for operators: the others, and those */
        {{.admin_elsewhere = true, .keys = true, .key = &ops}, YES, YES, YES, WRONG, WRONG},
        {{.admin_elsewhere = true, .keys = true}, YES, NO_KEY, NO_KEY, WRONG, WRONG},
        {{.admin_elsewhere = true, .admin_listener = true, .keys = true, .key = &ops},
         YES,
         WRONG,
         WRONG,
         YES,
         YES},
        {{.admin_elsewhere = true, .admin_listener = true, .keys = true},
         YES,
         WRONG,
         WRONG,
         NO_KEY,
         NO_KEY},
        {{.admin_elsewhere = true, .control = true, .peer_may = true}, YES, OTHER, OTHER, YES, YES},
        /* the control socket: keys do not matter there */
        {{.control = true, .peer_may = true}, YES, OTHER, OTHER, YES, YES},
        {{.control = true, .peer_may = true, .keys = true}, YES, OTHER, OTHER, YES, YES},
        {{.control = true}, USER, USER, USER, USER, USER},
        {{.control = true, .keys = true, .key = &ops}, USER, USER, USER, USER, USER},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct caller c = cases[i].caller;
        assert_int_equal(access_check(ACCESS_OPEN, &c), cases[i].open);
        assert_int_equal(access_check(ACCESS_ANY_KEY, &c), cases[i].any_key);
        assert_int_equal(access_check(ACCESS_KEY, &c), cases[i].key);
        assert_int_equal(access_check(ACCESS_ADMIN, &c), cases[i].act);
        c.looks = true;
        assert_int_equal(access_check(ACCESS_KEY, &c), cases[i].key);
        assert_int_equal(access_check(ACCESS_ADMIN, &c), cases[i].look);
    }
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) { /* what was measured */
        struct caller c = cases[i].caller;
        c.looks = true;
        assert_int_equal(access_check(ACCESS_METRICS, &c), cases[i].open);
        c.metrics_closed = true;
        const int want = c.admin_listener              ? YES
                         : cases[i].look != (int)WRONG ? cases[i].look
                         : c.key                       ? YES
                                                       : NO_KEY;
        assert_int_equal(access_check(ACCESS_METRICS, &c), want);
        assert_int_equal(access_sees_keys(&c) || c.control, want == YES || c.control);
    }
    assert_int_equal((enum route_access)0, ACCESS_ADMIN); /* what forgets to say is closed */
}

/* Every route states what it is, and none but these are open. */
static void test_what_is_open(void **state)
{
    (void)state;
    static const char *const open[] = {"/health", "/ready",       "/version", "/livez",
                                       "/ping",   "/is_sleeping", "/load",    "/openapi.json"};
    for (uint32_t i = 0; i < routes_count(); i++) {
        const struct route *r = route_at(i);
        bool named = false;
        for (size_t k = 0; k < ARRAY_LEN(open); k++)
            named |= strcmp(r->label, open[k]) == 0;
        if (named != (r->access == ACCESS_OPEN))
            fail_msg("%s", r->label);
        const bool page = strcmp(r->path, "/") == 0 || strcmp(r->path, "/ui/") == 0 ||
                          strcmp(r->path, "/admin/v1/session") == 0;
        if (page != (r->access == ACCESS_PAGE))
            fail_msg("%s", r->label);
        if (strncmp(r->path, "/admin", 6) == 0 && !page)
            assert_int_equal(r->access, ACCESS_ADMIN);
        if (strcmp(r->label, "/metrics") == 0)
            assert_int_equal(r->access, ACCESS_METRICS);
    }
    assert_int_equal(route_access(NULL, "/admin/v1/no-such"), ACCESS_ADMIN);
    assert_int_equal(route_access(NULL, "/v1/no-such"), ACCESS_KEY);
}

static void test_which_peers_may(void **state)
{
    (void)state;
    const struct peer_rule with = {.own = 1000, .group = 77, .has_group = true};
    const struct peer_rule without = {.own = 1000};
    assert_true(peer_may(&(struct peer){.uid = 0}, &without));
    assert_true(peer_may(&(struct peer){.uid = 1000}, &without));
    assert_false(peer_may(&(struct peer){.uid = 1001}, &with));
    assert_true(peer_may(&(struct peer){.uid = 1001, .in_group = true}, &with));
    assert_false(peer_may(&(struct peer){.uid = 1001, .in_group = true}, &without));
}

/* What the kernel says of a peer with these supplementary groups; in a process of its own. */
static bool in_group_77(const gid_t *groups, size_t n)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        const struct peer_rule rule = {.own = geteuid(), .group = 77, .has_group = true};
        struct peer p = {0};
        int pair[2];
        if (setgroups(n, groups) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0 ||
            !peer_read(pair[0], &rule, &p) || p.uid != geteuid())
            _exit(2);
        _exit(p.in_group ? 1 : 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
    return WEXITSTATUS(status) == 1;
}

static void test_peers_are_read_from_the_kernel(void **state)
{
    (void)state;
    static const gid_t some[] = {5, 77, 900000}, others[] = {5, 78};
    struct peer_rule rule = {.own = geteuid(), .group = getegid(), .has_group = true};
    struct peer p = {0};
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_true(peer_read(pair[0], &rule, &p));
    assert_true(p.uid == geteuid() && p.in_group);
    rule.has_group = false;
    assert_true(peer_read(pair[0], &rule, &p));
    assert_false(p.in_group);
    close(pair[0]);
    assert_false(peer_read(pair[0], &rule, &p));
    close(pair[1]);
    peer_rule_init(&rule, "no-such-group-of-llmd");
    assert_true(rule.own == geteuid() && !rule.has_group);
    peer_rule_init(&rule, "root");
    assert_true(rule.has_group && rule.group == 0);
    if (geteuid() != 0)
        return; /* only root may choose its groups */
    assert_true(in_group_77(some, ARRAY_LEN(some)));
    assert_false(in_group_77(others, ARRAY_LEN(others)));
    assert_false(in_group_77(NULL, 0));
}

/* ---- the file ---- */

static void test_life_of_the_socket_file(void **state)
{
    (void)state;
    struct unix_socket first, second;
    struct err e = {0};
    struct stat st;
    struct client c;
    mode_t mask = umask(077);
    assert_int_equal(unix_socket_open(&first, "control_socket", path, &e), 0);
    assert_int_equal(umask(mask), 077);
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode) && (st.st_mode & 07777) == 0660);
    /* a living server's is not taken */
    assert_int_equal(unix_socket_open(&second, "control_socket", path, &e), -LLMD_EIO);
    assert_non_null(strstr(e.msg, "another server has the socket"));
    unix_socket_close(&second);
    assert_true(client_connect_unix(&c, path));
    client_close(&c);
    unix_socket_close(&first);
    unix_socket_close(&first);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_not_equal(access(lock_path, F_OK), 0);
}

static void test_a_dead_server_s_file_is_replaced(void **state)
{
    (void)state;
    struct unix_socket s;
    struct err e = {0};
    struct client c;
    int status;
    pid_t child = fork();
    if (child == 0) /* ends without closing, as by kill -9 */
        _exit(unix_socket_open(&s, "control_socket", path, NULL) == 0 ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(access(path, F_OK), 0);
    assert_false(client_connect_unix(&c, path));
    assert_int_equal(unix_socket_open(&s, "control_socket", path, &e), 0);
    assert_true(client_connect_unix(&c, path));
    client_close(&c);
    unix_socket_close(&s);
}

static void test_paths_that_cannot_be(void **state)
{
    (void)state;
    struct unix_socket s;
    struct err e = {0};
    char text[256];
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(unix_socket_open(&s, "control_socket", path, &e), -LLMD_EINVAL);
    assert_non_null(strstr(e.msg, "is no socket"));
    assert_int_equal(unlink(path), 0); /* it was left alone */
    assert_int_not_equal(access(lock_path, F_OK), 0);

    err_clear(&e);
    snprintf(text, sizeof(text), "%s/none/x.sock", folder);
    assert_int_equal(unix_socket_open(&s, "control_socket", text, &e), -LLMD_EIO);
    assert_non_null(strstr(e.msg, "create its folder"));

    err_clear(&e);
    snprintf(text, sizeof(text), "%s/%0120d", folder, 0);
    assert_int_equal(unix_socket_open(&s, "control_socket", text, &e), -LLMD_EINVAL);
    assert_string_equal(e.param, "control_socket");
}

/* ---- routes ---- */

struct asked { /* what the process was asked for */
    atomic_uint n_drain, n_reload;
    atomic_bool refuse;
};

static struct server server;
static struct asked asked;
static struct edge_key keys[] = {{.name = "plain"}, {.name = "ops", .scope = SCOPE_ADMIN}};

static void on_drain(void *ctx)
{
    atomic_fetch_add(&((struct asked *)ctx)->n_drain, 1);
}

static int on_reload(void *ctx, struct err *e)
{
    struct asked *a = ctx;
    if (atomic_load(&a->refuse))
        return err_set(e, LLMD_EFULL, "a reload is under way");
    atomic_fetch_add(&a->n_reload, 1);
    return 0;
}

static void on_reload_state(void *ctx, struct buf *json)
{
    buf_addf(json, "{\"state\":\"running\",\"number\":%u}",
             atomic_load(&((struct asked *)ctx)->n_reload));
}

static void on_config(void *ctx, struct buf *json)
{
    (void)ctx;
    buf_addstr(json, "{\"a\":1}");
}

/* Starts the server; with keys when asked for. */
static void begin(bool with_keys, uint32_t max_connections)
{
    server_prepare(&server);
    SHA256((const unsigned char *)"sk-plain", 8, keys[0].sha256);
    SHA256((const unsigned char *)"sk-ops", 6, keys[1].sha256);
    asked = (struct asked){.n_drain = 0};
    struct edge_opts *o = &server.fixture.opts;
    o->served.keys = with_keys ? keys : NULL;
    o->served.n_keys = with_keys ? ARRAY_LEN(keys) : 0;
    o->max_connections = max_connections;
    o->control_socket = path;
    o->control = (struct edge_control){.ctx = &asked,
                                       .drain = on_drain,
                                       .reload = on_reload,
                                       .reload_state = on_reload_state,
                                       .config = on_config};
    server_start(&server);
}

/* The answer to "METHOD PATH" with a body (NULL: none) over the control socket, or over TCP with a
 * key ("": none). The caller frees. */
static char *call(const char *line, const char *key, const char *body)
{
    struct client c;
    struct buf b = {0};
    assert_true(key ? client_connect(&c, server.port, 0) : client_connect_unix(&c, path));
    buf_addf(&b, "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", line);
    if (key && *key)
        buf_addf(&b, "Authorization: Bearer %s\r\n", key);
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

static void expect(const char *line, const char *key, const char *body, int status,
                   const char *words)
{
    char *a = call(line, key, body);
    assert_non_null(a);
    if (status_of(a) != status || !strstr(a, words))
        fail_msg("%s: wanted %d and '%s', got:\n%s", line, status, words, a);
    free(a);
}

static void test_views_over_the_socket(void **state)
{
    (void)state;
    begin(true, 512);
    char *a = call("GET /admin/v1/status", NULL, NULL);
    struct err e = {0};
    json_t *v = NULL;
    assert_int_equal(status_of(a), 200);
    assert_int_equal(json_parse(body_of(a), strlen(body_of(a)), &v, &e), 0);
    assert_int_equal(json_integer_value(json_object_get(v, "pid")), getpid());
    assert_string_equal(json_string_value(json_object_get(v, "state")), "ready");
    assert_string_equal(json_string_value(json_object_get(v, "control_socket")), path);
    json_t *model = json_array_get(json_object_get(v, "models"), 0);
    assert_int_equal(json_integer_value(json_object_get(model, "waiting")), 7);
    json_t *worker = json_array_get(json_object_get(v, "workers"), 0);
    assert_string_equal(json_string_value(json_object_get(worker, "error")), "out of \"luck\"");
    json_t *listen = json_array_get(json_object_get(v, "listen"), 0);
    assert_int_equal(json_integer_value(json_object_get(listen, "port")), server.port);
    json_decref(v);
    free(a);
    expect("GET /admin/v1/workers", NULL, NULL, 200, "{\"workers\":[{\"worker\":0,");
    expect("GET /admin/v1/config", NULL, NULL, 200, "{\"a\":1}");
    expect("GET /admin/v1/keys", NULL, NULL, 200,
           "{\"keys\":["
           "{\"name\":\"plain\",\"scope\":\"inference\",\"models\":[],\"expires\":null,"
           "\"priority\":0,\"requests_per_minute\":null,\"requests_left\":null,"
           "\"tokens_per_minute\":null,\"tokens_left\":null,\"max_concurrent\":0,\"running\":0,"
           "\"requests\":0,\"prompt_tokens\":0,\"output_tokens\":0},"
           "{\"name\":\"ops\",\"scope\":\"admin\",\"models\":[],\"expires\":null,"
           "\"priority\":0,\"requests_per_minute\":null,\"requests_left\":null,"
           "\"tokens_per_minute\":null,\"tokens_left\":null,\"max_concurrent\":0,\"running\":0,"
           "\"requests\":0,\"prompt_tokens\":0,\"output_tokens\":0}]}");
    expect("GET /admin/v1/reload", NULL, NULL, 200, "{\"state\":\"running\",\"number\":0}");
    expect("HEAD /admin/v1/status", NULL, NULL, 200, "Content-Length: ");
    expect("OPTIONS /admin/v1/reload", NULL, NULL, 204, "Allow: GET, HEAD, POST, OPTIONS\r\n");
    expect("PUT /admin/v1/drain", NULL, NULL, 405, "Allow: POST, OPTIONS\r\n");
    expect("GET /admin/v1/nothing", NULL, NULL, 404, "no such path");
    expect("GET /nothing", NULL, NULL, 404, "no such path");
    expect("GET /", NULL, NULL, 403, "the control socket serves operators only");
    expect("GET /health", NULL, NULL, 200, "");
    expect("POST " CHAT, NULL, "{}", 403, "the control socket serves operators only");
    server_stop(&server);
}

static void test_actions_over_the_socket(void **state)
{
    (void)state;
    begin(false, 512);
    expect("POST /admin/v1/drain", NULL, "{\"worker\":0}", 202,
           "{\"worker\":0,\"state\":\"draining\"}");
    assert_int_equal(atomic_load(&server.router.n_drained), 1);
    expect("POST /admin/v1/undrain", NULL, "{\"worker\":0}", 202,
           "{\"worker\":0,\"state\":\"starting\"}");
    assert_int_equal(atomic_load(&server.router.n_returned), 1);
    expect("POST /admin/v1/drain", NULL, "{\"worker\":1}", 404, "there is no worker 1");
    expect("POST /admin/v1/undrain", NULL, NULL, 400, "name the worker");
    /* nothing of this may drain the whole server */
    expect("POST /admin/v1/drain", NULL, "{\"wroker\":0}", 400, "\"param\":\"wroker\"");
    expect("POST /admin/v1/drain", NULL, "{\"worker\":null}", 400, "\"param\":\"worker\"");
    expect("POST /admin/v1/drain", NULL, "{\"worker\":-1}", 400, "\"param\":\"worker\"");
    expect("POST /admin/v1/drain", NULL, "{\"worker\":\"0\"}", 400, "\"param\":\"worker\"");
    expect("POST /admin/v1/drain", NULL, "[0]", 400, "must be a JSON object");
    expect("POST /admin/v1/drain", NULL, "{\"worker\":", 400, "BadRequestError");
    assert_int_equal(atomic_load(&asked.n_drain), 0);
    expect("POST /admin/v1/drain", NULL, NULL, 202, "{\"state\":\"draining\",\"answering\":0}");
    assert_int_equal(atomic_load(&asked.n_drain), 1);

    expect("POST /admin/v1/reload", NULL, NULL, 202, "{\"state\":\"running\",\"number\":1}");
    atomic_store(&asked.refuse, true);
    expect("POST /admin/v1/reload", NULL, "{}", 503, "a reload is under way");

    expect("POST /admin/v1/log_level", NULL, "{\"level\":\"warn\"}", 200,
           "{\"level\":\"warn\",\"was\":\"error\"}");
    expect("POST /admin/v1/log_level", NULL, "{\"level\":\"loud\"}", 400, "\"param\":\"level\"");
    expect("POST /admin/v1/log_level", NULL, NULL, 400, "\"param\":\"level\"");
    assert_int_equal(log_get_level(), LOG_WARN);
    log_set_level(LOG_ERROR);
    expect("GET /admin/v1/events", NULL, NULL, 200, "\"text\":\"drain worker=0 asked by uid=");
    expect("GET /admin/v1/events?after=x", NULL, NULL, 400, "\"param\":\"after\"");
    expect("GET /admin/v1/events?after=100000", NULL, NULL, 200, "{\"events\":[],");
    server_stop(&server);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void test_requests_over_the_socket(void **state)
{
    (void)state;
    struct client stream, plain;
    begin(false, 512);
    router_pace(&server.router, 0);
    expect("GET /admin/v1/requests", NULL, NULL, 200, "{\"total\":0,\"requests\":[]}");
    assert_true(client_connect(&stream, server.port, 0));
    client_post(&stream, TEXT, "X-Request-Id: one\r\n",
                "{\"prompt\":\"x\",\"max_tokens\":900,\"stream\":true}");
    client_until(&stream, "200 OK", 1);
    assert_true(client_connect(&plain, server.port, 0));
    client_post(&plain, TEXT, "X-Request-Id: two\r\n", "{\"prompt\":\"x\",\"max_tokens\":900}");
    wait_for(&server.router.n_submitted, 2);
    expect("GET /admin/v1/requests", NULL, NULL, 200, "{\"total\":2,\"requests\":[{\"id\":\"cmpl-");
    expect("GET /admin/v1/requests/cmpl-known", NULL, NULL, 200, "{\"id\":\"cmpl-known\"}");
    expect("GET /admin/v1/requests/cmpl-one", NULL, NULL, 404, "there is no such request");
    expect("DELETE /admin/v1/requests/cmpl-none", NULL, NULL, 404, "no live request");
    expect("DELETE /admin/v1/requests", NULL, NULL, 405, "Allow: GET, HEAD, OPTIONS\r\n");
    expect("POST /admin/v1/requests/cmpl-one", NULL, "{}", 405,
           "Allow: GET, HEAD, DELETE, OPTIONS\r\n");
    expect("DELETE /admin/v1/requests/cmpl-one", NULL, NULL, 200,
           "{\"id\":\"cmpl-one\",\"cancelled\":1}");
    expect("DELETE /admin/v1/requests/cmpl-two", NULL, NULL, 200, "\"cancelled\":1}");
    router_pace(&server.router, 500);
    client_until(&stream, "an operator of the server cancelled the request", 1);
    client_until(&stream, "data: [DONE]", 1);
    client_until(&plain, "HTTP/1.1 499 ", 1);
    client_until(&plain, "an operator of the server cancelled the request", 1);
    expect("GET /admin/v1/decisions", NULL, NULL, 200, "{\"decisions\":[50]}");
    expect("GET /admin/v1/decisions?n=7", NULL, NULL, 200, "{\"decisions\":[7]}");
    expect("GET /admin/v1/decisions?n=-7", NULL, NULL, 400, "\"param\":\"n\"");
    client_close(&stream);
    client_close(&plain);
    server_stop(&server);
}

static void test_tcp_needs_an_administrator_s_key(void **state)
{
    (void)state;
    begin(true, 512);
    static const char *const lines[] = {"GET /admin/v1/status", "POST /admin/v1/drain",
                                        "GET /admin/v1/nothing", "GET /admin",
                                        "OPTIONS /admin/v1/keys"};
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        expect(lines[i], "", NULL, 401, "invalid_api_key");
        expect(lines[i], "sk-other", NULL, 401, "invalid_api_key");
        expect(lines[i], "sk-plain", NULL, 403, "not an administrator's");
    }
    assert_int_equal(atomic_load(&asked.n_drain), 0);
    expect("GET /admin/v1/status", "sk-ops", NULL, 200, "\"workers\":[");
    expect("GET /admin/v1/nothing", "sk-ops", NULL, 404, "no such path");
    expect("POST /admin/v1/drain", "sk-ops", "{}", 202, "draining");
    expect("GET /admin/v1/events", "sk-ops", NULL, 200, "drain asked by key=ops");
    expect("GET /v1/models", "sk-ops", NULL, 200, "tiny");
    expect("GET /administrator", "", NULL, 404, "no such path");
    server_stop(&server);

    begin(false, 512);
    expect("GET /admin/v1/status", "", NULL, 403, "a host that is this server's");
    expect("GET /admin/v1/nothing", "sk-ops", NULL, 403, "a host that is this server's");
    server_stop(&server);
}

static void test_a_full_server_still_answers_its_operator(void **state)
{
    (void)state;
    struct client a, b;
    begin(false, 1);
    assert_true(client_connect(&a, server.port, 0));
    client_send_str(&a, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
    client_until(&a, "\"version\"", 1);
    assert_true(client_connect(&b, server.port, 0));
    client_until(&b, "too many connections", 1);
    expect("GET /admin/v1/status", NULL, NULL, 200, "\"connections\":1,\"max_connections\":1,");
    client_close(&a);
    client_close(&b);
    server_stop(&server);
}

static void test_a_draining_server_still_answers_its_operator(void **state)
{
    (void)state;
    struct client a;
    begin(false, 512);
    router_pace(&server.router, 0);
    assert_true(client_connect(&a, server.port, 0));
    client_post(&a, TEXT, "", "{\"prompt\":\"x\",\"max_tokens\":2,\"stream\":true}");
    client_until(&a, "200 OK", 1);
    edge_drain(server.edge);
    expect("GET /admin/v1/status", NULL, NULL, 200, "\"state\":\"draining\"");
    expect("GET /admin/v1/status", NULL, NULL, 200, "\"answering\":1,");
    expect("POST /admin/v1/drain", NULL, NULL, 202, "draining");
    expect("POST /admin/v1/reload", NULL, NULL, 503, "shutting down");
    assert_int_equal(atomic_load(&asked.n_reload), 0);
    router_pace(&server.router, 500);
    client_until(&a, "data: [DONE]", 1);
    client_close(&a);
    server_stop(&server);
}

/* An optional socket that cannot be made is no reason not to serve. */
static void test_optional_socket(void **state)
{
    (void)state;
    struct err e = {0};
    server_prepare(&server);
    log_set_level(LOG_ERROR);
    server.fixture.opts.control_socket = "/nowhere/llmd.sock";
    assert_int_equal(edge_start(&server.fixture.opts, &server.edge, &e), -LLMD_EIO);
    assert_non_null(strstr(e.msg, "/nowhere/llmd.sock"));
    server.fixture.opts.control_optional = true;
    server_start(&server);
    char *a = ask(server.port, "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_int_equal(status_of(a), 200);
    free(a);
    server_stop(&server);
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/llmd.sock", folder);
    snprintf(lock_path, sizeof(lock_path), "%s.lock", path);
    return 0;
}

/* Fails when a test left a file. */
static int tear_down(void **state)
{
    (void)state;
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_may_use_which_route),
        cmocka_unit_test(test_what_is_open),
        cmocka_unit_test(test_which_peers_may),
        cmocka_unit_test(test_peers_are_read_from_the_kernel),
        cmocka_unit_test(test_life_of_the_socket_file),
        cmocka_unit_test(test_a_dead_server_s_file_is_replaced),
        cmocka_unit_test(test_paths_that_cannot_be),
        cmocka_unit_test(test_views_over_the_socket),
        cmocka_unit_test(test_actions_over_the_socket),
        cmocka_unit_test(test_requests_over_the_socket),
        cmocka_unit_test(test_tcp_needs_an_administrator_s_key),
        cmocka_unit_test(test_a_full_server_still_answers_its_operator),
        cmocka_unit_test(test_a_draining_server_still_answers_its_operator),
        cmocka_unit_test(test_optional_socket),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

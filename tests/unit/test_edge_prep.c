/* Large bodies are prepared on other threads: the pool alone, and through the edge: replies are those
 * of small bodies, clients leave at any moment, the server stops meanwhile. */
#include "tests/unit/edge_server.h"

#include <sys/eventfd.h>

#include "core/edge/prep.h"

/* ---- the pool ---- */

struct counted {
    struct prep_job job;
    uint32_t *n_worked, *n_done; /* of the loop that takes them back */
};

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static void count_work(struct prep_job *job)
{
    struct counted *c = (struct counted *)job;
    pthread_mutex_lock(&gate);
    (*c->n_worked)++;
    pthread_mutex_unlock(&gate);
}

static void count_done(struct prep_job *job)
{
    struct counted *c = (struct counted *)job;
    (*c->n_done)++;
    free(c);
}

static struct counted *counted_new(struct prep_inbox *inbox, uint32_t *n_worked, uint32_t *n_done)
{
    struct counted *c = calloc(1, sizeof(*c));
    assert_non_null(c);
    *c = (struct counted){.job = {.inbox = inbox, .work = count_work, .done = count_done},
                          .n_worked = n_worked,
                          .n_done = n_done};
    return c;
}

static void test_jobs_come_back_to_their_loop(void **state)
{
    (void)state;
    enum { ROUNDS = 20, JOBS = 20 };
    struct prep p = {0};
    struct prep_inbox inbox[2];
    uint32_t n_worked = 0, n_done[2] = {0, 0};
    struct err e = {0};
    for (int k = 0; k < 2; k++)
        prep_inbox_init(&inbox[k], eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    assert_int_equal(prep_init(&p, 3, NULL, &e), 0);
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        for (uint32_t i = 0; i < JOBS; i++) {
            struct counted *c = counted_new(&inbox[i % 2], &n_worked, &n_done[i % 2]);
            assert_int_equal(prep_give(&p, &c->job, &e), 0);
        }
        for (int k = 0; k < 2; k++)
            while (n_done[k] < round * JOBS / 2) {
                struct pollfd woken = {.fd = inbox[k].wake_fd, .events = POLLIN};
                uint64_t count;
                assert_int_equal(poll(&woken, 1, 60000), 1);
                assert_int_equal(read(inbox[k].wake_fd, &count, sizeof(count)), sizeof(count));
                prep_take(&inbox[k]);
            }
    }
    assert_int_equal(n_worked, ROUNDS * JOBS);
    prep_fini(&p);
    for (int k = 0; k < 2; k++) {
        close(inbox[k].wake_fd);
        prep_inbox_fini(&inbox[k]);
    }
}

static void test_a_full_queue_and_abandoned_jobs(void **state)
{
    (void)state;
    struct prep p = {0};
    struct prep_inbox inbox;
    struct counted *given[1000];
    uint32_t n_worked = 0, n_done = 0, n = 0;
    struct err e = {0};
    prep_inbox_init(&inbox, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    assert_int_equal(prep_init(&p, 1, NULL, &e), 0);
    pthread_mutex_lock(&gate); /* the first job waits at work */
    for (;;) {
        given[n] = counted_new(&inbox, &n_worked, &n_done);
        if (prep_give(&p, &given[n]->job, &e) != 0)
            break;
        n++;
        assert_true(n < ARRAY_LEN(given));
    }
    free(given[n]);
    assert_int_equal(e.code, LLMD_EFULL);
    assert_true(n >= 100);
    lock_take(&p.mu);
    const uint32_t n_waiting = p.n_waiting;
    lock_drop(&p.mu);
    for (uint32_t i = n - n_waiting; i < n; i++) /* those behind the one at work */
        atomic_store(&given[i]->job.abandoned, true);
    pthread_mutex_unlock(&gate);
    prep_fini(&p); /* nothing that was given is lost */
    prep_take(&inbox);
    assert_int_equal(n_done, n);
    assert_true(n_worked <= n - n_waiting + 1);
    close(inbox.wake_fd);
    prep_inbox_fini(&inbox);
}

/* Gives jobs of that owner until one is refused; returns how many were taken. */
static uint32_t fill(struct prep *p, struct prep_inbox *inbox, const void *owner,
                     uint32_t *n_worked, uint32_t *n_done)
{
    struct err e = {0};
    for (uint32_t n = 0;; n++) {
        struct counted *c = counted_new(inbox, n_worked, n_done);
        c->job.owner = owner;
        if (prep_give(p, &c->job, &e) == 0)
            continue;
        free(c);
        assert_int_equal(e.code, LLMD_EFULL);
        return n;
    }
}

/* No owner takes all places: another finds some, and another, and who has none takes the last. */
static void test_nobody_takes_all_places(void **state)
{
    (void)state;
    struct prep p = {0};
    struct prep_inbox inbox;
    uint32_t n_worked = 0, n_done = 0, owners[2];
    struct err e = {0};
    prep_inbox_init(&inbox, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    pthread_mutex_lock(&gate);
    assert_int_equal(prep_init(&p, 1, NULL, &e), 0);
    const uint32_t first = fill(&p, &inbox, &owners[0], &n_worked, &n_done);
    const uint32_t second = fill(&p, &inbox, &owners[1], &n_worked, &n_done);
    const uint32_t nobody = fill(&p, &inbox, NULL, &n_worked, &n_done);
    assert_in_range(first, 64, 66); /* the first may be at work */
    assert_in_range(second, 31, 33);
    assert_in_range(nobody, 30, 33);
    pthread_mutex_unlock(&gate);
    prep_fini(&p);
    prep_take(&inbox);
    assert_int_equal(n_done, first + second + nobody);
    close(inbox.wake_fd);
    prep_inbox_fini(&inbox);
}

/* ---- through the edge ---- */

static struct server server;

static void start(void)
{
    server_prepare(&server);
    server.fixture.served.max_model_len = 64u << 20;
    server.fixture.opts.served.limits.max_body_bytes = 16u << 20;
    server.fixture.opts.served.limits.body_timeout_s = 60;
    server.fixture.opts.n_prep_threads = 2;
    server_start(&server);
}

/* A chat body whose content has n bytes; the caller frees it. */
static char *body_of_size(size_t n, const char *more)
{
    struct buf b = {0};
    buf_addstr(&b, "{\"messages\":[{\"role\":\"user\",\"content\":\"");
    for (size_t i = 0; i < n; i++)
        buf_addch(&b, (char)('a' + i % 7));
    buf_addf(&b, "\"}]%s}", more);
    return buf_steal(&b, NULL);
}

static void test_replies_are_those_of_small_bodies(void **state)
{
    (void)state;
    start();
    static const size_t sizes[] = {10, 20000, 200000};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        char usage[64];
        char *body = body_of_size(sizes[i], ",\"max_tokens\":3");
        char *a = post(server.port, CHAT, "", body);
        assert_int_equal(status_of(a), 200);
        assert_non_null(strstr(a, "\"content\":\"abc\""));
        snprintf(usage, sizeof(usage), "\"completion_tokens\":3");
        assert_non_null(strstr(a, usage));
        free(a);
        free(body);
        body = body_of_size(sizes[i], ",\"max_tokens\":3,\"stream\":true");
        a = post(server.port, CHAT, "", body);
        assert_int_equal(status_of(a), 200);
        assert_non_null(strstr(a, "text/event-stream"));
        assert_non_null(strstr(a, "data: [DONE]"));
        free(a);
        free(body);
    }
    char *body = body_of_size(100000, ",\"max_tokens\":-3");
    char *a = post(server.port, CHAT, "", body);
    assert_int_equal(status_of(a), 400);
    assert_non_null(strstr(a, "\"param\":\"max_tokens\""));
    free(a);
    body[strlen(body) - 1] = ' ';
    a = post(server.port, CHAT, "", body);
    assert_int_equal(status_of(a), 400);
    free(a);
    free(body);
    server_stop(&server);
}

/* Of /tokenize, what a large and a small body of one text are told; and the way back. */
static void test_tokenize(void **state)
{
    (void)state;
    start();
    struct client c;
    struct buf small = {0}, large = {0}, way_back = {0};
    const size_t n = 30000;
    buf_addstr(&small, "{\"prompt\":\"abcdefg\"}");
    buf_addstr(&large, "{\"prompt\":\"");
    for (size_t i = 0; i < n; i++)
        buf_addch(&large, (char)('a' + i % 7));
    buf_addstr(&large, "\"}");
    char *a = post(server.port, "/tokenize", "", buf_str(&small));
    char *b = post(server.port, "/tokenize", "", buf_str(&large));
    assert_int_equal(status_of(a), 200);
    assert_int_equal(status_of(b), 200);
    const char *ids_a = strstr(a, "\"tokens\":["), *ids_b = strstr(b, "\"tokens\":[");
    assert_true(ids_a && ids_b);
    assert_int_equal(strncmp(ids_a, ids_b, strcspn(ids_a, "]")), 0); /* it begins alike */
    buf_addstr(&way_back, "{");
    buf_add(&way_back, ids_b, strcspn(ids_b, "]") + 1);
    buf_addstr(&way_back, "}");
    free(a);
    free(b);
    a = post(server.port, "/detokenize", "", buf_str(&way_back));
    assert_int_equal(status_of(a), 200);
    assert_non_null(strstr(a, "{\"prompt\":\"abcdefgabcdefg"));
    assert_true(strlen(body_of(a)) > n);
    free(a);
    large.data[large.len - 1] = ' '; /* no JSON any more */
    a = post(server.port, "/tokenize", "", buf_str(&large));
    assert_int_equal(status_of(a), 400);
    free(a);
    large.data[large.len - 1] = '}';
    for (int i = 0; i < 8; i++) { /* clients that leave */
        assert_true(client_connect(&c, server.port, 0));
        client_post(&c, "/tokenize", "", buf_str(&large));
        if (i % 2)
            clock_sleep_us((uint64_t)i * 200);
        client_close(&c);
    }
    assert_soon(edge_active(server.edge) == 0);
    buf_fini(&small);
    buf_fini(&large);
    buf_fini(&way_back);
    server_stop(&server);
}

static void test_several_on_one_connection(void **state)
{
    (void)state;
    start();
    struct client c;
    char *large = body_of_size(40000, ",\"max_tokens\":2");
    assert_true(client_connect(&c, server.port, 0));
    for (int i = 0; i < 3; i++) {
        client_post(&c, CHAT, "", large);
        client_post(&c, CHAT, "",
                    "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],"
                    "\"max_tokens\":2}");
    }
    client_until(&c, "\"content\":\"ab\"", 6);
    client_close(&c);
    free(large);
    server_stop(&server);
}

/* A model that is replaced between plan and router: planned again, on the pool again. */
static void replace(struct router *r)
{
    struct fixture *f = &server.fixture;
    struct err e = {0};
    (void)r;
    f->served.generation = 8;
    assert_int_equal(edge_set_catalog(server.edge, &f->opts.served, &e), 0);
}

static void test_a_replaced_model(void **state)
{
    (void)state;
    server_prepare(&server);
    server.fixture.served.max_model_len = 1u << 20;
    server.fixture.served.generation = 7;
    server.fixture.opts.served.limits.max_body_bytes = 1u << 20;
    atomic_store(&server.router.gone, 7);
    server.router.on_gone = replace;
    server_start(&server);
    char *body = body_of_size(100000, ",\"max_tokens\":3");
    char *a = post(server.port, CHAT, "", body);
    assert_int_equal(status_of(a), 200);
    assert_int_equal(atomic_load(&server.router.generation), 8);
    free(a);
    free(body);
    server_stop(&server);
}

/* Clients that leave: before the job's turn, at work, when it has come back. */
static void test_clients_that_leave(void **state)
{
    (void)state;
    start();
    char *large = body_of_size(200000, ",\"max_tokens\":2");
    for (int i = 0; i < 16; i++) {
        struct client c;
        assert_true(client_connect(&c, server.port, 0));
        client_post(&c, CHAT, "", large);
        if (i % 4)
            clock_sleep_us((uint64_t)i * 400);
        client_close(&c);
    }
    assert_soon(edge_active(server.edge) == 0);
    char *a = post(server.port, CHAT, "", large);
    assert_int_equal(status_of(a), 200);
    free(a);
    free(large);
    server_stop(&server);
}

/* ---- long replies ---- */

#define LONG_REPLY                                                                                 \
    "{\"prompt\":\"x\",\"n\":64,\"temperature\":1,\"max_tokens\":150,\"return_token_ids\":true}"

static uint32_t occurrences(const char *text, const char *what)
{
    uint32_t n = 0;
    for (; (text = strstr(text, what)) != NULL; text++)
        n++;
    return n;
}

/* They are whole, and those who left meanwhile leave nothing behind. */
static void test_long_replies(void **state)
{
    (void)state;
    start();
    atomic_store(&server.router.step_us, 20);
    char *a = post(server.port, TEXT, "", LONG_REPLY);
    assert_int_equal(status_of(a), 200);
    assert_int_equal(occurrences(a, "\"finish_reason\":\"length\""), 64);
    assert_int_equal(occurrences(a, "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"),
                     64 * 4);
    assert_non_null(strstr(a, "\"completion_tokens\":9600,"));
    free(a);
    a = ask(server.port, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_non_null(strstr(a, "\nllmd_edge_prep_seconds_count 1.0\n"));
    free(a);
    for (uint32_t i = 0; i < 12; i++) {
        struct client c;
        assert_true(client_connect(&c, server.port, 0));
        client_post(&c, TEXT, "", LONG_REPLY);
        assert_soon(atomic_load(&server.router.n_submitted) == i + 2);
        assert_soon(router_running(&server.router) == 0);
        if (i % 3)
            clock_sleep_us((uint64_t)i * 100);
        client_close(&c);
    }
    assert_soon(edge_active(server.edge) == 0);
    server_stop(&server);
}

/* What waits for its plan gets an answer, and what comes back finds nobody. */
static void test_stop_meanwhile(void **state)
{
    (void)state;
    enum { CLIENTS = 8 };
    start();
    struct client c[CLIENTS];
    char *large = body_of_size(300000, ",\"max_tokens\":2");
    for (int i = 0; i < CLIENTS; i++) {
        assert_true(client_connect(&c[i], server.port, 0));
        client_post(&c[i], i % 3 ? CHAT : "/tokenize", "", large);
    }
    server_stop(&server);
    for (int i = 0; i < CLIENTS; i++) {
        assert_true(client_until_closed(&c[i]));
        client_close(&c[i]);
    }
    free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jobs_come_back_to_their_loop),
        cmocka_unit_test(test_a_full_queue_and_abandoned_jobs),
        cmocka_unit_test(test_nobody_takes_all_places),
        cmocka_unit_test(test_replies_are_those_of_small_bodies),
        cmocka_unit_test(test_tokenize),
        cmocka_unit_test(test_several_on_one_connection),
        cmocka_unit_test(test_a_replaced_model),
        cmocka_unit_test(test_clients_that_leave),
        cmocka_unit_test(test_long_replies),
        cmocka_unit_test(test_stop_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

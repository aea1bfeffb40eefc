/* test_edge_spans.c - whose requests the collector of traces hears of, over real sockets. */
#include <openssl/sha.h>

#include "core/edge/edge_int.h"
#include "core/observe/metrics.h"
#include "core/observe/traces.h"
#include "core/util/http.h"
#include "tests/unit/edge_server.h"

#define FIVE "{\"prompt\":\"abcde\",\"max_tokens\":10}"

static struct server server;

static void expect(const char *headers, int status)
{
    char *a = post(server.port, TEXT, headers, FIVE);
    if (status_of(a) != status)
        fail_msg("wanted %d, got:\n%s", status, a);
    free(a);
}

static bool shows(struct metrics *m, const char *line)
{
    struct buf out = {0};
    metrics_write(m, 0, &out);
    const bool found = strstr(buf_str(&out), line) != NULL;
    buf_fini(&out);
    return found;
}

#define NO_SPANS "\nllmd_trace_queue_bytes 0.0\n"

/* Whatever a stranger's traceparent says, the collector hears of who is let in. It is another server,
 * which has no such path and so ends the matter at once. */
static void test_strangers_are_not_traced(void **state)
{
    (void)state;
    static const char sampled[] =
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
    static const struct buf nothing;
    static const char secret[] = "sk-a";
    struct edge_key key = {.name = "a"};
    struct server collector;
    char url[64], mine[256];
    struct traces_opts o = {.url = url,
                            .ca_file = "",
                            .resource = &nothing,
                            .timeout_ms = PATIENCE_MS,
                            .batch_ms = 3600 * 1000,
                            .queue_bytes = TRACES_QUEUE_MIN};
    struct traces *traces = NULL;
    struct err e = {0};
    server_prepare(&collector);
    server_start(&collector);
    snprintf(url, sizeof(url), "http://127.0.0.1:%u/v1/traces", collector.port);
    SHA256((const unsigned char *)secret, strlen(secret), key.sha256);
    server_prepare(&server);
    server.fixture.opts.served.keys = &key;
    server.fixture.opts.served.n_keys = 1;
    assert_int_equal(http_global_init(&e), 0);
    assert_int_equal(traces_new(collector.fixture.opts.metrics, &traces, &e), 0);
    assert_int_equal(traces_set(traces, &o, &e), 0);
    server.fixture.opts.traces = traces;
    server_start(&server);
    expect(sampled, 401);
    assert_soon(edge_active(server.edge) == 0);
    assert_true(shows(collector.fixture.opts.metrics, NO_SPANS));
    snprintf(mine, sizeof(mine), "Authorization: Bearer %s\r\n%s", secret, sampled);
    expect(mine, 200);
    assert_soon(!shows(collector.fixture.opts.metrics, NO_SPANS));
    server_stop(&server);
    assert_true(traces_close(traces));
    server_stop(&collector);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strangers_are_not_traced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

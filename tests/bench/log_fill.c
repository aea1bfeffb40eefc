/* log_fill.c - log_fill DIRECTORY ROWS: a request log of the last day with that many rows, as a busy
 * server would leave it: 40 keys of very different use, 3 models, 8 workers, 1 % errors, long tails. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/store/store.h"
#include "core/util/clock.h"

static uint64_t state = 42;

/* In [0, 1). */
static double uniform(void)
{
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (double)(state >> 11) / 9007199254740992.0;
}

static int64_t tail(double scale)
{
    return (int64_t)(-log(1 - uniform()) * scale);
}

static void fill_row(struct store_row *row, int64_t time_us, uint64_t i)
{
    static const char *const models[] = {"llama-3.1-8b-instruct", "qwen2.5-7b-instruct",
                                         "rare-model"};
    static char id[40], key[16], session[17];
    const bool failed = uniform() < 0.01;
    snprintf(id, sizeof(id), "chatcmpl-%016llx", (unsigned long long)(i * 0x9e3779b97f4a7c15ull));
    snprintf(key, sizeof(key), "team-%d", (int)(pow(uniform(), 4) * 40));
    snprintf(session, sizeof(session), "%016llx", (unsigned long long)(uniform() * 1e15));
    store_row_init(row);
    row->time_us = time_us;
    row->id = id;
    row->key = key;
    row->client = "10.0.0.17";
    row->endpoint = "/v1/chat/completions";
    row->model = models[uniform() < 0.7 ? 0 : uniform() < 0.9995 ? 1 : 2];
    row->worker = (int64_t)(uniform() * 8);
    row->session = session;
    row->prefix = "f46d8188.106611f7.a1b2c3d4.00112233.44556677";
    row->stream = 1;
    row->status = failed ? 503 : 200;
    row->finish = failed ? "error" : uniform() < 0.3 ? "length" : "stop";
    row->error = failed ? "256 requests wait already; try again later" : NULL;
    row->route_reason = "cached";
    row->prompt_tokens = 200 + tail(800);
    row->cached_tokens = row->prompt_tokens / 2;
    row->output_tokens = 1 + tail(200);
    row->choices = 1;
    row->edge_us = 300 + tail(500);
    row->queue_us = tail(20000);
    row->prefill_us = 5000 + tail(50000);
    row->first_token_us = row->edge_us + row->queue_us + row->prefill_us;
    row->total_us = row->first_token_us + row->output_tokens * 20000;
    row->slowest_gap_us = 20000 + tail(20000);
    row->slowest_gap_cause = "prefill";
    row->preemptions = row->migrations = 0;
    row->request_bytes = row->prompt_tokens * 4;
    row->reply_bytes = row->output_tokens * 180;
    row->route =
        "[{\"number\":1,\"reason\":\"cached\",\"candidates\":[{\"worker\":0,\"cost\":12.5}]}]";
    row->timeline = "{\"chunks\":[[0,512,20000]],\"gaps\":[[100,40000,\"prefill\"]]}";
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fputs("usage: log_fill DIRECTORY ROWS\n", stderr);
        return 2;
    }
    const uint64_t n = strtoull(argv[2], NULL, 10);
    const struct store_opts o = {.directory = argv[1], .buffer_bytes = 64 << 20};
    struct store *s;
    struct store_status st;
    struct err e = {0};
    if (n == 0 || store_open(&o, &s, &e) != 0) {
        fprintf(stderr, "log_fill: %s\n", e.msg);
        return 1;
    }
    const int64_t now_us = (int64_t)clock_wall_us(), day_us = 86400ll * 1000000;
    const uint64_t began_us = clock_now_us();
    for (uint64_t i = 0; i < n; i++) {
        struct store_row row;
        fill_row(&row, now_us - day_us + (int64_t)((double)i * (double)day_us / (double)n), i);
        while (!store_log(s, &row))
            clock_sleep_us(2000);
    }
    do {
        clock_sleep_us(2000);
        store_status(s, &st);
    } while (st.n_written < n && !st.degraded);
    const double seconds = (double)(clock_now_us() - began_us) * 1e-6;
    printf("%llu rows in %.1f s: %.0f rows/s%s%s\n", (unsigned long long)st.n_written, seconds,
           (double)st.n_written / seconds, st.degraded ? "; " : "", st.degraded ? st.why : "");
    store_close(s);
    return st.n_written < n;
}

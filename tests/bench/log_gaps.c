/* log_gaps.c - log_gaps [SECONDS [ROUNDS]]: does logging 10,000 rows a second change the gaps between
 * tokens? 32 streams of a simulated worker (10 ms a step), read by one thread as the edge does, which
 * also logs. Phases without and with rows take turns; the last line compares their gaps. */
#include "tests/unit/worker_fixture.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "core/store/store.h"

enum { N_STREAMS = 32, STEP_US = 10000, ROWS_PER_S = 10000, MAX_GAPS = 4 << 20 };

struct phase {
    uint32_t *gaps_us;
    size_t n;
    uint64_t us, n_rows, n_refused;
};

struct bench {
    struct sample_llama sample;
    struct worker_opts opts;
    struct noted_worker worker;
    struct waker waker;
    struct reader readers[N_STREAMS];
    uint64_t last_us[N_STREAMS];
    struct store *store;
    char directory[64];
    struct phase phases[2];
};

static void begin(struct bench *b, uint32_t n_tokens)
{
    static const uint32_t prompt[] = {1, 2, 3, 4};
    struct err e = {0};
    sample_open(&b->sample);
    b->opts = sim_worker_opts(&b->sample);
    b->opts.sim_step_us = STEP_US;
    b->opts.max_num_seqs = N_STREAMS;
    b->opts.max_model_len = n_tokens + 64;
    b->opts.kv_cache_blocks = N_STREAMS * (n_tokens / 16 + 8);
    noted_start(&b->worker, &b->opts);
    assert_int_equal(waker_init(&b->waker, &e), 0);
    snprintf(b->directory, sizeof(b->directory), "/tmp/llmd-gaps-XXXXXX");
    assert_non_null(mkdtemp(b->directory));
    const struct store_opts o = {.directory = b->directory};
    assert_int_equal(store_open(&o, &b->store, &e), 0);
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        reader_init(&b->readers[i], &b->waker, prompt, 4, n_tokens, 1);
        if (reader_submit(&b->readers[i], b->worker.w, &e) != 0)
            fail_msg("%s", e.msg);
    }
    for (int i = 0; i < 2; i++) {
        b->phases[i].gaps_us = malloc(MAX_GAPS * sizeof(uint32_t));
        assert_non_null(b->phases[i].gaps_us);
    }
}

/* Waits for the step's wake-up and takes all tokens. */
static void take_tokens(struct bench *b, struct phase *p)
{
    struct request *ready[N_STREAMS];
    struct stream_item items[64];
    struct pollfd wake = {.fd = b->waker.event_fd, .events = POLLIN};
    (void)poll(&wake, 1, 100);
    uint32_t n = waker_take(&b->waker, ready, N_STREAMS);
    uint64_t now_us = clock_now_us();
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = 0;
        while (b->readers[k].r != ready[i])
            k++;
        uint32_t n_items = stream_pull(ready[i], items, ARRAY_LEN(items));
        if (n_items > 0 && b->last_us[k] != 0 && p->n < MAX_GAPS)
            p->gaps_us[p->n++] = (uint32_t)(now_us - b->last_us[k]);
        if (n_items > 0)
            b->last_us[k] = now_us;
        request_unref(ready[i]);
    }
}

static void log_rows(struct bench *b, struct phase *p, uint64_t want)
{
    static uint64_t number;
    for (; p->n_rows + p->n_refused < want; number++) {
        char id[40];
        struct store_row row;
        store_row_init(&row);
        snprintf(id, sizeof(id), "chatcmpl-%016llx",
                 (unsigned long long)(number * 0x9e3779b97f4a7c15ull));
        row.time_us = (int64_t)clock_wall_us();
        row.id = id;
        row.key = "team";
        row.client = "10.0.0.17";
        row.endpoint = "/v1/chat/completions";
        row.model = "llama-3.1-8b-instruct";
        row.worker = 3;
        row.status = 200;
        row.finish = "stop";
        row.prompt_tokens = row.output_tokens = row.total_us = 1000;
        row.first_token_us = row.queue_us = 500;
        row.route =
            "[{\"number\":1,\"reason\":\"cached\",\"candidates\":[{\"worker\":0,\"cost\":12.5}]}]";
        row.timeline = "{\"chunks\":[[0,512,20000]],\"gaps\":[[100,40000,\"prefill\"]]}";
        if (store_log(b->store, &row))
            p->n_rows++;
        else
            p->n_refused++;
    }
}

static void run_phase(struct bench *b, int with, uint64_t seconds)
{
    struct phase *p = &b->phases[with];
    const uint64_t began_us = clock_now_us(), until_us = began_us + seconds * 1000000;
    memset(b->last_us, 0, sizeof(b->last_us)); /* the gap across the border belongs to neither */
    const uint64_t before = p->n_rows + p->n_refused;
    while (clock_now_us() < until_us) {
        take_tokens(b, p);
        if (with)
            log_rows(b, p, before + (clock_now_us() - began_us) * ROWS_PER_S / 1000000);
    }
    p->us += clock_now_us() - began_us;
}

static int compare(const void *a, const void *b)
{
    return (*(const uint32_t *)a > *(const uint32_t *)b) -
           (*(const uint32_t *)a < *(const uint32_t *)b);
}

static double gap_ms(const struct phase *p, double percentile)
{
    return p->gaps_us[(size_t)((double)(p->n - 1) * percentile)] / 1000.0;
}

static void report(const struct bench *b)
{
    static const char *const names[] = {"without", "with"};
    struct store_status st;
    store_status(b->store, &st);
    for (int i = 0; i < 2; i++) {
        struct phase p = b->phases[i];
        qsort(p.gaps_us, p.n, sizeof(*p.gaps_us), compare);
        printf("%-8s %3.0f s, %8zu gaps: p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, max %.2f ms; "
               "%.0f rows/s, %llu refused\n",
               names[i], (double)p.us * 1e-6, p.n, gap_ms(&p, 0.5), gap_ms(&p, 0.99),
               gap_ms(&p, 0.999), gap_ms(&p, 1), (double)p.n_rows / ((double)p.us * 1e-6),
               (unsigned long long)p.n_refused);
    }
    printf("rows written %llu, dropped %llu; gap p99 with rows / without: %.3f\n",
           (unsigned long long)st.n_written, (unsigned long long)st.n_dropped,
           gap_ms(&b->phases[1], 0.99) / gap_ms(&b->phases[0], 0.99));
}

int main(int argc, char **argv)
{
    const uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 10) : 10;
    const uint64_t rounds = argc > 2 ? strtoull(argv[2], NULL, 10) : 6;
    struct bench *b = calloc(1, sizeof(*b));
    char command[128];
    if (!b || seconds == 0 || rounds == 0)
        return 2;
    begin(b, (uint32_t)(2 * seconds * rounds * 1000000 / STEP_US + 1000));
    run_phase(b, 0, 1);
    b->phases[0] = (struct phase){.gaps_us = b->phases[0].gaps_us}; /* that was the warm-up */
    for (uint64_t i = 0; i < rounds; i++) {
        run_phase(b, 0, seconds);
        run_phase(b, 1, seconds);
    }
    struct store_status st = {0};
    for (int i = 0;
         i < 200 && st.n_written + st.n_dropped < b->phases[1].n_rows + b->phases[1].n_refused;
         i++) { /* the last batch */
        clock_sleep_us(50000);
        store_status(b->store, &st);
    }
    report(b);
    worker_stop(b->worker.w);
    noted_wait_dead(&b->worker);
    store_close(b->store);
    snprintf(command, sizeof(command), "rm -rf %s", b->directory);
    return system(command) != 0;
}

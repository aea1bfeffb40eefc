/* drill_workers.c - workers lost at random moments under load; no client may notice.
 *
 *     drill_workers sim|cpu N_LOSSES            (from the root of the tree)
 *
 * 32 streams, greedy and sampled, some with two choices, some with logprobs of their tokens, of their
 * prompts (as echo tells them) or both, run over four simulated workers or two CPU
 * workers with the demo model, each replaced by another as soon as it ends. N_LOSSES times a worker
 * is taken away in the middle of whatever it does, and started again by the supervisor's rules. Every
 * text is compared, token by token and logprob by logprob, with that of one worker that nobody disturbs. Simulated workers
 * also fail by themselves (a device error) and stall.
 *
 * Last line: "N passed, N failed": texts. */
#include <stdio.h>

#include "core/router/router.h"
#include "core/supervise/supervise.h"
#include "core/util/fault.h"
#include "tests/unit/worker_fixture.h"

#define MODEL_PATH "models/SmolLM2-135M-Instruct.Q4_1.gguf"

enum { MAX_WORKERS = 4, N_STREAMS = 32, N_TEXTS = 64 };

/* A text and what was told of its tokens. */
struct told {
    struct reader rd;
    struct buf
        logprobs[2]; /* of each choice: struct token_logprob, as many of each token as are wanted */
};

struct drill {
    bool sim;
    uint32_t n_workers, n_losses;
    struct model *model;
    struct sample_llama sample;
    struct shared_weights *shared;
    struct router *router;
    struct supervise *supervise;
    struct worker_opts opts[MAX_WORKERS];
    struct told expected[N_TEXTS];
    uint32_t seed, n_passed, n_failed, n_moves, n_told_moves, next_text;
};

static uint32_t rnd(struct drill *d, uint32_t n)
{
    d->seed = d->seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(d->seed >> 8) * n >> 24);
}

/* Text t is always the same request. */
static void make_request(const struct drill *d, struct told *told, uint32_t t)
{
    struct reader *rd = &told->rd;
    uint32_t prompt[200];
    const uint32_t n_prompt = 24 + t * 11 % 150, n = t % 8 == 3 ? 2 : 1;
    const uint32_t vocab = d->sim ? 200 : 40000;
    for (uint32_t i = 0; i < n_prompt; i++) /* a few families with a common beginning */
        prompt[i] = 20 + (i < 64 ? t % 5 * 977 + i * 31 : t * 7919 + i * 17) % (vocab - 20);
    memset(told, 0, sizeof(*told));
    reader_prepare(rd, prompt, n_prompt, 30 + t * 7 % 50, n);
    rd->r->sampling.logprobs = (struct logprobs_wanted){.on = t % 4 >= 2, .n_top = t % 6};
    rd->r->sampling.prompt_logprobs = (struct logprobs_wanted){.on = t % 8 >= 5, .n_top = t % 3};
    assert_int_equal(stream_init(rd->r, NULL, n, NULL), 0);
    rd->r->model = "drill";
    rd->r->sampling.seed = t;
    rd->r->sampling.temperature = t % 3 ? 0.8f : 0.0f;
    rd->r->sampling.frequency_penalty = t % 4 == 1 ? 0.5f : 0.0f;
}

static void submit(struct drill *d, struct told *told)
{
    struct err e = {0};
    if (router_submit(d->router, request_ref(told->rd.r), &e) != 0)
        fail_msg("submission refused: %s", e.msg);
}

/* Reads what there is. True: that was the end of every choice. */
static bool read_on(struct told *told)
{
    struct token_logprob logprobs[1 + MAX_TOP_LOGPROBS];
    struct reader *rd = &told->rd;
    const uint32_t n_each = sampling_n_logprobs(&rd->r->sampling);
    struct stream_item item;
    while (stream_pull_logprobs(rd->r, &item, 1, logprobs) == 1) {
        const uint32_t c = item.choice;
        assert_int_equal(rd->finish[c], FINISH_NONE);
        rd->finish[c] = item.finish;
        if (item.token == STREAM_NO_TOKEN)
            continue;
        assert_true(rd->n_got[c] < rd->max_tokens);
        rd->got[c][rd->n_got[c]++] = item.token;
        buf_add(&told->logprobs[c], logprobs, n_each * sizeof(logprobs[0]));
    }
    return reader_finished(rd);
}

static void told_fini(struct told *told)
{
    buf_fini(&told->logprobs[0]);
    buf_fini(&told->logprobs[1]);
    reader_fini(&told->rd);
}

static void start(struct drill *d, uint32_t n, bool faults)
{
    const struct router_model_opts o = {.max_queue = 1000, .max_migrations = 100};
    if (faults) { /* each time that such a worker starts */
        fault_add(&(struct fault){.point = FAULT_STEP_FAILS, .worker = 1, .at = 900});
        fault_add(
            &(struct fault){.point = FAULT_STEP_STALLS, .worker = 2, .at = 1500, .us = 1000000});
    }
    assert_int_equal(router_new(&d->router, NULL), 0);
    assert_int_equal(router_add_model(d->router, "drill", &o, NULL), 0);
    for (uint32_t i = 0; i < n; i++) {
        d->opts[i] = sim_worker_opts(&d->sample);
        d->opts[i].index = i;
        d->opts[i].sim_step_us = faults ? 1000 : 0;
        if (!d->sim) {
            d->opts[i].device = DEVICE_CPU;
            d->opts[i].model = d->model;
            d->opts[i].shared = d->shared;
            d->opts[i].n_threads = 1;
            d->opts[i].isa = "auto";
            d->opts[i].kv_cache_blocks = 600;
        }
        assert_int_equal(router_start_worker(d->router, "drill", &d->opts[i], NULL), 0);
    }
    assert_soon(router_all_ready(d->router));
}

static void stop(struct drill *d)
{
    if (!router_shutdown(d->router, clock_now_us() + PATIENCE_US))
        fail_msg("a worker's thread did not end");
    router_free(d->router);
}

static void undisturbed(struct drill *d)
{
    start(d, 1, false);
    for (uint32_t t = 0; t < N_TEXTS; t++) {
        make_request(d, &d->expected[t], t);
        submit(d, &d->expected[t]);
    }
    for (uint32_t t = 0; t < N_TEXTS; t++)
        assert_soon(read_on(&d->expected[t]));
    stop(d);
}

static bool same_scores(const struct request *a, const struct request *b)
{
    const struct stream_scores *x = a->stream.scores, *y = b->stream.scores;
    if (!x || !y)
        return x == y;
    return x->n == y->n && x->n == a->n_prompt &&
           memcmp(x->ranks + 1, y->ranks + 1, (x->n - 1) * sizeof(*x->ranks)) == 0 &&
           memcmp(x->logprobs, y->logprobs, (size_t)x->n * x->n_each * sizeof(*x->logprobs)) == 0;
}

/* NULL: nothing differs. */
static const char *difference(const struct told *a, const struct told *b)
{
    const struct reader *x = &a->rd, *y = &b->rd;
    for (uint32_t i = 0; i < x->r->sampling.n; i++) {
        const struct buf *p = &a->logprobs[i], *q = &b->logprobs[i];
        if (x->n_got[i] != y->n_got[i] || x->finish[i] != y->finish[i] ||
            memcmp(x->got[i], y->got[i], x->n_got[i] * sizeof(uint32_t)) != 0)
            return "other tokens";
        if (p->len != q->len || (p->len > 0 && memcmp(p->data, q->data, p->len) != 0))
            return "other logprobs";
    }
    return same_scores(x->r, y->r) ? NULL : "other logprobs of the prompt";
}

struct running {
    struct told told;
    uint32_t text;
};

static void start_stream(struct drill *d, struct running *s)
{
    s->text = d->next_text++ % N_TEXTS;
    make_request(d, &s->told, s->text);
    submit(d, &s->told);
}

static void judge(struct drill *d, struct running *s)
{
    struct err e = {0};
    struct request *r = s->told.rd.r;
    const char *what = difference(&s->told, &d->expected[s->text]);
    d->n_moves += r->trace.n_migrations;
    d->n_told_moves +=
        r->trace.n_migrations > 0 && (s->told.logprobs[0].len > 0 || r->stream.scores);
    if (!what)
        d->n_passed++;
    else {
        d->n_failed++;
        (void)stream_error(r, &e);
        fprintf(stderr, "text %u differs after %u moves: %s\n", s->text, r->trace.n_migrations,
                e.code ? e.msg : what);
    }
    told_fini(&s->told);
}

/* Takes a worker away, if two are ready, so that one is left. */
static bool lose_one(struct drill *d)
{
    static const struct err why = {.code = LLMD_EWORKER, .msg = "taken away by the drill"};
    struct router_worker_view v[MAX_WORKERS];
    uint32_t ready[MAX_WORKERS], n_ready = 0;
    (void)router_workers(d->router, v, MAX_WORKERS);
    for (uint32_t i = 0; i < d->n_workers; i++)
        if (v[i].status.state == WORKER_READY)
            ready[n_ready++] = i;
    if (n_ready < 2)
        return false;
    router_lose(d->router, ready[rnd(d, n_ready)], &why);
    return true;
}

static void run(struct drill *d)
{
    const struct supervise_opts so = {.router = d->router,
                                      .tick_us = 2000,
                                      .suspect_us = 100000, /* more than a busy machine takes */
                                      .stall_us = 300000,
                                      .restart_first_us = 5000};
    static struct running streams[N_STREAMS];
    assert_int_equal(supervise_start(&so, &d->supervise, NULL), 0);
    for (uint32_t i = 0; i < N_STREAMS; i++)
        start_stream(d, &streams[i]);
    uint64_t next_us = 0;
    for (uint32_t lost = 0; lost < d->n_losses;) {
        for (uint32_t i = 0; i < N_STREAMS; i++) {
            if (!read_on(&streams[i].told))
                continue;
            judge(d, &streams[i]);
            start_stream(d, &streams[i]);
        }
        if (clock_now_us() >= next_us && lose_one(d)) {
            lost++;
            next_us = clock_now_us() + rnd(d, d->sim ? 40000 : 1500000);
        }
        clock_sleep_us(500);
    }
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        assert_soon(read_on(&streams[i].told));
        judge(d, &streams[i]);
    }
    supervise_stop(d->supervise);
}

static void drill(void **state)
{
    struct drill *d = *state;
    if (d->sim)
        sample_open(&d->sample);
    else {
        struct err e = {0};
        sample_open(&d->sample);
        if (model_open(MODEL_PATH, &d->model, &e) != 0)
            fail_msg("%s", e.msg);
        assert_int_equal(shared_weights_new(&d->shared), 0);
    }
    undisturbed(d);
    start(d, d->n_workers, true);
    run(d);
    stop(d);
    for (uint32_t t = 0; t < N_TEXTS; t++)
        told_fini(&d->expected[t]);
    if (d->shared)
        shared_weights_unref(d->shared);
    model_free(d->model);
    sample_close(&d->sample);
}

int main(int argc, char **argv)
{
    static struct drill d = {.seed = 7};
    if (argc != 3 || (strcmp(argv[1], "sim") != 0 && strcmp(argv[1], "cpu") != 0)) {
        fprintf(stderr, "usage: drill_workers sim|cpu N_LOSSES\n");
        return 2;
    }
    d.sim = argv[1][0] == 's';
    d.n_workers = d.sim ? 4 : 2;
    d.n_losses = (uint32_t)strtoul(argv[2], NULL, 10);
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(drill, &d)};
    const uint64_t began_us = clock_now_us();
    const int rc = cmocka_run_group_tests(tests, NULL, NULL);
    printf(
        "%s: %u workers taken away under %u streams in %.1f s, texts went on elsewhere %u times, "
        "%u of those with logprobs\n",
        argv[1], d.n_losses, (unsigned)N_STREAMS, (double)(clock_now_us() - began_us) / 1e6,
        d.n_moves, d.n_told_moves);
    printf("%u passed, %u failed\n", d.n_passed, d.n_failed + (rc != 0));
    return rc != 0 || d.n_failed > 0;
}

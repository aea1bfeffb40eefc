/* routing.c - what each routing policy does to the time to first token.
 *
 *     routing sim|cpu SECONDS [REPEATS [WORKLOAD]...]         (from the root of the tree)
 *
 * sim: eight simulated workers (a step takes 4 ms and 30 us per row; a KV cache of 1,500 blocks each).
 * cpu: two workers of one thread each, with SmolLM2 135M and 160 blocks each. Both under the workloads of
 * real services, in miniature: open arrivals at fixed times, or sessions whose next turn follows the
 * last. Router, scheduler and prefix cache are those of the server. For each workload every policy gets
 * the same requests, one after the other; then all of it is repeated. One JSON object per run;
 * tests/bench/routing.sh makes the table of them. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/router/router.h"
#include "core/util/clock.h"
#include "tests/unit/worker_fixture.h"

#define MODEL_PATH "models/SmolLM2-135M-Instruct.Q4_1.gguf"

enum {
    MAX_WORKERS = 8,
    STEP_US = 4000,
    ROW_NS = 30000,
    MAX_PROMPT = 4096,
    MAX_OPEN = 4096,
    VOCAB = 200,
};

/* Sizes are tokens, times microseconds. */
struct workload {
    const char *name, *what;
    uint32_t n_prefixes; /* drawn by Zipf's law when zipf, else evenly */
    bool zipf;
    uint32_t prefix_tokens; /* shared by the requests of a prefix */
    uint32_t own_tokens;    /* of each request alone */
    uint32_t output_tokens;
    uint32_t per_s; /* requests, open arrivals; 0: sessions */
    uint32_t burst; /* requests that arrive together, of one new prefix; 0: alone */
    uint32_t n_sessions, n_turns, think_us; /* sessions: each turn repeats what was before */
};

static const struct workload sim_workloads[] = {
    {"agents", "96 sessions of 6 turns behind one system prompt", 1, false, 640, 160, 24, 0, 0, 96,
     6, 50000},
    {"tenants", "60 tenants with a prefix each", 60, false, 1536, 128, 24, 90, 0, 0, 0, 0},
    {"bursts", "bursts of 16 siblings with a new prefix", 1, false, 1024, 32, 16, 96, 16, 0, 0, 0},
    {"zipf", "200 prefixes by Zipf's law", 200, true, 1024, 128, 24, 110, 0, 0, 0, 0},
    {"hot", "one hot prefix", 1, false, 1024, 64, 32, 160, 0, 0, 0, 0},
    {"paced", "64 sessions of 8 turns, with pauses", 64, false, 512, 192, 24, 0, 0, 64, 8, 400000},
    {"unique", "prompts that share nothing", UINT32_MAX, false, 0, 512, 24, 100, 0, 0, 0, 0},
};

static const struct workload cpu_workloads[] = {
    {"agents", "10 sessions of 4 turns behind one system prompt", 1, false, 256, 48, 12, 0, 0, 10,
     4, 1200000},
    {"tenants", "10 tenants with a prefix each", 10, false, 256, 32, 8, 5, 0, 0, 0, 0},
    {"bursts", "bursts of 6 siblings with a new prefix", 1, false, 320, 16, 8, 5, 6, 0, 0, 0},
    {"zipf", "20 prefixes by Zipf's law", 20, true, 256, 32, 8, 5, 0, 0, 0, 0},
    {"hot", "one hot prefix", 1, false, 256, 48, 16, 8, 0, 0, 0, 0},
    {"quiet", "one prefix, seldom asked for", 1, false, 512, 32, 8, 2, 0, 0, 0, 0},
    {"paced", "8 sessions of 4 turns, with pauses", 64, false, 192, 48, 8, 0, 0, 8, 4, 1600000},
    {"unique", "prompts that share nothing", UINT32_MAX, false, 0, 160, 8, 4, 0, 0, 0, 0},
};

/* Workers, and what they are given to do. */
struct rig {
    const char *name;
    uint32_t n_workers, kv_blocks, max_num_seqs, max_num_batched_tokens;
    const struct workload *workloads;
    uint32_t n_workloads;
};

static const struct rig rigs[] = {
    {"sim", 8, 1500, 64, 512, sim_workloads, ARRAY_LEN(sim_workloads)},
    {"cpu", 2, 160, 16, 256, cpu_workloads, ARRAY_LEN(cpu_workloads)},
};

struct session {
    uint32_t prefix, turn, n_tokens;
    uint32_t *tokens; /* [MAX_PROMPT] what was said so far */
};

struct job {
    struct request *r;
    struct session *session; /* NULL: open arrival */
    uint32_t n_got;
};

struct arrival {
    uint64_t at_us;
    struct session *session;
    uint32_t prefix, number;
};

struct bench {
    const struct rig *rig;
    const struct workload *wl;
    enum route_policy policy;
    uint32_t repeat;
    struct sample_llama sample;
    struct model *model; /* cpu */
    struct shared_weights *shared;
    struct router *router;
    struct worker_opts opts[MAX_WORKERS];
    struct waker waker;
    struct arrival *arrivals; /* heap-less: sorted insertion; few at a time */
    uint32_t n_arrivals, cap_arrivals;
    struct session *sessions;
    uint32_t n_open, number, seed;
    uint64_t began_us;
    double *ttft_ms; /* [n_done] */
    uint32_t n_done, cap_done, n_failed;
    uint64_t n_prompt, n_cached;
    uint32_t per_worker[MAX_WORKERS];
};

static uint32_t rnd(struct bench *b, uint32_t n)
{
    b->seed = b->seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(b->seed >> 8) * n >> 24);
}

/* --- arrivals, soonest first --- */

static void arrive(struct bench *b, struct arrival a)
{
    if (b->n_arrivals == b->cap_arrivals) {
        b->cap_arrivals = b->cap_arrivals * 2 + 64;
        b->arrivals = realloc(b->arrivals, b->cap_arrivals * sizeof(a));
        BUG_ON(!b->arrivals);
    }
    uint32_t i = b->n_arrivals++;
    for (; i > 0 && b->arrivals[i - 1].at_us < a.at_us; i--) /* the last one is the soonest */
        b->arrivals[i] = b->arrivals[i - 1];
    b->arrivals[i] = a;
}

static uint32_t draw_prefix(struct bench *b)
{
    const struct workload *wl = b->wl;
    if (wl->n_prefixes == UINT32_MAX)
        return b->number * 31 + 7;
    if (!wl->zipf)
        return rnd(b, wl->n_prefixes);
    double sum = 0, at = rnd(b, 1 << 20) / (double)(1 << 20);
    for (uint32_t i = 1; i <= wl->n_prefixes; i++)
        sum += 1.0 / i;
    for (uint32_t i = 1; i <= wl->n_prefixes; i++)
        if ((at -= 1.0 / i / sum) <= 0)
            return i;
    return wl->n_prefixes;
}

static void plan_open(struct bench *b, uint32_t seconds)
{
    const struct workload *wl = b->wl;
    const uint32_t n = wl->per_s * seconds, together = wl->burst ? wl->burst : 1;
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t slot_us = (uint64_t)(i / together) * together * 1000000 / wl->per_s;
        const uint32_t jitter_us = wl->burst ? i % together * 200 : rnd(b, 1000000 / wl->per_s);
        b->number = i;
        arrive(b, (struct arrival){.at_us = slot_us + jitter_us,
                                   .prefix = wl->burst ? 1000 + i / together : draw_prefix(b),
                                   .number = i});
    }
}

static void plan_sessions(struct bench *b)
{
    const struct workload *wl = b->wl;
    b->sessions = calloc(wl->n_sessions, sizeof(*b->sessions));
    BUG_ON(!b->sessions);
    for (uint32_t i = 0; i < wl->n_sessions; i++) {
        struct session *s = &b->sessions[i];
        s->tokens = calloc(MAX_PROMPT, sizeof(*s->tokens));
        BUG_ON(!s->tokens);
        s->prefix = i % wl->n_prefixes;
        for (; s->n_tokens < wl->prefix_tokens; s->n_tokens++)
            s->tokens[s->n_tokens] = (s->prefix * 17 + s->n_tokens * 3) % VOCAB;
        arrive(b, (struct arrival){
                      .at_us = rnd(b, 1000000), .session = s, .prefix = s->prefix, .number = i});
    }
}

/* --- requests --- */

static struct job *job_new(struct bench *b, const struct arrival *a)
{
    const struct workload *wl = b->wl;
    struct job *j = calloc(1, sizeof(*j));
    BUG_ON(!j || request_new(&j->r) != 0);
    struct request *r = j->r;
    uint32_t *tokens = arena_array(&r->arena, MAX_PROMPT, sizeof(*tokens)), n = 0;
    BUG_ON(!tokens);
    j->session = a->session;
    if (a->session) {
        struct session *s = a->session;
        for (uint32_t i = 0; i < wl->own_tokens; i++)
            s->tokens[s->n_tokens++] = (a->number * 13 + s->turn * 29 + i * 7) % VOCAB;
        memcpy(tokens, s->tokens, s->n_tokens * sizeof(*tokens));
        n = s->n_tokens;
        r->session = a->number + 1;
    } else {
        for (; n < wl->prefix_tokens; n++)
            tokens[n] = (a->prefix * 17 + n * 3 + a->prefix / VOCAB * n) % VOCAB;
        for (uint32_t i = 0; i < wl->own_tokens; i++)
            tokens[n++] = (a->number * 13 + a->number / VOCAB * (i + 1) + i * 7) % VOCAB;
        r->session = a->prefix + 1; /* the tenant */
    }
    r->model = "bench";
    r->key_name = "";
    r->prompt = tokens;
    r->n_prompt = n;
    r->arrival_us = b->began_us + a->at_us;
    r->consumer = j;
    r->sampling = (struct sampling_params){.top_p = 1,
                                           .repetition_penalty = 1,
                                           .n = 1,
                                           .max_tokens = wl->output_tokens,
                                           .ignore_eos = true,
                                           .seed = a->number};
    BUG_ON(stream_init(r, &b->waker, 1, NULL) != 0);
    return j;
}

static void next_turn(struct bench *b, struct job *j)
{
    struct session *s = j->session;
    uint32_t n;
    bool finished;
    const uint32_t *output = stream_kept(j->r, 0, &n, &finished);
    if (!s || ++s->turn == b->wl->n_turns ||
        s->n_tokens + n + b->wl->own_tokens + b->wl->output_tokens > MAX_PROMPT)
        return;
    for (uint32_t i = 0; i < n; i++)
        s->tokens[s->n_tokens++] = output[i];
    const uint32_t pause_us = b->wl->think_us / 2 + rnd(b, b->wl->think_us);
    arrive(b, (struct arrival){.at_us = clock_now_us() - b->began_us + pause_us,
                               .session = s,
                               .prefix = s->prefix,
                               .number = (uint32_t)(s - b->sessions)});
}

static void job_over(struct bench *b, struct job *j)
{
    const struct request_trace *t = &j->r->trace;
    if (b->n_done == b->cap_done) {
        b->cap_done = b->cap_done * 2 + 256;
        b->ttft_ms = realloc(b->ttft_ms, b->cap_done * sizeof(*b->ttft_ms));
        BUG_ON(!b->ttft_ms);
    }
    b->ttft_ms[b->n_done++] = (double)(t->first_token_us - j->r->arrival_us) / 1000;
    b->n_prompt += j->r->n_prompt;
    b->n_cached += t->n_cached_tokens;
    b->per_worker[t->worker]++;
    next_turn(b, j);
    b->n_open--;
    request_unref(j->r);
    free(j);
}

static void submit(struct bench *b, const struct arrival *a)
{
    struct job *j = job_new(b, a);
    struct err e = {0};
    if (router_submit(b->router, request_ref(j->r), &e) == 0) {
        b->n_open++;
        return;
    }
    b->n_failed++;
    request_unref(j->r);
    request_unref(j->r);
    free(j);
}

static void pull(struct bench *b)
{
    struct request *ready[64];
    for (uint32_t n; (n = waker_take(&b->waker, ready, 64)) > 0;)
        for (uint32_t i = 0; i < n; i++) {
            struct job *j = ready[i]->consumer;
            struct stream_item items[64];
            bool over = false;
            for (uint32_t k; (k = stream_pull(ready[i], items, 64)) > 0;)
                over |= items[k - 1].finish != FINISH_NONE;
            request_unref(ready[i]);
            if (over)
                job_over(b, j);
        }
}

/* --- one run --- */

static void set_worker(struct bench *b, uint32_t i)
{
    struct worker_opts *o = &b->opts[i];
    *o = sim_worker_opts(&b->sample);
    o->index = i;
    o->max_model_len = MAX_PROMPT + 512;
    o->max_num_seqs = b->rig->max_num_seqs;
    o->max_num_batched_tokens = b->rig->max_num_batched_tokens;
    o->kv_cache_blocks = b->rig->kv_blocks;
    o->max_queue = 1000;
    o->sim_step_us = STEP_US;
    o->sim_row_ns = ROW_NS;
    if (!b->model)
        return;
    o->device = DEVICE_CPU;
    o->isa = "auto";
    o->n_threads = 1;
    o->model = b->model;
    o->shared = b->shared;
}

static void start(struct bench *b)
{
    const struct router_model_opts o = {
        .policy = b->policy, .max_queue = 10000, .max_migrations = 2};
    BUG_ON(router_new(&b->router, NULL) != 0);
    BUG_ON(router_add_model(b->router, "bench", &o, NULL) != 0);
    for (uint32_t i = 0; i < b->rig->n_workers; i++) {
        set_worker(b, i);
        BUG_ON(router_start_worker(b->router, "bench", &b->opts[i], NULL) != 0);
    }
    struct router_worker_view v[MAX_WORKERS];
    for (uint32_t ready = 0; ready < b->rig->n_workers;) {
        ready = 0;
        for (uint32_t i = 0; i < router_workers(b->router, v, MAX_WORKERS); i++)
            ready += v[i].status.state == WORKER_READY;
        clock_sleep_us(1000);
    }
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(struct bench *b)
{
    double sum = 0;
    uint32_t most = 0;
    qsort(b->ttft_ms, b->n_done, sizeof(*b->ttft_ms), by_value);
    for (uint32_t i = 0; i < b->n_done; i++)
        sum += b->ttft_ms[i];
    printf("{\"rig\": \"%s\", \"repeat\": %u, \"workload\": \"%s\", \"what\": \"%s\", \"policy\": "
           "\"%s\", \"requests\": %u, "
           "\"failed\": %u, \"ttft_ms\": {\"mean\": %.2f, \"p50\": %.2f, \"p99\": %.2f}, "
           "\"hit_rate\": %.4f, \"share\": [",
           b->rig->name, b->repeat, b->wl->name, b->wl->what, route_policy_name(b->policy),
           b->n_done, b->n_failed, sum / b->n_done, b->ttft_ms[b->n_done / 2],
           b->ttft_ms[b->n_done * 99 / 100], (double)b->n_cached / (double)b->n_prompt);
    for (uint32_t i = 0; i < b->rig->n_workers; i++) {
        printf("%s%.3f", i ? ", " : "", (double)b->per_worker[i] / b->n_done);
        most = b->per_worker[i] > most ? b->per_worker[i] : most;
    }
    printf("], \"busiest\": %.3f}\n", (double)most / b->n_done);
    fflush(stdout);
}

static void run(struct bench b, uint32_t seconds)
{
    const struct workload *wl = b.wl;
    b.seed = 3;
    sample_open(&b.sample);
    BUG_ON(waker_init(&b.waker, NULL) != 0);
    start(&b);
    if (wl->per_s)
        plan_open(&b, seconds);
    else
        plan_sessions(&b);
    b.began_us = clock_now_us();
    while (b.n_arrivals > 0 || b.n_open > 0) {
        const uint64_t now_us = clock_now_us() - b.began_us;
        uint64_t wait_us = 100000;
        if (b.n_arrivals > 0) {
            const struct arrival a = b.arrivals[b.n_arrivals - 1];
            if (a.at_us <= now_us) {
                b.n_arrivals--;
                submit(&b, &a);
                continue;
            }
            wait_us = a.at_us - now_us;
        }
        struct pollfd p = {.fd = b.waker.event_fd, .events = POLLIN};
        const struct timespec t = {.tv_sec = (time_t)(wait_us / 1000000),
                                   .tv_nsec = (long)(wait_us % 1000000) * 1000};
        if (ppoll(&p, 1, &t, NULL) > 0)
            pull(&b);
    }
    report(&b);
    BUG_ON(!router_shutdown(b.router, clock_now_us() + 10000000));
    router_free(b.router);
    waker_fini(&b.waker);
    for (uint32_t i = 0; b.sessions && i < wl->n_sessions; i++)
        free(b.sessions[i].tokens);
    free(b.sessions);
    free(b.arrivals);
    free(b.ttft_ms);
    sample_close(&b.sample);
}

static bool wanted(const char *name, int argc, char **argv)
{
    for (int i = 4; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return argc <= 4;
}

static void run_all(struct bench *b, uint32_t seconds, int argc, char **argv)
{
    for (uint32_t i = 0; i < b->rig->n_workloads; i++) {
        b->wl = &b->rig->workloads[i];
        for (int p = ROUTE_PREFIX; p <= ROUTE_LEAST_LOADED && wanted(b->wl->name, argc, argv);
             p++) {
            b->policy = (enum route_policy)p;
            run(*b, seconds);
        }
    }
}

int main(int argc, char **argv)
{
    const uint32_t seconds = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 0;
    const uint32_t n_repeats = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 1;
    struct bench b = {.rig = NULL};
    struct err e = {0};
    for (size_t i = 0; i < ARRAY_LEN(rigs); i++)
        if (seconds > 0 && strcmp(argv[1], rigs[i].name) == 0)
            b.rig = &rigs[i];
    if (!b.rig) {
        fprintf(stderr, "usage: routing sim|cpu SECONDS [REPEATS [WORKLOAD]...]\n");
        return 2;
    }
    if (strcmp(b.rig->name, "cpu") == 0 &&
        (model_open(MODEL_PATH, &b.model, &e) != 0 || shared_weights_new(&b.shared) != 0)) {
        fprintf(stderr, "routing: %s\n", e.msg);
        return 1;
    }
    for (b.repeat = 1; b.repeat <= n_repeats; b.repeat++)
        run_all(&b, seconds, argc, argv);
    if (b.shared)
        shared_weights_unref(b.shared);
    model_free(b.model);
    return 0;
}

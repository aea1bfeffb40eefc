/* bench_run.c - `llmd bench`: finds the server, makes the runs, reports. */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cmd/bench.h"
#include "cmd/key.h"
#include "core/bench/calibrate.h"
#include "core/bench/chart.h"
#include "core/bench/dataset.h"
#include "core/bench/fetch.h"
#include "core/bench/replay.h"
#include "core/util/printable.h"

enum { DEFAULT_CLIENTS = 8, LEAST_REQUESTS = 32, MAX_OPEN = 65536, OPEN_LOOP_S = 30 };

/* What a run of the command holds; closed in one place. */
struct session {
    struct bench *b;
    struct target target;
    struct fetch fetch;
    struct dataset dataset;
    struct replay replay;
    struct workload work;
    struct load *load;
    struct buf key;
    char *model;
    struct report_head head;
    struct level levels[BENCH_MAX_LEVELS]; /* [n_levels], each with a measure of its own */
    uint32_t n_levels;
    bool cancelled;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
    (void)sig;
    interrupted = 1;
}

static bool is_cancelled(void *ctx)
{
    (void)ctx;
    return interrupted != 0;
}

static void catch_signals(void)
{
    struct sigaction act = {.sa_handler = on_signal};
    sigemptyset(&act.sa_mask);
    (void)sigaction(SIGINT, &act, NULL);
    (void)sigaction(SIGTERM, &act, NULL);
    act.sa_handler = SIG_IGN;
    (void)sigaction(SIGPIPE, &act, NULL);
}

/* Every client has a descriptor. */
static void raise_fd_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
}

/* ---- the server ---- */

/* Whether the server is there, at which of its addresses, and its first model unless one was named. */
static int find_model(struct session *s, struct err *e)
{
    struct buf body = {0};
    json_t *v = NULL;
    int status = 0, rc;
    if (s->b->model) { /* what the server thinks of this path does not matter */
        rc = fetch_perform(&s->fetch, "/v1/models", NULL, &status, &body, e);
        s->model = strdup(s->b->model);
    } else if ((rc = fetch_json(&s->fetch, "/v1/models", NULL, &v, e)) == 0) {
        const json_t *first = json_array_get(json_object_get(v, "data"), 0);
        const char *id = json_string_value(json_object_get(first, "id"));
        s->model = strdup(id ? id : "");
        if (!id)
            rc = err_set(e, LLMD_ENOTFOUND, "the server names no model; give --model");
    }
    if (rc == 0 && !s->model)
        rc = err_set(e, LLMD_ENOMEM, "out of memory");
    json_decref(v);
    buf_fini(&body);
    return rc;
}

static int open_server(struct session *s, struct err *e)
{
    struct bench *b = s->b;
    const struct target_opts opts = {
        .url = buf_str(&b->url),
        .key = s->key.len ? buf_str(&s->key) : NULL,
        .ca = b->ca,
        .insecure = b->insecure,
        .headers = b->headers.values,
        .n_headers = b->headers.n,
    };
    int rc = target_open(&s->target, &opts, e);
    if (rc != 0)
        return rc;
    s->fetch = (struct fetch){.target = &s->target,
                              .timeout_us = (uint64_t)(b->timeout_s * 1e6),
                              .cancelled = is_cancelled};
    rc = find_model(s, e);
    if (rc != 0)
        err_prefix(e, "%s: ", opts.url);
    if (rc == -LLMD_EAUTH && !opts.key)
        err_prefix(e, "a key is wanted (--key-file or LLMD_API_KEY): ");
    return rc;
}

static int prepare_work(struct session *s, struct err *e)
{
    struct bench *b = s->b;
    struct workload_opts *w = &b->work;
    int rc = 0;
    w->model = s->model;
    w->dataset = b->dataset ? &s->dataset : NULL;
    w->replay = b->replay ? &s->replay : NULL;
    if (!b->dataset && !w->token_ids) {
        rc = calibrate(&s->fetch, w, &w->scale, &s->head.measured_scale, e);
        if (rc != 0)
            err_prefix(e, "%s: ", buf_str(&b->url));
        else if (!s->head.measured_scale)
            fputs("llmd bench: the server does not say how long prompts are: a word counts as a "
                  "token\n",
                  stderr);
    } else
        s->head.measured_scale = w->token_ids;
    workload_init(&s->work, w);
    return rc;
}

/* Files first: they are wrong more often than servers are away. */
static int load_files(struct session *s, struct err *e)
{
    const struct bench *b = s->b;
    int rc = b->dataset ? dataset_load(&s->dataset, b->dataset, b->work.chat, e) : 0;
    if (rc == 0 && b->replay)
        rc = replay_load(&s->replay, b->replay, b->speed, e);
    if (rc == 0 && s->replay.n_left_out > 0)
        fprintf(stderr, "llmd bench: %s: %u rows without a prompt are left out\n", b->replay,
                s->replay.n_left_out);
    return rc;
}

/* ---- runs ---- */

static void show_progress(void *ctx, const struct load_progress *p)
{
    double s = (double)p->elapsed_us / 1e6;
    (void)ctx;
    fprintf(stderr, "\r%.0f s: %u running, %llu done, %llu failed, %.0f pieces/s\033[K", s,
            p->n_active, (unsigned long long)p->n_ended, (unsigned long long)p->n_failed,
            (double)p->n_pieces / s);
    fflush(stderr);
}

static void clear_progress(const struct load_opts *o)
{
    if (o->on_progress)
        fputs("\r\033[K", stderr);
}

static int warm_up(struct session *s, uint32_t clients, struct err *e)
{
    struct measure *m = calloc(1, sizeof(*m));
    const struct load_run run = {
        .work = &s->work, .concurrency = clients, .n_requests = s->b->warmup};
    if (!m)
        return err_set(e, LLMD_ENOMEM, "out of memory");
    int rc = load_perform(s->load, &run, m, e);
    if (rc == 0 && m->n[OUTCOME_OK] == 0) {
        const char *why = "";
        for (int o = OUTCOME_OK + 1; o < N_OUTCOMES; o++)
            why = m->messages[o][0] ? m->messages[o] : why;
        rc = err_set(e, LLMD_EIO, "no request of the warm-up was answered: %s", why);
    }
    free(m);
    return rc;
}

static int run_level(struct session *s, uint32_t clients, struct err *e)
{
    const struct bench *b = s->b;
    bool open = b->rate > 0 || b->replay;
    const struct arrivals arrivals = {
        .per_s = b->rate,
        .constant = b->constant,
        .burst = b->burst,
        .ramp_us = (uint64_t)(b->ramp_s * 1e6),
        .rng = rng_make(b->work.seed, 0),
    };
    struct load_run run = {
        .work = &s->work,
        .concurrency = clients,
        .arrivals = b->rate > 0 ? &arrivals : NULL,
        .n_requests = b->requests,
        .duration_us = (uint64_t)(b->duration_s * 1e6),
        .ramp_us = (uint64_t)(b->ramp_s * 1e6),
    };
    struct level *level = &s->levels[s->n_levels];
    if (b->requests == 0 && b->duration_s == 0 && b->rate > 0)
        run.duration_us = OPEN_LOOP_S * 1000000;
    else if (b->requests == 0 && b->duration_s == 0 && !open)
        run.n_requests = u64_max(LEAST_REQUESTS, 4 * (uint64_t)clients);
    *level = (struct level){clients, b->rate, calloc(1, sizeof(struct measure))};
    if (!level->m)
        return err_set(e, LLMD_ENOMEM, "out of memory");
    s->n_levels++;
    level->m->slo = b->slo;
    return load_perform(s->load, &run, level->m, e);
}

static int make_runs(struct session *s, struct err *e)
{
    const struct bench *b = s->b;
    bool open = b->rate > 0 || b->replay;
    uint32_t clients = b->concurrency ? b->concurrency : open ? MAX_OPEN : DEFAULT_CLIENTS;
    const struct load_opts opts = {
        .target = &s->target,
        .timeout_us = (uint64_t)(b->timeout_s * 1e6),
        .cancelled = is_cancelled,
        .on_progress = !b->quiet && isatty(STDERR_FILENO) ? show_progress : NULL,
    };
    int rc = load_open(&s->load, &opts, e);
    uint32_t warm = b->n_levels ? b->levels[0] : clients;
    if (rc == 0 && b->warmup > 0)
        rc = warm_up(s, (uint32_t)u64_min(warm, b->warmup), e);
    if (b->n_levels == 0 && rc == 0)
        rc = run_level(s, clients, e);
    for (uint32_t i = 0; rc == 0 && i < b->n_levels; i++)
        rc = run_level(s, b->levels[i], e);
    clear_progress(&opts);
    s->cancelled = rc == -LLMD_ECANCELLED;
    return s->cancelled && s->n_levels > 0 ? 0 : rc;
}

/* ---- the report ---- */

static int write_chart(const struct session *s)
{
    struct buf svg = {0};
    chart_svg(&s->head, s->levels, s->n_levels, &svg);
    FILE *f = svg.failed ? NULL : fopen(s->b->svg, "we");
    bool ok = f && fwrite(buf_str(&svg), 1, svg.len, f) == svg.len;
    if (f && fclose(f) != 0)
        ok = false;
    if (!ok)
        fprintf(stderr, "llmd bench: %s: %s\n", s->b->svg,
                svg.failed ? "out of memory" : strerror(errno));
    buf_fini(&svg);
    return ok ? 0 : EXIT_FAILED;
}

static int report(struct session *s)
{
    const struct bench *b = s->b;
    struct buf out = {0};
    s->head.url = buf_str(&b->url);
    s->head.model = s->model;
    s->head.endpoint = b->work.chat ? "chat" : "completions";
    s->head.load = b->replay      ? "replay"
                   : b->rate == 0 ? "closed"
                   : b->constant  ? "constant"
                                  : "poisson";
    s->head.seed = b->work.seed;
    s->head.stream = b->work.stream;
    s->head.logged_hit_rate =
        b->replay ? (double)s->replay.cached_tokens / (double)s->replay.prompt_tokens : -1;
    if (b->json)
        report_json(&s->head, s->levels, s->n_levels, &out);
    else if (b->csv)
        report_csv(s->levels, s->n_levels, &out);
    else if (b->n_levels > 0)
        report_sweep(&s->head, s->levels, s->n_levels, &out);
    else
        report_table(&s->head, s->levels, &out);
    int rc = 0;
    if (out.failed) {
        fputs("llmd bench: out of memory\n", stderr);
        rc = EXIT_FAILED;
    } else
        fwrite(buf_str(&out), 1, out.len, stdout); /* main looks whether it was written */
    buf_fini(&out);
    if (rc == 0 && b->svg)
        rc = write_chart(s);
    for (uint32_t i = 0; rc == 0 && i < s->n_levels; i++)
        if (measure_failed(s->levels[i].m) > 0 || s->levels[i].m->n[OUTCOME_OK] == 0)
            rc = EXIT_FAILED;
    return s->cancelled ? EXIT_INTERRUPTED : rc;
}

static void close_session(struct session *s)
{
    load_close(s->load);
    for (uint32_t i = 0; i < s->n_levels; i++)
        free(s->levels[i].m);
    target_close(&s->target);
    dataset_free(&s->dataset);
    replay_free(&s->replay);
    buf_fini(&s->key);
    free(s->model);
}

int bench_run(struct bench *b)
{
    struct session s = {.b = b};
    struct err e = {0};
    int rc = key_read("llmd bench", b->key, b->key_file, &s.key);
    if (rc != 0)
        return rc;
    catch_signals();
    raise_fd_limit();
    rc = load_files(&s, &e);
    if (rc == 0)
        rc = open_server(&s, &e);
    if (rc == 0)
        rc = prepare_work(&s, &e);
    if (rc == 0)
        rc = make_runs(&s, &e);
    if (rc == 0)
        rc = report(&s);
    else {
        char shown[sizeof(e.msg)];
        printable_text(e.msg, strlen(e.msg), "", shown, sizeof(shown));
        fprintf(stderr, "llmd bench: %s\n", shown);
        rc = rc == -LLMD_ECANCELLED ? EXIT_INTERRUPTED : EXIT_FAILED;
    }
    close_session(&s);
    return rc;
}

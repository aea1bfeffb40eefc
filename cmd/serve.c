/* serve.c - start-up, the main thread's loop, drain.
 *
 * Order of start-up: signals are blocked first, so that every thread inherits the mask and only
 * the main thread's signalfd sees them; then models are opened (header, tokenizer, template),
 * workers start to load weights in their own threads, and the edge listens at once: /health
 * answers while weights load, /ready says when a token was generated.
 *
 * Drain (SIGTERM, SIGINT): the edge stops accepting, running answers go on until they end or
 * drain_timeout passes; a second signal cuts it short. */
#include "cmd/serve.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/load_log.h"
#include "cmd/serve_log.h"
#include "core/config/config.h"
#include "core/edge/edge.h"
#include "core/engine/worker.h"
#include "core/model/model.h"
#include "core/observe/events.h"
#include "core/observe/log.h"
#include "core/observe/metrics.h"
#include "core/router/router.h"
#include "core/store/store.h"
#include "core/supervise/supervise.h"
#include "core/util/clock.h"
#include "core/util/cpuinfo.h"

enum { MAX_WORKERS = 64, MAX_WORKER_THREADS = 256, TICK_MS = 100 };

/* One configured model and what was made of it. */
struct served {
    const struct config_model *config;
    struct model *model;
    struct shared_weights *shared;
    uint32_t max_model_len;
};

struct server {
    struct config *config;
    struct metrics *metrics;
    struct store *store; /* the request log; NULL: none */
    struct router *router;
    struct edge *edge;
    struct supervise *supervise;
    struct served *models;          /* [config->n_models] */
    struct edge_model *edge_models; /* [config->n_models] */
    struct edge_key *keys;          /* [config->n_keys] */
    struct worker_opts workers[MAX_WORKERS];
    uint32_t n_workers;
    int signal_fd;
    int asked_fd; /* eventfd: an operator asked for something */
    atomic_bool drain_asked;
    uint64_t started_us;
    bool was_ready;
    struct load_log load_log;
};

/* True when standard error is the journal's own socket: systemd says device and inode. Desktop
 * sessions set the variable for programs whose output goes elsewhere. */
static bool stderr_is_journal(void)
{
    struct stat st;
    char ours[48];
    const char *stream = getenv("JOURNAL_STREAM");
    if (!stream || fstat(STDERR_FILENO, &st) != 0)
        return false;
    snprintf(ours, sizeof(ours), "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    return strcmp(stream, ours) == 0;
}

/* More connections than the usual soft limit of 1024 descriptors allows. */
static void raise_fd_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        log_warn("serve", "cannot raise the limit of open files: %s", strerror(errno));
}

static int open_signals(struct server *s, struct err *e)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return err_set(e, LLMD_EINTERNAL, "cannot set the signal mask");
    s->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (s->signal_fd < 0)
        return err_set(e, LLMD_EINTERNAL, "signalfd: %s", strerror(errno));
    s->asked_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (s->asked_fd < 0)
        return err_set(e, LLMD_EINTERNAL, "eventfd: %s", strerror(errno));
    return 0;
}

/* ---- what operators ask for, on the edge's threads; the main thread does it ---- */

static void wake_main(struct server *s)
{
    static const uint64_t one = 1;
    while (write(s->asked_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void ask_drain(void *ctx)
{
    struct server *s = ctx;
    atomic_store(&s->drain_asked, true);
    wake_main(s);
}

static void print_config(void *ctx, struct buf *json)
{
    const struct server *s = ctx;
    config_print_json(s->config, json);
}

/* ---- start ---- */

static void warn_template(const char *name, const struct model *m)
{
    char why[600];
    log_warn("serve", "the chat template of model \"%s\" (%s) cannot be used: %s", name,
             m->chat_template_origin, log_quote(m->chat_template_fault, why, sizeof(why)));
}

static int open_model(struct server *s, uint32_t i, struct err *e)
{
    const struct config_model *c = &s->config->models[i];
    struct served *m = &s->models[i];
    m->config = c;
    int rc = model_open(c->path, &m->model, e);
    if (rc == 0 && shared_weights_new(&m->shared) != 0)
        rc = err_set(e, LLMD_ENOMEM, "out of memory");
    if (rc != 0) {
        err_prefix(e, "model \"%s\": ", c->name);
        return rc;
    }
    if (m->model->chat_template_fault)
        warn_template(c->name, m->model);
    uint32_t trained = m->model->hparams.context_length;
    if (c->max_model_len > trained)
        return err_set(e, LLMD_EINVAL,
                       "model \"%s\": max_model_len %u is more than the model's context of %u",
                       c->name, c->max_model_len, trained);
    m->max_model_len = c->max_model_len ? c->max_model_len : trained;
    s->edge_models[i] = (struct edge_model){
        .name = c->name,
        .aliases = c->aliases,
        .n_aliases = c->n_aliases,
        .model = m->model,
        .max_model_len = m->max_model_len,
        .created = (int64_t)(clock_wall_us() / 1000000u),
    };
    struct router_model_opts route = {
        .max_queue = c->max_queue,
        .max_queue_us = c->max_queue_time_s * 1000000ull,
        .max_migrations = c->max_retries,
        .metrics = s->metrics,
    };
    BUG_ON(!route_policy_find(c->policy, &route.policy)); /* the configuration knows the words */
    return router_add_model(s->router, c->name, &route, e);
}

static int start_worker(struct server *s, struct served *m, enum worker_device device,
                        struct err *e)
{
    const struct config_model *c = m->config;
    if (s->n_workers == MAX_WORKERS)
        return err_set(e, LLMD_EINVAL, "more than %d workers are configured", MAX_WORKERS);
    struct worker_opts *w = &s->workers[s->n_workers];
    *w = (struct worker_opts){
        .model_name = c->name,
        .index = s->n_workers,
        .model = m->model,
        .shared = m->shared,
        .metrics = s->metrics,
        .device = device,
        .n_threads = c->threads,
        .isa = c->cpu_isa,
        .compute_f32 = strcmp(c->dtype, "float32") == 0,
        .sim_step_us = c->sim_step_us,
        .sim_row_ns = c->sim_row_ns,
        .max_model_len = m->max_model_len,
        .max_num_seqs = c->max_num_seqs,
        .max_num_batched_tokens = c->max_num_batched_tokens,
        .kv_cache_bytes = c->kv_cache_mb << 20,
        .enable_prefix_caching = c->enable_prefix_caching,
        .max_queue = c->max_queue,
    };
    int rc = router_start_worker(s->router, c->name, w, e);
    if (rc == 0)
        s->n_workers++;
    return rc;
}

/* Threads for each CPU worker that does not say how many it wants: its share of the cores. */
static uint32_t default_threads(const struct config *c)
{
    uint32_t workers = 0;
    for (uint32_t i = 0; i < c->n_models; i++)
        for (uint32_t d = 0; d < c->models[i].n_devices; d++)
            if (strcmp(c->models[i].devices[d], "cpu") == 0)
                workers += c->models[i].cpu_workers;
    uint32_t cores = cpu_usable_cores();
    if (workers == 0 || cores < workers)
        return 1;
    return (uint32_t)u64_min(cores / workers, MAX_WORKER_THREADS);
}

static int start_workers(struct server *s, uint32_t i, uint32_t threads, struct err *e)
{
    struct config_model *c = &s->config->models[i];
    if (c->threads == 0)
        c->threads = threads;
    for (uint32_t d = 0; d < c->n_devices; d++) {
        bool sim = strcmp(c->devices[d], "sim") == 0;
        uint32_t n = sim ? c->sim_workers : c->cpu_workers;
        for (uint32_t k = 0; k < n; k++) {
            int rc = start_worker(s, &s->models[i], sim ? DEVICE_SIM : DEVICE_CPU, e);
            if (rc != 0)
                return rc;
        }
    }
    return 0;
}

static int start_edge(struct server *s, struct err *e)
{
    const struct config *c = s->config;
    for (uint32_t i = 0; i < c->n_keys; i++) {
        s->keys[i].name = c->keys[i].name;
        s->keys[i].admin = c->keys[i].admin;
        s->keys[i].log_prompts = c->keys[i].log_prompts;
        memcpy(s->keys[i].sha256, c->keys[i].sha256, sizeof(s->keys[i].sha256));
    }
    struct edge_opts o = {
        .listen = c->listen,
        .n_listen = c->n_listen,
        .control_socket = c->control_socket,
        .control_optional = config_control_socket_is_default(c->control_socket),
        .n_threads = c->edge_threads,
        .served = {.keys = s->keys,
                   .n_keys = c->n_keys,
                   .models = s->edge_models,
                   .n_models = c->n_models,
                   .limits = {.max_body_bytes = c->max_body_kb * 1024u,
                              .header_timeout_s = c->header_timeout_s,
                              .body_timeout_s = c->body_timeout_s,
                              .keepalive_timeout_s = c->keepalive_timeout_s,
                              .sse_keepalive_s = c->sse_keepalive_s,
                              .stall_us = (uint64_t)c->stall_timeout_s * 1000000u}},
        .router = s->router,
        .metrics = s->metrics,
        .store = s->store,
        .log_prompts = c->store.log_prompts,
        .control = {.ctx = s, .drain = ask_drain, .config = print_config},
        .max_connections = c->max_connections,
    };
    return edge_start(&o, &s->edge, e);
}

static int start(struct server *s, struct err *e)
{
    const struct config *c = s->config;
    s->models = calloc(c->n_models, sizeof(*s->models));
    s->edge_models = calloc(c->n_models, sizeof(*s->edge_models));
    s->keys = calloc(c->n_keys + 1, sizeof(*s->keys));
    s->metrics = metrics_new();
    if (!s->models || !s->edge_models || !s->keys || !s->metrics)
        return err_set(e, LLMD_ENOMEM, "out of memory at start-up");
    int rc = serve_open_log(c, s->metrics, &s->store, e);
    if (rc == 0)
        rc = router_new(&s->router, e);
    uint32_t threads = default_threads(c);
    for (uint32_t i = 0; rc == 0 && i < c->n_models; i++)
        rc = open_model(s, i, e);
    for (uint32_t i = 0; rc == 0 && i < c->n_models; i++)
        rc = start_workers(s, i, threads, e);
    const struct supervise_opts supervise = {.router = s->router, .metrics = s->metrics};
    if (rc == 0)
        rc = supervise_start(&supervise, &s->supervise, e);
    if (rc == 0)
        rc = start_edge(s, e);
    if (rc == 0)
        for (uint32_t i = 0; i < c->n_listen; i++)
            event_note(LOG_INFO, "serve", "listening address=%s port=%u", c->listen[i],
                       (unsigned)edge_port(s->edge, i));
    return rc;
}

/* Says once when everything is ready; false when a model has no living worker left. */
static bool check_workers(struct server *s)
{
    struct router_worker_view views[MAX_WORKERS];
    uint32_t n = router_workers(s->router, views, MAX_WORKERS);
    for (uint32_t m = 0; m < s->config->n_models; m++) {
        uint32_t alive = 0;
        const char *why = "";
        for (uint32_t i = 0; i < n && i < MAX_WORKERS; i++) {
            if (strcmp(views[i].model, s->config->models[m].name) != 0)
                continue;
            if (views[i].status.state != WORKER_DEAD || views[i].drained)
                alive++;
            else
                why = views[i].error;
        }
        if (alive == 0 && !s->was_ready) { /* once they were, the supervisor starts them again */
            event_note(LOG_ERROR, "serve", "no worker of model \"%s\" is left: %s",
                       s->config->models[m].name, why);
            return false;
        }
    }
    if (!s->was_ready)
        load_log_update(&s->load_log, views, (uint32_t)u64_min(n, MAX_WORKERS), s->started_us,
                        clock_now_us());
    if (!s->was_ready && router_all_ready(s->router)) {
        s->was_ready = true;
        event_note(LOG_INFO, "serve", "ready models=%u workers=%u start_ms=%llu",
                   s->config->n_models, n,
                   (unsigned long long)((clock_now_us() - s->started_us) / 1000u));
    }
    return true;
}

/* The signal that is pending within timeout_ms, 0 for none; also returns when an operator asks for
 * something. */
static int next_signal(struct server *s, int timeout_ms)
{
    struct pollfd p[] = {{.fd = s->signal_fd, .events = POLLIN},
                         {.fd = s->asked_fd, .events = POLLIN}};
    struct signalfd_siginfo info;
    uint64_t count;
    if (poll(p, ARRAY_LEN(p), timeout_ms) <= 0)
        return 0;
    while (read(s->asked_fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
    if (read(s->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return 0;
    return (int)info.ssi_signo;
}

static void drain(struct server *s)
{
    uint64_t until = clock_now_us() + (uint64_t)s->config->drain_timeout_s * 1000000u;
    event_note(LOG_INFO, "serve", "draining active=%u timeout_s=%u", edge_active(s->edge),
               s->config->drain_timeout_s);
    edge_drain(s->edge);
    while (edge_active(s->edge) > 0 && clock_now_us() < until) {
        int sig = next_signal(s, TICK_MS);
        if (sig == SIGTERM || sig == SIGINT)
            break;
    }
    if (edge_active(s->edge) > 0)
        event_note(LOG_WARN, "serve", "stopping with active=%u answers unfinished",
                   edge_active(s->edge));
}

static int run(struct server *s)
{
    struct err why;
    for (;;) {
        int sig = next_signal(s, s->was_ready ? 10 * TICK_MS : TICK_MS / 4);
        if (sig == SIGTERM || sig == SIGINT || atomic_load(&s->drain_asked)) {
            drain(s);
            return EXIT_SUCCESS;
        }
        if (supervise_must_exit(s->supervise, &why)) {
            drain(s);
            return EXIT_RESTART;
        }
        if (sig == SIGHUP)
            log_warn("serve", "SIGHUP: this version reads its configuration at start only");
        if (!check_workers(s))
            return EXIT_FAILED;
    }
}

/* Does not return when a worker's thread hangs: the process then ends here, with rc. */
static void stop(struct server *s, int rc)
{
    enum { LAST_WORDS_US = 200000 }; /* for the error events of what is cut off */
    supervise_stop(s->supervise);
    const bool clean = !s->router || router_shutdown(s->router, clock_now_us());
    for (uint64_t until = clock_now_us() + LAST_WORDS_US;
         s->edge && edge_active(s->edge) > 0 && clock_now_us() < until;)
        clock_sleep_us(LAST_WORDS_US / 20);
    edge_stop(s->edge);
    store_close(s->store);
    if (!clean) { /* it may still read weights: nothing more can be freed */
        log_warn("serve", "a worker hangs; stopped without it");
        _exit(rc);
    }
    router_free(s->router);
    for (uint32_t i = 0; s->models && i < s->config->n_models; i++) {
        shared_weights_unref(s->models[i].shared);
        model_free(s->models[i].model);
    }
    metrics_free(s->metrics);
    free(s->models);
    free(s->edge_models);
    free(s->keys);
    if (s->signal_fd >= 0)
        close(s->signal_fd);
    if (s->asked_fd >= 0)
        close(s->asked_fd);
    config_free(s->config);
}

int cmd_serve(int argc, char **argv)
{
    struct server s = {.signal_fd = -1, .asked_fd = -1, .started_us = clock_now_us()};
    struct err e = {0};
    struct buf faults = {0};
    const char *path = "/etc/llmd.conf";
    const struct arg_option options[] = {
        {"config", 'c', ARG_STRING, "FILE", "configuration file (default /etc/llmd.conf)", &path, 0,
         0},
    };
    const struct arg_spec spec = {
        .command = "llmd serve",
        .operands = "",
        .about = "Serves the configured models over an OpenAI-compatible HTTP interface.",
        .options = options,
        .n_options = ARRAY_LEN(options),
        .max_operands = 0,
        .footer = "Signals: SIGTERM and SIGINT drain (running answers end, new requests get 503);\n"
                  "the second one stops at once.\n"
                  "Exit codes: 0 drained, 1 serving failed, 2 usage, 3 configuration,\n"
                  "75 a new process is needed (a device or threads that hang: start it again).",
    };
    int first;
    int rc = args_or_exit(&spec, argc, argv, &first);
    if (rc >= 0)
        return rc;

    if (config_load(path, &s.config, &faults, &e) != 0) {
        fputs(faults.len ? buf_str(&faults) : e.msg, stderr);
        if (!faults.len)
            fputc('\n', stderr);
        buf_fini(&faults);
        return EXIT_CONFIG;
    }
    buf_fini(&faults);
    enum log_level level = LOG_INFO;
    BUG_ON(!log_level_parse(s.config->log_level, &level)); /* config_load checked it */
    log_init(STDERR_FILENO, level, stderr_is_journal());
    for (uint32_t i = 0; i < s.config->n_warnings; i++)
        log_warn("config", "%s", s.config->warnings[i]);
    raise_fd_limit();

    if (open_signals(&s, &e) != 0 || start(&s, &e) != 0) {
        log_error("serve", "cannot start: %s", e.msg[0] ? e.msg : err_text(e.code));
        rc = EXIT_FAILED;
    } else
        rc = run(&s);
    stop(&s, rc);
    log_info("serve", "stopped");
    return rc;
}

/* serve.c - start-up, the main thread's loop, drain.
 *
 * Order of start-up: signals are blocked first, so that every thread inherits the mask and only
 * the main thread's signalfd sees them; then models are opened (header, tokenizer, template),
 * workers start to load weights in their own threads, and the edge listens at once: /health
 * answers while weights load, /ready says when a token was generated.
 *
 * Reload (SIGHUP, llmd reload): see reload.h; the main thread steps it.
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
#include "cmd/certificate.h"
#include "cmd/collector.h"
#include "cmd/fleet.h"
#include "cmd/gpu_watch.h"
#include "cmd/listeners.h"
#include "cmd/load_log.h"
#include "cmd/reload.h"
#include "cmd/serve_log.h"
#include "cmd/service.h"
#include "core/config/config.h"
#include "core/edge/edge.h"
#include "core/observe/events.h"
#include "core/observe/log.h"
#include "core/observe/metrics.h"
#include "core/observe/traces.h"
#include "core/router/router.h"
#include "core/store/store.h"
#include "core/supervise/supervise.h"
#include "core/util/clock.h"
#include "core/util/http.h"

enum { TICK_MS = 100 };

struct server {
    const char *config_path;
    struct fleet fleet; /* models and workers, and the configuration in force */
    struct reload *reload;
    struct metrics *metrics;
    struct store *store; /* the request log; NULL: none */
    struct router *router;
    struct edge *edge;
    struct listeners listeners;
    struct supervise *supervise;
    struct gpu_watch *_Atomic gpu_watch; /* read by the edge's threads; NULL: there is none */
    bool gpu_watch_tried;
    int signal_fd;
    int asked_fd; /* eventfd: an operator asked for something */
    atomic_bool drain_asked;
    uint64_t started_us;
    bool was_ready;
    bool reloads; /* a reload is under way */
    struct load_log load_log;
    struct service service; /* what systemd is told */
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

static int ask_reload(void *ctx, struct err *e)
{
    struct server *s = ctx;
    int rc = reload_ask(s->reload, false, e);
    if (rc == 0)
        wake_main(s);
    return rc;
}

static void add_reload_state(void *ctx, struct buf *json)
{
    const struct server *s = ctx;
    reload_add_state(s->reload, json);
}

static void add_config(void *ctx, struct buf *json)
{
    const struct server *s = ctx;
    reload_add_config(s->reload, json);
}

static void add_options(void *ctx, struct buf *json)
{
    const struct server *s = ctx;
    reload_add_options(s->reload, json);
}

static void add_gpu(void *ctx, uint32_t gpu, struct buf *json)
{
    struct server *s = ctx;
    gpu_watch_add_json(atomic_load(&s->gpu_watch), gpu, json);
}

/* ---- start ---- */

/* From the first worker on a GPU on, which a reload may bring. */
static void watch_gpus(struct server *s)
{
    struct gpu_watch *w = NULL;
    struct err e = {0};
    if (s->gpu_watch_tried || !fleet_has_gpus(&s->fleet))
        return;
    s->gpu_watch_tried = true;
    if (gpu_watch_start(s->metrics, &w, &e) == 0)
        atomic_store(&s->gpu_watch, w);
    else
        log_warn("serve", "the GPUs' state is not watched: %s", e.msg);
}

static int start_models(struct server *s, struct err *e)
{
    struct fleet *f = &s->fleet;
    const struct config *c = f->config;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < c->n_models; i++) {
        rc = fleet_add(f, c, &c->models[i], &f->line_up[i], e);
        f->n_line_up += rc == 0;
    }
    for (uint32_t i = 0; rc == 0 && i < f->n_line_up; i++)
        for (uint32_t k = 0; rc == 0 && k < f->line_up[i]->n_workers; k++)
            rc = fleet_start_worker(f, f->line_up[i], k, -1, e);
    return rc;
}

static int start_edge(struct server *s, struct err *e)
{
    const struct config *c = s->fleet.config;
    void *arrays;
    struct edge_opts o = {
        .listen = s->listeners.all,
        .n_listen = s->listeners.n,
        .allow = c->allow,
        .n_allow = c->n_allow,
        .proxy_from = c->proxy_protocol_from,
        .n_proxy_from = c->n_proxy_protocol_from,
        .host_names = c->host_names,
        .n_host_names = c->n_host_names,
        .control_socket = c->control_socket,
        .control_optional = config_control_socket_is_default(c->control_socket),
        .n_threads = c->edge_threads,
        .n_prep_threads = c->prep_threads,
        .router = s->fleet.router,
        .metrics = s->metrics,
        .store = s->store,
        .log_prompts = c->store.log_prompts,
        .traces = s->fleet.traces,
        .control = {.ctx = s,
                    .drain = ask_drain,
                    .reload = ask_reload,
                    .reload_state = add_reload_state,
                    .gpu = add_gpu,
                    .config = add_config,
                    .options = add_options},
        .max_connections = c->max_connections,
    };
    int rc = fleet_catalog(&s->fleet, &o.served, &arrays, e);
    if (rc != 0)
        return rc;
    rc = certificate_load_logged(c, &o.tls, e);
    if (rc == 0)
        rc = edge_start(&o, &s->fleet.edge, e);
    free(arrays);
    return rc;
}

static void say_listening(const struct server *s)
{
    const struct tls *tls = edge_tls(s->fleet.edge);
    for (uint32_t i = 0; i < s->listeners.n; i++) {
        const struct edge_listener *at = &s->listeners.all[i];
        event_note(LOG_INFO, "serve", "listening address=%s port=%u%s%s", at->address,
                   edge_port(s->fleet.edge, i), at->tls ? " tls=1" : "",
                   at->admin ? " admin=1" : "");
    }
    struct buf what = {0};
    if (tls) {
        tls_describe(tls, &what);
        event_note(LOG_INFO, "serve", "tls certificate %s", buf_str(&what));
    }
    buf_fini(&what);
}

static int start_traces(struct server *s, struct err *e)
{
    struct fleet *f = &s->fleet;
    struct collector to;
    collector_instance(f->instance);
    int rc = collector_load(f->config, f->instance, &to, e);
    if (rc != 0)
        return rc;
    rc = http_global_init(e);
    if (rc == 0)
        rc = traces_new(s->metrics, &f->traces, e);
    if (rc == 0)
        rc = traces_set(f->traces, &to.opts, e);
    if (rc == 0 && to.opts.url[0])
        event_note(LOG_INFO, "serve", "traces to=%s one_in=%u", to.opts.url, to.opts.sample_one_in);
    collector_fini(&to);
    return rc;
}

static int start(struct server *s, struct err *e)
{
    const struct config *c = s->fleet.config;
    s->metrics = s->fleet.metrics = metrics_new();
    if (!s->metrics)
        return err_set(e, LLMD_ENOMEM, "out of memory at start-up");
    int rc = listeners_init(&s->listeners, c, e);
    if (rc == 0)
        rc = serve_open_log(c, s->metrics, &s->store, e);
    if (rc == 0)
        rc = start_traces(s, e);
    if (rc == 0)
        rc = router_new(&s->fleet.router, e);
    if (rc == 0)
        rc = start_models(s, e);
    if (rc == 0)
        watch_gpus(s);
    if (rc == 0)
        rc = reload_new(&s->fleet, s->config_path, &s->reload, e);
    const struct supervise_opts supervise = {.router = s->fleet.router, .metrics = s->metrics};
    if (rc == 0)
        rc = supervise_start(&supervise, &s->supervise, e);
    if (rc == 0)
        rc = start_edge(s, e);
    if (rc == 0)
        say_listening(s);
    return rc;
}

/* Until everything was ready once: a model without a living worker is the operator's to mend. */
static bool has_living_worker(const struct server *s, const struct served *m)
{
    struct router_worker_view v[FLEET_PLACES];
    const uint32_t n = fleet_workers(&s->fleet, m, v);
    const char *why = "";
    for (uint32_t i = 0; i < n; i++) {
        if (v[i].status.state != WORKER_DEAD || v[i].drained)
            return true;
        why = v[i].error;
    }
    event_note(LOG_ERROR, "serve", "no worker of model \"%s\" is left: %s", m->c.name, why);
    return false;
}

/* A fresh installation: the server runs, and waits to be told what to serve. */
static void say_what_is_missing(const char *config_path)
{
    event_note(LOG_WARN, "serve", "no model is configured: nothing can be asked for yet");
    event_note(LOG_WARN, "serve", "next: llmd setup asks for what is needed and writes it down");
    event_note(LOG_WARN, "serve",
               "or add model \"NAME\" { path = \"FILE\" } to %s, then: llmd reload", config_path);
}

/* Says once when everything is ready; false when a model cannot start. */
static bool check_start(struct server *s)
{
    struct router_worker_view v[FLEET_PLACES];
    const uint32_t n =
        (uint32_t)u64_min(router_workers(s->fleet.router, v, FLEET_PLACES), FLEET_PLACES);
    for (uint32_t i = 0; i < s->fleet.n_line_up; i++)
        if (!has_living_worker(s, s->fleet.line_up[i]))
            return false;
    load_log_update(&s->load_log, v, n, s->started_us, clock_now_us());
    if (!router_all_ready(s->fleet.router))
        return true;
    s->was_ready = true;
    if (s->fleet.n_line_up == 0) {
        say_what_is_missing(s->config_path);
        return true;
    }
    event_note(LOG_INFO, "serve", "ready models=%u workers=%u start_ms=%llu", s->fleet.n_line_up, n,
               (unsigned long long)((clock_now_us() - s->started_us) / 1000u));
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

static uint64_t us_until(uint64_t at_us)
{
    const uint64_t now_us = clock_now_us();
    return at_us > now_us ? at_us - now_us : 0;
}

static void drain(struct server *s)
{
    uint64_t until = clock_now_us() + (uint64_t)s->fleet.config->drain_timeout_s * 1000000u;
    event_note(LOG_INFO, "serve", "draining active=%u timeout_s=%u", edge_active(s->fleet.edge),
               s->fleet.config->drain_timeout_s);
    edge_drain(s->fleet.edge);
    service_tick(&s->service, &s->fleet, SERVICE_DRAINING, us_until(until));
    while (edge_active(s->fleet.edge) > 0 && clock_now_us() < until) {
        int sig = next_signal(s, s->reloads ? TICK_MS / 10 : TICK_MS);
        if (sig == SIGTERM || sig == SIGINT)
            break;
        if (s->reloads) /* requests may wait for workers that it is about to start */
            s->reloads = reload_tick(s->reload);
        edge_tick(s->fleet.edge);
        service_tick(&s->service, &s->fleet, SERVICE_DRAINING, us_until(until));
    }
    if (edge_active(s->fleet.edge) > 0)
        event_note(LOG_WARN, "serve", "stopping with active=%u answers unfinished",
                   edge_active(s->fleet.edge));
}

static enum service_phase phase(const struct server *s)
{
    if (!s->was_ready)
        return SERVICE_LOADING;
    return reload_runs(s->reload) ? SERVICE_RELOADING : SERVICE_SERVING;
}

/* How long the main thread may sleep. */
static int patience_ms(struct server *s)
{
    const uint64_t due_ms = edge_tick(s->fleet.edge) / 1000 + 1;
    if (!s->was_ready)
        return TICK_MS / 4;
    return s->reloads ? TICK_MS / 10 : (int)u64_min(due_ms, (uint64_t)10 * TICK_MS);
}

static int run(struct server *s)
{
    struct err why;
    for (;;) {
        int sig = next_signal(s, patience_ms(s));
        if (sig == SIGTERM || sig == SIGINT || atomic_load(&s->drain_asked)) {
            drain(s);
            return EXIT_SUCCESS;
        }
        if (supervise_must_exit(s->supervise, &why)) {
            drain(s);
            return EXIT_RESTART;
        }
        if (sig == SIGHUP && reload_ask(s->reload, true, NULL) != 0)
            log_info("serve", "SIGHUP: a reload is under way, another one follows");
        if (!s->was_ready && !check_start(s))
            return EXIT_FAILED;
        service_tick(&s->service, &s->fleet, phase(s), 0);
        if (s->was_ready)
            s->reloads = reload_tick(s->reload);
        reload_look(s->reload);
        watch_gpus(s);
        service_tick(&s->service, &s->fleet, phase(s), 0);
    }
}

/* Does not return when a worker's thread hangs: the process then ends here, with rc. */
static void stop(struct server *s, int rc)
{
    enum { LAST_WORDS_US = 200000 }; /* for the error events of what is cut off */
    supervise_stop(s->supervise);
    bool clean = !s->fleet.router || router_shutdown(s->fleet.router, clock_now_us());
    for (uint64_t until = clock_now_us() + LAST_WORDS_US;
         s->fleet.edge && edge_active(s->fleet.edge) > 0 && clock_now_us() < until;)
        clock_sleep_us(LAST_WORDS_US / 20);
    edge_stop(s->fleet.edge);
    gpu_watch_stop(atomic_load(&s->gpu_watch));
    store_close(s->store);
    if (!clean)
        log_warn("serve", "a worker hangs; stopped without it");
    if (!traces_close(s->fleet.traces)) {
        log_warn("serve",
                 "the address of the collector of traces is still looked up; stopped without it");
        clean = false;
    }
    if (!clean) /* a worker may still read weights: nothing more can be freed */
        _exit(rc);
    reload_free(s->reload);
    router_free(s->fleet.router);
    listeners_fini(&s->listeners);
    fleet_fini(&s->fleet);
    metrics_free(s->metrics);
    if (s->signal_fd >= 0)
        close(s->signal_fd);
    if (s->asked_fd >= 0)
        close(s->asked_fd);
    service_fini(&s->service);
}

/* False when it is at fault, which is said on standard error. */
static bool take_config(struct server *s, const char *path)
{
    struct config *c = NULL;
    struct buf faults = {0};
    struct err e = {0};
    enum log_level level = LOG_INFO;
    int rc = config_load(path, &c, &faults, &e);
    if (rc == 0 && (rc = fleet_keep_config(&s->fleet, c, &e)) != 0)
        config_free(c);
    if (rc != 0)
        fprintf(stderr, "%s%s", faults.len ? buf_str(&faults) : e.msg, faults.len ? "" : "\n");
    buf_fini(&faults);
    if (rc != 0)
        return false;
    s->fleet.config = c;
    s->config_path = path;
    BUG_ON(!log_level_parse(c->log_level, &level)); /* config_load checked it */
    log_init(STDERR_FILENO, level, stderr_is_journal());
    for (uint32_t i = 0; i < c->n_warnings; i++)
        log_warn("config", "%s", c->warnings[i]);
    return true;
}

int cmd_serve(int argc, char **argv)
{
    struct server s = {.signal_fd = -1, .asked_fd = -1, .started_us = clock_now_us()};
    struct err e = {0};
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
                  "the second one stops at once. SIGHUP reads the configuration anew (llmd reload\n"
                  "does the same, and says what came of it).\n"
                  "Exit codes: 0 drained, 1 serving failed, 2 usage, 3 configuration,\n"
                  "75 a new process is needed (a device or threads that hang: start it again).",
    };
    int first;
    int rc = args_or_exit(&spec, argc, argv, &first);
    if (rc >= 0)
        return rc;

    if (!take_config(&s, path))
        return EXIT_CONFIG;
    raise_fd_limit();
    service_init(&s.service);

    if (open_signals(&s, &e) != 0 || start(&s, &e) != 0) {
        log_error("serve", "cannot start: %s", e.msg[0] ? e.msg : err_text(e.code));
        rc = EXIT_FAILED;
    } else
        rc = run(&s);
    stop(&s, rc);
    log_info("serve", "stopped");
    if (rc == EXIT_RESTART) /* what libraries do at exit may wait for a device that hangs */
        _exit(rc);
    return rc;
}

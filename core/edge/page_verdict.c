#include "core/edge/page_verdict.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/util/json.h"

enum {
    IDLE_US = 60 * 1000000,
    SLOW_STEP_US =
        1000000, /* a step that takes so long is told of, if it was to take a tenth of it */
    LOG_WINDOW_US = 60 * 1000000,
    QUEUE_WARN = 10,
    QUEUE_BAD = 50,
    FEW_SECONDS = 5, /* a queue or a full pool for less is no problem */
    CERTIFICATE_WARN_S = 14 * 86400,
    CERTIFICATE_BAD_S = 3 * 86400,
};
static const double KV_WARN = 0.90, KV_BAD = 0.98, FAILED_WARN = 0.01, FAILED_BAD = 0.05;

static const char *const states[] = {
    [VERDICT_DRAINING] = "draining", [VERDICT_STALLED] = "stalled",   [VERDICT_DOWN] = "down",
    [VERDICT_LOADING] = "loading",   [VERDICT_DEGRADED] = "degraded", [VERDICT_SERVING] = "serving",
    [VERDICT_IDLE] = "idle"};
static const char *const levels[] = {[LEVEL_OK] = "ok", [LEVEL_WARN] = "warn", [LEVEL_BAD] = "bad"};
static const char *const kinds[] = {
    [PROBLEM_WORKER_DEAD] = "worker_dead",
    [PROBLEM_WORKER_SUSPECT] = "worker_suspect",
    [PROBLEM_WORKER_RESTARTS] = "worker_restarts",
    [PROBLEM_WORKER_SLOW_STEP] = "worker_slow_step",
    [PROBLEM_WORKER_SLOW] = "worker_slow",
    [PROBLEM_KV_FULL] = "kv_full",
    [PROBLEM_QUEUE] = "queue",
    [PROBLEM_FAILURES] = "failures",
    [PROBLEM_REQUEST_LOG] = "request_log",
    [PROBLEM_LOG_LOST] = "log_lost",
    [PROBLEM_RELOAD_FAILED] = "reload_failed",
    [PROBLEM_CERTIFICATE] = "certificate",
    [PROBLEM_HOT_PREFIX] = "hot_prefix",
    [PROBLEM_SLOW_CLIENTS] = "slow_clients",
};

const char *verdict_state_name(enum verdict_state s)
{
    return states[s];
}

/* ---- problems ---- */

/* What is found now; the first of a kind counts. */
struct finding {
    bool there;
    enum verdict_level level;
    char text[sizeof(((struct problem *)0)->text)];
    const char *advice;
};

static void PRINTF_LIKE(5, 6)
    find(struct finding *all, enum problem_kind kind, enum verdict_level level, const char *advice,
         const char *fmt, ...)
{
    struct finding *f = &all[kind];
    va_list ap;
    if (f->there)
        return;
    f->there = true;
    f->level = level;
    f->advice = advice;
    va_start(ap, fmt);
    vsnprintf(f->text, sizeof(f->text), fmt, ap);
    va_end(ap);
}

static void look_at_worker(const struct router_worker_view *v, uint64_t now_us, struct finding *all)
{
    const struct worker_status *s = &v->status;
    const uint64_t step_us =
        s->step_began_us > 0 && now_us > s->step_began_us ? now_us - s->step_began_us : 0;
    if (s->state == WORKER_DEAD && !v->drained)
        find(all, PROBLEM_WORKER_DEAD, LEVEL_BAD,
             v->poisoned ? "its device needs a new process: one is started when what runs has ended"
                         : "it is started again by itself; if it dies again, mend what the text "
                           "says and run llmd reload",
             "worker %u of %s is dead: %s", v->index, v->model,
             v->error[0] ? v->error : "no reason is known");
    if (s->state == WORKER_SUSPECT)
        find(all, PROBLEM_WORKER_SUSPECT, LEVEL_WARN,
             "it gets no new requests; if it does not go on, its requests move to others",
             "worker %u of %s seems to hang", v->index, v->model);
    if (v->n_starts > 1 && s->state != WORKER_DEAD)
        find(all, PROBLEM_WORKER_RESTARTS, LEVEL_WARN, "the events say why",
             "worker %u of %s was started %u times", v->index, v->model, v->n_starts);
    if (s->state == WORKER_READY && step_us > SLOW_STEP_US && step_us > 10 * s->step_limit_us)
        find(all, PROBLEM_WORKER_SLOW_STEP, LEVEL_WARN,
             "look at its device; after stall_timeout_s it counts as lost",
             "worker %u of %s is in one step for %.0f s", v->index, v->model,
             (double)step_us / 1e6);
}

/* Another worker of the same model for which `better` holds; NULL. */
static const struct router_worker_view *
find_peer(const struct health_facts *f, const struct router_worker_view *v,
          bool (*better)(const struct router_worker_view *peer, const struct router_worker_view *v))
{
    for (uint32_t i = 0; i < f->n_workers; i++) {
        const struct router_worker_view *peer = &f->workers[i];
        if (peer != v && peer->status.state == WORKER_READY && peer->generation == v->generation &&
            better(peer, v))
            return peer;
    }
    return NULL;
}

/* The peer's steps are several times as short, even if each more sequence cost as much as the first. */
static bool is_faster(const struct router_worker_view *peer, const struct router_worker_view *v)
{
    enum { TIMES = 3, NOTICED_US = 1000 };
    const struct worker_status *a = &v->status, *b = &peer->status;
    if (a->decode_step_us <= 0 || b->decode_step_us <= 0)
        return false;
    const double more = fmax(1, a->decode_step_seqs / fmax(1, b->decode_step_seqs));
    return a->decode_step_us > TIMES * more * b->decode_step_us &&
           a->decode_step_us - b->decode_step_us > NOTICED_US;
}

/* Most of what the worker has went there for its prefix cache, and the peer has far less. */
static bool is_colder(const struct router_worker_view *peer, const struct router_worker_view *v)
{
    enum { MANY = 4, TIMES = 3 };
    return v->n_bound >= MANY && 10 * (uint64_t)v->n_bound_cached >= 7 * (uint64_t)v->n_bound &&
           v->n_bound >= TIMES * (uint64_t)peer->n_bound;
}

/* What only shows beside other workers; seconds that it has held. */
static void look_at_peers(struct page_health *h, const struct health_facts *f, struct finding *all)
{
    const struct router_worker_view *slow = NULL, *fast = NULL, *hot = NULL, *cold = NULL;
    for (uint32_t i = 0; i < f->n_workers; i++) {
        const struct router_worker_view *v = &f->workers[i];
        if (!fast && v->status.state == WORKER_READY && (fast = find_peer(f, v, is_faster)) != NULL)
            slow = v;
        if (!cold && v->status.state == WORKER_READY && (cold = find_peer(f, v, is_colder)) != NULL)
            hot = v;
    }
    h->n_slow = slow ? h->n_slow + 1 : 0;
    h->n_hot = hot ? h->n_hot + 1 : 0;
    if (h->n_slow >= FEW_SECONDS)
        find(all, PROBLEM_WORKER_SLOW, LEVEL_WARN,
             "look at its device (clocks, temperature, who else uses it); llmd drain N takes it "
             "out of "
             "service",
             "worker %u of %s is slow: a step takes %.1f ms, on worker %u %.1f ms", slow->index,
             slow->model, slow->status.decode_step_us / 1e3, fast->index,
             fast->status.decode_step_us / 1e3);
    if (h->n_hot >= FEW_SECONDS)
        find(all, PROBLEM_HOT_PREFIX, LEVEL_OK,
             "others get such requests as soon as that is quicker; policy = \"least_loaded\" "
             "spreads "
             "them at once",
             "worker %u of %s has %u requests, %u of them for a prompt's beginning that is cached "
             "there; worker %u has %u",
             hot->index, hot->model, hot->n_bound, hot->n_bound_cached, cold->index, cold->n_bound);
}

static void look_at_load(struct page_health *h, const struct health_facts *f, struct finding *all)
{
    const double failed = f->requests_s > 0 ? f->failed_s / f->requests_s : 0;
    const bool preempts = f->preempted_s > 0;
    h->n_full = f->kv >= KV_WARN || preempts ? h->n_full + 1 : 0;
    h->n_paused = f->n_waiting_for_clients > 0 ? h->n_paused + 1 : 0;
    h->n_deep = f->n_waiting > QUEUE_WARN ? h->n_deep + 1 : 0;
    if (h->n_full >= FEW_SECONDS)
        find(all, PROBLEM_KV_FULL, f->kv >= KV_BAD ? LEVEL_BAD : LEVEL_WARN,
             "requests wait or are preempted; add workers, lower max_num_seqs, or give the cache "
             "more memory",
             preempts ? "%.0f %% of the KV cache is in use, and requests lose theirs to others"
                      : "%.0f %% of the KV cache is in use",
             100 * f->kv);
    if (h->n_paused >= FEW_SECONDS)
        find(all, PROBLEM_SLOW_CLIENTS, LEVEL_OK,
             "the list of requests says whose; client_write_timeout_s ends those that take nothing",
             "%u answers wait for clients that read slowly", f->n_waiting_for_clients);
    if (h->n_deep >= FEW_SECONDS)
        find(all, PROBLEM_QUEUE, f->n_waiting > QUEUE_BAD ? LEVEL_BAD : LEVEL_WARN,
             "more comes than the workers can do; add workers or limit keys", "%u requests wait",
             f->n_waiting);
    if (failed >= FAILED_WARN)
        find(all, PROBLEM_FAILURES, failed >= FAILED_BAD ? LEVEL_BAD : LEVEL_WARN,
             "search the request log for status 5xx",
             "%.1f %% of the last minute's requests failed", 100 * failed);
}

static void look_at_logs(struct page_health *h, const struct health_facts *f, struct finding *all)
{
    if (f->request_log_fault)
        find(all, PROBLEM_REQUEST_LOG, LEVEL_WARN,
             "requests are served all the same, but not logged; mend the disk or the directory",
             "the request log cannot be written: %s", f->request_log_fault);
    if (f->n_log_lost > h->n_log_lost)
        find(all, PROBLEM_LOG_LOST, LEVEL_WARN,
             "whoever reads standard error is too slow; lower log_level",
             "%llu lines of the log were lost",
             (unsigned long long)(f->n_log_lost - h->n_log_lost));
    if (f->now_us - h->log_looked_us >= LOG_WINDOW_US) {
        h->log_looked_us = f->now_us;
        h->n_log_lost = f->n_log_lost;
    }
}

static void look_at_certificate(const struct health_facts *f, struct finding *all)
{
    const int64_t left_s = f->certificate_expires - (int64_t)(f->wall_us / 1000000);
    if (f->certificate_expires == 0 || left_s > CERTIFICATE_WARN_S)
        return;
    find(all, PROBLEM_CERTIFICATE, left_s <= CERTIFICATE_BAD_S ? LEVEL_BAD : LEVEL_WARN,
         "put the new one in its place and run llmd reload",
         left_s > 0 ? "the certificate expires in %.0f h" : "the certificate expired %.0f h ago",
         fabs((double)left_s) / 3600);
}

static void look(struct page_health *h, const struct health_facts *f)
{
    struct finding all[N_PROBLEMS] = {{.there = false}};
    for (uint32_t i = 0; i < f->n_workers; i++)
        look_at_worker(&f->workers[i], f->now_us, all);
    look_at_peers(h, f, all);
    look_at_load(h, f, all);
    look_at_logs(h, f, all);
    look_at_certificate(f, all);
    if (f->reload_fault)
        find(all, PROBLEM_RELOAD_FAILED, LEVEL_WARN, "mend the file and run llmd reload",
             "the last reload failed: %s", f->reload_fault);
    for (int i = 0; i < N_PROBLEMS; i++) {
        struct problem *p = &h->problems[i];
        p->kind = (enum problem_kind)i;
        p->level = all[i].level;
        p->advice = all[i].advice;
        p->since_us = !all[i].there ? 0 : p->since_us ? p->since_us : f->wall_us;
        memcpy(p->text, all[i].text, sizeof(p->text));
    }
}

/* ---- the verdict ---- */

static void PRINTF_LIKE(4, 5)
    say(struct page_health *h, enum verdict_level level, const char *advice, const char *fmt, ...)
{
    va_list ap;
    h->level = level;
    h->advice = advice;
    va_start(ap, fmt);
    vsnprintf(h->reason, sizeof(h->reason), fmt, ap);
    va_end(ap);
}

static bool is_on_its_way(const struct router_worker_view *v)
{
    return v->status.state <= WORKER_WARMING;
}

/* The furthest of a model's workers that load; NULL: none does. */
static const struct router_worker_view *loading_worker(const struct health_facts *f,
                                                       const char *model)
{
    const struct router_worker_view *best = NULL;
    for (uint32_t i = 0; i < f->n_workers; i++) {
        const struct router_worker_view *v = &f->workers[i];
        if (strcmp(v->model, model) == 0 && is_on_its_way(v) &&
            (!best || load_percent(&v->status.load) > load_percent(&best->status.load)))
            best = v;
    }
    return best;
}

static const char *last_error(const struct health_facts *f, const char *model)
{
    for (uint32_t i = 0; i < f->n_workers; i++)
        if (strcmp(f->workers[i].model, model) == 0 && f->workers[i].error[0])
            return f->workers[i].error;
    return "all are out of service";
}

/* False: all models can be served. */
static bool judge_models(struct page_health *h, const struct health_facts *f,
                         enum verdict_state *out)
{
    const struct router_worker_view *loads = NULL;
    for (uint32_t i = 0; i < f->n_models; i++) {
        const struct health_model *m = &f->models[i];
        const struct router_worker_view *v = m->ready ? NULL : loading_worker(f, m->name);
        if (!m->ready && !v) {
            *out = VERDICT_DOWN;
            say(h, LEVEL_BAD, "mend what the reason says, then llmd drain --undo or llmd reload",
                "%s has no worker: %s", m->name, last_error(f, m->name));
            return true;
        }
        loads = loads ? loads : v;
    }
    if (f->n_models == 0) {
        *out = VERDICT_DOWN;
        say(h, LEVEL_BAD,
            "run llmd setup, or add model \"name\" { path = ... } to the configuration and llmd "
            "reload",
            "no model is configured");
        return true;
    }
    if (!loads)
        return false;
    const double left_s = load_seconds_left(&loads->status.load);
    *out = VERDICT_LOADING;
    say(h, LEVEL_WARN, NULL, left_s > 0 ? "%s loads: %u %%, %.0f s left" : "%s loads: %u %%",
        loads->model, load_percent(&loads->status.load), left_s);
    return true;
}

static uint32_t n_ready(const struct health_facts *f)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->n_workers; i++)
        n += f->workers[i].status.state == WORKER_READY;
    return n;
}

/* The worst problem; NULL: there is none. */
static const struct problem *worst(const struct page_health *h)
{
    const struct problem *p = NULL;
    for (int i = 0; i < N_PROBLEMS; i++)
        if (h->problems[i].since_us > 0 && (!p || h->problems[i].level > p->level))
            p = &h->problems[i];
    return p;
}

static enum verdict_state judge_serving(struct page_health *h, const struct health_facts *f)
{
    const uint32_t n = n_ready(f);
    const struct problem *p = worst(h);
    if (p && p->level > LEVEL_OK) {
        say(h, p->level, p->advice, "%s", p->text);
        return VERDICT_DEGRADED;
    }
    if (f->now_us - h->active_us >= IDLE_US) {
        say(h, LEVEL_OK, NULL, "%u worker%s ready, nothing to do", n, n == 1 ? " is" : "s are");
        return VERDICT_IDLE;
    }
    say(h, LEVEL_OK, p ? p->advice : NULL, "%u request%s on %u worker%s, %u wait%s%s%s",
        f->n_running, f->n_running == 1 ? " runs" : "s run", n, n == 1 ? "" : "s", f->n_waiting,
        f->n_waiting == 1 ? "s" : "", p ? "; " : "", p ? p->text : "");
    return VERDICT_SERVING;
}

static enum verdict_state judge(struct page_health *h, const struct health_facts *f)
{
    enum verdict_state state;
    if (f->draining) {
        say(h, LEVEL_WARN, "new requests get 503; the process ends when these have ended",
            "%u answer%s still under way", f->n_answering, f->n_answering == 1 ? " is" : "s are");
        return VERDICT_DRAINING;
    }
    if (!f->progressing) {
        say(h, LEVEL_BAD, "workers that hang are given up and replaced; the events say how it goes",
            "%u requests run, but no worker makes a step", f->n_running);
        return VERDICT_STALLED;
    }
    if (judge_models(h, f, &state))
        return state;
    return judge_serving(h, f);
}

void page_health_judge(struct page_health *h, const struct health_facts *f)
{
    if (h->since_us == 0) {
        h->active_us = f->now_us;
        h->n_log_lost = f->n_log_lost;
        h->log_looked_us = f->now_us;
    }
    if (f->n_running + f->n_waiting > 0 || f->requests_s > 0)
        h->active_us = f->now_us;
    look(h, f);
    const enum verdict_state state = judge(h, f);
    if (h->since_us == 0 || state != h->state)
        h->since_us = f->wall_us;
    h->state = state;
}

/* ---- JSON ---- */

static void add_common(enum verdict_level level, uint64_t since_us, const char *advice,
                       struct buf *out)
{
    buf_addf(out, ",\"level\":\"%s\",\"since\":%.3f,\"advice\":", levels[level],
             (double)since_us / 1e6);
    json_add_cstr(out, advice);
    buf_addch(out, '}');
}

void page_health_add_verdict(const struct page_health *h, struct buf *out)
{
    buf_addf(out, "{\"state\":\"%s\",\"reason\":", states[h->state]);
    json_add_cstr(out, h->reason);
    add_common(h->level, h->since_us, h->advice, out);
}

void page_health_add_problems(const struct page_health *h, struct buf *out)
{
    bool first = true;
    buf_addch(out, '[');
    for (int i = 0; i < N_PROBLEMS; i++) {
        const struct problem *p = &h->problems[i];
        if (p->since_us == 0)
            continue;
        buf_addf(out, "%s{\"what\":\"%s\",\"text\":", first ? "" : ",", kinds[i]);
        json_add_cstr(out, p->text);
        add_common(p->level, p->since_us, p->advice, out);
        first = false;
    }
    buf_addch(out, ']');
}

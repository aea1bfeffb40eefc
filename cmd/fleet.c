#include "cmd/fleet.h"

#include <stdlib.h>
#include <string.h>

#include "cmd/gpus.h"
#include "cmd/identity.h"
#include "core/model/model.h"
#include "core/observe/log.h"
#include "core/util/clock.h"
#include "core/util/cpuinfo.h"

enum { MAX_WORKER_THREADS = 256 };

/* ---- configurations ---- */

int fleet_keep_config(struct fleet *f, struct config *c, struct err *e)
{
    struct kept_config *k = malloc(sizeof(*k));
    if (!k)
        return err_set(e, LLMD_ENOMEM, "out of memory for the configuration");
    *k = (struct kept_config){.next = f->configs, .config = c};
    f->configs = k;
    return 0;
}

/* ---- files ---- */

static bool serves_as(const struct opened *o, const struct config_model *m, uint64_t identity)
{
    return strcmp(o->path, m->path) == 0 && strcmp(o->dtype, m->dtype) == 0 &&
           strcmp(o->isa, m->cpu_isa) == 0 && o->identity == identity && identity != 0;
}

static void opened_free(struct opened *o)
{
    shared_weights_unref(o->shared);
    model_free(o->model);
    free(o->path);
    free(o->dtype);
    free(o->isa);
    free(o);
}

static int open_files(const struct config_model *m, uint64_t identity, struct opened **out,
                      struct err *e)
{
    struct opened *o = calloc(1, sizeof(*o));
    if (!o)
        return err_set(e, LLMD_ENOMEM, "out of memory for model \"%s\"", m->name);
    *o = (struct opened){.path = strdup(m->path),
                         .dtype = strdup(m->dtype),
                         .isa = strdup(m->cpu_isa),
                         .identity = identity};
    int rc = o->path && o->dtype && o->isa ? 0 : err_set(e, LLMD_ENOMEM, "out of memory");
    if (rc == 0)
        rc = model_open(m->path, &o->model, e);
    if (rc == 0 && shared_weights_new(&o->shared) != 0)
        rc = err_set(e, LLMD_ENOMEM, "out of memory");
    if (rc == 0) {
        *out = o;
        return 0;
    }
    err_prefix(e, "model \"%s\": ", m->name);
    opened_free(o);
    return rc;
}

static void warn_template(const struct config_model *c, const struct model *m)
{
    char why[600];
    log_warn("serve", "the chat template of model \"%s\" (%s) cannot be used: %s", c->name,
             m->chat_template_origin, log_quote(m->chat_template_fault, why, sizeof(why)));
}

static int get_files(struct fleet *f, const struct config_model *m, struct opened **out,
                     struct err *e)
{
    const uint64_t identity = identity_of(m->path);
    struct opened *o = f->opened;
    while (o && !serves_as(o, m, identity))
        o = o->next;
    if (!o) {
        int rc = open_files(m, identity, &o, e);
        if (rc != 0)
            return rc;
        if (o->model->chat_template_fault)
            warn_template(m, o->model);
        o->next = f->opened;
        f->opened = o;
    }
    o->n_users++;
    *out = o;
    return 0;
}

bool fleet_is_outdated(const struct served *s)
{
    return identity_of(s->c.path) != s->opened->identity;
}

/* ---- generations ---- */

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

/* What a word of `devices` asks for. */
struct device_share {
    enum worker_device device;
    uint32_t n_workers, first_gpu;
};

static int share_of(const struct config_model *c, const char *word, struct device_share *out,
                    struct err *e)
{
    uint32_t gpu;
    *out = (struct device_share){.device = DEVICE_CUDA};
    if (config_names_gpu(word, &gpu))
        return gpus_named(word, &out->first_gpu, &out->n_workers, e);
    out->device = strcmp(word, "sim") == 0 ? DEVICE_SIM : DEVICE_CPU;
    out->n_workers = out->device == DEVICE_SIM ? c->sim_workers : c->cpu_workers;
    return 0;
}

static struct worker_opts worker_opts_of(const struct fleet *f, const struct served *s,
                                         enum worker_device device, uint32_t gpu, uint32_t threads)
{
    const struct config_model *c = &s->c;
    return (struct worker_opts){
        .model_name = c->name,
        .model = s->opened->model,
        .shared = s->opened->shared,
        .metrics = f->metrics,
        .device = device,
        .n_threads = c->threads > 0 ? c->threads : threads,
        .isa = c->cpu_isa,
        .compute_f32 = strcmp(c->dtype, "float32") == 0,
        .sim_step_us = c->sim_step_us,
        .sim_row_ns = c->sim_row_ns,
        .open_gpu = c->cublaslt ? gpus_open : gpus_open_own,
        .gpu = gpu,
        .gpu_memory_percent = c->gpu_memory_utilization,
        .max_model_len = s->max_model_len,
        .max_num_seqs = c->max_num_seqs,
        .max_num_batched_tokens = c->max_num_batched_tokens,
        .kv_cache_bytes = c->kv_cache_mb << 20,
        .enable_prefix_caching = c->enable_prefix_caching,
        .max_queue = c->max_queue,
    };
}

static int plan_workers(const struct fleet *f, struct served *s, uint32_t threads, struct err *e)
{
    const struct config_model *c = &s->c;
    struct device_share share;
    uint32_t n = 0;
    for (uint32_t d = 0; d < c->n_devices; d++) {
        int rc = share_of(c, c->devices[d], &share, e);
        if (rc != 0) {
            err_prefix(e, "model \"%s\": ", c->name);
            return rc;
        }
        n += share.n_workers;
    }
    BUG_ON(n == 0); /* a model without devices is a fault of the configuration */
    s->workers = calloc(n, sizeof(*s->workers));
    if (!s->workers)
        return err_set(e, LLMD_ENOMEM, "out of memory for the workers of model \"%s\"", c->name);
    for (uint32_t d = 0; d < c->n_devices; d++) {
        int rc = share_of(c, c->devices[d], &share, e);
        for (uint32_t k = 0; rc == 0 && k < share.n_workers && s->n_workers < n; k++)
            s->workers[s->n_workers++] =
                worker_opts_of(f, s, share.device, share.first_gpu + k, threads);
    }
    return 0;
}

static struct router_model_opts route_of(const struct fleet *f, const struct config_model *c)
{
    struct router_model_opts o = {
        .max_queue = c->max_queue,
        .max_queue_us = c->max_queue_time_s * 1000000ull,
        .max_migrations = c->max_retries,
        .metrics = f->metrics,
    };
    BUG_ON(!route_policy_find(c->policy, &o.policy)); /* the configuration knows the words */
    return o;
}

static void served_free(struct served *s)
{
    if (s->opened)
        s->opened->n_users--;
    free(s->workers);
    free(s);
}

static int choose_length(struct served *s, struct err *e)
{
    const uint32_t trained = s->opened->model->hparams.context_length;
    if (s->c.max_model_len > trained)
        return err_set(e, LLMD_EINVAL,
                       "model \"%s\": max_model_len %u is more than the model's context of %u",
                       s->c.name, s->c.max_model_len, trained);
    s->max_model_len = s->c.max_model_len ? s->c.max_model_len : trained;
    return 0;
}

int fleet_add(struct fleet *f, const struct config *c, const struct config_model *m,
              struct served **out, struct err *e)
{
    const struct router_model_opts route = route_of(f, m);
    struct served *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(e, LLMD_ENOMEM, "out of memory for model \"%s\"", m->name);
    s->c = *m;
    s->base = s->live = c;
    s->created = (int64_t)(clock_wall_us() / 1000000u);
    int rc = get_files(f, m, &s->opened, e);
    if (rc == 0)
        rc = choose_length(s, e);
    if (rc == 0)
        rc = plan_workers(f, s, default_threads(c), e);
    if (rc == 0)
        rc = router_add_model(f->router, m->name, &route, e);
    if (rc != 0) {
        served_free(s);
        return rc;
    }
    s->generation = router_generation(f->router, m->name);
    s->next = f->all;
    f->all = s;
    *out = s;
    return 0;
}

struct served *fleet_find(const struct fleet *f, const char *name)
{
    for (uint32_t i = 0; i < f->n_line_up; i++)
        if (strcmp(f->line_up[i]->c.name, name) == 0)
            return f->line_up[i];
    return NULL;
}

void fleet_set_live(struct fleet *f, struct served *s, const struct config *c,
                    const struct config_model *m)
{
    const struct router_model_opts route = route_of(f, m);
    s->live = c;
    s->c.aliases = m->aliases;
    s->c.n_aliases = m->n_aliases;
    s->c.policy = m->policy;
    s->c.max_queue = m->max_queue;
    s->c.max_queue_time_s = m->max_queue_time_s;
    s->c.max_retries = m->max_retries;
    router_set_model(f->router, s->generation, &route);
}

/* ---- workers ---- */

static uint32_t free_index(const struct fleet *f)
{
    struct router_worker_view v[FLEET_PLACES];
    const uint32_t n = (uint32_t)u64_min(router_workers(f->router, v, FLEET_PLACES), FLEET_PLACES);
    bool used[FLEET_PLACES] = {false};
    for (uint32_t i = 0; i < n; i++)
        if (v[i].index < FLEET_PLACES)
            used[v[i].index] = true;
    uint32_t index = 0;
    while (index < FLEET_PLACES && used[index])
        index++;
    return index;
}

int fleet_start_worker(struct fleet *f, struct served *s, uint32_t k, int64_t index, struct err *e)
{
    const uint32_t at = index >= 0 ? (uint32_t)index : free_index(f);
    if (at >= FLEET_PLACES)
        return err_set(e, LLMD_EFULL, "more than %d workers", FLEET_PLACES);
    s->workers[k].index = at;
    return router_add_worker(f->router, s->generation, &s->workers[k], e);
}

uint32_t fleet_workers(const struct fleet *f, const struct served *s,
                       struct router_worker_view out[FLEET_PLACES])
{
    const uint32_t n =
        (uint32_t)u64_min(router_workers(f->router, out, FLEET_PLACES), FLEET_PLACES);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        if (out[i].generation == s->generation)
            out[kept++] = out[i];
    return kept;
}

bool fleet_has_gpus(const struct fleet *f)
{
    for (const struct served *s = f->all; s; s = s->next)
        for (uint32_t k = 0; k < s->n_workers; k++)
            if (s->workers[k].device == DEVICE_CUDA)
                return true;
    return false;
}

/* ---- what the edge serves ---- */

struct arrays {
    struct edge_model models[FLEET_MODELS];
    struct edge_key keys[];
};

static enum key_scope scope_of(const char *word)
{
    return strcmp(word, "admin") == 0       ? SCOPE_ADMIN
           : strcmp(word, "read_only") == 0 ? SCOPE_READ_ONLY
                                            : SCOPE_INFERENCE;
}

static enum metrics_access metrics_access(const char *word)
{
    return strcmp(word, "all") == 0         ? METRICS_ALL
           : strcmp(word, "operators") == 0 ? METRICS_OPERATORS
                                            : METRICS_TOTALS;
}

int fleet_catalog(const struct fleet *f, struct edge_served *out, void **out_arrays, struct err *e)
{
    const struct config *c = f->config;
    struct arrays *a = calloc(1, sizeof(*a) + c->n_keys * sizeof(a->keys[0]));
    if (!a)
        return err_set(e, LLMD_ENOMEM, "out of memory for what is served");
    for (uint32_t i = 0; i < f->n_line_up; i++) {
        const struct served *s = f->line_up[i];
        a->models[i] = (struct edge_model){
            .name = s->c.name,
            .aliases = s->c.aliases,
            .n_aliases = s->c.n_aliases,
            .model = s->opened->model,
            .generation = s->generation,
            .max_model_len = s->max_model_len,
            .created = s->created,
        };
    }
    for (uint32_t i = 0; i < c->n_keys; i++) {
        const struct config_key *k = &c->keys[i];
        a->keys[i] = (struct edge_key){
            .name = k->name,
            .scope = scope_of(k->scope),
            .models = k->models,
            .n_models = k->n_models,
            .expires_s = k->expires,
            .limits = {.requests_per_minute = k->requests_per_minute,
                       .tokens_per_minute = k->tokens_per_minute,
                       .max_concurrent = k->max_concurrent},
            .priority = k->priority,
            .log_prompts = k->log_prompts,
        };
        memcpy(a->keys[i].sha256, k->sha256, sizeof(k->sha256));
    }
    *out = (struct edge_served){
        .keys = a->keys,
        .n_keys = c->n_keys,
        .models = a->models,
        .n_models = f->n_line_up,
        .share_prefixes = strcmp(c->prefix_cache_scope, "shared") == 0,
        .limits = {.max_body_bytes = c->max_body_kb * 1024u,
                   .overflow_is_too_big = strcmp(c->context_overflow_status, "413") == 0,
                   .metrics = metrics_access(c->metrics_access),
                   .header_timeout_s = c->header_timeout_s,
                   .body_timeout_s = c->body_timeout_s,
                   .keepalive_timeout_s = c->keepalive_timeout_s,
                   .sse_keepalive_s = c->sse_keepalive_s,
                   .client_write_timeout_s = c->client_write_timeout_s,
                   .request_timeout_s = c->request_timeout_s,
                   .first_token_timeout_s = c->first_token_timeout_s,
                   .token_timeout_s = c->token_timeout_s,
                   .max_connections_per_address = c->max_connections_per_address,
                   .underscore_metrics = c->metrics_underscore_aliases,
                   .price_per_hour = c->price_per_hour_thousandths / 1000.0,
                   .stall_us = (uint64_t)c->stall_timeout_s * 1000000u},
    };
    *out_arrays = a;
    return 0;
}

int fleet_publish(struct fleet *f, struct err *e)
{
    struct edge_served served;
    void *arrays;
    int rc = fleet_catalog(f, &served, &arrays, e);
    if (rc != 0)
        return rc;
    rc = edge_set_catalog(f->edge, &served, e);
    free(arrays);
    return rc;
}

/* ---- the end ---- */

void fleet_retire(struct fleet *f, struct served *s)
{
    router_close_model(f->router, s->generation, true);
    s->retired = true;
}

static bool is_needed(const struct fleet *f, const struct config *c)
{
    bool needed = c == f->config;
    for (const struct served *s = f->all; s; s = s->next)
        needed |= s->base == c || s->live == c;
    return needed;
}

static void drop_configs(struct fleet *f)
{
    for (struct kept_config **at = &f->configs; *at;) {
        struct kept_config *k = *at;
        if (!k->next || is_needed(f, k->config)) { /* the edge points into the first one */
            at = &k->next;
            continue;
        }
        *at = k->next;
        config_free(k->config);
        free(k);
    }
}

void fleet_reap(struct fleet *f)
{
    for (struct served **at = &f->all; *at;) {
        struct served *s = *at;
        if (!s->retired || !router_collect_model(f->router, s->generation)) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        served_free(s);
    }
    for (struct opened **at = &f->opened; *at;) {
        struct opened *o = *at;
        if (o->n_users > 0 || edge_uses_model(f->edge, o->model)) {
            at = &o->next;
            continue;
        }
        *at = o->next;
        opened_free(o);
    }
    drop_configs(f);
}

void fleet_fini(struct fleet *f)
{
    for (struct served *s = f->all, *next; s; s = next) {
        next = s->next;
        served_free(s);
    }
    for (struct opened *o = f->opened, *next; o; o = next) {
        next = o->next;
        opened_free(o);
    }
    for (struct kept_config *k = f->configs, *next; k; k = next) {
        next = k->next;
        config_free(k->config);
        free(k);
    }
    *f = (struct fleet){.router = NULL};
}

/* admin_views.c - GET /admin/v1/...: what an operator sees of the running server. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/edge/admin_int.h"
#include "core/edge/api.h"
#include "core/edge/page.h"
#include "core/edge/respond.h"
#include "core/edge/server_json.h"
#include "core/edge/worker_json.h"
#include "core/observe/events.h"
#include "core/observe/log.h"
#include "core/router/router.h"
#include "core/util/clock.h"
#include "core/util/json.h"

static const char *edge_state(const struct exchange *ex)
{
    const struct edge *edge = ex->conn->loop->edge;
    if (atomic_load(&edge->stopping))
        return "stopping";
    if (atomic_load(&edge->draining))
        return "draining";
    return api_all_ready(edge, ex->catalog) ? "ready" : "loading";
}

enum MHD_Result admin_status(struct exchange *ex)
{
    const struct edge *edge = ex->conn->loop->edge;
    const struct edge_opts *o = &edge->opts;
    char time[CLOCK_UTC_SIZE];
    struct buf body = {0};
    clock_utc(clock_wall_us(), time);
    buf_addf(&body,
             "{\"version\":\"%s\",\"pid\":%d,\"time\":\"%s\",\"uptime_seconds\":", LLMD_VERSION,
             (int)getpid(), time);
    json_add_double(&body, (double)(clock_now_us() - edge->started_us) / 1e6);
    buf_addf(&body, ",\"state\":\"%s\",", edge_state(ex));
    server_json_listeners(edge, &body);
    buf_addch(&body, ',');
    buf_addf(&body, "\"connections\":%u,\"max_connections\":%u,\"answering\":%u,",
             atomic_load(&edge->n_conns), o->max_connections, edge_active(edge));
    buf_addf(&body, "\"requests\":%llu,\"failed\":%llu,",
             (unsigned long long)atomic_load(&edge->n_requests),
             (unsigned long long)atomic_load(&edge->n_failed));
    buf_addf(&body, "\"log\":{\"level\":\"%s\",\"lost\":%llu},", log_level_name(log_get_level()),
             (unsigned long long)log_dropped());
    server_json_reload(&o->control, &body);
    buf_addstr(&body, ",\"verdict\":");
    page_add_verdict(edge->page, &body);
    buf_addch(&body, ',');
    server_json_models(o->router, ex->catalog, &body);
    buf_addstr(&body, ",\"workers\":");
    worker_json_all(o->router, &o->control, &body);
    buf_addch(&body, '}');
    return respond_json(ex, MHD_HTTP_OK, &body);
}

enum MHD_Result admin_workers(struct exchange *ex)
{
    struct buf body = {0};
    buf_addstr(&body, "{\"workers\":");
    worker_json_all(exchange_opts(ex)->router, &exchange_opts(ex)->control, &body);
    buf_addch(&body, '}');
    return respond_json(ex, MHD_HTTP_OK, &body);
}

/* What the process says by `add`; NULL: it cannot. */
static enum MHD_Result show_config(struct exchange *ex, void (*add)(void *ctx, struct buf *json))
{
    struct buf body = {0};
    if (add) {
        add(exchange_opts(ex)->control.ctx, &body);
        return respond_json(ex, MHD_HTTP_OK, &body);
    }
    struct err e = {0};
    err_set(&e, LLMD_EUNSUPPORTED, "this server was not started from a configuration");
    return respond_error(ex, &e);
}

enum MHD_Result admin_config(struct exchange *ex)
{
    return show_config(ex, exchange_opts(ex)->control.config);
}

enum MHD_Result admin_config_options(struct exchange *ex)
{
    return show_config(ex, exchange_opts(ex)->control.options);
}

/* "limit" and what is left of it; nulls without one. */
static void add_bucket(const char *what, const struct bucket *b, uint32_t per_minute,
                       struct buf *out)
{
    buf_addf(out, ",\"%s_per_minute\":", what);
    if (per_minute > 0)
        buf_addf(out, "%u,\"%s_left\":%u", per_minute, what,
                 bucket_left(b, per_minute, clock_now_us() * 1000));
    else
        buf_addf(out, "null,\"%s_left\":null", what);
}

static void add_key(const struct catalog *c, const struct edge_key *k, struct buf *out)
{
    static const char *const scopes[] = {
        [SCOPE_INFERENCE] = "inference", [SCOPE_ADMIN] = "admin", [SCOPE_READ_ONLY] = "read_only"};
    const struct key_use *use = catalog_key_use(c, k);
    char time[CLOCK_UTC_SIZE];
    buf_addstr(out, "{\"name\":");
    json_add_cstr(out, k->name);
    buf_addf(out, ",\"scope\":\"%s\",\"models\":[", scopes[k->scope]);
    for (uint32_t i = 0; i < k->n_models; i++) {
        buf_addstr(out, i ? "," : "");
        json_add_cstr(out, k->models[i]);
    }
    buf_addstr(out, "],\"expires\":");
    clock_utc_seconds(k->expires_s, time);
    json_add_cstr(out, k->expires_s > 0 ? time : NULL);
    buf_addf(out, ",\"priority\":%d", (int)k->priority);
    add_bucket("requests", &use->requests, k->limits.requests_per_minute, out);
    add_bucket("tokens", &use->tokens, k->limits.tokens_per_minute, out);
    buf_addf(out, ",\"max_concurrent\":%u,\"running\":%u", k->limits.max_concurrent,
             atomic_load(&use->n_running));
    buf_addf(out, ",\"requests\":%llu,\"prompt_tokens\":%llu,\"output_tokens\":%llu}",
             (unsigned long long)atomic_load(&use->n_requests),
             (unsigned long long)atomic_load(&use->n_prompt_tokens),
             (unsigned long long)atomic_load(&use->n_output_tokens));
}

enum MHD_Result admin_keys(struct exchange *ex)
{
    const struct catalog *c = ex->catalog;
    struct buf body = {0};
    buf_addstr(&body, "{\"keys\":[");
    for (uint32_t i = 0; i < c->n_keys; i++) {
        buf_addstr(&body, i ? "," : "");
        add_key(c, &c->keys[i], &body);
    }
    buf_addstr(&body, "]}");
    return respond_json(ex, MHD_HTTP_OK, &body);
}

int admin_query(struct exchange *ex, const char *name, uint64_t *out, struct err *e)
{
    const char *value = MHD_lookup_connection_value(ex->mhd, MHD_GET_ARGUMENT_KIND, name);
    if (!value)
        return 0;
    size_t n = strspn(value, "0123456789");
    if (n == 0 || value[n])
        return err_set_param(e, LLMD_EINVAL, name, "%s must be a whole number", name);
    *out = strtoull(value, NULL, 10); /* saturates */
    return 0;
}

enum MHD_Result admin_events(struct exchange *ex)
{
    uint64_t after = 0;
    struct err e = {0};
    struct buf body = {0};
    if (admin_query(ex, "after", &after, &e) != 0)
        return respond_error(ex, &e);
    events_add_json(after, &body);
    return respond_json(ex, MHD_HTTP_OK, &body);
}

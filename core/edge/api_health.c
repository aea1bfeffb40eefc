/* api_health.c - what load balancers and operators ask. */
#include "core/edge/api.h"

#include <stdio.h>

#include "core/edge/openapi.h"
#include "core/edge/respond.h"
#include "core/edge/worker_json.h"
#include "core/router/router.h"
#include "core/store/store.h"
#include "core/util/json.h"

enum { VIEWS_MAX = 64 };

/* `"log":"degraded: why"`, with a comma in front unless it is the first; nothing when the request log
 * is written. It never changes the status: requests are served all the same. */
static void add_log_state(const struct exchange *ex, const char *before, struct buf *out)
{
    struct store *store = exchange_opts(ex)->store;
    struct store_status st = {.degraded = false};
    char text[sizeof(st.why) + 16];
    if (store)
        store_status(store, &st);
    if (!st.degraded)
        return;
    snprintf(text, sizeof(text), "degraded: %s", st.why);
    buf_addf(out, "%s\"log\":", before);
    json_add_cstr(out, text);
}

/* 200 as soon as the server listens; 503 when requests run and no worker makes progress. The body is
 * empty unless something is degraded. */
enum MHD_Result api_health(struct exchange *ex)
{
    struct buf body = {0};
    if (router_progressing(exchange_opts(ex)->router, ex->catalog->limits.stall_us)) {
        add_log_state(ex, "{", &body);
        if (body.len == 0)
            return respond_body(ex, MHD_HTTP_OK, NULL, &body);
        buf_addch(&body, '}');
        return respond_json(ex, MHD_HTTP_OK, &body);
    }
    struct err e = {0};
    err_set(&e, LLMD_ENOTREADY, "requests are running, but no worker makes progress");
    return respond_error(ex, &e);
}

bool api_all_ready(const struct exchange *ex)
{
    for (uint32_t i = 0; i < ex->catalog->n_models; i++)
        if (!router_model_ready(exchange_opts(ex)->router, ex->catalog->models[i].name))
            return false;
    return true;
}

static const char *verdict(const struct exchange *ex)
{
    if (atomic_load(&ex->conn->loop->edge->draining))
        return "draining";
    if (ex->catalog->n_models == 0)
        return "no model is configured: run llmd setup, or add one and reload";
    return api_all_ready(ex) ? "ready" : "loading";
}

enum MHD_Result api_ready(struct exchange *ex)
{
    struct router_worker_view views[VIEWS_MAX];
    const char *status = verdict(ex);
    struct buf body = {0};
    uint32_t n = router_workers(exchange_opts(ex)->router, views, VIEWS_MAX);
    buf_addf(&body, "{\"status\":\"%s\",\"workers\":[", status);
    for (uint32_t i = 0; i < u64_min(n, VIEWS_MAX); i++) {
        const struct router_worker_view *v = &views[i];
        buf_addstr(&body, i ? ",{\"model\":" : "{\"model\":");
        json_add_cstr(&body, v->model);
        buf_addf(&body, ",\"worker\":%u,\"state\":\"%s\",", v->index,
                 worker_state_name(v->status.state));
        worker_json_load(&v->status.load, &body);
        buf_addf(&body, ",\"drained\":%s,\"error\":", v->drained ? "true" : "false");
        json_add_cstr(&body, v->error[0] ? v->error : NULL);
        buf_addch(&body, '}');
    }
    buf_addch(&body, ']');
    add_log_state(ex, ",", &body);
    buf_addch(&body, '}');
    bool ready = status[0] == 'r';
    return respond_json(ex, ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, &body);
}

/* The process answers: that is all. */
enum MHD_Result api_live(struct exchange *ex)
{
    struct buf body = {0};
    return respond_body(ex, MHD_HTTP_OK, NULL, &body);
}

/* Requests being answered, this one apart. */
enum MHD_Result api_load(struct exchange *ex)
{
    const unsigned n = atomic_load(&ex->conn->loop->edge->n_exchanges);
    struct buf body = {0};
    buf_addf(&body, "{\"server_load\":%u}", n > 0 && !ex->conn->loop->control ? n - 1 : n);
    return respond_json(ex, MHD_HTTP_OK, &body);
}

/* Gateways ask vLLM before they send anything. */
enum MHD_Result api_is_sleeping(struct exchange *ex)
{
    struct buf body = {0};
    buf_addstr(&body, "{\"is_sleeping\":false}");
    return respond_json(ex, MHD_HTTP_OK, &body);
}

/* As vLLM has it: what is cached of prompts until now is found no more. Requests that run keep what they
 * have; the memory goes to whoever needs it, as that of any idle block. */
enum MHD_Result api_reset_prefix_cache(struct exchange *ex)
{
    struct buf body = {0};
    atomic_fetch_add(&ex->conn->loop->edge->prefix_epoch, 1);
    return respond_body(ex, MHD_HTTP_OK, NULL, &body);
}

/* What is served, in OpenAPI's words: core/edge/openapi.json. */
enum MHD_Result api_openapi(struct exchange *ex)
{
    struct buf body = {0};
    buf_addstr(&body, openapi_document);
    return respond_json(ex, MHD_HTTP_OK, &body);
}

enum MHD_Result api_version(struct exchange *ex)
{
    struct buf body = {0};
    buf_addstr(&body, "{\"version\":\"" LLMD_VERSION "\"}");
    return respond_json(ex, MHD_HTTP_OK, &body);
}

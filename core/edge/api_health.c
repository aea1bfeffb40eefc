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

static const char json_content[] = "application/json";

/* `"log":"degraded: why"`, with a comma in front unless it is the first; nothing when the request log
 * is written. It never changes the status: requests are served all the same. */
static void add_log_state(const struct edge *edge, const char *before, struct buf *out)
{
    struct store *store = edge->opts.store;
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
int api_health(struct loop *l, const struct catalog *c, struct open_answer *out, struct err *e)
{
    if (!router_progressing(l->edge->opts.router, c->limits.stall_us))
        return err_set(e, LLMD_ENOTREADY, "requests are running, but no worker makes progress");
    add_log_state(l->edge, "{", &out->body);
    if (out->body.len > 0) {
        out->content_type = json_content;
        buf_addch(&out->body, '}');
    }
    return 0;
}

bool api_all_ready(const struct edge *edge, const struct catalog *c)
{
    for (uint32_t i = 0; i < c->n_models; i++)
        if (!router_model_ready(edge->opts.router, c->models[i].name))
            return false;
    return true;
}

static const char *verdict(const struct edge *edge, const struct catalog *c)
{
    if (atomic_load(&edge->draining))
        return "draining";
    if (c->n_models == 0)
        return "no model is configured: run llmd setup, or add one and reload";
    return api_all_ready(edge, c) ? "ready" : "loading";
}

int api_ready(struct loop *l, const struct catalog *c, struct open_answer *out, struct err *e)
{
    (void)e;
    struct router_worker_view views[VIEWS_MAX];
    const char *status = verdict(l->edge, c);
    struct buf *body = &out->body;
    uint32_t n = router_workers(l->edge->opts.router, views, VIEWS_MAX);
    buf_addf(body, "{\"status\":\"%s\",\"workers\":[", status);
    for (uint32_t i = 0; i < u64_min(n, VIEWS_MAX); i++) {
        const struct router_worker_view *v = &views[i];
        buf_addstr(body, i ? ",{\"model\":" : "{\"model\":");
        json_add_cstr(body, v->model);
        buf_addf(body, ",\"worker\":%u,\"state\":\"%s\",", v->index,
                 worker_state_name(v->status.state));
        worker_json_load(&v->status.load, body);
        buf_addf(body, ",\"drained\":%s,\"error\":", v->drained ? "true" : "false");
        json_add_cstr(body, v->error[0] ? v->error : NULL);
        buf_addch(body, '}');
    }
    buf_addch(body, ']');
    add_log_state(l->edge, ",", body);
    buf_addch(body, '}');
    out->content_type = json_content;
    if (status[0] != 'r')
        out->status = MHD_HTTP_SERVICE_UNAVAILABLE;
    return 0;
}

/* The process answers: that is all. */
int api_live(struct loop *l, const struct catalog *c, struct open_answer *out, struct err *e)
{
    (void)l, (void)c, (void)out, (void)e;
    return 0;
}

/* Requests being answered, this one apart. */
int api_load(struct loop *l, const struct catalog *c, struct open_answer *out, struct err *e)
{
    (void)c, (void)e;
    const unsigned n = atomic_load(&l->edge->n_exchanges);
    buf_addf(&out->body, "{\"server_load\":%u}", n > 0 && !l->control ? n - 1 : n);
    out->content_type = json_content;
    return 0;
}

/* Gateways ask vLLM before they send anything. */
int api_is_sleeping(struct loop *l, const struct catalog *c, struct open_answer *out, struct err *e)
{
    (void)l, (void)c, (void)e;
    buf_addstr(&out->body, "{\"is_sleeping\":false}");
    out->content_type = json_content;
    return 0;
}

int api_version(struct loop *l, const struct catalog *c, struct open_answer *out, struct err *e)
{
    (void)l, (void)c, (void)e;
    buf_addstr(&out->body, "{\"version\":\"" LLMD_VERSION "\"}");
    out->content_type = json_content;
    return 0;
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

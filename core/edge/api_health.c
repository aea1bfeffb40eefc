/* api_health.c - what load balancers, operators and scrapers ask. */
#include "core/edge/api.h"
#include "core/edge/respond.h"
#include "core/edge/worker_json.h"
#include "core/observe/metrics.h"
#include "core/router/router.h"
#include "core/util/json.h"

enum { VIEWS_MAX = 64 };

/* 200 as soon as the server listens; 503 when requests run and no worker makes progress. */
enum MHD_Result api_health(struct exchange *ex)
{
    struct buf body = {0};
    if (router_progressing(exchange_opts(ex)->router, exchange_opts(ex)->stall_us))
        return respond_body(ex, MHD_HTTP_OK, NULL, &body);
    struct err e = {0};
    err_set(&e, LLMD_ENOTREADY, "requests are running, but no worker makes progress");
    return respond_error(ex, &e);
}

static const char *verdict(const struct exchange *ex)
{
    if (atomic_load(&ex->conn->loop->edge->draining))
        return "draining";
    return router_all_ready(exchange_opts(ex)->router) ? "ready" : "loading";
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
    buf_addstr(&body, "]}");
    bool ready = status[0] == 'r';
    return respond_json(ex, ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, &body);
}

enum MHD_Result api_version(struct exchange *ex)
{
    struct buf body = {0};
    buf_addstr(&body, "{\"version\":\"" LLMD_VERSION "\"}");
    return respond_json(ex, MHD_HTTP_OK, &body);
}

enum MHD_Result api_metrics(struct exchange *ex)
{
    struct buf body = {0};
    if (exchange_opts(ex)->metrics)
        metrics_write(exchange_opts(ex)->metrics, &body);
    return respond_body(ex, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", &body);
}

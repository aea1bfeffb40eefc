/* admin_requests.c - /admin/v1/requests, /admin/v1/decisions: what lives, what was decided and why, and
 * how to end it. */
#include <stdlib.h>
#include <string.h>

#include "core/edge/admin_int.h"
#include "core/edge/api.h"
#include "core/edge/respond.h"
#include "core/edge/routes.h"
#include "core/observe/events.h"
#include "core/router/router.h"
#include "core/util/clock.h"
#include "core/util/json.h"

enum { REQUESTS_MAX = 2048, DECISIONS = 50, DECISIONS_MAX = 2000 };

static void add_ms(const char *name, uint64_t from_us, uint64_t to_us, struct buf *out)
{
    if (to_us < from_us)
        buf_addf(out, "\"%s\":null", name);
    else
        buf_addf(out, "\"%s\":%.3f", name, (double)(to_us - from_us) / 1e3);
}

static void add_request(const struct router_request_view *v, uint64_t now_us, struct buf *out)
{
    buf_addstr(out, "{\"id\":");
    json_add_cstr(out, v->id);
    buf_addstr(out, ",\"model\":");
    json_add_cstr(out, v->model);
    buf_addstr(out, ",\"key\":");
    json_add_cstr(out, v->key[0] ? v->key : NULL);
    if (v->worker >= 0)
        buf_addf(out, ",\"worker\":%d,", v->worker);
    else
        buf_addstr(out, ",\"worker\":null,");
    buf_addf(out,
             "\"prompt_tokens\":%u,\"cached_tokens\":%u,\"output_tokens\":%u,\"choices\":%u,"
             "\"migrations\":%u,\"waits_for\":%s,",
             v->n_prompt_tokens, v->n_cached_tokens, v->n_output_tokens, v->n_choices,
             v->n_migrations,
             v->waits_for_client ? "\"client\""
             : v->worker < 0     ? "\"worker\""
                                 : "null");
    add_ms("age_ms", v->submitted_us, now_us, out);
    buf_addch(out, ',');
    add_ms("bound_ms", v->submitted_us, v->bound_us, out);
    buf_addch(out, ',');
    add_ms("first_token_ms", v->submitted_us, v->first_token_us, out);
    buf_addch(out, '}');
}

void admin_add_requests(struct router *r, uint32_t max, struct buf *out)
{
    struct router_request_view *views = calloc(max, sizeof(*views));
    const uint32_t n = views ? router_requests(r, views, max) : 0;
    const uint64_t now_us = clock_now_us();
    out->failed |= !views;
    buf_addf(out, "{\"total\":%u,\"requests\":[", n);
    for (uint32_t i = 0; i < u64_min(n, max); i++) {
        buf_addstr(out, i ? ",\n" : "");
        add_request(&views[i], now_us, out);
    }
    buf_addstr(out, "]}");
    free(views);
}

enum MHD_Result admin_requests(struct exchange *ex)
{
    struct buf body = {0};
    admin_add_requests(exchange_opts(ex)->router, REQUESTS_MAX, &body);
    return respond_json(ex, MHD_HTTP_OK, &body);
}

static enum MHD_Result cancel(struct exchange *ex, const char *id)
{
    struct buf body = {0};
    struct err e = {0};
    char who[ADMIN_ACTOR_MAX];
    uint32_t n = router_cancel(exchange_opts(ex)->router, id);
    if (n == 0) {
        err_set(&e, LLMD_ENOTFOUND, "there is no live request of that id");
        return respond_error(ex, &e);
    }
    event_note(LOG_INFO, "admin", "cancelled request=%s by %s", id, admin_actor(ex, who));
    buf_addstr(&body, "{\"id\":");
    json_add_cstr(&body, id);
    buf_addf(&body, ",\"cancelled\":%u}", n);
    return respond_json(ex, MHD_HTTP_OK, &body);
}

enum MHD_Result admin_request(struct exchange *ex)
{
    const char *id = ex->url + strlen("/admin/v1/requests/");
    struct buf body = {0};
    struct err e = {0};
    if (route_method(ex->method) == ROUTE_DELETE)
        return cancel(ex, id);
    if (router_record_json(exchange_opts(ex)->router, id, &body))
        return respond_json(ex, MHD_HTTP_OK, &body);
    buf_fini(&body);
    err_set(&e, LLMD_ENOTFOUND, "there is no such request, live or among those that ended last");
    return respond_error(ex, &e);
}

enum MHD_Result admin_decisions(struct exchange *ex)
{
    uint64_t n = DECISIONS;
    struct buf body = {0};
    struct err e = {0};
    if (admin_query(ex, "n", &n, &e) != 0)
        return respond_error(ex, &e);
    buf_addstr(&body, "{\"decisions\":");
    router_decisions(exchange_opts(ex)->router, (uint32_t)u64_min(n, DECISIONS_MAX), &body);
    buf_addch(&body, '}');
    return respond_json(ex, MHD_HTTP_OK, &body);
}

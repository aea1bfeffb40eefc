/* admin_actions.c - POST and DELETE /admin/v1/...: what an operator does to the running server. Each
 * is an event, with who did it. */
#include <stdio.h>
#include <string.h>

#include "core/edge/admin_int.h"
#include "core/edge/api.h"
#include "core/edge/fields.h"
#include "core/edge/respond.h"
#include "core/edge/routes.h"
#include "core/observe/events.h"
#include "core/router/router.h"
#include "core/util/json.h"

const char *admin_actor(const struct exchange *ex, char out[ADMIN_ACTOR_MAX])
{
    char key[ADMIN_ACTOR_MAX - 8];
    if (ex->conn->loop->control)
        snprintf(out, ADMIN_ACTOR_MAX, "uid=%u", (unsigned)ex->conn->peer_uid);
    else if (ex->caller.local)
        snprintf(out, ADMIN_ACTOR_MAX, "local");
    else
        snprintf(out, ADMIN_ACTOR_MAX, "key=%s",
                 log_quote(exchange_key_name(ex), key, sizeof(key)));
    return out;
}

static enum MHD_Result cannot(struct exchange *ex, const char *what)
{
    struct err e = {0};
    err_set(&e, LLMD_EUNSUPPORTED, "this server cannot %s", what);
    return respond_error(ex, &e);
}

int admin_read_body(struct exchange *ex, const char *member, json_t **out, struct err *e)
{
    json_t *v = NULL;
    const char *name;
    json_t *value;
    if (ex->body.failed)
        return err_set(e, LLMD_ENOMEM, "out of memory for the request body");
    int rc = 0;
    if (ex->body.len > 0) {
        rc = body_check_type(ex, e);
        if (rc == 0)
            rc = json_parse(buf_str(&ex->body), ex->body.len, &v, e);
        if (rc == 0 && !json_is_object(v))
            rc = err_set(e, LLMD_EINVAL, "the body must be a JSON object");
    }
    json_object_foreach(v, name, value)
    {
        if (rc == 0 && (!member || strcmp(name, member) != 0))
            rc = err_set_param(e, LLMD_EINVAL, name, "there is no such field here; %s%s",
                               member ? "the only one is " : "the body is to be empty",
                               member ? member : "");
    }
    if (rc == 0)
        *out = v;
    else
        json_decref(v);
    return rc;
}

static enum MHD_Result drain_all(struct exchange *ex)
{
    const struct edge_control *c = &exchange_opts(ex)->control;
    char who[ADMIN_ACTOR_MAX];
    struct buf body = {0};
    if (!c->drain)
        return cannot(ex, "be drained");
    event_note(LOG_INFO, "admin", "drain asked by %s", admin_actor(ex, who));
    c->drain(c->ctx);
    buf_addf(&body, "{\"state\":\"draining\",\"answering\":%u}", edge_active(ex->conn->loop->edge));
    return respond_json(ex, MHD_HTTP_ACCEPTED, &body);
}

/* The number of a worker in the body; -1: none is named. Null is no way to name none: whoever sends it
 * meant one. */
static int read_worker(struct exchange *ex, int64_t *out, struct err *e)
{
    json_t *v = NULL;
    int rc = admin_read_body(ex, "worker", &v, e);
    *out = -1;
    if (rc == 0 && json_is_null(json_object_get(v, "worker")))
        rc = field_wrong("worker", "the number of a worker", json_object_get(v, "worker"), e);
    if (rc == 0)
        rc = field_int(v, "worker", 0, UINT32_MAX, out, e);
    json_decref(v);
    return rc;
}

static enum MHD_Result respond_worker(struct exchange *ex, int64_t index, const char *state)
{
    struct buf body = {0};
    buf_addf(&body, "{\"worker\":%lld,\"state\":\"%s\"}", (long long)index, state);
    return respond_json(ex, MHD_HTTP_ACCEPTED, &body);
}

enum MHD_Result admin_drain(struct exchange *ex)
{
    struct router *router = exchange_opts(ex)->router;
    char who[ADMIN_ACTOR_MAX];
    int64_t index;
    struct err e = {0};
    if (read_worker(ex, &index, &e) != 0)
        return respond_error(ex, &e);
    if (index < 0)
        return drain_all(ex);
    if (router_drain_worker(router, (uint32_t)index, &e) != 0)
        return respond_error(ex, &e);
    event_note(LOG_INFO, "admin", "drain worker=%lld asked by %s", (long long)index,
               admin_actor(ex, who));
    return respond_worker(ex, index, "draining");
}

enum MHD_Result admin_undrain(struct exchange *ex)
{
    struct router *router = exchange_opts(ex)->router;
    char who[ADMIN_ACTOR_MAX];
    int64_t index;
    struct err e = {0};
    int rc = read_worker(ex, &index, &e);
    if (rc == 0 && index < 0)
        rc = err_set_param(&e, LLMD_EINVAL, "worker", "name the worker: {\"worker\": 0}");
    if (rc == 0)
        rc = router_return_worker(router, (uint32_t)index, &e);
    if (rc != 0)
        return respond_error(ex, &e);
    event_note(LOG_INFO, "admin", "return worker=%lld asked by %s", (long long)index,
               admin_actor(ex, who));
    return respond_worker(ex, index, "starting");
}

static enum MHD_Result respond_reload_state(struct exchange *ex, unsigned status)
{
    const struct edge_control *c = &exchange_opts(ex)->control;
    struct buf body = {0};
    if (!c->reload_state)
        return cannot(ex, "read its configuration again");
    c->reload_state(c->ctx, &body);
    return respond_json(ex, status, &body);
}

enum MHD_Result admin_reload(struct exchange *ex)
{
    const struct edge_control *c = &exchange_opts(ex)->control;
    char who[ADMIN_ACTOR_MAX];
    json_t *v;
    struct err e = {0};
    if (route_method(ex->method) == ROUTE_GET)
        return respond_reload_state(ex, MHD_HTTP_OK);
    if (admin_read_body(ex, NULL, &v, &e) != 0)
        return respond_error(ex, &e);
    json_decref(v);
    if (!c->reload)
        return cannot(ex, "read its configuration again");
    if (atomic_load(&ex->conn->loop->edge->draining)) {
        err_set(&e, LLMD_EDRAINING, "the server is shutting down");
        return respond_error(ex, &e);
    }
    event_note(LOG_INFO, "admin", "reload asked by %s", admin_actor(ex, who));
    if (c->reload(c->ctx, &e) != 0)
        return respond_error(ex, &e);
    return respond_reload_state(ex, MHD_HTTP_ACCEPTED);
}

enum MHD_Result admin_log_level(struct exchange *ex)
{
    const char *word = NULL;
    enum log_level level, was = log_get_level();
    char who[ADMIN_ACTOR_MAX];
    struct err e = {0};
    struct buf body = {0};
    json_t *v = NULL;
    int rc = admin_read_body(ex, "level", &v, &e);
    if (rc == 0)
        rc = field_string(v, "level", &word, &e);
    if (rc == 0 && (!word || !log_level_parse(word, &level)))
        rc = err_set_param(&e, LLMD_EINVAL, "level",
                           "level must be one of error, warn, info, debug");
    json_decref(v);
    if (rc != 0)
        return respond_error(ex, &e);
    log_set_level(level);
    event_note(LOG_INFO, "admin", "log level is %s was=%s by %s", log_level_name(level),
               log_level_name(was), admin_actor(ex, who));
    buf_addf(&body, "{\"level\":\"%s\",\"was\":\"%s\"}", log_level_name(level),
             log_level_name(was));
    return respond_json(ex, MHD_HTTP_OK, &body);
}

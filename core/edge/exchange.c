/* exchange.c - one HTTP request and its reply, as libmicrohttpd tells the story:
 *
 *   request line  exchange_request_line: the clock of the head starts
 *   head          exchange_handle, first call: framing, key, path, method, size; the verdict is
 *                 kept and the reply waits for the body, unless the body is not worth reading
 *   body          exchange_handle with data
 *   end of body   exchange_handle, last call: the refusal, or the route's handler
 *   (resumed)     exchange_handle again: a plain generation is complete
 *   end           exchange_completed, however it ended */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/edge/caller.h"
#include "core/edge/edge_int.h"
#include "core/edge/front.h"
#include "core/edge/generation.h"
#include "core/edge/later.h"
#include "core/edge/page_stream.h"
#include "core/edge/request_log.h"
#include "core/edge/respond.h"
#include "core/edge/routes.h"
#include "core/edge/spans.h"
#include "core/observe/log.h"
#include "core/observe/traces.h"
#include "core/util/clock.h"

void exchange_uncount(struct exchange *ex)
{
    if (!ex->uncounted && !ex->conn->loop->control)
        atomic_fetch_sub(&ex->conn->loop->edge->n_exchanges, 1);
    ex->uncounted = true;
}

void exchange_suspend(struct exchange *ex)
{
    BUG_ON(ex->suspended);
    ex->suspended = true;
    MHD_suspend_connection(ex->mhd);
}

void exchange_resume(struct exchange *ex)
{
    if (!ex->suspended)
        return;
    ex->suspended = false;
    MHD_resume_connection(ex->mhd);
    front_touch(ex->conn->front);
}

void exchange_hang_up(struct exchange *ex)
{
    ex->gone = true;
    if (ex->generation)
        generation_cancel(ex->generation);
    exchange_resume(ex);
}

void *exchange_request_line(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    (void)cls;
    (void)uri;
    struct conn *c = conn_of(mhd);
    if (c) {
        c->line_us = clock_now_us();
        conn_set_deadline(c, edge_limits(c->loop->edge).header_timeout_s);
    }
    return NULL;
}

const char *exchange_client(const struct exchange *ex, char out[INET6_ADDRSTRLEN])
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(ex->mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *sa = info ? info->client_addr : NULL;
    const void *ip = NULL;
    if (sa && sa->sa_family == AF_INET)
        ip = &((const struct sockaddr_in *)(const void *)sa)->sin_addr;
    else if (sa && sa->sa_family == AF_INET6)
        ip = &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
    if (sa && sa->sa_family == AF_UNIX)
        return "unix";
    return ip ? inet_ntop(sa->sa_family, ip, out, INET6_ADDRSTRLEN) : NULL;
}

/* A trace of its own, when it wants something generated and is one of those that are recorded. */
static void begin_trace(struct exchange *ex)
{
    const struct traces *traces = exchange_opts(ex)->traces;
    if (!traces_on(traces) || !spans_wanted(ex))
        return;
    const uint64_t id = loop_random_id(ex->conn->loop);
    if (traces_sample(traces, id))
        trace_context_begin(loop_random_id(ex->conn->loop), id, loop_random_id(ex->conn->loop),
                            &ex->trace);
}

/* What the client calls the request, or we do, and the trace that it is a part of. */
static void choose_names(struct exchange *ex)
{
    const char *id = MHD_lookup_connection_value(ex->mhd, MHD_HEADER_KIND, "X-Request-Id");
    const char *parent = MHD_lookup_connection_value(ex->mhd, MHD_HEADER_KIND, "traceparent");
    if (id && request_id_valid(id))
        memcpy(ex->id, id, strlen(id) + 1);
    else
        snprintf(ex->id, sizeof(ex->id), "%016" PRIx64, loop_random_id(ex->conn->loop));
    if (!parent || !trace_context_take(parent, loop_random_id(ex->conn->loop), &ex->trace))
        begin_trace(ex);
}

static enum MHD_Result count_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                    const char *value)
{
    (void)kind;
    framing_header(cls, name, value);
    return MHD_YES;
}

/* What came was no request, or the body is not what it said; libmicrohttpd got something else. */
static bool bad_bytes(struct exchange *ex)
{
    const struct front *front = ex->conn->front;
    const char *fault = front ? front_fault(front, &ex->refusal_status) : NULL;
    if (fault)
        ex->refusal_detail = fault;
    return fault != NULL;
}

/* Decides about everything but the body. */
static enum refusal admit(struct exchange *ex, const struct framing *f, const char *version)
{
    ex->refusal_detail = framing_fault(f, version);
    ex->refusal_status = MHD_HTTP_BAD_REQUEST;
    if (ex->refusal_detail || bad_bytes(ex))
        return REFUSE_FRAMING;
    bool options = strcmp(ex->method, MHD_HTTP_METHOD_OPTIONS) == 0;
    ex->access = caller_check(ex, options);
    if (ex->access != ACCESS_GRANTED)
        return REFUSE_ACCESS;
    if (!ex->route)
        return REFUSE_PATH;
    if (options)
        return REFUSE_NOT;
    if (!(ex->route->methods & route_method(ex->method)))
        return REFUSE_METHOD;
    if (ex->route->methods == ROUTE_POST && ex->route->access != ACCESS_ADMIN &&
        atomic_load(&ex->conn->loop->edge->draining))
        return REFUSE_DRAINING;
    return REFUSE_NOT;
}

static struct exchange *exchange_new(struct conn *c, struct MHD_Connection *mhd)
{
    struct exchange *ex = calloc(1, sizeof(*ex));
    if (!ex)
        return NULL;
    struct loop *l = c->loop;
    ex->conn = c;
    ex->mhd = mhd;
    ex->catalog = edge_catalog(l->edge);
    ex->started_us = c->line_us;
    ex->next = l->exchanges;
    if (l->exchanges)
        l->exchanges->prev = ex;
    l->exchanges = ex;
    c->exchange = ex;
    if (!l->control)
        atomic_fetch_add(&l->edge->n_exchanges, 1);
    return ex;
}

static enum MHD_Result begin(struct MHD_Connection *mhd, const char *url, const char *method,
                             const char *version, void **context)
{
    struct conn *c = conn_of(mhd);
    struct exchange *ex = c ? exchange_new(c, mhd) : NULL;
    if (!ex)
        return MHD_NO;
    *context = ex;
    if (c->front)
        front_begin(c->front);
    ex->url = url;
    ex->method = method;
    ex->chunks = strcmp(version, MHD_HTTP_VERSION_1_1) == 0;
    ex->route = route_find(url);
    choose_names(ex);

    struct framing f = {0};
    MHD_get_connection_values(mhd, MHD_HEADER_KIND, count_header, &f);
    ex->refusal = admit(ex, &f, version);
    body_admit(ex, &f);
    conn_set_deadline(c, ex->catalog->limits.body_timeout_s);
    bool now = ex->refusal == REFUSE_FRAMING ||
               (ex->refusal != REFUSE_NOT && framing_has_body(&f) && !ex->drain_body);
    return now ? respond_refusal(ex) : MHD_YES;
}

enum MHD_Result exchange_handle(void *cls, struct MHD_Connection *mhd, const char *url,
                                const char *method, const char *version, const char *data,
                                size_t *n_data, void **context)
{
    (void)cls;
    struct exchange *ex = *context;
    if (!ex)
        return begin(mhd, url, method, version, context);
    if (*n_data > 0) {
        bool goes_on = body_take(ex, data, *n_data);
        *n_data = 0;
        return goes_on ? MHD_YES : MHD_NO;
    }
    if (ex->generation)
        return generation_reply(ex->generation);
    if (ex->gone)
        return MHD_NO;
    conn_set_deadline(ex->conn, 0);
    if (bad_bytes(ex))
        ex->refusal = REFUSE_FRAMING;
    if (ex->refusal != REFUSE_NOT)
        return respond_refusal(ex);
    if (strcmp(method, MHD_HTTP_METHOD_OPTIONS) == 0)
        return respond_options(ex);
    return ex->route->handle(ex);
}

static void count_answer(const struct exchange *ex)
{
    struct edge *edge = ex->conn->loop->edge;
    const int code = ex->generation->error.code;
    atomic_fetch_add(&edge->n_requests, 1);
    if (code != 0 && err_http_status(code) >= MHD_HTTP_INTERNAL_SERVER_ERROR)
        atomic_fetch_add(&edge->n_failed, 1);
}

void exchange_count(struct edge *edge, const struct http_figures *f, const char *id, bool log)
{
    const bool acts = (route_method(f->method) & (ROUTE_POST | ROUTE_DELETE)) != 0;
    edge_metrics_http(&edge->metrics, f);
    if (log)
        log_line(acts ? LOG_INFO : LOG_DEBUG, "edge",
                 "reply id=%s route=%s status=%u body=%llu reply=%llu total_ms=%.1f", id,
                 f->route < routes_count() ? route_at(f->route)->label : "none",
                 f->status ? f->status : 499, (unsigned long long)f->request_bytes,
                 (unsigned long long)f->reply_bytes, f->seconds * 1e3);
}

static void account(struct exchange *ex)
{
    const struct http_figures f = {
        .route = route_index(ex->route),
        .method = ex->method,
        .error = ex->generation ? ex->generation->error.code : 0,
        .status = ex->status,
        .request_bytes = ex->n_body,
        .reply_bytes = ex->n_reply,
        .seconds = (double)(clock_now_us() - ex->started_us) * 1e-6,
    };
    if (ex->generation)
        count_answer(ex);
    exchange_count(ex->conn->loop->edge, &f, ex->id, !ex->generation);
}

void exchange_completed(void *cls, struct MHD_Connection *mhd, void **context,
                        enum MHD_RequestTerminationCode why)
{
    struct loop *l = cls;
    struct exchange *ex = *context;
    struct conn *c = conn_of(mhd);
    *context = NULL;
    if (c) {
        front_touch(c->front);
        conn_set_deadline(c, edge_limits(l->edge).keepalive_timeout_s);
    }
    if (!ex)
        return;
    if (why != MHD_REQUEST_TERMINATED_COMPLETED_OK)
        ex->gone = true;
    conn_unwatch(ex->conn);
    account(ex);
    request_log_end(ex);
    spans_end(ex);
    later_leave(ex);
    page_stream_free(ex);
    generation_free(ex->generation);
    exchange_leave(ex, 0);
    buf_fini(&ex->body);
    buf_fini(&ex->kept_body);
    if (ex->prev)
        ex->prev->next = ex->next;
    else
        l->exchanges = ex->next;
    if (ex->next)
        ex->next->prev = ex->prev;
    ex->conn->exchange = NULL;
    if (ex->uncounted && !l->control) /* once more, for what follows */
        atomic_fetch_add(&l->edge->n_exchanges, 1);
    if (ex->conn->front)
        front_owe(ex->conn->front);
    else if (!l->control)
        atomic_fetch_sub(&l->edge->n_exchanges, 1);
    catalog_unref(ex->catalog);
    free(ex);
}

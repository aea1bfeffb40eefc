#include "core/edge/respond.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/edge/answer.h"
#include "core/edge/api_error.h"
#include "core/edge/routes.h"
#include "core/util/clock.h"

enum { STREAM_BLOCK_BYTES = 256, RETRY_SOON_S = 1, RETRY_LATER_S = 5 };
enum { NS_PER_MS = 1000000, NS_PER_S = 1000000000 };

static const char json_type[] = "application/json";

/* The request's own span, of the trace that the client named. */
static bool add_trace(const struct exchange *ex, struct MHD_Response *r)
{
    char text[TRACEPARENT_BYTES];
    if (!ex->trace.trace_id[0])
        return true;
    trace_context_write(&ex->trace, text);
    return MHD_add_response_header(r, "traceparent", text) == MHD_YES;
}

static bool add_number(struct MHD_Response *r, const char *name, uint64_t n)
{
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
    return MHD_add_response_header(r, name, text) == MHD_YES;
}

/* Which worker, and what it had of the prompt: what the client needs to ask why it took so long. */
static bool add_placement(const struct exchange *ex, struct MHD_Response *r)
{
    return !ex->placed || (add_number(r, "X-Llmd-Worker", ex->worker) &&
                           add_number(r, "X-Llmd-Cached-Tokens", ex->n_cached_tokens));
}

/* The three x-ratelimit headers of one bucket, as OpenAI has them. */
static bool add_bucket(struct MHD_Response *r, const char *what, const struct bucket *b,
                       uint32_t per_minute)
{
    const uint64_t now_ns = clock_now_us() * 1000;
    char name[40];
    struct buf reset = {0};
    if (per_minute == 0)
        return true;
    limit_format_reset(bucket_refill_ns(b, now_ns), &reset);
    snprintf(name, sizeof(name), "x-ratelimit-limit-%s", what);
    bool good = add_number(r, name, per_minute);
    snprintf(name, sizeof(name), "x-ratelimit-remaining-%s", what);
    good = good && add_number(r, name, bucket_left(b, per_minute, now_ns));
    snprintf(name, sizeof(name), "x-ratelimit-reset-%s", what);
    good = good && MHD_add_response_header(r, name, buf_str(&reset)) == MHD_YES;
    buf_fini(&reset);
    return good;
}

/* What the key has left, and when a request that was refused would fit: in whole seconds as HTTP has
 * it, and in the milliseconds that OpenAI's clients prefer. */
static bool add_limits(const struct exchange *ex, struct MHD_Response *r)
{
    const struct key_use *use = catalog_key_use(ex->catalog, ex->key);
    if (!use || !ex->route || ex->route->access != ACCESS_KEY)
        return true;
    const struct key_limits *l = &ex->key->limits;
    const uint64_t wait_ns = ex->limited.wait_ns;
    bool good = add_bucket(r, "requests", &use->requests, l->requests_per_minute) &&
                add_bucket(r, "tokens", &use->tokens, l->tokens_per_minute);
    if (!good || wait_ns == 0 || wait_ns == UINT64_MAX)
        return good;
    return add_number(r, MHD_HTTP_HEADER_RETRY_AFTER, (wait_ns + NS_PER_S - 1) / NS_PER_S) &&
           add_number(r, "retry-after-ms", (wait_ns + NS_PER_MS - 1) / NS_PER_MS);
}

/* What operators get is nobody else's: neither a cache's nor another page's. */
static bool add_privacy(const struct exchange *ex, struct MHD_Response *r)
{
    static const char *const headers[][2] = {
        {"X-Content-Type-Options", "nosniff"},
        {"X-Frame-Options", "DENY"},
        {"Referrer-Policy", "no-referrer"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
    };
    const enum route_access access = route_access(ex->route, ex->url);
    if (access != ACCESS_ADMIN && access != ACCESS_PAGE)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(headers); i++)
        if (MHD_add_response_header(r, headers[i][0], headers[i][1]) != MHD_YES)
            return false;
    return MHD_get_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL) ||
           MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") == MHD_YES;
}

/* Queues the response and gives up our hold on it. */
static enum MHD_Result queue(struct exchange *ex, unsigned status, struct MHD_Response *r,
                             bool close)
{
    if (!r)
        return MHD_NO;
    bool bad = MHD_add_response_header(r, "X-Request-Id", ex->id) != MHD_YES;
    bad |= !add_trace(ex, r);
    bad |= !add_placement(ex, r);
    bad |= !add_limits(ex, r);
    bad |= !add_privacy(ex, r);
    if (close || loop_closing(ex->conn->loop))
        bad |= MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close") != MHD_YES;
    enum MHD_Result rc = bad ? MHD_NO : MHD_queue_response(ex->mhd, status, r);
    MHD_destroy_response(r);
    if (rc == MHD_YES)
        ex->status = status;
    return rc;
}

static struct MHD_Response *from_body(struct exchange *ex, const char *content_type,
                                      struct buf *body)
{
    size_t n = 0;
    char *data = buf_steal(body, &n);
    if (!data)
        return NULL;
    ex->n_reply = n;
    struct MHD_Response *r = MHD_create_response_from_buffer(n, data, MHD_RESPMEM_MUST_FREE);
    if (!r) {
        free(data);
        return NULL;
    }
    if (!content_type ||
        MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, content_type) == MHD_YES)
        return r;
    MHD_destroy_response(r);
    return NULL;
}

enum MHD_Result respond_body(struct exchange *ex, unsigned status, const char *content_type,
                             struct buf *body)
{
    return queue(ex, status, from_body(ex, content_type, body), false);
}

enum MHD_Result respond_json(struct exchange *ex, unsigned status, struct buf *body)
{
    return respond_body(ex, status, json_type, body);
}

enum MHD_Result respond_made(struct exchange *ex, unsigned status, struct MHD_Response *r)
{
    return queue(ex, status, r, false);
}

enum MHD_Result respond_answer(struct exchange *ex)
{
    struct open_answer a = {.status = MHD_HTTP_OK};
    struct err why = {0};
    if (route_answer_of(ex->route)(ex->conn->loop, ex->catalog, &a, &why) == 0)
        return respond_body(ex, a.status, a.content_type, &a.body);
    buf_fini(&a.body);
    return respond_error(ex, &why);
}

/* With one more header, unless name is NULL. */
static enum MHD_Result queue_json(struct exchange *ex, unsigned status, struct buf *body,
                                  const char *name, const char *value, bool close)
{
    struct MHD_Response *r = from_body(ex, json_type, body);
    if (r && name && MHD_add_response_header(r, name, value) != MHD_YES) {
        MHD_destroy_response(r);
        return MHD_NO;
    }
    return queue(ex, status, r, close);
}

enum MHD_Result respond_json_with(struct exchange *ex, unsigned status, struct buf *body,
                                  const char *name, const char *value)
{
    return queue_json(ex, status, body, name, value, false);
}

enum MHD_Result respond_error(struct exchange *ex, const struct err *e)
{
    struct buf body = {0};
    char seconds[16];
    unsigned status = (unsigned)err_http_status(e->code);
    bool soon = e->code == LLMD_EFULL || e->code == LLMD_ENOMEM;
    snprintf(seconds, sizeof(seconds), "%d", soon ? RETRY_SOON_S : RETRY_LATER_S);
    if (e->code == LLMD_ERATE)
        api_error_write(&body, status, ex->limited.kind == LIMIT_TOKENS ? "tokens" : "requests",
                        "rate_limit_exceeded", NULL, e->msg);
    else
        api_error_add(&body, e);
    return queue_json(ex, status, &body, status == 503 ? MHD_HTTP_HEADER_RETRY_AFTER : NULL,
                      seconds, false);
}

static enum MHD_Result respond_unauthorized(struct exchange *ex, bool expired)
{
    struct buf body = {0};
    char text[160] = "the API key is missing or not known; send it as 'Authorization: Bearer KEY'";
    if (expired) {
        char since[CLOCK_UTC_SIZE];
        clock_utc_seconds(ex->key->expires_s, since);
        snprintf(text, sizeof(text), "the API key expired at %s; ask for a new one", since);
    }
    api_error_write(&body, MHD_HTTP_UNAUTHORIZED, "authentication_error",
                    expired ? "expired_api_key" : "invalid_api_key", NULL, text);
    return queue_json(ex, MHD_HTTP_UNAUTHORIZED, &body, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer",
                      false);
}

static enum MHD_Result respond_no_path(struct exchange *ex)
{
    struct err e = {0};
    err_set(&e, LLMD_ENOTFOUND, "there is no such path; the API is under /v1/");
    return respond_error(ex, &e);
}

enum MHD_Result respond_no_access(struct exchange *ex, enum access_verdict why)
{
    static const char *const texts[] = {
        [ACCESS_NOT_ADMIN] =
            "this key is not an administrator's (scope = \"admin\" in its section of the "
            "configuration)",
        [ACCESS_ONLY_LOOKS] = "this key is for looking only (scope = \"read_only\"): it neither "
                              "generates nor changes anything",
        [ACCESS_LOCAL_LOOKS] = "no keys are configured, so who asks at this host may look and no "
                               "more; use llmd drain, llmd reload and the like, or configure a key "
                               "with scope = \"admin\"",
        [ACCESS_NO_ADMIN_KEYS] = "no keys are configured, so what is for operators is open on "
                                 "the control socket and to browsers of this host only; use these, "
                                 "or configure a key with "
                                 "scope = \"admin\"",
        [ACCESS_WRONG_USER] = "the control socket answers root, the server's own user and members "
                              "of the group " SOCKET_GROUP,
        [ACCESS_WRONG_LISTENER] = "what operators do answers at the addresses of admin_listen and "
                                  "on the control socket, what clients ask for at those of listen; "
                                  "only what needs no key, as /health, answers at both",
        [ACCESS_WRONG_SOCKET] = "the control socket serves operators only; send this to an "
                                "address that the server listens on",
        [ACCESS_FOREIGN_HOST] = "the page's requests must be for a host that is this server's (an "
                                "address, localhost, a name of its certificate, or one of "
                                "host_names; without keys: a loopback address) and come from its "
                                "own pages",
        [ACCESS_NOT_VOUCHED] = "what changes something needs the session's X-CSRF-Token and an "
                               "Origin that is this server's",
    };
    struct buf body = {0};
    if (why == ACCESS_NO_KEY || why == ACCESS_EXPIRED)
        return respond_unauthorized(ex, why == ACCESS_EXPIRED);
    if (why == ACCESS_NO_PAGE)
        return respond_no_path(ex);
    api_error_write(&body, MHD_HTTP_FORBIDDEN, "PermissionDeniedError", NULL, NULL, texts[why]);
    return queue_json(ex, MHD_HTTP_FORBIDDEN, &body, NULL, NULL, false);
}

static enum MHD_Result respond_wrong_method(struct exchange *ex)
{
    struct buf body = {0};
    char text[256];
    snprintf(text, sizeof(text), "%s takes %s", ex->route->label, route_allow(ex->route));
    api_error_write(&body, MHD_HTTP_METHOD_NOT_ALLOWED, "MethodNotAllowedError", NULL, NULL, text);
    return queue_json(ex, MHD_HTTP_METHOD_NOT_ALLOWED, &body, MHD_HTTP_HEADER_ALLOW,
                      route_allow(ex->route), false);
}

enum MHD_Result respond_refusal(struct exchange *ex)
{
    struct err e = {0};
    struct buf body = {0};
    char text[256];
    switch (ex->refusal) {
    case REFUSE_ACCESS:
        return respond_no_access(ex, ex->access);
    case REFUSE_METHOD:
        return respond_wrong_method(ex);
    case REFUSE_FRAMING:
        api_error_write(&body, ex->refusal_status, "BadRequestError", NULL, NULL,
                        ex->refusal_detail);
        return queue_json(ex, ex->refusal_status, &body, NULL, NULL, true);
    case REFUSE_SIZE:
        snprintf(text, sizeof(text), "the request body is larger than the limit of %u bytes%s",
                 body_limit(ex),
                 body_limit(ex) == ex->catalog->limits.max_body_bytes ? " (max_body_kb)" : "");
        api_error_write(&body, MHD_HTTP_CONTENT_TOO_LARGE, "RequestTooLargeError", NULL, NULL,
                        text);
        return queue_json(ex, MHD_HTTP_CONTENT_TOO_LARGE, &body, NULL, NULL, true);
    case REFUSE_DRAINING:
        err_set(&e, LLMD_EDRAINING, "the server is shutting down; try again soon");
        break;
    case REFUSE_PATH:
    case REFUSE_NOT:
        return respond_no_path(ex);
    }
    return respond_error(ex, &e);
}

enum MHD_Result respond_options(struct exchange *ex)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (r && MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, route_allow(ex->route)) == MHD_YES)
        return queue(ex, MHD_HTTP_NO_CONTENT, r, false);
    if (r)
        MHD_destroy_response(r);
    return MHD_NO;
}

enum MHD_Result respond_stream(struct exchange *ex, MHD_ContentReaderCallback read, void *cls)
{
    struct MHD_Response *r =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES, read, cls, NULL);
    static const char *const headers[][2] = {
        {MHD_HTTP_HEADER_CONTENT_TYPE, "text/event-stream; charset=utf-8"},
        {MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache"},
        {"X-Accel-Buffering", "no"},
    };
    for (size_t i = 0; r && i < ARRAY_LEN(headers); i++)
        if (MHD_add_response_header(r, headers[i][0], headers[i][1]) != MHD_YES) {
            MHD_destroy_response(r);
            r = NULL;
        }
    return queue(ex, MHD_HTTP_OK, r, false);
}

/* admin_session.c - /admin/v1/session: the login of the status page. */
#include <stdio.h>
#include <string.h>

#include "core/edge/admin_int.h"
#include "core/edge/api.h"
#include "core/edge/api_error.h"
#include "core/edge/auth.h"
#include "core/edge/caller.h"
#include "core/edge/fields.h"
#include "core/edge/front.h"
#include "core/edge/origin.h"
#include "core/edge/page.h"
#include "core/edge/respond.h"
#include "core/edge/routes.h"
#include "core/observe/events.h"
#include "core/util/clock.h"
#include "core/util/json.h"

static struct page *page_of(const struct exchange *ex)
{
    return ex->conn->loop->edge->page;
}

static enum MHD_Result refuse(struct exchange *ex, unsigned status, const char *type,
                              const char *word, const char *message)
{
    struct buf body = {0};
    api_error_write(&body, status, type, word, NULL, message);
    return respond_json(ex, status, &body);
}

static enum MHD_Result log_in(struct exchange *ex)
{
    return refuse(ex, MHD_HTTP_UNAUTHORIZED, "authentication_error", "no_session",
                  "log in with a key of an administrator or of a watcher (scope = \"admin\" or "
                  "\"read_only\")");
}

static int64_t seconds_from_now(uint64_t at_us)
{
    return (int64_t)((clock_wall_us() + at_us - clock_now_us()) / 1000000);
}

/* key NULL: of this host; token NULL: it presents its key each time. */
static void add_session(const struct exchange *ex, const struct edge_key *key, const char *token,
                        uint64_t began_us, struct buf *out)
{
    const struct caller *c = &ex->caller;
    const uint64_t until_us = began_us + (uint64_t)SESSION_MAX_S * 1000000;
    int64_t expires = seconds_from_now(until_us);
    char csrf[SESSION_TOKEN_BYTES];
    if (key && key->expires_s > 0 && key->expires_s < expires)
        expires = key->expires_s;
    buf_addstr(out, "{\"name\":");
    json_add_cstr(out, key ? key->name : "local");
    buf_addf(out, ",\"role\":\"%s\",\"csrf\":",
             key && key->scope == SCOPE_ADMIN ? "admin" : "read-only");
    if (token)
        session_csrf(token, csrf);
    json_add_cstr(out, token ? csrf : NULL);
    if (key && token)
        buf_addf(out, ",\"expires\":%lld,\"idle_s\":%d", (long long)expires, SESSION_IDLE_S);
    else
        buf_addstr(out, ",\"expires\":null,\"idle_s\":null");
    buf_addf(out, ",\"version\":\"%s\",\"generates\":%s}", LLMD_VERSION,
             c->admin_listener || (key && key->scope == SCOPE_READ_ONLY) ? "false" : "true");
}

/* Whether by the rules of the other routes it may look. */
static enum access_verdict may_look(const struct exchange *ex)
{
    struct caller c = ex->caller;
    c.looks = true;
    return access_check(ACCESS_ADMIN, &c);
}

static enum MHD_Result show(struct exchange *ex)
{
    const char *token = ex->caller.page && !ex->caller.local ? caller_cookie(ex) : NULL;
    struct session s = {.began_us = clock_now_us()};
    struct buf body = {0};
    const enum access_verdict v = may_look(ex);
    if (v == ACCESS_FOREIGN_HOST || v == ACCESS_NO_ADMIN_KEYS)
        return respond_no_access(ex, v);
    if (v != ACCESS_GRANTED)
        return log_in(ex);
    if (token && !sessions_find(&page_of(ex)->sessions, token, s.began_us, &s))
        return log_in(ex);
    add_session(ex, ex->key, token, s.began_us, &body);
    return respond_json(ex, MHD_HTTP_OK, &body);
}

/* ---- in ---- */

/* The key that the body names; NULL, and *out is the reply: it is none that may look. */
static const struct edge_key *check_key(struct exchange *ex, const char *value,
                                        enum MHD_Result *out)
{
    const struct catalog *served = ex->catalog;
    const struct edge_key *key =
        *value ? auth_find_key(served->keys, served->n_keys, value, strlen(value)) : NULL;
    if (key && key->expires_s > 0 && ex->caller.now_s >= key->expires_s)
        *out = refuse(ex, MHD_HTTP_UNAUTHORIZED, "authentication_error", "expired_api_key",
                      "this key has expired");
    else if (key && key->scope == SCOPE_INFERENCE)
        *out = respond_no_access(ex, ACCESS_NOT_ADMIN);
    else if (key)
        return key;
    else
        *out = refuse(ex, MHD_HTTP_UNAUTHORIZED, "authentication_error", "invalid_api_key",
                      "there is no such key");
    return NULL;
}

static enum MHD_Result begin(struct exchange *ex, const struct edge_key *key)
{
    const bool secure =
        ex->conn->listener->tls || origin_is_https(caller_header(ex, MHD_HTTP_HEADER_ORIGIN));
    const uint64_t now_us = clock_now_us();
    char token[SESSION_TOKEN_BYTES], cookie[200], name[ADMIN_ACTOR_MAX];
    struct buf body = {0};
    struct err e = {0};
    if (sessions_open(&page_of(ex)->sessions, key->sha256, now_us, token, &e) != 0)
        return respond_error(ex, &e);
    snprintf(cookie, sizeof(cookie), "%s=%s; Path=/; HttpOnly; SameSite=Strict%s",
             secure ? COOKIE_SECURE : COOKIE_PLAIN, token, secure ? "; Secure" : "");
    event_note(LOG_INFO, "admin", "login key=%s", log_quote(key->name, name, sizeof(name)));
    add_session(ex, key, token, now_us, &body);
    return respond_json_with(ex, MHD_HTTP_OK, &body, MHD_HTTP_HEADER_SET_COOKIE, cookie);
}

static struct address_block client_block(const struct exchange *ex)
{
    struct address_block b = {{0}};
    if (ex->conn->front && !address_block_of(&ex->conn->front->peer, &b))
        b = (struct address_block){{0}};
    return b;
}

static enum MHD_Result too_many(struct exchange *ex, uint64_t wait_ns)
{
    const uint64_t second = 1000000000;
    struct buf body = {0};
    char seconds[24];
    snprintf(seconds, sizeof(seconds), "%llu",
             (unsigned long long)((wait_ns + second - 1) / second));
    api_error_write(&body, MHD_HTTP_TOO_MANY_REQUESTS, "RateLimitError", "too_many_logins", NULL,
                    "too many logins failed from this address; wait a few seconds");
    return respond_json_with(ex, MHD_HTTP_TOO_MANY_REQUESTS, &body, MHD_HTTP_HEADER_RETRY_AFTER,
                             seconds);
}

static enum MHD_Result try_key(struct exchange *ex, const char *value)
{
    struct login_tries *tries = &page_of(ex)->tries;
    const struct address_block from = client_block(ex);
    enum MHD_Result reply = MHD_NO;
    const uint64_t wait_ns = login_tries_take(tries, &from, clock_now_us() * 1000);
    if (wait_ns > 0)
        return too_many(ex, wait_ns);
    const struct edge_key *key = check_key(ex, value, &reply);
    if (!key) {
        char at[INET6_ADDRSTRLEN];
        const char *address = exchange_client(ex, at);
        log_warn("admin", "login refused client=%s status=%u", address ? address : "unknown",
                 ex->status);
        return reply;
    }
    login_tries_give_back(tries, &from, clock_now_us() * 1000);
    return begin(ex, key);
}

static enum MHD_Result enter(struct exchange *ex)
{
    const char *origin = caller_header(ex, MHD_HTTP_HEADER_ORIGIN), *value = NULL;
    struct err e = {0};
    json_t *v = NULL;
    if (!caller_own_host(ex) ||
        (origin &&
         !origin_is_host(origin, caller_header(ex, MHD_HTTP_HEADER_HOST), ex->conn->listener->tls)))
        return respond_no_access(ex, ACCESS_FOREIGN_HOST);
    if (!ex->caller.keys)
        return show(ex);
    int rc = admin_read_body(ex, "key", &v, &e);
    if (rc == 0)
        rc = field_string(v, "key", &value, &e);
    if (rc == 0 && !value)
        rc = err_set_param(&e, LLMD_EINVAL, "key", "send {\"key\": \"...\"}");
    enum MHD_Result reply = rc == 0 ? try_key(ex, value) : respond_error(ex, &e);
    json_decref(v);
    return reply;
}

/* ---- out ---- */

static enum MHD_Result leave(struct exchange *ex)
{
    static const char *const gone[] = {
        COOKIE_PLAIN "=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict",
        COOKIE_SECURE "=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict; Secure"};
    const char *token = ex->caller.page ? caller_cookie(ex) : NULL;
    const bool secure = caller_cookie_is_secure(ex);
    struct buf body = {0};
    if (ex->caller.page && !ex->caller.own_host)
        return respond_no_access(ex, ACCESS_FOREIGN_HOST);
    if (ex->caller.page && !ex->caller.vouched)
        return respond_no_access(ex, ACCESS_NOT_VOUCHED);
    if (!token)
        return log_in(ex);
    sessions_close(&page_of(ex)->sessions, token);
    return respond_json_with(ex, MHD_HTTP_NO_CONTENT, &body, MHD_HTTP_HEADER_SET_COOKIE,
                             gone[secure]);
}

enum MHD_Result admin_session(struct exchange *ex)
{
    switch (route_method(ex->method)) {
    case ROUTE_POST:
        return enter(ex);
    case ROUTE_DELETE:
        return leave(ex);
    default:
        return show(ex);
    }
}

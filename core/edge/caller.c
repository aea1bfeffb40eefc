#include "core/edge/caller.h"

#include <string.h>
#include <strings.h>

#include "core/edge/auth.h"
#include "core/edge/front.h"
#include "core/edge/origin.h"
#include "core/edge/page.h"
#include "core/edge/routes.h"
#include "core/edge/tls.h"
#include "core/util/clock.h"

const char *caller_header(const struct exchange *ex, const char *name)
{
    return MHD_lookup_connection_value(ex->mhd, MHD_HEADER_KIND, name);
}

static bool speaks_tls(const struct exchange *ex)
{
    return ex->conn->listener && ex->conn->listener->tls;
}

static const char *secure_cookie(const struct exchange *ex)
{
    return MHD_lookup_connection_value(ex->mhd, MHD_COOKIE_KIND, COOKIE_SECURE);
}

bool caller_cookie_is_secure(const struct exchange *ex)
{
    return secure_cookie(ex) != NULL;
}

const char *caller_cookie(const struct exchange *ex)
{
    const char *token = secure_cookie(ex);
    if (!token && !speaks_tls(ex))
        token = MHD_lookup_connection_value(ex->mhd, MHD_COOKIE_KIND, COOKIE_PLAIN);
    return token;
}

/* Browsers say whether the page that asks is of the site that is asked; others do not. */
static bool of_another_site(const struct exchange *ex)
{
    const char *site = caller_header(ex, "Sec-Fetch-Site");
    return site && strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0;
}

static bool certificate_names(struct edge *edge, const char *name)
{
    lock_take(&edge->tls_mu);
    const bool named = edge->tls && tls_names(edge->tls, name);
    lock_drop(&edge->tls_mu);
    return named;
}

static bool is_our_name(const struct exchange *ex, const char *name)
{
    const struct edge_opts *o = exchange_opts(ex);
    if (ex->catalog->n_keys == 0)
        return host_is_loopback(name);
    if (host_is_address(name) || host_is_loopback(name))
        return true;
    for (uint32_t i = 0; i < o->n_host_names; i++)
        if (strcasecmp(o->host_names[i], name) == 0)
            return true;
    return certificate_names(ex->conn->loop->edge, name);
}

bool caller_own_host(const struct exchange *ex)
{
    char name[HOST_NAME_BYTES];
    return host_name(caller_header(ex, MHD_HTTP_HEADER_HOST), name) && is_our_name(ex, name) &&
           !of_another_site(ex);
}

/* It did not come through a proxy on this host, which anybody may use. */
static bool is_local(const struct exchange *ex)
{
    static const char *const forwarded[] = {"Forwarded", "X-Forwarded-For", "X-Forwarded-Host",
                                            "X-Real-IP", "Via"};
    const struct front *front = ex->conn->front;
    if (!ex->chunks) /* so nginx forwards, and tells no more of it, unless it is configured to */
        return false;
    for (size_t i = 0; i < ARRAY_LEN(forwarded); i++)
        if (caller_header(ex, forwarded[i]))
            return false;
    return front && address_is_loopback(&front->peer);
}

static bool vouches(const struct exchange *ex, const char *token)
{
    return session_csrf_is(token, caller_header(ex, "X-CSRF-Token")) &&
           origin_is_host(caller_header(ex, MHD_HTTP_HEADER_ORIGIN),
                          caller_header(ex, MHD_HTTP_HEADER_HOST), speaks_tls(ex));
}

/* The key that the cookie's session stands for, while it is configured; NULL. */
static const struct edge_key *session_key(const struct exchange *ex, const char *token)
{
    const struct catalog *served = ex->catalog;
    struct session s;
    if (!token || !sessions_find(&ex->conn->loop->edge->page->sessions, token, clock_now_us(), &s))
        return NULL;
    for (uint32_t i = 0; i < served->n_keys; i++)
        if (memcmp(served->keys[i].sha256, s.key, sizeof(s.key)) == 0)
            return &served->keys[i];
    return NULL;
}

/* token NULL: of who needs none, and may change nothing. */
static void find_by_page(struct exchange *ex, struct caller *c, const char *token)
{
    c->page = true;
    c->own_host = caller_own_host(ex);
    c->vouched = token && vouches(ex, token);
}

/* Which key is presented, and how. */
static void find(struct exchange *ex, struct caller *c)
{
    const char *bearer = caller_header(ex, MHD_HTTP_HEADER_AUTHORIZATION);
    const char *token = bearer ? NULL : caller_cookie(ex);
    if (!c->keys) {
        c->local = is_local(ex);
        if (c->local)
            find_by_page(ex, c, NULL);
        return;
    }
    if (bearer)
        c->key = auth_find(ex->catalog->keys, ex->catalog->n_keys, bearer);
    else if ((c->key = session_key(ex, token)) != NULL)
        find_by_page(ex, c, token);
}

enum access_verdict caller_check(struct exchange *ex, bool options)
{
    enum route_access access = route_access(ex->route, ex->url);
    struct caller *c = &ex->caller;
    *c = (struct caller){.control = ex->conn->loop->control,
                         .peer_may = ex->conn->peer_may,
                         .admin_listener = ex->conn->listener && ex->conn->listener->admin,
                         .admin_elsewhere = ex->conn->loop->edge->has_admin_listener,
                         .keys = ex->catalog->n_keys > 0,
                         .metrics_closed = ex->catalog->limits.metrics == METRICS_OPERATORS,
                         .looks = route_method(ex->method) == ROUTE_GET,
                         .now_s = (int64_t)(clock_wall_us() / 1000000)};
    if (options && access != ACCESS_ADMIN && access != ACCESS_PAGE)
        access = ACCESS_OPEN; /* browsers ask before they send a key */
    if (!c->control && access != ACCESS_OPEN)
        find(ex, c);
    ex->key = c->key;
    ex->sees_keys = access_sees_keys(c) || ex->catalog->limits.metrics == METRICS_ALL;
    return access_check(access, c);
}

enum access_verdict caller_renew(struct exchange *ex)
{
    struct catalog *before = ex->catalog;
    ex->catalog = edge_catalog(ex->conn->loop->edge);
    const enum access_verdict v = caller_check(ex, false);
    catalog_unref(before);
    return v;
}

#include "core/edge/access.h"

static enum access_verdict check_control(enum route_access access, const struct caller *c)
{
    if (!c->peer_may)
        return ACCESS_WRONG_USER;
    const bool elsewhere =
        access == ACCESS_KEY || access == ACCESS_ANY_KEY || access == ACCESS_PAGE;
    return elsewhere ? ACCESS_WRONG_SOCKET : ACCESS_GRANTED;
}

static bool is_for_operators(enum route_access access)
{
    return access == ACCESS_ADMIN || access == ACCESS_METRICS;
}

static bool has_expired(const struct caller *c)
{
    return c->key->expires_s > 0 && c->now_s >= c->key->expires_s;
}

static enum access_verdict check_scope(enum route_access access, const struct caller *c)
{
    switch (c->key->scope) {
    case SCOPE_ADMIN:
        return ACCESS_GRANTED;
    case SCOPE_READ_ONLY:
        return access == ACCESS_ANY_KEY || (is_for_operators(access) && c->looks)
                   ? ACCESS_GRANTED
                   : ACCESS_ONLY_LOOKS;
    case SCOPE_INFERENCE:
        break;
    }
    return is_for_operators(access) ? ACCESS_NOT_ADMIN : ACCESS_GRANTED;
}

bool access_sees_keys(const struct caller *c)
{
    if (c->control || c->admin_listener)
        return true;
    return c->key && c->key->scope != SCOPE_INFERENCE && !has_expired(c) &&
           (!c->page || c->own_host);
}

/* What a browser asks with a cookie, or with nothing at all, may be another site's doing. */
static enum access_verdict check_page(const struct caller *c)
{
    if (!c->own_host)
        return ACCESS_FOREIGN_HOST;
    return c->looks || c->vouched ? ACCESS_GRANTED : ACCESS_NOT_VOUCHED;
}

static enum access_verdict check_without_keys(enum route_access access, const struct caller *c)
{
    if (!is_for_operators(access))
        return ACCESS_GRANTED;
    if (!c->local)
        return ACCESS_NO_ADMIN_KEYS;
    return c->looks ? check_page(c) : ACCESS_LOCAL_LOOKS;
}

static enum access_verdict check_listener(enum route_access access, const struct caller *c)
{
    const bool clients = access == ACCESS_KEY || access == ACCESS_ANY_KEY;
    const bool elsewhere = c->admin_elsewhere && !c->admin_listener;
    if (access == ACCESS_PAGE && elsewhere)
        return ACCESS_NO_PAGE;
    return (clients && c->admin_listener) || (access == ACCESS_ADMIN && elsewhere)
               ? ACCESS_WRONG_LISTENER
               : ACCESS_GRANTED;
}

enum access_verdict access_check(enum route_access access, const struct caller *c)
{
    if (c->control)
        return check_control(access, c);
    enum access_verdict v = check_listener(access, c);
    if (v != ACCESS_GRANTED || access == ACCESS_OPEN || access == ACCESS_PAGE ||
        (access == ACCESS_METRICS && (!c->metrics_closed || c->admin_listener)))
        return v;
    if (!c->keys)
        return check_without_keys(access, c);
    if (!c->key)
        return ACCESS_NO_KEY;
    if (has_expired(c))
        return ACCESS_EXPIRED;
    v = c->page ? check_page(c) : ACCESS_GRANTED;
    return v == ACCESS_GRANTED ? check_scope(access, c) : v;
}

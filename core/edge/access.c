#include "core/edge/access.h"

static enum access_verdict check_control(enum route_access access, const struct caller *c)
{
    if (!c->peer_may)
        return ACCESS_WRONG_USER;
    return access == ACCESS_KEY || access == ACCESS_ANY_KEY ? ACCESS_WRONG_SOCKET : ACCESS_GRANTED;
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
    return c->key && c->key->scope != SCOPE_INFERENCE && !has_expired(c);
}

enum access_verdict access_check(enum route_access access, const struct caller *c)
{
    if (c->control)
        return check_control(access, c);
    if (((access == ACCESS_KEY || access == ACCESS_ANY_KEY) && c->admin_listener) ||
        (access == ACCESS_ADMIN && c->admin_elsewhere && !c->admin_listener))
        return ACCESS_WRONG_LISTENER;
    if (access == ACCESS_OPEN ||
        (access == ACCESS_METRICS && (!c->metrics_closed || c->admin_listener)))
        return ACCESS_GRANTED;
    if (!c->keys)
        return is_for_operators(access) ? ACCESS_NO_ADMIN_KEYS : ACCESS_GRANTED;
    if (!c->key)
        return ACCESS_NO_KEY;
    if (has_expired(c))
        return ACCESS_EXPIRED;
    return check_scope(access, c);
}

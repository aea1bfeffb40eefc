#include "core/edge/access.h"

static enum access_verdict check_control(enum route_access access, const struct caller *c)
{
    if (!c->peer_may)
        return ACCESS_WRONG_USER;
    return access == ACCESS_OPEN || access == ACCESS_ADMIN ? ACCESS_GRANTED : ACCESS_WRONG_SOCKET;
}

static enum access_verdict check_scope(enum route_access access, const struct caller *c)
{
    switch (c->key->scope) {
    case SCOPE_ADMIN:
        return ACCESS_GRANTED;
    case SCOPE_READ_ONLY:
        return access == ACCESS_ANY_KEY || (access == ACCESS_ADMIN && c->looks) ? ACCESS_GRANTED
                                                                                : ACCESS_ONLY_LOOKS;
    case SCOPE_INFERENCE:
        break;
    }
    return access == ACCESS_ANY_KEY || access == ACCESS_KEY ? ACCESS_GRANTED : ACCESS_NOT_ADMIN;
}

enum access_verdict access_check(enum route_access access, const struct caller *c)
{
    if (c->control)
        return check_control(access, c);
    if (((access == ACCESS_KEY || access == ACCESS_ANY_KEY) && c->admin_listener) ||
        (access == ACCESS_ADMIN && c->admin_elsewhere && !c->admin_listener))
        return ACCESS_WRONG_LISTENER;
    if (access == ACCESS_OPEN)
        return ACCESS_GRANTED;
    if (!c->keys)
        return access == ACCESS_ADMIN ? ACCESS_NO_ADMIN_KEYS : ACCESS_GRANTED;
    if (!c->key)
        return ACCESS_NO_KEY;
    if (c->key->expires_s > 0 && c->now_s >= c->key->expires_s)
        return ACCESS_EXPIRED;
    return check_scope(access, c);
}

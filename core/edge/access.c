#include "core/edge/access.h"

static enum access_verdict check_control(enum route_access access, const struct caller *c)
{
    if (!c->peer_may)
        return ACCESS_WRONG_USER;
    return access == ACCESS_KEY ? ACCESS_WRONG_SOCKET : ACCESS_GRANTED;
}

enum access_verdict access_check(enum route_access access, const struct caller *c)
{
    if (c->control)
        return check_control(access, c);
    if ((access == ACCESS_KEY && c->admin_listener) ||
        (access == ACCESS_ADMIN && c->admin_elsewhere && !c->admin_listener))
        return ACCESS_WRONG_LISTENER;
    if (access == ACCESS_OPEN || (access == ACCESS_KEY && !c->keys))
        return ACCESS_GRANTED;
    if (!c->keys)
        return ACCESS_NO_ADMIN_KEYS;
    if (!c->key)
        return ACCESS_NO_KEY;
    return access == ACCESS_ADMIN && !c->key->admin ? ACCESS_NOT_ADMIN : ACCESS_GRANTED;
}

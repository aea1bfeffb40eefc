/* access.h - who may use which route: one rule, over the access class that the route table states.
 *
 *              control socket   a key's scope: inference   admin   read_only   no keys configured
 *   OPEN       yes                             yes         yes     yes         yes
 *   PAGE       no                              yes         yes     yes         yes
 *   ANY_KEY    no                              yes         yes     yes         yes
 *   KEY        no                              yes         yes     no          yes
 *   ADMIN      yes                             no          yes     GET, HEAD   GET, HEAD at this host
 *   METRICS    yes                             no          yes     GET, HEAD   GET, HEAD at this host
 *
 * METRICS is as OPEN unless metrics_access says "operators", and always so at the addresses of
 * admin_listen. What it tells of single keys is another question: access_sees_keys().
 *
 * A session of the status page (caller.h) may what its key may, if Host is one of ours, and changes
 * something only with the session's token from a page of ours. Without any key configured who asks at this
 * host may look, and change nothing: behind a proxy on this host that says nothing of its clients, that is
 * everybody.
 *
 * With admin_listen, ADMIN and PAGE routes answer only at its addresses, and those that take keys otherwise
 * only at the addresses of listen, whoever asks. Of the control socket all that holds for users whom
 * peer_may() lets through; nobody else gets anything there. A key whose time has passed opens nothing.
 * What states no class is ADMIN. */
#pragma once
#include "core/edge/edge.h"
#include "core/util/base.h"

enum route_access {
    ACCESS_ADMIN,   /* the control socket, or a key of an administrator, or of a watcher to look */
    ACCESS_KEY,     /* a key that may generate, when any are configured */
    ACCESS_ANY_KEY, /* any key, when any are configured */
    ACCESS_METRICS, /* what was measured */
    ACCESS_OPEN,    /* health */
    ACCESS_PAGE,    /* the status page itself and its login, where operators are served */
};

struct caller {
    bool control;               /* came through the control socket */
    bool peer_may;              /* of the control socket: peer_may() */
    bool admin_listener;        /* came to an address of admin_listen */
    bool admin_elsewhere;       /* there are such addresses */
    bool keys;                  /* any are configured */
    bool metrics_closed;        /* to who is no operator */
    bool looks;                 /* GET or HEAD: changes nothing */
    const struct edge_key *key; /* that the request presents; NULL: none, or an unknown one */
    bool local;                 /* no keys are configured, and it comes from this host */
    bool page;                  /* the key is that of a session, or local */
    bool own_host; /* of page: it asked for a host that is ours, and no other site did; */
    bool vouched;  /* it has the session's token, and is of our page */
    int64_t now_s; /* since 1970 */
};

enum access_verdict {
    ACCESS_GRANTED,
    ACCESS_NO_KEY,         /* 401 */
    ACCESS_EXPIRED,        /* 401: the key's time has passed */
    ACCESS_NOT_ADMIN,      /* 403: the key is no administrator's */
    ACCESS_ONLY_LOOKS,     /* 403: the key is for looking only */
    ACCESS_LOCAL_LOOKS,    /* 403: without keys, this host may look */
    ACCESS_NO_ADMIN_KEYS,  /* 403: no keys are configured */
    ACCESS_WRONG_USER,     /* 403: of the control socket */
    ACCESS_WRONG_SOCKET,   /* 403: the control socket generates nothing */
    ACCESS_WRONG_LISTENER, /* 403: operators and clients have addresses of their own */
    ACCESS_NO_PAGE,        /* 404: the status page is at another address */
    ACCESS_FOREIGN_HOST,   /* 403: of a session: Host is not ours, or another site's page asks */
    ACCESS_NOT_VOUCHED,    /* 403: of a session: no token, or not of our page */
};

/* Whether it may know which keys there are and what each used: it is an operator, or looks where none
 * but operators do. */
bool access_sees_keys(const struct caller *c);
enum access_verdict access_check(enum route_access access, const struct caller *c);

/* access.h - who may use which route: one rule, over the access class that the route table states.
 *
 *              control socket            listen addresses
 *   OPEN       yes                       yes
 *   KEY        no                        with a key, when any is configured
 *   ADMIN      yes                       with a key that has admin = true; never without keys
 *
 * With admin_listen, KEY routes answer only at the addresses of listen, and ADMIN routes only at those
 * of admin_listen, whoever asks. Of the control socket all that holds for users whom peer_may() lets through; nobody else gets
 * anything there. */
#pragma once
#include "core/edge/edge.h"
#include "core/util/base.h"

enum route_access {
    ACCESS_OPEN,  /* health, metrics */
    ACCESS_KEY,   /* a bearer key, when any is configured */
    ACCESS_ADMIN, /* the control socket, or a key that is an administrator's */
};

struct caller {
    bool control;               /* came through the control socket */
    bool peer_may;              /* of the control socket: peer_may() */
    bool admin_listener;        /* came to an address of admin_listen */
    bool admin_elsewhere;       /* there are such addresses */
    bool keys;                  /* any are configured */
    const struct edge_key *key; /* that the request presents; NULL: none, or an unknown one */
};

enum access_verdict {
    ACCESS_GRANTED,
    ACCESS_NO_KEY,         /* 401 */
    ACCESS_NOT_ADMIN,      /* 403: the key is no administrator's */
    ACCESS_NO_ADMIN_KEYS,  /* 403: no keys are configured */
    ACCESS_WRONG_USER,     /* 403: of the control socket */
    ACCESS_WRONG_SOCKET,   /* 403: the control socket generates nothing */
    ACCESS_WRONG_LISTENER, /* 403: operators and clients have addresses of their own */
};

enum access_verdict access_check(enum route_access access, const struct caller *c);

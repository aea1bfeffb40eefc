/* listeners.h - the addresses that the server listens on: those of the configuration, at sockets that
 * were passed where there are such (activation.h).
 *
 * A passed socket serves the address that it is bound to. One that is named admin
 * (FileDescriptorName=admin) is for operators, and admin_listen need not name its address.
 *
 * Thread  main, before any other exists.
 * Memory  borrows from the configuration. */
#pragma once
#include "cmd/activation.h"
#include "core/config/config.h"
#include "core/edge/edge.h"

struct listeners {
    struct edge_listener *all; /* [n]: those of listen, of admin_listen, and passed ones beside */
    uint32_t n;
    struct activation passed;
};

/* Errors: EINVAL: a passed socket leads to no address, two lead to one, or it is of clients and
 * operators; ENOMEM. */
MUST_CHECK int listeners_init(struct listeners *l, const struct config *c, struct err *e);
/* Also of a zeroed one. */
void listeners_fini(struct listeners *l);

/* listeners.h - the addresses that the server listens on.
 *
 * Memory  borrows from the configuration. */
#pragma once
#include "core/config/config.h"
#include "core/edge/edge.h"

struct listeners {
    struct edge_listener *all; /* [n]: those of listen, then those of admin_listen */
    uint32_t n;
};

/* Errors: ENOMEM. */
MUST_CHECK int listeners_init(struct listeners *l, const struct config *c, struct err *e);
/* Also of a zeroed one. */
void listeners_fini(struct listeners *l);

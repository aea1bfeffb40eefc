/* gate.h - which addresses may connect, and which of them are load balancers that say, by the PROXY
 * protocol, for whom.
 *
 * Immutable once it is made. Connections that are none of IP are always let through: who may open a
 * file is decided elsewhere. */
#pragma once
#include <sys/socket.h>

#include "core/util/cidr.h"

struct gate {
    struct cidr *allow;      /* [n_allow]; none: everybody */
    struct cidr *proxy_from; /* [n_proxy_from] */
    uint32_t n_allow, n_proxy_from;
};

/* Lists of ADDRESS/BITS. Errors: EINVAL with the option's name, ENOMEM; then there is nothing to free. */
MUST_CHECK int gate_init(struct gate *g, const char *const *allow, uint32_t n_allow,
                         const char *const *proxy_from, uint32_t n_proxy_from, struct err *e);
void gate_fini(struct gate *g);
bool gate_admits(const struct gate *g, const struct sockaddr_storage *client);
/* Its connections begin with a PROXY header; what that says decides. */
bool gate_is_proxy(const struct gate *g, const struct sockaddr_storage *peer);

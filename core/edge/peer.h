/* peer.h - who is at the other end of a UNIX socket, and whether they may control the server: root,
 * the server's own user, and members of one group. */
#pragma once
#include <sys/types.h>

#include "core/util/base.h"

/* Whom a server listens to. */
struct peer_rule {
    uid_t own;
    gid_t group;
    bool has_group; /* the group exists on this host */
};

struct peer {
    uid_t uid;
    bool in_group; /* of the rule, by its first or a supplementary group */
};

/* For this process and the group of that name. Asks the host's user database: not for a thread that
 * must not wait. */
void peer_rule_init(struct peer_rule *r, const char *group);
/* As the kernel noted at connect; false when it cannot tell. */
bool peer_read(int fd, const struct peer_rule *r, struct peer *out);
bool peer_may(const struct peer *p, const struct peer_rule *r);

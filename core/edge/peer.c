#include "core/edge/peer.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { GROUP_BYTES_MAX = 1 << 20 };

void peer_rule_init(struct peer_rule *r, const char *group)
{
    struct group entry, *found = NULL;
    char *room = NULL;
    int rc = ERANGE;
    *r = (struct peer_rule){.own = geteuid()};
    for (size_t n = 1024; rc == ERANGE && n <= GROUP_BYTES_MAX; n *= 2) {
        char *larger = realloc(room, n);
        if (!larger)
            break;
        room = larger;
        rc = getgrnam_r(group, &entry, room, n, &found);
    }
    if (rc == 0 && found) {
        r->group = found->gr_gid;
        r->has_group = true;
    }
    free(room);
}

/* Whether the group is among the peer's supplementary ones. */
static bool has_group(int fd, gid_t group)
{
    socklen_t n = 0;
    bool found = false;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &n) == 0 || errno != ERANGE)
        return false; /* it has none, or the kernel cannot tell */
    gid_t *groups = malloc(n);
    if (groups && getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &n) == 0)
        for (size_t i = 0; i < n / sizeof(*groups); i++)
            found |= groups[i] == group;
    free(groups);
    return found;
}

bool peer_read(int fd, const struct peer_rule *r, struct peer *out)
{
    struct ucred cred;
    socklen_t n = sizeof(cred);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) != 0 || n != sizeof(cred))
        return false;
    out->uid = cred.uid;
    out->in_group = r->has_group && (cred.gid == r->group || has_group(fd, r->group));
    return true;
}

bool peer_may(const struct peer *p, const struct peer_rule *r)
{
    return p->uid == 0 || p->uid == r->own || (r->has_group && p->in_group);
}

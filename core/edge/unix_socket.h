/* unix_socket.h - the file of a UNIX socket: that operators talk to, or that clients connect to.
 *
 *   PATH        the socket, mode 0660, of the group llmd when this user may give it that
 *   PATH.lock   locked as long as the server lives: whoever holds the lock may replace a socket
 *               that a dead server left, and no two servers share a path
 *
 * Thread  one at a time. */
#pragma once
#include <sys/un.h>

#include "core/edge/peer.h"
#include "core/util/base.h"
#include "core/util/err.h"

#define SOCKET_GROUP "llmd"

struct unix_socket {
    int fd; /* listens; -1: closed. Whoever closes it sets that */
    int lock_fd;
    struct peer_rule rule;
    const char *option; /* that names the path, for messages */
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/* option is a constant. EIO: the folder is missing or not ours, another server has the path; EINVAL:
 * the path is too long, or something else than a socket lies there. */
MUST_CHECK int unix_socket_open(struct unix_socket *s, const char *option, const char *path,
                                struct err *e);
/* Removes both files. Nothing when lock_fd is -1. */
void unix_socket_close(struct unix_socket *s);

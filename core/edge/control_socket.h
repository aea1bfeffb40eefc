/* control_socket.h - the file of the UNIX socket that operators talk to.
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

#define CONTROL_GROUP "llmd"

struct control_socket {
    int fd; /* listens; -1: closed. Whoever closes it sets that */
    int lock_fd;
    struct peer_rule rule;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/* EIO: the folder is missing or not ours, another server has the path; EINVAL: the path is too long,
 * or something else than a socket lies there. */
MUST_CHECK int control_socket_open(struct control_socket *s, const char *path, struct err *e);
/* Removes both files. Nothing when it was never opened. */
void control_socket_close(struct control_socket *s);

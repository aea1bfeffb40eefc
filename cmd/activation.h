/* activation.h - listening sockets that systemd, or another parent, passed: descriptors from 3 on, as
 * sd_listen_fds(3) describes them (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES).
 *
 * Thread  main, before any other exists: it reads and clears the environment. */
#pragma once
#include <sys/socket.h>

#include "core/util/base.h"
#include "core/util/err.h"

enum { PASSED_MAX = 32 };

struct passed_socket {
    int fd;
    struct sockaddr_storage at; /* getsockname */
    socklen_t n_at;
    char name[64];     /* FileDescriptorName= of the socket unit; "" */
    char address[128]; /* as listen would name it */
};

struct activation {
    struct passed_socket all[PASSED_MAX]; /* [n]; descriptors are the caller's */
    uint32_t n;
};

/* None when nothing was passed to this process. Errors: EINVAL: what was passed is not what clients can
 * connect to. */
MUST_CHECK int activation_take(struct activation *a, struct err *e);

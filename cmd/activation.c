#include "cmd/activation.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/util/endpoint.h"
#include "core/util/printable.h"

enum { FIRST_PASSED_FD = 3 };

/* A number of the environment; -1 when it is none. */
static long env_number(const char *name)
{
    const char *text = getenv(name);
    const size_t n = text ? strlen(text) : 0;
    if (n == 0 || n > 9 || strspn(text, "0123456789") != n)
        return -1;
    return strtol(text, NULL, 10);
}

/* The names are separated by colons; there may be fewer than sockets. */
static void next_name(const char **names, char *out, size_t n_out)
{
    const size_t n = *names ? strcspn(*names, ":") : 0;
    out[0] = '\0';
    if (n > 0)
        printable_text(*names, n, "", out, n_out);
    if (*names)
        *names = (*names)[n] == ':' ? *names + n + 1 : NULL;
}

static bool is_on(int fd, int option)
{
    int value = 0;
    socklen_t n = sizeof(value);
    return getsockopt(fd, SOL_SOCKET, option, &value, &n) == 0 && value != 0;
}

static bool is_stream(int fd)
{
    int type = 0;
    socklen_t n = sizeof(type);
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0 && type == SOCK_STREAM;
}

static int read_socket(struct passed_socket *s, struct err *e)
{
    s->n_at = sizeof(s->at);
    if (!is_stream(s->fd) || !is_on(s->fd, SO_ACCEPTCONN) ||
        getsockname(s->fd, (struct sockaddr *)&s->at, &s->n_at) != 0)
        return err_set(e, LLMD_EINVAL,
                       "the passed descriptor %d (\"%s\") is no listening stream socket; use "
                       "ListenStream= with Accept=no in its socket unit",
                       s->fd, s->name);
    endpoint_write(&s->at, s->n_at, s->address, sizeof(s->address));
    if (!s->address[0])
        return err_set(
            e, LLMD_EINVAL,
            "the passed socket %d (\"%s\") has no address that clients can use; use an IP "
            "address with a port or a path with ListenStream=",
            s->fd, s->name);
    return fcntl(s->fd, F_SETFD, FD_CLOEXEC) == 0
               ? 0
               : err_set(e, LLMD_EINVAL, "cannot keep the passed descriptor %d", s->fd);
}

static int take(struct activation *a, long n, const char *names, struct err *e)
{
    if (n < 0 || n > PASSED_MAX)
        return err_set(e, LLMD_EINVAL, "LISTEN_FDS must be a number of at most %d sockets",
                       PASSED_MAX);
    int rc = 0;
    for (long i = 0; rc == 0 && i < n; i++) {
        struct passed_socket *s = &a->all[a->n];
        *s = (struct passed_socket){.fd = FIRST_PASSED_FD + (int)i};
        next_name(&names, s->name, sizeof(s->name));
        rc = read_socket(s, e);
        a->n += rc == 0;
    }
    return rc;
}

int activation_take(struct activation *a, struct err *e)
{
    int rc = 0;
    a->n = 0;
    if (env_number("LISTEN_PID") == (long)getpid()) /* else they were another process's */
        rc = take(a, env_number("LISTEN_FDS"), getenv("LISTEN_FDNAMES"), e);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return rc;
}

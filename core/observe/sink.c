#include "core/observe/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

void sink_open(struct sink *s, int fd)
{
    struct stat st = {0};
    s->fd = fd;
    s->kind = SINK_PLAIN;
    atomic_store(&s->stuck, false);
    if (fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode))
        s->kind = SINK_SOCKET;
    else if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
        char path[40];
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        int own = open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (own >= 0) {
            s->fd = own;
            s->kind = SINK_OWN;
        }
    }
}

void sink_close(struct sink *s)
{
    if (s->kind == SINK_OWN)
        close(s->fd);
    s->kind = SINK_PLAIN;
}

/* Waits until the descriptor takes a line. */
static bool wait_writable(struct sink *s, int wait_ms)
{
    struct pollfd p = {.fd = s->fd, .events = POLLOUT};
    int ms = atomic_load_explicit(&s->stuck, memory_order_relaxed) ? 0 : wait_ms;
    int rc;
    do
        rc = poll(&p, 1, ms);
    while (rc < 0 && errno == EINTR);
    return rc > 0 && (p.revents & POLLOUT);
}

static bool put_once(struct sink *s, const char *line, size_t n)
{
    ssize_t rc;
    do
        rc = s->kind == SINK_SOCKET ? send(s->fd, line, n, MSG_DONTWAIT | MSG_NOSIGNAL)
                                    : write(s->fd, line, n);
    while (rc < 0 && errno == EINTR);
    return rc == (ssize_t)n;
}

static bool put(struct sink *s, const char *line, size_t n, int wait_ms)
{
    if (s->kind == SINK_PLAIN)
        return wait_writable(s, wait_ms) && put_once(s, line, n);
    if (put_once(s, line, n))
        return true;
    return (errno == EAGAIN || errno == EWOULDBLOCK) && wait_writable(s, wait_ms) &&
           put_once(s, line, n);
}

bool sink_put(struct sink *s, const char *line, size_t n, int wait_ms)
{
    bool done = put(s, line, n, wait_ms);
    atomic_store_explicit(&s->stuck, !done, memory_order_relaxed);
    return done;
}

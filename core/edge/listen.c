#include "core/edge/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 4096 };

static const char *option_of(const struct edge_listener *opts)
{
    return opts->admin ? "admin_listen" : "listen";
}

static int fault(const struct listener *l, int number, struct err *e)
{
    return err_set_param(e, LLMD_EIO, option_of(l->opts), "cannot listen on \"%s\": %s%s",
                         l->opts->address, strerror(number),
                         number == EADDRINUSE ? "; is another server running?" : "");
}

/* ---- an IP address ---- */

static struct sockaddr_storage with_port(const struct listener *l, uint16_t port)
{
    struct sockaddr_storage a = l->at.ip;
    if (a.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)&a)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)&a)->sin_port = htons(port);
    return a;
}

static bool set_options(const struct listener *l, int fd, bool reuse)
{
    static const int on = 1;
    const int only6 = !l->at.both;
    return setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
           (!reuse || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0) &&
           (l->at.ip.ss_family != AF_INET6 ||
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only6, sizeof(only6)) == 0);
}

/* Not listening yet. Negative errno. */
static int bind_ip(const struct listener *l, bool reuse)
{
    const uint16_t port = l->port ? l->port : endpoint_port(&l->at);
    const struct sockaddr_storage a = with_port(l, port);
    const int fd = socket(a.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (set_options(l, fd, reuse) && bind(fd, (const struct sockaddr *)&a, l->at.n_ip) == 0)
        return fd;
    const int number = errno;
    close(fd);
    return -number;
}

static int read_port(struct listener *l, int fd)
{
    struct endpoint bound = l->at;
    socklen_t n = sizeof(bound.ip);
    if (getsockname(fd, (struct sockaddr *)&bound.ip, &n) != 0)
        return -errno;
    l->port = endpoint_port(&bound);
    return 0;
}

static int probe(struct listener *l, struct err *e)
{
    int fd = bind_ip(l, false);
    if (l->at.both && (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL)) { /* a host without IPv6 */
        struct sockaddr_in *a = (struct sockaddr_in *)&l->at.ip;
        *a = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(endpoint_port(&l->at))};
        l->at.n_ip = sizeof(*a);
        fd = bind_ip(l, false);
    }
    if (fd < 0)
        return fault(l, -fd, e);
    close(fd);
    return 0;
}

static int listen_ip(struct listener *l, int *out_fd, struct err *e)
{
    const int fd = bind_ip(l, true);
    if (fd < 0)
        return fault(l, -fd, e);
    int rc = listen(fd, BACKLOG) == 0 ? read_port(l, fd) : -errno;
    if (rc != 0) {
        close(fd);
        return fault(l, -rc, e);
    }
    *out_fd = fd;
    return 0;
}

/* ---- a descriptor that listens already ---- */

static int adopt(struct listener *l, struct err *e)
{
    const int fd = l->opts->inherited_fd, flags = fcntl(fd, F_GETFL);
    l->shared = true;
    l->shared_fd = fd;
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return fault(l, errno, e);
    const int rc = l->at.path ? 0 : read_port(l, fd);
    return rc == 0 ? 0 : fault(l, -rc, e);
}

/* ---- all ---- */

int listener_open(struct listener *l, const struct edge_listener *opts, struct err *e)
{
    struct err why = {0};
    *l = (struct listener){.opts = opts, .shared_fd = -1, .file = {.fd = -1, .lock_fd = -1}};
    if (endpoint_parse(opts->address, &l->at, &why) != 0)
        return err_set_param(e, LLMD_EINVAL, option_of(opts), "cannot listen on %s", why.msg);
    if (opts->inherited_fd > 0)
        return adopt(l, e);
    if (!l->at.path)
        return probe(l, e);
    int rc = unix_socket_open(&l->file, option_of(opts), l->at.path, e);
    if (rc != 0)
        return rc;
    l->shared = true;
    l->shared_fd = l->file.fd;
    l->file.fd = -1;
    return 0;
}

int listener_socket(struct listener *l, int *out_fd, struct err *e)
{
    if (!l->shared)
        return listen_ip(l, out_fd, e);
    const int fd = fcntl(l->shared_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return fault(l, errno, e);
    *out_fd = fd;
    return 0;
}

void listener_settle(struct listener *l)
{
    if (l->opts && l->shared_fd >= 0)
        close(l->shared_fd);
    l->shared_fd = -1;
}

void listener_fini(struct listener *l)
{
    listener_settle(l);
    if (l->opts)
        unix_socket_close(&l->file);
}

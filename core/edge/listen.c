/* listen.c - the listening sockets and accept. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/edge/edge_int.h"
#include "core/edge/front.h"

enum {
    BACKLOG = 4096,
    ACCEPTS_MAX = 64, /* per turn and listener: the others want their turn too */
    UNREAD_READS = 16,
};

/* Splits "host:port" or "[v6]:port". */
static int split(const char *address, char *host, size_t n_host, const char **port, struct err *e)
{
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : 0;
    const char *from = address;
    if (n >= 2 && address[0] == '[' && address[n - 1] == ']') {
        from++;
        n -= 2;
    } else if (memchr(address, ':', n))
        n = 0;
    size_t n_port = colon ? strlen(colon + 1) : 0;
    bool bad_port = n_port == 0 || n_port > 5 || strspn(colon + 1, "0123456789") != n_port ||
                    strtoul(colon + 1, NULL, 10) > UINT16_MAX;
    if (n == 0 || n >= n_host || bad_port)
        return err_set_param(e, LLMD_EINVAL, "listen",
                             "cannot listen on \"%s\": write it as address:port or "
                             "[address]:port",
                             address);
    memcpy(host, from, n);
    host[n] = '\0';
    *port = colon + 1;
    return 0;
}

static int resolve(const char *address, struct sockaddr_storage *out, socklen_t *out_n,
                   struct err *e)
{
    char host[256];
    const char *port = "";
    int rc = split(address, host, sizeof(host), &port, e);
    if (rc != 0)
        return rc;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int fault = getaddrinfo(host, port, &hints, &list);
    if (fault != 0)
        return err_set_param(e, LLMD_EINVAL, "listen", "cannot listen on \"%s\": %s", address,
                             gai_strerror(fault));
    memcpy(out, list->ai_addr, list->ai_addrlen);
    *out_n = list->ai_addrlen;
    freeaddrinfo(list);
    return 0;
}

static in_port_t *port_of(struct sockaddr_storage *a)
{
    if (a->ss_family == AF_INET6)
        return &((struct sockaddr_in6 *)a)->sin6_port;
    return &((struct sockaddr_in *)a)->sin_port;
}

static int bind_to(const char *address, struct sockaddr_storage *a, socklen_t n, bool shared,
                   int *out_fd, struct err *e)
{
    static const int on = 1;
    int fd = socket(a->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool bad = fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0;
    if (!bad && shared)
        bad = setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0;
    if (!bad && a->ss_family == AF_INET6)
        bad = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) != 0;
    if (!bad)
        bad = bind(fd, (struct sockaddr *)a, n) != 0;
    if (!bad) {
        *out_fd = fd;
        return 0;
    }
    int fault = errno;
    if (fd >= 0)
        close(fd);
    return err_set_param(e, LLMD_EIO, "listen", "cannot listen on \"%s\": %s%s", address,
                         strerror(fault),
                         fault == EADDRINUSE ? "; is another server running?" : "");
}

int listen_probe(const char *address, struct err *e)
{
    struct sockaddr_storage a;
    socklen_t n;
    int fd, rc = resolve(address, &a, &n, e);
    if (rc == 0)
        rc = bind_to(address, &a, n, false, &fd, e);
    if (rc == 0)
        close(fd);
    return rc;
}

int listen_open(const char *address, uint16_t *port, int *out_fd, struct err *e)
{
    struct sockaddr_storage a;
    socklen_t n;
    int fd, rc = resolve(address, &a, &n, e);
    if (rc != 0)
        return rc;
    if (*port_of(&a) == 0)
        *port_of(&a) = htons(*port); /* what the first loop was given */
    rc = bind_to(address, &a, n, true, &fd, e);
    if (rc != 0)
        return rc;
    if (listen(fd, BACKLOG) != 0 || getsockname(fd, (struct sockaddr *)&a, &n) != 0) {
        rc = err_set_param(e, LLMD_EIO, "listen", "cannot listen on \"%s\": %s", address,
                           strerror(errno));
        close(fd);
        return rc;
    }
    *port = ntohs(*port_of(&a));
    *out_fd = fd;
    return 0;
}

/* Over the limit: a clear answer instead of a connection that hangs. */
static void turn_away(int fd)
{
    static const char body[] = "{\"error\":{\"message\":\"too many connections\","
                               "\"type\":\"ServiceUnavailableError\",\"param\":null,\"code\":503}}";
    char reply[512], unread[4096];
    int n = snprintf(reply, sizeof(reply),
                     "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
                     "Retry-After: 1\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
                     sizeof(body) - 1, body);
    if (send(fd, reply, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) == n)
        shutdown(fd, SHUT_WR);
    /* Closing with unread input would reset the connection and lose the reply; one that goes on
     * sending shall not hold the loop. */
    for (int i = 0; i < UNREAD_READS && recv(fd, unread, sizeof(unread), MSG_DONTWAIT) > 0; i++)
        ;
    close(fd);
}

/* Out of descriptors: the listeners stay readable, so they are left alone until the next sweep. */
static void pause_accepting(struct loop *l)
{
    l->accepting = false;
    for (uint32_t i = 0; i < l->n_listen; i++) {
        struct epoll_event ev = {.events = 0};
        if (l->listen_fds[i] >= 0)
            epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, l->listen_fds[i], &ev);
    }
}

static bool full(const struct loop *l)
{
    if (l->control)
        return l->n_conns >= CONTROL_CONNECTIONS;
    return atomic_load_explicit(&l->edge->n_conns, memory_order_relaxed) >=
           l->edge->opts.max_connections;
}

static void admit(struct loop *l, int fd, const struct sockaddr_storage *peer, socklen_t n_peer)
{
    const struct gate *gate = &l->edge->gate;
    if (!l->control && !gate_is_proxy(gate, peer) && !gate_admits(gate, peer)) {
        metric_add(l->edge->metrics.not_allowed, 1);
        close(fd);
        return;
    }
    if (full(l)) {
        if (!l->control)
            metric_add(l->edge->metrics.turned_away, 1);
        turn_away(fd);
        return;
    }
    /* The client's own socket: conn.c asks the kernel who is at its other end, and of a front's pair
     * that would be ourselves. It closes fd itself when it fails. */
    if (l->control)
        MHD_add_connection(l->daemon, fd, (const struct sockaddr *)peer, n_peer);
    else
        front_new(l, fd, peer, n_peer);
}

bool listen_accept(struct loop *l, int fd)
{
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        struct sockaddr_storage peer;
        socklen_t n_peer = sizeof(peer);
        int client = accept4(fd, (struct sockaddr *)&peer, &n_peer, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client >= 0) {
            admit(l, client, &peer, n_peer);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            pause_accepting(l);
        if (errno != EINTR && errno != ECONNABORTED)
            return false;
    }
    return true;
}

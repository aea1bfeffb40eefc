/* accept.c - takes waiting connections: who may connect, and how many. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/edge/edge_int.h"
#include "core/edge/front.h"

enum {
    ACCEPTS_MAX = 64, /* per turn and listener: the others want their turn too */
    UNREAD_READS = 16,
    LAST_TURNS_MAX = 64, /* of ACCEPTS_MAX: as many as the kernel keeps; who floods gets no more */
};

struct refusal_text {
    const char *status, *body;
};

static const struct refusal_text too_many = {
    "503 Service Unavailable",
    "{\"error\":{\"message\":\"too many connections\","
    "\"type\":\"ServiceUnavailableError\",\"param\":null,\"code\":503}}"};
static const struct refusal_text too_many_of_address = {
    "429 Too Many Requests", "{\"error\":{\"message\":\"too many connections from this address "
                             "(max_connections_per_address)\","
                             "\"type\":\"RateLimitError\",\"param\":null,\"code\":429}}"};

/* Over the limit: a clear answer instead of a connection that hangs. Who speaks TLS would have to be
 * shaken hands with first: a close is all there is. */
static void turn_away(int fd, const struct refusal_text *why, bool tls)
{
    char reply[512], unread[4096];
    if (tls) {
        close(fd);
        return;
    }
    int n = snprintf(reply, sizeof(reply),
                     "HTTP/1.1 %s\r\nContent-Type: application/json\r\n"
                     "Retry-After: 1\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
                     why->status, strlen(why->body), why->body);
    if (send(fd, reply, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) == n)
        shutdown(fd, SHUT_WR);
    /* Closing with unread input would reset the connection and lose the reply; one that goes on
     * sending shall not hold the loop. */
    for (int i = 0; i < UNREAD_READS && recv(fd, unread, sizeof(unread), MSG_DONTWAIT) > 0; i++)
        ;
    close(fd);
}

/* The address behind listener i of a loop; NULL: the control socket. */
static const struct listener *listener_of(const struct loop *l, uint32_t i)
{
    return l->control ? NULL : &l->edge->listeners[i];
}

/* Added and removed, never changed: epoll allows nothing else with EPOLLEXCLUSIVE. */
int accept_watch(struct loop *l, struct err *e)
{
    for (uint32_t i = 0; i < l->n_listen; i++) {
        const struct listener *at = listener_of(l, i);
        struct epoll_event ev = {.events = EPOLLIN | (at && at->shared ? EPOLLEXCLUSIVE : 0),
                                 .data.u64 = EVENT_LISTEN + i};
        if (l->listen_fds[i] >= 0 &&
            epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->listen_fds[i], &ev) != 0)
            return err_set(e, LLMD_EIO, "cannot watch a listener: %s", strerror(errno));
    }
    l->accepting = true;
    return 0;
}

static void leave_alone(struct loop *l)
{
    for (uint32_t i = 0; l->accepting && i < l->n_listen; i++)
        if (l->listen_fds[i] >= 0)
            epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, l->listen_fds[i], NULL);
    l->accepting = false;
}

void accept_resume(struct loop *l)
{
    struct err none = {0};
    if (!l->accepting && accept_watch(l, &none) != 0)
        leave_alone(l); /* memory is short: until the next sweep */
}

static bool full(const struct loop *l)
{
    if (l->control)
        return l->n_conns >= CONTROL_CONNECTIONS;
    return atomic_load_explicit(&l->edge->n_conns, memory_order_relaxed) >=
           l->edge->opts.max_connections;
}

static void admit(struct loop *l, const struct listener *at, int fd,
                  const struct sockaddr_storage *peer, socklen_t n_peer)
{
    const struct gate *gate = &l->edge->gate;
    if (!l->control && !gate_is_proxy(gate, peer) && !gate_admits(gate, peer)) {
        metric_add(l->edge->metrics.refused[REFUSED_ALLOW], 1);
        close(fd);
        return;
    }
    if (full(l)) {
        if (!l->control)
            metric_add(l->edge->metrics.refused[REFUSED_FULL], 1);
        turn_away(fd, &too_many, at && at->opts->tls);
        return;
    }
    const bool named_later = !at || gate_is_proxy(gate, peer);
    if (!named_later && !edge_count_client(l->edge, peer)) {
        metric_add(l->edge->metrics.refused[REFUSED_ADDRESS_FULL], 1);
        turn_away(fd, &too_many_of_address, at->opts->tls);
        return;
    }
    /* The client's own socket: conn.c asks the kernel who is at its other end, and of a front's pair
     * that would be ourselves. It closes fd itself when it fails. */
    if (l->control)
        MHD_add_connection(l->daemon, fd, (const struct sockaddr *)peer, n_peer);
    else if (!front_new(l, at->opts, fd, peer, n_peer) && !named_later)
        edge_uncount_client(l->edge, peer);
}

bool accept_clients(struct loop *l, uint32_t i)
{
    const struct listener *at = listener_of(l, i);
    const int fd = l->listen_fds[i];
    for (int n = 0; n < ACCEPTS_MAX; n++) {
        struct sockaddr_storage peer;
        socklen_t n_peer = sizeof(peer);
        int client = accept4(fd, (struct sockaddr *)&peer, &n_peer, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client >= 0) {
            admit(l, at, client, &peer, n_peer);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            leave_alone(l); /* the listeners stay readable: until the next sweep */
        if (errno != EINTR && errno != ECONNABORTED)
            return false;
    }
    return true;
}

/* A socket that we were given goes on without us: who waits there is the next server's. */
void accept_end(struct loop *l)
{
    leave_alone(l);
    for (uint32_t i = 0; i < l->n_listen; i++) {
        const struct listener *at = listener_of(l, i);
        const bool ours = !at || at->opts->inherited_fd == 0;
        if (l->listen_fds[i] < 0)
            continue;
        for (int n = 0; ours && n < LAST_TURNS_MAX && accept_clients(l, i); n++)
            ;
        close(l->listen_fds[i]);
        l->listen_fds[i] = -1;
    }
}

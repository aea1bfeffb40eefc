/* conn.c - the record of a connection of libmicrohttpd: its deadline, its hang-up watch. */
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "core/edge/edge_int.h"
#include "core/edge/front.h"
#include "core/util/clock.h"

static struct conn *conn_new(struct loop *l, int fd)
{
    struct conn *c = calloc(1, sizeof(*c));
    if (!c || !slots_put(&l->slots, c, &c->slot)) {
        free(c);
        return NULL;
    }
    c->loop = l;
    c->fd = fd;
    c->front = l->handed_over;
    if (c->front) {
        c->front->conn = c;
        c->listener = c->front->listener;
    }
    c->next = l->conns;
    if (l->conns)
        l->conns->prev = c;
    l->conns = c;
    return c;
}

static void conn_free(struct conn *c)
{
    struct loop *l = c->loop;
    slots_drop(&l->slots, c->slot);
    if (c->front) {
        c->front->conn = NULL;
        front_touch(c->front);
    }
    if (c->prev)
        c->prev->next = c->next;
    else
        l->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    free(c);
}

struct conn *conn_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static void conn_begin(struct conn *c)
{
    struct edge *edge = c->loop->edge;
    const struct peer_rule *rule = &edge->control_socket.rule;
    const struct edge_limits limits = edge_limits(edge);
    struct peer peer;
    conn_set_deadline(c, limits.header_timeout_s);
    if (!c->loop->control || !peer_read(c->fd, rule, &peer))
        return;
    c->peer_may = peer_may(&peer, rule);
    c->peer_uid = peer.uid;
}

void conn_notify(void *cls, struct MHD_Connection *mhd, void **context,
                 enum MHD_ConnectionNotificationCode code)
{
    struct loop *l = cls;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
        struct conn *c = conn_new(l, info->connect_fd);
        *context = c;
        if (c)
            conn_begin(c);
        l->n_conns++;
        return;
    }
    if (*context)
        conn_free(*context);
    *context = NULL;
    l->n_conns--;
}

void conn_set_deadline(struct conn *c, uint32_t seconds)
{
    c->deadline_us = seconds ? clock_now_us() + (uint64_t)seconds * 1000000 : 0;
}

void conn_watch(struct conn *c)
{
    if (c->watched)
        return;
    struct epoll_event ev = {
        .events = EPOLLRDHUP | EPOLLET, /* HUP and ERR come by themselves */
        .data.u64 = slots_name(&c->loop->slots, c->slot, SLOT_CONN),
    };
    c->watched = epoll_ctl(c->loop->epoll_fd, EPOLL_CTL_ADD, c->fd, &ev) == 0;
}

void conn_unwatch(struct conn *c)
{
    if (c->watched)
        epoll_ctl(c->loop->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    c->watched = false;
}

void conn_sweep(struct loop *l, uint64_t now_us)
{
    for (struct conn *c = l->conns; c; c = c->next) {
        if (c->deadline_us == 0 || now_us < c->deadline_us)
            continue;
        c->deadline_us = 0;
        if (c->front)
            metric_add(l->edge->metrics.dropped[c->exchange ? DROPPED_BODY : DROPPED_IDLE], 1);
        shutdown(c->fd, SHUT_RDWR); /* libmicrohttpd reads the end and closes */
    }
}

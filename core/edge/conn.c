/* conn.c - the record of one TCP connection: its deadline, its hang-up watch, its slot. */
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "core/edge/edge_int.h"
#include "core/util/clock.h"

/* An epoll event of a connection: this bit, 31 bits of generation, the slot's index. */
static const uint64_t EVENT_CONN = (uint64_t)1 << 63;
enum { GENERATION_MASK = 0x7fffffff, SLOTS_STEP = 64 };

bool conn_event(uint64_t event)
{
    return (event & EVENT_CONN) != 0;
}

static bool slots_grow(struct loop *l)
{
    uint32_t n = l->n_slots ? l->n_slots * 2 : SLOTS_STEP;
    struct conn_slot *slots = realloc(l->slots, n * sizeof(*slots));
    if (!slots)
        return false;
    for (uint32_t i = l->n_slots; i < n; i++)
        slots[i] = (struct conn_slot){.next_free = i + 1 < n ? i + 1 : UINT32_MAX};
    l->slots = slots;
    l->first_free = l->n_slots;
    l->n_slots = n;
    return true;
}

static struct conn *conn_new(struct loop *l, int fd)
{
    struct conn *c = calloc(1, sizeof(*c));
    if (!c || (l->first_free == UINT32_MAX && !slots_grow(l))) {
        free(c);
        return NULL;
    }
    c->loop = l;
    c->fd = fd;
    c->slot = l->first_free;
    struct conn_slot *s = &l->slots[c->slot];
    l->first_free = s->next_free;
    s->conn = c;
    c->next = l->conns;
    if (l->conns)
        l->conns->prev = c;
    l->conns = c;
    return c;
}

static void conn_free(struct conn *c)
{
    struct loop *l = c->loop;
    struct conn_slot *s = &l->slots[c->slot];
    BUG_ON(s->conn != c);
    s->conn = NULL;
    s->generation = (s->generation + 1) & GENERATION_MASK;
    s->next_free = l->first_free;
    l->first_free = c->slot;
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

uint32_t conn_patience_s(const struct edge_limits *l)
{
    return (uint32_t)u64_max(u64_max(WRITE_STALL_S, l->keepalive_timeout_s),
                             u64_max(l->header_timeout_s, l->body_timeout_s));
}

static void conn_begin(struct conn *c, struct MHD_Connection *mhd)
{
    struct edge *edge = c->loop->edge;
    const struct peer_rule *rule = &edge->control_socket.rule;
    const struct edge_limits limits = edge_limits(edge);
    const unsigned patience_s = conn_patience_s(&limits);
    struct peer peer;
    conn_set_deadline(c, limits.header_timeout_s);
    if (patience_s > c->loop->patience_s) /* the limits grew since the daemon started */
        (void)MHD_set_connection_option(mhd, MHD_CONNECTION_OPTION_TIMEOUT, patience_s);
    if (!c->loop->control || !peer_read(c->fd, rule, &peer))
        return;
    c->peer_may = peer_may(&peer, rule);
    c->peer_uid = peer.uid;
}

static void count(struct loop *l, int by)
{
    l->n_conns += (uint32_t)by;
    if (l->control)
        return;
    atomic_fetch_add(&l->edge->n_conns, (unsigned)by);
    metric_gauge_add(l->edge->metrics.connections, by);
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
            conn_begin(c, mhd);
        count(l, 1);
        return;
    }
    if (*context)
        conn_free(*context);
    *context = NULL;
    count(l, -1);
}

void conn_set_deadline(struct conn *c, uint32_t seconds)
{
    c->deadline_us = seconds ? clock_now_us() + (uint64_t)seconds * 1000000 : 0;
}

void conn_watch(struct conn *c)
{
    if (c->watched)
        return;
    uint64_t generation = c->loop->slots[c->slot].generation;
    struct epoll_event ev = {
        .events = EPOLLRDHUP | EPOLLET, /* HUP and ERR come by themselves */
        .data.u64 = EVENT_CONN | generation << 32 | c->slot,
    };
    c->watched = epoll_ctl(c->loop->epoll_fd, EPOLL_CTL_ADD, c->fd, &ev) == 0;
}

void conn_unwatch(struct conn *c)
{
    if (c->watched)
        epoll_ctl(c->loop->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    c->watched = false;
}

struct conn *conn_find(struct loop *l, uint64_t event)
{
    uint32_t slot = (uint32_t)event;
    uint32_t generation = (uint32_t)(event >> 32) & GENERATION_MASK;
    if (slot >= l->n_slots || l->slots[slot].generation != generation)
        return NULL;
    return l->slots[slot].conn;
}

void conn_sweep(struct loop *l, uint64_t now_us)
{
    for (struct conn *c = l->conns; c; c = c->next) {
        if (c->deadline_us == 0 || now_us < c->deadline_us)
            continue;
        c->deadline_us = 0;
        shutdown(c->fd, SHUT_RDWR); /* libmicrohttpd reads the end and closes */
    }
}

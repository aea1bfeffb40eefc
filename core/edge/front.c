#include "core/edge/front_int.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "core/edge/proxy2.h"

enum {
    UP_HIGH_BYTES = 64 * 1024, /* nothing more is read while so much waits */
    READS_MAX = 16,            /* per turn: the others want their turn too */
    HANDSHAKES_MAX = 16,       /* steps per turn of all; one takes up to a millisecond */
    LINGER_BYTES = 1024 * 1024,
    PAIR_BYTES = 64 * 1024,   /* what libmicrohttpd may have written that we have not taken */
    UNSENT_BYTES = 64 * 1024, /* what the kernel may hold unsent for one client: a slow reader shall
                                 pause its sequence instead of filling megabytes */
};

/* Takes a refused request's place; front_fault() knows it. */
static const char stand_in[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/* ---- life ---- */

void front_note(struct front *f)
{
    if (f->touched)
        return;
    f->touched = true;
    f->next_touched = f->loop->touched;
    f->loop->touched = f;
}

static void count(struct loop *l, int by)
{
    l->n_fronts += (uint32_t)by;
    atomic_fetch_add(&l->edge->n_conns, (unsigned)by);
    metric_gauge_add(l->edge->metrics.connections, by);
}

static bool watch(struct front *f, int fd, unsigned kind, uint32_t events)
{
    struct epoll_event ev = {.events = events | EPOLLET,
                             .data.u64 = slots_name(&f->loop->slots, f->slot, kind)};
    return epoll_ctl(f->loop->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0;
}

static void set_options(int fd, int family)
{
    static const int on = 1, unsent = UNSENT_BYTES;
    if (family == AF_UNIX)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
}

static enum front_state after_proxy_header(const struct front *f)
{
    return f->listener->tls ? FRONT_TLS : FRONT_OPEN;
}

bool front_new(struct loop *l, const struct edge_listener *listener, int fd,
               const struct sockaddr_storage *peer, socklen_t n_peer)
{
    struct front *f = calloc(1, sizeof(*f));
    if (!f || !slots_put(&l->slots, f, &f->slot)) {
        free(f);
        close(fd);
        return false;
    }
    f->loop = l;
    f->listener = listener;
    f->fd = fd;
    f->pair = -1;
    f->peer = *peer;
    f->n_peer = n_peer;
    f->state = gate_is_proxy(&l->edge->gate, peer) ? FRONT_PROXY : after_proxy_header(f);
    f->counted = f->state != FRONT_PROXY;
    head_scan_init(&f->scan);
    f->came_us = clock_now_us();
    f->head_deadline_us = front_in_s(edge_limits(l->edge).header_timeout_s);
    f->next = l->fronts;
    if (l->fronts)
        l->fronts->prev = f;
    l->fronts = f;
    count(l, 1);
    set_options(fd, peer->ss_family);
    if (!watch(f, fd, SLOT_CLIENT, EPOLLIN | EPOLLOUT | EPOLLRDHUP)) {
        f->state = FRONT_OVER;
        front_note(f);
    }
    return true;
}

/* libmicrohttpd may still hold the pair's other end: it reads the end, and its clients are gone. */
static void front_free(struct front *f)
{
    struct loop *l = f->loop;
    if (f->conn)
        f->conn->front = NULL;
    front_settle(f);
    if (f->counted)
        edge_uncount_client(l->edge, &f->peer);
    slots_drop(&l->slots, f->slot);
    if (f->prev)
        f->prev->next = f->next;
    else
        l->fronts = f->next;
    if (f->next)
        f->next->prev = f->prev;
    tls_conn_free(f->tls);
    close(f->fd);
    if (f->pair >= 0)
        close(f->pair);
    buf_fini(&f->head);
    buf_fini(&f->up);
    buf_fini(&f->down);
    free(f);
    count(l, -1);
}

void front_touch(struct front *f)
{
    if (!f)
        return;
    f->down_due = true;
    front_note(f);
}

void front_touch_busy(struct loop *l)
{
    for (struct front *f = l->fronts; f; f = f->next)
        if (f->conn && f->conn->exchange && !f->conn->exchange->suspended)
            front_touch(f);
}

void front_event(struct front *f, uint32_t events)
{
    const uint32_t ends = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
    /* TLS may wait for room to read, and for input to write. */
    f->readable |= f->listener->tls || (events & (EPOLLIN | ends)) != 0;
    f->hung_up |= (events & ends) != 0;
    f->down_due |= f->down.len > 0 || f->end_waits;
    front_note(f);
}

/* ---- up ---- */

static bool hand_over(struct front *f)
{
    static const int size = PAIR_BYTES;
    struct loop *l = f->loop;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
        return false;
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    f->pair = pair[0];
    l->handed_over = f;
    /* Closes pair[1] itself when it fails. */
    enum MHD_Result rc =
        MHD_add_connection(l->daemon, pair[1], (const struct sockaddr *)&f->peer, f->n_peer);
    l->handed_over = NULL;
    return rc == MHD_YES && f->conn;
}

static void refuse(struct front *f, bool in_chunks, struct buf *out)
{
    buf_fini(&f->head);
    f->deaf = true;
    f->head_deadline_us = f->idle_deadline_us = 0;
    if (in_chunks)
        buf_addstr(out, "0\r\n\r\n");
    else {
        f->n_heads++;
        buf_addstr(out, stand_in);
    }
}

static void add_content(const char *data, size_t n, bool chunked, struct buf *out)
{
    if (!chunked) {
        buf_add(out, data, n);
        return;
    }
    buf_addf(out, "%zx\r\n", n);
    buf_add(out, data, n);
    buf_addstr(out, "\r\n");
}

static void begin_head(struct front *f, const char *data, size_t n)
{
    if (f->head.len == 0 && f->head_deadline_us == 0)
        f->head_deadline_us = front_in_s(edge_limits(f->loop->edge).header_timeout_s);
    f->idle_deadline_us = 0;
    buf_add(&f->head, data, n);
}

static void end_head(struct front *f, const char *data, size_t n, struct buf *out)
{
    f->n_heads++;
    f->head_deadline_us = f->idle_deadline_us = 0;
    buf_add(out, f->head.data, f->head.len);
    buf_add(out, data, n);
    out->failed |= f->head.failed;
    buf_fini(&f->head);
}

/* Reads n bytes of the client by the rule; what is to go on is appended to out. */
static void scan(struct front *f, const char *data, size_t n, struct buf *out)
{
    while (n > 0 && !f->deaf) {
        enum scan_kind kind;
        const bool in_chunks = head_scan_in_chunks(&f->scan);
        size_t k = head_scan_next(&f->scan, data, n, &kind);
        if (kind == SCAN_BAD)
            refuse(f, in_chunks, out);
        else if (kind == SCAN_BODY)
            add_content(data, k, in_chunks, out);
        else if (kind == SCAN_BODY_END)
            buf_addstr(out, "0\r\n\r\n");
        else if (kind == SCAN_HEAD)
            begin_head(f, data, k);
        else if (kind == SCAN_HEAD_END && !(out->len == 0 && front_answer(f, data, k)))
            end_head(f, data, k, out);
        data += k;
        n -= k;
    }
}

/* False when libmicrohttpd takes no more: it has closed its end, and its reply is on the way down. */
static bool send_up(struct front *f, const char *data, size_t n, size_t *out_sent)
{
    size_t sent = 0;
    while (sent < n) {
        ssize_t k = send(f->pair, data + sent, n - sent, MSG_NOSIGNAL);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0 && errno == EAGAIN)
            break;
        if (k < 0)
            return false;
        sent += (size_t)k;
    }
    *out_sent = sent;
    return true;
}

static void stop_listening(struct front *f)
{
    f->deaf = true;
    buf_fini(&f->up);
    buf_fini(&f->head);
}

/* Sends what waits, and keeps what the pair does not take. */
static void flush_up(struct front *f)
{
    size_t sent = 0;
    if (!send_up(f, f->up.data, f->up.len, &sent)) {
        stop_listening(f);
        return;
    }
    front_touch(f);
    buf_consume(&f->up, sent);
    if (f->up.len == 0)
        buf_fini(&f->up);
}

/* Hands on what was just scanned, behind what waits. */
static void pass_up(struct front *f, const struct buf *fresh)
{
    size_t sent = 0;
    if (fresh->failed || (f->pair < 0 && !hand_over(f))) {
        f->state = FRONT_OVER;
        return;
    }
    if (f->up.len == 0 && !send_up(f, fresh->data, fresh->len, &sent)) {
        stop_listening(f);
        return;
    }
    front_touch(f);
    if (sent == fresh->len)
        return;
    buf_add(&f->up, fresh->data + sent, fresh->len - sent);
    if (f->up.failed)
        f->state = FRONT_OVER;
    if (!f->pair_watched)
        f->pair_watched = watch(f, f->pair, SLOT_PAIR, EPOLLOUT);
}

/* -EAGAIN: nothing for now; 0: the end; other negative numbers: the connection is broken. */
static ssize_t client_read(struct front *f, char *data, size_t n)
{
    ssize_t k;
    if (f->tls && f->state != FRONT_LINGER)
        return tls_conn_read(f->tls, data, n);
    do
        k = recv(f->fd, data, n, 0);
    while (k < 0 && errno == EINTR);
    return k < 0 ? -errno : k;
}

/* Whom the load balancer names is known. */
static void on_proxy_header(struct front *f, enum proxy2_verdict verdict)
{
    struct edge *edge = f->loop->edge;
    f->head_deadline_us = front_in_s(edge_limits(edge).header_timeout_s);
    f->state = FRONT_OVER;
    if (verdict == PROXY2_BAD)
        metric_add(edge->metrics.refused[REFUSED_PROXY], 1);
    else if (!gate_admits(&edge->gate, &f->peer))
        metric_add(edge->metrics.refused[REFUSED_ALLOW], 1);
    else if (!(f->counted = edge_count_client(edge, &f->peer)))
        metric_add(edge->metrics.refused[REFUSED_ADDRESS_FULL], 1);
    else
        f->state = after_proxy_header(f);
}

/* n more bytes of the PROXY header: none is behind it. */
static void take_proxy_header(struct front *f, const char *data, size_t n)
{
    size_t n_header = 0;
    buf_add(&f->head, data, n);
    const enum proxy2_verdict verdict =
        f->head.failed ? PROXY2_BAD
                       : proxy2_parse((const uint8_t *)f->head.data, f->head.len, &n_header,
                                      &f->peer, &f->n_peer);
    if (verdict == PROXY2_MORE)
        return;
    on_proxy_header(f, verdict);
    buf_fini(&f->head);
}

static void take(struct front *f, const char *data, size_t n)
{
    struct buf *out = &f->loop->scanned;
    buf_clear(out);
    if (f->state == FRONT_PROXY)
        take_proxy_header(f, data, n);
    else if (f->deaf)
        f->n_dropped += n;
    else
        scan(f, data, n, out);
    front_send_answers(f);
    if ((out->len > 0 || out->failed) && f->state != FRONT_OVER)
        pass_up(f, out);
}

/* The client sends no more. Without a request under way nobody waits for us either. */
static void on_client_end(struct front *f)
{
    f->client_ended = true;
    f->readable = false;
    f->idle_deadline_us = 0;
    if (f->state != FRONT_OPEN || (f->pair < 0 && f->down.len == 0 && !f->tls))
        f->state = FRONT_OVER;
    else if (f->pair < 0) { /* the replies it did not take yet, and goodbye */
        f->all_said = true;
        front_touch(f);
    }
}

static void read_client(struct front *f)
{
    char data[READ_BYTES];
    const size_t room = f->state == FRONT_PROXY
                            ? proxy2_missing((const uint8_t *)f->head.data, f->head.len)
                            : sizeof(data);
    ssize_t n = client_read(f, data, room);
    if (n == 0)
        on_client_end(f);
    else if (n > 0) {
        /* A short read took all there was, but for an end; one of TLS took a record. */
        if ((size_t)n < room && !f->tls && !f->hung_up)
            f->readable = false;
        take(f, data, (size_t)n);
    } else if (n == -EAGAIN)
        f->readable = false;
    else
        f->state = FRONT_OVER;
}

static bool generating(const struct front *f)
{
    return f->conn && f->conn->exchange && f->conn->exchange->suspended;
}

/* Whether libmicrohttpd is to hear of the client's end: all that came before went on, or nobody will
 * read the reply that is being made. Behind much input the end is not read, only reported. */
static bool end_is_due(const struct front *f)
{
    const bool ended = f->client_ended || (f->hung_up && f->up.len >= UP_HIGH_BYTES);
    return ended && (f->up.len == 0 || generating(f));
}

static void pump_up(struct front *f)
{
    struct loop *l = f->loop;
    f->n_answered = 0;
    if (f->up.len > 0)
        flush_up(f);
    for (int i = 0; f->readable && f->state != FRONT_OVER && f->up.len < UP_HIGH_BYTES; i++) {
        if (i == READS_MAX || (f->state == FRONT_TLS && l->n_handshakes == HANDSHAKES_MAX)) {
            front_note(f);
            break;
        }
        if (f->state == FRONT_TLS)
            front_shake_hands(f);
        else
            read_client(f);
    }
    if (f->pair >= 0 && !f->up_ended && end_is_due(f)) {
        f->up_ended = true;
        shutdown(f->pair, SHUT_WR);
    }
}

/* Takes f from the list of the touched if it is its first; no other can have got in front of it. */
static void untouch(struct front *f)
{
    if (!f->touched)
        return;
    BUG_ON(f->loop->touched != f);
    f->loop->touched = f->next_touched;
}

static void pump(struct front *f, bool down)
{
    const bool due = f->down_due;
    f->touched = false;
    if (due && down) {
        f->down_due = false;
        front_pump_down(f);
    } else if (due)
        front_note(f);
    pump_up(f);
    if (f->state == FRONT_LINGER && f->n_dropped > LINGER_BYTES)
        f->state = FRONT_OVER;
    if (f->state != FRONT_OVER)
        return;
    untouch(f);
    front_free(f);
}

void front_pump(struct loop *l, bool down)
{
    struct front *next;
    struct front *f = l->touched;
    l->touched = NULL;
    for (; f; f = next) {
        next = f->next_touched;
        pump(f, down);
    }
}

static bool past(uint64_t deadline_us, uint64_t now_us)
{
    return deadline_us != 0 && now_us >= deadline_us;
}

/* As conn_sweep ends those that libmicrohttpd has. */
static void end_idle(struct front *f)
{
    metric_add(f->loop->edge->metrics.dropped[DROPPED_IDLE], 1);
    f->idle_deadline_us = 0;
    f->all_said = f->deaf = true;
    front_touch(f);
}

void front_sweep(struct loop *l, uint64_t now_us)
{
    const uint64_t head_us = (uint64_t)edge_limits(l->edge).header_timeout_s * 1000000;
    for (struct front *f = l->fronts; f; f = f->next) {
        /* Behind a request that is being answered a head may wait. */
        if (f->head_deadline_us != 0 && f->conn && f->conn->exchange)
            f->head_deadline_us = now_us + head_us;
        if (past(f->idle_deadline_us, now_us))
            end_idle(f);
        const bool head = past(f->head_deadline_us, now_us);
        const bool write = past(f->write_deadline_us, now_us);
        if (!head && !write && !past(f->linger_deadline_us, now_us))
            continue;
        if (head || write)
            metric_add(l->edge->metrics.dropped[write ? DROPPED_WRITE : DROPPED_HEAD], 1);
        if (f->state == FRONT_TLS)
            front_count_handshake(f, TLS_TIMEOUT);
        f->state = FRONT_OVER;
        front_note(f);
    }
}

bool front_any_new(const struct loop *l, uint64_t us)
{
    const uint64_t since_us = clock_now_us() - us;
    for (const struct front *f = l->fronts; f; f = f->next)
        if (f->state < FRONT_LINGER && f->n_heads == 0 && f->idle_deadline_us == 0 &&
            !f->client_ended && f->came_us > since_us)
            return true;
    return false;
}

bool front_end_all(struct loop *l, bool now)
{
    for (struct front *f = l->fronts; f; f = f->next) {
        if (now || (f->pair < 0 && f->down.len == 0) || f->state == FRONT_LINGER)
            f->state = FRONT_OVER;
        front_touch(f);
    }
    front_pump(l, true);
    return !l->fronts;
}

/* ---- what the exchange asks ---- */

void front_begin(struct front *f)
{
    f->n_begun++;
    front_touch(f); /* of several that came together, a later one begins in a turn of its own */
}

void front_owe(struct front *f)
{
    f->n_owed++;
    front_touch(f);
}

void front_settle(struct front *f)
{
    if (f->n_owed > 0)
        atomic_fetch_sub(&f->loop->edge->n_exchanges, f->n_owed);
    f->n_owed = 0;
}

const char *front_fault(const struct front *f, unsigned *out_status)
{
    if (!f->scan.fault || f->n_begun != f->n_heads)
        return NULL;
    *out_status = f->scan.status;
    return f->scan.fault;
}

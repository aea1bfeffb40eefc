/* front_down.c - from libmicrohttpd, or past it, to the client. */
#include <errno.h>
#include <stdio.h>
#include <sys/uio.h>

#include "core/edge/front_int.h"

enum {
    LOOK_AGAIN_BYTES = 4096, /* a reply of so many bytes may have more behind it */
    LINGER_S = 1,
};

/* How much of it the client took; negative when it is gone. */
static ssize_t client_write(struct front *f, const char *data, size_t n)
{
    ssize_t k;
    if (f->tls)
        return tls_conn_write(f->tls, data, n);
    do
        k = send(f->fd, data, n, MSG_NOSIGNAL);
    while (k < 0 && errno == EINTR);
    if (k < 0 && errno == EAGAIN)
        return 0;
    return k < 0 ? -errno : k;
}

/* One record. What is lost of it for want of memory ends the connection. */
static ssize_t client_write_record(struct front *f, const struct iovec piece[3])
{
    struct buf *all = &f->loop->gathered;
    buf_clear(all);
    for (int i = 0; i < 3; i++)
        buf_add(all, piece[i].iov_base, piece[i].iov_len);
    return all->failed ? -ENOMEM : tls_conn_write(f->tls, all->data, all->len);
}

/* As client_write, of three pieces in one write. */
static ssize_t client_write_chunk(struct front *f, struct iovec piece[3])
{
    const struct msghdr m = {.msg_iov = piece, .msg_iovlen = 3};
    ssize_t k;
    if (f->tls)
        return client_write_record(f, piece);
    do
        k = sendmsg(f->fd, &m, MSG_NOSIGNAL);
    while (k < 0 && errno == EINTR);
    if (k < 0 && errno == EAGAIN)
        return 0;
    return k < 0 ? -errno : k;
}

/* False when the client cannot take more for now, or is gone. */
static bool flush_down(struct front *f)
{
    while (f->down.len > 0) {
        ssize_t k = client_write(f, f->down.data, f->down.len);
        if (k < 0)
            f->state = FRONT_OVER;
        if (k <= 0)
            return false;
        buf_consume(&f->down, (size_t)k);
        f->write_deadline_us = front_write_deadline(f);
    }
    buf_fini(&f->down);
    f->write_deadline_us = 0;
    return true;
}

/* Writes a piece, keeps what does not fit. False as above. */
static bool pass_down(struct front *f, const char *data, size_t n)
{
    ssize_t k = client_write(f, data, n);
    if (k < 0) {
        f->state = FRONT_OVER;
        return false;
    }
    if ((size_t)k == n)
        return true;
    buf_add(&f->down, data + k, n - (size_t)k);
    if (f->down.failed)
        f->state = FRONT_OVER;
    f->write_deadline_us = front_write_deadline(f);
    return false;
}

void front_write(struct front *f, const char *data, size_t n)
{
    (void)pass_down(f, data, n);
}

/* What of the pieces lies behind their first n bytes waits in down. */
static void keep_rest(struct front *f, const struct iovec piece[3], size_t n)
{
    for (int i = 0; i < 3; i++) {
        const size_t skip = (size_t)u64_min(n, piece[i].iov_len);
        buf_add(&f->down, (const char *)piece[i].iov_base + skip, piece[i].iov_len - skip);
        n -= skip;
    }
    if (f->down.len > 0)
        f->write_deadline_us = front_write_deadline(f);
    if (f->down.failed)
        f->state = FRONT_OVER;
}

bool front_send_chunk(struct front *f, const char *data, size_t n)
{
    char size[20];
    if (!f || f->state != FRONT_OPEN || f->down_due || f->down.len > 0)
        return false;
    struct iovec piece[3] = {
        {.iov_base = size, .iov_len = (size_t)snprintf(size, sizeof(size), "%zx\r\n", n)},
        {.iov_base = (char *)data, .iov_len = n},
        {.iov_base = (char *)"\r\n", .iov_len = 2},
    };
    ssize_t k = client_write_chunk(f, piece);
    if (k >= 0)
        keep_rest(f, piece, (size_t)k);
    else
        f->state = FRONT_OVER;
    if (f->state == FRONT_OVER)
        front_note(f);
    return true;
}

void front_linger(struct front *f)
{
    f->end_waits = f->tls && !tls_conn_end(f->tls);
    f->write_deadline_us = f->end_waits ? front_write_deadline(f) : 0;
    if (f->end_waits) /* the next room brings us here again */
        return;
    front_settle(f);
    f->state = FRONT_LINGER;
    f->deaf = true;
    f->head_deadline_us = 0;
    f->linger_deadline_us = front_in_s(LINGER_S);
    f->readable = true; /* what came while nobody read */
    shutdown(f->fd, SHUT_WR);
    if (f->client_ended)
        f->state = FRONT_OVER;
}

void front_pump_down(struct front *f)
{
    char data[READ_BYTES];
    size_t moved = 0;
    if (f->state != FRONT_OPEN || !flush_down(f))
        return;
    if (f->pair < 0) {
        front_settle(f);
        if (f->all_said)
            front_linger(f);
        return;
    }
    for (;;) {
        ssize_t n = recv(f->pair, data, sizeof(data), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {
            front_linger(f);
            return;
        }
        moved += (size_t)n;
        if (!pass_down(f, data, (size_t)n))
            return;
        if ((size_t)n < sizeof(data) && f->conn) /* all there was; without conn there is an end */
            break;
    }
    front_settle(f);
    if (moved >= LOOK_AGAIN_BYTES)
        front_touch(f); /* libmicrohttpd may have waited for the room */
}

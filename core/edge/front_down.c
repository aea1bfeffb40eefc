/* front_down.c - from libmicrohttpd, or past it, to the client. */
#include <errno.h>

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

static void add_size(struct buf *out, size_t n)
{
    char digits[2 * sizeof(n)];
    size_t at = sizeof(digits);
    do
        digits[--at] = "0123456789abcdef"[n & 15];
    while ((n >>= 4) != 0);
    buf_add(out, digits + at, sizeof(digits) - at);
}

/* Put together first: over TLS it is one record, and a plain write of one piece costs the kernel less. */
bool front_send_chunk(struct front *f, const char *data, size_t n)
{
    if (!f || f->state != FRONT_OPEN || f->down_due || f->down.len > 0)
        return false;
    struct buf *chunk = &f->loop->gathered;
    buf_clear(chunk);
    add_size(chunk, n);
    buf_add(chunk, "\r\n", 2);
    buf_add(chunk, data, n);
    buf_add(chunk, "\r\n", 2);
    if (chunk->failed)
        f->state = FRONT_OVER;
    else
        front_write(f, chunk->data, chunk->len);
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
    f->head_deadline_us = f->idle_deadline_us = 0;
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

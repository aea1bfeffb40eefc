/* front_tls.c - the beginning of a client's TLS connection. */
#include <errno.h>
#include <openssl/ssl.h>
#include <string.h>

#include "core/edge/front_int.h"

void front_count_handshake(const struct front *f, enum tls_outcome outcome)
{
    const struct edge_metrics *m = &f->loop->edge->metrics;
    if (outcome == TLS_OK)
        metric_add(m->tls_shaken[tls_conn_is_1_3(f->tls)][tls_conn_resumed(f->tls)], 1);
    else if (f->tls || outcome == TLS_PLAIN) /* who came and said nothing shook no hands */
        metric_add(m->tls_failed[outcome], 1);
}

/* Nobody can read a TLS alert who does not speak TLS. */
static void refuse_plain(struct front *f)
{
    static const char reply[] =
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 63\r\n"
        "Connection: close\r\n\r\n"
        "This port speaks HTTPS: write https:// in front of its address\n";
    front_count_handshake(f, TLS_PLAIN);
    (void)send(f->fd, reply, sizeof(reply) - 1, MSG_NOSIGNAL);
    front_linger(f);
}

/* Looks at the first byte, which a TLS record begins with a control character. False: there is no
 * handshake to go on with, for now or at all. */
static bool begin(struct front *f)
{
    char first;
    ssize_t n = recv(f->fd, &first, 1, MSG_PEEK);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        f->readable = errno == EINTR;
        return false;
    }
    if (n <= 0) {
        f->state = FRONT_OVER;
        return false;
    }
    if (first >= 'A' && first <= 'Z') {
        refuse_plain(f);
        return false;
    }
    SSL_CTX *ctx = edge_tls_context(f->loop->edge);
    f->tls = tls_conn_new(ctx, f->fd);
    SSL_CTX_free(ctx);
    if (!f->tls)
        f->state = FRONT_OVER;
    return f->tls != NULL;
}

void front_shake_hands(struct front *f)
{
    if (!f->tls && !begin(f))
        return;
    f->loop->n_handshakes++;
    const enum tls_outcome outcome = tls_conn_handshake(f->tls);
    if (outcome == TLS_MORE) {
        f->readable = false;
        return;
    }
    front_count_handshake(f, outcome);
    if (outcome == TLS_OK) {
        f->state = FRONT_OPEN;
        f->head_deadline_us = front_in_s(edge_limits(f->loop->edge).header_timeout_s);
    } else if (outcome == TLS_CLOSED)
        f->state = FRONT_OVER;
    else
        front_linger(f); /* the alert shall arrive */
}

/* tls_conn.h - TLS on one connected socket that does not block.
 *
 * The socket is watched edge-triggered by its owner, so each call goes on until the kernel has or takes no
 * more: -EAGAIN of a read says that nothing is left inside OpenSSL either, and less than n taken by a
 * write that the socket is full. A read may have to write before it goes on (the answer to a key update),
 * and a write to read: after any event of the socket, both are to be tried again. A client that sends
 * nothing but new keys is broken after a few of them.
 *
 * OpenSSL writes without MSG_NOSIGNAL: the process ignores SIGPIPE.
 * Thread  confined to its owner's.
 * Memory  what OpenSSL needs for a record is held only while one is on its way. */
#pragma once
#include <sys/types.h>

#include "core/util/base.h"

struct ssl_ctx_st;
struct tls_conn;

/* How a handshake went, or why it failed. */
enum tls_outcome {
    TLS_OK,
    TLS_MORE,      /* it waits for the client */
    TLS_CLOSED,    /* the client left */
    TLS_TIMEOUT,   /* said by who watches the deadline */
    TLS_PLAIN,     /* the client speaks plain HTTP; said by who looked */
    TLS_VERSION,   /* no version in common */
    TLS_CIPHER,    /* no cipher, group or signature in common */
    TLS_ALPN,      /* it wants another protocol than http/1.1 */
    TLS_ALERT,     /* it refused: our certificate, most times */
    TLS_MALFORMED, /* anything else */
    N_TLS_OUTCOMES,
};

/* NULL: out of memory. The socket stays the caller's. */
struct tls_conn *tls_conn_new(struct ssl_ctx_st *ctx, int fd);
/* NULL is fine. Says goodbye first, if that can be said at once. */
void tls_conn_free(struct tls_conn *c);
/* To be called again after TLS_MORE, whenever the socket has something or takes something. */
enum tls_outcome tls_conn_handshake(struct tls_conn *c);
/* After TLS_OK. */
bool tls_conn_is_1_3(const struct tls_conn *c);
bool tls_conn_resumed(const struct tls_conn *c);
/* As recv(): -EAGAIN: nothing for now; 0: the client's end; other negative numbers: it is broken. */
ssize_t tls_conn_read(struct tls_conn *c, char *data, size_t n);
/* How much of it was taken, as one record for each 16 KiB; negative: it is broken. When it is less
 * than n, the next write begins with the rest, as it was. */
ssize_t tls_conn_write(struct tls_conn *c, const char *data, size_t n);
/* Says that nothing more will be written. False: when the socket takes more, again. */
bool tls_conn_end(struct tls_conn *c);

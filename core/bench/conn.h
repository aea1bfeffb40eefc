/* conn.h - one non-blocking connection to a target, plain or TLS.
 *
 *     conn_open(&c, target, e);
 *     until conn_ready(&c, e) is 1: wait for c.fd as conn_wants_write says
 *     conn_write, conn_read as the descriptor allows
 *
 * Thread  confined. Errors  EIO (refused, reset, TLS), with a message that says which. */
#pragma once
#include <sys/types.h>

#include "core/bench/target.h"

/* What conn_read and conn_write return when they would block. */
enum { CONN_AGAIN = -1000 };

struct conn {
    int fd; /* -1: closed */
    bool connected, ready;
    bool wants_write; /* TLS must write before it goes on, whatever was asked for */
    SSL *ssl;
    const struct target *target;
};

/* Begins to connect to target->addresses[target->address]. */
MUST_CHECK int conn_open(struct conn *c, const struct target *t, struct err *e);
void conn_close(struct conn *c);
/* Goes on with connecting: 1 ready, 0 not yet, else an error. */
MUST_CHECK int conn_ready(struct conn *c, struct err *e);
/* Whether to wait for writability (else readability) before conn_ready is called again. */
bool conn_wants_write(const struct conn *c);
/* Bytes moved; CONN_AGAIN; 0 from conn_read: the server closed; or an error. */
MUST_CHECK ssize_t conn_read(struct conn *c, void *bytes, size_t n, struct err *e);
MUST_CHECK ssize_t conn_write(struct conn *c, const void *bytes, size_t n, struct err *e);

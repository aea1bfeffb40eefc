/* proxy2.h - the binary header of the PROXY protocol, version 2, by which a load balancer says whose
 * connection it hands on.
 *
 * Strict: what is not exactly such a header is refused. Extensions (TLVs) are skipped, but must fit.
 * Pure.
 * Source  HAProxy's specification "The PROXY protocol, versions 1 & 2", section 2.2. */
#pragma once
#include <sys/socket.h>

#include "core/util/base.h"

enum {
    PROXY2_HEADER_BYTES = 16,
    PROXY2_BYTES_MAX = 1024, /* with extensions: more is refused */
};

enum proxy2_verdict {
    PROXY2_MORE,  /* a good beginning */
    PROXY2_BAD,   /* no such header */
    PROXY2_LOCAL, /* the balancer itself, as for a health check: the socket's address stands */
    PROXY2_PEER,  /* the client's address is in *out */
};

/* Reads data[0..n-1]; *out_n is the header's length when it is complete. *out is set for PROXY2_PEER
 * only. */
enum proxy2_verdict proxy2_parse(const uint8_t *data, size_t n, size_t *out_n,
                                 struct sockaddr_storage *out, socklen_t *out_n_peer);
/* How many bytes are missing behind n that are the beginning of a header (PROXY2_MORE), as far as they
 * say: who reads no more leaves what comes behind the header to others. At least 1. */
size_t proxy2_missing(const uint8_t *data, size_t n);

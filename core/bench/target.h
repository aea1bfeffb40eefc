/* target.h - the server under load: where it listens, how it is spoken to.
 *
 * Read-only once open, so that any number of connections may share it.
 * Errors  EINVAL: the URL, a header or a certificate file; ENOTFOUND: unknown host; ENOMEM. */
#pragma once
#include <openssl/ssl.h>
#include <sys/socket.h>

#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

enum { TARGET_MAX_ADDRESSES = 8 };

struct target_opts {
    const char *url;            /* "http://host:port/path", without "/v1"; borrowed */
    const char *key;            /* bearer key; NULL: none */
    const char *ca;             /* file with certificates to trust; NULL: the system's */
    bool insecure;              /* take any certificate */
    const char *const *headers; /* [n_headers] "Name: value" of the user's own */
    uint32_t n_headers;
};

struct target {
    char *host; /* without brackets */
    char *path; /* in front of "/v1/...": "" or "/prefix" */
    bool tls;
    struct sockaddr_storage addresses[TARGET_MAX_ADDRESSES];
    socklen_t lengths[TARGET_MAX_ADDRESSES];
    uint32_t n_addresses, address; /* which one answers: conn_open uses it */
    SSL_CTX *ssl;                  /* with tls */
    struct buf header;             /* lines that every request has, each with CR LF */
};

MUST_CHECK int target_open(struct target *t, const struct target_opts *o, struct err *e);
void target_close(struct target *t); /* a zeroed one is fine */
/* A whole request; body NULL: none. path begins with "/v1/" or such. */
void target_add_request(const struct target *t, const char *method, const char *path,
                        const char *body, size_t n_body, struct buf *out);

/* http.h - one HTTP request at a time, over libcurl.
 *
 * HTTP/1.1 over TCP, TLS (certificates are verified) or a UNIX socket; no redirects, no proxy from
 * the environment, no other protocols. Cancelling closes the connection, which is how a server learns
 * that its answer is not wanted any more.
 *
 * Thread  http_global_init once, before other threads exist; then any thread, a call each.
 * Errors  EINVAL bad URL, EIO no connection or a broken one, ETIMEOUT, ECANCELLED, ETOOBIG; or what
 *         on_data returned. An HTTP status is no error here. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

struct http_request {
    const char *method; /* "GET", "POST" */
    const char *url;
    const char *unix_socket; /* path of the socket to connect to instead of the URL's host; NULL */
    const char *ca_file;     /* PEM of who may have signed its certificate; NULL: the system's */
    const char *const *headers; /* [n_headers] "Name: value" */
    uint32_t n_headers;
    const void *body; /* [n_body]; NULL: none */
    size_t n_body;
    uint32_t connect_timeout_ms; /* 0: 10 s */
    uint32_t timeout_ms;         /* of the whole request; 0: none */

    /* Body bytes of a 2xx answer as they arrive; NULL: collected in the response. Not 0 ends the
     * request with that code. */
    int (*on_data)(void *ctx, const char *bytes, size_t n);
    /* Asked ten times a second and between pieces of data; NULL: never cancelled. */
    bool (*cancelled)(void *ctx);
    void *ctx;
    size_t max_body; /* of a collected body; 0: 16 MiB */
};

struct http_response {
    int status;             /* 0: no answer came */
    bool connected;         /* false: nobody listens there, or the name is unknown */
    int os_errno;           /* of a connection that could not be made or broke; 0: not known */
    uint64_t retry_after_s; /* of its header, also where that names a time; 0: none */
    struct buf body;        /* when on_data did not get it */
};

MUST_CHECK int http_global_init(struct err *e);
/* out is filled as far as things got, also on failure. */
MUST_CHECK int http_perform(const struct http_request *r, struct http_response *out, struct err *e);
void http_response_fini(struct http_response *r);

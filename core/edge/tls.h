/* tls.h - what a TLS listener speaks: certificate, key and rules, read from files and checked.
 *
 * Rules  TLS 1.2 (with forward secrecy and authenticated encryption only) and 1.3; ALPN http/1.1, and
 *        who offers others only gets alert 120; resumption by tickets whose keys change (tls_tickets.h),
 *        nothing is kept for those who left; no renegotiation, no compression, no early data.
 * A struct tls never changes: a reload makes another one, connections keep what they began with.
 * Thread  any, also several at once.
 * Memory  connections hold what they need of it themselves: its owner frees it any time. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

struct tls;
struct ssl_ctx_st; /* OpenSSL's SSL_CTX */

struct tls_files {
    const char *certificate; /* PEM: the server's own, then those that issued it */
    const char *key;         /* PEM, without a passphrase; may be the same file */
    bool only_1_3;
};

/* Reads and checks both files. warnings (may be NULL) gets one line for each thing that clients may
 * refuse, or that others may read: an expired certificate serves, because a server that does not start serves
 * nobody. Errors: param says which option is at fault; EINVAL, EPARSE, ENOTFOUND, EIO, ENOMEM. */
MUST_CHECK int tls_load(const struct tls_files *f, struct tls **out, struct buf *warnings,
                        struct err *e);
void tls_free(struct tls *t); /* NULL is fine */
/* Whether clients would see no difference. NULL is one that differs from all others. */
bool tls_same(const struct tls *a, const struct tls *b);
/* Whether the certificate is for a host of that name. */
bool tls_names(const struct tls *t, const char *name);
/* When its certificate expires, in seconds since 1970. */
int64_t tls_expires(const struct tls *t);
/* Appends "CN=llmd.example (sha256 01234567) until 2026-12-31T23:59:59Z". */
void tls_describe(const struct tls *t, struct buf *out);
/* For tls_conn_new(), with a reference: SSL_CTX_free() it. */
struct ssl_ctx_st *tls_context(const struct tls *t);

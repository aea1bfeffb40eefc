/* tls_identity.h - certificates and keys that a test makes for itself. */
#pragma once
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/edge/edge.h"
#include "core/edge/tls.h"
#include "tests/unit/edge_server.h"

struct identity {
    EVP_PKEY *key;
    X509 *certificate;
    char certificate_path[48], key_path[64]; /* of files of its own */
};

struct identity_opts {
    const char *name;
    const struct identity *issuer; /* NULL: itself */
    int from_days, to_days;        /* from now; to_days 0: a year */
    bool nameless;                 /* no subjectAltName */
    int rsa_bits;                  /* 0: an EC key, P-256 */
};

static inline void identity_extend(X509 *x, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    assert_non_null(e);
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
}

static inline void identity_write(const struct identity *id)
{
    FILE *f = fopen(id->certificate_path, "w");
    assert_true(f && PEM_write_X509(f, id->certificate) == 1);
    fclose(f);
    f = fopen(id->key_path, "w");
    assert_true(f && PEM_write_PrivateKey(f, id->key, NULL, NULL, 0, NULL, NULL) == 1);
    fclose(f);
    chmod(id->key_path, 0600);
}

static inline void identity_make(struct identity *id, const struct identity_opts *o)
{
    static int serial = 1;
    *id = (struct identity){.certificate_path = "/tmp/llmd-test-tls-XXXXXX"};
    int fd = mkstemp(id->certificate_path);
    assert_true(fd >= 0);
    close(fd);
    snprintf(id->key_path, sizeof(id->key_path), "%s.key", id->certificate_path);
    id->key = o->rsa_bits ? EVP_RSA_gen((unsigned)o->rsa_bits) : EVP_EC_gen("P-256");
    id->certificate = X509_new();
    X509 *x = id->certificate;
    const struct identity *issuer = o->issuer ? o->issuer : id;
    assert_true(id->key && x);
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), serial++);
    X509_gmtime_adj(X509_getm_notBefore(x), (long)o->from_days * 86400 - 60);
    X509_gmtime_adj(X509_getm_notAfter(x), (long)(o->to_days ? o->to_days : 365) * 86400);
    X509_set_pubkey(x, id->key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8,
                               (const unsigned char *)o->name, -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(issuer->certificate));
    if (!o->nameless)
        identity_extend(x, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
    identity_extend(x, NID_basic_constraints, "critical,CA:TRUE");
    assert_true(X509_sign(x, issuer->key, EVP_sha256()) > 0);
    identity_write(id);
}

static inline void identity_fini(struct identity *id)
{
    unlink(id->certificate_path);
    unlink(id->key_path);
    X509_free(id->certificate);
    EVP_PKEY_free(id->key);
}

static inline struct tls *identity_tls(const struct identity *id)
{
    const struct tls_files files = {.certificate = id->certificate_path, .key = id->key_path};
    struct tls *tls = NULL;
    struct err e = {0};
    if (tls_load(&files, &tls, NULL, &e) != 0)
        fail_msg("tls_load: %s", e.msg);
    return tls;
}

/* Before server_start: its listener speaks TLS. */
static inline void server_speak_tls(struct server *s, const struct identity *id)
{
    static const struct edge_listener listener = {.address = "127.0.0.1:0", .tls = true};
    signal(SIGPIPE, SIG_IGN); /* as the server does */
    s->fixture.opts.listen = &listener;
    s->fixture.opts.tls = identity_tls(id);
}

#include "core/edge/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "core/edge/tls_tickets.h"
#include "core/util/clock.h"
#include "core/util/fsio.h"

enum {
    FILE_BYTES_MAX = 1 << 20,
    CHAIN_MAX = 16,
    SOON_S = 14 * 86400, /* a certificate that ends within is told of */
    NAME_MAX_LEN = 200,
};

struct tls {
    SSL_CTX *ctx;
    bool only_1_3;
    int64_t expires;                      /* seconds since 1970 */
    uint8_t digest[SHA256_DIGEST_LENGTH]; /* of the chain as it is sent */
    char name[NAME_MAX_LEN];
};

/* What is read, until it is in a context. */
struct material {
    const struct tls_files *files;
    X509 *chain[CHAIN_MAX];
    int n_chain;
    EVP_PKEY *key;
    struct buf *warnings;
};

/* ---- reading ---- */

/* OpenSSL's word for what went wrong. */
static const char *reason(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());
    return text ? text : "unknown reason";
}

static bool at_end_of_pem(void)
{
    const unsigned long why = ERR_peek_last_error();
    return ERR_GET_LIB(why) == ERR_LIB_PEM && ERR_GET_REASON(why) == PEM_R_NO_START_LINE;
}

static int read_file(const char *path, const char *option, struct buf *b, struct err *e)
{
    struct err why = {0};
    int rc = file_read(path, FILE_BYTES_MAX, b, &why);
    return rc == 0 ? 0 : err_set_param(e, -rc, option, "%s", why.msg);
}

static int take_chain(struct material *m, BIO *in, struct err *e)
{
    const char *path = m->files->certificate;
    X509 *x;
    while ((x = PEM_read_bio_X509(in, NULL, NULL, NULL)) != NULL) {
        if (m->n_chain == CHAIN_MAX) {
            X509_free(x);
            return err_set_param(e, LLMD_EINVAL, "certificate",
                                 "%s: more than %d certificates; leave the server's own and those "
                                 "that issued it",
                                 path, CHAIN_MAX);
        }
        m->chain[m->n_chain++] = x;
    }
    if (!at_end_of_pem())
        return err_set_param(e, LLMD_EPARSE, "certificate",
                             "%s: certificate %d of the file cannot be read: %s; copy the file "
                             "again",
                             path, m->n_chain + 1, reason());
    if (m->n_chain == 0)
        return err_set_param(e, LLMD_EPARSE, "certificate",
                             "%s: holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)",
                             path);
    return 0;
}

static int read_chain(struct material *m, struct err *e)
{
    struct buf text = {0};
    int rc = read_file(m->files->certificate, "certificate", &text, e);
    if (rc != 0)
        return rc;
    BIO *in = BIO_new_mem_buf(buf_str(&text), (int)text.len);
    rc = in ? take_chain(m, in, e) : err_set(e, LLMD_ENOMEM, "out of memory for TLS");
    BIO_free(in);
    buf_fini(&text);
    return rc;
}

/* Nobody is there to ask for a passphrase. */
static int no_passphrase(char *out, int n, int seal, void *asked)
{
    (void)out, (void)n, (void)seal;
    *(bool *)asked = true;
    return -1;
}

static int take_key(struct material *m, BIO *in, struct err *e)
{
    const char *path = m->files->key;
    bool asked = false;
    m->key = PEM_read_bio_PrivateKey(in, NULL, no_passphrase, &asked);
    if (m->key)
        return 0;
    if (asked)
        return err_set_param(
            e, LLMD_EUNSUPPORTED, "key",
            "%s: is protected by a passphrase, which a server cannot type; take it "
            "off: openssl pkey -in OLD -out NEW",
            path);
    return err_set_param(e, LLMD_EPARSE, "key",
                         "%s: the key cannot be read: %s; copy the file again", path, reason());
}

static int read_key(struct material *m, struct err *e)
{
    struct buf text = {0};
    int rc = read_file(m->files->key, "key", &text, e);
    if (rc != 0)
        return rc;
    BIO *in = BIO_new_mem_buf(buf_str(&text), (int)text.len);
    if (!in)
        rc = err_set(e, LLMD_ENOMEM, "out of memory for TLS");
    else if (!strstr(buf_str(&text), "PRIVATE KEY-----"))
        rc = err_set_param(e, LLMD_EPARSE, "key",
                           "%s: holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)",
                           m->files->key);
    else
        rc = take_key(m, in, e);
    BIO_free(in);
    OPENSSL_cleanse(text.data, text.len);
    buf_fini(&text);
    return rc;
}

/* ---- checking ---- */

static int64_t seconds_of(const ASN1_TIME *t)
{
    struct tm tm;
    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

struct date {
    char s[CLOCK_UTC_SIZE];
};

/* To the second: "2026-11-21T09:00:00Z". */
static struct date date_of(int64_t seconds)
{
    struct date d;
    time_t t = (time_t)seconds;
    struct tm tm;
    if (!gmtime_r(&t, &tm) || strftime(d.s, sizeof(d.s), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        snprintf(d.s, sizeof(d.s), "?");
    return d;
}

static int check_pair(const struct material *m, struct err *e)
{
    const struct tls_files *f = m->files;
    for (int i = 0; i < m->n_chain; i++) {
        if (X509_check_private_key(m->chain[i], m->key) != 1)
            continue;
        if (i == 0)
            return 0;
        return err_set_param(
            e, LLMD_EINVAL, "certificate",
            "%s: the certificate of the key stands at place %d; put it first, behind "
            "it the one that issued it, and so on",
            f->certificate, i + 1);
    }
    return err_set_param(
        e, LLMD_EINVAL, "key",
        "%s: is not the key of the certificate in %s; name the two files that were "
        "issued together",
        f->key, f->certificate);
}

static void warn_times(const struct material *m, int64_t now)
{
    for (int i = 0; i < m->n_chain; i++) {
        const int64_t from = seconds_of(X509_get0_notBefore(m->chain[i]));
        const int64_t to = seconds_of(X509_get0_notAfter(m->chain[i]));
        char which[48] = "";
        if (i > 0)
            snprintf(which, sizeof(which), "certificate %d of the file ", i + 1);
        if (now >= to)
            buf_addf(m->warnings,
                     "option 'certificate': %s: %sexpired on %s; clients refuse it: renew it\n",
                     m->files->certificate, which, date_of(to).s);
        else if (now < from)
            buf_addf(m->warnings,
                     "option 'certificate': %s: %sis valid from %s on only; look at this host's "
                     "clock\n",
                     m->files->certificate, which, date_of(from).s);
        else if (to - now < SOON_S)
            buf_addf(m->warnings, "option 'certificate': %s: %sexpires on %s; renew it\n",
                     m->files->certificate, which, date_of(to).s);
    }
}

static void warn_chain(const struct material *m)
{
    for (int i = 0; i + 1 < m->n_chain; i++)
        if (X509_check_issued(m->chain[i + 1], m->chain[i]) != X509_V_OK) {
            buf_addf(
                m->warnings,
                "option 'certificate': %s: certificate %d of the file did not issue number %d; "
                "behind each one the one that issued it is expected\n",
                m->files->certificate, i + 2, i + 1);
            return;
        }
}

static void warn_names(const struct material *m)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(m->chain[0], NID_subject_alt_name, NULL, NULL);
    if (!names)
        buf_addf(
            m->warnings,
            "option 'certificate': %s: names no host (subjectAltName); most clients refuse it\n",
            m->files->certificate);
    GENERAL_NAMES_free(names);
}

static void warn_open_key(const struct material *m)
{
    struct stat st;
    if (stat(m->files->key, &st) == 0 && (st.st_mode & S_IROTH) != 0)
        buf_addf(m->warnings,
                 "option 'key': %s: every user of this host can read it; chmod o= it\n",
                 m->files->key);
}

static int check(const struct material *m, struct err *e)
{
    int rc = check_pair(m, e);
    if (rc != 0 || !m->warnings)
        return rc;
    warn_times(m, (int64_t)(clock_wall_us() / 1000000));
    warn_chain(m);
    warn_names(m);
    warn_open_key(m);
    return 0;
}

/* ---- the context ---- */

/* Who offers nothing that we speak gets alert 120. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *n_out,
                   const unsigned char *offered, unsigned n_offered, void *ctx)
{
    static const unsigned char ours[] = "\x08http/1.1";
    (void)ssl, (void)ctx;
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, n_out, ours, sizeof(ours) - 1, offered, n_offered) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static bool set_rules(SSL_CTX *ctx, bool only_1_3)
{
    static const unsigned char name[] = "llmd";
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                 /* requests are framed: a cut is seen without close_notify */
                                 SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(ctx, 1); /* a record in one read of the socket instead of two */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets do it */
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
    return SSL_CTX_set_min_proto_version(ctx, only_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1 &&
           SSL_CTX_set_session_id_context(ctx, name, sizeof(name) - 1) == 1 &&
           tls_tickets_attach(ctx);
}

/* The context takes references of its own. */
static bool use_material(SSL_CTX *ctx, const struct material *m)
{
    STACK_OF(X509) *issuers = sk_X509_new_null();
    bool ok = issuers != NULL;
    for (int i = 1; ok && i < m->n_chain; i++)
        ok = sk_X509_push(issuers, m->chain[i]) > 0;
    ok = ok && SSL_CTX_use_cert_and_key(ctx, m->chain[0], m->key, issuers, 1) == 1;
    sk_X509_free(issuers);
    return ok;
}

static bool set_digest(struct tls *t, const struct material *m)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1;
    for (int i = 0; ok && i < m->n_chain; i++) {
        uint8_t one[SHA256_DIGEST_LENGTH];
        unsigned n;
        ok = X509_digest(m->chain[i], EVP_sha256(), one, &n) == 1 &&
             EVP_DigestUpdate(md, one, n) == 1;
    }
    ok = ok && EVP_DigestFinal_ex(md, t->digest, NULL) == 1;
    EVP_MD_CTX_free(md);
    return ok;
}

/* RFC 2253, which escapes whatever is no plain text. */
static bool set_name(struct tls *t, X509 *x)
{
    BIO *out = BIO_new(BIO_s_mem());
    bool ok = out && X509_NAME_print_ex(out, X509_get_subject_name(x), 0,
                                        XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0;
    int n = ok ? BIO_read(out, t->name, sizeof(t->name) - 1) : 0;
    t->name[n > 0 ? n : 0] = '\0';
    BIO_free(out);
    return ok;
}

static int build(const struct material *m, struct tls **out, struct err *e)
{
    struct tls *t = calloc(1, sizeof(*t));
    if (t)
        t->ctx = SSL_CTX_new(TLS_server_method());
    if (!t || !t->ctx || !set_rules(t->ctx, m->files->only_1_3) || !set_digest(t, m) ||
        !set_name(t, m->chain[0])) {
        tls_free(t);
        return err_set(e, LLMD_ENOMEM, "out of memory for TLS");
    }
    if (!use_material(t->ctx, m)) {
        tls_free(t);
        return err_set_param(e, LLMD_EINVAL, "certificate",
                             "%s: cannot be used: %s; have one issued for an EC key (P-256) or an "
                             "RSA key of 2048 bits",
                             m->files->certificate, reason());
    }
    t->only_1_3 = m->files->only_1_3;
    t->expires = seconds_of(X509_get0_notAfter(m->chain[0]));
    *out = t;
    return 0;
}

int tls_load(const struct tls_files *f, struct tls **out, struct buf *warnings, struct err *e)
{
    struct material m = {.files = f, .warnings = warnings};
    ERR_clear_error();
    int rc = read_chain(&m, e);
    if (rc == 0)
        rc = read_key(&m, e);
    if (rc == 0)
        rc = check(&m, e);
    if (rc == 0)
        rc = build(&m, out, e);
    for (int i = 0; i < m.n_chain; i++)
        X509_free(m.chain[i]);
    EVP_PKEY_free(m.key);
    ERR_clear_error();
    return rc;
}

void tls_free(struct tls *t)
{
    if (!t)
        return;
    SSL_CTX_free(t->ctx);
    free(t);
}

bool tls_same(const struct tls *a, const struct tls *b)
{
    return a && b && a->only_1_3 == b->only_1_3 &&
           memcmp(a->digest, b->digest, sizeof(a->digest)) == 0;
}

bool tls_names(const struct tls *t, const char *name)
{
    return X509_check_host(SSL_CTX_get0_certificate(t->ctx), name, 0, 0, NULL) == 1;
}

int64_t tls_expires(const struct tls *t)
{
    return t->expires;
}

void tls_describe(const struct tls *t, struct buf *out)
{
    buf_addf(out, "%s (sha256 ", t->name[0] ? t->name : "a certificate without a name");
    for (int i = 0; i < 4; i++)
        buf_addf(out, "%02x", t->digest[i]);
    buf_addf(out, ") until %s", date_of(t->expires).s);
}

SSL_CTX *tls_context(const struct tls *t)
{
    SSL_CTX_up_ref(t->ctx);
    return t->ctx;
}

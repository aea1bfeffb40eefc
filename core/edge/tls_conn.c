#include "core/edge/tls_conn.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>

/* New keys and the like, of a client that says nothing else. Each costs 16 us, and OpenSSL goes on as long
 * as the socket has more. */
enum { MESSAGES_MAX = 32 };

struct tls_conn {
    SSL *ssl;
    uint32_t n_messages; /* of the handshake protocol, since the client's last data */
    bool flooded;        /* there were too many: nothing more is read */
    bool shaken;         /* the handshake is done */
    bool broken;         /* OpenSSL must not be asked any more */
    bool ended;          /* goodbye is said */
};

/* OpenSSL cannot be told to stop: what it has read it works through, and then finds no socket. */
static void count_message(int is_ours, int version, int type, const void *data, size_t n, SSL *ssl,
                          void *arg)
{
    (void)version, (void)data, (void)n;
    struct tls_conn *c = arg;
    c->n_messages += c->shaken && !is_ours && type == SSL3_RT_HANDSHAKE;
    if (c->n_messages <= MESSAGES_MAX || c->flooded)
        return;
    c->flooded = true;
    BIO_set_fd(SSL_get_rbio(ssl), -1, BIO_NOCLOSE);
}

struct tls_conn *tls_conn_new(SSL_CTX *ctx, int fd)
{
    struct tls_conn *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    ERR_clear_error();
    c->ssl = SSL_new(ctx);
    if (!c->ssl || SSL_set_fd(c->ssl, fd) != 1) {
        c->broken = true;
        tls_conn_free(c);
        return NULL;
    }
    SSL_set_accept_state(c->ssl);
    SSL_set_msg_callback(c->ssl, count_message);
    SSL_set_msg_callback_arg(c->ssl, c);
    return c;
}

void tls_conn_free(struct tls_conn *c)
{
    if (!c)
        return;
    if (c->shaken)
        (void)tls_conn_end(c);
    SSL_free(c->ssl);
    free(c);
}

static enum tls_outcome why_not(int rc_why)
{
    const unsigned long fault = ERR_peek_error();
    const int why = ERR_GET_REASON(fault);
    if (rc_why == SSL_ERROR_SYSCALL || rc_why == SSL_ERROR_ZERO_RETURN)
        return TLS_CLOSED;
    if (why > SSL_AD_REASON_OFFSET) /* the client's own alert */
        return TLS_ALERT;
    switch (why) {
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
        return TLS_CLOSED;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
        return TLS_VERSION;
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SHARED_GROUPS:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SUITABLE_GROUPS:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
        return TLS_CIPHER;
    case SSL_R_NO_APPLICATION_PROTOCOL:
        return TLS_ALPN;
    default:
        return TLS_MALFORMED;
    }
}

enum tls_outcome tls_conn_handshake(struct tls_conn *c)
{
    ERR_clear_error();
    const int rc = SSL_do_handshake(c->ssl);
    if (rc == 1) {
        c->shaken = true;
        return TLS_OK;
    }
    const int why = SSL_get_error(c->ssl, rc);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
        return TLS_MORE;
    c->broken = true;
    return why_not(why);
}

bool tls_conn_is_1_3(const struct tls_conn *c)
{
    return SSL_version(c->ssl) == TLS1_3_VERSION;
}

bool tls_conn_resumed(const struct tls_conn *c)
{
    return SSL_session_reused(c->ssl) == 1;
}

/* After a call that did not succeed. True: it is to be made again. */
static bool must_wait(struct tls_conn *c, int why)
{
    const bool wait = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE;
    c->broken |= !wait;
    return wait;
}

ssize_t tls_conn_read(struct tls_conn *c, char *data, size_t n)
{
    size_t got;
    if (c->broken)
        return -EPIPE;
    ERR_clear_error();
    const int rc = SSL_read_ex(c->ssl, data, n, &got);
    c->broken |= c->flooded;
    if (c->broken)
        return -EPIPE;
    if (rc == 1) {
        c->n_messages = 0;
        return (ssize_t)got;
    }
    const int why = SSL_get_error(c->ssl, 0);
    if (why == SSL_ERROR_ZERO_RETURN)
        return 0;
    return must_wait(c, why) ? -EAGAIN : -EPIPE;
}

ssize_t tls_conn_write(struct tls_conn *c, const char *data, size_t n)
{
    size_t done = 0, k;
    if (c->broken)
        return -EPIPE;
    while (done < n) {
        ERR_clear_error();
        if (SSL_write_ex(c->ssl, data + done, n - done, &k) == 1)
            done += k;
        else if (must_wait(c, SSL_get_error(c->ssl, 0)))
            break;
        else
            return -EPIPE;
    }
    return (ssize_t)done;
}

bool tls_conn_end(struct tls_conn *c)
{
    if (c->broken || c->ended)
        return true;
    ERR_clear_error();
    const int rc = SSL_shutdown(c->ssl);
    if (rc < 0 && must_wait(c, SSL_get_error(c->ssl, rc)))
        return false;
    c->ended = true;
    return true;
}

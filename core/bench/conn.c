#include "core/bench/conn.h"

#include <errno.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <unistd.h>

static int os_fault(const char *what, int number, struct err *e)
{
    return err_set(e, LLMD_EIO, "%s: %s", what, strerror(number));
}

/* Makes the TLS side of a connection: name for SNI and for the check of the certificate. */
static int start_tls(struct conn *c, struct err *e)
{
    unsigned char address[sizeof(struct in6_addr)];
    const char *host = c->target->host;
    c->ssl = SSL_new(c->target->ssl);
    bool ok = c->ssl && SSL_set_fd(c->ssl, c->fd) == 1;
    bool numeric =
        inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
    if (ok && numeric)
        ok = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(c->ssl), host) == 1;
    else if (ok)
        ok = SSL_set_tlsext_host_name(c->ssl, host) == 1 && SSL_set1_host(c->ssl, host) == 1;
    if (!ok)
        return err_set(e, LLMD_ENOMEM, "out of memory for TLS");
    SSL_set_connect_state(c->ssl);
    return 0;
}

int conn_open(struct conn *c, const struct target *t, struct err *e)
{
    const struct sockaddr_storage *address = &t->addresses[t->address];
    int on = 1;
    *c = (struct conn){
        .target = t,
        .fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (c->fd < 0)
        return os_fault("no socket", errno, e);
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(c->fd, (const struct sockaddr *)address, t->lengths[t->address]) != 0 &&
        errno != EINPROGRESS) {
        int rc = os_fault("cannot connect", errno, e);
        conn_close(c);
        return rc;
    }
    return 0;
}

void conn_close(struct conn *c)
{
    SSL_free(c->ssl);
    if (c->fd >= 0)
        close(c->fd);
    *c = (struct conn){.fd = -1, .target = c->target};
}

/* After an SSL call that returned rc <= 0: CONN_AGAIN, 0 for a close, or an error. */
static int tls_fault(struct conn *c, int rc, const char *what, struct err *e)
{
    int saved = errno;
    int why = SSL_get_error(c->ssl, rc);
    c->wants_write = why == SSL_ERROR_WANT_WRITE;
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
        return CONN_AGAIN;
    if (why == SSL_ERROR_ZERO_RETURN)
        return 0;
    long verify = SSL_get_verify_result(c->ssl);
    const char *text = ERR_reason_error_string(ERR_get_error());
    ERR_clear_error();
    if (verify != X509_V_OK && SSL_get_verify_mode(c->ssl) != SSL_VERIFY_NONE)
        return err_set(e, LLMD_EIO, "the server's certificate is refused: %s",
                       X509_verify_cert_error_string(verify));
    if (why == SSL_ERROR_SYSCALL && saved != 0)
        return os_fault(what, saved, e);
    return err_set(e, LLMD_EIO, "%s: TLS: %s", what, text ? text : "connection closed");
}

int conn_ready(struct conn *c, struct err *e)
{
    if (!c->connected) {
        int fault = 0;
        socklen_t n = sizeof(fault);
        struct sockaddr_storage peer;
        socklen_t n_peer = sizeof(peer);
        if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &fault, &n) != 0)
            fault = errno;
        if (fault != 0)
            return os_fault("cannot connect", fault, e);
        if (getpeername(c->fd, (struct sockaddr *)&peer, &n_peer) != 0)
            return 0; /* still under way */
        c->connected = true;
        if (c->target->tls) {
            int rc = start_tls(c, e);
            if (rc != 0)
                return rc;
        }
    }
    if (c->ssl && !c->ready) {
        ERR_clear_error();
        int done = SSL_connect(c->ssl);
        if (done != 1) {
            int rc = tls_fault(c, done, "no TLS connection", e);
            if (rc == CONN_AGAIN)
                return 0;
            return rc ? rc : err_set(e, LLMD_EIO, "no TLS connection: the server closed it");
        }
    }
    c->wants_write = false;
    c->ready = true;
    return 1;
}

bool conn_wants_write(const struct conn *c)
{
    return !c->connected || c->wants_write;
}

ssize_t conn_read(struct conn *c, void *bytes, size_t n, struct err *e)
{
    if (c->ssl) {
        ERR_clear_error();
        int k = SSL_read(c->ssl, bytes, (int)u64_min(n, INT32_MAX));
        return k > 0 ? k : tls_fault(c, k, "the connection broke", e);
    }
    ssize_t k = recv(c->fd, bytes, n, 0);
    if (k >= 0)
        return k;
    return errno == EAGAIN || errno == EINTR ? CONN_AGAIN
                                             : os_fault("the connection broke", errno, e);
}

ssize_t conn_write(struct conn *c, const void *bytes, size_t n, struct err *e)
{
    if (c->ssl) {
        ERR_clear_error();
        int k = SSL_write(c->ssl, bytes, (int)u64_min(n, INT32_MAX));
        if (k > 0)
            return k;
        int rc = tls_fault(c, k, "the connection broke", e);
        return rc ? rc : err_set(e, LLMD_EIO, "the connection broke: the server closed it");
    }
    ssize_t k = send(c->fd, bytes, n, MSG_NOSIGNAL);
    if (k >= 0)
        return k;
    return errno == EAGAIN || errno == EINTR ? CONN_AGAIN
                                             : os_fault("the connection broke", errno, e);
}

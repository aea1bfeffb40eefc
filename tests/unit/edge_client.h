/* edge_client.h - a raw HTTP client: what is sent and what came back are plain bytes, over TLS or not. */
#pragma once
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/util/buf.h"
#include "tests/unit/patience.h"

#define CHAT "/v1/chat/completions"
#define TEXT "/v1/completions"

struct client {
    int fd;
    SSL *ssl; /* NULL: plain */
    struct buf in;
};

/* What connections speak; NULL: plain HTTP. */
static SSL_CTX *client_tls;

/* False, and it is closed, when hands cannot be shaken. */
static inline bool client_shake_hands(struct client *c)
{
    c->ssl = SSL_new(client_tls);
    SSL_clear_mode(c->ssl, SSL_MODE_AUTO_RETRY); /* a ticket is no answer to wait for */
    SSL_set_fd(c->ssl, c->fd);
    if (SSL_connect(c->ssl) == 1)
        return true;
    SSL_free(c->ssl);
    close(c->fd);
    return false;
}

/* rcvbuf: of the socket; 0: the system's choice. */
static inline bool client_connect(struct client *c, uint16_t port, int rcvbuf)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *c = (struct client){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (rcvbuf)
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf));
    if (connect(c->fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return !client_tls || client_shake_hands(c);
    close(c->fd);
    return false;
}

static inline bool client_connect_unix(struct client *c, const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    *c = (struct client){.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (connect(c->fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return true;
    close(c->fd);
    return false;
}

/* Without a word. */
static inline void client_leave(struct client *c)
{
    SSL_free(c->ssl);
    c->ssl = NULL;
    close(c->fd);
}

static inline void client_close(struct client *c)
{
    client_leave(c);
    buf_fini(&c->in);
}

/* Nobody listens there any more. */
static inline bool client_is_refused(uint16_t port)
{
    struct client c;
    if (!client_connect(&c, port, 0))
        return true;
    client_close(&c);
    return false;
}

/* As send(). */
static inline ssize_t client_put(struct client *c, const char *data, size_t n)
{
    size_t k;
    if (!c->ssl)
        return send(c->fd, data, n, MSG_NOSIGNAL);
    return SSL_write_ex(c->ssl, data, n, &k) == 1 ? (ssize_t)k : -1;
}

/* As recv(), but that a TLS connection may have nothing to give though it was readable: then -1 and
 * EAGAIN. */
static inline ssize_t client_take(struct client *c, char *data, size_t n)
{
    size_t k;
    if (!c->ssl)
        return recv(c->fd, data, n, 0);
    if (SSL_read_ex(c->ssl, data, n, &k) == 1)
        return (ssize_t)k;
    const int why = SSL_get_error(c->ssl, 0);
    errno = why == SSL_ERROR_WANT_READ ? EAGAIN : EPIPE;
    return why == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

/* As recv(). */
static inline ssize_t client_get(struct client *c, char *data, size_t n)
{
    ssize_t k;
    do
        k = client_take(c, data, n);
    while (k < 0 && errno == EAGAIN);
    return k;
}

/* Sends as much as is taken at once: true when that is all. Nothing else is sent afterwards. */
static inline bool client_try_send(struct client *c, const char *data, size_t n)
{
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    const bool all = client_put(c, data, n) == (ssize_t)n;
    fcntl(c->fd, F_SETFL, 0);
    return all;
}

static inline void client_send(struct client *c, const char *data, size_t n)
{
    while (n > 0) {
        ssize_t k = client_put(c, data, n);
        if (k <= 0)
            return; /* the server may close early; what it said is still to be read */
        data += k;
        n -= (size_t)k;
    }
}

static inline void client_send_str(struct client *c, const char *s)
{
    client_send(c, s, strlen(s));
}

/* Reads once; false at the end of the connection or after ms of silence. */
static inline bool client_read(struct client *c, int ms)
{
    char data[65536];
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    ssize_t n;
    do {
        if (!(c->ssl && SSL_has_pending(c->ssl)) && poll(&p, 1, ms) <= 0)
            return false;
        n = client_take(c, data, sizeof(data));
    } while (n < 0 && errno == EAGAIN);
    if (n <= 0)
        return false;
    buf_add(&c->in, data, (size_t)n);
    return true;
}

static inline uint32_t client_count(const struct client *c, const char *text)
{
    uint32_t n = 0;
    for (const char *at = buf_str(&c->in); (at = strstr(at, text)) != NULL; at += strlen(text))
        n++;
    return n;
}

/* Reads until `text` came n times; fails the test when it does not. */
static inline void client_until(struct client *c, const char *text, uint32_t n)
{
    while (client_count(c, text) < n)
        if (!client_read(c, PATIENCE_MS))
            fail_msg("waited for %u times '%s', got:\n%s", n, text, buf_str(&c->in));
}

/* Reads to the end; false when the server does not close. */
static inline bool client_until_closed(struct client *c)
{
    char byte;
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    while (client_read(c, PATIENCE_MS))
        ;
    if (c->ssl) /* goodbye was said: the end of the socket follows */
        (void)poll(&p, 1, PATIENCE_MS);
    return recv(c->fd, &byte, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET;
}

static inline void client_post(struct client *c, const char *path, const char *headers,
                               const char *body)
{
    struct buf b = {0};
    buf_addf(&b,
             "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
             "Content-Length: %zu\r\n%s\r\n%s",
             path, strlen(body), headers, body);
    client_send(c, b.data, b.len);
    buf_fini(&b);
}

/* One request on a connection of its own, to the server's close; the caller frees the answer. */
static inline char *ask(uint16_t port, const char *request)
{
    struct client c;
    assert_true(client_connect(&c, port, 0));
    client_send_str(&c, request);
    while (client_read(&c, PATIENCE_MS))
        ;
    client_leave(&c);
    char *answer = buf_steal(&c.in, NULL);
    return answer;
}

static inline char *post(uint16_t port, const char *path, const char *headers, const char *body)
{
    struct client c;
    char all[512];
    assert_true(client_connect(&c, port, 0));
    snprintf(all, sizeof(all), "Connection: close\r\n%s", headers);
    client_post(&c, path, all, body);
    while (client_read(&c, PATIENCE_MS))
        ;
    client_leave(&c);
    return buf_steal(&c.in, NULL);
}

static inline int status_of(const char *answer)
{
    return strncmp(answer, "HTTP/1.1 ", 9) == 0 ? (int)strtol(answer + 9, NULL, 10) : -1;
}

static inline const char *body_of(const char *answer)
{
    const char *at = strstr(answer, "\r\n\r\n");
    return at ? at + 4 : "";
}

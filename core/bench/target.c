#include "core/bench/target.h"

#include <netdb.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Parts of "http://user@host:port/path"; a user is not allowed. */
struct url {
    bool tls;
    char *host, *port, *path;
    bool bracketed; /* [::1] */
};

static void url_fini(struct url *u)
{
    free(u->host);
    free(u->port);
    free(u->path);
}

static bool url_chars_ok(const char *s)
{
    for (; *s; s++)
        if (*s <= ' ' || *s >= 0x7f || *s == '?' || *s == '#' || *s == '@')
            return false;
    return true;
}

static int url_parse(struct url *u, const char *text, struct err *e)
{
    static const char plain[] = "http://", secure[] = "https://";
    const char *at = text;
    if (strncmp(text, plain, strlen(plain)) == 0)
        at += strlen(plain);
    else if (strncmp(text, secure, strlen(secure)) == 0) {
        at += strlen(secure);
        u->tls = true;
    } else
        return err_set(e, LLMD_EINVAL, "'%s' does not begin with http:// or https://", text);
    if (!url_chars_ok(at))
        return err_set(e, LLMD_EINVAL, "'%s' holds a character that has no place there", text);
    size_t n_host = strcspn(at, ":/");
    u->bracketed = at[0] == '[';
    if (u->bracketed) {
        at++;
        n_host = strcspn(at, "]");
    }
    const char *rest = at + n_host + (u->bracketed && at[n_host] == ']');
    size_t n_port = 0;
    const char *port = u->tls ? "443" : "80";
    u->host = strndup(at, n_host);
    if (rest[0] == ':') {
        port = rest + 1;
        n_port = strcspn(port, "/");
        rest = port + n_port;
    }
    u->port = n_port ? strndup(port, n_port) : strdup(port);
    size_t n_path = strlen(rest);
    while (n_path > 0 && rest[n_path - 1] == '/')
        n_path--;
    u->path = strndup(rest, n_path);
    if (!u->host || !u->port || !u->path)
        return err_set(e, LLMD_ENOMEM, "out of memory");
    char *end;
    unsigned long number = strtoul(u->port, &end, 10);
    if (n_host == 0 || (rest[0] && rest[0] != '/') || *end || number < 1 || number > 65535)
        return err_set(e, LLMD_EINVAL, "'%s' is no URL like http://127.0.0.1:8080", text);
    return 0;
}

static int resolve(struct target *t, const struct url *u, struct err *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *list = NULL;
    int rc = getaddrinfo(u->host, u->port, &hints, &list);
    if (rc == EAI_NONAME ||
        rc == EAI_ADDRFAMILY) { /* loopback alone does not count as configured */
        hints.ai_flags = 0;
        rc = getaddrinfo(u->host, u->port, &hints, &list);
    }
    if (rc != 0)
        return err_set(e, LLMD_ENOTFOUND, "the host '%s' is not known: %s", u->host,
                       gai_strerror(rc));
    for (struct addrinfo *a = list; a && t->n_addresses < TARGET_MAX_ADDRESSES; a = a->ai_next) {
        if (a->ai_addrlen > sizeof(t->addresses[0]))
            continue;
        memcpy(&t->addresses[t->n_addresses], a->ai_addr, a->ai_addrlen);
        t->lengths[t->n_addresses++] = a->ai_addrlen;
    }
    freeaddrinfo(list);
    return 0;
}

static int open_tls(struct target *t, const struct target_opts *o, struct err *e)
{
    t->ssl = SSL_CTX_new(TLS_client_method());
    if (!t->ssl)
        return err_set(e, LLMD_ENOMEM, "out of memory for TLS");
    (void)SSL_CTX_set_mode(t->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                       SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                       SSL_MODE_RELEASE_BUFFERS);
    (void)SSL_CTX_set_options(t->ssl, SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_verify(t->ssl, o->insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    if (o->ca && SSL_CTX_load_verify_file(t->ssl, o->ca) != 1) {
        unsigned long code = ERR_get_error();
        ERR_clear_error();
        const char *why = ERR_reason_error_string(code);
        return err_set(e, LLMD_EINVAL, "%s: no certificates can be read from it (%s)", o->ca,
                       why ? why : "unreadable");
    }
    if (!o->ca && SSL_CTX_set_default_verify_paths(t->ssl) != 1)
        return err_set(e, LLMD_EINTERNAL, "the system's certificates cannot be read");
    return 0;
}

static int check_header(const char *line, struct err *e)
{
    size_t n = strcspn(line, ":");
    bool ok = n > 0 && line[n] == ':';
    for (size_t i = 0; i < n; i++)
        ok = ok && line[i] > ' ' && line[i] < 0x7f;
    for (const char *p = line; *p; p++)
        ok = ok && (unsigned char)*p >= ' ' && *p != 0x7f;
    return ok ? 0 : err_set(e, LLMD_EINVAL, "'%s' is no header; write 'Name: value'", line);
}

static int build_header(struct target *t, const struct url *u, const struct target_opts *o,
                        struct err *e)
{
    struct buf *b = &t->header;
    const char *plain_port = u->tls ? "443" : "80";
    buf_addf(b, u->bracketed ? "Host: [%s]" : "Host: %s", u->host);
    if (strcmp(u->port, plain_port) != 0)
        buf_addf(b, ":%s", u->port);
    buf_addstr(b, "\r\nUser-Agent: llmd-bench/" LLMD_VERSION "\r\nAccept: */*\r\n");
    if (o->key)
        buf_addf(b, "Authorization: Bearer %s\r\n", o->key);
    for (uint32_t i = 0; i < o->n_headers; i++) {
        int rc = check_header(o->headers[i], e);
        if (rc != 0)
            return rc;
        buf_addf(b, "%s\r\n", o->headers[i]);
    }
    return b->failed ? err_set(e, LLMD_ENOMEM, "out of memory") : 0;
}

int target_open(struct target *t, const struct target_opts *o, struct err *e)
{
    struct url u = {0};
    *t = (struct target){0};
    int rc = url_parse(&u, o->url, e);
    if (rc == 0)
        rc = build_header(t, &u, o, e);
    if (rc == 0)
        rc = resolve(t, &u, e);
    if (rc == 0) {
        t->tls = u.tls;
        t->host = u.host;
        t->path = u.path;
        u.host = u.path = NULL;
        rc = t->tls ? open_tls(t, o, e) : 0;
    }
    url_fini(&u);
    if (rc != 0)
        target_close(t);
    return rc;
}

void target_close(struct target *t)
{
    SSL_CTX_free(t->ssl);
    free(t->host);
    free(t->path);
    buf_fini(&t->header);
    *t = (struct target){0};
}

void target_add_request(const struct target *t, const char *method, const char *path,
                        const char *body, size_t n_body, struct buf *out)
{
    buf_addf(out, "%s %s%s HTTP/1.1\r\n", method, t->path, path);
    buf_add(out, t->header.data, t->header.len);
    if (body)
        buf_addf(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", n_body);
    buf_addstr(out, "\r\n");
    buf_add(out, body ? body : "", n_body);
}

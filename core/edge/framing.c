#include "core/edge/framing.h"

#include <string.h>
#include <strings.h>

/* RFC 9110 section 5.6.2: the bytes of a field name. */
static bool is_token(const char *s)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "!#$%&'*+-.^_`|~";
    return *s && s[strspn(s, letters)] == '\0';
}

/* Length of s without blanks at its end. */
static size_t trimmed(const char *s)
{
    size_t n = strlen(s);
    while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\t'))
        n--;
    return n;
}

static bool parse_length(const char *s, uint64_t *out)
{
    size_t n = trimmed(s);
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9' || __builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(s[i] - '0'), &v))
            return false;
    }
    *out = v;
    return n > 0;
}

static bool all_of(const char *s, size_t n, const char *letters)
{
    for (size_t i = 0; i < n; i++)
        if (!s[i] || !strchr(letters, s[i]))
            return false;
    return true;
}

/* RFC 3986: a registered name, an IPv4 address or an IP literal in brackets; then perhaps a port.
 * Nothing at all is allowed: so asks a client that has no name for us. */
static bool is_host(const char *s)
{
    static const char name[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                               "-._~%!$&'()*+,;=";
    static const char literal[] = "0123456789abcdefABCDEF:.";
    size_t n = trimmed(s), n_host = 0;
    if (*s == '[') {
        const char *end = memchr(s, ']', n);
        if (!end || end == s + 1 || !all_of(s + 1, (size_t)(end - s) - 1, literal))
            return false;
        n_host = (size_t)(end - s) + 1;
    } else {
        const char *colon = memchr(s, ':', n);
        n_host = colon ? (size_t)(colon - s) : n;
        if (!all_of(s, n_host, name))
            return false;
    }
    if (n_host == n)
        return true;
    return s[n_host] == ':' && n - n_host <= sizeof("65535") &&
           all_of(s + n_host + 1, n - n_host - 1, "0123456789");
}

void framing_header(struct framing *f, const char *name, const char *value)
{
    if (!is_token(name))
        f->bad_name = true;
    if (!value)
        value = "";
    if (strcasecmp(name, "content-length") == 0) {
        f->n_lengths++;
        if (!parse_length(value, &f->length))
            f->bad_length = true;
    } else if (strcasecmp(name, "transfer-encoding") == 0) {
        f->n_encodings++;
        if (trimmed(value) != strlen("chunked") || strncasecmp(value, "chunked", 7) != 0)
            f->bad_encoding = true;
    } else if (strcasecmp(name, "host") == 0) {
        f->n_hosts++;
        if (!is_host(value))
            f->bad_host = true;
    } else if (strcasecmp(name, "authorization") == 0)
        f->n_authorizations++;
    else if (strcasecmp(name, "expect") == 0)
        f->expects = true;
}

const char *framing_fault(const struct framing *f, const char *version)
{
    if (f->bad_name)
        return "a header field name holds a blank or another byte that is not allowed";
    if (f->n_lengths > 1 || f->bad_length)
        return "Content-Length must be given once, as a plain number";
    if (f->n_encodings > 1 || f->bad_encoding)
        return "Transfer-Encoding must be given once, as chunked";
    if (f->n_encodings > 0 && f->n_lengths > 0)
        return "Content-Length and Transfer-Encoding must not be given together";
    if (f->n_encodings > 0 && strcmp(version, "HTTP/1.1") != 0)
        return "Transfer-Encoding needs HTTP/1.1";
    if (f->n_hosts > 1 || f->bad_host)
        return "Host must be given once, as a host name or address and perhaps a port";
    if (f->n_hosts == 0 && strcmp(version, "HTTP/1.1") == 0)
        return "HTTP/1.1 needs a Host header";
    if (f->n_authorizations > 1)
        return "Authorization must be given once";
    return NULL;
}

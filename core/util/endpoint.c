#include "core/util/endpoint.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static const char unix_prefix[] = "unix:";

static int bad(const char *text, const char *why, struct err *e)
{
    return err_set(e, LLMD_EINVAL,
                   "'%s' %s; write \"127.0.0.1:8080\", \"[::1]:8080\", \"*:8080\" or "
                   "\"unix:/run/llmd/http.sock\"",
                   text, why);
}

/* Moves *text behind the prefix when it stands there. */
static bool skip(const char **text, const char *prefix)
{
    const size_t n = strlen(prefix);
    if (strncmp(*text, prefix, n) != 0)
        return false;
    *text += n;
    return true;
}

static bool parse_port(const char *s, uint16_t *out)
{
    const size_t n = strspn(s, "0123456789");
    if (n == 0 || n > 5 || s[n] != '\0')
        return false;
    const unsigned long port = strtoul(s, NULL, 10);
    *out = (uint16_t)port;
    return port <= UINT16_MAX;
}

static void set_ip4(struct endpoint *p, struct in_addr address, uint16_t port)
{
    struct sockaddr_in *a = (struct sockaddr_in *)&p->ip;
    *a = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = address};
    p->n_ip = sizeof(*a);
}

static void set_ip6(struct endpoint *p, struct in6_addr address, uint16_t port)
{
    struct sockaddr_in6 *a = (struct sockaddr_in6 *)&p->ip;
    *a = (struct sockaddr_in6){
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = address};
    p->n_ip = sizeof(*a);
}

/* ADDRESS:PORT, [ADDRESS]:PORT or *:PORT. */
static bool parse_ip(const char *s, struct endpoint *p)
{
    char host[INET6_ADDRSTRLEN];
    struct in_addr four;
    struct in6_addr six;
    uint16_t port;
    const bool bracket = s[0] == '[';
    const char *from = s + (bracket ? 1 : 0), *end = strchr(from, bracket ? ']' : ':');
    if (!end || (size_t)(end - from) >= sizeof(host))
        return false;
    memcpy(host, from, (size_t)(end - from));
    host[end - from] = '\0';
    if (bracket)
        end++;
    if (*end != ':' || !parse_port(end + 1, &port))
        return false;
    p->both = !bracket && strcmp(host, "*") == 0;
    if (p->both)
        set_ip6(p, in6addr_any, port);
    else if (bracket && inet_pton(AF_INET6, host, &six) == 1)
        set_ip6(p, six, port);
    else if (!bracket && inet_pton(AF_INET, host, &four) == 1)
        set_ip4(p, four, port);
    else
        return false;
    return true;
}

int endpoint_parse(const char *text, struct endpoint *out, struct err *e)
{
    const char *rest = text;
    struct endpoint p = {.scheme = ENDPOINT_BARE};
    if (skip(&rest, unix_prefix)) {
        if (*rest == '\0')
            return bad(text, "names no file", e);
        p.path = rest;
    } else {
        if (skip(&rest, "http://"))
            p.scheme = ENDPOINT_HTTP;
        else if (skip(&rest, "https://"))
            p.scheme = ENDPOINT_HTTPS;
        if (!parse_ip(rest, &p))
            return bad(text, "is no numeric address with a port", e);
    }
    *out = p;
    return 0;
}

static uint16_t port_of(const struct sockaddr_storage *a)
{
    return ntohs(a->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)a)->sin6_port
                                          : ((const struct sockaddr_in *)a)->sin_port);
}

uint16_t endpoint_port(const struct endpoint *p)
{
    return p->path ? 0 : port_of(&p->ip);
}

static const struct in6_addr *ip6(const struct sockaddr_storage *a)
{
    return &((const struct sockaddr_in6 *)a)->sin6_addr;
}

static uint32_t ip4(const struct sockaddr_storage *a)
{
    return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr);
}

bool endpoint_is_local(const struct endpoint *p)
{
    if (p->path)
        return true;
    return p->ip.ss_family == AF_INET ? ip4(&p->ip) >> 24 == IN_LOOPBACKNET
                                      : IN6_IS_ADDR_LOOPBACK(ip6(&p->ip));
}

static bool same_ip(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    if (a->ss_family != b->ss_family)
        return false;
    return a->ss_family == AF_INET ? ip4(a) == ip4(b) : IN6_ARE_ADDR_EQUAL(ip6(a), ip6(b));
}

static bool is_every(const struct sockaddr_storage *a)
{
    return a->ss_family == AF_INET ? ip4(a) == INADDR_ANY : IN6_IS_ADDR_UNSPECIFIED(ip6(a));
}

bool endpoint_same(const struct endpoint *a, const struct endpoint *b)
{
    if (a->path || b->path)
        return a->path && b->path && strcmp(a->path, b->path) == 0;
    if (endpoint_port(a) == 0 || endpoint_port(a) != endpoint_port(b))
        return false;
    if (a->both || b->both)
        return is_every(&a->ip) && is_every(&b->ip);
    return same_ip(&a->ip, &b->ip);
}

/* The path of a UNIX socket's name; "" when it has none. */
static const char *path_of(const struct sockaddr_storage *name, socklen_t n)
{
    const struct sockaddr_un *a = (const struct sockaddr_un *)name;
    return n > offsetof(struct sockaddr_un, sun_path) &&
                   memchr(a->sun_path, '\0', n - offsetof(struct sockaddr_un, sun_path))
               ? a->sun_path
               : "";
}

bool endpoint_matches(const struct endpoint *p, const struct sockaddr_storage *name, socklen_t n)
{
    if (p->path)
        return name->ss_family == AF_UNIX && strcmp(p->path, path_of(name, n)) == 0;
    return endpoint_port(p) == port_of(name) && same_ip(&p->ip, name);
}

void endpoint_write(const struct sockaddr_storage *name, socklen_t n, char *out, size_t n_out)
{
    char host[INET6_ADDRSTRLEN] = "";
    out[0] = '\0';
    if (name->ss_family == AF_UNIX && path_of(name, n)[0])
        snprintf(out, n_out, "%s%s", unix_prefix, path_of(name, n));
    else if (name->ss_family == AF_INET &&
             inet_ntop(AF_INET, &((const struct sockaddr_in *)name)->sin_addr, host, sizeof(host)))
        snprintf(out, n_out, "%s:%u", host, port_of(name));
    else if (name->ss_family == AF_INET6 && inet_ntop(AF_INET6, ip6(name), host, sizeof(host)))
        snprintf(out, n_out, "[%s]:%u", host, port_of(name));
}

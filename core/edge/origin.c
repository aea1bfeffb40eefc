#include "core/edge/origin.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "core/util/cidr.h"

bool host_name(const char *host, char out[HOST_NAME_BYTES])
{
    if (!host)
        return false;
    const bool v6 = host[0] == '[';
    const char *begin = host + v6;
    const size_t n = strcspn(begin, v6 ? "]" : ":");
    if (n == 0 || n >= HOST_NAME_BYTES || (v6 && begin[n] != ']'))
        return false;
    memcpy(out, begin, n);
    out[n] = '\0';
    return true;
}

bool host_is_address(const char *name)
{
    struct in6_addr a;
    return inet_pton(AF_INET, name, &a) == 1 || inet_pton(AF_INET6, name, &a) == 1;
}

bool host_is_loopback(const char *name)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, name, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
    if (inet_pton(AF_INET6, name, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6);
    return strcasecmp(name, "localhost") == 0;
}

bool origin_is_https(const char *origin)
{
    return origin && strncasecmp(origin, "https://", 8) == 0;
}

bool origin_is_host(const char *origin, const char *host, bool tls)
{
    if (!origin || !host)
        return false;
    if (origin_is_https(origin))
        return strcasecmp(origin + 8, host) == 0;
    return !tls && strncasecmp(origin, "http://", 7) == 0 && strcasecmp(origin + 7, host) == 0;
}

bool address_is_loopback(const struct sockaddr_storage *a)
{
    static const struct cidr v4 = {.address = {[10] = 0xff, 0xff, 127}, .n_bits = 104};
    static const struct cidr v6 = {.address = {[15] = 1}, .n_bits = 128};
    uint8_t bytes[16];
    return cidr_address(a, bytes) && (cidr_holds(&v4, bytes) || cidr_holds(&v6, bytes));
}

#include "core/edge/proxy2.h"

#include <netinet/in.h>
#include <string.h>

/*   0..11  signature      12  version (high), command (low)   13  family (high), transport (low)
 *   14..15 length of the rest, big-endian
 *   IPv4: source 4, destination 4, ports 2 + 2;  IPv6: 16, 16, 2 + 2;  then extensions */
static const uint8_t signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                      0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

enum { VERSION_LOCAL = 0x20, VERSION_PROXY = 0x21, TCP4 = 0x11, TCP6 = 0x21 };
enum { BYTES4 = 12, BYTES6 = 36, EXTENSION_HEAD = 3 };

static size_t u16_at(const uint8_t *p)
{
    return (size_t)p[0] << 8 | p[1];
}

static bool extensions_fit(const uint8_t *p, size_t n)
{
    while (n > 0) {
        if (n < EXTENSION_HEAD || u16_at(p + 1) > n - EXTENSION_HEAD)
            return false;
        const size_t all = EXTENSION_HEAD + u16_at(p + 1);
        p += all;
        n -= all;
    }
    return true;
}

static void take4(const uint8_t *p, struct sockaddr_storage *out, socklen_t *out_n_peer)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    memcpy(&a.sin_addr, p, 4);
    memcpy(&a.sin_port, p + 8, 2);
    memcpy(out, &a, sizeof(a));
    *out_n_peer = sizeof(a);
}

static void take6(const uint8_t *p, struct sockaddr_storage *out, socklen_t *out_n_peer)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6};
    memcpy(&a.sin6_addr, p, 16);
    memcpy(&a.sin6_port, p + 32, 2);
    memcpy(out, &a, sizeof(a));
    *out_n_peer = sizeof(a);
}

size_t proxy2_missing(const uint8_t *data, size_t n)
{
    return PROXY2_HEADER_BYTES + (n < PROXY2_HEADER_BYTES ? 0 : u16_at(data + 14)) - n;
}

enum proxy2_verdict proxy2_parse(const uint8_t *data, size_t n, size_t *out_n,
                                 struct sockaddr_storage *out, socklen_t *out_n_peer)
{
    const size_t known = (size_t)u64_min(n, sizeof(signature));
    if (memcmp(data, signature, known) != 0)
        return PROXY2_BAD;
    if (n > 12 && data[12] != VERSION_LOCAL && data[12] != VERSION_PROXY)
        return PROXY2_BAD;
    if (n < PROXY2_HEADER_BYTES)
        return PROXY2_MORE;
    const size_t rest = u16_at(data + 14);
    if (PROXY2_HEADER_BYTES + rest > PROXY2_BYTES_MAX)
        return PROXY2_BAD;
    if (n < PROXY2_HEADER_BYTES + rest)
        return PROXY2_MORE;
    const uint8_t *p = data + PROXY2_HEADER_BYTES;
    *out_n = PROXY2_HEADER_BYTES + rest;
    if (data[12] == VERSION_LOCAL)
        return PROXY2_LOCAL;
    const size_t addresses = data[13] == TCP4 ? BYTES4 : data[13] == TCP6 ? BYTES6 : SIZE_MAX;
    if (rest < addresses || !extensions_fit(p + addresses, rest - addresses))
        return PROXY2_BAD;
    if (data[13] == TCP4)
        take4(p, out, out_n_peer);
    else
        take6(p, out, out_n_peer);
    return PROXY2_PEER;
}

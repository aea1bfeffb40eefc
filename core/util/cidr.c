#include "core/util/cidr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

enum { TEXT_BYTES = INET6_ADDRSTRLEN, MAPPED_BITS = 96 };

static int bad(const char *text, const char *why, struct err *e)
{
    return err_set(e, LLMD_EINVAL,
                   "\"%s\" %s; write addresses as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32", text,
                   why);
}

/* Whether all bits behind the first n are zero. */
static bool is_network(const struct cidr *c)
{
    for (unsigned i = c->n_bits; i < 128; i++)
        if (c->address[i / 8] & 0x80 >> i % 8)
            return false;
    return true;
}

/* Decimal digits without a sign, at most three. */
static bool parse_bits(const char *s, unsigned max, unsigned *out)
{
    const size_t n = strlen(s);
    if (n == 0 || n > 3 || strspn(s, "0123456789") != n)
        return false;
    *out = (unsigned)strtoul(s, NULL, 10);
    return *out <= max;
}

int cidr_parse(const char *text, struct cidr *out, struct err *e)
{
    char host[TEXT_BYTES];
    struct cidr c = {.n_bits = 128};
    const char *slash = strchr(text, '/');
    const size_t n = slash ? (size_t)(slash - text) : strlen(text);
    unsigned max = 128, bits;
    if (n == 0 || n >= sizeof(host))
        return bad(text, "is no address", e);
    memcpy(host, text, n);
    host[n] = '\0';
    if (inet_pton(AF_INET, host, c.address + sizeof(mapped)) == 1) {
        memcpy(c.address, mapped, sizeof(mapped));
        max = 32;
    } else if (inet_pton(AF_INET6, host, c.address) != 1)
        return bad(text, "is no address", e);
    bits = max;
    if (slash && !parse_bits(slash + 1, max, &bits))
        return bad(text, "has no such number of bits", e);
    c.n_bits = (uint8_t)(max == 32 ? bits + MAPPED_BITS : bits);
    if (!is_network(&c))
        return bad(text, "has bits set behind its mask", e);
    *out = c;
    return 0;
}

bool cidr_address(const struct sockaddr_storage *a, uint8_t out[16])
{
    if (a->ss_family == AF_INET) {
        memcpy(out, mapped, sizeof(mapped));
        memcpy(out + sizeof(mapped), &((const struct sockaddr_in *)a)->sin_addr, 4);
        return true;
    }
    if (a->ss_family != AF_INET6)
        return false;
    memcpy(out, &((const struct sockaddr_in6 *)a)->sin6_addr, 16);
    return true;
}

bool cidr_holds(const struct cidr *c, const uint8_t address[16])
{
    const unsigned whole = c->n_bits / 8, rest = c->n_bits % 8;
    if (memcmp(c->address, address, whole) != 0)
        return false;
    return rest == 0 || ((c->address[whole] ^ address[whole]) >> (8 - rest)) == 0;
}

bool cidr_any_holds(const struct cidr *c, uint32_t n, const uint8_t address[16])
{
    for (uint32_t i = 0; i < n; i++)
        if (cidr_holds(&c[i], address))
            return true;
    return false;
}

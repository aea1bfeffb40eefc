/* cidr.h - blocks of addresses, "10.0.0.0/8" or "2001:db8::/32", and whether an address lies in one.
 *
 * IPv4 addresses are kept as IPv6 ones (::ffff:a.b.c.d): a client that comes by way of a dual-stack
 * socket is the same client. "::/0" is therefore everybody, and "0.0.0.0/0" everybody by IPv4.
 * Pure functions. */
#pragma once
#include <sys/socket.h>

#include "core/util/base.h"
#include "core/util/err.h"

struct cidr {
    uint8_t address[16];
    uint8_t n_bits; /* of address that count, 0..128 */
};

/* ADDRESS or ADDRESS/BITS; bits behind the mask must be zero. Errors: EINVAL. */
MUST_CHECK int cidr_parse(const char *text, struct cidr *out, struct err *e);
/* The address of a socket as 16 bytes; false when it is none of IP. */
bool cidr_address(const struct sockaddr_storage *a, uint8_t out[16]);
bool cidr_holds(const struct cidr *c, const uint8_t address[16]);
bool cidr_any_holds(const struct cidr *c, uint32_t n, const uint8_t address[16]);

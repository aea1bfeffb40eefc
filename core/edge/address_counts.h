/* address_counts.h - how many connections each client's address has open.
 *
 * An IPv4 address counts as a whole, of an IPv6 address the first 64 bits: a host may choose the rest.
 * IPv4 addresses in IPv6 (::ffff:a.b.c.d) are IPv4 addresses. Who comes through a UNIX socket has none.
 *
 * A hash table with open addressing, at most half full. An address with no connection has no entry:
 * there are never more entries than connections, which bounds it. The seed keeps clients from choosing
 * addresses that meet in one place.
 *
 * Thread  one at a time; the caller's lock. */
#pragma once
#include <sys/socket.h>

#include "core/util/base.h"
#include "core/util/err.h"

struct address_block {
    uint8_t bits[16]; /* those that do not count are zero */
};

struct address_count {
    struct address_block block;
    uint32_t n; /* 0: a free place */
};

struct address_counts {
    struct address_count *all; /* [n_places], a power of two; NULL: none yet */
    uint32_t n_places, n_used;
    uint64_t seed;
};

/* False when there is no IP address. */
bool address_block_of(const struct sockaddr_storage *a, struct address_block *out);

/* For a zeroed one with a seed. Counts one more; max 0: any number. Errors: EFULL: there are max
 * already; ENOMEM. Then nothing is counted. */
MUST_CHECK int address_counts_add(struct address_counts *c, const struct address_block *b,
                                  uint32_t max);
/* One less of what was added. */
void address_counts_drop(struct address_counts *c, const struct address_block *b);
uint32_t address_counts_of(const struct address_counts *c, const struct address_block *b);
void address_counts_fini(struct address_counts *c);

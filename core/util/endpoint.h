/* endpoint.h - an address to listen on, as a configuration writes it.
 *
 *   127.0.0.1:8080   [::1]:8080   one address
 *   0.0.0.0:8080     [::]:8080    every address of IPv4; every address of IPv6, and of that alone
 *   *:8080                        every address of both, by one socket
 *   unix:/run/llmd/http.sock      a file
 *
 * http:// or https:// may stand in front of an IP address. Port 0: any free one. Names of hosts are no
 * addresses: what they mean can change.
 * Pure functions. */
#pragma once
#include <sys/socket.h>

#include "core/util/base.h"
#include "core/util/err.h"

enum endpoint_scheme { ENDPOINT_BARE, ENDPOINT_HTTP, ENDPOINT_HTTPS };

struct endpoint {
    enum endpoint_scheme scheme;
    const char *path;           /* of a file, in the parsed text; NULL: an IP address: */
    struct sockaddr_storage ip; /* of "*" the IPv6 one */
    socklen_t n_ip;
    bool both; /* written "*": IPv6 and IPv4 */
};

/* Borrows text. Errors: EINVAL, with the forms that there are. */
MUST_CHECK int endpoint_parse(const char *text, struct endpoint *out, struct err *e);
/* 0 of a file. */
uint16_t endpoint_port(const struct endpoint *p);
/* Only programs of this host can connect. */
bool endpoint_is_local(const struct endpoint *p);
/* Both cannot be listened on at once: the same file, or the same port other than 0 of addresses that
 * are equal or of which one is "*" and the other every address of a family. */
bool endpoint_same(const struct endpoint *a, const struct endpoint *b);
/* Whether a socket with that name (getsockname) listens there. A file's path is compared as it is
 * written; [::] and * are one, for the socket knows whether it takes IPv4. */
bool endpoint_matches(const struct endpoint *p, const struct sockaddr_storage *name, socklen_t n);
/* A socket's name as endpoint_parse reads it; "" when it has none of those forms. */
void endpoint_write(const struct sockaddr_storage *name, socklen_t n, char *out, size_t n_out);

/* origin.h - what a browser says of where it is: the Host that it asked for, and the Origin of the page
 * that asked. Of a page that another site had a browser load, both name that site (a name that was made
 * to mean our address is in Host, the page itself in Origin).
 * Pure functions. */
#pragma once
#include <sys/socket.h>

#include "core/util/base.h"

enum { HOST_NAME_BYTES = 256 };

/* The name in a Host header, without its port and the brackets of an IPv6 address; false: there is none,
 * or it is too long. */
bool host_name(const char *host, char out[HOST_NAME_BYTES]);
/* It is an IP address: nobody can make that mean another one. */
bool host_is_address(const char *name);
/* A loopback address, or "localhost". */
bool host_is_loopback(const char *name);
/* Whether Origin is of a page that came from Host, over HTTPS where we speak TLS; over either where a
 * proxy may speak it for us. NULL is of none. */
bool origin_is_host(const char *origin, const char *host, bool tls);
bool origin_is_https(const char *origin); /* NULL: no */
/* The client's socket is on this host. */
bool address_is_loopback(const struct sockaddr_storage *a);

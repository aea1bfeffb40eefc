/* caller.h - who asks: the bearer key that a request presents; without one the session that its cookie
 * names; without any key in the configuration the operator at this very host.
 *
 * Thread  the exchange's loop. */
#pragma once
#include "core/edge/edge_int.h"

#define COOKIE_SECURE "__Host-llmd"
#define COOKIE_PLAIN  "llmd"

/* Whether the exchange may have its path, which need not exist; sets its caller, key and
 * what it sees of keys. options: the
 * method is OPTIONS. */
enum access_verdict caller_check(struct exchange *ex, bool options);
/* The same for one that runs, by what is configured now: the exchange has the catalogue of now from then
 * on. */
enum access_verdict caller_renew(struct exchange *ex);
/* Whether Host is one of ours, and no other site's page had the browser ask. */
bool caller_own_host(const struct exchange *ex);
/* The token of the cookie, which nobody has looked at; NULL: none. */
const char *caller_cookie(const struct exchange *ex);
/* It is the one that browsers send over HTTPS only. */
bool caller_cookie_is_secure(const struct exchange *ex);
/* A header of the request; NULL. */
const char *caller_header(const struct exchange *ex, const char *name);

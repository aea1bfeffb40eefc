/* auth.h - bearer keys. Only digests are known; comparing takes the same time whatever matches. */
#pragma once
#include "core/edge/edge.h"
#include "core/util/base.h"

/* The key of these n > 0 bytes; NULL: unknown. All keys are compared, wherever a match is. */
const struct edge_key *auth_find_key(const struct edge_key *keys, uint32_t n_keys,
                                     const char *value, size_t n);
/* The key that an Authorization header's value presents ("Bearer KEY", any case of the scheme);
 * NULL when it is missing or unknown. */
const struct edge_key *auth_find(const struct edge_key *keys, uint32_t n_keys, const char *value);

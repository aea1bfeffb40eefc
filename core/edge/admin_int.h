/* admin_int.h - what the files of /admin/v1/ share. */
#pragma once
#include <jansson.h>

#include "core/edge/edge_int.h"
#include "core/util/base.h"
#include "core/util/err.h"

enum { ADMIN_ACTOR_MAX = 200 };

/* Who asks: "key=ops", "uid=0" or "local". Returns out. */
const char *admin_actor(const struct exchange *ex, char out[ADMIN_ACTOR_MAX]);
/* The body as an object with no other member than `member` (NULL: none), to be released; an empty body is
 * {}. A misspelt name must not turn "drain worker 1" into "drain all". */
MUST_CHECK int admin_read_body(struct exchange *ex, const char *member, json_t **out,
                               struct err *e);
/* {"total":n,"requests":[...]}: the oldest max of those that live. */
void admin_add_requests(struct router *r, uint32_t max, struct buf *out);
/* A number in the query ("?after=7"); untouched when it is not given. EINVAL names it. */
MUST_CHECK int admin_query(struct exchange *ex, const char *name, uint64_t *out, struct err *e);

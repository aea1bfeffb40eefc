/* admin_int.h - what the files of /admin/v1/ share. */
#pragma once
#include "core/edge/edge_int.h"
#include "core/util/base.h"
#include "core/util/err.h"

enum { ADMIN_ACTOR_MAX = 200 };

/* Who asks: "key=ops" or "uid=0". Returns out. */
const char *admin_actor(const struct exchange *ex, char out[ADMIN_ACTOR_MAX]);
/* A number in the query ("?after=7"); untouched when it is not given. EINVAL names it. */
MUST_CHECK int admin_query(struct exchange *ex, const char *name, uint64_t *out, struct err *e);

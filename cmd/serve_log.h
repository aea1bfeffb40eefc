/* serve_log.h - the request log as the configuration wants it. */
#pragma once
#include "core/util/base.h"
#include "core/util/err.h"

struct config;
struct metrics;
struct store;

/* *out NULL: none is wanted. A directory that cannot be written to is no error: the log is degraded
 * then, and says so. */
MUST_CHECK int serve_open_log(const struct config *c, struct metrics *m, struct store **out,
                              struct err *e);

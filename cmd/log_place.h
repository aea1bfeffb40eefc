/* log_place.h - where `llmd logs` and `llmd explain` find the request log. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

/* directory: --directory, config: --config; NULL: not given. Else what /etc/llmd.conf says when it can
 * be read, else the default. EINVAL: the file cannot be read, or wants no log. */
MUST_CHECK int log_place_find(const char *directory, const char *config, struct buf *out,
                              struct err *e);

/* worker_json.h - a worker as the status routes show it. */
#pragma once
#include "core/edge/control.h"
#include "core/router/router.h"
#include "core/util/base.h"
#include "core/util/buf.h"

/* Members of an object: how far the weights are. Unknown figures are null. */
void worker_json_load(const struct load_progress *p, struct buf *out);
/* [...] of all workers, by their numbers, for operators; control knows of the GPUs. */
void worker_json_all(struct router *r, const struct edge_control *control, struct buf *out);

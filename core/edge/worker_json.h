/* worker_json.h - a worker as the status routes show it. */
#pragma once
#include "core/router/router.h"
#include "core/util/base.h"
#include "core/util/buf.h"

/* Members of an object: how far the weights are. Unknown figures are null. */
void worker_json_load(const struct load_progress *p, struct buf *out);
/* The whole object, for operators. now_us: clock_now_us(). */
void worker_json(const struct router_worker_view *v, uint64_t now_us, struct buf *out);
/* [...] of all workers, by their numbers. */
void worker_json_all(struct router *r, struct buf *out);

/* worker_json.h - a worker as the status routes show it. */
#pragma once
#include "core/edge/control.h"
#include "core/router/router.h"
#include "core/util/base.h"
#include "core/util/buf.h"

struct page_rates;

enum { WORKER_VIEWS = 256 }; /* that are looked at in all */

/* Members of an object: how far the weights are. Unknown figures are null. */
void worker_json_load(const struct load_progress *p, struct buf *out);
/* [...] of all workers, by their numbers, for operators; control knows of the GPUs. */
void worker_json_all(struct router *r, const struct edge_control *control, struct buf *out);
/* By their numbers; n is what router_workers() said. Returns how many are there: WORKER_VIEWS at most. */
uint32_t worker_json_sort(struct router_worker_view *views, uint32_t n);
/* [...] of these, which are sorted, with their rates unless these are NULL. */
void worker_json_list(struct router_worker_view *views, uint32_t n,
                      const struct edge_control *control, const struct page_rates *rates,
                      struct buf *out);

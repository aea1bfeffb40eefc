/* page_snapshot.h - all that a page paints at once, as one JSON object (PAGE.md). */
#pragma once
#include "core/edge/edge_int.h"
#include "core/edge/page.h"
#include "core/util/buf.h"

struct snapshot_facts {
    uint64_t now_us, wall_us;
    const struct catalog *served;
    struct router_worker_view *workers; /* [n_workers]; sorted by the writing */
    uint32_t n_workers;
    struct page_sample minute, seconds; /* over 60 and over 10 seconds */
    const char *request_log_fault;      /* NULL: none */
};

/* One line, without a line break. */
void snapshot_write(const struct edge *edge, const struct snapshot_facts *f, struct buf *out);

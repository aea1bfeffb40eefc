/* chart.h - the same in pictures: SVG without scripts, fonts or links. */
#pragma once
#include "core/bench/report.h"

/* One run: how TTFT, ITL and E2E are distributed, with p50 and p99. A sweep (n > 1): throughput,
 * TTFT and ITL over the levels, with the knee. */
void chart_svg(const struct report_head *h, const struct level *levels, uint32_t n,
               struct buf *out);

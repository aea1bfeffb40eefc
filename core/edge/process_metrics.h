/* process_metrics.h - what a scrape says of the process, under the names that all exporters use, and of
 * the log lines it lost.
 *
 * Thread  any. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"

/* Appends the families; style: bits of enum metrics_style. What /proc does not tell is left out. */
void process_metrics_write(uint32_t style, struct buf *out);

/* report.h - what was measured, for people (table) and for programs (JSON, CSV).
 *
 * Names in JSON and CSV: milliseconds end in _ms, rates in _per_s; percentiles are p50, p90, p95, p99.
 * All functions append to a buf, whose `failed` the caller checks. */
#pragma once
#include "core/bench/sweep.h"
#include "core/util/buf.h"

/* What was run; strings are borrowed. */
struct report_head {
    const char *url, *model, *endpoint; /* "chat" or "completions" */
    const char *load;                   /* "closed", "poisson", "constant", "replay" */
    uint64_t seed;
    bool stream;
    bool measured_scale;    /* the server said how long our prompts are */
    double logged_hit_rate; /* replay: cached / prompt tokens of the log; negative: no replay */
};

/* Everything about one run, a dozen lines. */
void report_table(const struct report_head *h, const struct level *l, struct buf *out);
/* One line per level, and the knee. */
void report_sweep(const struct report_head *h, const struct level *levels, uint32_t n,
                  struct buf *out);
/* One object; of a sweep (n > 1) with "levels" and "knee". */
void report_json(const struct report_head *h, const struct level *levels, uint32_t n,
                 struct buf *out);
/* A header line and a line per level. */
void report_csv(const struct level *levels, uint32_t n, struct buf *out);

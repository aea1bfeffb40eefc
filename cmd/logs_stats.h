/* logs_stats.h - percentiles over many rows: of all, by model, by worker, by key.
 *
 * Memory  24 bytes a row. */
#pragma once
#include "core/store/query.h"
#include "core/util/base.h"
#include "core/util/buf.h"

enum { STATS_N_TIMES = 4, STATS_N_GROUPINGS = 3 };

struct stats_row {
    uint32_t times_us[STATS_N_TIMES]; /* UINT32_MAX: it did not happen */
    uint16_t groups[STATS_N_GROUPINGS];
    bool failed; /* status 400 and above, or an error */
};

struct stats_group {
    char *name;
    uint64_t n, n_failed, prompt_tokens, cached_tokens, output_tokens;
};

struct stats_grouping {
    struct stats_group *groups; /* [n] */
    uint32_t n, cap;
};

struct stats {
    struct stats_row *rows; /* [n] */
    size_t n, cap;
    struct stats_group all;
    struct stats_grouping groupings[STATS_N_GROUPINGS];
};

/* The fields that stats_add looks at: for store_query. */
uint64_t stats_fields(void);
/* A store_row_fn; ctx is a zeroed struct stats. ENOMEM; ELIMIT: too many models, workers or keys. */
int stats_add(void *ctx, const struct store_row *row);
void stats_table(const struct stats *s, struct buf *out);
/* One object per line: {"by":"model","name":"m","requests":1,...}. */
void stats_json(const struct stats *s, struct buf *out);
void stats_fini(struct stats *s);

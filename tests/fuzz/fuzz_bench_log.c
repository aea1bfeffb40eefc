/* fuzz_bench_log.c - any bytes as a request log: rows hold what they may. */
#include <stdlib.h>
#include <string.h>

#include "core/bench/log_rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct seen {
    const char *from, *to;
};

static int note(void *ctx, const struct log_row *row)
{
    const struct seen *s = ctx;
    BUG_ON(row->time_us < -1 || row->prompt_tokens < -1 || row->output_tokens < -1);
    BUG_ON(row->n_prefix > 0 && (row->prefix < s->from || row->prefix + row->n_prefix > s->to));
    BUG_ON(row->n_session > 0 && (row->session < s->from || row->session + row->n_session > s->to));
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct err e = {0};
    struct seen s = {(const char *)data, (const char *)data + n};
    int rc = log_rows_read((const char *)data, n, note, &s, &e);
    BUG_ON((rc != 0) != (e.code != 0) || (rc != 0 && rc != -LLMD_EPARSE));
    return 0;
}

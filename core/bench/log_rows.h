/* log_rows.h - rows of a request log out of text: JSON lines or CSV with a header line.
 *
 * Errors  EPARSE with the line. Memory: nothing is kept; texts are borrowed from the input. */
#pragma once
#include "core/util/base.h"
#include "core/util/err.h"

/* What replay uses of a row; numbers that are not there are -1. */
struct log_row {
    int64_t time_us; /* since 1970 */
    int64_t prompt_tokens, cached_tokens, output_tokens;
    const char *prefix, *session; /* [n_prefix], [n_session]; borrowed; without escapes */
    size_t n_prefix, n_session;
};

typedef int (*log_row_fn)(void *ctx, const struct log_row *row);

/* Calls fn for each row; not 0 ends the reading, which returns it. */
MUST_CHECK int log_rows_read(const char *text, size_t n, log_row_fn fn, void *ctx, struct err *e);

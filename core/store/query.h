/* query.h - reads the day files: while a server writes them, and copies of them.
 *
 * Files are opened read-only; one in a folder where SQLite may make no -shm is read as immutable,
 * without what is in its -wal. Files of an older schema lack columns: those are not known then.
 *
 * Thread  one at a time per log.
 * Errors  ENOTFOUND no directory; EIO, EPARSE a file cannot be read. */
#pragma once
#include "core/store/row.h"
#include "core/util/base.h"
#include "core/util/err.h"

struct store_reader;

/* What rows must be like; zeroed: any. */
struct store_filter {
    int64_t since_us, until_us; /* arrival in [since, until); until 0: no end */
    const char *id;             /* the reply's id, or the X-Request-Id in it */
    const char *key, *model, *finish;
    bool has_worker;
    int64_t worker;
    int64_t status_min, status_max; /* both 0: any */
    int64_t slow_us;                /* total_us at least; 0: any */
};

/* Borrowed for the call. Not 0: ends the query, which returns it. */
typedef int store_row_fn(void *ctx, const struct store_row *row);

MUST_CHECK int store_reader_open(const char *directory, struct store_reader **out, struct err *e);
void store_reader_free(struct store_reader *r); /* NULL is fine */

/* Queries give up with ETIMEOUT when stop() says so, which is asked with each day and
 * every few thousand rows. */
void store_reader_stop_when(struct store_reader *r, bool (*stop)(void *ctx), void *ctx);

/* All fields; those of type JSON cost a second look-up. */
enum { STORE_ALL = 0 };

/* Calls fn for rows that match, by arrival, the oldest first; the latest `limit` of them (0: all).
 * fields: bit per enum store_field of what is wanted, STORE_ALL; the rest is not known in the
 * rows. */
MUST_CHECK int store_query(struct store_reader *r, const struct store_filter *f, uint64_t fields,
                           uint32_t limit, store_row_fn *fn, void *ctx, struct err *e);
/* Calls fn for matching rows that were written since the last call, in the order of writing; the
 * first call finds none. */
MUST_CHECK int store_follow(struct store_reader *r, const struct store_filter *f, store_row_fn *fn,
                            void *ctx, struct err *e);

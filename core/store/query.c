#include "core/store/query.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/store/day.h"
#include "core/store/query_int.h"

enum { BUSY_MS = 1000, LOOK_EVERY = 10000 /* steps of SQLite's machine */ };

struct cursor { /* of store_follow */
    int64_t day, seq;
};

struct store_reader {
    char directory[DAY_PATH_MAX];
    struct cursor *cursors; /* [n_cursors] */
    uint32_t n_cursors;
    bool following;
    bool (*stop)(void *ctx); /* NULL: never */
    void *stop_ctx;
};

int store_reader_open(const char *directory, struct store_reader **out, struct err *e)
{
    struct day_size *days = NULL;
    uint32_t n;
    int rc = day_list(directory, &days, &n, e);
    if (rc != 0)
        return rc;
    free(days);
    struct store_reader *r = calloc(1, sizeof(*r));
    if (!r)
        return err_set(e, LLMD_ENOMEM, "out of memory");
    if (strlen(directory) >= sizeof(r->directory)) {
        free(r);
        return err_set(e, LLMD_EINVAL, "the path is too long");
    }
    memcpy(r->directory, directory, strlen(directory) + 1);
    *out = r;
    return 0;
}

void store_reader_free(struct store_reader *r)
{
    if (!r)
        return;
    free(r->cursors);
    free(r);
}

void store_reader_stop_when(struct store_reader *r, bool (*stop)(void *ctx), void *ctx)
{
    r->stop = stop;
    r->stop_ctx = ctx;
}

static int look(void *arg)
{
    const struct store_reader *r = arg;
    return r->stop(r->stop_ctx);
}

static int too_long(struct err *e)
{
    return err_set(e, LLMD_ETIMEOUT,
                   "the search takes too long; ask for a shorter time, or for less");
}

static int fault(sqlite3 *db, const char *path, struct err *e)
{
    int rc = sqlite3_extended_errcode(db) & 0xff;
    if (rc == SQLITE_INTERRUPT)
        return too_long(e);
    int code = rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB ? LLMD_EPARSE : LLMD_EIO;
    return err_set(e, code, "%s: %s", path, sqlite3_errmsg(db));
}

/* A path as part of a URI. */
static void add_uri(struct buf *b, const char *path)
{
    buf_addstr(b, "file:");
    for (; *path; path++) {
        if (strchr("?#%", *path))
            buf_addf(b, "%%%02x", (unsigned char)*path);
        else
            buf_addch(b, *path);
    }
}

/* Whether the tables can be read through this connection. */
static bool readable(sqlite3 *db)
{
    return sqlite3_exec(db, "SELECT 1 FROM requests LIMIT 1", NULL, NULL, NULL) == SQLITE_OK;
}

static int open_as(const char *path, const char *how, sqlite3 **out, struct err *e)
{
    struct buf uri = {0};
    add_uri(&uri, path);
    buf_addstr(&uri, how);
    int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX;
    int rc = uri.failed ? err_set(e, LLMD_ENOMEM, "out of memory") : 0;
    if (rc == 0 && sqlite3_open_v2(buf_str(&uri), out, flags, NULL) != SQLITE_OK)
        rc = fault(*out, path, e);
    buf_fini(&uri);
    if (rc == 0) {
        sqlite3_busy_timeout(*out, BUSY_MS);
        if (!readable(*out))
            rc = fault(*out, path, e);
    }
    if (rc != 0) {
        sqlite3_close(*out);
        *out = NULL;
    }
    return rc;
}

int query_open(const char *directory, int64_t day, sqlite3 **out, struct err *e)
{
    char path[DAY_PATH_MAX];
    struct err first = {0};
    if (!day_path(directory, day, path))
        return err_set(e, LLMD_EINVAL, "%s: the path is too long", directory);
    if (open_as(path, "?mode=ro", out, &first) == 0 ||
        open_as(path, "?immutable=1", out, NULL) == 0)
        return 0;
    return err_set(e, first.code, "%s", first.msg);
}

/* ---- one file ---- */

static int collect(void *ctx, const struct store_row *row)
{
    return query_list_add(ctx, row);
}

/* Rows of one day: the newest `limit` first, or all by arrival. */
static int query_day(struct store_reader *r, int64_t day, const struct query_spec *spec,
                     store_row_fn *fn, void *ctx, struct err *e)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;
    if (r->stop && r->stop(r->stop_ctx)) /* of many days each may be too small to be asked within */
        return too_long(e);
    int rc = query_open(r->directory, day, &db, e);
    if (rc != 0)
        return rc;
    if (r->stop)
        sqlite3_progress_handler(db, LOOK_EVERY, look, r);
    rc = query_prepare(db, spec, &q, e);
    while (rc == 0) {
        int step = sqlite3_step(q);
        if (step == SQLITE_DONE)
            break;
        struct store_row row;
        if (step != SQLITE_ROW)
            rc = fault(db, r->directory, e);
        else {
            query_read(q, spec->fields, &row);
            rc = fn(ctx, &row);
        }
    }
    sqlite3_finalize(q);
    sqlite3_close(db);
    return rc;
}

static bool day_matches(const struct day_size *d, const struct store_filter *f)
{
    return d->main && d->day >= day_of(f->since_us) &&
           (f->until_us == 0 || d->day <= day_of(f->until_us));
}

/* The latest rows: from the last day backwards, then handed out the other way round. */
static int query_latest(struct store_reader *r, const struct query_spec *spec,
                        const struct day_size *days, uint32_t n, store_row_fn *fn, void *ctx,
                        struct err *e)
{
    struct query_list list = {0};
    int rc = 0;
    for (uint32_t i = n; rc == 0 && i > 0 && list.n < spec->limit; i--) {
        struct query_spec one = *spec;
        one.limit = spec->limit - list.n;
        if (day_matches(&days[i - 1], spec->filter))
            rc = query_day(r, days[i - 1].day, &one, collect, &list, e);
    }
    if (list.failed)
        rc = err_set(e, LLMD_ENOMEM, "out of memory for %u rows; ask for fewer", spec->limit);
    for (uint32_t i = list.n; rc == 0 && i > 0; i--) {
        struct store_row row;
        query_list_get(&list, i - 1, &row);
        rc = fn(ctx, &row);
    }
    query_list_fini(&list);
    return rc;
}

int store_query(struct store_reader *r, const struct store_filter *f, uint64_t fields,
                uint32_t limit, store_row_fn *fn, void *ctx, struct err *e)
{
    const struct query_spec spec = {.filter = f, .fields = fields, .limit = limit};
    struct day_size *days = NULL;
    uint32_t n = 0;
    int rc = day_list(r->directory, &days, &n, e);
    if (rc == 0 && limit > 0)
        rc = query_latest(r, &spec, days, n, fn, ctx, e);
    else
        for (uint32_t i = 0; rc == 0 && i < n; i++)
            if (day_matches(&days[i], f))
                rc = query_day(r, days[i].day, &spec, fn, ctx, e);
    free(days);
    return rc;
}

/* ---- what comes in ---- */

static struct cursor *find_cursor(struct store_reader *r, int64_t day)
{
    for (uint32_t i = 0; i < r->n_cursors; i++)
        if (r->cursors[i].day == day)
            return &r->cursors[i];
    struct cursor *grown = realloc(r->cursors, (r->n_cursors + 1) * sizeof(*grown));
    if (!grown)
        return NULL;
    r->cursors = grown;
    grown[r->n_cursors] = (struct cursor){.day = day};
    return &grown[r->n_cursors++];
}

static int last_seq(struct store_reader *r, int64_t day, int64_t *out, struct err *e)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;
    int rc = query_open(r->directory, day, &db, e);
    if (rc != 0)
        return rc;
    if (sqlite3_prepare_v2(db, "SELECT coalesce(max(seq),0) FROM requests", -1, &q, NULL) ==
            SQLITE_OK &&
        sqlite3_step(q) == SQLITE_ROW)
        *out = sqlite3_column_int64(q, 0);
    else
        rc = fault(db, r->directory, e);
    sqlite3_finalize(q);
    sqlite3_close(db);
    return rc;
}

int store_follow(struct store_reader *r, const struct store_filter *f, store_row_fn *fn, void *ctx,
                 struct err *e)
{
    struct day_size *days = NULL;
    uint32_t n = 0;
    int rc = day_list(r->directory, &days, &n, e);
    for (uint32_t i = n > 2 ? n - 2 : 0; rc == 0 && i < n; i++) { /* two: rows come in late */
        int64_t seq = 0;
        struct cursor *c = find_cursor(r, days[i].day);
        if (!c)
            rc = err_set(e, LLMD_ENOMEM, "out of memory");
        else if (days[i].main)
            rc = last_seq(r, days[i].day, &seq, e);
        if (rc != 0 || seq == 0)
            continue;
        if (seq < c->seq)
            c->seq = 0; /* another file by now */
        struct query_spec spec = {.filter = f, .after_seq = c->seq, .upto_seq = seq};
        if (r->following && seq > c->seq)
            rc = query_day(r, days[i].day, &spec, fn, ctx, e);
        c->seq = seq;
    }
    r->following = rc == 0;
    free(days);
    return rc;
}

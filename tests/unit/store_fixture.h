/* store_fixture.h - a log directory of its own for each test, with a clock that the test sets. */
#pragma once
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/store/day.h"
#include "core/store/query.h"
#include "core/store/store.h"
#include "tests/unit/patience.h"

static const int64_t DAY_US = 86400ll * 1000000;
static const int64_t NOON_US = (20778ll * 86400 + 43200) * 1000000; /* 2026-11-21 12:00 */
static char directory[64];
static _Atomic int64_t wall_us;

static inline uint64_t wall(void *ctx)
{
    (void)ctx;
    return (uint64_t)wall_us;
}

static inline int set_up(void **state)
{
    (void)state;
    snprintf(directory, sizeof(directory), "/tmp/llmd-store-XXXXXX");
    wall_us = NOON_US;
    return mkdtemp(directory) ? 0 : -1;
}

static inline int tear_down(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command);
}

static inline struct store *open_store(size_t buffer_bytes)
{
    const struct store_opts o = {.directory = directory,
                                 .buffer_bytes = buffer_bytes,
                                 .prompt_keep_us = 3600ull * 1000000,
                                 .keep_days = 3,
                                 .wall_us = wall};
    struct store *s;
    struct err e = {0};
    assert_int_equal(store_open(&o, &s, &e), 0);
    return s;
}

static inline struct store_row row_at(int64_t time_us, const char *id)
{
    struct store_row r;
    store_row_init(&r);
    r.time_us = time_us;
    r.id = id;
    r.status = 200;
    r.total_us = 1000;
    return r;
}

static inline const char *day_file(int64_t time_us, const char *suffix)
{
    static char path[DAY_PATH_MAX + 64];
    char main[DAY_PATH_MAX];
    assert_true(day_path(directory, day_of(time_us), main));
    snprintf(path, sizeof(path), "%s%s", main, suffix);
    return path;
}

static inline struct store_status status_of(struct store *s)
{
    struct store_status st;
    store_status(s, &st);
    return st;
}

static inline void wait_written(struct store *s, uint64_t n)
{
    assert_soon(status_of(s).n_written >= n);
}

static inline void wait_degraded(struct store *s, struct store_status *st)
{
    assert_soon(status_of(s).degraded);
    *st = status_of(s);
}

/* One number that a statement gives. */
static inline int64_t ask(int64_t time_us, const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *q;
    assert_int_equal(sqlite3_open(day_file(time_us, ""), &db), SQLITE_OK);
    sqlite3_busy_timeout(db,
                         PATIENCE_MS); /* a connection that closes holds the file for a moment */
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    int64_t v = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(db);
    return v;
}

/* The ids that a query gives, one after the other with a blank. */
static inline int add_id(void *ctx, const struct store_row *row)
{
    buf_addf(ctx, "%s ", row->id);
    return 0;
}

static inline const char *query(const struct store_filter *f, uint32_t limit)
{
    static char text[4096];
    struct store_reader *r;
    struct buf ids = {0};
    struct err e = {0};
    assert_int_equal(store_reader_open(directory, &r, &e), 0);
    if (store_query(r, f, STORE_ALL, limit, add_id, &ids, &e) != 0)
        fail_msg("%s", e.msg);
    store_reader_free(r);
    snprintf(text, sizeof(text), "%s", buf_str(&ids));
    buf_fini(&ids);
    return text;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

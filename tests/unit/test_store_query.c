/* test_store_query.c - the request log is read: schemas, filters, what comes in. */
#include "tests/unit/store_fixture.h"

#include "core/observe/log.h"
#include "core/store/db.h"

/* ---- schema ---- */

static void test_older_schemas_are_brought_up(void **state)
{
    (void)state;
    static const char script[] =
        "-- about\n-- migration 1\nCREATE TABLE t(a);\n"
        "-- migration 2\nALTER TABLE t ADD b;\nINSERT INTO t VALUES(1,2);\n"
        "-- migration 3\nINSERT INTO t VALUES(3,4);\n";
    struct err e = {0};
    sqlite3 *db;
    assert_int_equal(sqlite3_open(day_file(NOON_US, ""), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE t(a);PRAGMA user_version=1", NULL, NULL, NULL),
                     SQLITE_OK);
    assert_int_equal(schema_migrate(db, script, &e), 0); /* from 1: 2 and 3 */
    assert_int_equal(ask(NOON_US, "SELECT sum(a*10+b) FROM t"), 12 + 34);
    assert_int_equal(ask(NOON_US, "PRAGMA user_version"), 3);
    assert_int_equal(schema_migrate(db, script, &e), 0); /* nothing is left to do */
    assert_int_equal(ask(NOON_US, "SELECT count(*) FROM t"), 2);
    static const char bad[] = "-- migration 4\nINSERT INTO t VALUES(5,6);\nNONSENSE;\n";
    assert_int_not_equal(schema_migrate(db, bad, &e), 0); /* all of it or nothing */
    assert_int_equal(ask(NOON_US, "SELECT count(*) FROM t"), 2);
    assert_int_equal(ask(NOON_US, "PRAGMA user_version"), 3);
    sqlite3_close(db);
}

static void test_a_file_that_lacks_a_column_can_be_read(void **state)
{
    (void)state;
    struct store *s = open_store(0);
    struct store_row r = row_at(NOON_US, "x");
    r.session = "0123";
    store_log(s, &r);
    store_close(s);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(day_file(NOON_US, ""), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "ALTER TABLE requests DROP COLUMN session", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    struct store_filter all = {0};
    assert_string_equal(query(&all, 0), "x ");
}

/* ---- queries ---- */

static void fill_for_queries(void)
{
    static const char *const keys[] = {"red", "green", "blue"};
    struct store *s = open_store(0);
    for (int i = 0; i < 12; i++) {
        char id[32];
        snprintf(id, sizeof(id), "chatcmpl-%02d", i);
        struct store_row r = row_at(NOON_US + i * 1000, id);
        r.key = keys[i % 3];
        r.model = i % 2 ? "odd" : "even";
        r.worker = i % 4;
        r.status = i == 7 ? 503 : 200;
        r.finish = i == 7 ? "error" : "stop";
        r.total_us = i * 1000;
        store_log(s, &r);
    }
    store_close(s);
}

static void test_filters(void **state)
{
    (void)state;
    fill_for_queries();
    const struct {
        struct store_filter f;
        uint32_t limit;
        const char *ids;
    } cases[] = {
        {{.id = "07"}, 0, "chatcmpl-07 "},
        {{.id = "chatcmpl-07"}, 1, "chatcmpl-07 "},
        {{.id = "7"}, 0, ""},
        {{.key = "red"}, 2, "chatcmpl-06 chatcmpl-09 "},
        {{.key = "red", .model = "odd"}, 0, "chatcmpl-03 chatcmpl-09 "},
        {{.has_worker = true, .worker = 0}, 0, "chatcmpl-00 chatcmpl-04 chatcmpl-08 "},
        {{.status_min = 500, .status_max = 599}, 0, "chatcmpl-07 "},
        {{.status_min = 503, .status_max = 503, .key = "red"}, 0, ""},
        {{.finish = "error"}, 5, "chatcmpl-07 "},
        {{.slow_us = 10000}, 0, "chatcmpl-10 chatcmpl-11 "},
        {{.slow_us = 10000, .key = "blue"}, 1, "chatcmpl-11 "},
        {{.since_us = NOON_US + 10000}, 0, "chatcmpl-10 chatcmpl-11 "},
        {{.since_us = NOON_US + 2000, .until_us = NOON_US + 4000, .key = "blue"},
         9,
         "chatcmpl-02 "},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_string_equal(query(&cases[i].f, cases[i].limit), cases[i].ids);
}

static void test_follow(void **state)
{
    (void)state;
    struct store_reader *r;
    struct store_filter f = {.key = "red"};
    struct buf ids = {0};
    struct err e = {0};
    fill_for_queries();
    assert_int_equal(store_reader_open(directory, &r, &e), 0);
    assert_int_equal(store_follow(r, &f, add_id, &ids, &e), 0);
    assert_int_equal(ids.len, 0); /* what is there does not count */
    fill_for_queries();
    assert_int_equal(store_follow(r, &f, add_id, &ids, &e), 0);
    assert_string_equal(buf_str(&ids), "chatcmpl-00 chatcmpl-03 chatcmpl-06 chatcmpl-09 ");
    assert_int_equal(store_follow(r, &f, add_id, &ids, &e), 0);
    assert_string_equal(buf_str(&ids), "chatcmpl-00 chatcmpl-03 chatcmpl-06 chatcmpl-09 ");
    wall_us = NOON_US + DAY_US;
    struct store *s = open_store(0);
    struct store_row row = row_at(NOON_US + DAY_US, "next");
    row.key = "red";
    store_log(s, &row);
    store_close(s);
    buf_clear(&ids);
    assert_int_equal(store_follow(r, &f, add_id, &ids, &e), 0);
    assert_string_equal(buf_str(&ids), "next "); /* a day file that is new */
    buf_fini(&ids);
    store_reader_free(r);
}

static bool is_asked(void *ctx)
{
    int *left = ctx;
    return (*left)-- == 0;
}

static int count_row(void *ctx, const struct store_row *row)
{
    (void)row;
    ++*(int *)ctx;
    return 0;
}

/* Days that are small end in time as well. */
static void test_a_search_stops_between_days(void **state)
{
    (void)state;
    enum { DAYS = 3 };
    const int64_t day_us = (int64_t)86400 * 1000000;
    struct store *s = open_store(0);
    struct store_filter all = {0};
    struct store_reader *r = NULL;
    struct err e = {0};
    for (int i = 0; i < DAYS; i++) {
        struct store_row row = row_at(NOON_US - i * day_us, "x");
        store_log(s, &row);
    }
    store_close(s);
    assert_int_equal(store_reader_open(directory, &r, &e), 0);
    for (int days = 0; days <= DAYS; days++) {
        int left = days, n = 0;
        store_reader_stop_when(r, is_asked, &left);
        const int rc = store_query(r, &all, STORE_ALL, 0, count_row, &n, &e);
        assert_int_equal(rc, days < DAYS ? -LLMD_ETIMEOUT : 0);
        assert_int_equal(n, days);
        err_clear(&e);
    }
    store_reader_free(r);
}

static void test_no_directory(void **state)
{
    (void)state;
    struct store_reader *r;
    struct err e = {0};
    assert_int_equal(store_reader_open("/nonexistent/log", &r, &e), -LLMD_ENOTFOUND);
    assert_non_null(strstr(e.msg, "/nonexistent/log"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_older_schemas_are_brought_up),
        CASE(test_a_file_that_lacks_a_column_can_be_read),
        CASE(test_filters),
        CASE(test_follow),
        CASE(test_a_search_stops_between_days),
        CASE(test_no_directory),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

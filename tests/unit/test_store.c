/* test_store.c - the request log: rows in and out, days, faults, the bounded buffer. */
#include "tests/unit/store_fixture.h"

#include <fcntl.h>
#include <pthread.h>

#include "core/observe/log.h"
#include "core/store/db.h"
#include "core/util/clock.h"

static bool exists(int64_t time_us, const char *suffix)
{
    return access(day_file(time_us, suffix), F_OK) == 0;
}

/* ---- rows ---- */

static struct store_row full_row(void)
{
    static char words[STORE_N_FIELDS][32];
    struct store_row r;
    store_row_init(&r);
    for (int i = 0; i < STORE_N_FIELDS; i++) {
        char *at = (char *)&r + store_columns[i].offset;
        if (store_columns[i].type == STORE_INT)
            *(int64_t *)at = 1000 + i;
        else {
            bool json = store_columns[i].type == STORE_JSON;
            snprintf(words[i], sizeof(words[i]), json ? "[%d]" : "word \"%d\"", i);
            *(const char **)at = words[i];
        }
    }
    r.time_us = NOON_US + 5;
    return r;
}

static void test_schema_has_the_fields(void **state)
{
    (void)state;
    struct db db = {0};
    struct err e = {0};
    assert_int_equal(db_open(&db, directory, day_of(NOON_US), 0, &e), 0);
    for (int i = 0; i < STORE_N_FIELDS; i++) {
        const char *table = store_columns[i].type == STORE_JSON ? "details" : "requests", *type;
        if (sqlite3_table_column_metadata(db.handle, NULL, table, store_columns[i].name, &type,
                                          NULL, NULL, NULL, NULL) != SQLITE_OK)
            fail_msg("schema.sql: %s.%s is missing", table, store_columns[i].name);
        assert_string_equal(type, store_columns[i].type == STORE_INT ? "INTEGER" : "TEXT");
    }
    db_close(&db);
    assert_int_equal(ask(NOON_US, "SELECT count(*) FROM pragma_table_info('requests')") +
                         ask(NOON_US, "SELECT count(*) FROM pragma_table_info('details')"),
                     STORE_N_FIELDS + 2);
}

static int check_full(void *ctx, const struct store_row *row)
{
    struct store_row want = full_row();
    struct buf a = {0}, b = {0};
    store_row_json(&want, true, &a);
    store_row_json(row, true, &b);
    assert_string_equal(buf_str(&a), buf_str(&b));
    assert_non_null(strstr(buf_str(&b), "\"time\":\"2026-11-21T12:00:00.000005Z\""));
    assert_non_null(strstr(buf_str(&b), "\"key\":\"word \\\"3\\\"\""));
    buf_fini(&a);
    buf_fini(&b);
    ++*(int *)ctx;
    return 0;
}

static void test_every_field_comes_back(void **state)
{
    (void)state;
    struct store *s = open_store(0);
    struct store_row r = full_row();
    assert_true(store_log(s, &r));
    wait_written(s, 1);
    struct store_reader *reader;
    struct store_filter f = {.id = r.id};
    struct err e = {0};
    int n = 0;
    assert_int_equal(store_reader_open(directory, &reader, &e), 0); /* while it is written to */
    assert_int_equal(store_query(reader, &f, STORE_ALL, 5, check_full, &n, &e), 0);
    assert_int_equal(n, 1);
    store_reader_free(reader);
    store_close(s);
}

static void test_what_is_not_known_is_null(void **state)
{
    (void)state;
    struct store *s = open_store(0);
    struct store_row r = row_at(NOON_US, "x");
    store_log(s, &r);
    store_close(s);
    assert_int_equal(ask(NOON_US, "SELECT worker IS NULL AND key IS NULL FROM requests"), 1);
    assert_int_equal(ask(NOON_US, "SELECT count(*) FROM details"), 0);
    struct buf b = {0};
    store_row_json(&r, false, &b);
    assert_non_null(strstr(buf_str(&b), "\"worker\":null"));
    assert_null(strstr(buf_str(&b), "timeline"));
    buf_fini(&b);
}

static void test_long_texts_are_cut(void **state)
{
    (void)state;
    char *text = malloc(ROW_JSON_MAX + 10);
    memset(text, 'x', ROW_JSON_MAX + 9);
    text[ROW_JSON_MAX + 9] = '\0';
    memcpy(text + ROW_TEXT_MAX - 1, "\xc3\xa9", 2); /* a character across the limit */
    struct store_row r = row_at(NOON_US, "x"), back;
    size_t n_prompt;
    r.error = r.route = text;
    void *packed = malloc(row_packed_bytes(&r));
    row_pack(&r, packed);
    assert_int_equal(row_unpack(packed, &back, &n_prompt), row_packed_bytes(&r));
    assert_int_equal(strlen(back.error), ROW_TEXT_MAX - 1);
    assert_null(back.route);
    free(packed);
    free(text);
}

/* ---- days ---- */

static void test_rotation_over_midnight(void **state)
{
    (void)state;
    int64_t midnight = (day_of(NOON_US) + 1) * DAY_US;
    struct store *s = open_store(0);
    const char *ids[] = {"a", "b", "c", "d", "e"};
    int64_t times[] = {-2, 1, -1, 2, -3}; /* one batch, both days, in no order */
    wall_us = midnight;
    for (int i = 0; i < 5; i++) {
        struct store_row r = row_at(midnight + times[i] * 1000, ids[i]);
        assert_true(store_log(s, &r));
    }
    store_close(s);
    assert_int_equal(ask(midnight - 1, "SELECT count(*) FROM requests"), 3);
    assert_int_equal(ask(midnight, "SELECT count(*) FROM requests"), 2);
    struct store_filter all = {0}, late = {.since_us = midnight}, early = {.until_us = midnight};
    assert_string_equal(query(&all, 0), "e a c b d ");
    assert_string_equal(query(&all, 3), "c b d ");
    assert_string_equal(query(&late, 0), "b d ");
    assert_string_equal(query(&early, 2), "a c ");
}

static void touch(int64_t time_us, const char *suffix, int kib)
{
    int fd = open(day_file(time_us, suffix), O_CREAT | O_WRONLY, 0644);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)kib * 1024), 0);
    close(fd);
}

static void test_retention_by_age_and_size(void **state)
{
    (void)state;
    struct err e = {0};
    uint64_t bytes = 0;
    for (int i = 0; i < 6; i++) {
        touch(NOON_US - i * DAY_US, "", 100);
        touch(NOON_US - i * DAY_US, "-wal", 10);
    }
    touch(NOON_US - 5 * DAY_US, "-shm", 32);
    touch(NOON_US - 4 * DAY_US, ".corrupt-1", 50);
    int64_t today = day_of(NOON_US);
    assert_int_equal(day_retain(directory, today, today - 4, 0, &bytes, &e), 0);
    assert_false(exists(NOON_US - 5 * DAY_US, ""));
    assert_false(exists(NOON_US - 5 * DAY_US, "-wal"));
    assert_false(exists(NOON_US - 5 * DAY_US, "-shm"));
    assert_true(exists(NOON_US - 4 * DAY_US, ""));
    assert_int_equal(bytes, (5 * 110 + 50) * 1024);
    assert_int_equal(day_retain(directory, today, 0, 300 * 1024, &bytes, &e), 0);
    assert_false(exists(NOON_US - 4 * DAY_US, ".corrupt-1"));
    assert_false(exists(NOON_US - 2 * DAY_US, ""));
    assert_true(exists(NOON_US - DAY_US, "-wal"));
    assert_int_equal(day_retain(directory, today, today + 5, 1, &bytes, &e), 0);
    assert_false(exists(NOON_US - DAY_US, ""));
    assert_true(exists(NOON_US, "")); /* never the current day */
    assert_int_equal(bytes, 110 * 1024);
}

static void test_names_of_others_are_left_alone(void **state)
{
    (void)state;
    const char *names[] = {"requests-2026-11-21.db", "requests-2026-11-21.db-wal",
                           "requests-2026-11-21.db.corrupt-2-shm"};
    const char *others[] = {"requests-2026-11-21.db.bak", "requests-2026-13-21.db", "requests-.db",
                            "requests-2026-11-21",        "requests-2026-1-1.db",   "x"};
    int64_t day;
    bool is_main;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_true(day_parse(names[i], &day, &is_main));
        assert_int_equal(day, day_of(NOON_US));
        assert_int_equal(is_main, i == 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_false(day_parse(others[i], &day, &is_main));
}

static void test_the_thread_retains(void **state)
{
    (void)state;
    touch(NOON_US - 3 * DAY_US, "", 1);
    touch(NOON_US - 2 * DAY_US, "", 0);
    struct store *s = open_store(0); /* keep_days = 3 */
    assert_soon(!exists(NOON_US - 3 * DAY_US, ""));
    assert_true(exists(NOON_US - 2 * DAY_US, ""));
    store_close(s);
}

/* ---- faults ---- */

static void test_a_damaged_file_is_set_aside(void **state)
{
    (void)state;
    int fd = open(day_file(NOON_US, ""), O_CREAT | O_WRONLY, 0644);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(write(fd, "this is no database ", 20), 20);
    close(fd);
    struct store *s = open_store(0);
    struct store_row r = row_at(NOON_US, "x");
    struct store_status st;
    store_log(s, &r);
    wait_written(s, 1);
    store_status(s, &st);
    assert_false(st.degraded);
    assert_int_equal(st.n_dropped, 0);
    assert_true(exists(NOON_US, ".corrupt-1"));
    store_close(s);
    assert_int_equal(ask(NOON_US, "SELECT count(*) FROM requests"), 1);
}

static void test_a_locked_file_is_waited_for(void **state)
{
    (void)state;
    struct store *s = open_store(0);
    struct store_row r = row_at(NOON_US, "x");
    struct store_status st;
    store_log(s, &r);
    wait_written(s, 1);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(day_file(NOON_US, ""), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    store_log(s, &r);
    wait_degraded(s, &st);
    assert_non_null(strstr(st.why, "locked"));
    assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    wait_written(s, 2);
    store_status(s, &st);
    assert_false(st.degraded);
    assert_int_equal(st.n_dropped, 0);
    assert_true(st.n_errors >= 1);
    store_close(s);
}

static void test_a_directory_that_is_none(void **state)
{
    (void)state;
    struct store_status st;
    char kept[64];
    assert_int_equal(rmdir(directory), 0);
    int fd = open(directory, O_CREAT | O_WRONLY, 0600); /* a file stands in its place */
    close(fd);
    struct store *s = open_store(0);
    wait_degraded(s, &st);
    assert_int_equal(unlink(directory), 0);
    snprintf(kept, sizeof(kept), "%s", directory);
    struct store_row r = row_at(NOON_US, "x");
    store_log(s, &r);
    wait_written(s, 1); /* it was made */
    store_close(s);
    assert_int_equal(ask(NOON_US, "SELECT count(*) FROM requests"), 1);
}

static void test_a_file_that_vanished_is_made_again(void **state)
{
    (void)state;
    struct store *s = open_store(0);
    struct store_row r = row_at(NOON_US, "x");
    store_log(s, &r);
    wait_written(s, 1);
    assert_int_equal(unlink(day_file(NOON_US, "")), 0);
    store_log(s, &r);
    wait_written(s, 2);
    store_close(s);
    assert_int_equal(ask(NOON_US, "SELECT count(*) FROM requests"), 1);
}

static void test_what_does_not_fit_is_dropped_and_counted(void **state)
{
    (void)state;
    struct store *s = open_store(4096);
    struct store_row r = row_at(NOON_US, "x");
    struct store_status st;
    uint64_t n_taken = 0, n_refused = 0;
    for (int i = 0; i < 2000; i++)
        *(store_log(s, &r) ? &n_taken : &n_refused) += 1;
    assert_true(n_refused > 0);
    wait_written(s, n_taken);
    store_status(s, &st);
    assert_int_equal(st.n_dropped, n_refused);
    assert_false(st.degraded);
    store_close(s);
    assert_int_equal(ask(NOON_US, "SELECT count(*) FROM requests"), n_taken);
}

static void *log_many(void *store)
{
    struct store_row r = row_at(NOON_US, "threads");
    for (int i = 0; i < 2000; i++)
        assert_true(store_log(store, &r));
    return NULL;
}

static void test_many_threads(void **state)
{
    (void)state;
    struct store *s = open_store(0);
    pthread_t threads[4];
    struct store_status st;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_many, s), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    wait_written(s, 8000);
    store_status(s, &st);
    assert_int_equal(st.n_written, 8000);
    store_close(s);
    assert_int_equal(ask(NOON_US, "SELECT count(*) FROM requests"), 8000);
}

static void test_close_writes_what_is_left(void **state)
{
    (void)state;
    struct store *s = open_store(0);
    struct store_row r = row_at(NOON_US, "x");
    for (int i = 0; i < 100; i++)
        store_log(s, &r);
    store_close(s);
    assert_int_equal(ask(NOON_US, "SELECT count(*) FROM requests"), 100);
}

/* ---- prompts ---- */

static void test_prompts_have_a_lifetime(void **state)
{
    (void)state;
    struct store *s = open_store(0); /* one hour */
    struct store_row r = row_at(NOON_US, "x");
    r.prompt = "{\"messages\":[]}";
    r.n_prompt = strlen(r.prompt);
    store_log(s, &r);
    wait_written(s, 1);
    assert_int_equal(ask(NOON_US, "SELECT body_bytes FROM prompts"), r.n_prompt);
    assert_int_equal(ask(NOON_US, "SELECT body='{\"messages\":[]}' FROM prompts"), 1);
    store_close(s);
    wall_us = NOON_US + DAY_US; /* its day is over: the file is opened once more */
    s = open_store(0);
    assert_soon(ask(NOON_US, "SELECT count(*) FROM prompts") == 0);
    assert_int_equal(ask(NOON_US, "SELECT count(*) FROM requests"), 1);
    store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_schema_has_the_fields),
        CASE(test_every_field_comes_back),
        CASE(test_what_is_not_known_is_null),
        CASE(test_long_texts_are_cut),
        CASE(test_rotation_over_midnight),
        CASE(test_retention_by_age_and_size),
        CASE(test_names_of_others_are_left_alone),
        CASE(test_the_thread_retains),
        CASE(test_a_damaged_file_is_set_aside),
        CASE(test_a_locked_file_is_waited_for),
        CASE(test_a_directory_that_is_none),
        CASE(test_a_file_that_vanished_is_made_again),
        CASE(test_what_does_not_fit_is_dropped_and_counted),
        CASE(test_many_threads),
        CASE(test_close_writes_what_is_left),
        CASE(test_prompts_have_a_lifetime),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

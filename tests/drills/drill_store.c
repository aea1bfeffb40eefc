/* drill_store.c - the request log under violence; tests/drills/store.sh sets the scenes.
 *
 *   drill_store kill DIR ROUNDS   a writer is killed at a random moment, each round; the files must be
 *                                 intact and hold every row that it had acknowledged
 *   drill_store feed DIR ROWS     logs rows, whatever happens; each must be written or counted as lost
 *   drill_store check DIR         the files are intact; prints how many rows they hold
 */
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/store/day.h"
#include "core/store/store.h"
#include "core/util/clock.h"

static struct store *open_store(const char *directory)
{
    const struct store_opts o = {.directory = directory};
    struct store *s;
    struct err e = {0};
    if (store_open(&o, &s, &e) != 0) {
        fprintf(stderr, "%s\n", e.msg);
        exit(1);
    }
    return s;
}

static bool log_row(struct store *s, const char *id)
{
    struct store_row row;
    store_row_init(&row);
    row.time_us = (int64_t)clock_wall_us();
    row.id = id;
    row.status = 200;
    row.total_us = 1;
    row.timeline = "{\"gaps\":[]}";
    return store_log(s, &row);
}

/* ---- what the files hold ---- */

static int64_t ask(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *q = NULL;
    int64_t v = -1;
    if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW)
        v = sqlite3_column_type(q, 0) == SQLITE_TEXT
                ? strcmp((const char *)sqlite3_column_text(q, 0), "ok") == 0
                : sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return v;
}

/* Rows of all day files; -1: one of them is damaged. */
static int64_t count_rows(const char *directory, const char *where)
{
    struct day_size *days;
    uint32_t n;
    int64_t sum = 0;
    if (day_list(directory, &days, &n, NULL) != 0)
        return -1;
    for (uint32_t i = 0; sum >= 0 && i < n; i++) {
        char path[DAY_PATH_MAX], sql[256];
        sqlite3 *db;
        int64_t rows = -1;
        if (!days[i].main || !day_path(directory, days[i].day, path))
            continue;
        snprintf(sql, sizeof(sql), "SELECT count(*) FROM requests WHERE %s", where);
        if (sqlite3_open(path, &db) == SQLITE_OK && ask(db, "PRAGMA integrity_check") == 1)
            rows = ask(db, sql);
        sqlite3_close(db);
        sum = rows < 0 ? -1 : sum + rows;
    }
    free(days);
    return sum;
}

/* ---- killed ---- */

/* Logs until it is killed, and says what was acknowledged. */
static void write_for_ever(const char *directory, unsigned round, _Atomic uint64_t *acknowledged)
{
    struct store *s = open_store(directory);
    char id[64];
    for (uint64_t i = 0;; i++) {
        struct store_status st;
        snprintf(id, sizeof(id), "round-%u-%llu", round, (unsigned long long)i);
        log_row(s, id);
        if (i % 16 == 0) {
            store_status(s, &st);
            atomic_store(acknowledged, st.n_written);
            clock_sleep_us(200);
        }
    }
}

static bool kill_once(const char *directory, unsigned round, _Atomic uint64_t *acknowledged,
                      uint64_t *sum)
{
    char where[64];
    atomic_store(acknowledged, 0);
    pid_t pid = fork();
    if (pid == 0)
        write_for_ever(directory, round, acknowledged);
    clock_sleep_us(60000 + (uint64_t)rand() % 150000);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    snprintf(where, sizeof(where), "id LIKE 'round-%u-%%'", round);
    int64_t rows = count_rows(directory, where);
    uint64_t acked = atomic_load(acknowledged);
    *sum += acked;
    if (rows >= (int64_t)acked)
        return true;
    printf("round %u: %lld rows of %llu that were acknowledged\n", round, (long long)rows,
           (unsigned long long)acked);
    return false;
}

static int kill_rounds(const char *directory, unsigned n)
{
    _Atomic uint64_t *shared =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned passed = 0;
    uint64_t acknowledged = 0;
    if (shared == MAP_FAILED)
        return 1;
    srand(7);
    for (unsigned i = 0; i < n; i++)
        passed += kill_once(directory, i, shared, &acknowledged);
    printf("%u rounds, %u intact with all of %llu acknowledged rows\n", n, passed,
           (unsigned long long)acknowledged);
    return passed != n;
}

/* ---- fed ---- */

static int feed(const char *directory, uint64_t n)
{
    struct store *s = open_store(directory);
    struct store_status st = {0};
    uint64_t slowest_us = 0;
    const uint64_t until_us = clock_now_us() + 60 * 1000000ull;
    for (uint64_t i = 0; i < n; i++) {
        char id[32];
        snprintf(id, sizeof(id), "feed-%llu", (unsigned long long)i);
        const uint64_t began_us = clock_now_us();
        log_row(s, id);
        slowest_us = u64_max(slowest_us, clock_now_us() - began_us);
        if (i % 50 == 0)
            clock_sleep_us(5000);
    }
    while (st.n_written + st.n_dropped < n && clock_now_us() < until_us) {
        clock_sleep_us(20000);
        store_status(s, &st);
    }
    printf("logged %llu written %llu dropped %llu errors %llu slowest_us %llu degraded \"%s\"\n",
           (unsigned long long)n, (unsigned long long)st.n_written,
           (unsigned long long)st.n_dropped, (unsigned long long)st.n_errors,
           (unsigned long long)slowest_us, st.degraded ? st.why : "");
    store_close(s);
    return st.n_written + st.n_dropped != n;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is a fault like others */
    if (argc == 4 && strcmp(argv[1], "kill") == 0)
        return kill_rounds(argv[2], (unsigned)strtoul(argv[3], NULL, 10));
    if (argc == 4 && strcmp(argv[1], "feed") == 0)
        return feed(argv[2], strtoull(argv[3], NULL, 10));
    if (argc == 3 && strcmp(argv[1], "check") == 0) {
        int64_t rows = count_rows(argv[2], "1");
        printf("%lld\n", (long long)rows);
        return rows < 0;
    }
    fputs("usage: drill_store kill DIR ROUNDS | feed DIR ROWS | check DIR\n", stderr);
    return 2;
}

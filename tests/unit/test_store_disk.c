/* test_store_disk.c - the request log on a disk that fails after it wrote: no row is there twice.
 *
 * SQLite's own file system is wrapped. While the disk is bad, the last page of a commit reaches the WAL and
 * the write says EIO none the less; nothing else succeeds, so that the WAL outlives the connection, and
 * whoever opens the file next finds the commit in it. */
#include "tests/unit/store_fixture.h"

#include <stdatomic.h>

static atomic_bool bad;
static atomic_bool commit_frame; /* its page comes next */
static atomic_uint n_came_through;
static sqlite3_vfs disk;
static const sqlite3_vfs *below;
static const sqlite3_io_methods *methods_below;
static sqlite3_io_methods wal_methods, main_methods;

enum { FRAME_HEADER_BYTES = 24 };

/* A frame's header: page, size of the file after a commit (else 0), salts, sums. */
static bool is_commit(const void *bytes, int n)
{
    static const unsigned char none[4];
    return n == FRAME_HEADER_BYTES && memcmp((const char *)bytes + 4, none, sizeof(none)) != 0;
}

static int wal_write(sqlite3_file *f, const void *bytes, int n, sqlite3_int64 at)
{
    int rc = methods_below->xWrite(f, bytes, n, at);
    if (!atomic_load(&bad))
        return rc;
    if (atomic_exchange(&commit_frame, is_commit(bytes, n))) {
        atomic_fetch_add(&n_came_through, 1);
        return SQLITE_IOERR_WRITE;
    }
    return rc;
}

static int main_write(sqlite3_file *f, const void *bytes, int n, sqlite3_int64 at)
{
    return atomic_load(&bad) ? SQLITE_IOERR_WRITE : methods_below->xWrite(f, bytes, n, at);
}

static int disk_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *f, int flags, int *out)
{
    (void)vfs;
    if (atomic_load(&bad) && atomic_load(&n_came_through) > 0)
        return SQLITE_IOERR;
    int rc = below->xOpen((sqlite3_vfs *)below, name, f, flags, out);
    if (rc != SQLITE_OK || !(flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_DB)))
        return rc;
    methods_below = f->pMethods;
    sqlite3_io_methods *mine = flags & SQLITE_OPEN_WAL ? &wal_methods : &main_methods;
    *mine = *f->pMethods;
    mine->xWrite = flags & SQLITE_OPEN_WAL ? wal_write : main_write;
    f->pMethods = mine;
    return rc;
}

static void test_a_commit_that_came_through_is_not_made_twice(void **state)
{
    (void)state;
    struct store *s = open_store(0);
    struct store_row r = row_at(NOON_US, "x");
    struct store_status st;
    store_log(s, &r);
    wait_written(s, 1);
    atomic_store(&bad, true);
    store_log(s, &r);
    wait_degraded(s, &st);
    atomic_store(&bad, false);
    wait_written(s, 2);
    store_log(s, &r);
    wait_written(s, 3);
    store_status(s, &st);
    assert_int_equal(st.n_dropped, 0);
    store_close(s);
    assert_true(atomic_load(&n_came_through) > 0);
    assert_int_equal(ask(NOON_US, "SELECT count(*) FROM requests"), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_a_commit_that_came_through_is_not_made_twice),
    };
    below = sqlite3_vfs_find(NULL);
    disk = *below;
    disk.zName = "disk";
    disk.xOpen = disk_open;
    if (!below || sqlite3_vfs_register(&disk, 1) != SQLITE_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

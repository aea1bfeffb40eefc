#include "core/store/db.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/store/day.h"

enum { BUSY_MS = 250, PAGE_BYTES = 4096, FILE_MODE = 0640, DIRECTORY_MODE = 0750 };

/* The columns of `requests` and of `details`, by the list of fields. */
#define NAMES_INT(name)      "," #name
#define NAMES_TEXT(name)     "," #name
#define NAMES_JSON(name)     ""
#define HOLES_INT            ",?"
#define HOLES_TEXT           ",?"
#define HOLES_JSON           ""
#define DETAIL_NAMES_INT(n)  ""
#define DETAIL_NAMES_TEXT(n) ""
#define DETAIL_NAMES_JSON(n) "," #n
#define DETAIL_HOLES_INT     ""
#define DETAIL_HOLES_TEXT    ""
#define DETAIL_HOLES_JSON    ",?"

static const char insert_sql[] = "INSERT INTO requests(seq"
#define FIELD(type, name) NAMES_##type(name)
#include "core/store/fields.def"
#undef FIELD
                                 ")VALUES(NULL"
#define FIELD(type, name) HOLES_##type
#include "core/store/fields.def"
#undef FIELD
                                 ")";
static const char insert_details_sql[] = "INSERT INTO details(seq"
#define FIELD(type, name) DETAIL_NAMES_##type(name)
#include "core/store/fields.def"
#undef FIELD
                                         ")VALUES(?"
#define FIELD(type, name) DETAIL_HOLES_##type
#include "core/store/fields.def"
#undef FIELD
                                         ")";
static const char insert_prompt_sql[] =
    "INSERT INTO prompts(seq,expires_us,body_bytes,body)VALUES(?,?,?,?)";

static int code_of(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return LLMD_EPARSE;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return LLMD_ETIMEOUT;
    case SQLITE_FULL:
        return LLMD_EFULL;
    case SQLITE_NOMEM:
        return LLMD_ENOMEM;
    default:
        return LLMD_EIO;
    }
}

static int fault(const struct db *db, struct err *e)
{
    return err_set(e, code_of(sqlite3_extended_errcode(db->handle)), "%s: %s", db->path,
                   sqlite3_errmsg(db->handle));
}

static int run(struct db *db, const char *sql, struct err *e)
{
    return sqlite3_exec(db->handle, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : fault(db, e);
}

/* The file with the mode that it is to have (SQLite gives -wal and -shm the same), and which it
 * is. */
static int make_file(struct db *db, const char *directory, struct err *e)
{
    struct stat st;
    if (mkdir(directory, DIRECTORY_MODE) != 0 && errno != EEXIST)
        return err_set(e, LLMD_EIO, "%s: cannot be made: %s", directory, strerror(errno));
    int fd = open(db->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
    if (fd < 0)
        return err_set(e, errno == ENOSPC ? LLMD_EFULL : LLMD_EIO, "%s: %s", db->path,
                       strerror(errno));
    int rc = fstat(fd, &st) == 0 ? 0 : err_set(e, LLMD_EIO, "%s: %s", db->path, strerror(errno));
    close(fd);
    if (rc == 0) {
        db->device = (uint64_t)st.st_dev;
        db->inode = (uint64_t)st.st_ino;
    }
    return rc;
}

static int prepare(struct db *db, const char *sql, sqlite3_stmt **out, struct err *e)
{
    int rc = sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL);
    return rc == SQLITE_OK ? 0 : fault(db, e);
}

static int set_up(struct db *db, uint64_t max_bytes, struct err *e)
{
    char *limit = sqlite3_mprintf("PRAGMA max_page_count=%llu",
                                  max_bytes ? (unsigned long long)(max_bytes / PAGE_BYTES + 1)
                                            : 0xfffffffeull);
    int rc = limit ? 0 : err_set(e, LLMD_ENOMEM, "%s: out of memory", db->path);
    sqlite3_busy_timeout(db->handle, BUSY_MS);
    if (rc == 0)
        rc = run(db,
                 "PRAGMA page_size=4096;PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;"
                 "PRAGMA secure_delete=ON;PRAGMA cache_size=-16384;"
                 "PRAGMA wal_autocheckpoint=8000;PRAGMA journal_size_limit=33554432",
                 e);
    if (rc == 0)
        rc = run(db, limit, e);
    sqlite3_free(limit);
    if (rc == 0 && schema_migrate(db->handle, store_schema, e) != 0) {
        e->code = code_of(sqlite3_extended_errcode(db->handle));
        err_prefix(e, "%s: ", db->path);
        rc = -e->code;
    }
    if (rc == 0)
        rc = prepare(db, insert_sql, &db->insert, e);
    if (rc == 0)
        rc = prepare(db, insert_details_sql, &db->insert_details, e);
    if (rc == 0)
        rc = prepare(db, insert_prompt_sql, &db->insert_prompt, e);
    return rc;
}

int db_open(struct db *db, const char *directory, int64_t day, uint64_t max_bytes, struct err *e)
{
    struct err why = {0};
    memset(db, 0, sizeof(*db));
    db->day = day;
    if (!day_path(directory, day, db->path))
        return err_set(e, LLMD_EINVAL, "%s: the path is too long", directory);
    int rc = make_file(db, directory, &why);
    if (rc == 0 && sqlite3_open_v2(db->path, &db->handle,
                                   SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        rc = fault(db, &why);
    if (rc == 0)
        rc = set_up(db, max_bytes, &why);
    if (rc != 0) {
        db_close(db);
        (void)err_set(e, why.code, "%s", why.msg);
    }
    return rc;
}

void db_close(struct db *db)
{
    sqlite3_finalize(db->insert);
    sqlite3_finalize(db->insert_details);
    sqlite3_finalize(db->insert_prompt);
    sqlite3_close(db->handle);
    db->handle = NULL;
    db->insert = db->insert_details = db->insert_prompt = NULL;
}

bool db_is_current(const struct db *db)
{
    struct stat st;
    return stat(db->path, &st) == 0 && (uint64_t)st.st_dev == db->device &&
           (uint64_t)st.st_ino == db->inode;
}

int db_begin(struct db *db, struct err *e)
{
    return run(db, "BEGIN IMMEDIATE", e);
}

int db_commit(struct db *db, struct err *e)
{
    return run(db, "COMMIT", e);
}

void db_rollback(struct db *db)
{
    if (db->handle && !sqlite3_get_autocommit(db->handle))
        sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
}

int db_has_row(struct db *db, int64_t seq, bool *out, struct err *e)
{
    sqlite3_stmt *q = NULL;
    int rc = prepare(db, "SELECT 1 FROM requests WHERE seq=?", &q, e);
    if (rc != 0)
        return rc;
    sqlite3_bind_int64(q, 1, seq);
    int found = sqlite3_step(q);
    *out = found == SQLITE_ROW;
    if (found != SQLITE_ROW && found != SQLITE_DONE)
        rc = fault(db, e);
    sqlite3_finalize(q);
    return rc;
}

int db_probe(struct db *db, struct err *e)
{
    int rc = run(db, "BEGIN IMMEDIATE;CREATE TABLE probe(x);DROP TABLE probe;COMMIT", e);
    db_rollback(db);
    return rc;
}

/* Runs a bound statement once, and unbinds it. */
static int step(struct db *db, sqlite3_stmt *q, struct err *e)
{
    int rc = sqlite3_step(q) == SQLITE_DONE ? 0 : fault(db, e);
    sqlite3_reset(q);
    sqlite3_clear_bindings(q);
    return rc;
}

static void bind_text(sqlite3_stmt *q, int at, const char *s)
{
    if (s)
        sqlite3_bind_text(q, at, s, -1, SQLITE_STATIC);
}

/* Binds the columns of one table, its first to hole `at`; true when any of them is known. */
static bool bind_columns(sqlite3_stmt *q, int at, const struct store_row *row, bool details)
{
    bool any = false;
    for (int i = 0; i < STORE_N_FIELDS; i++) {
        if ((store_columns[i].type == STORE_JSON) != details)
            continue;
        if (store_columns[i].type != STORE_INT) {
            const char *s = store_row_text(row, (enum store_field)i);
            any |= s != NULL;
            bind_text(q, at++, s);
            continue;
        }
        int64_t v = store_row_int(row, (enum store_field)i);
        if (v >= 0)
            sqlite3_bind_int64(q, at, v);
        at++;
    }
    return any;
}

int db_insert(struct db *db, const struct store_row *row, size_t n_prompt, int64_t expires_us,
              struct err *e)
{
    (void)bind_columns(db->insert, 1, row, false);
    int rc = step(db, db->insert, e);
    sqlite3_int64 seq = db->last_seq = sqlite3_last_insert_rowid(db->handle);
    if (rc == 0 && bind_columns(db->insert_details, 2, row, true)) {
        sqlite3_bind_int64(db->insert_details, 1, seq);
        rc = step(db, db->insert_details, e);
    }
    if (rc == 0 && row->prompt) {
        sqlite3_bind_int64(db->insert_prompt, 1, seq);
        sqlite3_bind_int64(db->insert_prompt, 2, expires_us);
        sqlite3_bind_int64(db->insert_prompt, 3, (sqlite3_int64)row->n_prompt);
        sqlite3_bind_text(db->insert_prompt, 4, row->prompt, (int)n_prompt, SQLITE_STATIC);
        rc = step(db, db->insert_prompt, e);
    }
    return rc;
}

int db_expire_prompts(struct db *db, int64_t now_us, struct err *e)
{
    sqlite3_stmt *q = NULL;
    int rc = prepare(db, "DELETE FROM prompts WHERE expires_us<=?", &q, e);
    if (rc != 0)
        return rc;
    sqlite3_bind_int64(q, 1, now_us);
    rc = step(db, q, e);
    sqlite3_finalize(q);
    return rc;
}

void db_checkpoint(struct db *db)
{
    sqlite3_wal_checkpoint_v2(db->handle, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
}

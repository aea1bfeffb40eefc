/* db.h - one day file, opened for writing: made or migrated, with its statements prepared.
 *
 * WAL, synchronous=NORMAL: what was committed survives the end of the process at any moment; a loss
 * of power may take the last commits, never the file's consistency.
 *
 * Thread  one at a time.
 * Errors  EPARSE the file is damaged or no database; ETIMEOUT another process holds it; EFULL disk or
 *         max_bytes full; EIO anything else. */
#pragma once
#include "core/store/row.h"
#include "core/util/base.h"
#include "core/util/err.h"

struct sqlite3;
struct sqlite3_stmt;

struct db {
    struct sqlite3 *handle; /* NULL: closed */
    struct sqlite3_stmt *insert, *insert_details, *insert_prompt;
    int64_t day;
    int64_t last_seq;       /* of the last row that was inserted */
    uint64_t device, inode; /* of the file that was opened */
    char path[4096];
};

/* Creates the directory when only its last part is missing. max_bytes: the file grows no further;
 * 0: any. On failure db stays closed. */
MUST_CHECK int db_open(struct db *db, const char *directory, int64_t day, uint64_t max_bytes,
                       struct err *e);
void db_close(struct db *db); /* a zeroed or closed one is fine */
/* The path leads to the opened file still. */
bool db_is_current(const struct db *db);

MUST_CHECK int db_begin(struct db *db, struct err *e);
/* n_prompt: bytes of the prompt that were kept; expires_us: when it is to be deleted. */
MUST_CHECK int db_insert(struct db *db, const struct store_row *row, size_t n_prompt,
                         int64_t expires_us, struct err *e);
MUST_CHECK int db_commit(struct db *db, struct err *e);
void db_rollback(struct db *db);
/* Whether there is a row of that seq. */
MUST_CHECK int db_has_row(struct db *db, int64_t seq, bool *out, struct err *e);
/* Writes something that changes nothing. */
MUST_CHECK int db_probe(struct db *db, struct err *e);
/* Deletes the prompts whose time has passed; their bytes are overwritten. */
MUST_CHECK int db_expire_prompts(struct db *db, int64_t now_us, struct err *e);
/* Moves the WAL into the file, as far as readers let it. */
void db_checkpoint(struct db *db);

/* schema.c: runs the parts of a script ("-- migration N") that the file has not had; a file of a
 * newer schema is left as it is. */
MUST_CHECK int schema_migrate(struct sqlite3 *handle, const char *script, struct err *e);
extern const char store_schema[]; /* schema.sql */

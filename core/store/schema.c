/* schema.c - the tables of a day file, and how an older one gets those of today. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/store/db.h"

const char store_schema[] =
#include "core/store/schema_sql.h" /* made by the Makefile from schema.sql */
    ;

static const char mark[] = "-- migration ";

static int user_version(sqlite3 *handle, int *out, struct err *e)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(handle, "PRAGMA user_version", -1, &q, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(q);
    if (rc == SQLITE_ROW)
        *out = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    return rc == SQLITE_ROW ? 0 : err_set(e, LLMD_EIO, "%s", sqlite3_errmsg(handle));
}

static int run_part(sqlite3 *handle, int number, const char *from, const char *to, struct err *e)
{
    char *sql = sqlite3_mprintf("BEGIN IMMEDIATE;%.*s;PRAGMA user_version=%d;COMMIT",
                                (int)(to - from), from, number);
    if (!sql)
        return err_set(e, LLMD_ENOMEM, "out of memory for a migration");
    int rc = 0;
    if (sqlite3_exec(handle, sql, NULL, NULL, NULL) != SQLITE_OK) {
        rc = err_set(e, LLMD_EIO, "migration %d: %s", number, sqlite3_errmsg(handle));
        if (!sqlite3_get_autocommit(handle))
            sqlite3_exec(handle, "ROLLBACK", NULL, NULL, NULL);
    }
    sqlite3_free(sql);
    return rc;
}

int schema_migrate(sqlite3 *handle, const char *script, struct err *e)
{
    int have;
    int rc = user_version(handle, &have, e);
    const char *part = strstr(script, mark);
    while (rc == 0 && part) {
        int number = (int)strtol(part + sizeof(mark) - 1, NULL, 10);
        const char *from = strchr(part, '\n'), *next = from ? strstr(from, mark) : NULL;
        if (number > have && from)
            rc = run_part(handle, number, from, next ? next : from + strlen(from), e);
        part = next;
    }
    return rc;
}

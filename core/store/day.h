/* day.h - the files of a log directory: one per day, in UTC.
 *
 *   requests-2026-11-21.db        with -wal and -shm beside it while it is written to
 *   requests-2026-11-21.db.corrupt-1   set aside, with its -wal and -shm
 *
 * A day goes as a whole, with all its files: a full disk refuses DELETE, but not unlink.
 *
 * Thread  pure functions; the directory is shared with other processes. */
#pragma once
#include "core/util/base.h"
#include "core/util/err.h"

enum { DAY_PATH_MAX = 4096 };

/* Days since 1970-01-01. */
int64_t day_of(int64_t time_us);
/* The day's file; false when the path does not fit. */
bool day_path(const char *directory, int64_t day, char out[DAY_PATH_MAX]);
/* The day that a file name belongs to: "requests-2026-11-21.db" and what goes with it. False: it is
 * none of ours. *out_main: it is the day file itself. */
bool day_parse(const char *name, int64_t *out_day, bool *out_main);

struct day_size {
    int64_t day;
    uint64_t n_bytes; /* of all its files */
    bool main;        /* its day file is there */
};
/* The days that have files, ascending; malloc'ed. ENOTFOUND, EIO, ENOMEM. */
MUST_CHECK int day_list(const char *directory, struct day_size **out, uint32_t *out_n,
                        struct err *e);
/* Unlinks the files of days before `keep_from`, and of the oldest days (never `today` or later)
 * until all together have at most max_bytes (0: any). Adds up what is left in *out_bytes. */
MUST_CHECK int day_retain(const char *directory, int64_t today, int64_t keep_from,
                          uint64_t max_bytes, uint64_t *out_bytes, struct err *e);
/* Renames the day's file, and what belongs to it, to the first free .corrupt-N. */
MUST_CHECK int day_set_aside(const char *directory, int64_t day, struct err *e);

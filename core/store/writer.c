/* writer.c - the thread that owns the files: batches, faults, retention.
 *
 *   wait for a row ─ let others join it (BATCH_US) ─ swap the buffers ─ one transaction per day
 *                                                                       │ fault
 *        drop what is left after RETRY_US ◄── close, pause, open anew ◄─┘
 *
 * Rows go to the file of the day they arrived in. Around midnight a batch holds rows of two days:
 * the earlier day's are written first, so that the file that stays open is the later one's. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/observe/log.h"
#include "core/observe/metrics.h"
#include "core/store/day.h"
#include "core/store/store_int.h"
#include "core/util/clock.h"

/* ---- what others see ---- */

static void note_written(struct store *s, uint64_t n)
{
    lock_take(&s->mu);
    bool was = s->status.degraded;
    uint64_t dropped = s->status.n_dropped;
    s->status.degraded = false;
    s->status.n_written += n;
    lock_drop(&s->mu);
    metric_add(s->rows_total, n);
    metric_set(s->degraded, 0);
    s->failing_since_us = 0;
    if (was)
        log_info("store", "the request log is written again dropped=%llu",
                 (unsigned long long)dropped);
}

/* One line per new reason: a fault that lasts is said once. */
static void note_fault(struct store *s, const struct err *why)
{
    lock_take(&s->mu);
    bool news =
        !s->status.degraded || strncmp(s->status.why, why->msg, sizeof(s->status.why) - 1) != 0;
    s->status.degraded = true;
    s->status.n_errors++;
    size_t n = strnlen(why->msg, sizeof(s->status.why) - 1);
    memcpy(s->status.why, why->msg, n);
    s->status.why[n] = '\0';
    lock_drop(&s->mu);
    metric_add(s->errors_total, 1);
    metric_set(s->degraded, 1);
    if (s->failing_since_us == 0)
        s->failing_since_us = clock_now_us();
    if (news)
        log_error("store", "the request log cannot be written: %s", why->msg);
}

static void note_dropped(struct store *s, uint64_t n)
{
    lock_take(&s->mu);
    s->status.n_dropped += n;
    lock_drop(&s->mu);
    metric_add(s->dropped_total, n);
}

/* ---- one batch ---- */

/* Opens the day's file, unless it is open. One that is damaged is set aside. */
static int open_day(struct store *s, int64_t day, struct err *e)
{
    if (s->db.handle && s->db.day == day && db_is_current(&s->db))
        return 0;
    db_close(&s->db);
    return db_open(&s->db, s->directory, day, s->opts.max_bytes, e);
}

/* The least day after `after` that the batch has rows of; -1: none. */
static int64_t next_day(const struct rows *b, int64_t after)
{
    int64_t next = -1;
    for (size_t at = 0; at < b->n_bytes;) {
        struct store_row row;
        size_t n_prompt;
        at += row_unpack(b->bytes + at, &row, &n_prompt);
        int64_t day = day_of(row.time_us);
        if (day > after && (next < 0 || day < next))
            next = day;
    }
    return next;
}

/* A commit that failed when its last page was on the disk already took place: the file, opened anew,
 * has the rows. They are not written twice. */
static int came_through(struct store *s, bool *out, struct err *e)
{
    *out = false;
    int rc = s->doubtful_seq ? db_has_row(&s->db, s->doubtful_seq, out, e) : 0;
    if (rc == 0)
        s->doubtful_seq = 0;
    return rc;
}

static int insert_day(struct store *s, int64_t day, uint64_t *out_n, struct err *e)
{
    const struct rows *b = &s->writing;
    int64_t expires_us = (int64_t)(store_wall_us(s) + s->opts.prompt_keep_us);
    bool done;
    int rc = came_through(s, &done, e);
    if (rc == 0 && !done)
        rc = db_begin(&s->db, e);
    for (size_t at = 0; rc == 0 && at < b->n_bytes;) {
        struct store_row row;
        size_t n_prompt;
        at += row_unpack(b->bytes + at, &row, &n_prompt);
        if (day_of(row.time_us) != day)
            continue;
        if (!done)
            rc = db_insert(&s->db, &row, n_prompt, expires_us, e);
        (*out_n)++;
    }
    if (rc != 0 || done)
        return rc;
    rc = db_commit(&s->db, e);
    if (rc != 0)
        s->doubtful_seq = s->db.last_seq;
    return rc;
}

/* Writes the batch's rows of one day. After a fault the file is closed: the next attempt opens it
 * anew, whatever it was. */
static int write_day(struct store *s, int64_t day, uint64_t *out_n, struct err *e)
{
    int rc = open_day(s, day, e);
    if (rc == 0)
        rc = insert_day(s, day, out_n, e);
    if (rc == 0)
        return 0;
    db_rollback(&s->db);
    db_close(&s->db);
    if (rc != -LLMD_EPARSE)
        return rc;
    struct err aside = {0};
    if (day_set_aside(s->directory, day, &aside) == 0)
        log_error("store", "damaged, set aside, begun anew: %s", e->msg);
    else
        err_prefix(e, "%s; ", aside.msg);
    return rc;
}

/* The rest of the batch is given up: after a time, and at once while nothing could be written for
 * that long. */
static bool give_up(struct store *s)
{
    uint64_t now_us = clock_now_us();
    lock_take(&s->mu);
    bool closing = s->closing;
    lock_drop(&s->mu);
    if (closing && s->flush_until_us == 0)
        s->flush_until_us = now_us + FLUSH_US;
    return now_us >= s->failing_since_us + RETRY_US || (closing && now_us >= s->flush_until_us);
}

static void write_batch(struct store *s)
{
    struct rows *b = &s->writing;
    int64_t written = -1;
    uint64_t n_done = 0;
    for (int64_t day; (day = next_day(b, written)) >= 0;) {
        struct err e = {0};
        uint64_t n = 0;
        int rc = write_day(s, day, &n, &e);
        if (rc == 0) {
            written = day;
            n_done += n;
            note_written(s, n);
            continue;
        }
        note_fault(s, &e);
        if (give_up(s)) {
            s->doubtful_seq = 0;
            note_dropped(s, b->n - n_done);
            break;
        }
        clock_sleep_us(RETRY_PAUSE_US);
    }
}

/* ---- the access log ---- */

/* A line that is too long for a pipe to take it whole goes without what may be long. */
static bool fit_line(struct store *s, struct store_row *row)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        buf_clear(&s->line);
        store_row_json(row, false, &s->line);
        buf_addch(&s->line, '\n');
        if (!s->line.failed && s->line.len <= SINK_LINE_MAX)
            return true;
        row->error = row->prefix = row->trace = NULL;
    }
    return false;
}

static void write_access_log(struct store *s)
{
    const struct rows *b = &s->writing;
    for (size_t at = 0; at < b->n_bytes;) {
        struct store_row row;
        size_t n_prompt;
        at += row_unpack(b->bytes + at, &row, &n_prompt);
        if (!fit_line(s, &row) ||
            !sink_put(&s->access, buf_str(&s->line), s->line.len, ACCESS_WAIT_MS))
            metric_add(s->access_dropped_total, 1);
    }
}

/* ---- the files ---- */

static void retain(struct store *s, int64_t today)
{
    struct err e = {0};
    uint64_t bytes = 0;
    int64_t keep_from = s->opts.keep_days ? today - (int64_t)s->opts.keep_days + 1 : 0;
    int rc = day_retain(s->directory, today, keep_from, s->opts.max_bytes, &bytes, &e);
    if (rc == 0)
        metric_set(s->bytes, (double)bytes);
    else if (rc != -LLMD_ENOTFOUND)
        log_warn("store", "%s", e.msg);
}

/* Prompts of earlier days, whose files nobody has open. */
static void expire_prompts(struct store *s, int64_t today)
{
    struct day_size *days = NULL;
    struct err e = {0};
    uint32_t n = 0;
    if (day_list(s->directory, &days, &n, &e) != 0)
        return;
    int64_t now_us = (int64_t)store_wall_us(s);
    int64_t first = day_of(now_us - (int64_t)s->opts.prompt_keep_us) - 2;
    for (uint32_t i = 0; i < n; i++) {
        struct db db = {0};
        if (!days[i].main || days[i].day < first || days[i].day >= today)
            continue;
        int rc = db_open(&db, s->directory, days[i].day, 0, &e);
        if (rc == 0)
            rc = db_expire_prompts(&db, now_us, &e);
        if (rc != 0)
            log_warn("store", "prompts cannot be deleted: %s", e.msg);
        db_close(&db);
        err_clear(&e);
    }
    free(days);
}

/* Nothing comes to be written, and the last attempt failed: does a write succeed by now? */
static void try_again(struct store *s)
{
    struct err e = {0};
    int rc = open_day(s, day_of((int64_t)store_wall_us(s)), &e);
    if (rc == 0)
        rc = db_probe(&s->db, &e);
    if (rc == 0)
        note_written(s, 0);
    else
        db_close(&s->db);
}

/* Between two batches: once a minute, and when a new day begins. */
static void look_after_files(struct store *s)
{
    uint64_t now_us = clock_now_us();
    int64_t today = day_of((int64_t)store_wall_us(s));
    if (now_us < s->next_retain_us && today == s->retained_day)
        return;
    s->next_retain_us = now_us + RETAIN_US;
    s->retained_day = today;
    if (s->db.handle && s->db.day < today)
        db_close(&s->db); /* which empties its WAL into it */
    struct err e = {0};
    if (s->db.handle && db_expire_prompts(&s->db, (int64_t)store_wall_us(s), &e) == 0)
        db_checkpoint(&s->db);
    if (now_us >= s->next_expire_us) {
        s->next_expire_us = now_us + EXPIRE_US;
        expire_prompts(s, today);
    }
    retain(s, today);
}

/* ---- the thread ---- */

/* Waits for rows and swaps the buffers. False: closed, and nothing is left. */
static bool take_rows(struct store *s)
{
    lock_take(&s->mu);
    if (s->filling.n == 0 && !s->closing)
        (void)lock_wait(&s->mu, &s->wake, clock_now_us() + IDLE_US);
    uint64_t until_us = clock_now_us() + BATCH_US;
    while (s->filling.n > 0 && !s->closing && lock_wait(&s->mu, &s->wake, until_us))
        ;
    struct rows empty = s->writing;
    s->writing = s->filling;
    s->filling = empty;
    bool go_on = !s->closing || s->writing.n > 0;
    lock_drop(&s->mu);
    return go_on;
}

/* A directory that cannot be written to is known before the first row comes. */
static void first_open(struct store *s)
{
    struct err e = {0};
    if (open_day(s, day_of((int64_t)store_wall_us(s)), &e) != 0 && e.code != LLMD_EPARSE)
        note_fault(s, &e);
}

void *writer_run(void *store)
{
    struct store *s = store;
    pthread_setname_np(pthread_self(), "llmd-store");
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(),
                      NICENESS); /* of this thread: tokens come first */
    const bool files = s->directory[0] != '\0';
    if (files) {
        first_open(s);
        look_after_files(s);
    }
    while (take_rows(s)) {
        if (s->opts.access_fd > 0)
            write_access_log(s);
        if (files && s->writing.n > 0)
            write_batch(s);
        else if (files && s->failing_since_us != 0)
            try_again(s);
        if (files)
            look_after_files(s);
        s->writing.n_bytes = 0;
        s->writing.n = 0;
    }
    db_close(&s->db);
    return NULL;
}

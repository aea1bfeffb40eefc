/* query_sql.c - the statement for a filter, and what it gives.
 *
 * Conditions are equalities and ranges on columns that each have an index. SQLite, without figures
 * about the values, would guess which index to use; so each that could be is asked how many rows it
 * names, up to PROBE_MAX, and the narrowest is prescribed. Where none is narrow, rows are walked in
 * the order of time, which ends as soon as `limit` of them match. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/store/query_int.h"

enum { PROBE_MAX = 20000, MAX_CONDITIONS = 8 };

struct condition {
    char sql[64];      /* with holes for its values */
    const char *index; /* that serves it */
    const char *text;  /* its value; NULL: numbers */
    int64_t numbers[2];
    uint32_t n_numbers;
    bool with_time; /* an equality: the index goes on with time_us */
};

struct conditions {
    struct condition items[MAX_CONDITIONS];
    uint32_t n;
    int64_t since_us, until_us;
};

static void add_text(struct conditions *c, const char *sql, const char *index, const char *text,
                     bool with_time)
{
    if (!text)
        return;
    struct condition *new = &c->items[c->n++];
    *new = (struct condition){.index = index, .text = text, .with_time = with_time};
    snprintf(new->sql, sizeof(new->sql), "%s", sql);
}

static void add_range(struct conditions *c, const char *column, const char *index, int64_t min,
                      int64_t max)
{
    struct condition *new = &c->items[c->n++];
    bool equal = min == max;
    *new = (struct condition){
        .index = index, .numbers = {min, max}, .n_numbers = equal ? 1 : 2, .with_time = equal};
    snprintf(new->sql, sizeof(new->sql), equal ? "%s=?" : "%s BETWEEN ? AND ?", column);
}

static void gather(const struct store_filter *f, struct conditions *c)
{
    c->since_us = f->since_us;
    c->until_us = f->until_us > 0 ? f->until_us : INT64_MAX;
    /* It names its hole: it stays the first. */
    add_text(c, "id IN(?1,'chatcmpl-'||?1,'cmpl-'||?1)", "requests_id", f->id, false);
    add_text(c, "key=?", "requests_key", f->key, true);
    add_text(c, "model=?", "requests_model", f->model, true);
    add_text(c, "finish=?", "requests_finish", f->finish, true);
    if (f->has_worker)
        add_range(c, "worker", "requests_worker", f->worker, f->worker);
    if (f->status_max > 0)
        add_range(c, "status", "requests_status", f->status_min, f->status_max);
    if (f->slow_us > 0)
        add_range(c, "total_us", "requests_total", f->slow_us, INT64_MAX);
}

/* Binds the condition's values from hole `at` on; returns the next hole. */
static int bind_condition(sqlite3_stmt *q, int at, const struct condition *c)
{
    if (c->text)
        sqlite3_bind_text(q, at++, c->text, -1, SQLITE_STATIC);
    for (uint32_t i = 0; i < c->n_numbers; i++)
        sqlite3_bind_int64(q, at++, c->numbers[i]);
    return at;
}

static int prepare(sqlite3 *db, const struct buf *sql, sqlite3_stmt **out, struct err *e)
{
    if (sql->failed)
        return err_set(e, LLMD_ENOMEM, "out of memory");
    if (sqlite3_prepare_v2(db, buf_str(sql), -1, out, NULL) == SQLITE_OK)
        return 0;
    return err_set(e, LLMD_EIO, "%s", sqlite3_errmsg(db));
}

/* How many rows the condition's index names, at most PROBE_MAX; PROBE_MAX when that fails (a file of
 * a schema without it). */
static int64_t probe(sqlite3 *db, const struct conditions *all, const struct condition *c)
{
    struct buf sql = {0};
    sqlite3_stmt *q = NULL;
    int64_t n = PROBE_MAX;
    buf_addf(&sql, "SELECT count(*) FROM (SELECT 1 FROM requests INDEXED BY %s WHERE %s", c->index,
             c->sql);
    if (c->with_time)
        buf_addstr(&sql, " AND time_us>=? AND time_us<?");
    buf_addf(&sql, " LIMIT %d)", PROBE_MAX);
    if (prepare(db, &sql, &q, NULL) == 0) {
        int at = bind_condition(q, 1, c);
        if (c->with_time) {
            sqlite3_bind_int64(q, at, all->since_us);
            sqlite3_bind_int64(q, at + 1, all->until_us);
        }
        if (sqlite3_step(q) == SQLITE_ROW)
            n = sqlite3_column_int64(q, 0);
    }
    sqlite3_finalize(q);
    buf_fini(&sql);
    return n;
}

/* NULL: in the order of time. */
static const char *choose_index(sqlite3 *db, const struct conditions *all)
{
    const char *best = NULL;
    int64_t best_n = PROBE_MAX;
    for (uint32_t i = 0; i < all->n && best_n > 0; i++) {
        int64_t n = probe(db, all, &all->items[i]);
        if (n < best_n) {
            best_n = n;
            best = all->items[i].index;
        }
    }
    /* One equality alone: its index gives the rows in the order of time, however many. */
    if (!best && all->n == 1 && all->items[0].with_time)
        return all->items[0].index;
    return best ? best : "requests_time";
}

/* Whether the caller wants field i. */
static bool wanted(uint64_t fields, uint32_t i)
{
    return fields == STORE_ALL || (fields >> i & 1) != 0;
}

static bool has_column(sqlite3 *db, const char *table, const char *column)
{
    return sqlite3_table_column_metadata(db, NULL, table, column, NULL, NULL, NULL, NULL, NULL) ==
           SQLITE_OK;
}

/* The columns that are wanted, in the order of the fields; true when `details` has any of them. */
static bool add_columns(sqlite3 *db, uint64_t fields, struct buf *sql)
{
    bool details = false;
    for (uint32_t i = 0; i < STORE_N_FIELDS; i++) {
        const struct store_column *c = &store_columns[i];
        const char *table = c->type == STORE_JSON ? "details" : "requests";
        if (!wanted(fields, i))
            continue;
        if (has_column(db, table, c->name)) {
            buf_addf(sql, "%s.%s,", table, c->name);
            details |= c->type == STORE_JSON;
        } else
            buf_addstr(sql, "NULL,");
    }
    buf_addstr(sql, "requests.seq");
    return details;
}

int query_prepare(sqlite3 *db, const struct query_spec *spec, sqlite3_stmt **out, struct err *e)
{
    struct conditions all = {.n = 0};
    struct buf sql = {0};
    bool by_seq = spec->upto_seq > 0;
    gather(spec->filter, &all);
    buf_addstr(&sql, "SELECT ");
    bool details = add_columns(db, spec->fields, &sql);
    buf_addf(&sql, " FROM requests %s %s", by_seq ? "NOT INDEXED" : "INDEXED BY",
             by_seq ? "" : choose_index(db, &all));
    if (details)
        buf_addstr(&sql, " LEFT JOIN details ON details.seq=requests.seq");
    buf_addstr(&sql, " WHERE ");
    for (uint32_t i = 0; i < all.n; i++)
        buf_addf(&sql, "%s AND ", all.items[i].sql);
    buf_addstr(&sql, "time_us>=? AND time_us<?");
    if (by_seq)
        buf_addstr(&sql, " AND requests.seq>? AND requests.seq<=? ORDER BY requests.seq");
    else if (spec->limit > 0)
        buf_addf(&sql, " ORDER BY time_us DESC LIMIT %u", spec->limit);
    else
        buf_addstr(&sql, " ORDER BY time_us");
    int rc = prepare(db, &sql, out, e);
    buf_fini(&sql);
    if (rc != 0)
        return rc;
    int at = 1;
    for (uint32_t i = 0; i < all.n; i++)
        at = bind_condition(*out, at, &all.items[i]);
    sqlite3_bind_int64(*out, at, all.since_us);
    sqlite3_bind_int64(*out, at + 1, all.until_us);
    if (by_seq) {
        sqlite3_bind_int64(*out, at + 2, spec->after_seq);
        sqlite3_bind_int64(*out, at + 3, spec->upto_seq);
    }
    return 0;
}

void query_read(sqlite3_stmt *q, uint64_t fields, struct store_row *out)
{
    int at = 0;
    store_row_init(out);
    for (uint32_t i = 0; i < STORE_N_FIELDS; i++) {
        if (!wanted(fields, i))
            continue;
        char *to = (char *)out + store_columns[i].offset;
        if (store_columns[i].type != STORE_INT)
            *(const char **)to = (const char *)sqlite3_column_text(q, at);
        else if (sqlite3_column_type(q, at) != SQLITE_NULL)
            *(int64_t *)to = sqlite3_column_int64(q, at);
        at++;
    }
}

/* ---- rows in memory ---- */

int query_list_add(struct query_list *l, const struct store_row *row)
{
    if (l->n == l->cap) {
        uint32_t cap = l->cap ? l->cap * 2 : 64;
        char **rows = realloc(l->rows, cap * sizeof(*rows));
        if (!rows) {
            l->failed = true;
            return -LLMD_ENOMEM;
        }
        l->rows = rows;
        l->cap = cap;
    }
    char *copy = malloc(row_packed_bytes(row));
    if (!copy) {
        l->failed = true;
        return -LLMD_ENOMEM;
    }
    row_pack(row, copy);
    l->rows[l->n++] = copy;
    return 0;
}

void query_list_get(const struct query_list *l, uint32_t i, struct store_row *out)
{
    size_t n_prompt;
    (void)row_unpack(l->rows[i], out, &n_prompt);
}

void query_list_fini(struct query_list *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        free(l->rows[i]);
    free(l->rows);
}

/* query_int.h - from a filter to rows: the statement, its result, rows kept in memory. */
#pragma once
#include "core/store/query.h"

struct sqlite3;
struct sqlite3_stmt;

struct query_spec {
    const struct store_filter *filter;
    uint64_t fields;             /* STORE_ALL: all */
    uint32_t limit;              /* the latest first; 0: all by arrival */
    int64_t after_seq, upto_seq; /* upto_seq > 0: these, in the order of writing */
};

/* Read-only, or as immutable. */
MUST_CHECK int query_open(const char *directory, int64_t day, struct sqlite3 **out, struct err *e);
/* The index that names the fewest rows is used: each that could be is asked for up to 20,000. */
MUST_CHECK int query_prepare(struct sqlite3 *db, const struct query_spec *spec,
                             struct sqlite3_stmt **out, struct err *e);
/* The row that the statement stands at; borrowed until its next step. */
void query_read(struct sqlite3_stmt *q, uint64_t fields, struct store_row *out);

/* Copies of rows. */
struct query_list {
    char **rows; /* [n], packed */
    uint32_t n, cap;
    bool failed; /* out of memory */
};
int query_list_add(struct query_list *l, const struct store_row *row); /* 0, -LLMD_ENOMEM */
void query_list_get(const struct query_list *l, uint32_t i, struct store_row *out);
void query_list_fini(struct query_list *l);

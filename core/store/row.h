/* row.h - what is logged of one request; fields.def is the list.
 *
 * A row borrows its strings. row_pack() copies it with them into bytes that hold no pointer to the
 * outside, row_unpack() reads it there again.
 *
 * Thread  pure functions. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"

struct store_row {
#define ROW_INT(name)     int64_t name;
#define ROW_TEXT(name)    const char *name;
#define ROW_JSON(name)    const char *name;
#define FIELD(type, name) ROW_##type(name)
#include "core/store/fields.def"
#undef FIELD
    const char *prompt; /* [n_prompt] the request's body, to be kept for a while; NULL: not kept */
    size_t n_prompt;
};

enum store_field {
#define FIELD(type, name) STORE_##name,
#include "core/store/fields.def"
#undef FIELD
    STORE_N_FIELDS
};

enum store_type { STORE_INT, STORE_TEXT, STORE_JSON };

struct store_column {
    const char *name;
    enum store_type type;
    size_t offset; /* in struct store_row */
};

extern const struct store_column store_columns[STORE_N_FIELDS];

/* Nothing is known: integers -1, strings NULL. */
void store_row_init(struct store_row *row);
int64_t store_row_int(const struct store_row *row, enum store_field f);
const char *store_row_text(const struct store_row *row, enum store_field f); /* TEXT or JSON */
/* One JSON object on one line: "time" (RFC 3339) and all fields by their names, null where not
 * known. details: with those of type JSON, as JSON. */
void store_row_json(const struct store_row *row, bool details, struct buf *out);
/* "2026-11-21T09:00:00.123456Z". */
enum { STORE_TIME_CHARS = 28 };
void store_time_text(int64_t time_us, char out[STORE_TIME_CHARS]);

enum {
    ROW_TEXT_MAX = 4096,       /* bytes of a TEXT; longer ones are cut */
    ROW_JSON_MAX = 256 * 1024, /* longer ones are left out */
    ROW_PROMPT_MAX = 1 << 20,  /* cut */
};
/* Bytes that the packed row takes, a multiple of 8. */
size_t row_packed_bytes(const struct store_row *row);
/* to: 8-byte aligned, row_packed_bytes() long. */
void row_pack(const struct store_row *row, void *to);
/* Borrows from `from`. Returns its length. */
size_t row_unpack(const void *from, struct store_row *out, size_t *out_prompt_bytes);

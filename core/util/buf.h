/* buf.h - a growing byte string.
 *
 * Invariants  I1: data is NULL or data[len] == '\0', so that it can be read as a C string.
 *             I2: after a failed allocation `failed` stays set and appends do nothing: a writer
 *                 checks once, at the end, instead of after every append.
 * Memory      owned by the buf; buf_steal() gives it away. A zeroed struct is an empty buf.
 * Limit       a buf with max_len > 0 fails rather than grow past it. */
#pragma once
#include "core/util/base.h"

struct buf {
    char *data;
    size_t len;
    size_t cap;
    size_t max_len; /* 0: no limit */
    bool failed;
};

void buf_fini(struct buf *b);
void buf_clear(struct buf *b); /* empties, keeps the memory, clears `failed` */
/* Makes room for n more bytes; false (and failed set) when that is impossible. */
bool buf_reserve(struct buf *b, size_t n);
/* What is added must not lie in the buf itself. */
void buf_add(struct buf *b, const void *data, size_t n);
void buf_addch(struct buf *b, char c);
void buf_addstr(struct buf *b, const char *s);
void buf_addf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Keeps the first len bytes. */
void buf_truncate(struct buf *b, size_t len);
/* Removes the first n bytes. */
void buf_consume(struct buf *b, size_t n);
/* The string, never NULL: "" for an empty buf. Borrowed until the next change. */
const char *buf_str(const struct buf *b);
/* Gives the malloc'ed, NUL-terminated string to the caller and empties the buf, which keeps its
 * limit; NULL, and the buf freed, if it failed. */
char *buf_steal(struct buf *b, size_t *out_len);

/* json_reader.h - reads a JSON text value by value, in its order and without a tree: for files of
 * many megabytes. Strings without escapes are borrowed from the text.
 *
 *     json_reader_init(&r, text, n, &arena, e);
 *     json_open_object(&r);
 *     while (json_next_key(&r, &key))
 *         ... read or skip exactly one value ...
 *     json_end(&r);
 *     return r.rc;
 *
 * Accepts RFC 8259 and nothing else: strings are valid UTF-8, surrogates come in pairs, nesting is
 * limited to JSON_MAX_DEPTH. Keys that occur twice are the caller's business.
 *
 * Errors  sticky: after the first fault (EPARSE with line and column, ENOMEM) every call returns
 *         false and r.rc keeps the code; loops end by themselves.
 * Memory  decoded strings live in the caller's arena, all others in the text. */
#pragma once
#include "core/util/arena.h"
#include "core/util/base.h"
#include "core/util/err.h"

struct json_reader {
    const char *text;
    size_t n, at;
    uint32_t depth;
    bool first; /* a bracket was just opened: no comma is due */
    int rc;
    struct arena *arena;
    struct err *err;
};

/* Not NUL-terminated; may hold any character, U+0000 too. */
struct json_str {
    const char *s;
    size_t n;
};

void json_reader_init(struct json_reader *r, const char *text, size_t n, struct arena *arena,
                      struct err *e);
/* First character of the next value ('{', '[', '"', 't', 'f', 'n', '-' or a digit); 0 at the end,
 * after a fault and where no value can begin. Takes nothing. */
char json_peek(struct json_reader *r);
bool json_open_object(struct json_reader *r);
/* The key of the next member; false when the object is closed, which takes the bracket. */
bool json_next_key(struct json_reader *r, struct json_str *out);
bool json_open_array(struct json_reader *r);
/* Whether an element follows; false when the array is closed, which takes the bracket. */
bool json_next_item(struct json_reader *r);

bool json_read_str(struct json_reader *r, struct json_str *out);
bool json_read_bool(struct json_reader *r, bool *out);
/* An integer without fraction and exponent, 0 to UINT32_MAX. */
bool json_read_u32(struct json_reader *r, uint32_t *out);
/* Takes a null if one is next: false and nothing taken otherwise. */
bool json_read_null(struct json_reader *r);
/* Passes over one value of any kind; out (may be NULL) is its text. */
bool json_skip(struct json_reader *r, struct json_str *out);
/* Nothing but white space is left. */
bool json_end(struct json_reader *r);

bool json_str_is(struct json_str s, const char *text);

/* json.h - JSON in through jansson with limits, JSON out through an escaping writer. */
#pragma once
#include <jansson.h>

#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

enum { JSON_MAX_DEPTH = 128 };

/* Parses n bytes as one JSON text (RFC 8259; any value at the top, NUL allowed inside strings,
 * of duplicate keys the last wins, integers within int64). Nesting beyond JSON_MAX_DEPTH and bytes
 * after the value are refused. EPARSE names line and column; ENOMEM. The caller owns *out (json_decref). */
MUST_CHECK int json_parse(const char *text, size_t n, json_t **out, struct err *e);
/* The same, but all numbers become reals, so that integers may be of any size. */
MUST_CHECK int json_parse_reals(const char *text, size_t n, json_t **out, struct err *e);

/* Appends the quoted, escaped string. Invalid UTF-8 becomes U+FFFD; '<' and '/' stay as they are,
 * non-ASCII is not escaped. */
void json_add_str(struct buf *b, const char *s, size_t n);
void json_add_cstr(struct buf *b, const char *s); /* NULL writes null */
/* The shortest correctly rounded decimal that reads back as the same double; NaN and infinities
 * write null. */
void json_add_double(struct buf *b, double v);

/* sse_parser.h - server-sent events out of bytes that arrive in pieces.
 *
 * Lines end with LF, CR LF or CR; a byte order mark at the start is skipped; comment lines and the
 * fields id and retry are ignored. An event is given out at its empty line, when it has data; what
 * stands behind the last empty line is never given out.
 * Source  WHATWG HTML, section 9.2.6 "Interpreting an event stream". */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

enum { SSE_MAX_EVENT = 16 << 20 };

struct sse_event {
    const char *type; /* "message" unless the stream names another */
    const char *data; /* [n_data], NUL-terminated; its lines joined by LF */
    size_t n_data;
};

/* A zeroed struct is a parser at the start of a stream. */
struct sse_parser {
    struct buf line;
    struct buf type;
    struct buf data;
    bool started; /* behind the place of a byte order mark */
    bool has_data;
    bool after_cr; /* a LF that follows belongs to the line end before */
};

/* Not 0 ends sse_feed, which returns it. The event is borrowed. */
typedef int (*sse_event_fn)(void *ctx, const struct sse_event *event);

/* Takes n bytes. -LLMD_ETOOBIG: a line or an event is longer than SSE_MAX_EVENT; -LLMD_ENOMEM. */
MUST_CHECK int sse_feed(struct sse_parser *p, const char *bytes, size_t n, sse_event_fn on_event,
                        void *ctx, struct err *e);
/* For the next stream; keeps the memory. */
void sse_parser_reset(struct sse_parser *p);
void sse_parser_fini(struct sse_parser *p);

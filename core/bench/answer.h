/* answer.h - what the body of a completion says: text pieces, token counts, how it ended.
 *
 * A stream (server-sent events of /v1/chat/completions or /v1/completions) or one JSON value. Text
 * is noticed, not decoded; it is kept only for conversations. A piece counts as text when it
 * carries content, reasoning, a tool call or text that is not empty; a chunk with a role alone does
 * not.
 *
 * Memory  its bufs keep what they have from one answer to the next: a token costs no allocation. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"
#include "core/util/sse_parser.h"

enum { ANSWER_MAX_BODY = 16 << 20, ANSWER_SHOWN = 200 };

/* A piece of text came; called once for each, before answer_feed returns. */
typedef void (*answer_text_fn)(void *ctx);

struct answer {
    bool stream;    /* else the body is one JSON value */
    bool keep_text; /* collect in text */
    answer_text_fn on_text;
    void *ctx;

    /* What was read. */
    uint32_t n_pieces;
    bool has_usage, done; /* done: [DONE] came, or the JSON value was whole */
    uint32_t prompt_tokens, cached_tokens, completion_tokens; /* with has_usage */
    bool error;                 /* the server sent an error in its stream */
    char message[ANSWER_SHOWN]; /* of the error: printable, cut */
    struct buf text;            /* the inside of a JSON string, escapes and all */

    struct sse_parser events;
    struct buf body;
    struct err *err; /* of the answer_feed under way */
};

/* For a next answer; keeps settings and memory. */
void answer_reset(struct answer *a);
void answer_fini(struct answer *a);
/* Bytes of a 2xx body. EPARSE: an event that is no JSON; ETOOBIG; ENOMEM. */
MUST_CHECK int answer_feed(struct answer *a, const char *bytes, size_t n, struct err *e);
/* The body is over. EIO: it ended before its end; EPARSE. */
MUST_CHECK int answer_end(struct answer *a, struct err *e);
/* The message of an error body ({"error":{"message":"..."}} and its kin), else the start of the
 * body itself: printable. */
void answer_error_text(const char *body, size_t n, char *out, size_t n_out);

/* response.h - one HTTP/1.1 response out of bytes that arrive in pieces.
 *
 * Status, the headers that frame the body (Content-Length, Transfer-Encoding: chunked, Connection),
 * and the body without its chunks. Body bytes are handed on where they lie; only a line that is cut
 * between two pieces is copied, into a buf that keeps its memory, so that a token costs no
 * allocation. Interim responses (1xx) are passed over.
 *
 * Errors  EPARSE: this is no HTTP; ETOOBIG: a line or the header is; ENOMEM; or what on_body
 *         returned. After an error the connection is of no use any more.
 * Source  RFC 9112, sections 4 to 8. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

enum { RESPONSE_MAX_LINE = 16 << 10, RESPONSE_MAX_HEADER = 64 << 10 };

enum response_state {
    RESPONSE_STATUS,
    RESPONSE_HEADER,
    RESPONSE_CHUNK_SIZE,
    RESPONSE_CHUNK_DATA,
    RESPONSE_CHUNK_END,
    RESPONSE_TRAILER,
    RESPONSE_LENGTH,    /* body of a known length */
    RESPONSE_UNTIL_END, /* body ends with the connection */
    RESPONSE_DONE,
};

/* A zeroed struct waits for a status line. */
struct response {
    enum response_state state;
    int status;      /* 0: not known yet */
    bool keep_alive; /* once done: whether the connection may carry another request */
    bool chunked, has_length;
    uint64_t left;     /* of the body or chunk */
    uint32_t n_header; /* bytes of it so far */
    struct buf line;
};

/* Not 0 ends response_feed, which returns it. The bytes are borrowed. */
typedef int (*response_body_fn)(void *ctx, const char *bytes, size_t n);

/* Takes n bytes. Bytes behind the end of the response are no error, but end keep_alive. */
MUST_CHECK int response_feed(struct response *r, const char *bytes, size_t n,
                             response_body_fn on_body, void *ctx, struct err *e);
/* The connection was closed: EIO unless that is how the response ends, or it is done. */
MUST_CHECK int response_close(struct response *r, struct err *e);
/* For the next response on the same connection; keeps the memory. */
void response_reset(struct response *r);
void response_fini(struct response *r);

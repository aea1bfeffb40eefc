/* fetch.h - one request to a target that waits for its answer: which models there are, how long a
 * text is in tokens. Same connection code, headers and certificates as the load.
 *
 * Errors  EIO, ETIMEOUT, EPARSE, ETOOBIG, ECANCELLED, ENOMEM. An HTTP status is no error here. */
#pragma once
#include <jansson.h>

#include "core/bench/target.h"

enum { FETCH_MAX_BODY = 16 << 20 };

struct fetch {
    struct target *target;
    uint64_t timeout_us;
    /* Asked whenever a signal ends a wait, and ten times a second; NULL: never cancelled. */
    bool (*cancelled)(void *ctx);
    void *ctx;
};

/* Connects to the first address of the target that takes a connection, and remembers it there.
 * body NULL: GET. */
MUST_CHECK int fetch_perform(const struct fetch *f, const char *path, const struct buf *body,
                             int *out_status, struct buf *out_body, struct err *e);
/* The same for a JSON answer with status 2xx; others become errors with the server's own message
 * (EAUTH, ENOTFOUND, EIO). The caller owns *out. */
MUST_CHECK int fetch_json(const struct fetch *f, const char *path, const struct buf *body,
                          json_t **out, struct err *e);

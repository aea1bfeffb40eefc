/* answer.h - replies that need nothing of a request but its path: no key, no body, no model. A route
 * that has one (route_answer_of) is answered in one of two ways, to the same bytes:
 *
 *   front_answer.c  the front reads the head and writes the reply itself; libmicrohttpd never hears of
 *                   it. Of what plain_get_read() knows in all, and status 200, which is what those who
 *                   watch us send and get, many times a second
 *   exchange.c      all else: by way of libmicrohttpd
 *
 * Thread  a loop's; an answer takes a snapshot and waits for nothing. */
#pragma once
#include "core/edge/edge_int.h"

struct open_answer {
    unsigned status;
    const char *content_type; /* a constant; NULL: none */
    struct buf body;
};

/* What the front can read without libmicrohttpd: GET PATH HTTP/1.1, without arguments, without a body,
 * with no header field but the common ones that change nothing, Connection, X-Request-Id. */
struct plain_get {
    const char *path, *id; /* in the head; id: the client's X-Request-Id, NULL: none */
    size_t n_path, n_id;
    bool close; /* Connection: close */
};

/* A complete head, as head_scan.h lets it pass, in head[0..n-1]. False: it is something else. */
bool plain_get_read(const char *head, size_t n, struct plain_get *out);
/* Appends what libmicrohttpd writes for a 200: its head and the body. date: as clock_http_date. */
void answer_write(const struct open_answer *a, const char *date, const char *id, bool close,
                  struct buf *out);

/* head_scan.h - a client's bytes as a row of HTTP/1.1 requests, read by one strict rule, before
 * libmicrohttpd sees them.
 *
 * Bytes come in pieces of any size; what they mean does not depend on where they are cut. Each call
 * says of what kind the first bytes are, and how many of them:
 *
 *   SCAN_HEAD       of a head that is not complete yet
 *   SCAN_HEAD_END   the rest of a head, with its blank line; framing says what follows
 *   SCAN_BODY       content, without the marks of chunks
 *   SCAN_SKIP       marks of chunks, trailers, an empty line before a request: nothing to pass on
 *   SCAN_BODY_END   the last marks of a chunked body
 *   SCAN_BAD        no request, from here on: fault and status say why; stays so
 *
 * Refused besides what framing.h refuses: line ends that are not CR LF, lines that go on in the next
 * (obs-fold), control characters, lines without a colon, request lines that are not exactly METHOD SP
 * TARGET SP HTTP/1.x, chunk sizes that are not plain hexadecimal numbers, and heads over the limits.
 *
 * What libmicrohttpd keeps of a head beside its bytes counts, too: an entry for each field, for each
 * argument of the target and for each cookie, and a copy of the cookies. So what passes here fits into
 * SCAN_CONN_BYTES there, whatever comes behind it, and the limits are stated here alone: it reads into half
 * of that at first, grows this by an eighth of what is left while that is 1 KiB or more, and then only
 * for a line that is not complete.
 *
 * Thread  confined to its connection's loop; no memory of its own.
 * Source  RFC 9112 sections 2.2, 3, 5, 7.1. */
#pragma once
#include "core/edge/framing.h"
#include "core/util/base.h"

enum {
    SCAN_HEAD_BYTES = 16 * 1024, /* of a head, with what is kept beside it: */
    SCAN_BESIDE_BYTES = 6656,
    SCAN_ENTRY_BYTES = 64,                    /* of a field, an argument or a cookie */
    SCAN_CONN_BYTES = SCAN_HEAD_BYTES + 2048, /* libmicrohttpd's, with the head of a reply */
    SCAN_FIELDS = 100,
    SCAN_MARK_BYTES = 1024, /* of a chunk's line or of all trailers */
    SCAN_NAME_BYTES = 20,   /* the longest name that matters, and its end */
    SCAN_VALUE_BYTES = 300, /* of a field that matters: a host name of 255 bytes, a port, blanks */
};

enum scan_kind {
    SCAN_HEAD,
    SCAN_HEAD_END,
    SCAN_BODY,
    SCAN_SKIP,
    SCAN_BODY_END,
    SCAN_BAD,
};

struct head_scan {
    uint8_t state;
    uint8_t n_name;         /* of name; SCAN_NAME_BYTES: too long to matter */
    bool trailer;           /* fields follow the last chunk */
    bool blank;             /* an empty line came before this request */
    uint8_t n_digits;       /* of a chunk's size */
    uint16_t n_value;       /* of value; SCAN_VALUE_BYTES: longer */
    uint16_t n_fields;      /* of this head */
    uint32_t n_head;        /* bytes of this head, or of the marks since the last content */
    uint32_t n_beside;      /* bytes that libmicrohttpd keeps of this head beside them */
    uint64_t left;          /* bytes of content until the body or the chunk ends */
    struct framing framing; /* of this request */
    const char *fault;      /* a sentence; NULL: none */
    unsigned status;        /* that answers it: 400, 431 or 505 */
    char version[9];        /* "HTTP/1.1" */
    char name[SCAN_NAME_BYTES];
    char value[SCAN_VALUE_BYTES];
};

void head_scan_init(struct head_scan *s);
/* Reads from data[0..n-1], n > 0. Returns how many bytes are of *out_kind: at least 1, but for
 * SCAN_BAD, 0. */
size_t head_scan_next(struct head_scan *s, const char *data, size_t n, enum scan_kind *out_kind);
/* Content that comes now is of chunks. */
bool head_scan_in_chunks(const struct head_scan *s);
/* No request has begun, or the last is complete. */
bool head_scan_idle(const struct head_scan *s);

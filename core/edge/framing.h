/* framing.h - where a request's body ends, and whom it is for: refuses whatever two readers could
 * read differently.
 *
 * Refused: Content-Length twice or not a plain number, Transfer-Encoding twice, anything but
 * "chunked", both at once, Transfer-Encoding in HTTP/1.0, blanks or other odd bytes in names; Host
 * twice, missing in HTTP/1.1, or not a host with an optional port; Authorization twice.
 * Source  RFC 9110 section 7.2, RFC 9112 sections 3.2, 5.1, 6.1 to 6.3, 11.2. */
#pragma once
#include "core/util/base.h"

struct framing {
    uint32_t n_lengths, n_encodings, n_hosts, n_authorizations;
    bool bad_name, bad_length, bad_encoding, bad_host;
    bool expects; /* Expect: 100-continue */
    uint64_t length;
};

/* Takes one header field; starts from a zeroed struct. */
void framing_header(struct framing *f, const char *name, const char *value);
/* What is wrong, as a sentence; NULL when all is well. version: "HTTP/1.1". */
const char *framing_fault(const struct framing *f, const char *version);
static inline bool framing_chunked(const struct framing *f)
{
    return f->n_encodings > 0;
}
static inline bool framing_has_body(const struct framing *f)
{
    return f->n_encodings > 0 || f->length > 0;
}

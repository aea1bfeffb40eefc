/* protobuf.h - the wire format of Protocol Buffers: writing fields into a buf, reading them from bytes.
 *
 * Messages within messages are opened and closed; nothing is built in between. Field numbers are the
 * caller's, who has the .proto before him. Values are written also when they are the default's: who
 * leaves them out, leaves them out.
 *
 * Thread  pure functions.
 * Errors  a buf that runs out of memory says so at its end (buf.h); reading: EPARSE, without a message.
 * Source  protobuf.dev/programming-guides/encoding */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"

enum pb_type { PB_VARINT = 0, PB_FIXED64 = 1, PB_BYTES = 2, PB_FIXED32 = 5 };
enum { PB_MAX_FIELD = (1 << 29) - 1 };

void pb_uint(struct buf *b, uint32_t field, uint64_t v); /* uint64, bool, enum; int64 by a cast */
void pb_fixed32(struct buf *b, uint32_t field, uint32_t v);
void pb_fixed64(struct buf *b, uint32_t field, uint64_t v);
void pb_double(struct buf *b, uint32_t field, double v);
void pb_bytes(struct buf *b, uint32_t field, const void *data, size_t n);
/* Of at most max bytes; what is not valid UTF-8 is replaced, for readers refuse a whole message for it. */
void pb_text(struct buf *b, uint32_t field, const char *s, size_t max);
/* A message as a field: what is written until pb_close is its content. Returns what pb_close wants. */
size_t pb_open(struct buf *b, uint32_t field);
void pb_close(struct buf *b, size_t opened);

struct pb_field {
    uint32_t number;
    enum pb_type type;
    uint64_t value;       /* of a VARINT, FIXED64, FIXED32 */
    const uint8_t *bytes; /* [n] of BYTES, within what is read */
    size_t n;
};
/* The next field at *at, which moves behind it. 1: there is one, 0: the end, -LLMD_EPARSE. */
MUST_CHECK int pb_next(const uint8_t **at, const uint8_t *end, struct pb_field *out);

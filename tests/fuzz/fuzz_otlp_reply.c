/* fuzz_otlp_reply.c - any bytes as a collector's answer: they are read within their bounds, what is taken
 * from them fits a line of the log, and what they are written as anew reads the same. */
#include <string.h>

#include "core/observe/otlp.h"
#include "core/util/protobuf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Writes one field as it was read. */
static void write_field(struct buf *b, const struct pb_field *f)
{
    if (f->type == PB_VARINT)
        pb_uint(b, f->number, f->value);
    else if (f->type == PB_FIXED64)
        pb_fixed64(b, f->number, f->value);
    else if (f->type == PB_FIXED32)
        pb_fixed32(b, f->number, (uint32_t)f->value);
    else
        pb_bytes(b, f->number, f->bytes, f->n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct otlp_reply said = {0}, again = {0};
    struct buf b = {0};
    struct pb_field f;
    const uint8_t *at = data;
    int rc;
    while ((rc = pb_next(&at, data + n, &f)) == 1)
        write_field(&b, &f);
    const int reply = otlp_read_reply(data, n, &said);
    BUG_ON(memchr(said.why, '\n', sizeof(said.why)) || !memchr(said.why, '\0', sizeof(said.why)));
    if (rc == 0 && !b.failed) {
        BUG_ON(otlp_read_reply(b.data, b.len, &again) != reply);
        BUG_ON(memcmp(&said, &again, sizeof(said)) != 0);
    } else
        BUG_ON(reply == 0);
    (void)!otlp_read_status(data, n, &said);
    buf_fini(&b);
    return 0;
}

#include "core/util/protobuf.h"

#include <string.h>

#include "core/util/err.h"
#include "core/util/utf8.h"

enum { VARINT_MAX = 10, TYPE_BITS = 3 };

/* ---- writing ---- */

static size_t put_varint(uint64_t v, uint8_t out[VARINT_MAX])
{
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        out[n++] = (uint8_t)(v | 0x80);
    out[n++] = (uint8_t)v;
    return n;
}

static void add_varint(struct buf *b, uint64_t v)
{
    uint8_t bytes[VARINT_MAX];
    buf_add(b, bytes, put_varint(v, bytes));
}

static void add_tag(struct buf *b, uint32_t field, enum pb_type type)
{
    add_varint(b, (uint64_t)field << TYPE_BITS | type);
}

/* The lowest n bytes, little-endian. */
static void add_fixed(struct buf *b, uint64_t v, size_t n)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(v >> 8 * i);
    buf_add(b, bytes, n);
}

void pb_uint(struct buf *b, uint32_t field, uint64_t v)
{
    add_tag(b, field, PB_VARINT);
    add_varint(b, v);
}

void pb_fixed32(struct buf *b, uint32_t field, uint32_t v)
{
    add_tag(b, field, PB_FIXED32);
    add_fixed(b, v, sizeof(v));
}

void pb_fixed64(struct buf *b, uint32_t field, uint64_t v)
{
    add_tag(b, field, PB_FIXED64);
    add_fixed(b, v, sizeof(v));
}

void pb_double(struct buf *b, uint32_t field, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    pb_fixed64(b, field, bits);
}

void pb_bytes(struct buf *b, uint32_t field, const void *data, size_t n)
{
    add_tag(b, field, PB_BYTES);
    add_varint(b, n);
    buf_add(b, data, n);
}

void pb_text(struct buf *b, uint32_t field, const char *s, size_t max)
{
    size_t n = strnlen(s, max);
    if (s[n] != '\0')
        n = utf8_safe_prefix(s, n);
    if (utf8_valid(s, n)) {
        pb_bytes(b, field, s, n);
        return;
    }
    const size_t opened = pb_open(b, field);
    utf8_add_lossy(b, s, n);
    pb_close(b, opened);
}

size_t pb_open(struct buf *b, uint32_t field)
{
    add_tag(b, field, PB_BYTES);
    buf_addch(b, '\0'); /* the length, while it fits a byte */
    return b->len;
}

void pb_close(struct buf *b, size_t opened)
{
    static const uint8_t room[VARINT_MAX];
    uint8_t length[VARINT_MAX];
    if (b->failed)
        return;
    const size_t n = b->len - opened, n_length = put_varint(n, length);
    buf_add(b, room, n_length - 1);
    if (b->failed)
        return;
    memmove(b->data + opened + n_length - 1, b->data + opened, n);
    memcpy(b->data + opened - 1, length, n_length);
}

/* ---- reading ---- */

static bool take_varint(const uint8_t **at, const uint8_t *end, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
        const uint8_t byte = *(*at)++;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *out = v;
            return shift < 63 || byte <= 1;
        }
    }
    return false;
}

static bool take_fixed(const uint8_t **at, const uint8_t *end, size_t n, uint64_t *out)
{
    if ((size_t)(end - *at) < n)
        return false;
    *out = 0;
    for (size_t i = 0; i < n; i++)
        *out |= (uint64_t)(*at)[i] << 8 * i;
    *at += n;
    return true;
}

static bool take_value(const uint8_t **at, const uint8_t *end, struct pb_field *f)
{
    uint64_t n;
    switch (f->type) {
    case PB_VARINT:
        return take_varint(at, end, &f->value);
    case PB_FIXED64:
        return take_fixed(at, end, 8, &f->value);
    case PB_FIXED32:
        return take_fixed(at, end, 4, &f->value);
    case PB_BYTES:
        if (!take_varint(at, end, &n) || n > (uint64_t)(end - *at))
            return false;
        f->bytes = *at;
        f->n = (size_t)n;
        *at += n;
        return true;
    }
    return false; /* groups, which nobody writes any more, and what is no type */
}

int pb_next(const uint8_t **at, const uint8_t *end, struct pb_field *out)
{
    struct pb_field f = {0};
    uint64_t tag;
    if (*at == end)
        return 0;
    if (!take_varint(at, end, &tag) || tag >> TYPE_BITS == 0 || tag >> TYPE_BITS > PB_MAX_FIELD)
        return -LLMD_EPARSE;
    f.number = (uint32_t)(tag >> TYPE_BITS);
    f.type = (enum pb_type)(tag & 7);
    if (!take_value(at, end, &f))
        return -LLMD_EPARSE;
    *out = f;
    return 1;
}

#include "core/observe/otlp.h"

#include "core/util/printable.h"
#include "core/util/protobuf.h"

/* Numbers of the fields, by message. */
enum {
    REQUEST_RESOURCE_SPANS = 1,
    RESOURCE_SPANS_RESOURCE = 1,
    RESOURCE_SPANS_SCOPES = 2,
    SCOPE_SPANS_SCOPE = 1,
    SCOPE_SPANS_SPANS = 2,
    SCOPE_NAME = 1,
    SCOPE_VERSION = 2,
    SPAN_TRACE = 1,
    SPAN_ID = 2,
    SPAN_PARENT = 4,
    SPAN_NAME = 5,
    SPAN_KIND = 6,
    SPAN_START = 7,
    SPAN_END = 8,
    SPAN_EVENTS = 11,
    SPAN_STATUS = 15,
    SPAN_FLAGS = 16,
    EVENT_TIME = 1,
    EVENT_NAME = 2,
    STATUS_MESSAGE = 2,
    STATUS_CODE = 3,
    KEY_VALUE_KEY = 1,
    KEY_VALUE_VALUE = 2,
    VALUE_TEXT = 1,
    VALUE_BOOL = 2,
    VALUE_INT = 3,
    VALUE_REAL = 4,
    VALUE_ARRAY = 5,
    ARRAY_VALUES = 1,
    REPLY_PARTIAL = 1,
    PARTIAL_REJECTED = 1,
    PARTIAL_MESSAGE = 2,
    RPC_MESSAGE = 2,
};

enum { STATUS_ERROR = 2 };
/* Flags of a span: those of the trace, whether the parent is known to be, and is, another's. */
enum { FLAG_SAMPLED = 0x01, FLAG_KNOWN_REMOTE = 0x100, FLAG_REMOTE = 0x200 };

const char *otlp_name(enum otlp_name n)
{
    static const char *const names[] = {
#define OTLP_NAME(id, text) [OTLP_##id] = (text),
#include "core/observe/otlp_names.def"
#undef OTLP_NAME
    };
    return names[n];
}

/* ---- spans ---- */

/* Numbers stand in the order of the bytes that headers show. */
static void add_id(struct buf *b, uint32_t field, uint64_t id)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(id >> (56 - 8 * i));
    pb_bytes(b, field, bytes, sizeof(bytes));
}

static void add_error(struct buf *b, const char *why)
{
    const size_t opened = pb_open(b, SPAN_STATUS);
    if (why && why[0])
        pb_text(b, STATUS_MESSAGE, why, OTLP_TEXT_MAX);
    pb_uint(b, STATUS_CODE, STATUS_ERROR);
    pb_close(b, opened);
}

size_t otlp_span_open(struct buf *b, const struct otlp_span *s)
{
    const size_t opened = pb_open(b, SCOPE_SPANS_SPANS);
    pb_bytes(b, SPAN_TRACE, s->trace_id, sizeof(s->trace_id));
    add_id(b, SPAN_ID, s->id);
    if (s->parent != 0)
        add_id(b, SPAN_PARENT, s->parent);
    pb_text(b, SPAN_NAME, s->name, OTLP_TEXT_MAX);
    pb_uint(b, SPAN_KIND, s->kind);
    pb_fixed64(b, SPAN_START, s->start_us * 1000);
    pb_fixed64(b, SPAN_END, u64_max(s->start_us, s->end_us) * 1000);
    if (s->error)
        add_error(b, s->why);
    pb_fixed32(b, SPAN_FLAGS, FLAG_SAMPLED | FLAG_KNOWN_REMOTE | (s->remote ? FLAG_REMOTE : 0));
    return opened;
}

size_t otlp_event_open(struct buf *b, const char *name, uint64_t at_us)
{
    const size_t opened = pb_open(b, SPAN_EVENTS);
    pb_fixed64(b, EVENT_TIME, at_us * 1000);
    pb_text(b, EVENT_NAME, name, OTLP_TEXT_MAX);
    return opened;
}

void otlp_close(struct buf *b, size_t opened)
{
    pb_close(b, opened);
}

/* ---- attributes ---- */

struct attribute {
    size_t pair, value;
};

static struct attribute open_attribute(struct buf *b, enum otlp_of of, const char *name)
{
    struct attribute a = {.pair = pb_open(b, of)};
    pb_text(b, KEY_VALUE_KEY, name, OTLP_TEXT_MAX);
    a.value = pb_open(b, KEY_VALUE_VALUE);
    return a;
}

static void close_attribute(struct buf *b, const struct attribute *a)
{
    pb_close(b, a->value);
    pb_close(b, a->pair);
}

void otlp_named(struct buf *b, enum otlp_of of, const char *name, const char *value)
{
    const struct attribute a = open_attribute(b, of, name);
    pb_text(b, VALUE_TEXT, value, OTLP_TEXT_MAX);
    close_attribute(b, &a);
}

void otlp_text(struct buf *b, enum otlp_of of, enum otlp_name name, const char *value)
{
    otlp_named(b, of, otlp_name(name), value);
}

void otlp_int(struct buf *b, enum otlp_of of, enum otlp_name name, int64_t value)
{
    const struct attribute a = open_attribute(b, of, otlp_name(name));
    pb_uint(b, VALUE_INT, (uint64_t)value);
    close_attribute(b, &a);
}

void otlp_bool(struct buf *b, enum otlp_of of, enum otlp_name name, bool value)
{
    const struct attribute a = open_attribute(b, of, otlp_name(name));
    pb_uint(b, VALUE_BOOL, value);
    close_attribute(b, &a);
}

void otlp_real(struct buf *b, enum otlp_of of, enum otlp_name name, double value)
{
    const struct attribute a = open_attribute(b, of, otlp_name(name));
    pb_double(b, VALUE_REAL, value);
    close_attribute(b, &a);
}

void otlp_texts(struct buf *b, enum otlp_of of, enum otlp_name name, const char *const *values,
                uint32_t n)
{
    const struct attribute a = open_attribute(b, of, otlp_name(name));
    const size_t array = pb_open(b, VALUE_ARRAY);
    for (uint32_t i = 0; i < n; i++) {
        const size_t value = pb_open(b, ARRAY_VALUES);
        pb_text(b, VALUE_TEXT, values[i], OTLP_TEXT_MAX);
        pb_close(b, value);
    }
    pb_close(b, array);
    close_attribute(b, &a);
}

/* ---- what is sent ---- */

void otlp_request(struct buf *b, const struct buf *resource, const void *spans, size_t n)
{
    const size_t all = pb_open(b, REQUEST_RESOURCE_SPANS);
    pb_bytes(b, RESOURCE_SPANS_RESOURCE, buf_str(resource), resource->len);
    const size_t scopes = pb_open(b, RESOURCE_SPANS_SCOPES);
    const size_t scope = pb_open(b, SCOPE_SPANS_SCOPE);
    pb_text(b, SCOPE_NAME, "llmd", OTLP_TEXT_MAX);
    pb_text(b, SCOPE_VERSION, LLMD_VERSION, OTLP_TEXT_MAX);
    pb_close(b, scope);
    buf_add(b, spans, n);
    pb_close(b, scopes);
    pb_close(b, all);
}

/* ---- what is answered ---- */

static void take_text(const struct pb_field *f, char *out, size_t n_out)
{
    printable_text((const char *)f->bytes, f->n, "", out, n_out);
}

static int read_partial(const struct pb_field *partial, struct otlp_reply *out)
{
    const uint8_t *at = partial->bytes, *end = at + partial->n;
    struct pb_field f;
    int rc;
    while ((rc = pb_next(&at, end, &f)) == 1) {
        if (f.number == PARTIAL_REJECTED && f.type == PB_VARINT && (int64_t)f.value > 0)
            out->n_rejected = f.value;
        if (f.number == PARTIAL_MESSAGE && f.type == PB_BYTES)
            take_text(&f, out->why, sizeof(out->why));
    }
    return rc;
}

int otlp_read_reply(const void *bytes, size_t n, struct otlp_reply *out)
{
    const uint8_t *at = bytes, *end = n ? at + n : at;
    struct otlp_reply reply = {0};
    struct pb_field f;
    int rc;
    while ((rc = pb_next(&at, end, &f)) == 1)
        if (f.number == REPLY_PARTIAL && f.type == PB_BYTES && read_partial(&f, &reply) != 0)
            return -LLMD_EPARSE;
    if (rc == 0)
        *out = reply;
    return rc;
}

int otlp_read_status(const void *bytes, size_t n, struct otlp_reply *out)
{
    const uint8_t *at = bytes, *end = n ? at + n : at;
    struct otlp_reply reply = {0};
    struct pb_field f;
    int rc;
    while ((rc = pb_next(&at, end, &f)) == 1)
        if (f.number == RPC_MESSAGE && f.type == PB_BYTES)
            take_text(&f, reply.why, sizeof(reply.why));
    if (rc == 0)
        *out = reply;
    return rc;
}

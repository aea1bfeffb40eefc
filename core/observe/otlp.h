/* otlp.h - spans as the OpenTelemetry protocol (OTLP 1, protobuf encoding) wants them.
 *
 * A request's spans are written one behind the other into one buf, each as the field `spans` of
 * ScopeSpans, so that whoever sends them puts an envelope around as many as there are, without looking
 * into them:
 *
 *   otlp_span_open(b, &span) ... otlp_int(b, OTLP_OF_SPAN, ...) ... otlp_event_open(b) ... otlp_close(b, at)
 *
 * Protobuf rather than JSON: both are taken on port 4318 by Tempo and by the OpenTelemetry Collector,
 * but protobuf is what every receiver must take, is a third of the size, and costs no printing of
 * numbers at the end of a request.
 *
 * Texts are cut at OTLP_TEXT_MAX bytes and made valid UTF-8.
 *
 * Thread  pure functions.
 * Source  opentelemetry-proto 1.x: trace/v1/trace.proto, collector/trace/v1/trace_service.proto */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

enum { OTLP_TRACE_BYTES = 16, OTLP_TEXT_MAX = 1024 };

enum otlp_name {
#define OTLP_NAME(id, text) OTLP_##id,
#include "core/observe/otlp_names.def"
#undef OTLP_NAME
};
const char *otlp_name(enum otlp_name n);

enum otlp_kind { OTLP_INTERNAL = 1, OTLP_SERVER = 2 };

struct otlp_span {
    uint8_t trace_id[OTLP_TRACE_BYTES];
    uint64_t id;     /* not 0 */
    uint64_t parent; /* 0: none */
    bool remote;     /* the parent is another process's */
    enum otlp_kind kind;
    const char *name;
    uint64_t start_us, end_us; /* since 1970; an end before the start becomes the start */
    bool error;
    const char *why; /* of an error */
};

/* What an attribute belongs to. */
enum otlp_of { OTLP_OF_RESOURCE = 1, OTLP_OF_EVENT = 3, OTLP_OF_SPAN = 9 };

/* Begin a span; an event of the span that is open; both return what otlp_close wants. */
size_t otlp_span_open(struct buf *b, const struct otlp_span *s);
size_t otlp_event_open(struct buf *b, const char *name, uint64_t at_us);
void otlp_close(struct buf *b, size_t opened);

void otlp_text(struct buf *b, enum otlp_of of, enum otlp_name name, const char *value);
void otlp_int(struct buf *b, enum otlp_of of, enum otlp_name name, int64_t value);
void otlp_bool(struct buf *b, enum otlp_of of, enum otlp_name name, bool value);
void otlp_real(struct buf *b, enum otlp_of of, enum otlp_name name, double value);
void otlp_texts(struct buf *b, enum otlp_of of, enum otlp_name name, const char *const *values,
                uint32_t n);
/* Of any name: what the configuration says of the resource. */
void otlp_named(struct buf *b, enum otlp_of of, const char *name, const char *value);

/* One ExportTraceServiceRequest: the attributes of the resource, and spans of many requests. */
void otlp_request(struct buf *b, const struct buf *resource, const void *spans, size_t n);

/* What a receiver's answer says. */
struct otlp_reply {
    uint64_t n_rejected; /* spans */
    char why[256];       /* "": nothing was said */
};
/* An ExportTraceServiceResponse, the answer with status 200. Errors: EPARSE. */
MUST_CHECK int otlp_read_reply(const void *bytes, size_t n, struct otlp_reply *out);
/* A google.rpc.Status, the answer with any other. Errors: EPARSE. */
MUST_CHECK int otlp_read_status(const void *bytes, size_t n, struct otlp_reply *out);

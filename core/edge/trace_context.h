/* trace_context.h - the header traceparent: which trace a request is a part of.
 *
 *   00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
 *   version, trace-id, parent-id, flags: hexadecimal, in lower case
 *
 * A request with a valid one is a span of its own in the same trace: the reply names it. Without one
 * there is no trace, or a new one. Pure functions.
 * Source  W3C Trace Context, sections 3.2 and 4. */
#pragma once
#include "core/util/base.h"

enum { TRACE_ID_DIGITS = 32, SPAN_ID_DIGITS = 16, TRACEPARENT_BYTES = 56 };

struct trace_context {
    char trace_id[TRACE_ID_DIGITS + 1]; /* "": none */
    char span_id[SPAN_ID_DIGITS + 1];   /* the request's own */
    char parent_id[SPAN_ID_DIGITS + 1]; /* the client's; "": none */
    uint8_t flags;                      /* TRACE_SAMPLED and what we do not know */
};
enum { TRACE_SAMPLED = 1 }; /* the trace is recorded */

/* Whether the value says which trace. Of versions to come what version 00 has is read. span: the new
 * span's number, not 0. On failure *out is no trace. */
bool trace_context_take(const char *value, uint64_t span, struct trace_context *out);
/* The trace's id when it is recorded, so that it can be looked up; else NULL. Borrowed. */
const char *trace_context_recorded(const struct trace_context *t);
/* A trace that begins here and is recorded; its id and the span's are not 0. */
void trace_context_begin(uint64_t id_high, uint64_t id_low, uint64_t span,
                         struct trace_context *out);
/* The header that names the request's span. */
void trace_context_write(const struct trace_context *t, char out[TRACEPARENT_BYTES]);

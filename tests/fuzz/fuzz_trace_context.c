/* fuzz_trace_context.c - any text as a traceparent: what is taken for one is written as a valid one of
 * the same trace. */
#include <string.h>

#include "core/edge/trace_context.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char value[256], written[TRACEPARENT_BYTES];
    struct trace_context t, again;
    if (n >= sizeof(value) || memchr(data, 0, n))
        return 0;
    memcpy(value, data, n);
    value[n] = '\0';
    if (!trace_context_take(value, 7, &t)) {
        BUG_ON(t.trace_id[0] != '\0');
        return 0;
    }
    BUG_ON(strlen(t.trace_id) != TRACE_ID_DIGITS || !strstr(value, t.trace_id));
    trace_context_write(&t, written);
    BUG_ON(!trace_context_take(written, 8, &again));
    BUG_ON(strcmp(t.trace_id, again.trace_id) != 0 || strcmp(t.span_id, again.span_id) == 0);
    return 0;
}

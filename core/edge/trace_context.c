#include "core/edge/trace_context.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VERSION_DIGITS = 2, FLAGS_DIGITS = 2, KNOWN_FLAGS = 3 /* sampled, random trace-id */ };

/* n hexadecimal digits, not all of them zero unless zeros are good; moves behind them. */
static bool take_digits(const char **at, size_t n, bool zeros, char *out)
{
    static const char hex[] = "0123456789abcdef";
    if (strspn(*at, hex) != n || (!zeros && strspn(*at, "0") >= n))
        return false;
    memcpy(out, *at, n);
    out[n] = '\0';
    *at += n;
    return true;
}

static bool take_dash(const char **at)
{
    if (**at != '-')
        return false;
    (*at)++;
    return true;
}

bool trace_context_take(const char *value, uint64_t span, struct trace_context *out)
{
    struct trace_context t = {.flags = 0};
    char version[VERSION_DIGITS + 1], flags[FLAGS_DIGITS + 1];
    out->trace_id[0] = '\0';
    if (!take_digits(&value, VERSION_DIGITS, true, version) || strcmp(version, "ff") == 0 ||
        !take_dash(&value) || !take_digits(&value, TRACE_ID_DIGITS, false, t.trace_id) ||
        !take_dash(&value) || !take_digits(&value, SPAN_ID_DIGITS, false, t.parent_id) ||
        !take_dash(&value) || !take_digits(&value, FLAGS_DIGITS, true, flags))
        return false;
    if (*value != '\0' && (strcmp(version, "00") == 0 || *value != '-'))
        return false;
    t.flags = (uint8_t)(strtoul(flags, NULL, 16) & KNOWN_FLAGS);
    snprintf(t.span_id, sizeof(t.span_id), "%016" PRIx64, span);
    *out = t;
    return true;
}

const char *trace_context_recorded(const struct trace_context *t)
{
    return t->trace_id[0] && (t->flags & TRACE_SAMPLED) ? t->trace_id : NULL;
}

void trace_context_begin(uint64_t id_high, uint64_t id_low, uint64_t span,
                         struct trace_context *out)
{
    *out = (struct trace_context){.flags = TRACE_SAMPLED};
    snprintf(out->trace_id, sizeof(out->trace_id), "%016" PRIx64 "%016" PRIx64, id_high, id_low);
    snprintf(out->span_id, sizeof(out->span_id), "%016" PRIx64, span);
}

void trace_context_write(const struct trace_context *t, char out[TRACEPARENT_BYTES])
{
    snprintf(out, TRACEPARENT_BYTES, "00-%s-%s-%02x", t->trace_id, t->span_id, t->flags);
}

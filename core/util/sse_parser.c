#include "core/util/sse_parser.h"

#include <string.h>

static int dispatch(struct sse_parser *p, sse_event_fn on_event, void *ctx)
{
    int rc = 0;
    if (p->has_data) {
        struct sse_event event = {
            .type = p->type.len ? buf_str(&p->type) : "message",
            .data = buf_str(&p->data),
            .n_data = p->data.len,
        };
        rc = on_event(ctx, &event);
    }
    buf_clear(&p->data);
    buf_clear(&p->type);
    p->has_data = false;
    return rc;
}

/* The line without its end: "field: value", ": comment" or "field". */
static void take_field(struct sse_parser *p, const char *line, size_t n)
{
    const char *colon = memchr(line, ':', n);
    size_t n_name = colon ? (size_t)(colon - line) : n;
    const char *value = colon ? colon + 1 : line + n;
    if (colon && value < line + n && *value == ' ')
        value++;
    size_t n_value = (size_t)(line + n - value);
    if (n_name == 4 && memcmp(line, "data", 4) == 0) {
        if (p->has_data)
            buf_addch(&p->data, '\n');
        buf_add(&p->data, value, n_value);
        p->has_data = true;
    } else if (n_name == 5 && memcmp(line, "event", 5) == 0 && !memchr(value, '\0', n_value)) {
        /* A type is handed on as a C string: one that holds a NUL is passed over. */
        buf_clear(&p->type);
        buf_add(&p->type, value, n_value);
    }
}

/* A whole line, without its end. */
static int take_line(struct sse_parser *p, const char *line, size_t n, sse_event_fn on_event,
                     void *ctx)
{
    static const char bom[] = "\xef\xbb\xbf";
    if (!p->started && n >= 3 && memcmp(line, bom, 3) == 0) {
        line += 3;
        n -= 3;
    }
    p->started = true;
    if (n == 0)
        return dispatch(p, on_event, ctx);
    take_field(p, line, n);
    return 0;
}

/* The end of a line was found behind these bytes: it is taken where it lies, unless it began in an
 * earlier piece. */
static int end_line(struct sse_parser *p, const char *bytes, size_t n, sse_event_fn on_event,
                    void *ctx)
{
    if (p->line.len == 0)
        return take_line(p, bytes, n, on_event, ctx);
    buf_add(&p->line, bytes, n);
    if (p->line.failed)
        return 0; /* check_room reports it */
    int rc = take_line(p, p->line.data, p->line.len, on_event, ctx);
    buf_clear(&p->line);
    return rc;
}

/* For n more bytes of the line. */
static int check_room(const struct sse_parser *p, size_t n, struct err *e)
{
    if (n > SSE_MAX_EVENT || p->line.len + p->data.len + n > SSE_MAX_EVENT)
        return err_set(e, LLMD_ETOOBIG, "an event of the stream is larger than %d bytes",
                       SSE_MAX_EVENT);
    if (p->line.failed || p->data.failed || p->type.failed)
        return err_set(e, LLMD_ENOMEM, "out of memory for an event of the stream");
    return 0;
}

int sse_feed(struct sse_parser *p, const char *bytes, size_t n, sse_event_fn on_event, void *ctx,
             struct err *e)
{
    for (size_t i = 0; i < n;) {
        if (p->after_cr && bytes[i] == '\n') {
            p->after_cr = false;
            i++;
            continue;
        }
        p->after_cr = false;
        size_t k = i;
        while (k < n && bytes[k] != '\n' && bytes[k] != '\r')
            k++;
        int rc = check_room(p, k - i, e);
        if (rc == 0 && k < n) {
            p->after_cr = bytes[k] == '\r';
            rc = end_line(p, bytes + i, k - i, on_event, ctx);
        } else if (rc == 0)
            buf_add(&p->line, bytes + i, k - i);
        i = k + 1;
        if (rc == 0)
            rc = check_room(p, 0, e);
        if (rc != 0)
            return rc;
    }
    return 0;
}

void sse_parser_reset(struct sse_parser *p)
{
    struct sse_parser fresh = {.line = p->line, .type = p->type, .data = p->data};
    buf_clear(&fresh.line);
    buf_clear(&fresh.type);
    buf_clear(&fresh.data);
    *p = fresh;
}

void sse_parser_fini(struct sse_parser *p)
{
    buf_fini(&p->line);
    buf_fini(&p->type);
    buf_fini(&p->data);
    *p = (struct sse_parser){0};
}

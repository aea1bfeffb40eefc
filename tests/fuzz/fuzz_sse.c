/* fuzz_sse.c - any bytes as an event stream, in one piece and cut in two places: the same events. */
#include <stdlib.h>
#include <string.h>

#include "core/util/sse_parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int note(void *ctx, const struct sse_event *e)
{
    struct buf *b = ctx;
    BUG_ON(strlen(e->type) == 0 || e->data[e->n_data] != '\0');
    buf_addf(b, "%s=", e->type);
    buf_add(b, e->data, e->n_data);
    buf_addch(b, ';');
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct sse_parser whole = {0}, cut = {0};
    struct buf a = {0}, b = {0};
    const char *bytes = (const char *)data + 1;
    if (n-- == 0)
        return 0;
    size_t at = n * data[0] / 255;
    BUG_ON(sse_feed(&whole, bytes, n, note, &a, NULL) != 0);
    BUG_ON(sse_feed(&cut, bytes, at, note, &b, NULL) != 0);
    BUG_ON(sse_feed(&cut, bytes + at, n - at, note, &b, NULL) != 0);
    BUG_ON(a.len != b.len || memcmp(buf_str(&a), buf_str(&b), a.len) != 0);
    buf_fini(&a);
    buf_fini(&b);
    sse_parser_fini(&whole);
    sse_parser_fini(&cut);
    return 0;
}

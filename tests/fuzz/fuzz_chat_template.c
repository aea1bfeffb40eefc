/* fuzz_chat_template.c - any template over any context. The first two bytes are the length of the
 * template (little endian), the rest of the input is the context as JSON. A rendering must end at
 * its limits, give valid UTF-8, and give the same twice; a refusal is one line. */
#include <stdlib.h>
#include <string.h>

#include "core/model/chat_template.h"
#include "core/util/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_refusal(const struct err *e, int rc)
{
    if (rc != -e->code || !e->msg[0])
        abort();
    for (const char *p = e->msg; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            abort();
}

static void render(const struct chat_template *t, const json_t *context)
{
    static const struct chat_template_limits limits = {.max_steps = 20000,
                                                       .max_depth = 200,
                                                       .max_output_bytes = 1 << 16,
                                                       .max_memory_bytes = 1 << 20,
                                                       .now_unix_s = 1721997296};
    struct buf first = {0}, second = {0};
    struct err e = {0}, e2 = {0};
    buf_addstr(&first, "kept");
    int rc = chat_template_render(t, context, &limits, &first, &e);
    if (memcmp(first.data, "kept", 4) != 0 || !utf8_valid(first.data, first.len) ||
        first.len - 4 > limits.max_output_bytes)
        abort();
    if (rc) {
        check_refusal(&e, rc);
        if (first.len != 4)
            abort();
    }
    if (chat_template_render(t, context, &limits, &second, &e2) != rc ||
        second.len != first.len - 4 || memcmp(buf_str(&second), first.data + 4, second.len) != 0)
        abort();
    buf_fini(&first);
    buf_fini(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct chat_template *t;
    struct err e = {0};
    if (n < 2)
        return 0;
    size_t len = (size_t)data[0] | (size_t)data[1] << 8;
    const char *text = (const char *)data + 2;
    n -= 2;
    if (len > n)
        len = n;
    int rc = chat_template_parse(text, len, &t, &e);
    if (rc) {
        check_refusal(&e, rc);
        return 0;
    }
    json_t *context = json_loadb(text + len, n - len, JSON_ALLOW_NUL, NULL);
    if (!json_is_object(context)) {
        json_decref(context);
        context = json_object();
    }
    render(t, context);
    json_decref(context);
    chat_template_free(t);
    return 0;
}

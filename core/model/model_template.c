/* model_template.c - the chat template of a model, whatever file it came from; names that may be
 * shown. */
#include <stdlib.h>
#include <string.h>

#include "core/model/model_int.h"
#include "core/util/printable.h"
#include "core/util/utf8.h"

static int parse(const char *source, size_t n, struct chat_template **out, struct err *e)
{
    if (!utf8_valid(source, n) || memchr(source, '\0', n))
        return err_set(e, LLMD_EPARSE, "not valid UTF-8 text");
    return chat_template_parse(source, n, out, e);
}

int model_set_template(struct model *m, char *source, size_t n, char *origin, struct err *e)
{
    struct err why = {0};
    BUG_ON(m->chat_template || m->chat_template_origin);
    m->chat_template_origin = origin;
    int rc = parse(source, n, &m->chat_template, &why);
    if (rc == 0) {
        m->chat_template_source = source;
        return 0;
    }
    free(source);
    if (rc != -LLMD_ENOMEM)
        m->chat_template_fault = strdup(why.msg);
    return m->chat_template_fault ? 0 : err_set(e, LLMD_ENOMEM, "%s: out of memory", m->path);
}

bool model_name_is_fit(const char *s, size_t n)
{
    uint32_t cp;
    if (n == 0 || n > 256)
        return false;
    for (size_t i = 0, k; i < n; i += k) {
        k = utf8_decode(s + i, n - i, &cp);
        if (k == 0 || !cp_printable(cp))
            return false;
    }
    return true;
}

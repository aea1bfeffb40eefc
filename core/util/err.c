#include "core/util/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct code_info {
    const char *text, *type;
    int status;
    bool retryable;
};

static const struct code_info infos[] = {
#define X(name, number, text, status, type, retryable) [number] = {text, type, status, retryable},
    LLMD_ERRORS(X)
#undef X
};

static const struct code_info *info(int code)
{
    if (code < 0)
        code = -code;
    if (code <= 0 || (size_t)code >= ARRAY_LEN(infos))
        code = LLMD_EINTERNAL;
    return &infos[code];
}

PRINTF_LIKE(6, 0)
static void set_v(struct err *e, int code, const char *param, const char *file, int line,
                  const char *fmt, va_list ap)
{
    if (!e || e->code)
        return;
    e->code = code;
    e->file = file;
    e->line = line;
    snprintf(e->param, sizeof(e->param), "%s", param);
    vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
}

int err_set_at(struct err *e, int code, const char *file, int line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    set_v(e, code, "", file, line, fmt, ap);
    va_end(ap);
    return -code;
}

int err_set_param_at(struct err *e, int code, const char *param, const char *file, int line,
                     const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    set_v(e, code, param, file, line, fmt, ap);
    va_end(ap);
    return -code;
}

void err_prefix(struct err *e, const char *fmt, ...)
{
    if (!e || !e->code)
        return;
    char old[sizeof(e->msg)];
    memcpy(old, e->msg, sizeof(old));
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof(e->msg))
        snprintf(e->msg + n, sizeof(e->msg) - (size_t)n, "%s", old);
}

void err_clear(struct err *e)
{
    if (e)
        *e = (struct err){0};
}

const char *err_text(int code)
{
    return info(code)->text;
}

int err_http_status(int code)
{
    return info(code)->status;
}

const char *err_openai_type(int code)
{
    return info(code)->type;
}

bool err_retryable(int code)
{
    return info(code)->retryable;
}

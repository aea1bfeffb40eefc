/* err.h - error codes and the message that travels with one.
 *
 * A function that can fail returns 0 or a negative code (-LLMD_EPARSE). When it takes a
 * `struct err *`, it also writes there what failed, where and how to mend it. The first writer
 * wins: a caller that adds context calls err_prefix(). A NULL err is allowed everywhere.
 *
 * Each code knows the HTTP status and OpenAI error type that the edge answers with, and whether
 * the same request may succeed later or elsewhere. */
#pragma once
#include "core/util/base.h"

/* code, number, text, HTTP status, OpenAI type, retryable */
#define LLMD_ERRORS(X)                                                                             \
    X(ENOMEM, 1, "out of memory", 503, "ServiceUnavailableError", true)                            \
    X(EFULL, 2, "queue or pool is full", 503, "ServiceUnavailableError", true)                     \
    X(EINVAL, 3, "invalid value", 400, "BadRequestError", false)                                   \
    X(EPARSE, 4, "malformed input", 400, "BadRequestError", false)                                 \
    X(ENOTFOUND, 5, "not found", 404, "NotFoundError", false)                                      \
    X(EUNSUPPORTED, 6, "not supported", 400, "BadRequestError", false)                             \
    X(ETOOBIG, 7, "too large", 413, "RequestTooLargeError", false)                                 \
    X(ECONTEXT, 8, "context length exceeded", 400, "BadRequestError", false)                       \
    X(EAUTH, 9, "not authenticated", 401, "AuthenticationError", false)                            \
    X(EIO, 10, "input/output error", 500, "InternalServerError", true)                             \
    X(ELIMIT, 11, "a limit was reached", 400, "BadRequestError", false)                            \
    X(ECANCELLED, 12, "cancelled", 499, "Cancelled", false)                                        \
    X(EDRAINING, 13, "the server is shutting down", 503, "ServiceUnavailableError", true)          \
    X(ENOTREADY, 14, "no worker is ready", 503, "ServiceUnavailableError", true)                   \
    X(EWORKER, 15, "the worker failed", 503, "ServiceUnavailableError", true)                      \
    X(EGPU, 16, "the GPU reported an error", 500, "InternalServerError", true)                     \
    X(ETIMEOUT, 17, "timed out", 504, "TimeoutError", true)                                        \
    X(EINTERNAL, 18, "internal error", 500, "InternalServerError", false)                          \
    X(EPOISONED, 19, "the device needs a new process", 503, "ServiceUnavailableError", true)       \
    X(ERATE, 20, "a rate limit was reached", 429, "RateLimitError", true)

enum llmd_error {
    LLMD_OK = 0,
#define X(name, number, text, status, type, retryable) LLMD_##name = (number),
    LLMD_ERRORS(X)
#undef X
};

struct err {
    int code;         /* enum llmd_error, 0 while nothing failed */
    char msg[512];    /* one line, no trailing newline or full stop */
    char param[64];   /* the request field or option at fault, "" when none applies */
    const char *file; /* source position of the first writer */
    int line;
};

/* Records code and message unless e already holds an error. Returns -code. (The code passes
 * through err_code at the call, so that compilers see that a failure is not 0.) */
#define err_set(e, code, ...)                                                                      \
    err_code((code), err_set_at((e), (code), __FILE__, __LINE__, __VA_ARGS__))
static inline int err_code(int code, int recorded)
{
    (void)recorded;
    return -code;
}
int err_set_at(struct err *e, int code, const char *file, int line, const char *fmt, ...)
    PRINTF_LIKE(5, 6);

/* As err_set, naming the request field or option at fault. */
#define err_set_param(e, code, param, ...)                                                         \
    err_code((code), err_set_param_at((e), (code), (param), __FILE__, __LINE__, __VA_ARGS__))
int err_set_param_at(struct err *e, int code, const char *param, const char *file, int line,
                     const char *fmt, ...) PRINTF_LIKE(6, 7);

/* Puts context in front of the message: err_prefix(e, "%s: ", path). */
void err_prefix(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);
void err_clear(struct err *e);

/* Properties of a code; its sign does not matter. Unknown codes read as EINTERNAL. */
const char *err_text(int code);
int err_http_status(int code);
const char *err_openai_type(int code);
bool err_retryable(int code);

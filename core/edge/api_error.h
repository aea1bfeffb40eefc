/* api_error.h - OpenAI error objects: {"error":{"message","type","param","code"}}. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

/* code_word NULL: the code is the HTTP status as a number. param NULL or "": null. */
void api_error_write(struct buf *out, unsigned status, const char *type, const char *code_word,
                     const char *param, const char *message);
/* The object that says what e says. */
void api_error_add(struct buf *out, const struct err *e);

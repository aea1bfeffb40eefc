/* config_lex_int.h - tokens of a configuration file.
 *
 *   word     letters, digits and _ - . : / @ %
 *   string   "..." with \" and \\, or '...' with \' and \\; on one line; ${ only in '...'
 *   comment  from a hash or two slashes to the end of the line, or between slash-star and star-slash
 *
 * Every fault of the lexical level ends the scan: what follows could not be understood rightly. */
#pragma once
#include "core/config/config_int.h"

enum config_token_kind {
    TOKEN_END,
    TOKEN_WORD,
    TOKEN_STRING,
    TOKEN_OPEN,
    TOKEN_CLOSE,
    TOKEN_EQUALS,
    TOKEN_COMMA,
    TOKEN_FAULT, /* the message has been written */
};

struct config_token {
    enum config_token_kind kind;
    int line;
    const char *text; /* of words and strings: decoded, in the context's scratch memory */
};

struct config_lexer {
    struct config_ctx *ctx;
    const char *s;
    size_t n, at;
    int line;
};

/* Refuses text that holds NUL or control characters or is not UTF-8; false after a fault. */
bool config_lex_begin(struct config_lexer *l, struct config_ctx *c, const char *text, size_t n);
struct config_token config_lex(struct config_lexer *l);

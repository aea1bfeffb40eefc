#include "core/config/config_lex_int.h"

#include <stdio.h>
#include <string.h>

#include "core/util/printable.h"
#include "core/util/utf8.h"

bool config_lex_begin(struct config_lexer *l, struct config_ctx *c, const char *text, size_t n)
{
    *l = (struct config_lexer){.ctx = c, .s = text, .n = n, .line = 1};
    int line = 1;
    for (size_t i = 0, used; i < n; i += used) {
        uint32_t cp;
        bool line_end = text[i] == '\n' || (text[i] == '\r' && i + 1 < n && text[i + 1] == '\n');
        used = utf8_decode(text + i, n - i, &cp);
        if (used > 0 && (cp_printable(cp) || text[i] == '\t' || line_end)) {
            line += text[i] == '\n';
            continue;
        }
        char shown[PRINTABLE_ESCAPE_MAX];
        size_t n_shown;
        printable_next(text + i, n - i, shown, &n_shown);
        config_fault(c, line, NULL, "%s %.*s: a configuration is plain UTF-8 text",
                     used == 0 ? "invalid byte" : "character", (int)n_shown, shown);
        return false;
    }
    return true;
}

static char peek(const struct config_lexer *l, size_t ahead)
{
    return l->at + ahead < l->n ? l->s[l->at + ahead] : '\0';
}

static struct config_token token(const struct config_lexer *l, enum config_token_kind kind)
{
    return (struct config_token){.kind = kind, .line = l->line, .text = ""};
}

static struct config_token word_or_string(struct config_lexer *l, enum config_token_kind kind,
                                          const char *text, size_t n)
{
    struct config_token t = token(l, kind);
    t.text = arena_strndup(&l->ctx->scratch, text, n);
    if (!t.text) {
        l->ctx->no_memory = true;
        t.kind = TOKEN_FAULT;
    }
    return t;
}

/* Skips blanks, line ends and comments; false when a comment does not end. */
static bool skip_blank(struct config_lexer *l)
{
    for (;;) {
        char c = peek(l, 0);
        if (c == '#' || (c == '/' && peek(l, 1) == '/')) {
            while (l->at < l->n && peek(l, 0) != '\n')
                l->at++;
        } else if (c == '/' && peek(l, 1) == '*') {
            int from = l->line;
            for (l->at += 2; peek(l, 0) != '*' || peek(l, 1) != '/'; l->at++) {
                if (l->at >= l->n) {
                    config_fault(l->ctx, from, NULL, "comment is not closed: '*/' is missing");
                    return false;
                }
                l->line += peek(l, 0) == '\n';
            }
            l->at += 2;
        } else if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
            l->line += c == '\n';
            l->at++;
        } else
            return true;
    }
}

static struct config_token lex_string(struct config_lexer *l)
{
    char text[CONFIG_MAX_STRING];
    size_t n = 0;
    char quote = peek(l, 0);
    for (l->at++; peek(l, 0) != quote; l->at++) {
        char c = peek(l, 0), next = peek(l, 1);
        if (l->at >= l->n || c == '\n') {
            config_fault(l->ctx, l->line, NULL, "string is not closed: %c is missing", quote);
            return token(l, TOKEN_FAULT);
        }
        if (n == sizeof(text)) {
            config_fault(l->ctx, l->line, NULL, "string is longer than %zu bytes", sizeof(text));
            return token(l, TOKEN_FAULT);
        }
        if (quote == '"' && c == '$' && next == '{') {
            config_fault(l->ctx, l->line, NULL,
                         "${...}: the environment is not expanded; write the value itself, or "
                         "'...' for a literal '${'");
            return token(l, TOKEN_FAULT);
        }
        if (c == '\\' && (next == quote || next == '\\')) {
            c = next;
            l->at++;
        } else if (c == '\\' && quote == '"') {
            config_fault(l->ctx, l->line, NULL,
                         "\\ in a string: only \\\" and \\\\ are known; write \\\\, or '...'");
            return token(l, TOKEN_FAULT);
        }
        text[n++] = c;
    }
    l->at++;
    return word_or_string(l, TOKEN_STRING, text, n);
}

static bool is_word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("_-.:/@%", c));
}

static struct config_token lex_unknown(struct config_lexer *l)
{
    char shown[PRINTABLE_ESCAPE_MAX];
    size_t n;
    printable_next(l->s + l->at, l->n - l->at, shown, &n);
    const char *why = "quote values that hold such characters";
    if (peek(l, 0) == ';')
        why = "options end with the line, without ';'";
    else if (peek(l, 0) == '+' && peek(l, 1) == '=')
        why = "'+=' is not supported; write the whole list behind '='";
    else if (peek(l, 0) == '$' && peek(l, 1) == '{')
        why = "the environment is not expanded; write the value itself";
    else if (peek(l, 0) == '(' || peek(l, 0) == ')')
        why = "functions as include() are not supported; write everything in this file";
    config_fault(l->ctx, l->line, NULL, "unexpected '%.*s': %s", (int)n, shown, why);
    return token(l, TOKEN_FAULT);
}

struct config_token config_lex(struct config_lexer *l)
{
    static const char marks[] = "{}=,";
    static const enum config_token_kind kinds[] = {TOKEN_OPEN, TOKEN_CLOSE, TOKEN_EQUALS,
                                                   TOKEN_COMMA};
    if (!skip_blank(l))
        return token(l, TOKEN_FAULT);
    char c = peek(l, 0);
    if (l->at >= l->n)
        return token(l, TOKEN_END);
    if (c == '"' || c == '\'')
        return lex_string(l);
    const char *mark = strchr(marks, c);
    if (mark) {
        l->at++;
        return token(l, kinds[mark - marks]);
    }
    size_t n = 0;
    while (is_word_char(peek(l, n)))
        n++;
    if (n == 0)
        return lex_unknown(l);
    const char *from = l->s + l->at;
    l->at += n;
    return word_or_string(l, TOKEN_WORD, from, n);
}

/* tmpl_literal.c - numbers and strings as Jinja's lexer reads them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/tmpl_ast_int.h"
#include "core/util/utf8.h"

static bool is_digit(char c, int base)
{
    if (base <= 10)
        return c >= '0' && c < '0' + base;
    return is_digit(c, 10) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Digits with single underscores between them: (_?\d)* from i on. */
static size_t digits(const char *s, size_t n, size_t i, int base)
{
    for (;;) {
        if (i < n && is_digit(s[i], base))
            i++;
        else if (i + 1 < n && s[i] == '_' && is_digit(s[i + 1], base))
            i += 2;
        else
            return i;
    }
}

/* Exponent at i: e[+-]?\d...; 0 when there is none. */
static size_t exponent(const char *s, size_t n, size_t i)
{
    if (i >= n || (s[i] != 'e' && s[i] != 'E'))
        return 0;
    i++;
    if (i < n && (s[i] == '+' || s[i] == '-'))
        i++;
    return i < n && is_digit(s[i], 10) ? digits(s, n, i, 10) : 0;
}

static size_t float_len(const char *s, size_t n)
{
    size_t i = digits(s, n, 0, 10), end;
    if (i + 1 < n && s[i] == '.' && is_digit(s[i + 1], 10)) {
        i = digits(s, n, i + 1, 10);
        end = exponent(s, n, i);
        return end ? end : i;
    }
    return exponent(s, n, i);
}

size_t tmpl_number_len(const char *s, size_t n, bool after_dot, bool *is_float)
{
    if (n == 0 || !is_digit(s[0], 10))
        return 0;
    size_t len = after_dot ? 0 : float_len(s, n);
    *is_float = len > 0;
    if (len)
        return len;
    if (s[0] != '0')
        return digits(s, n, 0, 10);
    if (n > 1) {
        char c = s[1] | 0x20;
        int base = c == 'b' ? 2 : c == 'o' ? 8 : c == 'x' ? 16 : 0;
        len = base ? digits(s, n, 2, base) : 2;
        if (len > 2)
            return len;
    }
    for (len = 1;
         len < n && (s[len] == '0' || (s[len] == '_' && len + 1 < n && s[len + 1] == '0'));)
        len += s[len] == '_' ? 2 : 1;
    return len;
}

int tmpl_number(struct tmpl_lexer *lx, const char *s, size_t n, bool is_float,
                struct tmpl_token *out)
{
    char *text = arena_alloc(lx->arena, n + 1);
    if (!text)
        return err_set(lx->e, LLMD_ENOMEM, "out of memory for a chat template");
    size_t len = 0;
    for (size_t i = 0; i < n; i++)
        if (s[i] != '_')
            text[len++] = s[i];
    text[len] = '\0';
    if (is_float) {
        out->type = TOK_FLOAT;
        out->f = strtod(text, NULL);
        return 0;
    }
    char kind = len > 1 ? text[1] | 0x20 : '\0';
    int base = kind == 'b' ? 2 : kind == 'o' ? 8 : kind == 'x' ? 16 : 10;
    errno = 0;
    out->type = TOK_INTEGER;
    out->i = strtoll(base == 10 ? text : text + 2, NULL, base);
    if (errno == ERANGE)
        return err_set(lx->e, LLMD_EUNSUPPORTED,
                       "chat template line %u: integer %.40s does not fit 64 bits", lx->line, text);
    return 0;
}

/* Reads `count` hexadecimal digits at s[i]; false when there are fewer. */
static bool hex(const char *s, size_t n, size_t i, int count, uint32_t *out)
{
    uint32_t v = 0;
    if (n - i < (size_t)count)
        return false;
    for (int k = 0; k < count; k++) {
        char c = s[i + (size_t)k];
        if (!is_digit(c, 16))
            return false;
        v = v << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    *out = v;
    return true;
}

static int bad_escape(struct tmpl_lexer *lx, const char *what)
{
    return err_set(lx->e, LLMD_EPARSE, "chat template line %u: %s in a string", lx->line, what);
}

/* \x, \u or \U at s[i] (the letter): appends the character, returns the bytes read. */
static int hex_escape(struct tmpl_lexer *lx, const char *s, size_t n, size_t i, char *to,
                      size_t *n_to, size_t *n_read)
{
    int count = s[i] == 'x' ? 2 : s[i] == 'u' ? 4 : 8;
    uint32_t cp;
    if (!hex(s, n, i + 1, count, &cp))
        return bad_escape(lx, "truncated escape sequence");
    if (cp > 0x10ffff)
        return bad_escape(lx, "escape sequence beyond U+10FFFF");
    if (cp >= 0xd800 && cp <= 0xdfff)
        return err_set(lx->e, LLMD_EUNSUPPORTED,
                       "chat template line %u: a string holds the surrogate U+%04X, which has "
                       "no UTF-8 form",
                       lx->line, cp);
    *n_to += utf8_encode(cp, to + *n_to);
    *n_read = 1 + (size_t)count;
    return 0;
}

static size_t octal_escape(const char *s, size_t n, size_t i, char *to, size_t *n_to)
{
    uint32_t cp = 0;
    size_t k = 0;
    for (; k < 3 && i + k < n && is_digit(s[i + k], 8); k++)
        cp = cp * 8 + (uint32_t)(s[i + k] - '0');
    *n_to += utf8_encode(cp, to + *n_to);
    return k;
}

/* A backslash before a character beyond ASCII: Jinja writes that character as an escape first,
 * and the two backslashes then make one. */
static size_t escaped_non_ascii(const char *s, size_t n, size_t i, char *to, size_t *n_to)
{
    uint32_t cp = 0;
    size_t k = utf8_decode(s + i, n - i, &cp);
    *n_to += (size_t)snprintf(to + *n_to, 11,
                              cp <= 0xff     ? "\\x%02x"
                              : cp <= 0xffff ? "\\u%04x"
                                             : "\\U%08x",
                              cp);
    return k;
}

/* The escape sequence whose letter is s[i]. */
static int escape(struct tmpl_lexer *lx, const char *s, size_t n, size_t i, char *to, size_t *n_to,
                  size_t *n_read)
{
    static const char letters[] = "\\'\"abfnrtv", values[] = "\\'\"\a\b\f\n\r\t\v";
    const char *p = s[i] ? strchr(letters, s[i]) : NULL;
    *n_read = 1;
    if (p)
        to[(*n_to)++] = values[p - letters];
    else if (s[i] == 'x' || s[i] == 'u' || s[i] == 'U')
        return hex_escape(lx, s, n, i, to, n_to, n_read);
    else if (is_digit(s[i], 8))
        *n_read = octal_escape(s, n, i, to, n_to);
    else if (s[i] == 'N')
        return err_set(lx->e, LLMD_EUNSUPPORTED,
                       "chat template line %u: \\N escapes are not supported; write \\uXXXX",
                       lx->line);
    else if ((unsigned char)s[i] >= 0x80)
        *n_read = escaped_non_ascii(s, n, i, to, n_to);
    else if (s[i] != '\n') {
        to[(*n_to)++] = '\\';
        to[(*n_to)++] = s[i];
    }
    return 0;
}

int tmpl_unescape(struct tmpl_lexer *lx, const char *s, size_t n, struct tmpl_token *out)
{
    out->type = TOK_STRING;
    out->s = s;
    out->n = n;
    if (n == 0 || !memchr(s, '\\', n))
        return 0;
    /* The longest result: a backslash and a two-byte character become four or six bytes. */
    char *to = arena_alloc(lx->arena, 2 * n + 8);
    if (!to)
        return err_set(lx->e, LLMD_ENOMEM, "out of memory for a chat template");
    size_t n_to = 0, k;
    for (size_t i = 0; i < n; i += k) {
        k = 1;
        if (s[i] != '\\') {
            to[n_to++] = s[i];
            continue;
        }
        int rc = escape(lx, s, n, ++i, to, &n_to, &k);
        if (rc)
            return rc;
    }
    out->s = to;
    out->n = n_to;
    return 0;
}

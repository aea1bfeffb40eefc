/* tmpl_lex.c - tokens of a template.
 *
 * Jinja's lexer is a list of regular expressions; this one makes the same tokens by hand, with
 * trim_blocks and lstrip_blocks on and keep_trailing_newline off. White space is what Python's
 * \s matches. */
#include <string.h>

#include "core/model/tmpl_ast_int.h"
#include "core/model/tmpl_text_int.h"
#include "core/util/printable.h"
#include "core/util/utf8.h"

enum lex_state { LEX_TEXT, LEX_VARIABLE, LEX_BLOCK };

static int lex_error(struct tmpl_lexer *lx, const char *what)
{
    return err_set(lx->e, LLMD_EPARSE, "chat template line %u: %s", lx->line, what);
}

int tmpl_lex_init(struct tmpl_lexer *lx, const char *src, size_t n, struct arena *arena,
                  struct err *e)
{
    if (!utf8_valid(src, n))
        return err_set(e, LLMD_EPARSE, "chat template is not valid UTF-8");
    char *copy = arena_alloc(arena, n + 1);
    if (!copy)
        return err_set(e, LLMD_ENOMEM, "out of memory for a chat template of %zu bytes", n);
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        if (src[i] == '\r') {
            copy[len++] = '\n';
            if (i + 1 < n && src[i + 1] == '\n')
                i++;
        } else
            copy[len++] = src[i];
    }
    if (len && copy[len - 1] == '\n')
        len--;
    *lx = (struct tmpl_lexer){.src = copy,
                              .n = len,
                              .line = 1,
                              .state = LEX_TEXT,
                              .line_starting = true,
                              .arena = arena,
                              .e = e};
    return 0;
}

/* Moves to pos, counting lines. */
static void move_to(struct tmpl_lexer *lx, size_t pos)
{
    lx->pos = pos;
    for (; lx->counted_to < pos; lx->counted_to++)
        lx->line += lx->src[lx->counted_to] == '\n';
    lx->line_starting = pos > 0 && lx->src[pos - 1] == '\n';
}

static bool at(const struct tmpl_lexer *lx, size_t pos, const char *lit)
{
    size_t n = strlen(lit);
    return pos <= lx->n && lx->n - pos >= n && memcmp(lx->src + pos, lit, n) == 0;
}

static size_t skip_space(const struct tmpl_lexer *lx, size_t pos)
{
    return pos + tmpl_space_prefix(lx->src + pos, lx->n - pos);
}

/* The end of a block tag, comment or raw block at pos: "+%}", "-%}\s*" or "%}\n?". Returns the
 * position behind it, 0 when there is none. */
static size_t tag_end(const struct tmpl_lexer *lx, size_t pos, const char *close)
{
    if (at(lx, pos, "+") && at(lx, pos + 1, close))
        return pos + 3;
    if (at(lx, pos, "-") && at(lx, pos + 1, close))
        return skip_space(lx, pos + 3);
    if (at(lx, pos, close))
        return at(lx, pos + 2, "\n") ? pos + 3 : pos + 2;
    return 0;
}

/* The beginning of a raw block at pos; *text is where its text starts. */
static bool raw_begin(const struct tmpl_lexer *lx, size_t pos, size_t *text)
{
    if (!at(lx, pos, "{%"))
        return false;
    pos += 2;
    if (at(lx, pos, "-") || at(lx, pos, "+"))
        pos++;
    pos = skip_space(lx, pos);
    if (!at(lx, pos, "raw"))
        return false;
    pos = skip_space(lx, pos + 3);
    if (at(lx, pos, "-%}"))
        *text = skip_space(lx, pos + 3);
    else if (at(lx, pos, "%}"))
        *text = pos + 2;
    else
        return false;
    return true;
}

/* The text from `from` up to a tag at `to`, with white space before the tag removed as its sign
 * and lstrip_blocks say. */
static size_t strip_before(const struct tmpl_lexer *lx, size_t from, size_t to, char sign,
                           bool is_variable)
{
    const char *text = lx->src + from;
    size_t n = to - from;
    if (sign == '-')
        return tmpl_rstrip_space(text, n);
    if (sign == '+' || is_variable)
        return n;
    const char *newline = memrchr(text, '\n', n);
    size_t line = newline ? (size_t)(newline - text) + 1 : 0;
    if ((line > 0 || lx->line_starting) && line < n &&
        tmpl_space_prefix(text + line, n - line) == n - line)
        return line;
    return n;
}

static char sign_at(const struct tmpl_lexer *lx, size_t pos)
{
    return at(lx, pos, "-") ? '-' : at(lx, pos, "+") ? '+' : '\0';
}

static void data_token(const struct tmpl_lexer *lx, size_t from, size_t n, struct tmpl_token *out)
{
    *out = (struct tmpl_token){.type = TOK_DATA, .line = lx->line, .s = lx->src + from, .n = n};
}

/* The text of a raw block that starts at `from`. */
static int lex_raw(struct tmpl_lexer *lx, size_t from, struct tmpl_token *out)
{
    move_to(lx, from);
    data_token(lx, from, 0, out);
    if (from >= lx->n)
        return 0;
    for (size_t p = from; p < lx->n; p++) {
        const char *brace = memchr(lx->src + p, '{', lx->n - p);
        if (!brace)
            break;
        p = (size_t)(brace - lx->src);
        if (!at(lx, p, "{%"))
            continue;
        char sign = sign_at(lx, p + 2);
        size_t q = skip_space(lx, p + 2 + (sign != '\0'));
        if (!at(lx, q, "endraw"))
            continue;
        size_t end = tag_end(lx, skip_space(lx, q + 6), "%}");
        if (!end)
            continue;
        data_token(lx, from, strip_before(lx, from, p, sign, false), out);
        move_to(lx, end);
        return 0;
    }
    return lex_error(lx, "missing end of raw block, expected '{% endraw %}'");
}

/* A comment, like a raw block, that begins where the template ends is nothing at all. */
static int skip_comment(struct tmpl_lexer *lx, size_t from)
{
    if (from >= lx->n)
        return 0;
    for (size_t p = from; p < lx->n; p++) {
        const char *hash = memchr(lx->src + p, '#', lx->n - p);
        if (!hash)
            break;
        p = (size_t)(hash - lx->src);
        if (!at(lx, p, "#}"))
            continue;
        if (p > from && (lx->src[p - 1] == '-' || lx->src[p - 1] == '+'))
            p--;
        move_to(lx, tag_end(lx, p, "#}"));
        return 0;
    }
    return lex_error(lx, "missing end of comment, expected '#}'");
}

/* Text up to the next tag, and the tag's beginning. *got is false when neither made a token. */
static int lex_text(struct tmpl_lexer *lx, struct tmpl_token *out, bool *got)
{
    size_t from = lx->pos, p = from;
    *got = true;
    for (;; p++) {
        const char *brace = p < lx->n ? memchr(lx->src + p, '{', lx->n - p) : NULL;
        if (!brace) {
            data_token(lx, from, lx->n - from, out);
            move_to(lx, lx->n);
            return 0;
        }
        p = (size_t)(brace - lx->src);
        if (at(lx, p, "{{") || at(lx, p, "{%") || at(lx, p, "{#"))
            break;
    }
    char kind = lx->src[p + 1], sign = sign_at(lx, p + 2);
    size_t n = strip_before(lx, from, p, sign, kind == '{'), text;
    if (n > 0) {
        /* The tag itself is lexed by the next call, from its own position. */
        data_token(lx, from, n, out);
        bool line_starting = lx->line_starting;
        move_to(lx, p);
        lx->line_starting = line_starting;
        return 0;
    }
    if (raw_begin(lx, p, &text))
        return lex_raw(lx, text, out);
    move_to(lx, p + 2 + (sign != '\0'));
    if (kind == '#') {
        *got = false;
        return skip_comment(lx, lx->pos);
    }
    lx->state = kind == '{' ? LEX_VARIABLE : LEX_BLOCK;
    *out = (struct tmpl_token){.type = kind == '{' ? TOK_VAR_BEGIN : TOK_BLOCK_BEGIN,
                               .line = lx->line};
    return 0;
}

static const struct {
    char text[3];
    uint8_t type;
} operators[] = {
    {"**", TOK_POW},     {"//", TOK_FLOORDIV}, {"==", TOK_EQ},    {"!=", TOK_NE},
    {">=", TOK_GE},      {"<=", TOK_LE},       {"+", TOK_ADD},    {"-", TOK_SUB},
    {"*", TOK_MUL},      {"/", TOK_DIV},       {"%", TOK_MOD},    {"~", TOK_TILDE},
    {"[", TOK_LBRACKET}, {"]", TOK_RBRACKET},  {"(", TOK_LPAREN}, {")", TOK_RPAREN},
    {"{", TOK_LBRACE},   {"}", TOK_RBRACE},    {">", TOK_GT},     {"<", TOK_LT},
    {"=", TOK_ASSIGN},   {".", TOK_DOT},       {":", TOK_COLON},  {"|", TOK_PIPE},
    {",", TOK_COMMA},    {";", TOK_SEMICOLON},
};

static int push_bracket(struct tmpl_lexer *lx, char closing)
{
    if (lx->n_brackets == TMPL_MAX_EXPR_DEPTH)
        return err_set(lx->e, LLMD_ELIMIT, "chat template line %u: brackets are nested too deeply",
                       lx->line);
    if (!lx->brackets && !(lx->brackets = arena_alloc(lx->arena, TMPL_MAX_EXPR_DEPTH)))
        return err_set(lx->e, LLMD_ENOMEM, "out of memory for a chat template");
    lx->brackets[lx->n_brackets++] = closing;
    return 0;
}

static int lex_operator(struct tmpl_lexer *lx, struct tmpl_token *out)
{
    for (size_t i = 0; i < ARRAY_LEN(operators); i++) {
        if (!at(lx, lx->pos, operators[i].text))
            continue;
        char c = operators[i].text[0];
        int rc = 0;
        if (c == '(' || c == '[' || c == '{')
            rc = push_bracket(lx, c == '(' ? ')' : c == '[' ? ']' : '}');
        else if (c == ')' || c == ']' || c == '}') {
            char due = lx->n_brackets ? lx->brackets[--lx->n_brackets] : '\0';
            if (c != due)
                rc = err_set(lx->e, LLMD_EPARSE, "chat template line %u: unexpected '%c'", lx->line,
                             c);
        }
        if (rc)
            return rc;
        out->type = operators[i].type;
        move_to(lx, lx->pos + strlen(operators[i].text));
        return 0;
    }
    uint32_t cp = 0;
    if (utf8_decode(lx->src + lx->pos, lx->n - lx->pos, &cp) && cp_printable(cp))
        return err_set(lx->e, LLMD_EPARSE, "chat template line %u: unexpected character '%.*s'",
                       lx->line, (int)utf8_decode(lx->src + lx->pos, lx->n - lx->pos, &cp),
                       lx->src + lx->pos);
    return err_set(lx->e, LLMD_EPARSE, "chat template line %u: unexpected character U+%04X",
                   lx->line, cp);
}

/* End of the string literal that starts at pos; 0 when it is not closed. */
static size_t string_end(const struct tmpl_lexer *lx, size_t pos)
{
    char quote = lx->src[pos];
    for (size_t p = pos + 1; p < lx->n; p++) {
        if (lx->src[p] == '\\')
            p++;
        else if (lx->src[p] == quote)
            return p + 1;
    }
    return 0;
}

/* A name, number or string at the position; *got is false when it is something else. */
static int lex_word(struct tmpl_lexer *lx, struct tmpl_token *out, bool *got)
{
    const char *s = lx->src + lx->pos;
    size_t left = lx->n - lx->pos, len;
    bool is_float, after_dot = lx->pos > 0 && s[-1] == '.';
    int rc = 0;
    *got = true;
    if ((len = tmpl_number_len(s, left, after_dot, &is_float)) > 0)
        rc = tmpl_number(lx, s, len, is_float, out);
    else if ((len = tmpl_name_prefix(s, left)) > 0) {
        out->type = TOK_NAME;
        out->s = s;
        out->n = len;
        if (!tmpl_is_identifier(s, len))
            rc = lex_error(lx, "invalid character in a name");
    } else if ((*s == '\'' || *s == '"') && (len = string_end(lx, lx->pos)) > 0) {
        len -= lx->pos;
        rc = tmpl_unescape(lx, s + 1, len - 2, out);
    } else
        *got = false;
    if (*got && rc == 0)
        move_to(lx, lx->pos + len);
    return rc;
}

/* The end of the tag at the position; 0 when it goes on. */
static size_t code_end(const struct tmpl_lexer *lx)
{
    if (lx->n_brackets)
        return 0;
    if (lx->state == LEX_BLOCK)
        return tag_end(lx, lx->pos, "%}");
    if (at(lx, lx->pos, "-}}"))
        return skip_space(lx, lx->pos + 3);
    return at(lx, lx->pos, "}}") ? lx->pos + 2 : 0;
}

static int lex_code(struct tmpl_lexer *lx, struct tmpl_token *out)
{
    size_t end = code_end(lx);
    if (!end) {
        move_to(lx, skip_space(lx, lx->pos));
        end = code_end(lx);
    }
    *out = (struct tmpl_token){.type = TOK_EOF, .line = lx->line};
    if (end) {
        out->type = lx->state == LEX_BLOCK ? TOK_BLOCK_END : TOK_VAR_END;
        lx->state = LEX_TEXT;
        move_to(lx, end);
        return 0;
    }
    if (lx->pos >= lx->n)
        return 0;
    bool got;
    int rc = lex_word(lx, out, &got);
    return rc || got ? rc : lex_operator(lx, out);
}

int tmpl_lex_next(struct tmpl_lexer *lx, struct tmpl_token *out)
{
    if (lx->state != LEX_TEXT)
        return lex_code(lx, out);
    for (bool got = false; lx->pos < lx->n;) {
        int rc = lex_text(lx, out, &got);
        if (rc || (got && (out->type != TOK_DATA || out->n > 0)))
            return rc;
    }
    *out = (struct tmpl_token){.type = TOK_EOF, .line = lx->line};
    return 0;
}

const char *tmpl_token_text(const struct tmpl_token *t, char out[64])
{
    size_t n = t->n < 40 ? t->n : 40;
    while (n && n < t->n && ((unsigned char)t->s[n] & 0xc0) == 0x80)
        n--;
    switch (t->type) {
    case TOK_NAME:
        snprintf(out, 64, "'%.*s'", (int)n, t->s);
        return out;
    case TOK_EOF:
        return "the end of the template";
    case TOK_DATA:
        return "text";
    case TOK_VAR_BEGIN:
        return "'{{'";
    case TOK_VAR_END:
        return "'}}'";
    case TOK_BLOCK_BEGIN:
        return "'{%'";
    case TOK_BLOCK_END:
        return "'%}'";
    case TOK_STRING:
        return "a string";
    case TOK_INTEGER:
    case TOK_FLOAT:
        return "a number";
    default:
        break;
    }
    for (size_t i = 0; i < ARRAY_LEN(operators); i++)
        if (operators[i].type == t->type)
            snprintf(out, 64, "'%.2s'", operators[i].text);
    return out;
}

/* pretok_deepseek.c - the split pattern of DeepSeek-V3: numbers by threes, then runs of Chinese
 * and Japanese, are cut out; what lies between, and those runs too, is cut by a pattern. */
#include "core/model/pretok_int.h"
#include "core/model/pretok_scan_int.h"

#define CLASS_WORD (CLASS_UPPER | CLASS_LOWER) /* [\p{L}\p{M}] */

/* [\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}] */
static bool in_cjk_run(uint32_t cp)
{
    return (cp >= 0x4e00 && cp <= 0x9fa5) || (cp >= 0x3040 && cp <= 0x30ff);
}

/* What the pattern sees of a text: it ends before a number, and where characters of the CJK runs
 * begin or cease. */
struct segment {
    const struct char_classes *c;
    const char *s;
    size_t n;
    bool cjk;
};

static struct look see(const struct segment *g, size_t at)
{
    struct look end = {0, CLASS_END}, l;
    uint32_t cp;
    if (at >= g->n)
        return end;
    l.n_bytes = decode_valid(g->s + at, &cp);
    l.classes = char_class(g->c, cp);
    return (l.classes & CLASS_NUMBER) || in_cjk_run(cp) != g->cjk ? end : l;
}

static size_t see_run(const struct segment *g, uint8_t classes, size_t at)
{
    struct look l = see(g, at);
    while (l.classes & classes) {
        at += l.n_bytes;
        l = see(g, at);
    }
    return at;
}

static bool ascii_letter(const struct segment *g, size_t at)
{
    char c = at < g->n ? (char)(g->s[at] | 0x20) : '\0';
    return c >= 'a' && c <= 'z';
}

/* Characters that no alternative takes: up to the last of them, which a word behind it takes. */
static size_t unmatched(const struct segment *g)
{
    const uint8_t matched = CLASS_WORD | CLASS_PUNCT | CLASS_SPACE | CLASS_END;
    size_t at = 0, last = 0;
    struct look l = see(g, 0);
    while (!(l.classes & matched)) {
        last = at;
        at += l.n_bytes;
        l = see(g, at);
    }
    return (l.classes & CLASS_WORD) ? last : at;
}

/* [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+
 * | ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
size_t deepseek_piece(const struct pretok *p, const struct char_classes *c, const char *s, size_t n)
{
    struct segment g = {c, s, n, false};
    uint32_t cp;
    size_t at = decode_valid(s, &cp);
    uint8_t first = char_class(c, cp);
    g.cjk = in_cjk_run(cp);
    if (first & CLASS_NUMBER)
        return numbers(p, c, s, n);
    if (first & CLASS_WORD)
        return see_run(&g, CLASS_WORD, at);
    struct look second = see(&g, at);
    if (cp < 0x80 && (first & CLASS_PUNCT) && ascii_letter(&g, at)) {
        while (ascii_letter(&g, at))
            at++;
        return at;
    }
    if ((second.classes & CLASS_WORD) && !(first & CLASS_PUNCT) && !is_line_break(s[0]))
        return see_run(&g, CLASS_WORD, at);
    if ((first & CLASS_PUNCT) || (s[0] == ' ' && (second.classes & CLASS_PUNCT))) {
        at = see_run(&g, CLASS_PUNCT, at);
        while (at < n && is_line_break(s[at]) && !g.cjk)
            at++;
        return at;
    }
    if (!(first & CLASS_SPACE))
        return unmatched(&g);
    struct white_run w = white_run(c, s, n);
    return white_piece(w, see(&g, w.end).classes & CLASS_END);
}

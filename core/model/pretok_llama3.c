/* pretok_llama3.c - the split patterns of Llama 3 (numbers by threes) and Qwen2 (one by one). */
#include <string.h>

#include "core/model/pretok_int.h"
#include "core/model/pretok_scan_int.h"

/* (?i:'s|'t|'re|'ve|'m|'ll|'d) at the beginning of s, an apostrophe; 0 when there is none. The
 * long s (U+017F) is an s to it; no other character outside of ASCII folds to a letter of it. */
static size_t contraction(const char *s, size_t n)
{
    char a = n > 1 ? (char)(s[1] | 0x20) : '\0', b = n > 2 ? (char)(s[2] | 0x20) : '\0';
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l'))
        return 3;
    return n > 2 && memcmp(s + 1, "\xc5\xbf", 2) == 0 ? 3 : 0;
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*
 * |\s*[\r\n]+|\s+(?!\S)|\s+ */
size_t llama3_piece(const struct pretok *p, const struct char_classes *c, const char *s, size_t n)
{
    const uint8_t not_other = CLASS_LETTER | CLASS_NUMBER | CLASS_SPACE;
    struct look first = look_at(0, c, s, n, 0);
    if (first.classes & CLASS_LETTER)
        return run_end(CLASS_LETTER, c, s, n, first.n_bytes);
    if (first.classes & CLASS_NUMBER)
        return numbers(p, c, s, n);
    if (s[0] == '\'') {
        size_t k = contraction(s, n);
        if (k > 0)
            return k;
    }
    struct look second = look_at(0, c, s, n, first.n_bytes);
    if ((second.classes & CLASS_LETTER) && !is_line_break(s[0]))
        return run_end(CLASS_LETTER, c, s, n, first.n_bytes + second.n_bytes);
    if (!(first.classes & not_other) ||
        (s[0] == ' ' && !(second.classes & (not_other | CLASS_END)))) {
        size_t at = run_end_without(not_other, c, s, n, first.n_bytes);
        while (at < n && is_line_break(s[at]))
            at++;
        return at;
    }
    struct white_run w = white_run(c, s, n);
    return white_piece(w, w.end == n);
}

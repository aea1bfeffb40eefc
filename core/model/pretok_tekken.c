/* pretok_tekken.c - the split pattern of Mistral's tekken: words also end where lower case turns
 * to upper case. */
#include "core/model/pretok_int.h"
#include "core/model/pretok_scan_int.h"

struct word {
    size_t upper_end; /* of upper* */
    size_t end;       /* of upper*lower+; where the word begins when that does not match */
};

/* Matches upper*lower+ at s[at], where many characters (other letters, marks) are of both
 * classes. upper* takes all it can and gives back what lower+ needs: a run that no lower follows
 * ends behind its last character that is also lower. */
static struct word match_word(const struct char_classes *c, const char *s, size_t n, size_t at)
{
    struct word w = {at, at};
    struct look l = look_at(0, c, s, n, at);
    while (l.classes & CLASS_UPPER) {
        w.upper_end += l.n_bytes;
        if (l.classes & CLASS_LOWER)
            w.end = w.upper_end;
        l = look_at(0, c, s, n, w.upper_end);
    }
    if (l.classes & CLASS_LOWER)
        w.end = run_end(CLASS_LOWER, c, s, n, w.upper_end);
    return w;
}

/* The two alternatives of words behind a character that is no letter, number or line break; 0
 * when neither matches. */
static size_t word_behind(struct look first, const struct char_classes *c, const char *s, size_t n)
{
    struct word w = match_word(c, s, n, first.n_bytes);
    if (w.end > first.n_bytes)
        return w.end;
    if (first.classes & CLASS_LOWER) /* a mark: by itself it is a word of the first alternative */
        return first.n_bytes;
    return w.upper_end > first.n_bytes ? w.upper_end : 0;
}

/* [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+
 * |[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*
 * |\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
size_t tekken_piece(const struct pretok *p, const struct char_classes *c, const char *s, size_t n)
{
    const uint8_t not_other = CLASS_LETTER | CLASS_NUMBER | CLASS_SPACE;
    struct look first = look_at(0, c, s, n, 0);
    (void)p;
    if (first.classes & CLASS_LETTER) {
        struct word w = match_word(c, s, n, 0);
        return w.end > 0 ? w.end : w.upper_end;
    }
    if (first.classes & CLASS_NUMBER)
        return first.n_bytes;
    if (!is_line_break(s[0])) {
        size_t k = word_behind(first, c, s, n);
        if (k > 0)
            return k;
    }
    struct look second = look_at(0, c, s, n, first.n_bytes);
    if (!(first.classes & not_other) ||
        (s[0] == ' ' && !(second.classes & (not_other | CLASS_END)))) {
        size_t at = run_end_without(not_other, c, s, n, first.n_bytes);
        while (at < n && (is_line_break(s[at]) || s[at] == '/'))
            at++;
        return at;
    }
    struct white_run w = white_run(c, s, n);
    return white_piece(w, w.end == n);
}

/* pretok.c - the split pattern of GPT-2, also behind the pre-tokenizer Digits. */
#include "core/model/pretok_int.h"
#include "core/model/pretok_scan_int.h"

/* Length of 's 't 're 've 'm 'll 'd at the beginning of s; 0 when there is none. */
static size_t contraction(const char *s, size_t n)
{
    if (n < 2)
        return 0;
    if (s[1] == 's' || s[1] == 't' || s[1] == 'm' || s[1] == 'd')
        return 2;
    if (n < 3)
        return 0;
    if ((s[1] == 'r' && s[2] == 'e') || (s[1] == 'v' && s[2] == 'e') ||
        (s[1] == 'l' && s[2] == 'l'))
        return 3;
    return 0;
}

/* \s+(?!\S)|\s+ : a run of white space without its last character, which belongs to what
 * follows; all of it where nothing follows. */
static size_t white_space(const struct pretok *p, const struct char_classes *c, const char *s,
                          size_t n)
{
    size_t at = 0, last = 0;
    struct look l = look_at(p->isolate, c, s, n, 0);
    while (l.classes & CLASS_SPACE) {
        last = at;
        at += l.n_bytes;
        l = look_at(p->isolate, c, s, n, at);
    }
    return last == 0 || (l.classes & CLASS_END) ? at : last;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
size_t gpt2_piece(const struct pretok *p, const struct char_classes *c, const char *s, size_t n)
{
    const uint8_t kinds = CLASS_LETTER | CLASS_NUMBER | CLASS_SPACE | CLASS_END;
    uint32_t cp;
    struct look l = look_at(p->isolate, c, s, n, 0);
    if (l.classes & CLASS_END)
        return decode_valid(s, &cp);
    if (s[0] == '\'') {
        size_t k = contraction(s, n);
        if (k > 0)
            return k;
    }
    size_t at = 0;
    if (s[0] == ' ')
        l = look_at(p->isolate, c, s, n, ++at);
    uint8_t kind = l.classes & kinds;
    if (kind & (CLASS_SPACE | CLASS_END))
        return white_space(p, c, s, n);
    do {
        at += l.n_bytes;
        l = look_at(p->isolate, c, s, n, at);
    } while ((l.classes & kinds) == kind);
    return at;
}

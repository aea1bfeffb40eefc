#include "core/model/pretok_int.h"

#include <string.h>

#define CLASS_END 0x80 /* no character: the text ends here, or an isolated character follows */

struct look {
    size_t n_bytes; /* 0 at the end */
    uint8_t classes;
};

/* Length and code point of the character at s, which is valid UTF-8. */
static size_t decode_valid(const char *str, uint32_t *out_cp)
{
    const unsigned char *s = (const unsigned char *)str;
    if (s[0] < 0x80) {
        *out_cp = s[0];
        return 1;
    }
    if (s[0] < 0xe0) {
        *out_cp = (s[0] & 0x1fu) << 6 | (s[1] & 0x3fu);
        return 2;
    }
    if (s[0] < 0xf0) {
        *out_cp = (s[0] & 0x0fu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);
        return 3;
    }
    *out_cp = (s[0] & 0x07u) << 18 | (s[1] & 0x3fu) << 12 | (s[2] & 0x3fu) << 6 | (s[3] & 0x3fu);
    return 4;
}

static struct look look_at(const struct pretok *p, const struct char_classes *c, const char *s,
                           size_t n, size_t at)
{
    struct look end = {0, CLASS_END}, l;
    uint32_t cp;
    if (at >= n)
        return end;
    l.n_bytes = decode_valid(s + at, &cp);
    l.classes = char_class(c, cp);
    return l.classes & p->isolate ? end : l;
}

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
    struct look l = look_at(p, c, s, n, 0);
    while (l.classes & CLASS_SPACE) {
        last = at;
        at += l.n_bytes;
        l = look_at(p, c, s, n, at);
    }
    return last == 0 || (l.classes & CLASS_END) ? at : last;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t gpt2_piece(const struct pretok *p, const struct char_classes *c, const char *s,
                         size_t n)
{
    const uint8_t kinds = CLASS_LETTER | CLASS_NUMBER | CLASS_SPACE | CLASS_END;
    uint32_t cp;
    struct look l = look_at(p, c, s, n, 0);
    if (l.classes & CLASS_END)
        return decode_valid(s, &cp);
    if (s[0] == '\'') {
        size_t k = contraction(s, n);
        if (k > 0)
            return k;
    }
    size_t at = 0;
    if (s[0] == ' ')
        l = look_at(p, c, s, n, ++at);
    uint8_t kind = l.classes & kinds;
    if (kind & (CLASS_SPACE | CLASS_END))
        return white_space(p, c, s, n);
    do {
        at += l.n_bytes;
        l = look_at(p, c, s, n, at);
    } while ((l.classes & kinds) == kind);
    return at;
}

static const struct pretok pretoks[] = {
    {"gpt-2", 0, gpt2_piece},
    {"smollm", CLASS_NUMERIC, gpt2_piece},
};

const struct pretok *pretok_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(pretoks); i++)
        if (strcmp(pretoks[i].name, name) == 0)
            return &pretoks[i];
    return NULL;
}

const char *pretok_name(size_t i)
{
    return i < ARRAY_LEN(pretoks) ? pretoks[i].name : NULL;
}

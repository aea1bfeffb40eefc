/* pretok_scan_int.h - what the splitters are made of: looking at a character, runs, and the
 * white space at the end of most patterns. */
#pragma once
#include "core/model/pretok_int.h"

#define CLASS_END 0x80 /* no character: the text ends here, or what may not be looked at follows */

struct look {
    size_t n_bytes; /* 0 at the end */
    uint8_t classes;
};

/* Length and code point of the character at s, which is valid UTF-8. */
static inline size_t decode_valid(const char *str, uint32_t *out_cp)
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

/* The character at s[at]; a character of the classes `isolate` is an end. */
static inline struct look look_at(uint8_t isolate, const struct char_classes *c, const char *s,
                                  size_t n, size_t at)
{
    struct look end = {0, CLASS_END}, l;
    uint32_t cp;
    if (at >= n)
        return end;
    l.n_bytes = decode_valid(s + at, &cp);
    l.classes = char_class(c, cp);
    return l.classes & isolate ? end : l;
}

/* Where the run of characters with one of these classes ends that begins at s[at]. */
static inline size_t run_end(uint8_t classes, const struct char_classes *c, const char *s, size_t n,
                             size_t at)
{
    struct look l = look_at(0, c, s, n, at);
    while (l.classes & classes) {
        at += l.n_bytes;
        l = look_at(0, c, s, n, at);
    }
    return at;
}

/* The same for characters with none of these classes. */
static inline size_t run_end_without(uint8_t classes, const struct char_classes *c, const char *s,
                                     size_t n, size_t at)
{
    struct look l = look_at(0, c, s, n, at);
    while (!(l.classes & (classes | CLASS_END))) {
        at += l.n_bytes;
        l = look_at(0, c, s, n, at);
    }
    return at;
}

static inline bool is_line_break(char c)
{
    return c == '\n' || c == '\r';
}

/* A run of white space: where it ends, its last character begins, and its last line break ends
 * (0 when there is none). */
struct white_run {
    size_t end, last, line_end;
};

static inline struct white_run white_run(const struct char_classes *c, const char *s, size_t n)
{
    struct white_run w = {0, 0, 0};
    struct look l = look_at(0, c, s, n, 0);
    while (l.classes & CLASS_SPACE) {
        w.last = w.end;
        w.end += l.n_bytes;
        if (is_line_break(s[w.last]))
            w.line_end = w.end;
        l = look_at(0, c, s, n, w.end);
    }
    return w;
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ : the run to its last line break; without one, all but its last
 * character, which belongs to what follows, or all of it where nothing follows. */
static inline size_t white_piece(struct white_run w, bool nothing_follows)
{
    if (w.line_end > 0)
        return w.line_end;
    return w.last == 0 || nothing_follows ? w.end : w.last;
}

/* \p{N}{1,max_digits} */
static inline size_t numbers(const struct pretok *p, const struct char_classes *c, const char *s,
                             size_t n)
{
    size_t at = 0;
    for (uint8_t k = 0; k < p->max_digits; k++) {
        struct look l = look_at(0, c, s, n, at);
        if (!(l.classes & CLASS_NUMBER))
            break;
        at += l.n_bytes;
    }
    return at;
}

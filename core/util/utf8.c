#include "core/util/utf8.h"

#include <string.h>

#include "core/util/buf.h"

/* Valid range of the second byte and total length for a lead byte; len 0: no lead byte. */
static size_t lead(unsigned char c, unsigned char *lo, unsigned char *hi)
{
    *lo = 0x80;
    *hi = 0xbf;
    if (c < 0x80)
        return 1;
    if (c >= 0xc2 && c <= 0xdf)
        return 2;
    if (c >= 0xe0 && c <= 0xef) {
        if (c == 0xe0)
            *lo = 0xa0;
        if (c == 0xed)
            *hi = 0x9f;
        return 3;
    }
    if (c >= 0xf0 && c <= 0xf4) {
        if (c == 0xf0)
            *lo = 0x90;
        if (c == 0xf4)
            *hi = 0x8f;
        return 4;
    }
    return 0;
}

/* Number of bytes at s that form a valid character or a valid beginning of one (maximal
 * subpart, at least 1), and the length that the character needs (0: cannot be valid). */
static size_t subpart(const unsigned char *s, size_t n, size_t *out_need)
{
    unsigned char lo, hi;
    size_t need = lead(s[0], &lo, &hi), i = 1;
    *out_need = need;
    for (; i < need && i < n; i++) {
        if (s[i] < lo || s[i] > hi) {
            *out_need = 0;
            return i;
        }
        lo = 0x80;
        hi = 0xbf;
    }
    return i;
}

size_t utf8_decode(const char *str, size_t n, uint32_t *out_cp)
{
    static const unsigned char mask[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    const unsigned char *s = (const unsigned char *)str;
    if (n == 0)
        return 0;
    size_t need, have = subpart(s, n, &need);
    if (need == 0 || have < need)
        return 0;
    uint32_t cp = s[0] & mask[need];
    for (size_t i = 1; i < need; i++)
        cp = cp << 6 | (s[i] & 0x3f);
    *out_cp = cp;
    return need;
}

size_t utf8_encode(uint32_t cp, char *out)
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        if (cp >= 0xd800 && cp <= 0xdfff)
            return 0;
        out[0] = (char)(0xe0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    if (cp > 0x10ffff)
        return 0;
    out[0] = (char)(0xf0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

size_t utf8_valid_prefix(const char *s, size_t n)
{
    uint32_t cp;
    size_t i = 0;
    while (i < n) {
        if ((unsigned char)s[i] < 0x80) {
            i++;
            continue;
        }
        size_t k = utf8_decode(s + i, n - i, &cp);
        if (k == 0)
            break;
        i += k;
    }
    return i;
}

bool utf8_valid(const char *s, size_t n)
{
    return utf8_valid_prefix(s, n) == n;
}

size_t utf8_safe_prefix(const char *s, size_t n)
{
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        const unsigned char *p = (const unsigned char *)s + n - back;
        if ((*p & 0xc0) == 0x80)
            continue;
        size_t need, have = subpart(p, back, &need);
        return need > back && have == back ? n - back : n;
    }
    return n;
}

void utf8_add_lossy(struct buf *b, const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t need, have = subpart((const unsigned char *)s + i, n - i, &need);
        if (need == have)
            buf_add(b, s + i, have);
        else
            buf_add(b, "\xef\xbf\xbd", 3);
        i += have;
    }
}

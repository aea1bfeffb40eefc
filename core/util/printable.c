#include "core/util/printable.h"

#include <stdio.h>
#include <string.h>

#include "core/util/buf.h"
#include "core/util/utf8.h"

bool cp_printable(uint32_t cp)
{
    static const struct {
        uint32_t first, last;
    } refused[] = {
        {0x00, 0x1f},     {0x7f, 0x9f},     {0x2028, 0x202e}, {0x2066, 0x2069},
        {0xfdd0, 0xfdef}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0000, 0xe007f},
    };
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (cp >= refused[i].first && cp <= refused[i].last)
            return false;
    return (cp & 0xfffe) != 0xfffe;
}

size_t printable_next(const char *s, size_t n, char out[PRINTABLE_ESCAPE_MAX], size_t *out_len)
{
    static const char shorts[] = "\n\t\r", letters[] = "ntr";
    uint32_t cp;
    size_t used = utf8_decode(s, n, &cp);
    if (used > 0 && cp_printable(cp)) {
        memcpy(out, s, used);
        *out_len = used;
        return used;
    }
    char text[PRINTABLE_ESCAPE_MAX + 1];
    const char *p = used == 1 && cp ? strchr(shorts, (int)cp) : NULL;
    int len;
    if (p)
        len = snprintf(text, sizeof(text), "\\%c", letters[p - shorts]);
    else if (used <= 1)
        len = snprintf(text, sizeof(text), "\\x%02x", (unsigned char)s[0]);
    else
        len = snprintf(text, sizeof(text), cp > 0xffff ? "\\U%08x" : "\\u%04x", cp);
    memcpy(out, text, (size_t)len);
    *out_len = (size_t)len;
    return used ? used : 1;
}

size_t printable_text(const char *s, size_t n, const char *escape, char *out, size_t n_out)
{
    static const char more[] = "...";
    size_t at = 0, cut_at = 0; /* cut_at: up to there "..." still fits behind the text */
    BUG_ON(n_out == 0);
    while (n > 0) {
        char shown[PRINTABLE_ESCAPE_MAX];
        size_t n_shown, used = printable_next(s, n, shown, &n_shown);
        if (s[0] && strchr(escape, s[0])) {
            shown[0] = '\\';
            shown[1] = s[0];
            n_shown = 2;
        }
        if (at + n_shown >= n_out) {
            size_t n_more = cut_at + sizeof(more) <= n_out ? sizeof(more) - 1 : 0;
            memcpy(out + cut_at, more, n_more);
            at = cut_at + n_more;
            break;
        }
        memcpy(out + at, shown, n_shown);
        at += n_shown;
        if (at + sizeof(more) <= n_out)
            cut_at = at;
        s += used;
        n -= used;
    }
    out[at] = '\0';
    return at;
}

void printable_add(struct buf *b, const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t used = utf8_decode(s + i, n - i, &cp);
        if (used == 0)
            buf_addstr(b, "\xef\xbf\xbd");
        else if (cp_printable(cp) || cp == '\n' || cp == '\t')
            buf_add(b, s + i, used);
        i += used ? used : 1;
    }
}

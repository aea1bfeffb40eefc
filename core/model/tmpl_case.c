/* tmpl_case.c - upper, lower, title and folded case with the full mappings of Unicode, including
 * the final sigma, as Python's str applies them. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "core/model/tmpl_text_int.h"
#include "core/model/tmpl_unicode_int.h"
#include "core/util/utf8.h"

static int compare_case(const void *key, const void *entry)
{
    uint32_t a = *(const uint32_t *)key, b = ((const struct tmpl_special_case *)entry)->cp;
    return (a > b) - (a < b);
}

static void add_cp(struct buf *b, uint32_t cp)
{
    char bytes[4];
    buf_add(b, bytes, utf8_encode(cp, bytes));
}

static void add_mapped(struct buf *b, uint32_t cp, enum tmpl_case to)
{
    if (cp < 0x80) {
        bool is_lower = cp >= 'a' && cp <= 'z', is_upper = cp >= 'A' && cp <= 'Z';
        if (to == CASE_LOWER ? is_upper : is_lower)
            cp ^= 0x20;
        buf_addch(b, (char)cp);
        return;
    }
    const struct tmpl_special_case *sc = bsearch(&cp, special_cases, ARRAY_LEN(special_cases),
                                                 sizeof(special_cases[0]), compare_case);
    if (sc) {
        const uint32_t *map = to == CASE_UPPER   ? sc->upper
                              : to == CASE_LOWER ? sc->lower
                                                 : sc->title;
        for (int i = 0; i < 3 && map[i]; i++)
            add_cp(b, map[i]);
        return;
    }
    utf8proc_int32_t c = (utf8proc_int32_t)cp;
    add_cp(b, (uint32_t)(to == CASE_UPPER   ? utf8proc_toupper(c)
                         : to == CASE_LOWER ? utf8proc_tolower(c)
                                            : utf8proc_totitle(c)));
}

static bool is_cased(uint32_t cp)
{
    return tmpl_is_upper(cp) || tmpl_is_lower(cp) || tmpl_is_title(cp);
}

/* Whether the sigma at s[at..at+len) ends a word: a letter before it, none behind. */
static bool is_final_sigma(const char *s, size_t n, size_t at, size_t len)
{
    uint32_t cp = 0;
    bool cased = false;
    for (size_t i = at; i > 0 && !cased;) {
        i = tmpl_char_before(s, i, &cp);
        if (tmpl_is_case_ignorable(cp))
            continue;
        cased = is_cased(cp);
        break;
    }
    if (!cased)
        return false;
    for (size_t i = at + len; i < n;) {
        i += tmpl_char_at(s + i, &cp);
        if (!tmpl_is_case_ignorable(cp))
            return !is_cased(cp);
    }
    return true;
}

static void add_lower(struct buf *b, const char *s, size_t n, size_t at, size_t len, uint32_t cp)
{
    if (cp == 0x3a3)
        add_cp(b, is_final_sigma(s, n, at, len) ? 0x3c2 : 0x3c3);
    else
        add_mapped(b, cp, CASE_LOWER);
}

static void add_folded(struct buf *b, uint32_t cp)
{
    utf8proc_int32_t out[8];
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)cp, out, 8, UTF8PROC_CASEFOLD, NULL);
    for (utf8proc_ssize_t i = 0; i < n && i < 8; i++)
        add_cp(b, (uint32_t)out[i]);
}

void tmpl_add_case(struct buf *b, const char *s, size_t n, enum tmpl_case to)
{
    bool in_word = false;
    uint32_t cp;
    for (size_t i = 0, k; i < n; i += k) {
        k = tmpl_char_at(s + i, &cp);
        switch (to) {
        case CASE_UPPER:
            add_mapped(b, cp, CASE_UPPER);
            break;
        case CASE_LOWER:
            add_lower(b, s, n, i, k, cp);
            break;
        case CASE_FOLD:
            add_folded(b, cp);
            break;
        case CASE_CAPITAL:
            if (i == 0)
                add_mapped(b, cp, CASE_TITLE);
            else
                add_lower(b, s, n, i, k, cp);
            break;
        case CASE_TITLE:
            if (in_word)
                add_lower(b, s, n, i, k, cp);
            else
                add_mapped(b, cp, CASE_TITLE);
            in_word = is_cased(cp);
            break;
        case CASE_SWAP:
            if (tmpl_is_upper(cp))
                add_lower(b, s, n, i, k, cp);
            else if (tmpl_is_lower(cp))
                add_mapped(b, cp, CASE_UPPER);
            else
                add_cp(b, cp);
            break;
        }
    }
}

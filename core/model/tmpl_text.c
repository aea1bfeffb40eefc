#include "core/model/tmpl_text_int.h"

#include <string.h>
#include <utf8proc.h>

#include "core/model/tmpl_unicode_int.h"
#include "core/util/utf8.h"

size_t tmpl_char_at(const char *s, uint32_t *out_cp)
{
    unsigned char c = (unsigned char)*s;
    if (c < 0x80) {
        *out_cp = c;
        return 1;
    }
    size_t n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    *out_cp = 0xfffd;
    utf8_decode(s, n, out_cp);
    return n;
}

size_t tmpl_char_before(const char *s, size_t i, uint32_t *out_cp)
{
    do
        i--;
    while (i > 0 && ((unsigned char)s[i] & 0xc0) == 0x80);
    tmpl_char_at(s + i, out_cp);
    return i;
}

size_t tmpl_count_chars(const char *s, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)s[i] & 0xc0) != 0x80;
    return count;
}

size_t tmpl_char_offset(const char *s, size_t n, size_t k)
{
    size_t i = 0;
    for (; i < n; i++)
        if (((unsigned char)s[i] & 0xc0) != 0x80 && k-- == 0)
            break;
    return i;
}

bool tmpl_is_space(uint32_t cp)
{
    if (cp < 0x80)
        return cp == ' ' || (cp >= 0x09 && cp <= 0x0d) || (cp >= 0x1c && cp <= 0x1f);
    return cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

bool tmpl_is_linebreak(uint32_t cp)
{
    return (cp >= 0x0a && cp <= 0x0d) || (cp >= 0x1c && cp <= 0x1e) || cp == 0x85 || cp == 0x2028 ||
           cp == 0x2029;
}

static bool in_ranges(uint32_t cp, const uint32_t ranges[][2], size_t n)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (cp > ranges[mid][1])
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && cp >= ranges[lo][0];
}

static utf8proc_category_t category(uint32_t cp)
{
    return utf8proc_category((utf8proc_int32_t)cp);
}

bool tmpl_is_alpha(uint32_t cp)
{
    utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

bool tmpl_is_decimal(uint32_t cp)
{
    return category(cp) == UTF8PROC_CATEGORY_ND;
}

bool tmpl_is_digit(uint32_t cp)
{
    return tmpl_is_decimal(cp) || in_ranges(cp, digit_ranges, ARRAY_LEN(digit_ranges));
}

bool tmpl_is_numeric(uint32_t cp)
{
    utf8proc_category_t c = category(cp);
    return (c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO) ||
           in_ranges(cp, numeric_ranges, ARRAY_LEN(numeric_ranges));
}

bool tmpl_is_printable(uint32_t cp)
{
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return cp == ' ';
    default:
        return true;
    }
}

bool tmpl_is_upper(uint32_t cp)
{
    return category(cp) == UTF8PROC_CATEGORY_LU ||
           in_ranges(cp, upper_ranges, ARRAY_LEN(upper_ranges));
}

bool tmpl_is_lower(uint32_t cp)
{
    return category(cp) == UTF8PROC_CATEGORY_LL ||
           in_ranges(cp, lower_ranges, ARRAY_LEN(lower_ranges));
}

bool tmpl_is_title(uint32_t cp)
{
    return category(cp) == UTF8PROC_CATEGORY_LT;
}

bool tmpl_is_case_ignorable(uint32_t cp)
{
    return in_ranges(cp, ignorable_ranges, ARRAY_LEN(ignorable_ranges));
}

size_t tmpl_space_prefix(const char *s, size_t n)
{
    size_t i = 0;
    uint32_t cp;
    while (i < n) {
        size_t k = tmpl_char_at(s + i, &cp);
        if (!tmpl_is_space(cp))
            break;
        i += k;
    }
    return i;
}

size_t tmpl_rstrip_space(const char *s, size_t n)
{
    uint32_t cp;
    while (n > 0) {
        size_t i = tmpl_char_before(s, n, &cp);
        if (!tmpl_is_space(cp))
            break;
        n = i;
    }
    return n;
}

/* Whether cp may stand in a name; *start: also as its first character. */
static bool is_name_char(uint32_t cp, bool *start)
{
    if (cp < 0x80) {
        *start = cp == '_' || (cp >= 'a' && cp <= 'z') || (cp >= 'A' && cp <= 'Z');
        return *start || (cp >= '0' && cp <= '9');
    }
    utf8proc_category_t c = category(cp);
    bool letter =
        (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO) || c == UTF8PROC_CATEGORY_NL;
    bool more = letter || c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_MC ||
                c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_PC;
    *start = letter != in_ranges(cp, odd_start_ranges, ARRAY_LEN(odd_start_ranges));
    return more != in_ranges(cp, odd_more_ranges, ARRAY_LEN(odd_more_ranges));
}

size_t tmpl_name_prefix(const char *s, size_t n)
{
    size_t i = 0;
    uint32_t cp;
    bool start;
    while (i < n) {
        size_t k = tmpl_char_at(s + i, &cp);
        if (!is_name_char(cp, &start) && !tmpl_is_numeric(cp))
            break;
        i += k;
    }
    return i;
}

bool tmpl_is_identifier(const char *s, size_t n)
{
    uint32_t cp;
    bool start;
    for (size_t i = 0; i < n;) {
        size_t k = tmpl_char_at(s + i, &cp);
        if (!is_name_char(cp, &start) || (i == 0 && !start))
            return false;
        i += k;
    }
    return n > 0;
}

size_t tmpl_find(const char *s, size_t n, const char *sub, size_t n_sub, size_t from)
{
    if (from > n || n_sub > n - from)
        return TMPL_NOT_FOUND;
    if (n_sub == 0)
        return from;
    const char *p = memmem(s + from, n - from, sub, n_sub);
    return p ? (size_t)(p - s) : TMPL_NOT_FOUND;
}

size_t tmpl_rfind(const char *s, size_t n, const char *sub, size_t n_sub)
{
    if (n_sub > n)
        return TMPL_NOT_FOUND;
    for (size_t i = n - n_sub + 1; i-- > 0;)
        if (memcmp(s + i, sub, n_sub) == 0)
            return i;
    return TMPL_NOT_FOUND;
}

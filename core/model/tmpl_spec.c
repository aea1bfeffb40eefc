/* tmpl_spec.c - format(value, spec): the format specification of str.format. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/tmpl_text_int.h"
#include "core/model/tmpl_val_int.h"
#include "core/util/utf8.h"

enum { MAX_DIGITS = 10000 };

struct spec {
    char fill[4];
    size_t n_fill;
    char align; /* '<', '>', '=', '^'; 0: none given */
    char sign;  /* '+', '-', ' '; 0: none given */
    bool no_neg_zero, alt;
    int64_t width, precision; /* -1: none */
    char grouping;            /* ',' or '_' or 0 */
    char type;                /* 0: none given */
};

static int bad_spec(struct tmpl_run *r, const struct tmpl_val *v)
{
    return tmpl_raise(r, EXC_VALUE, "invalid format specifier for object of type '%s'",
                      tmpl_type_name(v));
}

static bool is_align(char c)
{
    return c == '<' || c == '>' || c == '=' || c == '^';
}

static bool read_number(const char *s, size_t n, size_t *i, int64_t *out)
{
    if (*i >= n || s[*i] < '0' || s[*i] > '9')
        return true;
    for (*out = 0; *i < n && s[*i] >= '0' && s[*i] <= '9'; ++*i) {
        *out = *out * 10 + (s[*i] - '0');
        if (*out > INT32_MAX)
            return false;
    }
    return true;
}

static int parse_spec(struct tmpl_run *r, const struct tmpl_val *v, const char *s, size_t n,
                      struct spec *sp)
{
    *sp = (struct spec){.fill = " ", .n_fill = 1, .width = -1, .precision = -1};
    uint32_t cp;
    size_t i = 0, k = n ? tmpl_char_at(s, &cp) : 0;
    bool fill_given = false;
    if (k < n && is_align(s[k])) {
        memcpy(sp->fill, s, k);
        sp->n_fill = k;
        sp->align = s[k];
        fill_given = true;
        i = k + 1;
    } else if (n && is_align(s[0]))
        sp->align = s[i++];
    if (i < n && (s[i] == '+' || s[i] == '-' || s[i] == ' '))
        sp->sign = s[i++];
    if (i < n && s[i] == 'z') {
        sp->no_neg_zero = true;
        i++;
    }
    if (i < n && s[i] == '#') {
        sp->alt = true;
        i++;
    }
    if (!fill_given && i < n && s[i] == '0') {
        sp->fill[0] = '0';
        sp->n_fill = 1;
        if (!sp->align && tmpl_is_num(v))
            sp->align = '=';
        i++;
    }
    if (!read_number(s, n, &i, &sp->width))
        return tmpl_raise(r, EXC_VALUE, "too many decimal digits in format string");
    if (i < n && (s[i] == ',' || s[i] == '_'))
        sp->grouping = s[i++];
    if (i < n && (s[i] == ',' || s[i] == '_'))
        return tmpl_raise(r, EXC_VALUE, "cannot specify both ',' and '_'");
    if (i < n && s[i] == '.') {
        i++;
        if (!read_number(s, n, &i, &sp->precision))
            return tmpl_raise(r, EXC_VALUE, "too many decimal digits in format string");
        if (sp->precision < 0)
            return tmpl_raise(r, EXC_VALUE, "format specifier missing precision");
    }
    if (n - i > 1)
        return bad_spec(r, v);
    if (i < n)
        sp->type = s[i];
    if (sp->grouping && sp->type && !strchr("deEfFgG%", sp->type) &&
        !(sp->grouping == '_' && strchr("box", sp->type | 0x20) && sp->type != 'B' &&
          sp->type != 'O'))
        return tmpl_raise(r, EXC_VALUE, "cannot specify '%c' with '%c'", sp->grouping, sp->type);
    return 0;
}

static void add_fill(struct buf *b, const struct spec *sp, size_t count)
{
    for (size_t i = 0; i < count && !b->failed; i++)
        buf_add(b, sp->fill, sp->n_fill);
}

/* Pads n bytes of text; the first n_head of them (sign, prefix) stay left of '=' padding. */
static int add_padded(struct tmpl_run *r, struct buf *b, const struct spec *sp, char align,
                      const char *text, size_t n, size_t n_head)
{
    size_t len = tmpl_count_chars(text, n);
    size_t pad = sp->width > 0 && (size_t)sp->width > len ? (size_t)sp->width - len : 0;
    size_t left = align == '>' ? pad : align == '^' ? pad / 2 : 0;
    if (pad > b->max_len)
        return tmpl_limit(r, "a formatted string is too long");
    add_fill(b, sp, left);
    buf_add(b, text, n_head);
    if (align == '=')
        add_fill(b, sp, pad);
    buf_add(b, text + n_head, n - n_head);
    if (align != '=')
        add_fill(b, sp, pad - left);
    return b->failed ? tmpl_memory_limit(r) : tmpl_charge(r, n + pad);
}

/* Digits with separators, filled with zeros on the left up to min_width. */
static void add_grouped(struct buf *b, const char *digits, size_t n, char sep, size_t every,
                        size_t min_width)
{
    if (!sep) {
        for (size_t i = n; i < min_width; i++)
            buf_addch(b, '0');
        buf_add(b, digits, n);
        return;
    }
    size_t total = n;
    while (total + (total - 1) / every < min_width)
        total++;
    for (size_t i = 0; i < total; i++) {
        if (i && (total - i) % every == 0)
            buf_addch(b, sep);
        buf_addch(b, i < total - n ? '0' : digits[i - (total - n)]);
    }
}

/* A number cut into head (sign, prefix), digits and rest (point, exponent, '%'). */
static int add_number(struct tmpl_run *r, struct buf *b, const struct spec *sp, bool negative,
                      const char *prefix, const char *text, size_t n_digits, size_t n)
{
    struct buf whole = {0};
    char sign = negative ? '-' : sp->sign == '+' ? '+' : sp->sign == ' ' ? ' ' : '\0';
    if (sign)
        buf_addch(&whole, sign);
    buf_addstr(&whole, prefix);
    size_t n_head = whole.len, n_rest = n - n_digits, min_width = 0;
    char align = sp->align ? sp->align : '>';
    size_t every = sp->type && strchr("bBoOxX", sp->type) ? 4 : 3;
    bool zero_fill = align == '=' && sp->n_fill == 1 && sp->fill[0] == '0';
    if (sp->width > MAX_DIGITS && zero_fill)
        return tmpl_limit(r, "a width over %d is not supported", MAX_DIGITS);
    if (zero_fill && sp->width > 0 && (size_t)sp->width > n_head + n_rest)
        min_width = (size_t)sp->width - n_head - n_rest;
    if (n_digits || min_width)
        add_grouped(&whole, text, n_digits, n_digits ? sp->grouping : '\0', every, min_width);
    buf_add(&whole, text + n_digits, n_rest);
    int rc = whole.failed ? tmpl_memory_limit(r)
                          : add_padded(r, b, sp, align, buf_str(&whole), whole.len, n_head);
    buf_fini(&whole);
    return rc;
}

static int unknown_type(struct tmpl_run *r, const struct spec *sp, const struct tmpl_val *v)
{
    return tmpl_raise(r, EXC_VALUE, "unknown format code '%c' for object of type '%s'", sp->type,
                      tmpl_type_name(v));
}

static int format_char(struct tmpl_run *r, struct buf *b, const struct spec *sp, int64_t i)
{
    char bytes[4];
    size_t n;
    if (sp->sign || sp->alt)
        return tmpl_raise(r, EXC_VALUE, "sign and '#' are not allowed with format code 'c'");
    int rc = tmpl_chr(r, i, bytes, &n);
    return rc ? rc : add_padded(r, b, sp, sp->align ? sp->align : '<', bytes, n, 0);
}

static int format_int(struct tmpl_run *r, struct buf *b, const struct spec *sp,
                      const struct tmpl_val *v)
{
    int64_t i = tmpl_as_int(v);
    uint64_t m = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    char digits[72], prefix[3] = {'0', sp->type, '\0'};
    size_t n = 0;
    if (sp->precision >= 0)
        return tmpl_raise(r, EXC_VALUE, "precision not allowed in integer format specifier");
    if (sp->no_neg_zero)
        return tmpl_raise(r, EXC_VALUE, "'z' not allowed in integer format specifier");
    switch (sp->type) {
    case 'c':
        return format_char(r, b, sp, i);
    case 'b':
        for (int bit = 63; bit >= 0; bit--)
            if (n || bit == 0 || m >> bit & 1)
                digits[n++] = '0' + (m >> bit & 1);
        break;
    case 'o':
        n = (size_t)snprintf(digits, sizeof(digits), "%" PRIo64, m);
        break;
    case 'x':
        n = (size_t)snprintf(digits, sizeof(digits), "%" PRIx64, m);
        break;
    case 'X':
        n = (size_t)snprintf(digits, sizeof(digits), "%" PRIX64, m);
        break;
    case '\0':
    case 'd':
    case 'n':
        n = (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, m);
        prefix[0] = '\0';
        break;
    default:
        return unknown_type(r, sp, v);
    }
    return add_number(r, b, sp, i < 0, sp->alt ? prefix : "", digits, n, n);
}

void tmpl_add_float(struct buf *b, double v, char type, int precision, bool alt)
{
    bool upper = type >= 'A' && type <= 'Z';
    if (isnan(v) || isinf(v)) {
        if (isinf(v) && v < 0)
            buf_addch(b, '-');
        buf_addstr(b, isnan(v) ? (upper ? "NAN" : "nan") : upper ? "INF" : "inf");
        return;
    }
    switch (type) {
    case 'e':
        buf_addf(b, alt ? "%#.*e" : "%.*e", precision, v);
        break;
    case 'E':
        buf_addf(b, alt ? "%#.*E" : "%.*E", precision, v);
        break;
    case 'g':
        buf_addf(b, alt ? "%#.*g" : "%.*g", precision, v);
        break;
    case 'G':
        buf_addf(b, alt ? "%#.*G" : "%.*G", precision, v);
        break;
    default:
        buf_addf(b, alt ? "%#.*f" : "%.*f", precision, v);
    }
}

/* No type: as 'g', but with a digit behind the point; without precision as repr. */
static void add_plain_float(struct buf *b, const struct spec *sp, double v)
{
    char text[TMPL_FLOAT_CHARS];
    if (sp->precision < 0) {
        tmpl_float_repr(v, text);
        size_t n = sp->alt && !strchr(text, '.') ? strcspn(text, "e") : strlen(text);
        buf_add(b, text, n);
        if (text[n])
            buf_addf(b, ".%s", text + n);
        return;
    }
    int precision = sp->precision ? (int)sp->precision : 1;
    snprintf(text, sizeof(text), "%.*e", precision > 17 ? 16 : precision - 1, v);
    const char *e = strchr(text, 'e');
    int exp10 = e ? (int)strtol(e + 1, NULL, 10) : 0;
    size_t from = b->len;
    /* Python goes to exponents one digit earlier here than for 'g'. */
    if (e && exp10 == precision - 1 && exp10 >= -4) {
        tmpl_add_float(b, v, 'e', precision - 1, sp->alt);
        char *at = b->data ? strchr(b->data + from, 'e') : NULL;
        if (at && !sp->alt && memchr(b->data + from, '.', (size_t)(at - b->data) - from)) {
            char *keep = at;
            while (keep[-1] == '0')
                keep--;
            if (keep[-1] == '.')
                keep--;
            memmove(keep, at, strlen(at) + 1);
            b->len -= (size_t)(at - keep);
        }
        return;
    }
    tmpl_add_float(b, v, 'g', precision, sp->alt);
    if (b->data && !strpbrk(b->data + from, ".en"))
        buf_addstr(b, ".0");
}

static int format_float(struct tmpl_run *r, struct buf *b, const struct spec *sp,
                        const struct tmpl_val *v)
{
    double f = tmpl_as_float(v);
    struct buf text = {0};
    int precision = sp->precision < 0 ? 6 : (int)sp->precision;
    if (sp->precision > MAX_DIGITS)
        return tmpl_limit(r, "a precision over %d is not supported", MAX_DIGITS);
    if (sp->type && !strchr("eEfFgGn%", sp->type))
        return unknown_type(r, sp, v);
    if (!sp->type)
        add_plain_float(&text, sp, f);
    else if (sp->type == '%') {
        tmpl_add_float(&text, f * 100, 'f', precision, sp->alt);
        buf_addch(&text, '%');
    } else
        tmpl_add_float(&text, f, sp->type == 'n' ? 'g' : sp->type, precision, sp->alt);
    const char *s = buf_str(&text);
    bool negative = *s == '-';
    s += negative;
    if (negative && sp->no_neg_zero && strspn(s, "0.e+%-") == strlen(s))
        negative = false;
    size_t n = strlen(s), n_digits = strspn(s, "0123456789");
    int rc =
        text.failed ? tmpl_memory_limit(r) : add_number(r, b, sp, negative, "", s, n_digits, n);
    buf_fini(&text);
    return rc;
}

static int format_str(struct tmpl_run *r, struct buf *b, const struct spec *sp,
                      const struct tmpl_val *v)
{
    const char *fault = sp->sign || sp->no_neg_zero ? "sign"
                        : sp->alt                   ? "'#'"
                        : sp->grouping              ? "a separator"
                        : sp->align == '='          ? "'=' alignment"
                                                    : NULL;
    if (sp->type && sp->type != 's')
        return unknown_type(r, sp, v);
    if (fault)
        return tmpl_raise(r, EXC_VALUE, "%s not allowed in string format specifier", fault);
    size_t n = v->str->n;
    if (sp->precision >= 0)
        n = tmpl_char_offset(v->str->s, n, (size_t)sp->precision);
    return add_padded(r, b, sp, sp->align ? sp->align : '<', v->str->s, n, 0);
}

int tmpl_chr(struct tmpl_run *r, int64_t cp, char out[4], size_t *n)
{
    if (cp < 0 || cp > 0x10ffff)
        return tmpl_raise(r, EXC_OVERFLOW, "%%c arg not in range(0x110000)");
    if (!(*n = utf8_encode((uint32_t)cp, out)))
        return tmpl_unsupported(r, "the surrogate U+%04X has no UTF-8 form", (unsigned)cp);
    return 0;
}

int tmpl_format_value(struct tmpl_run *r, struct buf *b, const struct tmpl_val *v, const char *s,
                      size_t n)
{
    struct spec sp;
    if (n == 0)
        return tmpl_add_str(r, b, v);
    if (!tmpl_is_num(v) && v->type != TV_STR)
        return tmpl_raise(r, EXC_TYPE, "unsupported format string passed to %s.__format__",
                          tmpl_type_name(v));
    int rc = parse_spec(r, v, s, n, &sp);
    if (rc)
        return rc;
    if (v->type == TV_STR)
        return format_str(r, b, &sp, v);
    if (v->type == TV_FLOAT || (sp.type && strchr("eEfFgG%", sp.type)))
        return format_float(r, b, &sp, v);
    return format_int(r, b, &sp, v);
}

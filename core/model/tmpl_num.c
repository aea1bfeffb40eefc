/* tmpl_num.c - int and float as Python computes, reads and writes them. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/model/tmpl_ast_int.h"
#include "core/model/tmpl_text_int.h"
#include "core/model/tmpl_val_int.h"

/* Shortest decimal digits that read back as v > 0, as "d.ddde[+-]xx". Of a power of two the
 * nearest short decimal may lie above, so the next one up is tried as well. */
static void shortest(double v, char out[TMPL_FLOAT_CHARS])
{
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, TMPL_FLOAT_CHARS, "%.*e", digits - 1, v);
        if (strtod(out, NULL) == v)
            return;
        char *last = strchr(out, 'e') - 1;
        if (*last < '9') {
            ++*last;
            if (strtod(out, NULL) == v)
                return;
        }
    }
}

/* Digits with the point behind the first n_whole of them; at least one digit on either side. */
static char *put_plain(char *out, const char *digits, int n, int n_whole)
{
    if (n_whole <= 0)
        *out++ = '0';
    for (int i = 0; i < n_whole; i++)
        *out++ = i < n ? digits[i] : '0';
    *out++ = '.';
    for (int i = n_whole; i < 0; i++)
        *out++ = '0';
    for (int i = n_whole > 0 ? n_whole : 0; i < n; i++)
        *out++ = digits[i];
    if (n <= n_whole)
        *out++ = '0';
    return out;
}

void tmpl_float_repr(double v, char out[TMPL_FLOAT_CHARS])
{
    char text[TMPL_FLOAT_CHARS], digits[24];
    if (isnan(v) || isinf(v)) {
        snprintf(out, TMPL_FLOAT_CHARS, "%s", isnan(v) ? "nan" : v < 0 ? "-inf" : "inf");
        return;
    }
    if (signbit(v))
        *out++ = '-';
    if (v == 0) {
        memcpy(out, "0.0", sizeof("0.0"));
        return;
    }
    shortest(fabs(v), text);
    char *e = strchr(text, 'e');
    int exp10 = (int)strtol(e + 1, NULL, 10), n = 0;
    for (const char *p = text; p < e; p++)
        if (*p != '.')
            digits[n++] = *p;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    digits[n] = '\0';
    if (exp10 >= -4 && exp10 < 16)
        out = put_plain(out, digits, n, exp10 + 1);
    else {
        *out++ = digits[0];
        if (n > 1)
            *out++ = '.';
        memcpy(out, digits + 1, (size_t)n - 1);
        out += n - 1;
        out += snprintf(out, 8, "e%c%02d", exp10 < 0 ? '-' : '+', abs(exp10) % 1000);
    }
    *out = '\0';
}

static int too_big(struct tmpl_run *r)
{
    return tmpl_unsupported(r, "an integer does not fit 64 bits");
}

static int bit_length(uint64_t x)
{
    return x ? 64 - __builtin_clzll(x) : 0;
}

/* a / b correctly rounded, also where a or b has no double. */
static double divide_ints(int64_t a, int64_t b)
{
    uint64_t x = a < 0 ? 0 - (uint64_t)a : (uint64_t)a, y = b < 0 ? 0 - (uint64_t)b : (uint64_t)b;
    if (x <= 1ull << 53 && y <= 1ull << 53)
        return (double)a / (double)b;
    int shift = 55 + bit_length(y) - bit_length(x);
    if (shift < 0)
        shift = 0;
    unsigned __int128 wide = (unsigned __int128)x << shift;
    uint64_t q = (uint64_t)(wide / y);
    if (wide % y)
        q |= 1; /* sticky: the quotient has bits to spare below the rounding */
    double d = ldexp((double)q, -shift);
    return (a < 0) != (b < 0) ? -d : d;
}

static int int_op(struct tmpl_run *r, int op, int64_t a, int64_t b, struct tmpl_val *out)
{
    int64_t v = 0;
    bool overflow = false;
    if ((op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD) && b == 0)
        return tmpl_raise(r, EXC_OTHER, "division by zero");
    switch (op) {
    case OP_ADD:
        overflow = __builtin_add_overflow(a, b, &v);
        break;
    case OP_SUB:
        overflow = __builtin_sub_overflow(a, b, &v);
        break;
    case OP_MUL:
        overflow = __builtin_mul_overflow(a, b, &v);
        break;
    case OP_DIV:
        *out = tmpl_float(divide_ints(a, b));
        return 0;
    default:
        if (b == -1) {
            overflow = op == OP_FLOORDIV && a == INT64_MIN;
            v = op == OP_MOD || overflow ? 0 : -a;
            break;
        }
        v = op == OP_MOD ? a % b : a / b;
        if (a % b != 0 && (a < 0) != (b < 0))
            v += op == OP_MOD ? b : -1;
    }
    if (overflow)
        return too_big(r);
    *out = tmpl_int(v);
    return 0;
}

/* Python's float floor division and modulo. */
static void float_divmod(double a, double b, double *div, double *mod)
{
    *mod = fmod(a, b);
    *div = (a - *mod) / b;
    if (*mod) {
        if ((b < 0) != (*mod < 0)) {
            *mod += b;
            *div -= 1.0;
        }
    } else
        *mod = copysign(0.0, b);
    if (*div) {
        double whole = floor(*div);
        if (*div - whole > 0.5)
            whole += 1.0;
        *div = whole;
    } else
        *div = copysign(0.0, a / b);
}

static int float_op(struct tmpl_run *r, int op, double a, double b, struct tmpl_val *out)
{
    double v, mod;
    if ((op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD) && b == 0)
        return tmpl_raise(r, EXC_OTHER, "float division by zero");
    switch (op) {
    case OP_ADD:
        v = a + b;
        break;
    case OP_SUB:
        v = a - b;
        break;
    case OP_MUL:
        v = a * b;
        break;
    case OP_DIV:
        v = a / b;
        break;
    default:
        float_divmod(a, b, &v, &mod);
        if (op == OP_MOD)
            v = mod;
    }
    *out = tmpl_float(v);
    return 0;
}

static int int_pow(struct tmpl_run *r, int64_t base, int64_t exp, struct tmpl_val *out)
{
    int64_t v = 1;
    bool overflow = false;
    while (exp > 0 && !overflow) {
        if (exp & 1)
            overflow = __builtin_mul_overflow(v, base, &v);
        exp >>= 1;
        if (exp && !overflow)
            overflow = __builtin_mul_overflow(base, base, &base);
    }
    if (overflow)
        return too_big(r);
    *out = tmpl_int(v);
    return 0;
}

static int num_pow(struct tmpl_run *r, const struct tmpl_val *a, const struct tmpl_val *b,
                   struct tmpl_val *out)
{
    if (tmpl_is_int(a) && tmpl_is_int(b) && tmpl_as_int(b) >= 0) {
        int64_t base = tmpl_as_int(a), exp = tmpl_as_int(b);
        if (base == 0 || base == 1 || base == -1) {
            *out = tmpl_int(exp == 0 ? 1 : base == -1 && exp % 2 == 0 ? 1 : base);
            return 0;
        }
        return exp > 63 ? too_big(r) : int_pow(r, base, exp, out);
    }
    double x = tmpl_as_float(a), y = tmpl_as_float(b);
    if (x == 0 && y < 0)
        return tmpl_raise(r, EXC_OTHER, "0.0 cannot be raised to a negative power");
    if (x < 0 && isfinite(x) && isfinite(y) && y != floor(y))
        return tmpl_unsupported(r, "complex numbers are not supported");
    double v = pow(x, y);
    if (isinf(v) && isfinite(x) && isfinite(y))
        return tmpl_raise(r, EXC_OVERFLOW, "numerical result out of range");
    *out = tmpl_float(v);
    return 0;
}

int tmpl_num_op(struct tmpl_run *r, int op, const struct tmpl_val *a, const struct tmpl_val *b,
                struct tmpl_val *out)
{
    if (op == OP_POW)
        return num_pow(r, a, b, out);
    if (tmpl_is_int(a) && tmpl_is_int(b))
        return int_op(r, op, tmpl_as_int(a), tmpl_as_int(b), out);
    return float_op(r, op, tmpl_as_float(a), tmpl_as_float(b), out);
}

int tmpl_float_to_int(struct tmpl_run *r, double f, int64_t *out)
{
    if (isnan(f))
        return tmpl_raise(r, EXC_VALUE, "cannot convert float NaN to integer");
    if (isinf(f))
        return tmpl_raise(r, EXC_OVERFLOW, "cannot convert float infinity to integer");
    f = trunc(f);
    if (f >= 9223372036854775808.0 || f < -9223372036854775808.0)
        return too_big(r);
    *out = (int64_t)f;
    return 0;
}

int tmpl_index_arg(struct tmpl_run *r, const struct tmpl_val *v, int64_t *out)
{
    if (v->type == TV_UNDEF)
        return tmpl_raise(r, EXC_TYPE, "'Undefined' object cannot be interpreted as an integer");
    if (!tmpl_is_int(v))
        return tmpl_raise(r, EXC_TYPE, "'%s' object cannot be interpreted as an integer",
                          tmpl_type_name(v));
    *out = tmpl_as_int(v);
    return 0;
}

/* --- rounding --- */

/* Rounds to the left of the point: digits < 0. */
static double round_left(double v, int64_t digits)
{
    char text[TMPL_FLOAT_CHARS];
    snprintf(text, sizeof(text), "%.17e", fabs(v));
    int exp10 = (int)strtol(strchr(text, 'e') + 1, NULL, 10);
    int64_t keep = exp10 + 1 + digits;
    if (keep < 0)
        return copysign(0.0, v);
    if (keep == 0) {
        snprintf(text, sizeof(text), "5e%d", exp10);
        if (fabs(v) <= strtod(text, NULL))
            return copysign(0.0, v);
        snprintf(text, sizeof(text), "1e%d", exp10 + 1);
        return copysign(strtod(text, NULL), v);
    }
    snprintf(text, sizeof(text), "%.*e", (int)(keep < 18 ? keep - 1 : 17), v);
    return strtod(text, NULL);
}

static int round_int(struct tmpl_run *r, int64_t v, int64_t digits, struct tmpl_val *out)
{
    *out = tmpl_int(v);
    if (digits >= 0)
        return 0;
    if (digits < -18) {
        *out = tmpl_int(0);
        return digits == -19 && (v > 5000000000000000000 || v < -5000000000000000000) ? too_big(r)
                                                                                      : 0;
    }
    int64_t unit = 1;
    for (; digits < 0; digits++)
        unit *= 10;
    int64_t down = v / unit - (v % unit < 0), rest = v - down * unit;
    if (rest > unit - rest || (rest == unit - rest && down % 2))
        down++;
    if (__builtin_mul_overflow(down, unit, &v))
        return too_big(r);
    *out = tmpl_int(v);
    return 0;
}

int tmpl_round(struct tmpl_run *r, const struct tmpl_val *v, int64_t digits, struct tmpl_val *out)
{
    if (tmpl_is_int(v))
        return round_int(r, tmpl_as_int(v), digits, out);
    if (v->type != TV_FLOAT)
        return tmpl_raise(r, EXC_TYPE, "type %s doesn't define __round__ method",
                          tmpl_type_name(v));
    *out = *v;
    if (!isfinite(v->f) || v->f == 0 || digits > 323)
        return 0;
    if (digits < 0) {
        out->f = digits < -308 ? copysign(0.0, v->f) : round_left(v->f, digits);
        return isfinite(out->f) ? 0 : tmpl_raise(r, EXC_OVERFLOW, "rounded value too large");
    }
    char text[700]; /* 309 digits, a point and 323 digits */
    snprintf(text, sizeof(text), "%.*f", (int)digits, v->f);
    out->f = strtod(text, NULL);
    return 0;
}

/* --- reading --- */

/* Copies a number's text without the white space around it. In a text of ASCII alone Python does
 * not take U+001C to U+001F for white space here. False when it cannot be a number. */
static bool clean_number(const struct tmpl_str *s, char *text, size_t room, bool *non_ascii)
{
    size_t from = tmpl_space_prefix(s->s, s->n), n = tmpl_rstrip_space(s->s, s->n), len = 0;
    *non_ascii = false;
    for (size_t i = 0; i < s->n; i++)
        *non_ascii |= (unsigned char)s->s[i] >= 0x80;
    if (!*non_ascii)
        for (size_t i = 0; i < s->n; i++)
            if (s->s[i] >= 0x1c && s->s[i] <= 0x1f)
                return false;
    if (n <= from || n - from >= room)
        return false;
    for (size_t i = from; i < n; i++) {
        unsigned char c = (unsigned char)s->s[i];
        if (c >= 0x80 || c == '\0')
            return false;
        text[len++] = (char)c;
    }
    text[len] = '\0';
    return true;
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
}

static int not_a_number(struct tmpl_run *r, const struct tmpl_str *s, bool non_ascii,
                        const char *what)
{
    uint32_t cp;
    for (size_t i = 0; non_ascii && i < s->n;) {
        i += tmpl_char_at(s->s + i, &cp);
        if (cp >= 0x80 && tmpl_is_decimal(cp))
            return tmpl_unsupported(r, "digits beyond ASCII are not supported in numbers");
    }
    return tmpl_raise(r, EXC_VALUE, "not a valid %s", what);
}

/* Digits of a base with single underscores between them; false when malformed. */
static bool read_digits(const char *p, int base, bool underscore_first, int64_t *out,
                        bool *overflow)
{
    bool last_digit = underscore_first;
    uint64_t v = 0;
    *overflow = false;
    if (!*p)
        return false;
    for (; *p; p++) {
        if (*p == '_') {
            if (!last_digit)
                return false;
            last_digit = false;
            continue;
        }
        int d = digit_value(*p);
        if (d >= base)
            return false;
        last_digit = true;
        if (__builtin_mul_overflow(v, (uint64_t)base, &v) ||
            __builtin_add_overflow(v, (uint64_t)d, &v) || v > (uint64_t)INT64_MAX + 1) {
            *overflow = true;
            v = 0;
        }
    }
    *out = (int64_t)v;
    return last_digit;
}

int tmpl_parse_int(struct tmpl_run *r, const struct tmpl_str *s, int base, int64_t *out)
{
    char text[512];
    bool non_ascii, overflow;
    if (s->n >= sizeof(text))
        return tmpl_unsupported(r, "a number of %zu characters is not supported", s->n);
    if (base != 0 && (base < 2 || base > 36))
        return tmpl_raise(r, EXC_VALUE, "int() base must be >= 2 and <= 36, or 0");
    if (!clean_number(s, text, sizeof(text), &non_ascii))
        return not_a_number(r, s, non_ascii, "integer");
    const char *p = text;
    bool negative = *p == '-', prefixed = false;
    if (*p == '-' || *p == '+')
        p++;
    if (p[0] == '0' && p[1]) {
        char kind = p[1] | 0x20;
        int of = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
        if (of && (base == of || base == 0)) {
            base = of;
            prefixed = true;
            p += 2;
        }
    }
    bool zero_only = base == 0 && *p == '0';
    if (base == 0)
        base = 10;
    if (!read_digits(p, base, prefixed, out, &overflow) || (zero_only && (*out || overflow)))
        return not_a_number(r, s, false, "integer");
    if (overflow || (!negative && *out == INT64_MIN))
        return too_big(r);
    if (negative && *out != INT64_MIN)
        *out = -*out;
    return 0;
}

/* Whether text is [+-](digits[.digits][e..] | inf | nan), removing underscores on the way. */
static bool check_float(char *text)
{
    char *to = text;
    const char *p = text;
    bool digits = false;
    if (*p == '+' || *p == '-')
        *to++ = *p++;
    if (strcasecmp(p, "inf") == 0 || strcasecmp(p, "infinity") == 0 || strcasecmp(p, "nan") == 0)
        return true;
    for (int part = 0; part < 3; part++) {
        bool any = false;
        for (; (*p >= '0' && *p <= '9') || *p == '_'; p++) {
            if (*p == '_' && (!any || p[1] < '0' || p[1] > '9'))
                return false;
            any = true;
            if (*p != '_')
                *to++ = *p;
        }
        digits |= any && part < 2;
        if (part == 2 && !any)
            return false;
        if (part == 0 && *p == '.')
            *to++ = *p++;
        else if (part < 2 && digits && (*p == 'e' || *p == 'E')) {
            *to++ = *p++;
            if (*p == '+' || *p == '-')
                *to++ = *p++;
            part = 1;
        } else
            break;
    }
    bool complete = digits && !*p;
    *to = '\0';
    return complete;
}

int tmpl_parse_float(struct tmpl_run *r, const struct tmpl_str *s, double *out)
{
    char text[512];
    bool non_ascii;
    if (s->n >= sizeof(text))
        return tmpl_unsupported(r, "a number of %zu characters is not supported", s->n);
    if (!clean_number(s, text, sizeof(text), &non_ascii) || !check_float(text))
        return not_a_number(r, s, non_ascii, "float");
    *out = strtod(text, NULL);
    return 0;
}

/* tmpl_percent.c - the operator % on a string: printf-style formatting. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/tmpl_text_int.h"
#include "core/model/tmpl_val_int.h"

enum { MAX_PRECISION = 10000 };

struct percent {
    struct tmpl_run *r;
    const char *s;
    size_t n, i;
    struct buf *b;
    const struct tmpl_val *args; /* as given */
    struct tmpl_val cur;         /* args, or the value of the last %(key) */
    bool is_mapping;
    bool is_tuple; /* cur is a tuple to take items from */
    size_t used;
};

struct spec {
    bool left, plus, blank, alt, zero;
    int64_t width, precision; /* -1: none */
    char type;
};

static bool is_mapping(const struct tmpl_val *v)
{
    return v->type == TV_DICT || v->type == TV_LIST || v->type == TV_RANGE || v->type == TV_UNDEF;
}

/* The next argument; NULL: the error is set. */
static const struct tmpl_val *next_arg(struct percent *p)
{
    size_t n = p->is_tuple ? p->cur.list->n : 1, i = p->used++;
    if (i < n)
        return p->is_tuple ? &p->cur.list->items[i] : &p->cur;
    (void)tmpl_raise(p->r, EXC_TYPE, "not enough arguments for format string");
    return NULL;
}

static int incomplete(struct percent *p)
{
    return tmpl_raise(p->r, EXC_VALUE, "incomplete format");
}

/* (key) at the position. */
static int read_key(struct percent *p)
{
    struct tmpl_val key;
    if (!is_mapping(p->args))
        return tmpl_raise(p->r, EXC_TYPE, "format requires a mapping");
    size_t from = ++p->i;
    for (int open = 1; open > 0; p->i++) {
        if (p->i >= p->n)
            return tmpl_raise(p->r, EXC_VALUE, "incomplete format key");
        open += p->s[p->i] == '(' ? 1 : p->s[p->i] == ')' ? -1 : 0;
    }
    int rc = tmpl_str_ref(p->r, p->s + from, p->i - 1 - from, &key);
    if (rc == 0)
        rc = tmpl_subscript(p->r, p->args, &key, &p->cur);
    p->is_tuple = false;
    p->used = 0;
    return rc;
}

/* Digits or * at the position; *out stays when there are none. */
static int read_number(struct percent *p, int64_t *out)
{
    if (p->i < p->n && p->s[p->i] == '*') {
        p->i++;
        const struct tmpl_val *v = next_arg(p);
        if (!v)
            return tmpl_failed(p->r);
        if (!tmpl_is_int(v))
            return tmpl_raise(p->r, EXC_TYPE, "* wants int");
        *out = tmpl_as_int(v);
    } else if (p->i < p->n && p->s[p->i] >= '0' && p->s[p->i] <= '9') {
        for (*out = 0; p->i < p->n && p->s[p->i] >= '0' && p->s[p->i] <= '9'; p->i++) {
            *out = *out * 10 + (p->s[p->i] - '0');
            if (*out > INT32_MAX)
                return tmpl_raise(p->r, EXC_VALUE, "width too big");
        }
    }
    if (*out > INT32_MAX || *out < -INT32_MAX)
        return tmpl_raise(p->r, EXC_OVERFLOW, "width too big");
    return 0;
}

static int read_spec(struct percent *p, struct spec *sp)
{
    *sp = (struct spec){.width = -1, .precision = -1};
    int rc = 0;
    if (p->i < p->n && p->s[p->i] == '(')
        rc = read_key(p);
    for (; rc == 0 && p->i < p->n && p->s[p->i] && strchr("-+ #0", p->s[p->i]); p->i++) {
        char c = p->s[p->i];
        sp->left |= c == '-';
        sp->plus |= c == '+';
        sp->blank |= c == ' ';
        sp->alt |= c == '#';
        sp->zero |= c == '0';
    }
    if (rc == 0)
        rc = read_number(p, &sp->width);
    if (sp->width < -1) {
        sp->left = true;
        sp->width = -sp->width;
    }
    if (rc == 0 && p->i < p->n && p->s[p->i] == '.') {
        p->i++;
        sp->precision = 0;
        rc = read_number(p, &sp->precision);
        if (sp->precision < 0)
            sp->precision = 0;
    }
    if (rc)
        return rc;
    if (p->i < p->n && p->s[p->i] && strchr("hlL", p->s[p->i]))
        p->i++;
    if (p->i >= p->n)
        return incomplete(p);
    sp->type = p->s[p->i++];
    return 0;
}

/* Writes text with sign, prefix and padding. is_number: text may start with '-', and zeros fill. */
static int emit(struct percent *p, const struct spec *sp, const char *text, size_t n,
                bool is_number, size_t n_prefix)
{
    char sign = '\0';
    if (is_number) {
        if (n && *text == '-') {
            sign = '-';
            text++;
            n--;
        } else if (sp->plus || sp->blank)
            sign = sp->plus ? '+' : ' ';
    }
    size_t len = tmpl_count_chars(text, n) + (sign != '\0');
    size_t pad = sp->width > 0 && (size_t)sp->width > len ? (size_t)sp->width - len : 0;
    bool zeros = is_number && sp->zero && !sp->left;
    if (pad > p->b->max_len)
        return tmpl_limit(p->r, "a formatted string is too long");
    if (!zeros && !sp->left)
        for (size_t i = 0; i < pad; i++)
            buf_addch(p->b, ' ');
    if (sign)
        buf_addch(p->b, sign);
    buf_add(p->b, text, n_prefix);
    if (zeros)
        for (size_t i = 0; i < pad; i++)
            buf_addch(p->b, '0');
    buf_add(p->b, text + n_prefix, n - n_prefix);
    if (sp->left)
        for (size_t i = 0; i < pad; i++)
            buf_addch(p->b, ' ');
    return p->b->failed ? tmpl_memory_limit(p->r) : tmpl_charge(p->r, n + pad);
}

static int emit_text(struct percent *p, const struct spec *sp, const struct tmpl_val *v)
{
    struct buf text = tmpl_scratch(p->r);
    int rc = sp->type == 's' ? tmpl_add_str(p->r, &text, v) : tmpl_add_repr(p->r, &text, v);
    if (rc == 0 && text.failed)
        rc = tmpl_memory_limit(p->r);
    if (rc == 0 && sp->type == 'a') {
        struct buf ascii = tmpl_scratch(p->r);
        tmpl_add_ascii(&ascii, buf_str(&text), text.len);
        buf_fini(&text);
        text = ascii;
    }
    if (rc == 0) {
        size_t n = text.len;
        if (sp->precision >= 0)
            n = tmpl_char_offset(buf_str(&text), n, (size_t)sp->precision);
        rc = emit(p, sp, buf_str(&text), n, false, 0);
    }
    buf_fini(&text);
    return rc;
}

static int emit_int(struct percent *p, const struct spec *sp, const struct tmpl_val *v)
{
    struct tmpl_val number = *v;
    bool is_radix = strchr("xXo", sp->type) != NULL;
    if (v->type == TV_UNDEF)
        return tmpl_raise_undef(p->r, v);
    if (!tmpl_is_num(v) || (is_radix && v->type == TV_FLOAT))
        return tmpl_raise(p->r, EXC_TYPE, "%%%c format: %s is required, not %s", sp->type,
                          is_radix ? "an integer" : "a real number", tmpl_type_name(v));
    if (v->type == TV_FLOAT) {
        int rc = tmpl_float_to_int(p->r, v->f, &number.i);
        if (rc)
            return rc;
        number.type = TV_INT;
    }
    if (sp->precision > MAX_PRECISION)
        return tmpl_limit(p->r, "a precision over %d is not supported", MAX_PRECISION);
    int64_t i = tmpl_as_int(&number);
    uint64_t magnitude = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    int precision = sp->precision < 0 ? 1 : (int)sp->precision;
    char digits[32];
    snprintf(digits, sizeof(digits),
             sp->type == 'x'   ? "%" PRIx64
             : sp->type == 'X' ? "%" PRIX64
             : sp->type == 'o' ? "%" PRIo64
                               : "%" PRIu64,
             magnitude);
    struct buf text = {0};
    buf_addstr(&text, i < 0 ? "-" : "");
    size_t n_prefix = 0;
    if (sp->alt && is_radix) {
        buf_addch(&text, '0');
        buf_addch(&text, sp->type);
        n_prefix = 2;
    }
    for (int n = (int)strlen(digits); n < precision; n++)
        buf_addch(&text, '0');
    buf_addstr(&text, digits);
    int rc =
        text.failed ? tmpl_memory_limit(p->r) : emit(p, sp, text.data, text.len, true, n_prefix);
    buf_fini(&text);
    return rc;
}

static int emit_float(struct percent *p, const struct spec *sp, const struct tmpl_val *v)
{
    if (v->type == TV_UNDEF)
        return tmpl_raise_undef(p->r, v);
    if (!tmpl_is_num(v))
        return tmpl_raise(p->r, EXC_TYPE, "must be real number, not %s", tmpl_type_name(v));
    if (sp->precision > MAX_PRECISION)
        return tmpl_limit(p->r, "a precision over %d is not supported", MAX_PRECISION);
    struct buf text = {0};
    tmpl_add_float(&text, tmpl_as_float(v), sp->type, sp->precision < 0 ? 6 : (int)sp->precision,
                   sp->alt);
    int rc = text.failed ? tmpl_memory_limit(p->r) : emit(p, sp, text.data, text.len, true, 0);
    buf_fini(&text);
    return rc;
}

static int emit_char(struct percent *p, const struct spec *sp, const struct tmpl_val *v)
{
    char bytes[4];
    if (v->type == TV_STR && tmpl_str_chars(v->str) == 1)
        return emit(p, sp, v->str->s, v->str->n, false, 0);
    if (!tmpl_is_int(v))
        return tmpl_raise(p->r, EXC_TYPE, "%%c requires int or char");
    size_t n;
    int rc = tmpl_chr(p->r, tmpl_as_int(v), bytes, &n);
    return rc ? rc : emit(p, sp, bytes, n, false, 0);
}

static int one_spec(struct percent *p)
{
    struct spec sp;
    if (p->i < p->n && p->s[p->i] == '%') {
        p->i++;
        buf_addch(p->b, '%');
        return 0;
    }
    int rc = read_spec(p, &sp);
    if (rc)
        return rc;
    const struct tmpl_val *v = next_arg(p);
    if (!v)
        return tmpl_failed(p->r);
    switch (sp.type) {
    case 's':
    case 'r':
    case 'a':
        return emit_text(p, &sp, v);
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o':
        return emit_int(p, &sp, v);
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        return emit_float(p, &sp, v);
    case 'c':
        return emit_char(p, &sp, v);
    default:
        return tmpl_raise(p->r, EXC_VALUE, "unsupported format character at index %zu", p->i - 1);
    }
}

int tmpl_percent(struct tmpl_run *r, const struct tmpl_str *s, const struct tmpl_val *args,
                 struct tmpl_val *out)
{
    struct buf b = tmpl_scratch(r);
    struct percent p = {.r = r,
                        .s = s->s,
                        .n = s->n,
                        .b = &b,
                        .args = args,
                        .cur = *args,
                        .is_mapping = is_mapping(args),
                        .is_tuple = args->type == TV_TUPLE};
    if (s->markup)
        return tmpl_unsupported(r, "formatting of escaped strings is not supported");
    int rc = tmpl_charge(r, s->n);
    while (rc == 0 && p.i < p.n) {
        const char *next = memchr(p.s + p.i, '%', p.n - p.i);
        size_t end = next ? (size_t)(next - p.s) : p.n;
        buf_add(&b, p.s + p.i, end - p.i);
        p.i = end + 1;
        if (!next)
            break;
        rc = one_spec(&p);
    }
    if (rc == 0 && !p.is_mapping && p.used < (p.is_tuple ? p.cur.list->n : 1))
        rc = tmpl_raise(r, EXC_TYPE, "not all arguments converted during string formatting");
    if (rc == 0)
        return tmpl_str_take(r, &b, out);
    buf_fini(&b);
    return rc;
}

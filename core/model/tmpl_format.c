/* tmpl_format.c - str.format and str.format_map, as the sandbox's formatter does them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/tmpl_text_int.h"
#include "core/model/tmpl_val_int.h"

struct formatter {
    struct tmpl_run *r;
    const struct tmpl_args *args;
    const struct tmpl_val *mapping; /* of format_map, else NULL */
    int64_t auto_index;             /* -1: fields are numbered by hand */
};

static int bad_format(struct formatter *f, const char *what)
{
    return tmpl_raise(f->r, EXC_VALUE, "%s in format string", what);
}

/* Position of the end of the field name at i: '}', ':' or '!'. */
static int field_end(struct formatter *f, const char *s, size_t n, size_t *i)
{
    bool in_bracket = false;
    for (; *i < n; ++*i) {
        char c = s[*i];
        if (c == '{')
            return bad_format(f, "unexpected '{' in field name");
        if (c == '[')
            in_bracket = true;
        else if (c == ']')
            in_bracket = false;
        else if (c == '}' || ((c == ':' || c == '!') && !in_bracket))
            return 0;
    }
    return bad_format(f, "expected '}' before end of string");
}

static bool all_digits(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i] < '0' || s[i] > '9')
            return false;
    return n > 0;
}

static int read_index(struct formatter *f, const char *s, size_t n, int64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        if (*out > INT64_MAX / 10 - 10)
            return tmpl_raise(f->r, EXC_VALUE, "too many decimal digits in format string");
        *out = *out * 10 + (s[i] - '0');
    }
    return 0;
}

/* The argument that the first part of a field name means. */
static int first_value(struct formatter *f, const char *s, size_t n, struct tmpl_val *out)
{
    int64_t index;
    if (all_digits(s, n)) {
        int rc = read_index(f, s, n, &index);
        if (rc)
            return rc;
        if ((uint64_t)index >= f->args->n_pos || f->mapping)
            return tmpl_raise(f->r, EXC_LOOKUP, "format argument %lld is missing",
                              (long long)index);
        *out = f->args->pos[index];
        return 0;
    }
    if (f->mapping) {
        struct tmpl_val key;
        int rc = tmpl_str_ref(f->r, s, n, &key);
        return rc ? rc : tmpl_subscript(f->r, f->mapping, &key, out);
    }
    for (size_t i = 0; i < f->args->n_kw; i++)
        if (f->args->kw[i].name->n == n && memcmp(f->args->kw[i].name->s, s, n) == 0) {
            *out = f->args->kw[i].val;
            return 0;
        }
    return tmpl_raise(f->r, EXC_LOOKUP, "format argument '%.*s' is missing", n < 60 ? (int)n : 60,
                      s);
}

/* name.attr[item]... */
static int field_value(struct formatter *f, const char *s, size_t n, struct tmpl_val *out)
{
    size_t i = 0;
    while (i < n && s[i] != '.' && s[i] != '[')
        i++;
    int rc = first_value(f, s, i, out);
    while (rc == 0 && i < n) {
        struct tmpl_val key;
        bool is_item = s[i] == '[';
        if (!is_item && s[i] != '.')
            return bad_format(f, "only '.' or '[' may follow ']'");
        size_t from = ++i;
        while (i < n && (is_item ? s[i] != ']' : s[i] != '.' && s[i] != '['))
            i++;
        if (is_item && i >= n)
            return bad_format(f, "missing ']'");
        size_t len = i - from;
        i += is_item;
        if (len == 0)
            return bad_format(f, "empty attribute");
        if (is_item && all_digits(s + from, len)) {
            key.type = TV_INT;
            rc = read_index(f, s + from, len, &key.i);
        } else
            rc = tmpl_str_ref(f->r, s + from, len, &key);
        if (rc == 0)
            rc = is_item ? tmpl_getitem(f->r, out, &key, out)
                         : tmpl_getattr(f->r, out, key.str, out);
    }
    return rc;
}

static int convert(struct formatter *f, char how, struct tmpl_val *v)
{
    struct buf b = tmpl_scratch(f->r);
    int rc = how == 's' ? tmpl_add_str(f->r, &b, v) : tmpl_add_repr(f->r, &b, v);
    if (rc == 0 && how == 'a') {
        struct buf ascii = tmpl_scratch(f->r);
        tmpl_add_ascii(&ascii, buf_str(&b), b.len);
        buf_fini(&b);
        b = ascii;
    }
    if (rc == 0)
        return tmpl_str_take(f->r, &b, v);
    buf_fini(&b);
    return rc;
}

static int format_text(struct formatter *f, const char *s, size_t n, int depth, struct buf *b);

/* Numbers an empty field name; notes one that is a number. */
static int number_field(struct formatter *f, const char **name, size_t *n, char text[24])
{
    if (*n == 0) {
        if (f->auto_index < 0)
            return bad_format(f, "automatic field numbering after manual");
        *n = (size_t)snprintf(text, 24, "%lld", (long long)f->auto_index++);
        *name = text;
    } else if (all_digits(*name, *n)) {
        if (f->auto_index > 0)
            return bad_format(f, "manual field numbering after automatic");
        f->auto_index = -1;
    }
    return 0;
}

/* One field; s[*i] is the first byte behind its '{'. */
static int format_field(struct formatter *f, const char *s, size_t n, size_t *i, int depth,
                        struct buf *b)
{
    char text[24], conversion = '\0';
    size_t from = *i, spec_from, open = 1;
    struct tmpl_val v;
    int rc = field_end(f, s, n, i);
    if (rc)
        return rc;
    const char *name = s + from;
    size_t n_name = *i - from;
    if (s[*i] == '!') {
        if (*i + 2 >= n)
            return bad_format(f, "unterminated conversion");
        conversion = s[*i + 1];
        *i += 2;
        if (s[*i] != ':' && s[*i] != '}')
            return bad_format(f, "expected ':' after conversion specifier");
    }
    spec_from = *i + (s[*i] == ':');
    for (*i = spec_from; *i < n; ++*i) {
        open += s[*i] == '{';
        open -= s[*i] == '}';
        if (open == 0)
            break;
    }
    if (*i >= n)
        return bad_format(f, "expected '}' before end of string");
    size_t spec_to = (*i)++;
    if ((rc = number_field(f, &name, &n_name, text)) || (rc = field_value(f, name, n_name, &v)))
        return rc;
    if (conversion && !strchr("sra", conversion))
        return bad_format(f, "unknown conversion specifier");
    if (conversion && (rc = convert(f, conversion, &v)))
        return rc;
    struct buf spec = tmpl_scratch(f->r);
    rc = format_text(f, s + spec_from, spec_to - spec_from, depth - 1, &spec);
    if (rc == 0 && spec.failed)
        rc = tmpl_memory_limit(f->r);
    if (rc == 0)
        rc = tmpl_format_value(f->r, b, &v, buf_str(&spec), spec.len);
    buf_fini(&spec);
    return rc;
}

static int format_text(struct formatter *f, const char *s, size_t n, int depth, struct buf *b)
{
    if (depth < 0)
        return tmpl_raise(f->r, EXC_VALUE, "max string recursion exceeded");
    int rc = tmpl_charge(f->r, n);
    for (size_t i = 0; i < n && rc == 0;) {
        char c = s[i];
        if ((c == '{' || c == '}') && i + 1 < n && s[i + 1] == c) {
            buf_addch(b, c);
            i += 2;
        } else if (c == '}' || (c == '{' && i + 1 == n))
            return bad_format(f, c == '}' ? "single '}'" : "single '{'");
        else if (c == '{') {
            i++;
            rc = format_field(f, s, n, &i, depth, b);
        } else {
            buf_addch(b, c);
            i++;
        }
    }
    return rc;
}

static int format_with(struct formatter *f, const struct tmpl_val *self, struct tmpl_val *out)
{
    if (self->str->markup)
        return tmpl_unsupported(f->r, "formatting of escaped strings is not supported");
    struct buf b = tmpl_scratch(f->r);
    int rc = format_text(f, self->str->s, self->str->n, 2, &b);
    if (rc == 0)
        return tmpl_str_take(f->r, &b, out);
    buf_fini(&b);
    return rc;
}

int tmpl_str_format(struct tmpl_run *r, const struct tmpl_val *self, int how,
                    const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    struct formatter f = {.r = r, .args = a};
    return format_with(&f, self, out);
}

int tmpl_str_format_map(struct tmpl_run *r, const struct tmpl_val *self, int how,
                        const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const struct tmpl_args none;
    if (a->n_kw || a->n_pos != 1)
        return tmpl_raise(r, EXC_TYPE, "format_map() takes exactly one argument");
    struct formatter f = {.r = r, .args = &none, .mapping = &a->pos[0]};
    return format_with(&f, self, out);
}

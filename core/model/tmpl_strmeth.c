/* tmpl_strmeth.c - the table of the methods of str, and those about case, kind and width. */
#include "core/model/tmpl_strmeth_int.h"

#include <string.h>

#include "core/model/tmpl_text_int.h"

int tmpl_to_case(struct tmpl_run *r, const struct tmpl_str *s, int how, struct tmpl_val *out)
{
    struct buf b = tmpl_scratch(r);
    tmpl_add_case(&b, s->s, s->n, (enum tmpl_case)how);
    int rc = tmpl_str_take(r, &b, out);
    if (rc == 0)
        out->str->markup = s->markup;
    return rc;
}

static int meth_case(struct tmpl_run *r, const struct tmpl_val *self, int how,
                     const struct tmpl_args *a, struct tmpl_val *out)
{
    int rc = tmpl_bind_none(r, "str method", a);
    return rc ? rc : tmpl_to_case(r, self->str, how, out);
}

static bool has_property(uint32_t cp, int how)
{
    switch (how) {
    case IS_ALNUM:
        return tmpl_is_alnum(cp);
    case IS_ALPHA:
        return tmpl_is_alpha(cp);
    case IS_ASCII:
        return cp < 0x80;
    case IS_DECIMAL:
        return tmpl_is_decimal(cp);
    case IS_DIGIT:
        return tmpl_is_digit(cp);
    case IS_NUMERIC:
        return tmpl_is_numeric(cp);
    case IS_PRINTABLE:
        return tmpl_is_printable(cp);
    default:
        return tmpl_is_space(cp);
    }
}

/* isupper, islower, istitle: some character has a case, and all of them the right one. */
static bool has_case(const struct tmpl_str *s, int how)
{
    bool any = false, after_cased = false;
    uint32_t cp;
    for (size_t i = 0; i < s->n;) {
        i += tmpl_char_at(s->s + i, &cp);
        bool upper = tmpl_is_upper(cp), lower = tmpl_is_lower(cp), title = tmpl_is_title(cp);
        if (how == IS_UPPER ? lower || title : how == IS_LOWER ? upper || title : false)
            return false;
        if (how == IS_TITLE && (after_cased ? upper || title : lower))
            return false;
        after_cased = upper || lower || title;
        any |= how == IS_UPPER ? upper : how == IS_LOWER ? lower : after_cased;
    }
    return any;
}

int tmpl_predicate(struct tmpl_run *r, const struct tmpl_str *s, int how, bool *out)
{
    uint32_t cp;
    if (how == IS_IDENTIFIER)
        *out = tmpl_is_identifier(s->s, s->n);
    else if (how == IS_LOWER || how == IS_UPPER || how == IS_TITLE)
        *out = has_case(s, how);
    else {
        *out = s->n > 0 || how == IS_ASCII || how == IS_PRINTABLE;
        for (size_t i = 0; i < s->n && *out;) {
            i += tmpl_char_at(s->s + i, &cp);
            *out = has_property(cp, how);
        }
    }
    return tmpl_charge(r, s->n);
}

static int meth_is(struct tmpl_run *r, const struct tmpl_val *self, int how,
                   const struct tmpl_args *a, struct tmpl_val *out)
{
    bool yes = false;
    int rc = tmpl_bind_none(r, "str method", a);
    if (rc == 0)
        rc = tmpl_predicate(r, self->str, how, &yes);
    *out = tmpl_bool(yes);
    return rc;
}

int tmpl_pad(struct tmpl_run *r, struct tmpl_str *s, int64_t width, const char *fill, size_t n_fill,
             int how, struct tmpl_val *out)
{
    int64_t n = (int64_t)tmpl_str_chars(s);
    *out = tmpl_str_val(s);
    if (width <= n)
        return 0;
    size_t pad = (size_t)(width - n), left = how == PAD_RIGHT ? pad : 0;
    if (how == PAD_CENTER)
        left = pad / 2 + (pad & (size_t)width & 1);
    struct buf b = tmpl_scratch(r);
    if (pad > b.max_len)
        return tmpl_memory_limit(r);
    for (size_t i = 0; i < left; i++)
        buf_add(&b, fill, n_fill);
    buf_add(&b, s->s, s->n);
    for (size_t i = left; i < pad; i++)
        buf_add(&b, fill, n_fill);
    int rc = tmpl_str_take(r, &b, out);
    if (rc == 0)
        out->str->markup = s->markup;
    return rc;
}

static int meth_pad(struct tmpl_run *r, const struct tmpl_val *self, int how,
                    const struct tmpl_args *a, struct tmpl_val *out)
{
    static const char *const names[] = {"", ""};
    static const char *const fns[] = {"center", "ljust", "rjust"};
    struct tmpl_val v[2];
    int64_t width;
    int rc = tmpl_bind(r, fns[how], a, names, 2, 1, v);
    if (rc == 0)
        rc = tmpl_index_arg(r, &v[0], &width);
    if (rc)
        return rc;
    if (v[1].type == TV_MISSING)
        return tmpl_pad(r, self->str, width, " ", 1, how, out);
    if (v[1].type != TV_STR || tmpl_str_chars(v[1].str) != 1)
        return tmpl_raise(r, EXC_TYPE, "the fill character must be exactly one character long");
    return tmpl_pad(r, self->str, width, v[1].str->s, v[1].str->n, how, out);
}

static int meth_zfill(struct tmpl_run *r, const struct tmpl_val *self, int how,
                      const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {""};
    struct tmpl_val v, rest;
    int64_t width;
    struct tmpl_str *s = self->str;
    int rc = tmpl_bind(r, "zfill", a, names, 1, 1, &v);
    if (rc == 0)
        rc = tmpl_index_arg(r, &v, &width);
    if (rc)
        return rc;
    bool sign = s->n && (s->s[0] == '+' || s->s[0] == '-');
    if (!sign || width <= (int64_t)tmpl_str_chars(s))
        return tmpl_pad(r, s, width, "0", 1, PAD_RIGHT, out);
    struct tmpl_str head = {.s = s->s, .n = 1, .n_chars = 1, .markup = s->markup};
    rc = tmpl_str_ref(r, s->s + 1, s->n - 1, &rest);
    if (rc == 0)
        rc = tmpl_pad(r, rest.str, width - 1, "0", 1, PAD_RIGHT, &rest);
    return rc ? rc : tmpl_str_cat(r, &head, rest.str, out);
}

static int meth_expandtabs(struct tmpl_run *r, const struct tmpl_val *self, int how,
                           const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"tabsize"};
    struct tmpl_val v;
    int64_t tab = 8, column = 0;
    uint32_t cp;
    const struct tmpl_str *s = self->str;
    int rc = tmpl_bind(r, "expandtabs", a, names, 1, 0, &v);
    if (rc == 0 && v.type != TV_MISSING)
        rc = tmpl_index_arg(r, &v, &tab);
    if (rc)
        return rc;
    struct buf b = tmpl_scratch(r);
    for (size_t i = 0, k; i < s->n && !b.failed; i += k) {
        k = tmpl_char_at(s->s + i, &cp);
        if (cp == '\t') {
            int64_t n = tab > 0 ? tab - column % tab : 0;
            column += n;
            b.failed |= (uint64_t)n > b.max_len;
            for (; n > 0 && !b.failed; n--)
                buf_addch(&b, ' ');
            continue;
        }
        column = cp == '\n' || cp == '\r' ? 0 : column + 1;
        buf_add(&b, s->s + i, k);
    }
    rc = tmpl_str_take(r, &b, out);
    if (rc == 0)
        out->str->markup = s->markup;
    return rc;
}

static const struct tmpl_method methods[] = {
    {"capitalize", meth_case, CASE_CAPITAL},
    {"casefold", meth_case, CASE_FOLD},
    {"center", meth_pad, PAD_CENTER},
    {"count", tmpl_meth_find, FIND_COUNT},
    {"encode", NULL, 0},
    {"endswith", tmpl_meth_affix, 1},
    {"expandtabs", meth_expandtabs, 0},
    {"find", tmpl_meth_find, FIND_FIRST},
    {"format", tmpl_str_format, 0},
    {"format_map", tmpl_str_format_map, 0},
    {"index", tmpl_meth_find, FIND_INDEX},
    {"isalnum", meth_is, IS_ALNUM},
    {"isalpha", meth_is, IS_ALPHA},
    {"isascii", meth_is, IS_ASCII},
    {"isdecimal", meth_is, IS_DECIMAL},
    {"isdigit", meth_is, IS_DIGIT},
    {"isidentifier", meth_is, IS_IDENTIFIER},
    {"islower", meth_is, IS_LOWER},
    {"isnumeric", meth_is, IS_NUMERIC},
    {"isprintable", meth_is, IS_PRINTABLE},
    {"isspace", meth_is, IS_SPACE},
    {"istitle", meth_is, IS_TITLE},
    {"isupper", meth_is, IS_UPPER},
    {"join", tmpl_meth_join, 0},
    {"ljust", meth_pad, PAD_LEFT},
    {"lower", meth_case, CASE_LOWER},
    {"lstrip", tmpl_meth_strip, 1},
    {"maketrans", NULL, 0},
    {"partition", tmpl_meth_partition, 0},
    {"removeprefix", tmpl_meth_remove, 0},
    {"removesuffix", tmpl_meth_remove, 1},
    {"replace", tmpl_meth_replace, 0},
    {"rfind", tmpl_meth_find, FIND_LAST},
    {"rindex", tmpl_meth_find, FIND_RINDEX},
    {"rjust", meth_pad, PAD_RIGHT},
    {"rpartition", tmpl_meth_partition, 1},
    {"rsplit", tmpl_meth_split, 1},
    {"rstrip", tmpl_meth_strip, 2},
    {"split", tmpl_meth_split, 0},
    {"splitlines", tmpl_meth_splitlines, 0},
    {"startswith", tmpl_meth_affix, 0},
    {"strip", tmpl_meth_strip, 3},
    {"swapcase", meth_case, CASE_SWAP},
    {"title", meth_case, CASE_TITLE},
    {"translate", NULL, 0},
    {"upper", meth_case, CASE_UPPER},
    {"zfill", meth_zfill, 0},
};

const struct tmpl_method *tmpl_find_method(const struct tmpl_method *table, size_t n,
                                           const struct tmpl_str *name)
{
    for (size_t i = 0; i < n; i++)
        if (tmpl_str_is(name, table[i].name))
            return &table[i];
    return NULL;
}

const struct tmpl_method *tmpl_str_method(const struct tmpl_str *name)
{
    return tmpl_find_method(methods, ARRAY_LEN(methods), name);
}

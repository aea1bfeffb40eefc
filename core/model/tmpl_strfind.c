/* tmpl_strfind.c - the methods of str that search: find, count, startswith, strip, replace. */
#include <string.h>

#include "core/model/tmpl_strmeth_int.h"
#include "core/model/tmpl_text_int.h"

int tmpl_charge_search(struct tmpl_run *r, size_t n, size_t n_sub, bool backward)
{
    size_t work = n;
    if (backward && n_sub > 64 && !size_mul(n, n_sub / 64, &work))
        work = SIZE_MAX;
    return tmpl_charge(r, work);
}

/* The optional start and end arguments as byte offsets; *empty when start is behind the end. */
static int read_range(struct tmpl_run *r, struct tmpl_str *s, const struct tmpl_val *start,
                      const struct tmpl_val *end, size_t *from, size_t *to, bool *empty)
{
    int64_t n = (int64_t)tmpl_str_chars(s), a = 0, b = n;
    int rc = 0;
    if (start->type != TV_MISSING && start->type != TV_NONE)
        rc = tmpl_index_arg(r, start, &a);
    if (rc == 0 && end->type != TV_MISSING && end->type != TV_NONE)
        rc = tmpl_index_arg(r, end, &b);
    if (rc)
        return rc;
    if (a < 0)
        a = a + n < 0 ? 0 : a + n;
    if (b < 0)
        b = b + n < 0 ? 0 : b + n;
    if (b > n)
        b = n;
    *empty = a > b;
    if (*empty)
        return 0;
    bool ascii = s->n_chars == s->n;
    *from = ascii ? (size_t)a : tmpl_char_offset(s->s, s->n, (size_t)a);
    *to = ascii ? (size_t)b : tmpl_char_offset(s->s, s->n, (size_t)b);
    return 0;
}

static int64_t count_sub(const char *s, size_t n, const struct tmpl_str *sub)
{
    int64_t count = 0;
    if (sub->n == 0)
        return (int64_t)tmpl_count_chars(s, n) + 1;
    for (size_t i = 0; (i = tmpl_find(s, n, sub->s, sub->n, i)) != TMPL_NOT_FOUND; i += sub->n)
        count++;
    return count;
}

int tmpl_meth_find(struct tmpl_run *r, const struct tmpl_val *self, int how,
                   const struct tmpl_args *a, struct tmpl_val *out)
{
    static const char *const names[] = {"", "", ""};
    static const char *const fns[] = {"find", "rfind", "index", "rindex", "count"};
    struct tmpl_val v[3];
    struct tmpl_str *s = self->str;
    size_t from = 0, to = 0, at = TMPL_NOT_FOUND;
    bool empty, last = how == FIND_LAST || how == FIND_RINDEX;
    int rc = tmpl_bind(r, fns[how], a, names, 3, 1, v);
    if (rc)
        return rc;
    if (v[0].type != TV_STR)
        return tmpl_raise(r, EXC_TYPE, "must be str, not %s", tmpl_type_name(&v[0]));
    const struct tmpl_str *sub = v[0].str;
    if ((rc = tmpl_charge_search(r, s->n, sub->n, last)) ||
        (rc = read_range(r, s, &v[1], &v[2], &from, &to, &empty)))
        return rc;
    if (how == FIND_COUNT) {
        *out = tmpl_int(empty ? 0 : count_sub(s->s + from, to - from, sub));
        return 0;
    }
    if (!empty)
        at = last ? tmpl_rfind(s->s + from, to - from, sub->s, sub->n)
                  : tmpl_find(s->s + from, to - from, sub->s, sub->n, 0);
    if (at != TMPL_NOT_FOUND) {
        *out = tmpl_int((int64_t)tmpl_count_chars(s->s, from + at));
        return 0;
    }
    if (how == FIND_INDEX || how == FIND_RINDEX)
        return tmpl_raise(r, EXC_VALUE, "substring not found");
    *out = tmpl_int(-1);
    return 0;
}

static bool has_affix(const char *s, size_t n, const struct tmpl_str *affix, bool at_end)
{
    return affix->n <= n && memcmp(at_end ? s + n - affix->n : s, affix->s, affix->n) == 0;
}

int tmpl_meth_affix(struct tmpl_run *r, const struct tmpl_val *self, int at_end,
                    const struct tmpl_args *a, struct tmpl_val *out)
{
    static const char *const names[] = {"", "", ""};
    const char *fn = at_end ? "endswith" : "startswith";
    struct tmpl_val v[3];
    size_t from = 0, to = 0;
    bool empty;
    int rc = tmpl_bind(r, fn, a, names, 3, 1, v);
    if (rc == 0)
        rc = read_range(r, self->str, &v[1], &v[2], &from, &to, &empty);
    if (rc)
        return rc;
    const struct tmpl_val *affixes = &v[0];
    size_t n = 1;
    if (v[0].type == TV_TUPLE) {
        affixes = v[0].list->items;
        n = v[0].list->n;
    }
    *out = tmpl_bool(false);
    for (size_t i = 0; i < n && !out->b; i++) {
        if (affixes[i].type != TV_STR)
            return tmpl_raise(r, EXC_TYPE, "%s first arg must be str or a tuple of str, not %s", fn,
                              tmpl_type_name(&affixes[i]));
        out->b = !empty && has_affix(self->str->s + from, to - from, affixes[i].str, at_end);
    }
    return tmpl_charge(r, n);
}

int tmpl_meth_remove(struct tmpl_run *r, const struct tmpl_val *self, int at_end,
                     const struct tmpl_args *a, struct tmpl_val *out)
{
    static const char *const names[] = {""};
    struct tmpl_val affix;
    const struct tmpl_str *s = self->str;
    int rc = tmpl_bind(r, at_end ? "removesuffix" : "removeprefix", a, names, 1, 1, &affix);
    if (rc)
        return rc;
    if (affix.type != TV_STR)
        return tmpl_raise(r, EXC_TYPE, "argument must be str, not %s", tmpl_type_name(&affix));
    *out = *self;
    size_t n = affix.str->n;
    if (n == 0 || !has_affix(s->s, s->n, affix.str, at_end))
        return 0;
    rc = tmpl_str_ref(r, at_end ? s->s : s->s + n, s->n - n, out);
    if (rc == 0)
        out->str->markup = s->markup;
    return rc;
}

/* Whether the character at s (k bytes) is one of those in chars, or white space. */
static int in_chars(struct tmpl_run *r, const char *s, size_t k, uint32_t cp,
                    const struct tmpl_str *chars, bool *out)
{
    *out = chars ? tmpl_find(chars->s, chars->n, s, k, 0) != TMPL_NOT_FOUND : tmpl_is_space(cp);
    return chars ? tmpl_charge(r, chars->n) : 0;
}

int tmpl_strip(struct tmpl_run *r, struct tmpl_str *s, const struct tmpl_val *chars, int sides,
               struct tmpl_val *out)
{
    const struct tmpl_str *set = NULL;
    if (chars->type == TV_STR)
        set = chars->str;
    else if (chars->type != TV_MISSING && chars->type != TV_NONE)
        return tmpl_raise(r, EXC_TYPE, "strip arg must be None or str");
    size_t from = 0, to = s->n, k;
    uint32_t cp;
    bool strip = true;
    int rc = 0;
    while ((sides & 1) && from < to && rc == 0) {
        k = tmpl_char_at(s->s + from, &cp);
        rc = in_chars(r, s->s + from, k, cp, set, &strip);
        if (!strip)
            break;
        from += k;
    }
    while ((sides & 2) && to > from && rc == 0) {
        k = tmpl_char_before(s->s, to, &cp);
        rc = in_chars(r, s->s + k, to - k, cp, set, &strip);
        if (!strip)
            break;
        to = k;
    }
    if (rc == 0)
        rc = tmpl_charge(r, s->n - (to - from));
    if (rc == 0)
        rc = tmpl_str_ref(r, s->s + from, to - from, out);
    if (rc == 0)
        out->str->markup = s->markup;
    return rc;
}

int tmpl_meth_strip(struct tmpl_run *r, const struct tmpl_val *self, int sides,
                    const struct tmpl_args *a, struct tmpl_val *out)
{
    static const char *const names[] = {""};
    struct tmpl_val chars;
    int rc = tmpl_bind(r, "strip", a, names, 1, 0, &chars);
    return rc ? rc : tmpl_strip(r, self->str, &chars, sides, out);
}

/* replace("", new): new before every character and at the end. */
static void replace_empty(struct buf *b, const struct tmpl_str *s, const struct tmpl_str *new,
                          int64_t count)
{
    uint32_t cp;
    size_t i = 0;
    for (; (count < 0 || count > 0) && !b->failed; count -= count > 0) {
        buf_add(b, new->s, new->n);
        if (i >= s->n)
            break;
        size_t k = tmpl_char_at(s->s + i, &cp);
        buf_add(b, s->s + i, k);
        i += k;
    }
    buf_add(b, s->s + i, s->n - i);
}

int tmpl_replace(struct tmpl_run *r, struct tmpl_str *s, const struct tmpl_str *old,
                 const struct tmpl_str *new, int64_t count, struct tmpl_val *out)
{
    int rc = tmpl_charge(r, s->n);
    if (rc)
        return rc;
    *out = tmpl_str_val(s);
    size_t at = tmpl_find(s->s, s->n, old->s, old->n, 0), i = 0;
    if (at == TMPL_NOT_FOUND || count == 0)
        return 0;
    struct buf b = tmpl_scratch(r);
    if (old->n == 0)
        replace_empty(&b, s, new, count);
    else {
        for (; at != TMPL_NOT_FOUND && count != 0 && !b.failed; count -= count > 0) {
            buf_add(&b, s->s + i, at - i);
            buf_add(&b, new->s, new->n);
            i = at + old->n;
            at = tmpl_find(s->s, s->n, old->s, old->n, i);
        }
        buf_add(&b, s->s + i, s->n - i);
    }
    rc = tmpl_str_take(r, &b, out);
    if (rc == 0)
        out->str->markup = s->markup;
    return rc;
}

int tmpl_meth_replace(struct tmpl_run *r, const struct tmpl_val *self, int how,
                      const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"", "", ""};
    struct tmpl_val v[3];
    int64_t count = -1;
    int rc = tmpl_bind(r, "replace", a, names, 3, 2, v);
    if (rc == 0 && v[2].type != TV_MISSING)
        rc = tmpl_index_arg(r, &v[2], &count);
    if (rc)
        return rc;
    if (v[0].type != TV_STR || v[1].type != TV_STR)
        return tmpl_raise(r, EXC_TYPE, "replace() argument must be str, not %s",
                          tmpl_type_name(v[0].type != TV_STR ? &v[0] : &v[1]));
    if (self->str->markup && (rc = tmpl_escape(r, v[1].str, &v[1])))
        return rc;
    return tmpl_replace(r, self->str, v[0].str, v[1].str, count, out);
}

/* tmpl_filter_text.c - filters on text. */
#include <string.h>

#include "core/model/tmpl_ast_int.h"
#include "core/model/tmpl_filter_int.h"
#include "core/model/tmpl_strmeth_int.h"
#include "core/model/tmpl_text_int.h"

int tmpl_filter_string(struct tmpl_run *r, const struct tmpl_val *in, int how,
                       const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    int rc = tmpl_bind_none(r, "string", a);
    return rc ? rc : tmpl_str_of(r, in, out);
}

int tmpl_filter_case(struct tmpl_run *r, const struct tmpl_val *in, int how,
                     const struct tmpl_args *a, struct tmpl_val *out)
{
    struct tmpl_val s;
    int rc = tmpl_bind_none(r, "case filter", a);
    if (rc == 0)
        rc = tmpl_str_of(r, in, &s);
    return rc ? rc : tmpl_to_case(r, s.str, how, out);
}

static bool ends_word(uint32_t cp)
{
    return cp == '-' || cp == '(' || cp == '{' || cp == '[' || cp == '<' || tmpl_is_space(cp);
}

int tmpl_filter_title(struct tmpl_run *r, const struct tmpl_val *in, int how,
                      const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    struct tmpl_val v;
    uint32_t cp;
    int rc = tmpl_bind_none(r, "title", a);
    if (rc == 0)
        rc = tmpl_str_of(r, in, &v);
    if (rc)
        return rc;
    const struct tmpl_str *s = v.str;
    struct buf b = tmpl_scratch(r);
    for (size_t i = 0; i < s->n;) {
        size_t k = tmpl_char_at(s->s + i, &cp), end = i + k;
        if (ends_word(cp)) {
            buf_add(&b, s->s + i, k);
            i += k;
            continue;
        }
        while (end < s->n) {
            size_t next = tmpl_char_at(s->s + end, &cp);
            if (ends_word(cp))
                break;
            end += next;
        }
        tmpl_add_case(&b, s->s + i, k, CASE_UPPER);
        tmpl_add_case(&b, s->s + i + k, end - i - k, CASE_LOWER);
        i = end;
    }
    return tmpl_str_take(r, &b, out);
}

int tmpl_filter_trim(struct tmpl_run *r, const struct tmpl_val *in, int how,
                     const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"chars"};
    struct tmpl_val chars, s;
    int rc = tmpl_bind(r, "trim", a, names, 1, 0, &chars);
    if (rc == 0)
        rc = tmpl_str_of(r, in, &s);
    return rc ? rc : tmpl_strip(r, s.str, &chars, 3, out);
}

int tmpl_filter_replace(struct tmpl_run *r, const struct tmpl_val *in, int how,
                        const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"old", "new", "count"};
    struct tmpl_val v[3], s;
    int64_t count = -1;
    int rc = tmpl_bind(r, "replace", a, names, 3, 2, v);
    if (rc == 0 && v[2].type != TV_MISSING && v[2].type != TV_NONE)
        rc = tmpl_index_arg(r, &v[2], &count);
    if (rc == 0)
        rc = tmpl_str_of(r, in, &s);
    if (rc == 0)
        rc = tmpl_str_of(r, &v[0], &v[0]);
    if (rc == 0)
        rc = tmpl_str_of(r, &v[1], &v[1]);
    if (rc)
        return rc;
    struct tmpl_str plain = *s.str; /* str(Markup) is a plain str */
    plain.markup = false;
    rc = tmpl_replace(r, &plain, v[0].str, v[1].str, count, out);
    if (rc == 0 && out->str == &plain)
        rc = tmpl_str_ref(r, plain.s, plain.n, out);
    return rc;
}

int tmpl_filter_center(struct tmpl_run *r, const struct tmpl_val *in, int how,
                       const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"width"};
    struct tmpl_val v, s;
    int64_t width = 80;
    int rc = tmpl_bind(r, "center", a, names, 1, 0, &v);
    if (rc == 0 && v.type != TV_MISSING)
        rc = tmpl_index_arg(r, &v, &width);
    if (rc == 0)
        rc = tmpl_str_of(r, in, &s);
    return rc ? rc : tmpl_pad(r, s.str, width, " ", 1, PAD_CENTER, out);
}

/* The width argument of indent: a number of spaces or a string. */
static int read_indent(struct tmpl_run *r, struct tmpl_val *v)
{
    struct tmpl_val space, four = tmpl_int(4);
    if (v->type == TV_STR)
        return 0;
    int rc = tmpl_str_ref(r, " ", 1, &space);
    return rc ? rc : tmpl_binary(r, OP_MUL, &space, v->type == TV_MISSING ? &four : v, v);
}

int tmpl_filter_indent(struct tmpl_run *r, const struct tmpl_val *in, int how,
                       const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"width", "first", "blank"};
    static const struct tmpl_args no_args;
    struct tmpl_val v[3], lines, text, newline;
    int rc = tmpl_bind(r, "indent", a, names, 3, 0, v);
    if (rc == 0)
        rc = read_indent(r, &v[0]);
    if (rc == 0)
        rc = tmpl_str_ref(r, "\n", 1, &newline);
    if (rc == 0)
        rc = tmpl_binary(r, OP_ADD, in, &newline, &text);
    if (rc == 0)
        rc = tmpl_meth_splitlines(r, &text, 0, &no_args, &lines);
    if (rc)
        return rc;
    const struct tmpl_str *indent = v[0].str;
    bool first = tmpl_truthy(&v[1]), blank = tmpl_truthy(&v[2]);
    struct buf b = tmpl_scratch(r);
    for (size_t i = 0; i < lines.list->n; i++) {
        const struct tmpl_str *line = lines.list->items[i].str;
        if (i)
            buf_addch(&b, '\n');
        if (i ? line->n || blank : first)
            buf_add(&b, indent->s, indent->n);
        buf_add(&b, line->s, line->n);
    }
    rc = tmpl_str_take(r, &b, out);
    if (rc == 0)
        out->str->markup = in->str->markup;
    return rc;
}

int tmpl_filter_truncate(struct tmpl_run *r, const struct tmpl_val *in, int how,
                         const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"length", "killwords", "end", "leeway"};
    struct tmpl_val v[4], none = tmpl_none(), stop, cut;
    int64_t length = 255, leeway = 5, n_end, n;
    int rc = tmpl_bind(r, "truncate", a, names, 4, 0, v);
    if (rc == 0 && v[0].type != TV_MISSING)
        rc = tmpl_index_arg(r, &v[0], &length);
    if (rc == 0 && v[3].type != TV_MISSING && v[3].type != TV_NONE)
        rc = tmpl_index_arg(r, &v[3], &leeway);
    if (rc == 0 && v[2].type == TV_MISSING)
        rc = tmpl_str_ref(r, "...", 3, &v[2]);
    if (rc == 0)
        rc = tmpl_len(r, &v[2], &n_end);
    if (rc)
        return rc;
    if (length < n_end || leeway < 0)
        return tmpl_raise(r, EXC_OTHER,
                          "truncate needs a length of at least its end's, and a "
                          "leeway of at least 0");
    if ((rc = tmpl_len(r, in, &n)))
        return rc;
    *out = *in;
    if (leeway >= n || n - leeway <= length)
        return 0;
    stop = tmpl_int(length - n_end);
    if ((rc = tmpl_slice(r, in, &none, &stop, &none, &cut)))
        return rc;
    if (cut.type != TV_STR)
        return tmpl_raise(r, EXC_TYPE, "truncate needs a string, not %s", tmpl_type_name(in));
    if (!tmpl_truthy(&v[1])) {
        const char *space = memrchr(cut.str->s, ' ', cut.str->n);
        bool markup = cut.str->markup;
        if (space)
            rc = tmpl_str_ref(r, cut.str->s, (size_t)(space - cut.str->s), &cut);
        if (rc == 0)
            cut.str->markup = markup;
    }
    return rc ? rc : tmpl_binary(r, OP_ADD, &cut, &v[2], out);
}

int tmpl_filter_wordcount(struct tmpl_run *r, const struct tmpl_val *in, int how,
                          const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    struct tmpl_val s;
    int64_t count = 0;
    bool in_word = false;
    uint32_t cp;
    int rc = tmpl_bind_none(r, "wordcount", a);
    if (rc == 0)
        rc = tmpl_str_of(r, in, &s);
    if (rc)
        return rc;
    for (size_t i = 0; i < s.str->n;) {
        i += tmpl_char_at(s.str->s + i, &cp);
        bool is_word = cp == '_' || tmpl_is_alnum(cp);
        count += is_word && !in_word;
        in_word = is_word;
    }
    *out = tmpl_int(count);
    return tmpl_charge(r, s.str->n);
}

int tmpl_filter_format(struct tmpl_run *r, const struct tmpl_val *in, int how,
                       const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    struct tmpl_val s, args;
    if (a->n_pos && a->n_kw)
        return tmpl_raise(r, EXC_OTHER,
                          "can't handle positional and keyword arguments at the same time");
    int rc = tmpl_str_of(r, in, &s);
    if (rc == 0 && a->n_kw) {
        args.type = TV_DICT;
        rc = tmpl_dict_call(r, a, &args.dict);
    } else if (rc == 0) {
        rc = tmpl_list_new(r, TV_TUPLE, a->n_pos, &args);
        if (rc == 0 && a->n_pos)
            memcpy(args.list->items, a->pos, a->n_pos * sizeof(*a->pos));
    }
    return rc ? rc : tmpl_percent(r, s.str, &args, out);
}

/* tmpl_filter_html.c - filters that write HTML or URLs. Templates for models seldom need them, but
 * `safe` and `escape` change what `+` does with a string, so they are here in full. */
#include <string.h>

#include "core/model/tmpl_filter_int.h"
#include "core/model/tmpl_text_int.h"

int tmpl_filter_safe(struct tmpl_run *r, const struct tmpl_val *in, int how,
                     const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    int rc = tmpl_bind_none(r, "safe", a);
    if (rc == 0)
        rc = tmpl_str_of(r, in, out);
    if (rc == 0 && !out->str->markup)
        rc = tmpl_str_ref(r, out->str->s, out->str->n, out);
    if (rc == 0)
        out->str->markup = true;
    return rc;
}

int tmpl_filter_escape(struct tmpl_run *r, const struct tmpl_val *in, int force,
                       const struct tmpl_args *a, struct tmpl_val *out)
{
    struct tmpl_val s;
    int rc = tmpl_bind_none(r, "escape", a);
    if (rc == 0)
        rc = tmpl_str_of(r, in, &s);
    if (rc == 0 && force)
        rc = tmpl_str_ref(r, s.str->s, s.str->n, &s);
    return rc ? rc : tmpl_escape(r, s.str, out);
}

static void add_quoted(struct buf *b, const struct tmpl_str *s, bool for_query)
{
    for (size_t i = 0; i < s->n; i++) {
        unsigned char c = (unsigned char)s->s[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            (c && strchr("_.-~", c)) || (c == '/' && !for_query))
            buf_addch(b, (char)c);
        else if (c == ' ' && for_query)
            buf_addch(b, '+');
        else
            buf_addf(b, "%%%02X", c);
    }
}

/* key=value of one pair of a query. */
static int add_pair(struct tmpl_run *r, struct buf *b, const struct tmpl_val *item)
{
    struct tmpl_val pair, s;
    int rc = tmpl_to_list(r, item, &pair);
    if (rc == 0 && pair.list->n != 2)
        return tmpl_raise(r, EXC_VALUE, "urlencode expects pairs, not %zu values", pair.list->n);
    for (size_t i = 0; i < 2 && rc == 0; i++) {
        rc = tmpl_str_of(r, &pair.list->items[i], &s);
        if (rc)
            break;
        if (i)
            buf_addch(b, '=');
        add_quoted(b, s.str, true);
    }
    return rc;
}

int tmpl_filter_urlencode(struct tmpl_run *r, const struct tmpl_val *in, int how,
                          const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    struct tmpl_val s, item;
    struct tmpl_iter it;
    bool done = false;
    int rc = tmpl_bind_none(r, "urlencode", a);
    if (rc)
        return rc;
    struct buf b = tmpl_scratch(r);
    if (in->type == TV_STR || !tmpl_iterable(in)) {
        rc = tmpl_str_of(r, in, &s);
        if (rc == 0)
            add_quoted(&b, s.str, false);
    } else {
        struct tmpl_view items = {.kind = VIEW_ITEMS, .dict = in->dict};
        struct tmpl_val view = {.type = TV_VIEW, .view = &items};
        rc = tmpl_iter_init(r, in->type == TV_DICT ? &view : in, &it);
        for (bool first = true; rc == 0; first = false) {
            rc = tmpl_next(r, &it, &item, &done);
            if (rc || done)
                break;
            if (!first)
                buf_addch(&b, '&');
            rc = add_pair(r, &b, &item);
        }
    }
    if (rc == 0)
        return tmpl_str_take(r, &b, out);
    buf_fini(&b);
    return rc;
}

/* key="value" of one pair of xmlattr. */
static int add_attr(struct tmpl_run *r, struct buf *b, const struct tmpl_pair *p)
{
    struct tmpl_val key, val;
    if (p->key.type != TV_STR)
        return tmpl_raise(r, EXC_TYPE, "attribute names must be strings, not %s",
                          tmpl_type_name(&p->key));
    for (size_t i = 0; i < p->key.str->n; i++)
        if (p->key.str->s[i] && strchr(" \t\n\r\f\v/>=", p->key.str->s[i]))
            return tmpl_raise(r, EXC_VALUE, "invalid character in attribute name");
    int rc = tmpl_escape(r, p->key.str, &key);
    if (rc == 0)
        rc = tmpl_str_of(r, &p->val, &val);
    if (rc == 0)
        rc = tmpl_escape(r, val.str, &val);
    if (rc)
        return rc;
    if (b->len)
        buf_addch(b, ' ');
    buf_add(b, key.str->s, key.str->n);
    buf_addstr(b, "=\"");
    buf_add(b, val.str->s, val.str->n);
    buf_addch(b, '"');
    return 0;
}

int tmpl_filter_xmlattr(struct tmpl_run *r, const struct tmpl_val *in, int how,
                        const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"autospace"};
    struct tmpl_val v, text;
    struct tmpl_str space = {.s = " ", .n = 1, .n_chars = 1};
    int rc = tmpl_bind(r, "xmlattr", a, names, 1, 0, &v);
    if (rc)
        return rc;
    if (in->type == TV_UNDEF)
        return tmpl_raise_undef(r, in);
    if (in->type != TV_DICT)
        return tmpl_raise(r, EXC_OTHER, "'%s' object has no attribute 'items'", tmpl_type_name(in));
    struct buf b = tmpl_scratch(r);
    for (uint32_t i = 0; i < in->dict->n && rc == 0; i++) {
        const struct tmpl_pair *p = &in->dict->pairs[i];
        if (p->val.type != TV_NONE && p->val.type != TV_UNDEF)
            rc = add_attr(r, &b, p);
    }
    if (rc) {
        buf_fini(&b);
        return rc;
    }
    if ((rc = tmpl_str_take(r, &b, &text)))
        return rc;
    if (text.str->n && (v.type == TV_MISSING || tmpl_truthy(&v)))
        return tmpl_str_cat(r, &space, text.str, out);
    *out = text;
    return 0;
}

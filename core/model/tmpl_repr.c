/* tmpl_repr.c - str() and repr() of values. */
#include <inttypes.h>
#include <string.h>

#include "core/model/tmpl_ast_int.h"
#include "core/model/tmpl_text_int.h"
#include "core/model/tmpl_val_int.h"

static void add_escaped(struct buf *b, uint32_t cp)
{
    if (cp == '\n' || cp == '\r' || cp == '\t')
        buf_addf(b, "\\%c", cp == '\n' ? 'n' : cp == '\r' ? 'r' : 't');
    else
        buf_addf(b, cp <= 0xff ? "\\x%02x" : cp <= 0xffff ? "\\u%04x" : "\\U%08x", cp);
}

static void add_quoted(struct buf *b, const char *s, size_t n)
{
    char quote = n && memchr(s, '\'', n) && !memchr(s, '"', n) ? '"' : '\'';
    uint32_t cp;
    buf_addch(b, quote);
    for (size_t i = 0, k; i < n; i += k) {
        k = tmpl_char_at(s + i, &cp);
        if (cp == (unsigned char)quote || cp == '\\')
            buf_addf(b, "\\%c", (char)cp);
        else if (cp >= 0x80 ? !tmpl_is_printable(cp) : cp < 0x20 || cp == 0x7f)
            add_escaped(b, cp);
        else
            buf_add(b, s + i, k);
    }
    buf_addch(b, quote);
}

void tmpl_add_ascii(struct buf *b, const char *s, size_t n)
{
    uint32_t cp;
    for (size_t i = 0; i < n;) {
        i += tmpl_char_at(s + i, &cp);
        if (cp < 0x80)
            buf_addch(b, (char)cp);
        else
            add_escaped(b, cp);
    }
}

static int add_items(struct tmpl_run *r, struct buf *b, const struct tmpl_list *l, bool is_tuple)
{
    int rc = 0;
    buf_addch(b, is_tuple ? '(' : '[');
    for (size_t i = 0; i < l->n && rc == 0; i++) {
        if (i)
            buf_addstr(b, ", ");
        rc = tmpl_add_repr(r, b, &l->items[i]);
    }
    if (is_tuple && l->n == 1)
        buf_addch(b, ',');
    buf_addch(b, is_tuple ? ')' : ']');
    return rc;
}

static int add_pairs(struct tmpl_run *r, struct buf *b, const struct tmpl_dict *d)
{
    int rc = 0;
    buf_addch(b, '{');
    for (uint32_t i = 0; i < d->n && rc == 0; i++) {
        if (i)
            buf_addstr(b, ", ");
        rc = tmpl_add_repr(r, b, &d->pairs[i].key);
        buf_addstr(b, ": ");
        if (rc == 0)
            rc = tmpl_add_repr(r, b, &d->pairs[i].val);
    }
    buf_addch(b, '}');
    return rc;
}

static int add_view(struct tmpl_run *r, struct buf *b, const struct tmpl_view *view)
{
    static const char *const names[] = {"dict_keys", "dict_values", "dict_items"};
    int rc = 0;
    buf_addf(b, "%s([", names[view->kind]);
    for (uint32_t i = 0; i < view->dict->n && rc == 0; i++) {
        const struct tmpl_pair *p = &view->dict->pairs[i];
        if (i)
            buf_addstr(b, ", ");
        if (view->kind == VIEW_ITEMS)
            buf_addch(b, '(');
        if (view->kind != VIEW_VALUES)
            rc = tmpl_add_repr(r, b, &p->key);
        if (view->kind == VIEW_ITEMS)
            buf_addstr(b, ", ");
        if (rc == 0 && view->kind != VIEW_KEYS)
            rc = tmpl_add_repr(r, b, &p->val);
        if (view->kind == VIEW_ITEMS)
            buf_addch(b, ')');
    }
    buf_addstr(b, "])");
    return rc;
}

static int add_loop(struct tmpl_run *r, struct buf *b, struct tmpl_loop *l)
{
    int64_t n;
    int rc = tmpl_loop_length(r, l, &n);
    if (rc == 0)
        buf_addf(b, "<LoopContext %" PRId64 "/%" PRId64 ">", l->index0 + 1, n);
    return rc;
}

static void add_range(struct buf *b, const struct tmpl_range *range)
{
    buf_addf(b, "range(%" PRId64 ", %" PRId64, range->start, range->stop);
    if (range->step != 1)
        buf_addf(b, ", %" PRId64, range->step);
    buf_addch(b, ')');
}

static void add_macro(struct buf *b, const struct tmpl_str *name)
{
    buf_addstr(b, "<Macro ");
    if (name)
        add_quoted(b, name->s, name->n);
    else
        buf_addstr(b, "anonymous");
    buf_addch(b, '>');
}

static int add_container(struct tmpl_run *r, struct buf *b, const struct tmpl_val *v)
{
    int rc;
    switch (v->type) {
    case TV_LIST:
    case TV_TUPLE:
        return add_items(r, b, v->list, v->type == TV_TUPLE);
    case TV_DICT:
        return add_pairs(r, b, v->dict);
    case TV_NS:
        buf_addstr(b, "<Namespace ");
        rc = add_pairs(r, b, v->dict);
        buf_addch(b, '>');
        return rc;
    case TV_VIEW:
        return add_view(r, b, v->view);
    default:
        return tmpl_unsupported(r, "the text of a %s depends on memory addresses%s",
                                tmpl_type_name(v),
                                v->type == TV_ITER ? "; make it a list first" : "");
    }
}

/* What has no nested values. */
static bool add_scalar(struct buf *b, const struct tmpl_val *v)
{
    char text[TMPL_FLOAT_CHARS];
    switch (v->type) {
    case TV_NONE:
        buf_addstr(b, "None");
        return true;
    case TV_BOOL:
        buf_addstr(b, v->b ? "True" : "False");
        return true;
    case TV_INT:
        buf_addf(b, "%" PRId64, v->i);
        return true;
    case TV_FLOAT:
        tmpl_float_repr(v->f, text);
        buf_addstr(b, text);
        return true;
    case TV_RANGE:
        add_range(b, v->range);
        return true;
    case TV_MACRO:
        add_macro(b, v->macro->def->name);
        return true;
    default:
        return false;
    }
}

int tmpl_add_repr(struct tmpl_run *r, struct buf *b, const struct tmpl_val *v)
{
    int rc = tmpl_charge(r, v->type == TV_STR ? v->str->n : 0);
    if (rc || add_scalar(b, v))
        return rc;
    if (b->failed)
        return tmpl_memory_limit(r);
    if (v->type == TV_UNDEF) {
        buf_addstr(b, "Undefined");
        return 0;
    }
    if (v->type == TV_STR) {
        buf_addstr(b, v->str->markup ? "Markup(" : "");
        add_quoted(b, v->str->s, v->str->n);
        buf_addstr(b, v->str->markup ? ")" : "");
        return 0;
    }
    if (v->type == TV_LOOP)
        return add_loop(r, b, v->loop);
    if ((rc = tmpl_enter(r)))
        return rc;
    rc = add_container(r, b, v);
    tmpl_leave(r);
    return rc;
}

int tmpl_add_str(struct tmpl_run *r, struct buf *b, const struct tmpl_val *v)
{
    if (v->type == TV_STR) {
        buf_add(b, v->str->s, v->str->n);
        return b->failed ? tmpl_memory_limit(r) : tmpl_charge(r, v->str->n);
    }
    return v->type == TV_UNDEF ? 0 : tmpl_add_repr(r, b, v);
}

int tmpl_str_of(struct tmpl_run *r, const struct tmpl_val *v, struct tmpl_val *out)
{
    if (v->type == TV_STR) {
        *out = *v;
        return 0;
    }
    struct buf b = tmpl_scratch(r);
    int rc = tmpl_add_str(r, &b, v);
    if (rc == 0)
        return tmpl_str_take(r, &b, out);
    buf_fini(&b);
    return rc;
}

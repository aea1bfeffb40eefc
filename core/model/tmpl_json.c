/* tmpl_json.c - the filter tojson: json.dumps with the options that transformers passes on. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/tmpl_ast_int.h"
#include "core/model/tmpl_text_int.h"
#include "core/model/tmpl_val_int.h"

struct dumper {
    struct tmpl_run *r;
    struct buf *b;
    bool ascii, sort_keys;
    bool pretty;
    struct tmpl_str *indent; /* of one level, when pretty */
    struct tmpl_str *item_sep, *key_sep;
};

static void add_unicode(struct buf *b, uint32_t cp)
{
    if (cp >= 0x10000) {
        cp -= 0x10000;
        buf_addf(b, "\\u%04x\\u%04x", 0xd800 + (cp >> 10), 0xdc00 + (cp & 0x3ff));
    } else
        buf_addf(b, "\\u%04x", cp);
}

static void add_json_str(struct dumper *d, const struct tmpl_str *s)
{
    static const char shorts[] = "\"\\\n\r\t\f\b", letters[] = "\"\\nrtfb";
    uint32_t cp;
    size_t from = 0, k;
    buf_addch(d->b, '"');
    for (size_t i = 0; i < s->n; i += k) {
        k = tmpl_char_at(s->s + i, &cp);
        if (cp >= 0x20 && cp != '"' && cp != '\\' && (!d->ascii || cp < 0x7f))
            continue;
        buf_add(d->b, s->s + from, i - from);
        from = i + k;
        const char *p = cp && cp < 0x80 ? strchr(shorts, (int)cp) : NULL;
        if (p) {
            buf_addch(d->b, '\\');
            buf_addch(d->b, letters[p - shorts]);
        } else
            add_unicode(d->b, cp);
    }
    buf_add(d->b, s->s + from, s->n - from);
    buf_addch(d->b, '"');
}

static void add_json_float(struct buf *b, double f)
{
    char text[TMPL_FLOAT_CHARS];
    if (isnan(f))
        buf_addstr(b, "NaN");
    else if (isinf(f))
        buf_addstr(b, f < 0 ? "-Infinity" : "Infinity");
    else {
        tmpl_float_repr(f, text);
        buf_addstr(b, text);
    }
}

/* Numbers, true, false and null; false for anything else. */
static bool add_json_scalar(struct buf *b, const struct tmpl_val *v)
{
    switch (v->type) {
    case TV_NONE:
        buf_addstr(b, "null");
        return true;
    case TV_BOOL:
        buf_addstr(b, v->b ? "true" : "false");
        return true;
    case TV_INT:
        buf_addf(b, "%" PRId64, v->i);
        return true;
    case TV_FLOAT:
        add_json_float(b, v->f);
        return true;
    default:
        return false;
    }
}

static int add_json(struct dumper *d, const struct tmpl_val *v, size_t level);

static void add_newline(struct dumper *d, size_t level)
{
    if (!d->pretty)
        return;
    buf_addch(d->b, '\n');
    for (size_t i = 0; i < level && !d->b->failed; i++)
        buf_add(d->b, d->indent->s, d->indent->n);
}

static int add_list(struct dumper *d, const struct tmpl_list *l, size_t level)
{
    int rc = 0;
    buf_addch(d->b, '[');
    for (size_t i = 0; i < l->n && rc == 0; i++) {
        if (i)
            buf_add(d->b, d->item_sep->s, d->item_sep->n);
        add_newline(d, level + 1);
        rc = add_json(d, &l->items[i], level + 1);
    }
    if (l->n)
        add_newline(d, level);
    buf_addch(d->b, ']');
    return rc;
}

static int add_key(struct dumper *d, const struct tmpl_val *key)
{
    if (key->type == TV_STR) {
        add_json_str(d, key->str);
        return 0;
    }
    buf_addch(d->b, '"');
    bool known = add_json_scalar(d->b, key);
    buf_addch(d->b, '"');
    return known ? 0
                 : tmpl_raise(d->r, EXC_TYPE, "keys must be str, int, float, bool or None, not %s",
                              tmpl_type_name(key));
}

/* The pairs of a dict in the order of their keys. */
static int sorted_pairs(struct tmpl_run *r, const struct tmpl_dict *d, const struct tmpl_pair **out)
{
    struct tmpl_val keys;
    size_t *order;
    int rc = tmpl_list_new(r, TV_LIST, d->n, &keys);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < d->n; i++)
        keys.list->items[i] = d->pairs[i].key;
    if ((rc = tmpl_sort_order(r, keys.list, false, &order)))
        return rc;
    struct tmpl_pair *pairs = tmpl_array(r, d->n, sizeof(*pairs));
    if (!pairs)
        return tmpl_failed(r);
    for (uint32_t i = 0; i < d->n; i++)
        pairs[i] = d->pairs[order[i]];
    *out = pairs;
    return 0;
}

static int add_dict(struct dumper *d, const struct tmpl_dict *dict, size_t level)
{
    const struct tmpl_pair *pairs = dict->pairs;
    int rc = d->sort_keys && dict->n > 1 ? sorted_pairs(d->r, dict, &pairs) : 0;
    if (rc)
        return rc;
    buf_addch(d->b, '{');
    for (uint32_t i = 0; i < dict->n && rc == 0; i++) {
        if (i)
            buf_add(d->b, d->item_sep->s, d->item_sep->n);
        add_newline(d, level + 1);
        rc = add_key(d, &pairs[i].key);
        buf_add(d->b, d->key_sep->s, d->key_sep->n);
        if (rc == 0)
            rc = add_json(d, &pairs[i].val, level + 1);
    }
    if (dict->n)
        add_newline(d, level);
    buf_addch(d->b, '}');
    return rc;
}

static int add_json(struct dumper *d, const struct tmpl_val *v, size_t level)
{
    int rc = tmpl_charge(d->r, v->type == TV_STR ? v->str->n : 0);
    if (rc)
        return rc;
    if (d->b->failed)
        return tmpl_memory_limit(d->r);
    if (v->type == TV_STR) {
        add_json_str(d, v->str);
        return 0;
    }
    if (add_json_scalar(d->b, v))
        return 0;
    if (!tmpl_is_seq(v) && v->type != TV_DICT)
        return tmpl_raise(d->r, EXC_TYPE, "Object of type %s is not JSON serializable",
                          tmpl_type_name(v));
    if ((rc = tmpl_enter(d->r)))
        return rc;
    rc = v->type == TV_DICT ? add_dict(d, v->dict, level) : add_list(d, v->list, level);
    tmpl_leave(d->r);
    return rc;
}

/* indent=: None, a number of spaces or a string. */
static int read_indent(struct dumper *d, const struct tmpl_val *v)
{
    struct tmpl_val space, indent;
    if (v->type == TV_MISSING || v->type == TV_NONE)
        return 0;
    d->pretty = true;
    if (v->type == TV_STR) {
        d->indent = v->str;
        return 0;
    }
    int rc = tmpl_str_ref(d->r, " ", 1, &space);
    if (rc == 0)
        rc = tmpl_binary(d->r, OP_MUL, &space, v, &indent);
    if (rc == 0)
        d->indent = indent.str;
    return rc;
}

/* separators=: a pair of strings. */
static int read_separators(struct dumper *d, const struct tmpl_val *v)
{
    struct tmpl_val item, key, pair;
    int rc;
    if (v->type != TV_MISSING && v->type != TV_NONE) {
        if ((rc = tmpl_to_list(d->r, v, &pair)))
            return rc;
        if (pair.list->n != 2)
            return tmpl_raise(d->r, EXC_VALUE, "separators must be a pair, not %zu values",
                              pair.list->n);
        item = pair.list->items[0];
        key = pair.list->items[1];
        if (item.type != TV_STR || key.type != TV_STR)
            return tmpl_raise(d->r, EXC_TYPE, "separators must be strings");
    } else {
        const char *sep = d->pretty ? "," : ", ";
        if ((rc = tmpl_str_ref(d->r, sep, strlen(sep), &item)) ||
            (rc = tmpl_str_ref(d->r, ": ", 2, &key)))
            return rc;
    }
    d->item_sep = item.str;
    d->key_sep = key.str;
    return 0;
}

int tmpl_filter_tojson(struct tmpl_run *r, const struct tmpl_val *in, int how,
                       const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"ensure_ascii", "indent", "separators", "sort_keys"};
    struct tmpl_val v[4];
    struct buf b = tmpl_scratch(r);
    struct dumper d = {.r = r, .b = &b};
    int rc = tmpl_bind(r, "tojson", a, names, 4, 0, v);
    if (rc)
        return rc;
    d.ascii = tmpl_truthy(&v[0]);
    d.sort_keys = tmpl_truthy(&v[3]);
    rc = read_indent(&d, &v[1]);
    if (rc == 0)
        rc = read_separators(&d, &v[2]);
    if (rc == 0)
        rc = add_json(&d, in, 0);
    if (rc == 0)
        return tmpl_str_take(r, &b, out);
    buf_fini(&b);
    return rc;
}

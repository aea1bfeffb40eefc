/* tmpl_op.c - arithmetic operators on any two values, and HTML escaping, which `+` may do. */
#include <string.h>

#include "core/model/tmpl_ast_int.h"
#include "core/model/tmpl_text_int.h"
#include "core/model/tmpl_val_int.h"

int tmpl_escape(struct tmpl_run *r, struct tmpl_str *s, struct tmpl_val *out)
{
    if (s->markup) {
        *out = tmpl_str_val(s);
        return 0;
    }
    struct buf b = tmpl_scratch(r);
    for (size_t i = 0; i < s->n; i++) {
        switch (s->s[i]) {
        case '&':
            buf_addstr(&b, "&amp;");
            break;
        case '<':
            buf_addstr(&b, "&lt;");
            break;
        case '>':
            buf_addstr(&b, "&gt;");
            break;
        case '\'':
            buf_addstr(&b, "&#39;");
            break;
        case '"':
            buf_addstr(&b, "&#34;");
            break;
        default:
            buf_addch(&b, s->s[i]);
        }
    }
    int rc = tmpl_str_take(r, &b, out);
    if (rc == 0)
        out->str->markup = true;
    return rc;
}

static int add_str(struct tmpl_run *r, const struct tmpl_val *a, const struct tmpl_val *b,
                   struct tmpl_val *out)
{
    struct tmpl_val x = *a, y = *b;
    int rc = 0;
    if (a->str->markup != b->str->markup)
        rc = a->str->markup ? tmpl_escape(r, b->str, &y) : tmpl_escape(r, a->str, &x);
    return rc ? rc : tmpl_str_cat(r, x.str, y.str, out);
}

static int repeat_str(struct tmpl_run *r, const struct tmpl_str *s, size_t count,
                      struct tmpl_val *out)
{
    size_t total;
    if (!size_mul(s->n, count, &total))
        return tmpl_limit(r, "a string repeated %zu times is too long", count);
    char *to = tmpl_alloc(r, total);
    if (!to)
        return tmpl_failed(r);
    for (size_t done = 0, n; done < total; done += n) {
        n = done == 0 ? s->n : done <= total - done ? done : total - done;
        memcpy(to + done, done == 0 ? s->s : to, n);
    }
    int rc = tmpl_str_ref(r, to, total, out);
    if (rc == 0)
        out->str->markup = s->markup;
    return rc ? rc : tmpl_charge(r, total);
}

static int repeat(struct tmpl_run *r, const struct tmpl_val *seq, int64_t times,
                  struct tmpl_val *out)
{
    size_t count = times > 0 ? (size_t)times : 0, total;
    if (seq->type == TV_STR)
        return repeat_str(r, seq->str, count, out);
    const struct tmpl_list *l = seq->list;
    if (!size_mul(l->n, count, &total))
        return tmpl_limit(r, "a list repeated %zu times is too long", count);
    struct tmpl_val v;
    int rc = tmpl_list_new(r, seq->type, total, &v);
    for (size_t i = 0; i < total && rc == 0; i += l->n)
        memcpy(v.list->items + i, l->items, l->n * sizeof(*l->items));
    if (rc == 0)
        *out = v;
    return rc;
}

static const char *op_text(int op)
{
    static const char *const texts[] = {
        [OP_ADD] = "+", [OP_SUB] = "-",  [OP_MUL] = "*", [OP_DIV] = "/", [OP_FLOORDIV] = "//",
        [OP_MOD] = "%", [OP_POW] = "**", [OP_POS] = "+", [OP_NEG] = "-",
    };
    return texts[op];
}

static bool can_repeat(const struct tmpl_val *v)
{
    return v->type == TV_STR || tmpl_is_seq(v);
}

int tmpl_binary(struct tmpl_run *r, int op, const struct tmpl_val *a, const struct tmpl_val *b,
                struct tmpl_val *out)
{
    if (tmpl_is_num(a) && tmpl_is_num(b))
        return tmpl_num_op(r, op, a, b, out);
    if (op == OP_ADD && a->type == TV_STR && b->type == TV_STR)
        return add_str(r, a, b, out);
    if (op == OP_MOD && a->type == TV_STR)
        return tmpl_percent(r, a->str, b, out);
    if (a->type == TV_UNDEF || b->type == TV_UNDEF)
        return tmpl_raise_undef(r, a->type == TV_UNDEF ? a : b);
    if (op == OP_ADD && a->type == b->type && tmpl_is_seq(a))
        return tmpl_list_cat(r, a, b, out);
    if (op == OP_MUL && can_repeat(a) && tmpl_is_int(b))
        return repeat(r, a, tmpl_as_int(b), out);
    if (op == OP_MUL && can_repeat(b) && tmpl_is_int(a))
        return repeat(r, b, tmpl_as_int(a), out);
    if (op == OP_SUB && a->type == TV_VIEW)
        return tmpl_unsupported(r, "sets are not supported");
    return tmpl_raise(r, EXC_TYPE, "unsupported operand type(s) for %s: '%s' and '%s'", op_text(op),
                      tmpl_type_name(a), tmpl_type_name(b));
}

int tmpl_unary(struct tmpl_run *r, int op, const struct tmpl_val *v, struct tmpl_val *out)
{
    if (v->type == TV_UNDEF)
        return tmpl_raise_undef(r, v);
    if (!tmpl_is_num(v))
        return tmpl_raise(r, EXC_TYPE, "bad operand type for unary %s: '%s'", op_text(op),
                          tmpl_type_name(v));
    struct tmpl_val zero = tmpl_int(0), number = *v;
    if (v->type == TV_BOOL)
        number = tmpl_int(v->b);
    if (op == OP_POS)
        *out = number;
    else if (v->type == TV_FLOAT)
        *out = tmpl_float(-v->f);
    else
        return tmpl_num_op(r, OP_SUB, &zero, &number, out);
    return 0;
}

/* tmpl_slice.c - v[start:stop:step]. */
#include <string.h>

#include "core/model/tmpl_text_int.h"
#include "core/model/tmpl_val_int.h"

struct bounds {
    int64_t start, stop, step;
    size_t n; /* items selected */
};

static int read_bound(struct tmpl_run *r, const struct tmpl_val *v, int64_t absent, int64_t *out)
{
    *out = absent;
    if (v->type == TV_MISSING || v->type == TV_NONE)
        return 0;
    if (!tmpl_is_int(v))
        return tmpl_raise(r, EXC_TYPE, "slice indices must be integers or None, not %s",
                          tmpl_type_name(v));
    *out = tmpl_as_int(v);
    return 0;
}

/* Clips an index into [low, high] after counting a negative one from the end. */
static int64_t clip(int64_t i, int64_t len, int64_t low, int64_t high)
{
    if (i < 0)
        i += len;
    return i < low ? low : i > high ? high : i;
}

static int read_bounds(struct tmpl_run *r, int64_t len, const struct tmpl_val *start,
                       const struct tmpl_val *stop, const struct tmpl_val *step, struct bounds *b)
{
    int rc = read_bound(r, step, 1, &b->step);
    if (rc)
        return rc;
    if (b->step == 0)
        return tmpl_raise(r, EXC_VALUE, "slice step cannot be zero");
    if (b->step < -INT64_MAX)
        b->step = -INT64_MAX;
    bool back = b->step < 0;
    int64_t low = back ? -1 : 0, high = back ? len - 1 : len;
    if ((rc = read_bound(r, start, back ? INT64_MAX : 0, &b->start)) ||
        (rc = read_bound(r, stop, back ? INT64_MIN : INT64_MAX, &b->stop)))
        return rc;
    b->start = clip(b->start, len, low, high);
    b->stop = clip(b->stop, len, low, high);
    int64_t span = back ? b->start - b->stop : b->stop - b->start;
    b->n = span > 0 ? (size_t)((span - 1) / (back ? -b->step : b->step) + 1) : 0;
    return 0;
}

static int slice_list(struct tmpl_run *r, const struct tmpl_val *v, const struct bounds *b,
                      struct tmpl_val *out)
{
    struct tmpl_val list;
    if (b->step == 1) { /* lists do not change: the items can be shared */
        struct tmpl_list *l = tmpl_alloc(r, sizeof(*l));
        if (!l)
            return tmpl_failed(r);
        *l = (struct tmpl_list){.items = v->list->items + b->start, .n = b->n};
        *out = (struct tmpl_val){.type = v->type, .list = l};
        return 0;
    }
    int rc = tmpl_list_new(r, v->type, b->n, &list);
    if (rc)
        return rc;
    for (size_t i = 0; i < b->n; i++)
        list.list->items[i] = v->list->items[b->start + (int64_t)i * b->step];
    *out = list;
    return 0;
}

/* Byte offset of every character, and the end. */
static size_t *char_offsets(struct tmpl_run *r, const struct tmpl_str *s, size_t n_chars)
{
    size_t *at = tmpl_array(r, n_chars + 1, sizeof(*at)), k = 0;
    uint32_t cp;
    for (size_t i = 0; at && i < s->n; i += tmpl_char_at(s->s + i, &cp))
        at[k++] = i;
    if (at)
        at[k] = s->n;
    return at;
}

static int slice_str(struct tmpl_run *r, struct tmpl_str *s, const struct bounds *b,
                     struct tmpl_val *out)
{
    size_t from = (size_t)b->start, n = b->n;
    bool ascii = s->n_chars == s->n;
    int rc = tmpl_charge(r, s->n);
    if (rc)
        return rc;
    if (b->step == 1 || n == 0) {
        if (!ascii && n) {
            size_t at = tmpl_char_offset(s->s, s->n, from);
            n = tmpl_char_offset(s->s + at, s->n - at, n);
            from = at;
        }
        rc = tmpl_str_ref(r, n ? s->s + from : s->s, n, out);
    } else {
        size_t *at = ascii ? NULL : char_offsets(r, s, s->n_chars);
        struct buf text = tmpl_scratch(r);
        if (!ascii && !at)
            return tmpl_failed(r);
        for (size_t i = 0; i < n; i++) {
            size_t k = (size_t)(b->start + (int64_t)i * b->step);
            buf_add(&text, s->s + (at ? at[k] : k), at ? at[k + 1] - at[k] : 1);
        }
        rc = tmpl_str_take(r, &text, out);
    }
    if (rc == 0)
        out->str->markup = s->markup;
    return rc;
}

static int slice_range(struct tmpl_run *r, const struct tmpl_range *range, const struct bounds *b,
                       struct tmpl_val *out)
{
    struct tmpl_range *sub = tmpl_alloc(r, sizeof(*sub));
    int64_t first, last;
    if (!sub)
        return tmpl_failed(r);
    if (__builtin_mul_overflow(b->step, range->step, &sub->step) ||
        __builtin_mul_overflow(b->start, range->step, &first) ||
        __builtin_add_overflow(first, range->start, &sub->start) ||
        __builtin_mul_overflow(b->stop, range->step, &last) ||
        __builtin_add_overflow(last, range->start, &sub->stop))
        return tmpl_unsupported(r, "an integer does not fit 64 bits");
    sub->n = b->n;
    *out = (struct tmpl_val){.type = TV_RANGE, .range = sub};
    return 0;
}

int tmpl_slice(struct tmpl_run *r, const struct tmpl_val *v, const struct tmpl_val *start,
               const struct tmpl_val *stop, const struct tmpl_val *step, struct tmpl_val *out)
{
    struct bounds b;
    int64_t len;
    if (v->type == TV_UNDEF)
        return tmpl_raise_undef(r, v);
    if (v->type != TV_STR && !tmpl_is_seq(v) && v->type != TV_RANGE)
        return tmpl_raise(r, EXC_TYPE, "a slice of '%s' is not possible", tmpl_type_name(v));
    int rc = tmpl_len(r, v, &len);
    if (rc == 0)
        rc = read_bounds(r, len, start, stop, step, &b);
    if (rc)
        return rc;
    if (v->type == TV_STR)
        return slice_str(r, v->str, &b, out);
    return v->type == TV_RANGE ? slice_range(r, v->range, &b, out) : slice_list(r, v, &b, out);
}

/* tmpl_iter.c - iterating over values. */
#include "core/model/tmpl_text_int.h"
#include "core/model/tmpl_val_int.h"

static int next_seq(struct tmpl_run *r, struct tmpl_iter *it, struct tmpl_val *out, bool *done)
{
    (void)r;
    *done = it->pos >= it->seq.list->n;
    if (!*done)
        *out = it->seq.list->items[it->pos++];
    return 0;
}

static int next_char(struct tmpl_run *r, struct tmpl_iter *it, struct tmpl_val *out, bool *done)
{
    const struct tmpl_str *s = it->seq.str;
    uint32_t cp;
    *done = it->pos >= s->n;
    if (*done)
        return 0;
    size_t k = tmpl_char_at(s->s + it->pos, &cp);
    it->pos += k;
    return tmpl_str_ref(r, s->s + it->pos - k, k, out); /* characters of a Markup are plain */
}

/* Item i of a view, in a dict's order. */
static int view_item(struct tmpl_run *r, const struct tmpl_dict *d, int kind, size_t i,
                     struct tmpl_val *out)
{
    const struct tmpl_pair *p = &d->pairs[i];
    if (kind == VIEW_ITEMS)
        return tmpl_tuple2(r, &p->key, &p->val, out);
    *out = kind == VIEW_KEYS ? p->key : p->val;
    return 0;
}

static int next_view(struct tmpl_run *r, struct tmpl_iter *it, struct tmpl_val *out, bool *done)
{
    bool is_dict = it->seq.type == TV_DICT;
    const struct tmpl_dict *d = is_dict ? it->seq.dict : it->seq.view->dict;
    *done = it->pos >= d->n;
    return *done ? 0 : view_item(r, d, is_dict ? VIEW_KEYS : it->seq.view->kind, it->pos++, out);
}

static int next_range(struct tmpl_run *r, struct tmpl_iter *it, struct tmpl_val *out, bool *done)
{
    (void)r;
    const struct tmpl_range *range = it->seq.range;
    *done = it->pos >= range->n;
    if (!*done)
        *out = tmpl_int(range->start + (int64_t)it->pos++ * range->step);
    return 0;
}

static int next_none(struct tmpl_run *r, struct tmpl_iter *it, struct tmpl_val *out, bool *done)
{
    (void)r;
    (void)it;
    (void)out;
    *done = true;
    return 0;
}

/* The iterator that a value refers to: everyone who iterates over it moves it. */
static int next_shared(struct tmpl_run *r, struct tmpl_iter *it, struct tmpl_val *out, bool *done)
{
    return tmpl_next(r, it->seq.iter, out, done);
}

/* Items from the last to the first: pos counts what was given out. */
static int next_reversed(struct tmpl_run *r, struct tmpl_iter *it, struct tmpl_val *out, bool *done)
{
    int64_t n;
    int rc = tmpl_len(r, &it->seq, &n);
    *done = rc == 0 && it->pos >= (size_t)n;
    if (rc || *done)
        return rc;
    size_t i = (size_t)n - 1 - it->pos++;
    switch (it->seq.type) {
    case TV_DICT:
        return view_item(r, it->seq.dict, VIEW_KEYS, i, out);
    case TV_VIEW:
        return view_item(r, it->seq.view->dict, it->seq.view->kind, i, out);
    case TV_RANGE:
        *out = tmpl_int(it->seq.range->start + (int64_t)i * it->seq.range->step);
        return 0;
    default:
        *out = it->seq.list->items[i];
        return 0;
    }
}

static tmpl_next_fn *next_fn(const struct tmpl_val *v)
{
    switch (v->type) {
    case TV_LIST:
    case TV_TUPLE:
        return next_seq;
    case TV_STR:
        return next_char;
    case TV_DICT:
    case TV_VIEW:
        return next_view;
    case TV_RANGE:
        return next_range;
    case TV_UNDEF:
        return next_none;
    case TV_ITER:
        return next_shared;
    default:
        return NULL;
    }
}

bool tmpl_iterable(const struct tmpl_val *v)
{
    return next_fn(v) || v->type == TV_LOOP;
}

int tmpl_iter_init(struct tmpl_run *r, const struct tmpl_val *v, struct tmpl_iter *it)
{
    *it = (struct tmpl_iter){.next = next_fn(v), .seq = *v};
    if (v->type == TV_LOOP)
        return tmpl_unsupported(r, "iterating over 'loop' is not supported");
    if (!it->next)
        return tmpl_raise(r, EXC_TYPE, "'%s' object is not iterable", tmpl_type_name(v));
    return 0;
}

int tmpl_next(struct tmpl_run *r, struct tmpl_iter *it, struct tmpl_val *out, bool *done)
{
    *done = it->finished;
    if (it->finished)
        return 0;
    struct tmpl_val item; /* a filter may write items that do not pass */
    int rc = tmpl_charge(r, 0);
    if (rc == 0 && (rc = tmpl_enter(r)) == 0) {
        rc = it->next(r, it, &item, done);
        tmpl_leave(r);
    }
    it->finished = rc || *done;
    if (!it->finished)
        *out = item;
    return rc;
}

int tmpl_iter_val(struct tmpl_run *r, tmpl_next_fn *next, void *state, struct tmpl_val *out)
{
    struct tmpl_iter *it = tmpl_alloc(r, sizeof(*it));
    if (!it)
        return tmpl_failed(r);
    *it = (struct tmpl_iter){.next = next, .state = state};
    *out = (struct tmpl_val){.type = TV_ITER, .iter = it};
    return 0;
}

int tmpl_to_list(struct tmpl_run *r, const struct tmpl_val *v, struct tmpl_val *out)
{
    struct tmpl_iter it;
    struct tmpl_val item, list;
    bool done = false;
    int rc = tmpl_iter_init(r, v, &it);
    if (rc == 0)
        rc = tmpl_list_new(r, TV_LIST, 0, &list);
    while (rc == 0 && (rc = tmpl_next(r, &it, &item, &done)) == 0 && !done)
        rc = tmpl_list_push(r, list.list, &item);
    if (rc == 0)
        *out = list;
    return rc;
}

int tmpl_reversed(struct tmpl_run *r, const struct tmpl_val *v, struct tmpl_val *out)
{
    struct tmpl_val seq = *v;
    int rc = 0;
    switch (v->type) {
    case TV_STR:
        rc = tmpl_to_list(r, v, &seq);
        break;
    case TV_LIST:
    case TV_TUPLE:
    case TV_DICT:
    case TV_VIEW:
    case TV_RANGE:
    case TV_UNDEF:
        break;
    default:
        return tmpl_raise(r, EXC_TYPE, "'%s' object is not reversible", tmpl_type_name(v));
    }
    if (rc == 0)
        rc = tmpl_iter_val(r, v->type == TV_UNDEF ? next_none : next_reversed, NULL, out);
    if (rc == 0)
        out->iter->seq = seq;
    return rc;
}

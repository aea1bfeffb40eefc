/* tmpl_func.c - the global functions: Jinja's and those that transformers adds. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/model/tmpl_val_int.h"
#include "core/util/clock.h"

enum { MAX_RANGE = 100000, MAX_TIME_FORMAT = 4096 };

static int fn_range(struct tmpl_run *r, const struct tmpl_args *a, struct tmpl_val *out)
{
    static const char *const names[] = {"", "", ""};
    struct tmpl_val v[3];
    int64_t n[3] = {0, 0, 1};
    int rc = tmpl_bind(r, "range", a, names, 3, 1, v);
    for (size_t i = 0; i < a->n_pos && rc == 0; i++)
        rc = tmpl_index_arg(r, &v[i], &n[i]);
    if (rc)
        return rc;
    if (a->n_pos == 1) {
        n[1] = n[0];
        n[0] = 0;
    }
    if (n[2] == 0)
        return tmpl_raise(r, EXC_VALUE, "range() arg 3 must not be zero");
    __int128 span = n[2] > 0 ? (__int128)n[1] - n[0] : (__int128)n[0] - n[1];
    __int128 step = n[2] > 0 ? (__int128)n[2] : -(__int128)n[2];
    __int128 count = span > 0 ? (span - 1) / step + 1 : 0;
    if (count > MAX_RANGE)
        return tmpl_raise(r, EXC_OVERFLOW, "range() of more than %d items", MAX_RANGE);
    struct tmpl_range *range = tmpl_alloc(r, sizeof(*range));
    if (!range)
        return tmpl_failed(r);
    *range = (struct tmpl_range){.start = n[0], .stop = n[1], .step = n[2], .n = (size_t)count};
    *out = (struct tmpl_val){.type = TV_RANGE, .range = range};
    return 0;
}

static int fn_dict(struct tmpl_run *r, const struct tmpl_args *a, struct tmpl_val *out)
{
    out->type = TV_DICT;
    return tmpl_dict_call(r, a, &out->dict);
}

static int fn_namespace(struct tmpl_run *r, const struct tmpl_args *a, struct tmpl_val *out)
{
    struct tmpl_dict *d;
    int rc = tmpl_dict_call(r, a, &d);
    for (uint32_t i = 0; rc == 0 && i < d->n; i++)
        rc = tmpl_check_attr(r, &d->pairs[i].key);
    if (rc == 0)
        *out = (struct tmpl_val){.type = TV_NS, .dict = d};
    return rc;
}

static int fn_cycler(struct tmpl_run *r, const struct tmpl_args *a, struct tmpl_val *out)
{
    if (a->n_kw)
        return tmpl_raise(r, EXC_TYPE, "cycler() takes no keyword arguments");
    if (a->n_pos == 0)
        return tmpl_raise(r, EXC_OTHER, "at least one item has to be provided");
    struct tmpl_cycler *c = tmpl_alloc(r, sizeof(*c));
    if (!c || !(c->items = tmpl_array(r, a->n_pos, sizeof(*c->items))))
        return tmpl_failed(r);
    memcpy(c->items, a->pos, a->n_pos * sizeof(*c->items));
    c->n = a->n_pos;
    *out = (struct tmpl_val){.type = TV_CYCLER, .cycler = c};
    return 0;
}

static int fn_joiner(struct tmpl_run *r, const struct tmpl_args *a, struct tmpl_val *out)
{
    static const char *const names[] = {"sep"};
    struct tmpl_val sep;
    int rc = tmpl_bind(r, "joiner", a, names, 1, 0, &sep);
    if (rc == 0 && sep.type == TV_MISSING)
        rc = tmpl_str_ref(r, ", ", 2, &sep);
    struct tmpl_joiner *j = rc ? NULL : tmpl_alloc(r, sizeof(*j));
    if (!j)
        return tmpl_failed(r);
    j->sep = sep;
    *out = (struct tmpl_val){.type = TV_JOINER, .joiner = j};
    return 0;
}

static int fn_raise_exception(struct tmpl_run *r, const struct tmpl_args *a, struct tmpl_val *out)
{
    static const char *const names[] = {"message"};
    struct tmpl_val v;
    int rc = tmpl_bind(r, "raise_exception", a, names, 1, 1, &v);
    if (rc == 0)
        rc = tmpl_str_of(r, &v, out);
    if (rc)
        return rc;
    int n = out->str->n < 380 ? (int)out->str->n : 380;
    return tmpl_raise(r, EXC_OTHER, "%.*s", n, out->str->s);
}

/* The format with what Python's strftime handles itself: %f, and the zone of a time that has
 * none. */
static void python_format(struct buf *b, const struct tmpl_str *s, uint64_t now_us)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->s[i] != '%' || i + 1 == s->n) {
            buf_addch(b, s->s[i]);
            continue;
        }
        char c = s->s[++i];
        if (c == 'f')
            buf_addf(b, "%06u", (unsigned)(now_us % 1000000));
        else if (c != 'z' && c != 'Z') {
            buf_addch(b, '%');
            buf_addch(b, c);
        }
    }
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the template's own, checked by length */
static size_t to_text(char *text, size_t room, const char *format, const struct tm *tm)
{
    return strftime(text, room, format, tm);
}
#pragma GCC diagnostic pop

static int fn_strftime_now(struct tmpl_run *r, const struct tmpl_args *a, struct tmpl_val *out)
{
    static const char *const names[] = {"format"};
    struct tmpl_val v;
    struct tm tm;
    int rc = tmpl_bind(r, "strftime_now", a, names, 1, 1, &v);
    if (rc)
        return rc;
    if (v.type != TV_STR)
        return tmpl_raise(r, EXC_TYPE, "strftime() argument 1 must be str, not %s",
                          tmpl_type_name(&v));
    if (v.str->n > MAX_TIME_FORMAT || (v.str->n && memchr(v.str->s, '\0', v.str->n)))
        return tmpl_unsupported(r, "a time format of %zu bytes is not supported", v.str->n);
    uint64_t now_us = r->now_unix_s ? (uint64_t)r->now_unix_s * 1000000 : clock_wall_us();
    time_t now = (time_t)(now_us / 1000000);
    if (!localtime_r(&now, &tm))
        return tmpl_unsupported(r, "the time cannot be converted to local time");
    struct buf format = {0}, text = {0};
    python_format(&format, v.str, now_us);
    size_t room = 1024 + 256 * format.len; /* as much as Python tries */
    if (!format.failed && buf_reserve(&text, room) && format.len)
        text.len = to_text(text.data, room, format.data, &tm);
    text.failed |= format.failed;
    buf_fini(&format);
    return tmpl_str_take(r, &text, out);
}

static const struct tmpl_func_def funcs[] = {
    {"range", fn_range},
    {"dict", fn_dict},
    {"namespace", fn_namespace},
    {"cycler", fn_cycler},
    {"joiner", fn_joiner},
    {"lipsum", NULL},
    {"raise_exception", fn_raise_exception},
    {"strftime_now", fn_strftime_now},
};

const struct tmpl_func_def *tmpl_find_func(const char *s, size_t n)
{
    for (size_t i = 0; i < ARRAY_LEN(funcs); i++)
        if (strlen(funcs[i].name) == n && memcmp(funcs[i].name, s, n) == 0)
            return &funcs[i];
    return NULL;
}

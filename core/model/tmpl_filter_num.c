/* tmpl_filter_num.c - filters that make or change numbers. */
#include <math.h>

#include "core/model/tmpl_ast_int.h"
#include "core/model/tmpl_filter_int.h"

/* float(v): EXC_TYPE or EXC_VALUE when it is none. */
static int to_float(struct tmpl_run *r, const struct tmpl_val *v, double *out)
{
    if (v->type == TV_UNDEF)
        return tmpl_raise_undef(r, v);
    if (v->type == TV_STR)
        return tmpl_parse_float(r, v->str, out);
    if (!tmpl_is_num(v))
        return tmpl_raise(r, EXC_TYPE, "float() argument must be a string or a real number, not %s",
                          tmpl_type_name(v));
    *out = tmpl_as_float(v);
    return 0;
}

/* int(v), int(v, base) for strings. */
static int to_int(struct tmpl_run *r, const struct tmpl_val *v, const struct tmpl_val *base,
                  int64_t *out)
{
    if (v->type == TV_UNDEF)
        return tmpl_raise_undef(r, v);
    if (v->type == TV_STR) {
        int64_t b = 10;
        int rc = base->type == TV_MISSING ? 0 : tmpl_index_arg(r, base, &b);
        return rc ? rc : tmpl_parse_int(r, v->str, b < 0 || b > 37 ? 37 : (int)b, out);
    }
    if (v->type == TV_FLOAT)
        return tmpl_float_to_int(r, v->f, out);
    if (!tmpl_is_int(v))
        return tmpl_raise(r, EXC_TYPE, "int() argument must be a string or a real number, not %s",
                          tmpl_type_name(v));
    *out = tmpl_as_int(v);
    return 0;
}

int tmpl_filter_int(struct tmpl_run *r, const struct tmpl_val *in, int how,
                    const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"default", "base"};
    struct tmpl_val v[2];
    double f;
    int rc = tmpl_bind(r, "int", a, names, 2, 0, v);
    if (rc)
        return rc;
    *out = tmpl_int(0);
    rc = to_int(r, in, &v[1], &out->i);
    if (rc == 0 || !tmpl_catch(r, EXC_TYPE | EXC_VALUE))
        return rc;
    rc = to_float(r, in, &f);
    if (rc == 0)
        rc = tmpl_float_to_int(r, f, &out->i);
    if (rc == 0 || !tmpl_catch(r, EXC_TYPE | EXC_VALUE | EXC_OVERFLOW))
        return rc;
    *out = v[0].type == TV_MISSING ? tmpl_int(0) : v[0];
    return 0;
}

int tmpl_filter_float(struct tmpl_run *r, const struct tmpl_val *in, int how,
                      const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"default"};
    struct tmpl_val v;
    double f = 0;
    int rc = tmpl_bind(r, "float", a, names, 1, 0, &v);
    if (rc)
        return rc;
    rc = to_float(r, in, &f);
    *out = tmpl_float(f);
    if (rc == 0 || !tmpl_catch(r, EXC_TYPE | EXC_VALUE))
        return rc;
    *out = v.type == TV_MISSING ? tmpl_float(0) : v;
    return 0;
}

int tmpl_filter_abs(struct tmpl_run *r, const struct tmpl_val *in, int how,
                    const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    int rc = tmpl_bind_none(r, "abs", a);
    if (rc)
        return rc;
    if (!tmpl_is_num(in))
        return tmpl_raise(r, EXC_TYPE, "bad operand type for abs(): '%s'", tmpl_type_name(in));
    if (in->type == TV_FLOAT) {
        *out = tmpl_float(fabs(in->f));
        return 0;
    }
    return tmpl_unary(r, tmpl_as_int(in) < 0 ? OP_NEG : OP_POS, in, out);
}

/* math.ceil or math.floor of v * 10**precision, divided by it again. */
static int round_to(struct tmpl_run *r, const struct tmpl_val *in, const struct tmpl_val *precision,
                    bool up, struct tmpl_val *out)
{
    struct tmpl_val ten = tmpl_int(10), unit, scaled;
    int rc = tmpl_binary(r, OP_POW, &ten, precision, &unit);
    if (rc == 0)
        rc = tmpl_binary(r, OP_MUL, in, &unit, &scaled);
    if (rc)
        return rc;
    if (!tmpl_is_num(&scaled))
        return tmpl_raise(r, EXC_TYPE, "must be real number, not %s", tmpl_type_name(&scaled));
    if (scaled.type == TV_FLOAT) {
        struct tmpl_val whole = tmpl_int(0);
        rc = tmpl_float_to_int(r, up ? ceil(scaled.f) : floor(scaled.f), &whole.i);
        scaled = whole;
    }
    return rc ? rc : tmpl_binary(r, OP_DIV, &scaled, &unit, out);
}

int tmpl_filter_round(struct tmpl_run *r, const struct tmpl_val *in, int how,
                      const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"precision", "method"};
    struct tmpl_val v[2];
    int64_t precision = 0;
    int rc = tmpl_bind(r, "round", a, names, 2, 0, v);
    if (rc)
        return rc;
    if (v[0].type == TV_MISSING)
        v[0] = tmpl_int(0);
    if (v[1].type != TV_MISSING && (v[1].type != TV_STR || !tmpl_str_is(v[1].str, "common"))) {
        bool up = v[1].type == TV_STR && tmpl_str_is(v[1].str, "ceil");
        if (!up && (v[1].type != TV_STR || !tmpl_str_is(v[1].str, "floor")))
            return tmpl_raise(r, EXC_OTHER, "method must be common, ceil or floor");
        return round_to(r, in, &v[0], up, out);
    }
    if (v[0].type != TV_NONE && (rc = tmpl_index_arg(r, &v[0], &precision)))
        return rc;
    rc = tmpl_round(r, in, precision, out);
    if (rc == 0 && v[0].type == TV_NONE && out->type == TV_FLOAT) {
        double f = out->f;
        *out = tmpl_int(0);
        rc = tmpl_float_to_int(r, f, &out->i);
    }
    return rc;
}

int tmpl_filter_filesize(struct tmpl_run *r, const struct tmpl_val *in, int how,
                         const struct tmpl_args *a, struct tmpl_val *out)
{
    (void)how;
    static const char *const names[] = {"binary"};
    static const char prefixes[] = "kMGTPEZY";
    struct tmpl_val v;
    double bytes = 0;
    int64_t whole;
    int rc = tmpl_bind(r, "filesizeformat", a, names, 1, 0, &v);
    if (rc == 0)
        rc = to_float(r, in, &bytes);
    if (rc)
        return rc;
    bool binary = tmpl_truthy(&v);
    double base = binary ? 1024 : 1000, unit = base;
    struct buf b = tmpl_scratch(r);
    if (bytes == 1)
        buf_addstr(&b, "1 Byte");
    else if (bytes < base) {
        if ((rc = tmpl_float_to_int(r, bytes, &whole)))
            return rc;
        buf_addf(&b, "%lld Bytes", (long long)whole);
    } else {
        size_t i = 0;
        for (;; i++) {
            unit *= base;
            if (bytes < unit || i + 2 == sizeof(prefixes))
                break;
        }
        tmpl_add_float(&b, base * bytes / unit, 'f', 1, false);
        buf_addf(&b, " %c%sB", binary && i == 0 ? 'K' : prefixes[i], binary ? "i" : "");
    }
    return tmpl_str_take(r, &b, out);
}

/* tmpl_call.c - calling values, and matching arguments to parameters. */
#include <string.h>

#include "core/model/tmpl_val_int.h"

/* Puts keyword arguments in their places. */
static int bind_keywords(struct tmpl_run *r, const char *fn, const struct tmpl_args *a,
                         const char *const names[], size_t n_names, struct tmpl_val out[])
{
    for (size_t k = 0; k < a->n_kw; k++) {
        const struct tmpl_str *name = a->kw[k].name;
        size_t i = 0;
        while (i < n_names && (!*names[i] || !tmpl_str_is(name, names[i])))
            i++;
        if (i == n_names)
            return tmpl_raise(r, EXC_TYPE, "%s() got an unexpected keyword argument '%.*s'", fn,
                              tmpl_shown(name), name->s);
        if (out[i].type != TV_MISSING)
            return tmpl_raise(r, EXC_TYPE, "%s() got multiple values for argument '%s'", fn,
                              names[i]);
        out[i] = a->kw[k].val;
    }
    return 0;
}

int tmpl_bind(struct tmpl_run *r, const char *fn, const struct tmpl_args *a,
              const char *const names[], size_t n_names, size_t n_required, struct tmpl_val out[])
{
    if (a->n_pos > n_names)
        return tmpl_raise(r, EXC_TYPE, "%s() takes at most %zu arguments (%zu given)", fn, n_names,
                          a->n_pos);
    for (size_t i = 0; i < n_names; i++)
        out[i] = i < a->n_pos ? a->pos[i] : (struct tmpl_val){.type = TV_MISSING};
    int rc = bind_keywords(r, fn, a, names, n_names, out);
    for (size_t i = 0; i < n_required && rc == 0; i++)
        if (out[i].type == TV_MISSING)
            rc = tmpl_raise(r, EXC_TYPE, "%s() misses required argument %zu", fn, i + 1);
    return rc;
}

int tmpl_bind_none(struct tmpl_run *r, const char *fn, const struct tmpl_args *a)
{
    return a->n_pos + a->n_kw == 0 ? 0 : tmpl_raise(r, EXC_TYPE, "%s() takes no arguments", fn);
}

bool tmpl_callable(const struct tmpl_val *v)
{
    return v->type == TV_MACRO || v->type == TV_METHOD || v->type == TV_FUNC ||
           v->type == TV_JOINER || v->type == TV_LOOP || v->type == TV_UNDEF;
}

static int call_loop(struct tmpl_run *r, const struct tmpl_val *f, const struct tmpl_args *a,
                     struct tmpl_val *out)
{
    static const char *const names[] = {"iterable"};
    struct tmpl_val iterable;
    int rc = tmpl_bind(r, "loop", a, names, 1, 1, &iterable);
    return rc ? rc : tmpl_loop_call(r, f->loop, &iterable, out);
}

static int call_joiner(struct tmpl_run *r, struct tmpl_joiner *j, const struct tmpl_args *a,
                       struct tmpl_val *out)
{
    int rc = tmpl_bind_none(r, "joiner", a);
    if (rc == 0 && !j->used)
        rc = tmpl_str_ref(r, "", 0, out);
    else if (rc == 0)
        *out = j->sep;
    j->used = true;
    return rc;
}

int tmpl_call(struct tmpl_run *r, const struct tmpl_val *f, const struct tmpl_args *a,
              struct tmpl_val *out)
{
    int rc = tmpl_enter(r);
    if (rc)
        return rc;
    switch (f->type) {
    case TV_MACRO:
        rc = tmpl_call_macro(r, f->macro, a, out);
        break;
    case TV_METHOD:
        rc = f->bound->method->fn(r, &f->bound->self, f->bound->method->how, a, out);
        break;
    case TV_FUNC:
        rc = f->func->fn ? f->func->fn(r, a, out)
                         : tmpl_unsupported(r, "the function '%s' is not supported", f->func->name);
        break;
    case TV_JOINER:
        rc = call_joiner(r, f->joiner, a, out);
        break;
    case TV_LOOP:
        rc = call_loop(r, f, a, out);
        break;
    case TV_UNDEF:
        rc = tmpl_raise_undef(r, f);
        break;
    default:
        rc = tmpl_raise(r, EXC_TYPE, "'%s' object is not callable", tmpl_type_name(f));
    }
    tmpl_leave(r);
    return rc;
}

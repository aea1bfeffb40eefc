/* tmpl_macro.c - macros, and the bodies of call blocks, which are macros without a name. */
#include <string.h>

#include "core/model/tmpl_exec_int.h"

static int macro_new(struct tmpl_run *r, const struct tmpl_macro_scope *def, struct tmpl_val *out)
{
    struct tmpl_macro *m = tmpl_alloc(r, sizeof(*m));
    if (!m)
        return tmpl_failed(r);
    *m = (struct tmpl_macro){.def = def, .act = r->act};
    *out = (struct tmpl_val){.type = TV_MACRO, .macro = m};
    return 0;
}

/* Takes the named argument out of the keywords. */
static bool take_kwarg(struct tmpl_args *a, const struct tmpl_str *name, struct tmpl_val *out)
{
    for (size_t i = 0; i < a->n_kw; i++)
        if (a->kw[i].name->n == name->n && memcmp(a->kw[i].name->s, name->s, name->n) == 0) {
            *out = a->kw[i].val;
            a->n_kw--;
            memmove(&a->kw[i], &a->kw[i + 1], (a->n_kw - i) * sizeof(*a->kw));
            return true;
        }
    return false;
}

static int macro_caller(struct tmpl_run *r, const struct tmpl_macro_scope *def, struct tmpl_args *a,
                        struct tmpl_val *slots)
{
    static const struct tmpl_str caller = {.s = "caller", .n = 6, .n_chars = 6};
    struct tmpl_val v;
    if (take_kwarg(a, &caller, &v) && v.type != TV_NONE) {
        slots[def->caller_slot] = v;
        return 0;
    }
    return tmpl_undef(r, UNDEF_HINT, "no caller defined", NULL, &slots[def->caller_slot]);
}

static int macro_kwargs(struct tmpl_run *r, const struct tmpl_macro_scope *def,
                        const struct tmpl_args *a, struct tmpl_val *slots)
{
    static const struct tmpl_args none;
    struct tmpl_args only_kw = {.kw = a->kw, .n_kw = a->n_kw};
    if (!def->takes_kwargs) {
        if (a->n_kw == 0)
            return 0;
        return tmpl_raise(r, EXC_TYPE, "macro takes no keyword argument '%.*s'",
                          tmpl_shown(a->kw[0].name), a->kw[0].name->s);
    }
    struct tmpl_val *slot = &slots[def->kwargs_slot];
    slot->type = TV_DICT;
    return tmpl_dict_call(r, a->n_kw ? &only_kw : &none, &slot->dict);
}

static int macro_varargs(struct tmpl_run *r, const struct tmpl_macro_scope *def,
                         const struct tmpl_args *a, struct tmpl_val *slots)
{
    size_t n = a->n_pos > def->n_params ? a->n_pos - def->n_params : 0;
    if (!def->takes_varargs)
        return n == 0 ? 0
                      : tmpl_raise(r, EXC_TYPE, "macro takes not more than %u argument(s)",
                                   def->n_params);
    int rc = tmpl_list_new(r, TV_TUPLE, n, &slots[def->varargs_slot]);
    if (rc == 0 && n)
        memcpy(slots[def->varargs_slot].list->items, a->pos + def->n_params, n * sizeof(*a->pos));
    return rc;
}

/* Fills the slots of parameters that were given. */
static int macro_bind(struct tmpl_run *r, const struct tmpl_macro_scope *def,
                      const struct tmpl_args *args, struct tmpl_val *slots)
{
    struct tmpl_args a = *args;
    bool found_caller = def->explicit_caller && a.n_pos >= def->n_params;
    if (a.n_kw) {
        if (!(a.kw = tmpl_array(r, a.n_kw, sizeof(*a.kw))))
            return tmpl_failed(r);
        memcpy(a.kw, args->kw, a.n_kw * sizeof(*a.kw));
    }
    for (uint32_t i = 0; i < def->n_params; i++) {
        if (i < a.n_pos)
            slots[def->param_slots[i]] = a.pos[i];
        else {
            take_kwarg(&a, def->params[i], &slots[def->param_slots[i]]);
            found_caller |= tmpl_str_is(def->params[i], "caller");
        }
    }
    int rc = 0;
    if (def->takes_caller && def->explicit_caller && !found_caller)
        rc = tmpl_raise(r, EXC_TYPE, "macro got two values for its caller");
    else if (def->takes_caller && !def->explicit_caller)
        rc = macro_caller(r, def, &a, slots);
    if (rc == 0)
        rc = macro_kwargs(r, def, &a, slots);
    return rc ? rc : macro_varargs(r, def, &a, slots);
}

/* Parameters that were not given: their defaults, in order, or undefined. */
static int macro_defaults(struct tmpl_run *r, const struct tmpl_macro_scope *def)
{
    int rc = 0;
    for (uint32_t i = 0; i < def->n_params && rc == 0; i++) {
        struct tmpl_val v, *slot = &r->act->slots[def->param_slots[i]];
        if (slot->type != TV_MISSING)
            continue;
        if (def->defaults[i])
            rc = tmpl_eval(r, def->defaults[i], &v);
        else
            rc = tmpl_undef(r, UNDEF_HINT, "a parameter of a macro was not provided", NULL, &v);
        if (rc == 0)
            *slot = v;
    }
    return rc;
}

int tmpl_call_macro(struct tmpl_run *r, const struct tmpl_macro *m, const struct tmpl_args *a,
                    struct tmpl_val *out)
{
    const struct tmpl_macro_scope *def = m->def;
    struct tmpl_act *saved = r->act, *act = tmpl_act_new(r, def->func, m->act);
    struct tmpl_capture c;
    if (!act)
        return tmpl_failed(r);
    int rc = macro_bind(r, def, a, act->slots);
    if (rc)
        return rc;
    r->act = act;
    tmpl_capture_begin(r, &c);
    rc = tmpl_enter_frame(r, &def->frame);
    if (rc == 0)
        rc = macro_defaults(r, def);
    if (rc == 0)
        rc = tmpl_exec(r, def->body);
    r->act = saved;
    return tmpl_capture_end(r, &c, rc, out);
}

int tmpl_exec_call_block(struct tmpl_run *r, const struct tmpl_node *n)
{
    static const struct tmpl_args none;
    struct tmpl_val caller, v;
    int rc = macro_new(r, n->scope, &caller);
    if (rc == 0)
        rc = n->kind == N_GENERATION ? tmpl_call(r, &caller, &none, &v)
                                     : tmpl_eval_call(r, n->kid[0], &caller, &v);
    return rc ? rc : tmpl_write_val(r, &v);
}

int tmpl_exec_macro(struct tmpl_run *r, const struct tmpl_node *n)
{
    const struct tmpl_macro_scope *def = n->scope;
    struct tmpl_val v;
    int rc = macro_new(r, def, &v);
    if (rc == 0)
        tmpl_act_at(r, def->hops)->slots[def->slot] = v;
    return rc;
}

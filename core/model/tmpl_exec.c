/* tmpl_exec.c - runs statements: scopes, output, assignments and blocks. */
#include <string.h>

#include "core/model/tmpl_exec_int.h"

/* --- scopes --- */

struct tmpl_act *tmpl_act_at(struct tmpl_run *r, uint32_t hops)
{
    struct tmpl_act *act = r->act;
    for (; hops > 0; hops--)
        act = act->parent;
    return act;
}

struct tmpl_act *tmpl_act_new(struct tmpl_run *r, const struct tmpl_func *f,
                              struct tmpl_act *parent)
{
    size_t n = f->n_slots * sizeof(struct tmpl_val); /* all TV_MISSING, which is 0 */
    struct tmpl_act *act = tmpl_alloc(r, sizeof(*act) + n);
    if (act)
        act->parent = parent;
    return act;
}

/* A variable of the context, or a global function; MISSING when there is none. */
static int resolve(struct tmpl_run *r, const struct tmpl_name *name, struct tmpl_val *out)
{
    bool found;
    int rc = tmpl_dict_find(r, r->context, name->s, name->n, out, &found);
    if (rc || found)
        return rc;
    const struct tmpl_func_def *f = tmpl_find_func(name->s, name->n);
    *out =
        f ? (struct tmpl_val){.type = TV_FUNC, .func = f} : (struct tmpl_val){.type = TV_MISSING};
    return 0;
}

int tmpl_enter_frame(struct tmpl_run *r, const struct tmpl_frame *f)
{
    int rc = tmpl_charge(r, f->n_loads * sizeof(struct tmpl_val));
    for (uint32_t i = 0; i < f->n_loads && rc == 0; i++) {
        const struct tmpl_load *l = &f->loads[i];
        struct tmpl_val *slot = &r->act->slots[l->slot];
        if (l->action == LOAD_RESOLVE)
            rc = resolve(r, l->name, slot);
        else if (l->action == LOAD_ALIAS)
            *slot = tmpl_act_at(r, l->from_hops)->slots[l->from_slot];
        else if (l->action == LOAD_MISSING)
            slot->type = TV_MISSING;
    }
    return rc;
}

void tmpl_leave_frame(struct tmpl_run *r, const struct tmpl_frame *f)
{
    for (uint32_t i = 0; i < f->n_loads; i++)
        r->act->slots[f->loads[i].slot].type = TV_MISSING;
}

/* --- captured output --- */

void tmpl_capture_begin(struct tmpl_run *r, struct tmpl_capture *c)
{
    *c = (struct tmpl_capture){.outer = r->out, .held_before = r->held_bytes};
    r->out = &c->text;
}

int tmpl_capture_end(struct tmpl_run *r, struct tmpl_capture *c, int rc, struct tmpl_val *out)
{
    r->out = c->outer;
    r->held_bytes = c->held_before;
    if (rc == 0)
        return tmpl_str_take(r, &c->text, out);
    buf_fini(&c->text);
    return rc;
}

int tmpl_write_val(struct tmpl_run *r, const struct tmpl_val *v)
{
    struct tmpl_val s;
    int rc = tmpl_str_of(r, v, &s);
    return rc ? rc : tmpl_write(r, s.str->s, s.str->n);
}

/* --- assignment --- */

int tmpl_check_attr(struct tmpl_run *r, const struct tmpl_val *name)
{
    if (name->type != TV_STR || name->str->n == 0 || name->str->s[0] != '_')
        return 0;
    return tmpl_raise(r, EXC_OTHER, "a namespace cannot have the attribute '%.*s'",
                      tmpl_shown(name->str), name->str->s);
}

static int assign_attr(struct tmpl_run *r, const struct tmpl_node *target, const struct tmpl_val *v)
{
    const struct tmpl_val *ns = &tmpl_act_at(r, target->hops)->slots[target->slot];
    struct tmpl_val name = tmpl_str_val(target->str);
    if (ns->type == TV_DICT)
        return tmpl_unsupported(r, "assigning to an item of a dict is not supported");
    if (ns->type != TV_NS)
        return tmpl_raise(r, EXC_OTHER, "cannot assign attribute on non-namespace object");
    int rc = tmpl_check_attr(r, &name);
    return rc ? rc : tmpl_dict_set(r, ns->dict, &name, v);
}

static int unpack(struct tmpl_run *r, const struct tmpl_node *target, const struct tmpl_val *v)
{
    struct tmpl_val list;
    int rc = tmpl_iterable(v) ? 0
                              : tmpl_raise(r, EXC_TYPE, "cannot unpack non-iterable %s object",
                                           tmpl_type_name(v));
    if (rc == 0)
        rc = tmpl_to_list(r, v, &list);
    if (rc)
        return rc;
    if (list.list->n != target->n_items)
        return tmpl_raise(r, EXC_VALUE, "expected %u values to unpack, got %zu", target->n_items,
                          list.list->n);
    size_t i = 0;
    for (const struct tmpl_node *k = target->kid[0]; k && rc == 0; k = k->next)
        rc = tmpl_assign(r, k, &list.list->items[i++]);
    return rc;
}

int tmpl_assign(struct tmpl_run *r, const struct tmpl_node *target, const struct tmpl_val *v)
{
    if (target->kind == N_TUPLE)
        return unpack(r, target, v);
    if (target->kind == N_NSREF)
        return assign_attr(r, target, v);
    tmpl_act_at(r, target->hops)->slots[target->slot] = *v;
    return 0;
}

/* Jinja checks the namespaces of a target before it evaluates the value. */
static int check_namespaces(struct tmpl_run *r, const struct tmpl_node *target)
{
    int rc = 0;
    if (target->kind == N_TUPLE)
        for (const struct tmpl_node *k = target->kid[0]; k && rc == 0; k = k->next)
            rc = check_namespaces(r, k);
    else if (target->kind == N_NSREF &&
             tmpl_act_at(r, target->hops)->slots[target->slot].type != TV_NS)
        rc = tmpl_raise(r, EXC_OTHER, "cannot assign attribute on non-namespace object");
    return rc;
}

static int exec_set(struct tmpl_run *r, const struct tmpl_node *n)
{
    struct tmpl_val v;
    int rc = check_namespaces(r, n->kid[0]);
    if (rc == 0)
        rc = tmpl_eval(r, n->kid[1], &v);
    return rc ? rc : tmpl_assign(r, n->kid[0], &v);
}

/* --- blocks --- */

/* Runs the body of a set or filter block and passes its text through the filter. */
static int block_text(struct tmpl_run *r, const struct tmpl_node *body,
                      const struct tmpl_node *filter, struct tmpl_val *out)
{
    struct tmpl_val text;
    struct tmpl_capture c;
    tmpl_capture_begin(r, &c);
    int rc = tmpl_capture_end(r, &c, tmpl_exec(r, body), &text);
    if (rc || r->control != CTL_NONE || !filter) {
        *out = text;
        return rc;
    }
    return tmpl_eval_filter(r, filter, &text, out);
}

static int exec_set_block(struct tmpl_run *r, const struct tmpl_node *n)
{
    const struct tmpl_block_scope *info = n->scope;
    struct tmpl_val v;
    int rc = tmpl_enter_frame(r, &info->frame);
    if (rc == 0)
        rc = block_text(r, n->kid[2], n->kid[1], &v);
    if (rc == 0 && r->control == CTL_NONE)
        rc = tmpl_assign(r, n->kid[0], &v);
    tmpl_leave_frame(r, &info->frame);
    return rc;
}

static int exec_filter_block(struct tmpl_run *r, const struct tmpl_node *n)
{
    const struct tmpl_block_scope *info = n->scope;
    struct tmpl_val v;
    int rc = tmpl_enter_frame(r, &info->frame);
    if (rc == 0)
        rc = block_text(r, n->kid[0], n->kid[1], &v);
    if (rc == 0 && r->control == CTL_NONE)
        rc = tmpl_write_val(r, &v);
    tmpl_leave_frame(r, &info->frame);
    return rc;
}

static int exec_with(struct tmpl_run *r, const struct tmpl_node *n)
{
    const struct tmpl_block_scope *info = n->scope;
    int rc = tmpl_enter_frame(r, &info->frame);
    const struct tmpl_node *value = n->kid[1];
    for (const struct tmpl_node *k = n->kid[0]; k && rc == 0; k = k->next, value = value->next) {
        struct tmpl_val v;
        rc = tmpl_eval(r, value, &v);
        if (rc == 0)
            rc = tmpl_assign(r, k, &v);
    }
    if (rc == 0)
        rc = tmpl_exec(r, n->kid[2]);
    tmpl_leave_frame(r, &info->frame);
    return rc;
}

static int exec_if(struct tmpl_run *r, const struct tmpl_node *n)
{
    struct tmpl_val test;
    int rc = tmpl_eval(r, n->kid[0], &test);
    if (rc)
        return rc;
    if (tmpl_truthy(&test))
        return tmpl_exec(r, n->kid[1]);
    for (const struct tmpl_node *k = n->kid[2]; k; k = k->next) {
        if ((rc = tmpl_eval(r, k->kid[0], &test)))
            return rc;
        if (tmpl_truthy(&test))
            return tmpl_exec(r, k->kid[1]);
    }
    return tmpl_exec(r, n->kid[3]);
}

/* {{ a + b + c }}: text is written piece by piece, without making the sum. All operands are
 * evaluated first, since what is no text is added as the operator says. */
static int write_sum(struct tmpl_run *r, const struct tmpl_node *n)
{
    size_t count = 1;
    for (const struct tmpl_node *k = n; k->kind == N_BINARY && k->op == OP_ADD; k = k->kid[0])
        count++;
    const struct tmpl_node **operands = tmpl_array(r, count, sizeof(void *));
    struct tmpl_val *values = operands ? tmpl_array(r, count, sizeof(*values)) : NULL;
    if (!values)
        return tmpl_failed(r);
    for (size_t i = count - 1; i > 0; i--, n = n->kid[0])
        operands[i] = n->kid[1];
    operands[0] = n;
    bool plain = true;
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = tmpl_eval(r, operands[i], &values[i]);
        plain &= rc == 0 && values[i].type == TV_STR && !values[i].str->markup;
    }
    for (size_t i = 0; i < count && rc == 0 && plain; i++)
        rc = tmpl_write(r, values[i].str->s, values[i].str->n);
    for (size_t i = 1; i < count && rc == 0 && !plain; i++)
        rc = tmpl_binary(r, OP_ADD, &values[0], &values[i], &values[0]);
    return rc || plain ? rc : tmpl_write_val(r, &values[0]);
}

static int exec_output(struct tmpl_run *r, const struct tmpl_node *n)
{
    int rc = 0;
    for (const struct tmpl_node *k = n->kid[0]; k && rc == 0; k = k->next) {
        struct tmpl_val v;
        if (k->kind == N_BINARY && k->op == OP_ADD) {
            rc = write_sum(r, k);
            continue;
        }
        rc = tmpl_eval(r, k, &v);
        if (rc == 0)
            rc = tmpl_write_val(r, &v);
    }
    return rc;
}

static int exec_one(struct tmpl_run *r, const struct tmpl_node *n)
{
    switch (n->kind) {
    case N_OUTPUT:
        return exec_output(r, n);
    case N_FOR:
        return tmpl_exec_for(r, n);
    case N_IF:
        return exec_if(r, n);
    case N_SET:
        return exec_set(r, n);
    case N_SETBLOCK:
        return exec_set_block(r, n);
    case N_FILTERBLOCK:
        return exec_filter_block(r, n);
    case N_WITH:
        return exec_with(r, n);
    case N_CALLBLOCK:
    case N_GENERATION:
        return tmpl_exec_call_block(r, n);
    case N_MACRO:
        return tmpl_exec_macro(r, n);
    default:
        r->control = n->kind == N_BREAK ? CTL_BREAK : CTL_CONTINUE;
        return 0;
    }
}

int tmpl_exec(struct tmpl_run *r, const struct tmpl_node *list)
{
    int rc = tmpl_enter(r);
    if (rc)
        return rc;
    for (; list && rc == 0 && r->control == CTL_NONE; list = list->next) {
        r->line = list->line;
        rc = tmpl_charge(r, 0);
        if (rc == 0)
            rc = exec_one(r, list);
    }
    tmpl_leave(r);
    return rc;
}

int tmpl_run_template(struct tmpl_run *r)
{
    r->act = tmpl_act_new(r, r->t->func, NULL);
    if (!r->act)
        return tmpl_failed(r);
    int rc = tmpl_enter_frame(r, &r->t->frame);
    return rc ? rc : tmpl_exec(r, r->t->body);
}

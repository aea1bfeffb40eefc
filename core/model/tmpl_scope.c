/* tmpl_scope.c - gives every name of a template its place. */
#include <string.h>

#include "core/model/tmpl_scope_int.h"

static int walk_list(struct pass *ps, struct tmpl_node *list);

static uint32_t hops_between(const struct tmpl_func *from, const struct tmpl_func *to)
{
    uint32_t hops = 0;
    for (; from && from != to; from = from->parent)
        hops++;
    return hops;
}

/* The slot for a name of a level of a function. */
static int slot_of(struct pass *ps, struct tmpl_func *func, uint32_t level,
                   const struct tmpl_name *name, uint32_t *out)
{
    struct entry *e = tmpl_scope_entry(ps, func, name, level + 1);
    if (!e)
        return tmpl_scope_no_memory(ps);
    if (!e->owner) {
        *e = (struct entry){
            .owner = func, .name = name, .level = level + 1, .value = func->n_slots++};
        ps->n_map++;
    }
    *out = e->value;
    return 0;
}

static int place_in(struct pass *ps, const struct scope *sc, const struct tmpl_func *from,
                    const struct tmpl_name *name, uint32_t line, uint32_t *hops, uint32_t *slot)
{
    const struct scope *home = tmpl_find_ref(ps, sc, name);
    if (!home)
        return tmpl_syntax(ps->p, line, "the name '%.60s' cannot be used here", name->s);
    *hops = hops_between(from, home->func);
    return slot_of(ps, home->func, home->level, name, slot);
}

static int place(struct pass *ps, struct tmpl_node *n)
{
    const struct scope *home = tmpl_find_ref(ps, ps->scope, n->name);
    const struct sym *s = home ? tmpl_find_sym(ps, home, n->name) : NULL;
    /* A default may read parameters that have no value yet. */
    n->is_param = s && s->has_load && s->action == LOAD_PARAM && home != ps->defaults;
    return place_in(ps, ps->scope, ps->scope->func, n->name, n->line, &n->hops, &n->slot);
}

static struct scope *scope_new(struct pass *ps, struct scope *parent, struct tmpl_func *func)
{
    struct scope *sc = arena_alloc(&ps->scratch, sizeof(*sc));
    if (!sc) {
        tmpl_scope_no_memory(ps);
        return NULL;
    }
    *sc = (struct scope){.parent = parent, .func = func, .level = parent ? parent->level + 1 : 0};
    return sc;
}

static struct tmpl_func *func_new(struct pass *ps, struct tmpl_func *parent)
{
    struct tmpl_func *f = arena_alloc(ps->p->arena, sizeof(*f));
    if (f)
        f->parent = parent;
    else
        tmpl_scope_no_memory(ps);
    return f;
}

/* The loads of an analyzed scope. */
static int make_frame(struct pass *ps, const struct scope *sc, struct tmpl_frame *out)
{
    out->loads = arena_array(ps->p->arena, sc->n_syms ? sc->n_syms : 1, sizeof(*out->loads));
    if (!out->loads)
        return tmpl_scope_no_memory(ps);
    for (uint32_t i = 0; i < sc->n_syms; i++) {
        const struct sym *s = &sc->syms[i];
        if (!s->has_load)
            continue;
        struct tmpl_load *l = &out->loads[out->n_loads++];
        *l = (struct tmpl_load){.action = s->action, .name = s->name};
        int rc = slot_of(ps, sc->func, sc->level, s->name, &l->slot);
        if (rc == 0 && s->action == LOAD_ALIAS) {
            l->from_hops = hops_between(sc->func, s->outer->func);
            rc = slot_of(ps, s->outer->func, s->outer->level, s->name, &l->from_slot);
        }
        if (rc)
            return rc;
    }
    return 0;
}

/* Walks a list of nodes in another scope. */
static int walk_in(struct pass *ps, struct scope *sc, struct tmpl_node *list)
{
    struct scope *scope = ps->scope;
    bool soft = ps->soft;
    ps->scope = sc;
    ps->soft = false;
    int rc = walk_list(ps, list);
    ps->scope = scope;
    ps->soft = soft;
    return rc;
}

static bool stores_loop(const struct pass *ps, const struct tmpl_node *n)
{
    for (; n; n = n->next) {
        if (n->kind == N_NAME && n->ctx == CTX_STORE && n->name == ps->loop)
            return true;
        for (int i = 0; i < TMPL_MAX_KIDS; i++)
            if (stores_loop(ps, n->kid[i]))
                return true;
    }
    return false;
}

/* A copy of a target, with places in the function of the loop's test. */
static struct tmpl_node *clone_target(struct pass *ps, const struct tmpl_node *n,
                                      struct tmpl_func *func, uint32_t level)
{
    struct tmpl_node *copy = tmpl_node_new(ps->p, n->kind, n->line);
    if (!copy)
        return NULL;
    *copy = *n;
    copy->next = NULL;
    if (n->kind == N_NAME) {
        copy->hops = 0;
        return slot_of(ps, func, level, n->name, &copy->slot) ? NULL : copy;
    }
    struct tmpl_node **tail = &copy->kid[0];
    for (const struct tmpl_node *k = n->kid[0]; k; k = k->next, tail = &(*tail)->next)
        if (!(*tail = clone_target(ps, k, func, level)))
            return NULL;
    return copy;
}

static int walk_for_test(struct pass *ps, struct tmpl_node *n, struct tmpl_for_scope *info)
{
    struct scope *sc = NULL;
    info->test_func = func_new(ps, ps->scope->func);
    if (!info->test_func || !(sc = scope_new(ps, ps->scope, info->test_func)))
        return tmpl_parse_failed(ps->p);
    int rc = tmpl_analyze_params(ps, sc, n->kid[0]);
    if (rc == 0)
        rc = tmpl_analyze_list(ps, sc, n->kid[4]);
    if (rc == 0)
        rc = make_frame(ps, sc, &info->test);
    if (rc == 0)
        rc = walk_in(ps, sc, n->kid[4]);
    if (rc == 0 && !(info->test_target = clone_target(ps, n->kid[0], info->test_func, sc->level)))
        rc = tmpl_parse_failed(ps->p);
    return rc;
}

static int walk_for(struct pass *ps, struct tmpl_node *n)
{
    const struct tmpl_name *const wanted[3] = {ps->loop, NULL, NULL};
    unsigned names = 1, found = 0;
    struct tmpl_for_scope *info = arena_alloc(ps->p->arena, sizeof(*info));
    if (!info)
        return tmpl_scope_no_memory(ps);
    n->scope = info;
    tmpl_find_undeclared(n->kid[2], wanted, &names, &found);
    info->has_loop = n->recursive || found;
    for (int i = 0; i < TMPL_MAX_KIDS; i++)
        if (stores_loop(ps, n->kid[i]))
            return tmpl_syntax(ps->p, n->line, "can't assign to 'loop' within a for loop");

    struct tmpl_func *func = ps->scope->func;
    if (n->recursive && !(func = info->loop_func = func_new(ps, func)))
        return tmpl_parse_failed(ps->p);
    struct scope *body = scope_new(ps, ps->scope, func), *other = NULL;
    if (!body || !(other = scope_new(ps, ps->scope, func)))
        return tmpl_parse_failed(ps->p);
    int rc = info->has_loop ? tmpl_sym_param(ps, body, ps->loop) : 0;
    if (rc == 0)
        rc = tmpl_analyze_params(ps, body, n->kid[0]);
    if (rc == 0)
        rc = tmpl_analyze_list(ps, body, n->kid[2]);
    if (rc == 0)
        rc = tmpl_analyze_list(ps, other, n->kid[3]);
    if (rc == 0)
        rc = make_frame(ps, body, &info->body);
    if (rc == 0)
        rc = make_frame(ps, other, &info->other);
    if (rc == 0 && info->has_loop)
        rc = slot_of(ps, func, body->level, ps->loop, &info->loop_slot);
    if (rc == 0)
        rc = walk_in(ps, body, n->kid[0]);
    if (rc == 0 && n->kid[4])
        rc = walk_for_test(ps, n, info);
    if (rc == 0)
        rc = walk_list(ps, n->kid[1]);
    if (rc == 0)
        rc = walk_in(ps, body, n->kid[2]);
    return rc ? rc : walk_in(ps, other, n->kid[3]);
}

static int special_param(struct pass *ps, struct scope *sc, const struct tmpl_name *name,
                         bool *takes, uint32_t *slot)
{
    *takes = true;
    int rc = tmpl_sym_param(ps, sc, name);
    return rc ? rc : slot_of(ps, sc->func, sc->level, name, slot);
}

/* The parameters of a macro, and the special ones that its body reads. */
static int macro_params(struct pass *ps, struct scope *sc, struct tmpl_macro_scope *m,
                        struct tmpl_node *params, struct tmpl_node *defaults, uint32_t line)
{
    const struct tmpl_name *const wanted[3] = {ps->caller, ps->kwargs, ps->varargs};
    unsigned names = 7, found = 0;
    uint32_t n_defaults = 0, i = 0;
    for (const struct tmpl_node *k = params; k; k = k->next)
        m->n_params++;
    for (const struct tmpl_node *k = defaults; k; k = k->next)
        n_defaults++;
    m->params = arena_array(ps->p->arena, m->n_params + 1, sizeof(void *));
    m->param_slots = arena_array(ps->p->arena, m->n_params + 1, sizeof(*m->param_slots));
    m->defaults = arena_array(ps->p->arena, m->n_params + 1, sizeof(void *));
    if (!m->params || !m->param_slots || !m->defaults)
        return tmpl_scope_no_memory(ps);
    tmpl_find_undeclared(m->body, wanted, &names, &found);
    for (struct tmpl_node *k = params; k; k = k->next, i++) {
        if (i >= m->n_params - n_defaults && defaults) {
            m->defaults[i] = defaults;
            defaults = defaults->next;
        }
        int rc = slot_of(ps, sc->func, sc->level, k->name, &m->param_slots[i]);
        if (rc || !(m->params[i] = tmpl_const_str(ps->p, k->name->s, k->name->n)))
            return tmpl_parse_failed(ps->p);
        if (k->name == ps->caller) {
            m->explicit_caller = true;
            if ((found & 1) && !m->defaults[i])
                return tmpl_syntax(ps->p, line, "a parameter 'caller' needs a default");
        }
        if (k->name == ps->kwargs)
            found &= ~2u;
        if (k->name == ps->varargs)
            found &= ~4u;
    }
    m->takes_caller = found & 1;
    int rc = 0;
    if ((found & 1) && !m->explicit_caller)
        rc = special_param(ps, sc, ps->caller, &m->takes_caller, &m->caller_slot);
    if (rc == 0 && (found & 2))
        rc = special_param(ps, sc, ps->kwargs, &m->takes_kwargs, &m->kwargs_slot);
    if (rc == 0 && (found & 4))
        rc = special_param(ps, sc, ps->varargs, &m->takes_varargs, &m->varargs_slot);
    return rc;
}

/* A macro or the body of a call block; at: index of its parameters among the children. */
static int walk_macro(struct pass *ps, struct tmpl_node *n, int at)
{
    struct tmpl_macro_scope *m = arena_alloc(ps->p->arena, sizeof(*m));
    if (!m)
        return tmpl_scope_no_memory(ps);
    n->scope = m;
    m->body = n->kid[at + 2];
    struct scope *sc = NULL;
    m->func = func_new(ps, ps->scope->func);
    if (!m->func || !(sc = scope_new(ps, ps->scope, m->func)))
        return tmpl_parse_failed(ps->p);
    int rc = 0;
    for (int i = at; i <= at + 2 && rc == 0; i++)
        rc = tmpl_analyze_list(ps, sc, n->kid[i]);
    if (rc == 0)
        rc = macro_params(ps, sc, m, n->kid[at], n->kid[at + 1], n->line);
    if (rc == 0)
        rc = make_frame(ps, sc, &m->frame);
    const struct scope *defaults = ps->defaults;
    ps->defaults = sc;
    if (rc == 0)
        rc = walk_in(ps, sc, n->kid[at + 1]);
    ps->defaults = defaults;
    if (rc == 0)
        rc = walk_in(ps, sc, n->kid[at + 2]);
    if (rc == 0 && n->kind == N_MACRO) {
        rc = place_in(ps, ps->scope, ps->scope->func, n->name, n->line, &m->hops, &m->slot);
        if (rc == 0 && !(m->name = tmpl_const_str(ps->p, n->name->s, n->name->n)))
            rc = tmpl_parse_failed(ps->p);
    }
    if (rc == 0 && n->kind == N_CALLBLOCK)
        rc = walk_list(ps, n->kid[0]);
    return rc;
}

/* Set blocks, filter blocks and with: a scope within the function. */
static int walk_block(struct pass *ps, struct tmpl_node *n)
{
    struct tmpl_block_scope *info = arena_alloc(ps->p->arena, sizeof(*info));
    struct scope *sc = scope_new(ps, ps->scope, ps->scope->func);
    if (!info || !sc)
        return tmpl_scope_no_memory(ps);
    n->scope = info;
    struct tmpl_node *body = n->kid[n->kind == N_FILTERBLOCK ? 0 : 2];
    int rc = 0;
    if (n->kind == N_WITH)
        for (const struct tmpl_node *k = n->kid[0]; k && rc == 0; k = k->next)
            rc = tmpl_analyze_params(ps, sc, k);
    if (rc == 0)
        rc = tmpl_analyze_list(ps, sc, body);
    if (rc == 0 && n->kind == N_FILTERBLOCK)
        rc = tmpl_analyze_list(ps, sc, n->kid[1]);
    if (rc == 0)
        rc = make_frame(ps, sc, &info->frame);
    if (rc == 0)
        rc = walk_in(ps, sc, body);
    if (rc)
        return rc;
    if (n->kind == N_FILTERBLOCK)
        return walk_in(ps, sc, n->kid[1]);
    rc = n->kind == N_WITH ? walk_in(ps, sc, n->kid[0]) : walk_list(ps, n->kid[0]);
    if (rc)
        return rc;
    return n->kind == N_WITH ? walk_list(ps, n->kid[1]) : walk_in(ps, sc, n->kid[1]);
}

static int check_filter(const struct pass *ps, const struct tmpl_node *n)
{
    const struct tmpl_filter *f = n->fn;
    if (ps->soft || (f && f->fn))
        return 0;
    return err_set(ps->p->e, LLMD_EUNSUPPORTED, "chat template line %u: %s %s '%.*s'", n->line,
                   f ? "no support for the" : "there is no",
                   n->kind == N_FILTER ? "filter" : "test", tmpl_shown(n->str), n->str->s);
}

static int walk(struct pass *ps, struct tmpl_node *n)
{
    bool soft = ps->soft;
    int rc = 0;
    switch (n->kind) {
    case N_NAME:
    case N_NSREF:
        return place(ps, n);
    case N_FOR:
        return walk_for(ps, n);
    case N_MACRO:
        return walk_macro(ps, n, 0);
    case N_CALLBLOCK:
    case N_GENERATION:
        return walk_macro(ps, n, 1);
    case N_FILTERBLOCK:
    case N_SETBLOCK:
    case N_WITH:
        return walk_block(ps, n);
    case N_FILTER:
    case N_TEST:
        rc = check_filter(ps, n);
        break;
    case N_IF:
    case N_COND:
        ps->soft = true;
        break;
    default:
        break;
    }
    for (int i = 0; i < TMPL_MAX_KIDS && rc == 0; i++)
        rc = walk_list(ps, n->kid[i]);
    ps->soft = soft;
    return rc;
}

static int walk_list(struct pass *ps, struct tmpl_node *list)
{
    int rc = 0;
    for (; list && rc == 0; list = list->next)
        rc = walk(ps, list);
    return rc;
}

int tmpl_scope(struct tmpl_parser *p, struct chat_template *t)
{
    struct pass ps = {.p = p};
    int rc = 0;
    arena_init(&ps.scratch, TMPL_MAX_TREE_BYTES);
    if (!(ps.loop = tmpl_intern(p, "loop", 4)) || !(ps.caller = tmpl_intern(p, "caller", 6)) ||
        !(ps.kwargs = tmpl_intern(p, "kwargs", 6)) || !(ps.self = tmpl_intern(p, "self", 4)) ||
        !(ps.varargs = tmpl_intern(p, "varargs", 7)) || !(t->func = func_new(&ps, NULL)) ||
        !(ps.scope = scope_new(&ps, NULL, t->func))) {
        rc = tmpl_parse_failed(p);
        goto out;
    }
    const struct tmpl_name *const wanted[3] = {ps.self, NULL, NULL};
    unsigned names = 1, found = 0;
    tmpl_find_undeclared(t->body, wanted, &names, &found);
    if (found)
        rc = err_set(p->e, LLMD_EUNSUPPORTED, "chat template: the name 'self' is not supported");
    if (rc == 0)
        rc = tmpl_analyze_list(&ps, ps.scope, t->body);
    if (rc == 0)
        rc = make_frame(&ps, ps.scope, &t->frame);
    if (rc == 0)
        rc = walk_list(&ps, t->body);
out:
    arena_fini(&ps.scratch);
    return rc;
}

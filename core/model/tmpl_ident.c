#include <string.h>

#include "core/model/tmpl_scope_int.h"

int tmpl_scope_no_memory(struct pass *ps)
{
    return err_set(ps->p->e, LLMD_ENOMEM, "out of memory for a chat template");
}

static struct entry *map_slot(struct entry *map, size_t cap, const void *owner,
                              const struct tmpl_name *name, uint32_t level)
{
    uint64_t h = ((uintptr_t)owner >> 4) * 0x9e3779b97f4a7c15u;
    h = (h ^ name->hash ^ level) * 0xff51afd7ed558ccdu;
    size_t i = (size_t)(h >> 20) & (cap - 1);
    while (map[i].owner && (map[i].owner != owner || map[i].name != name || map[i].level != level))
        i = (i + 1) & (cap - 1);
    return &map[i];
}

struct entry *tmpl_scope_entry(struct pass *ps, const void *owner, const struct tmpl_name *name,
                               uint32_t level)
{
    if (ps->n_map * 2 >= ps->map_cap) {
        size_t cap = ps->map_cap ? ps->map_cap * 2 : 256;
        struct entry *map = arena_array(&ps->scratch, cap, sizeof(*map));
        if (!map)
            return NULL;
        for (size_t i = 0; i < ps->map_cap; i++)
            if (ps->map[i].owner)
                *map_slot(map, cap, ps->map[i].owner, ps->map[i].name, ps->map[i].level) =
                    ps->map[i];
        ps->map = map;
        ps->map_cap = cap;
    }
    return map_slot(ps->map, ps->map_cap, owner, name, level);
}

struct sym *tmpl_find_sym(const struct pass *ps, const struct scope *sc,
                          const struct tmpl_name *name)
{
    if (!ps->map_cap)
        return NULL;
    const struct entry *e = map_slot(ps->map, ps->map_cap, sc, name, 0);
    return e->owner ? &sc->syms[e->value] : NULL;
}

const struct scope *tmpl_find_ref(const struct pass *ps, const struct scope *sc,
                                  const struct tmpl_name *name)
{
    for (; sc; sc = sc->parent) {
        const struct sym *s = tmpl_find_sym(ps, sc, name);
        if (s && s->known)
            return sc;
    }
    return NULL;
}

static struct sym *get_sym(struct pass *ps, struct scope *sc, const struct tmpl_name *name)
{
    struct entry *e = tmpl_scope_entry(ps, sc, name, 0);
    if (!e)
        return NULL;
    if (e->owner)
        return &sc->syms[e->value];
    if (sc->n_syms == sc->cap_syms) {
        uint32_t cap = sc->cap_syms ? sc->cap_syms * 2 : 8;
        struct sym *syms = arena_array(&ps->scratch, cap, sizeof(*syms));
        if (!syms)
            return NULL;
        if (sc->n_syms)
            memcpy(syms, sc->syms, sc->n_syms * sizeof(*syms));
        sc->syms = syms;
        sc->cap_syms = cap;
    }
    *e = (struct entry){.owner = sc, .name = name, .value = sc->n_syms};
    ps->n_map++;
    sc->syms[sc->n_syms] = (struct sym){.name = name};
    return &sc->syms[sc->n_syms++];
}

static int declare(struct pass *ps, struct scope *sc, const struct tmpl_name *name,
                   enum tmpl_load_action action, const struct scope *outer)
{
    struct sym *s = get_sym(ps, sc, name);
    if (!s)
        return tmpl_scope_no_memory(ps);
    s->known = s->has_load = true;
    s->action = (uint8_t)action;
    s->outer = outer;
    return 0;
}

static int sym_load(struct pass *ps, struct scope *sc, const struct tmpl_name *name)
{
    return tmpl_find_ref(ps, sc, name) ? 0 : declare(ps, sc, name, LOAD_RESOLVE, NULL);
}

int tmpl_sym_param(struct pass *ps, struct scope *sc, const struct tmpl_name *name)
{
    int rc = declare(ps, sc, name, LOAD_PARAM, NULL);
    if (rc == 0)
        tmpl_find_sym(ps, sc, name)->stored = true;
    return rc;
}

static int sym_store(struct pass *ps, struct scope *sc, const struct tmpl_name *name)
{
    struct sym *s = get_sym(ps, sc, name);
    if (!s)
        return tmpl_scope_no_memory(ps);
    if (!s->stored) {
        s->stored = true;
        if (ps->n_stores == ps->cap_stores) {
            size_t cap = ps->cap_stores ? ps->cap_stores * 2 : 64;
            void *grown = arena_array(&ps->scratch, cap, sizeof(*ps->stores));
            if (!grown)
                return tmpl_scope_no_memory(ps);
            if (ps->n_stores)
                memcpy(grown, ps->stores, ps->n_stores * sizeof(*ps->stores));
            ps->stores = grown;
            ps->cap_stores = cap;
        }
        ps->stores[ps->n_stores].scope = sc;
        ps->stores[ps->n_stores++].sym = (uint32_t)(s - sc->syms);
    }
    if (s->known)
        return 0;
    const struct scope *outer = tmpl_find_ref(ps, sc->parent, name);
    return declare(ps, sc, name, outer ? LOAD_ALIAS : LOAD_MISSING, outer);
}

static int analyze_if(struct pass *ps, struct scope *sc, const struct tmpl_node *n)
{
    int rc = tmpl_analyze_list(ps, sc, n->kid[0]);
    size_t mark = ps->n_stores;
    for (int i = 1; i <= 3 && rc == 0; i++)
        rc = tmpl_analyze_list(ps, sc, n->kid[i]);
    /* What only a branch sets may still be unset behind it: it starts with the outer value. */
    for (size_t i = mark; i < ps->n_stores && rc == 0; i++) {
        const struct tmpl_name *name = sc->syms[ps->stores[i].sym].name;
        const struct scope *outer = tmpl_find_ref(ps, sc->parent, name);
        rc = declare(ps, sc, name, outer ? LOAD_ALIAS : LOAD_RESOLVE, outer);
    }
    return rc;
}

static int analyze(struct pass *ps, struct scope *sc, const struct tmpl_node *n)
{
    int rc = 0;
    switch (n->kind) {
    case N_NAME:
        return n->ctx == CTX_LOAD    ? sym_load(ps, sc, n->name)
               : n->ctx == CTX_STORE ? sym_store(ps, sc, n->name)
                                     : tmpl_sym_param(ps, sc, n->name);
    case N_NSREF:
        return sym_load(ps, sc, n->name);
    case N_IF:
        return analyze_if(ps, sc, n);
    case N_MACRO:
        return sym_store(ps, sc, n->name);
    case N_FOR:
    case N_WITH:
    case N_FILTERBLOCK:
        return tmpl_analyze_list(ps, sc, n->kid[1]);
    case N_CALLBLOCK:
    case N_SETBLOCK:
        return tmpl_analyze_list(ps, sc, n->kid[0]);
    case N_GENERATION:
        return 0;
    case N_SET:
        rc = tmpl_analyze_list(ps, sc, n->kid[1]);
        return rc ? rc : tmpl_analyze_list(ps, sc, n->kid[0]);
    default:
        for (int i = 0; i < TMPL_MAX_KIDS && rc == 0; i++)
            rc = tmpl_analyze_list(ps, sc, n->kid[i]);
        return rc;
    }
}

int tmpl_analyze_list(struct pass *ps, struct scope *sc, const struct tmpl_node *list)
{
    int rc = 0;
    for (; list && rc == 0; list = list->next)
        rc = analyze(ps, sc, list);
    return rc;
}

int tmpl_analyze_params(struct pass *ps, struct scope *sc, const struct tmpl_node *target)
{
    int rc = 0;
    if (target->kind == N_NAME)
        return tmpl_sym_param(ps, sc, target->name);
    for (const struct tmpl_node *k = target->kid[0]; k && rc == 0; k = k->next)
        rc = tmpl_analyze_params(ps, sc, k);
    return rc;
}

void tmpl_find_undeclared(const struct tmpl_node *n, const struct tmpl_name *const wanted[3],
                          unsigned *names, unsigned *found)
{
    for (; n && *found != *names; n = n->next) {
        if (n->kind == N_NAME)
            for (unsigned i = 0; i < 3; i++)
                if (n->name == wanted[i] && (*names & 1u << i)) {
                    if (n->ctx == CTX_LOAD)
                        *found |= 1u << i;
                    else
                        *names &= ~(1u << i);
                }
        for (int i = 0; i < TMPL_MAX_KIDS; i++)
            tmpl_find_undeclared(n->kid[i], wanted, names, found);
    }
}

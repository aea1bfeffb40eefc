/* tmpl_scope_int.h - the scopes of a template while its names are placed.
 *
 * This follows Jinja's compiler (idtracking and the frames of its code generator), because what
 * a name means falls out of it: a scope is analyzed as a whole before anything in it runs, so a
 * `set` later in a scope also decides what the name means before; a name that a scope only reads
 * is looked up in the context when the scope is entered; one that it sets starts as a copy of the
 * outer one. See tmpl_ast_int.h for the slots that come out.
 *
 * tmpl_ident.c analyzes which names a scope reads and sets, tmpl_scope.c walks the tree. */
#pragma once
#include "core/model/tmpl_ast_int.h"

struct scope {
    struct scope *parent;
    struct tmpl_func *func;
    uint32_t level;
    struct sym *syms; /* in the order of their definition */
    uint32_t n_syms, cap_syms;
};

struct sym {
    const struct tmpl_name *name;
    bool known, stored, has_load;
    uint8_t action;            /* enum tmpl_load_action */
    const struct scope *outer; /* ALIAS */
};

/* (scope or function, name, level) to an index. */
struct entry {
    const void *owner;
    const struct tmpl_name *name;
    uint32_t level, value;
};

struct pass {
    struct tmpl_parser *p;
    struct arena scratch;
    struct entry *map; /* open addressing */
    size_t map_cap, n_map;
    struct {
        struct scope *scope;
        uint32_t sym;
    } * stores; /* syms that became stored, for the branches of if */
    size_t n_stores, cap_stores;
    struct scope *scope;          /* where the walk is */
    bool soft;                    /* unknown filters fail when they run, not now */
    const struct scope *defaults; /* the macro whose defaults are walked */
    const struct tmpl_name *loop, *caller, *kwargs, *varargs, *self;
};

int tmpl_scope_no_memory(struct pass *ps);
/* The entry for a key, made with owner NULL when it is new; NULL without memory. */
struct entry *tmpl_scope_entry(struct pass *ps, const void *owner, const struct tmpl_name *name,
                               uint32_t level);
struct sym *tmpl_find_sym(const struct pass *ps, const struct scope *sc,
                          const struct tmpl_name *name);
/* The innermost scope, from sc outwards, that knows the name. */
const struct scope *tmpl_find_ref(const struct pass *ps, const struct scope *sc,
                                  const struct tmpl_name *name);
/* Notes what the nodes of a scope read and set, without the scopes inside it. */
MUST_CHECK int tmpl_analyze_list(struct pass *ps, struct scope *sc, const struct tmpl_node *list);
/* Declares the names of a target as parameters: set on entry. */
MUST_CHECK int tmpl_analyze_params(struct pass *ps, struct scope *sc,
                                   const struct tmpl_node *target);
MUST_CHECK int tmpl_sym_param(struct pass *ps, struct scope *sc, const struct tmpl_name *name);
/* Which of the names (a bit each in *names) are read in the tree without being set before. */
void tmpl_find_undeclared(const struct tmpl_node *n, const struct tmpl_name *const wanted[3],
                          unsigned *names, unsigned *found);

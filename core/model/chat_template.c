#include "core/model/chat_template.h"

#include <stdlib.h>

#include "core/model/tmpl_ast_int.h"
#include "core/model/tmpl_val_int.h"

enum {
    DEFAULT_STEPS = 2000000,
    DEFAULT_DEPTH = 1000,
    DEFAULT_OUTPUT_BYTES = 16 << 20,
    DEFAULT_MEMORY_BYTES = 64 << 20,
};

int chat_template_parse(const char *source, size_t n, struct chat_template **out, struct err *e)
{
    struct err own = {0};
    if (!e)
        e = &own;
    if (n > TMPL_MAX_SOURCE_BYTES)
        return err_set(e, LLMD_ELIMIT, "chat template of %zu bytes is over the limit of %d", n,
                       TMPL_MAX_SOURCE_BYTES);
    struct chat_template *t = calloc(1, sizeof(*t));
    if (!t)
        return err_set(e, LLMD_ENOMEM, "out of memory for a chat template");
    arena_init(&t->arena, TMPL_MAX_TREE_BYTES);
    struct tmpl_parser p = {.arena = &t->arena, .e = e};
    int rc = tmpl_lex_init(&p.lex, source, n, &t->arena, e);
    if (rc == 0)
        rc = tmpl_parse(&p, &t->body);
    if (rc == 0)
        rc = tmpl_scope(&p, t);
    if (rc)
        chat_template_free(t);
    else
        *out = t;
    return rc;
}

void chat_template_free(struct chat_template *t)
{
    if (!t)
        return;
    arena_fini(&t->arena);
    free(t);
}

/* The variables that the caller gives. They do not count against the memory limit. */
static int load_context(struct tmpl_run *r, const json_t *context, size_t max_memory)
{
    struct tmpl_val v;
    if (!json_is_object(context))
        return tmpl_raise(r, EXC_FATAL, "the context is not a JSON object");
    int rc = tmpl_from_json(r, context, &v);
    if (rc)
        return rc;
    r->context = v.dict;
    r->memory_limit = max_memory;
    r->arena.max_bytes = r->arena.used_bytes + max_memory;
    return 0;
}

int chat_template_render(const struct chat_template *t, const json_t *context,
                         const struct chat_template_limits *limits, struct buf *out, struct err *e)
{
    static const struct chat_template_limits defaults;
    const struct chat_template_limits *l = limits ? limits : &defaults;
    struct err own = {0};
    struct tmpl_run r = {
        .t = t,
        .out = out,
        .root_out = out,
        .out_from = out->len,
        .max_output_bytes = l->max_output_bytes ? l->max_output_bytes : DEFAULT_OUTPUT_BYTES,
        .steps_left = UINT64_MAX,
        .max_depth = l->max_depth ? l->max_depth : DEFAULT_DEPTH,
        .now_unix_s = l->now_unix_s,
        .e = &own,
    };
    arena_init(&r.arena, 0);
    int rc =
        load_context(&r, context, l->max_memory_bytes ? l->max_memory_bytes : DEFAULT_MEMORY_BYTES);
    r.steps_left = l->max_steps ? l->max_steps : DEFAULT_STEPS;
    if (rc == 0)
        rc = tmpl_run_template(&r);
    arena_fini(&r.arena);
    if (rc == 0)
        return 0;
    bool failed = out->failed; /* an output that ran out of memory stays so */
    out->len = r.out_from;
    if (out->data)
        out->data[out->len] = '\0';
    out->failed = failed;
    return err_set(e, -rc, "%s", own.msg);
}

#include "core/edge/plan.h"

#include <stdlib.h>
#include <string.h>

#include "core/edge/fields.h"
#include "core/util/json.h"
#include "core/util/printable.h"

bool request_id_valid(const char *s)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "._:-";
    size_t n = strspn(s, letters);
    return n >= 1 && n <= 128 && s[n] == '\0';
}

const struct edge_model *edge_find_model(const struct edge_opts *opts, const char *name)
{
    for (uint32_t i = 0; i < opts->n_models; i++) {
        const struct edge_model *m = &opts->models[i];
        if (strcmp(m->name, name) == 0)
            return m;
        for (uint32_t j = 0; j < m->n_aliases; j++)
            if (strcmp(m->aliases[j], name) == 0)
                return m;
    }
    return NULL;
}

int edge_no_model(const struct edge_opts *opts, const char *name, struct err *e)
{
    struct buf names = {0};
    char shown[100];
    printable_text(name, strlen(name), "", shown, sizeof(shown));
    for (uint32_t i = 0; i < opts->n_models; i++) {
        buf_addf(&names, "%s%s", i ? ", " : "", opts->models[i].name);
        for (uint32_t j = 0; j < opts->models[i].n_aliases; j++)
            buf_addf(&names, ", %s", opts->models[i].aliases[j]);
    }
    int rc =
        err_set_param(e, LLMD_ENOTFOUND, "model", "The model `%s` does not exist. Valid names: %s.",
                      shown, buf_str(&names));
    buf_fini(&names);
    return rc;
}

static int choose_model(const struct edge_opts *opts, const json_t *body, struct plan *p,
                        struct err *e)
{
    const char *name = NULL;
    int rc = field_string(body, "model", &name, e);
    if (rc != 0)
        return rc;
    if (!name || !*name) {
        p->model = &opts->models[0];
        return 0;
    }
    p->model = edge_find_model(opts, name);
    return p->model ? 0 : edge_no_model(opts, name, e);
}

/* A few bytes of body must not become a hundred thousand sequences. */
static int check_choices(const struct plan *p, struct err *e)
{
    if ((uint64_t)p->n_prompts * p->sampling.n <= PLAN_MAX_PROMPTS)
        return 0;
    return err_set_param(e, LLMD_EINVAL, "n", "prompts times n must be at most %d, not %u * %u",
                         PLAN_MAX_PROMPTS, p->n_prompts, p->sampling.n);
}

static int check_context(const struct plan *p, struct err *e)
{
    uint32_t limit = p->model->max_model_len;
    for (uint32_t i = 0; i < p->n_prompts; i++) {
        size_t n = p->prompts[i].tokens.n;
        if (n == 0)
            return err_set_param(e, LLMD_EINVAL, p->chat ? "messages" : "prompt",
                                 "the prompt is empty; give it at least one token");
        if (n >= limit)
            return err_set_param(e, LLMD_ECONTEXT, "input_tokens",
                                 "This model's maximum context length is %u tokens. However, your "
                                 "prompt contains %zu input tokens, which leaves no room for "
                                 "output. Shorten the prompt. (context_length_exceeded)",
                                 limit, n);
    }
    return 0;
}

static int parse_object(const char *body, size_t n, json_t **out, struct err *e)
{
    if (n == 0)
        return err_set(e, LLMD_EINVAL, "the request body is empty; send a JSON object");
    int rc = json_parse(body, n, out, e);
    if (rc != 0)
        return rc;
    if (json_is_object(*out))
        return 0;
    char what[40];
    return err_set(e, LLMD_EINVAL, "the request body must be a JSON object, not %s",
                   field_describe(*out, what, sizeof(what)));
}

int plan_parse(const struct edge_opts *opts, enum plan_kind kind, const char *body, size_t n,
               struct plan *out, struct err *e)
{
    *out = (struct plan){.chat = kind == PLAN_CHAT};
    arena_init(&out->arena, 0);
    json_t *object = NULL;
    int rc = parse_object(body, n, &object, e);
    if (rc == 0)
        rc = choose_model(opts, object, out, e);
    if (rc == 0)
        rc = plan_params(object, out, e);
    if (rc == 0)
        rc =
            out->chat ? plan_chat_prompt(object, out, e) : plan_completions_prompts(object, out, e);
    json_decref(object);
    if (rc == 0)
        rc = check_choices(out, e);
    return rc == 0 ? check_context(out, e) : rc;
}

void plan_drop_tokens(struct plan *p)
{
    for (uint32_t i = 0; i < p->n_prompts; i++)
        token_list_fini(&p->prompts[i].tokens);
}

void plan_fini(struct plan *p)
{
    plan_drop_tokens(p);
    arena_fini(&p->arena);
    *p = (struct plan){0};
}

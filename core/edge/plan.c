#include "core/edge/plan.h"

#include <stdlib.h>
#include <string.h>

#include "core/edge/fields.h"
#include "core/util/json.h"

bool request_id_valid(const char *s)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "._:-";
    size_t n = strspn(s, letters);
    return n >= 1 && n <= 128 && s[n] == '\0';
}

static int choose_model(const struct catalog *c, const struct edge_key *key, const json_t *body,
                        struct plan *p, struct err *e)
{
    const char *name = NULL;
    int rc = field_string(body, "model", &name, e);
    if (rc != 0)
        return rc;
    name = name ? name : "";
    p->model = catalog_find(c, key, name);
    return p->model ? 0 : catalog_no_model(c, key, name, e);
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

int plan_parse(const struct catalog *c, const struct edge_key *key, enum plan_kind kind,
               const char *body, size_t n, struct plan *out, struct err *e)
{
    *out = (struct plan){.chat = kind == PLAN_CHAT};
    arena_init(&out->arena, 0);
    json_t *object = NULL;
    int rc = parse_object(body, n, &object, e);
    if (rc == 0)
        rc = choose_model(c, key, object, out, e);
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

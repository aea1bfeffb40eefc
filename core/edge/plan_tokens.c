/* plan_tokens.c - the bodies of /tokenize and /detokenize: what generation would make of a prompt or of
 * messages, without limits of the context, and the way back. */
#include "core/edge/params_int.h"
#include "core/edge/plan.h"
#include "core/model/model.h"

static void begin(struct plan *p)
{
    *p = (struct plan){.max_prompt = SIZE_MAX};
    arena_init(&p->arena, 0);
}

static int read_tokenize(const json_t *body, struct plan *p, struct err *e)
{
    p->chat = field_get(body, "messages") != NULL;
    p->rules.tokenizer = p->model->model->tokenizer;
    bool add_special = !p->chat;
    int rc = field_bool(body, "add_special_tokens", &add_special, e);
    if (rc == 0)
        rc = field_bool(body, "return_token_strs", &p->return_token_strs, e);
    if (rc != 0)
        return rc;
    const char *name = "prompt";
    const json_t *prompt = field_get(body, name);
    if (p->chat && prompt)
        return err_set_param(e, LLMD_EINVAL, name, "give field 'prompt' or 'messages', not both");
    p->tokenize_flags = TOKENIZE_PARSE_SPECIAL | (add_special ? TOKENIZE_ADD_SPECIAL : 0);
    if (p->chat)
        return plan_chat_prompt(body, p, e);
    if (!json_is_string(prompt))
        return field_wrong(name, "a string (or give 'messages')", prompt, e);
    return plan_completions_prompts(body, p, e);
}

int plan_tokenize(const struct catalog *c, const struct edge_key *key, const char *body, size_t n,
                  struct plan *out, struct err *e)
{
    json_t *object = NULL;
    begin(out);
    int rc = plan_parse_object(body, n, &object, e);
    if (rc == 0)
        rc = plan_choose_model(c, key, object, out, e);
    if (rc == 0)
        rc = plan_refuse_unsupported(object, true, e); /* tools would be part of the prompt */
    if (rc == 0)
        rc = read_tokenize(object, out, e);
    json_decref(object);
    return rc;
}

static int read_detokenize(const json_t *body, struct plan *p, struct err *e)
{
    const uint32_t *ids = NULL;
    uint32_t n = 0;
    p->rules.tokenizer = p->model->model->tokenizer;
    int rc = params_token_ids(body, "tokens", SIZE_MAX, p, &ids, &n, e);
    if (rc == 0 && !ids)
        return err_set_param(e, LLMD_EINVAL, "tokens", "field 'tokens' is required");
    if (rc != 0)
        return rc;
    p->prompts = arena_array(&p->arena, 1, sizeof(*p->prompts));
    if (!p->prompts)
        return err_set(e, LLMD_ENOMEM, "out of memory for the text");
    p->n_prompts = 1;
    return plan_detokenize(p, ids, n, &p->prompts[0].text, &p->prompts[0].n_text, e);
}

int plan_detokenize_body(const struct catalog *c, const struct edge_key *key, const char *body,
                         size_t n, struct plan *out, struct err *e)
{
    json_t *object = NULL;
    begin(out);
    int rc = plan_parse_object(body, n, &object, e);
    if (rc == 0)
        rc = plan_choose_model(c, key, object, out, e);
    if (rc == 0)
        rc = read_detokenize(object, out, e);
    json_decref(object);
    return rc;
}

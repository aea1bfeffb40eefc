/* api_completions.c - the prompts of a completions body: a string, a list of strings, a list of
 * token ids, or a list of such lists. */
#include <stdlib.h>

#include "core/edge/fields.h"
#include "core/edge/plan.h"

static const char forms[] = "a string, a list of strings, a list of token ids or a list of such "
                            "lists";

static int out_of_memory(struct err *e)
{
    return err_set(e, LLMD_ENOMEM, "out of memory for the prompt");
}

static int take_text(const json_t *v, struct plan *p, struct plan_prompt *to, struct err *e)
{
    const char *s = json_string_value(v);
    size_t n = json_string_length(v);
    int rc = tokenizer_encode(p->rules.tokenizer, s, n, p->tokenize_flags, &to->tokens, e);
    if (rc != 0)
        return rc;
    bool cut = plan_truncate(p, &to->tokens);
    if (!p->echo)
        return 0;
    if (cut)
        return plan_detokenize(p, to->tokens.ids, to->tokens.n, &to->text, &to->n_text, e);
    to->text = arena_strndup(&p->arena, s, n);
    to->n_text = n;
    return to->text ? 0 : out_of_memory(e);
}

static int take_ids(const json_t *list, struct plan *p, struct plan_prompt *to, struct err *e)
{
    size_t n = json_array_size(list), i;
    uint32_t n_vocab = tokenizer_n_tokens(p->rules.tokenizer);
    to->tokens.ids = calloc(n + 1, sizeof(*to->tokens.ids));
    if (!to->tokens.ids)
        return out_of_memory(e);
    to->tokens.cap = n + 1;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        json_int_t id = json_integer_value(item);
        if (!json_is_integer(item))
            return field_wrong("prompt", forms, list, e);
        if (id < 0 || id >= n_vocab)
            return err_set_param(e, LLMD_EINVAL, "prompt",
                                 "field 'prompt' holds token id %lld, but the model's ids go "
                                 "from 0 to %u",
                                 (long long)id, n_vocab - 1);
        to->tokens.ids[i] = (uint32_t)id;
    }
    to->tokens.n = n;
    (void)plan_truncate(p, &to->tokens);
    return p->echo ? plan_detokenize(p, to->tokens.ids, to->tokens.n, &to->text, &to->n_text, e)
                   : 0;
}

/* One prompt per item of list. */
static int take_each(const json_t *list, struct plan *p, struct err *e)
{
    bool texts = json_is_string(json_array_get(list, 0));
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        if (texts ? !json_is_string(item) : !json_is_array(item))
            return err_set_param(e, LLMD_EINVAL, "prompt",
                                 "field 'prompt' must be %s, not a mixture", forms);
        int rc =
            texts ? take_text(item, p, &p->prompts[i], e) : take_ids(item, p, &p->prompts[i], e);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int plan_completions_prompts(const json_t *body, struct plan *p, struct err *e)
{
    const json_t *v = field_get(body, "prompt"), *first = json_array_get(v, 0);
    if (!v)
        return err_set_param(e, LLMD_EINVAL, "prompt", "field 'prompt' is required");
    bool each = json_is_string(first) || json_is_array(first);
    if (!json_is_string(v) && !each && !json_is_integer(first))
        return field_wrong("prompt", forms, v, e);
    size_t n = each ? json_array_size(v) : 1;
    if (n > PLAN_MAX_PROMPTS)
        return err_set_param(e, LLMD_EINVAL, "prompt", "field 'prompt' takes at most %d prompts",
                             PLAN_MAX_PROMPTS);
    p->prompts = arena_array(&p->arena, n, sizeof(*p->prompts));
    if (!p->prompts)
        return out_of_memory(e);
    p->n_prompts = (uint32_t)n;
    p->rules.continues = true;
    if (each)
        return take_each(v, p, e);
    return json_is_string(v) ? take_text(v, p, &p->prompts[0], e)
                             : take_ids(v, p, &p->prompts[0], e);
}

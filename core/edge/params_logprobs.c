/* params_logprobs.c - what the client wants to know of the model's opinion of tokens. */
#include "core/edge/params_int.h"

/* Chat: logprobs says whether, top_logprobs how many others. */
static int read_chat(const json_t *body, struct plan *p, struct err *e)
{
    int64_t n_top = 0;
    bool on = false;
    int rc = field_bool(body, "logprobs", &on, e);
    if (rc == 0)
        rc = field_int(body, "top_logprobs", 0, MAX_TOP_LOGPROBS, &n_top, e);
    if (rc != 0)
        return rc;
    if (n_top > 0 && !on)
        return err_set_param(e, LLMD_EINVAL, "top_logprobs",
                             "field 'top_logprobs' needs 'logprobs': true");
    p->sampling.logprobs = (struct logprobs_wanted){.on = on, .n_top = (uint32_t)n_top};
    return 0;
}

/* Completions: logprobs is how many others. */
static int read_completions(const json_t *body, struct plan *p, struct err *e)
{
    int64_t n_top = -1;
    int rc = field_int(body, "logprobs", 0, MAX_TOP_LOGPROBS, &n_top, e);
    if (rc == 0 && n_top >= 0)
        p->sampling.logprobs = (struct logprobs_wanted){.on = true, .n_top = (uint32_t)n_top};
    return rc;
}

static int read_prompt(const json_t *body, struct plan *p, struct err *e)
{
    static const char name[] = "prompt_logprobs";
    struct sampling_params *s = &p->sampling;
    int64_t n_top = -1;
    int rc = field_int(body, name, 0, MAX_TOP_LOGPROBS, &n_top, e);
    if (rc != 0)
        return rc;
    if (n_top > 0 && p->stream)
        return err_set_param(e, LLMD_EINVAL, name, "field '%s' cannot be combined with 'stream'",
                             name);
    p->tell_prompt_logprobs = n_top >= 0 && !p->stream;
    p->n_tell_prompt = p->tell_prompt_logprobs ? (uint32_t)n_top : 0;
    s->prompt_logprobs.on = p->tell_prompt_logprobs;
    s->prompt_logprobs.n_top = p->n_tell_prompt;
    if (p->echo && !p->chat && s->logprobs.on) { /* the prompt is part of the text */
        s->prompt_logprobs.on = true;
        s->prompt_logprobs.n_top = (uint32_t)u64_max(p->n_tell_prompt, s->logprobs.n_top);
    }
    return 0;
}

int params_logprobs(const json_t *body, struct plan *p, struct err *e)
{
    static const char ids[] = "logprob_token_ids";
    struct sampling_params *s = &p->sampling;
    int rc = p->chat ? read_chat(body, p, e) : read_completions(body, p, e);
    if (rc == 0)
        rc = read_prompt(body, p, e);
    if (rc == 0)
        rc = params_token_ids(body, ids, MAX_LOGPROB_IDS, p, &s->logprob_ids, &s->n_logprob_ids, e);
    if (rc == 0 && s->n_logprob_ids > 0 && !s->logprobs.on)
        return err_set_param(e, LLMD_EINVAL, ids, "field '%s' needs 'logprobs'", ids);
    p->rules.n_logprobs = sampling_n_logprobs(s);
    p->rules.keep_ids = p->return_token_ids;
    return rc;
}

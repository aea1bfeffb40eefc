/* fuzz_api.c - any bytes as the body of a chat and of a completions request: what is accepted is
 * within its ranges, what is refused is the client's fault and says so in a well-formed error. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/edge/api_error.h"
#include "core/edge/plan.h"
#include "core/util/json.h"
#include "tests/unit/edge_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct fixture fixture;

static bool within(float v, float min, float max)
{
    return v >= min && v <= max; /* also no NaN */
}

static void check_sampling(const struct plan *p, uint32_t n_vocab)
{
    const struct sampling_params *s = &p->sampling;
    uint32_t limit = p->model->max_model_len;
    BUG_ON(s->temperature != 0 && !within(s->temperature, 0.01f, 2));
    BUG_ON(!(s->top_p > 0) || !within(s->top_p, 0, 1) || !within(s->min_p, 0, 1));
    BUG_ON(!within(s->presence_penalty, -2, 2) || !within(s->frequency_penalty, -2, 2));
    BUG_ON(!(s->repetition_penalty > 0) || !isfinite(s->repetition_penalty));
    BUG_ON(s->n < 1 || s->n > PLAN_MAX_CHOICES || (s->n > 1 && s->temperature == 0));
    BUG_ON(!p->no_max_tokens && !p->no_output && (s->max_tokens < 1 || s->max_tokens > limit));
    BUG_ON(!p->no_max_tokens && s->min_tokens > s->max_tokens);
    for (uint32_t i = 0; i < s->n_stop_ids; i++)
        BUG_ON(s->stop_ids[i] >= n_vocab);
    for (uint32_t i = 0; i < s->n_logit_bias; i++)
        BUG_ON(s->logit_bias[i].token >= n_vocab || !within(s->logit_bias[i].bias, -100, 100));
    for (uint32_t i = 0; i < s->n_allowed_ids; i++)
        BUG_ON(s->allowed_ids[i] >= n_vocab);
    for (uint32_t i = 0; i < s->n_bad_words; i++)
        BUG_ON(s->bad_words[i].n < 1 || s->bad_words[i].ids[s->bad_words[i].n - 1] >= n_vocab);
    BUG_ON(s->logprobs.n_top > MAX_TOP_LOGPROBS || s->n_logprob_ids > MAX_LOGPROB_IDS);
    BUG_ON(s->prompt_logprobs.n_top > MAX_TOP_LOGPROBS || p->stream_interval < 1);
    BUG_ON(p->rules.n_logprobs != sampling_n_logprobs(s));
    BUG_ON(p->request_id && !request_id_valid(p->request_id));
    BUG_ON(p->continuous_usage && !p->include_usage);
    BUG_ON(p->rules.stops.n > STOP_MAX_STRINGS);
}

static void check_prompts(const struct plan *p, uint32_t n_vocab)
{
    BUG_ON(p->n_prompts < 1 || p->n_prompts > PLAN_MAX_PROMPTS);
    for (uint32_t i = 0; i < p->n_prompts; i++) {
        const struct token_list *t = &p->prompts[i].tokens;
        BUG_ON(t->n < 1 || t->n >= p->model->max_model_len);
        for (size_t k = 0; k < t->n; k++)
            BUG_ON(t->ids[k] >= n_vocab);
        BUG_ON(t->n > p->max_prompt);
        BUG_ON(p->echo && !p->chat && !p->prompts[i].text);
    }
}

static void check_refusal(int rc, const struct err *e)
{
    struct buf b = {0};
    json_t *v = NULL;
    int status = err_http_status(rc);
    BUG_ON(e->code != -rc || !e->msg[0] || strchr(e->msg, '\n'));
    BUG_ON(status != 400 && status != 404);
    api_error_add(&b, e);
    BUG_ON(json_parse(b.data, b.len, &v, NULL) != 0);
    json_decref(v);
    buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static bool ready;
    if (!ready)
        BUG_ON(!fixture_init(&fixture));
    ready = true;
    for (int kind = PLAN_CHAT; kind <= PLAN_COMPLETIONS; kind++) {
        struct plan p;
        struct err e = {0};
        int rc =
            plan_parse(fixture.catalog, NULL, (enum plan_kind)kind, (const char *)data, n, &p, &e);
        if (rc == 0) {
            uint32_t n_vocab = tokenizer_n_tokens(fixture.model.tokenizer);
            check_sampling(&p, n_vocab);
            check_prompts(&p, n_vocab);
        } else
            check_refusal(rc, &e);
        plan_fini(&p);
    }
    return 0;
}

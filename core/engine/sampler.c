#include "core/engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine/sampler_int.h"
#include "core/util/err.h"

/* Below this a temperature is greedy (as in vLLM): 1 / temperature stays a sensible float. */
static const float GREEDY_BELOW = 1e-5f;

/* --- tokens seen, for the penalties --- */

struct sampler {
    const struct sampling_params *params;
    uint32_t vocab_size;
    uint32_t choice;
    bool penalties; /* any is on: only then are tokens counted */
    /* A hash table with open addressing; index[h] is 1 + position in seen, 0 for free. */
    struct sample_seen *seen; /* [max_seen], the first n_seen in use */
    uint32_t n_seen, max_seen;
    uint32_t *index; /* [index_mask + 1] */
    uint32_t index_mask;
    struct sample_bias *bias; /* [n_bias]: the client's, then what min_tokens suppresses */
    uint32_t n_bias;
};

static struct sample_seen *seen_entry(struct sampler *s, uint32_t id)
{
    uint32_t h = (id * 2654435769u) & s->index_mask; /* multiplicative hashing, Knuth 6.4 */
    while (s->index[h] != 0) {
        struct sample_seen *e = &s->seen[s->index[h] - 1];
        if (e->id == id)
            return e;
        h = (h + 1) & s->index_mask;
    }
    BUG_ON(s->n_seen == s->max_seen);
    s->seen[s->n_seen] = (struct sample_seen){.id = id};
    s->index[h] = ++s->n_seen;
    return &s->seen[s->n_seen - 1];
}

/* Room for every token that the sequence can ever see: nothing is allocated later. */
static int seen_init(struct sampler *s, uint32_t n_prompt)
{
    const struct sampling_params *p = s->params;
    uint64_t n = (uint64_t)p->max_tokens + (p->repetition_penalty != 1.0f ? n_prompt : 0);
    s->max_seen = (uint32_t)u64_max(1, u64_min(n, s->vocab_size));
    uint64_t n_index = 2;
    while (n_index < 2 * (uint64_t)s->max_seen)
        n_index *= 2;
    s->index_mask = (uint32_t)(n_index - 1);
    s->seen = calloc(s->max_seen, sizeof(*s->seen));
    s->index = calloc((size_t)n_index, sizeof(*s->index));
    return s->seen && s->index ? 0 : -LLMD_ENOMEM;
}

/* Of min_tokens, what may not be chosen before. */
static uint32_t n_suppressed(const struct sampling_params *p)
{
    return p->min_tokens > 0 ? p->n_eos_ids + p->n_stop_ids : 0;
}

static int bias_init(struct sampler *s)
{
    const struct sampling_params *p = s->params;
    uint32_t n = 0;
    s->n_bias = p->n_logit_bias + n_suppressed(p);
    if (s->n_bias == 0)
        return 0;
    s->bias = malloc(s->n_bias * sizeof(*s->bias));
    if (!s->bias)
        return -LLMD_ENOMEM;
    for (uint32_t i = 0; i < p->n_logit_bias; i++)
        s->bias[n++] = (struct sample_bias){p->logit_bias[i].token, p->logit_bias[i].bias};
    for (uint32_t i = 0; n < s->n_bias && i < p->n_eos_ids; i++)
        s->bias[n++] = (struct sample_bias){p->eos_ids[i], -INFINITY};
    for (uint32_t i = 0; n < s->n_bias && i < p->n_stop_ids; i++)
        s->bias[n++] = (struct sample_bias){p->stop_ids[i], -INFINITY};
    return 0;
}

static bool in_vocabulary(const struct sampling_params *p, const uint32_t *prompt,
                          uint32_t n_prompt, uint32_t vocab_size)
{
    bool ok = true;
    for (uint32_t i = 0; i < p->n_logit_bias; i++)
        ok &= p->logit_bias[i].token < vocab_size;
    for (uint32_t i = 0; i < p->n_stop_ids; i++)
        ok &= p->stop_ids[i] < vocab_size;
    for (uint32_t i = 0; i < p->n_eos_ids; i++)
        ok &= p->eos_ids[i] < vocab_size;
    for (uint32_t i = 0; i < n_prompt; i++)
        ok &= prompt[i] < vocab_size;
    return ok;
}

int sampler_new(const struct sampling_params *p, const uint32_t *prompt, uint32_t n_prompt,
                uint32_t vocab_size, uint32_t choice, struct sampler **out)
{
    if (!in_vocabulary(p, prompt, n_prompt, vocab_size))
        return -LLMD_EINVAL;
    struct sampler *s = calloc(1, sizeof(*s));
    if (!s)
        return -LLMD_ENOMEM;
    s->params = p;
    s->vocab_size = vocab_size;
    s->choice = choice;
    s->penalties = p->repetition_penalty != 1.0f || p->frequency_penalty != 0.0f ||
                   p->presence_penalty != 0.0f;
    if (bias_init(s) || (s->penalties && seen_init(s, n_prompt))) {
        sampler_free(s);
        return -LLMD_ENOMEM;
    }
    for (uint32_t i = 0; i < n_prompt && p->repetition_penalty != 1.0f; i++)
        seen_entry(s, prompt[i])->in_prompt = 1;
    *out = s;
    return 0;
}

void sampler_free(struct sampler *s)
{
    if (!s)
        return;
    free(s->seen);
    free(s->index);
    free(s->bias);
    free(s);
}

void sampler_accept(struct sampler *s, uint32_t token)
{
    BUG_ON(token >= s->vocab_size);
    if (s->penalties)
        seen_entry(s, token)->n_output++;
}

/* --- logits --- */

static void apply_penalties(const struct sampler *s, float *logits)
{
    const struct sampling_params *p = s->params;
    for (uint32_t i = 0; i < s->n_seen; i++) {
        const struct sample_seen *t = &s->seen[i];
        float l = logits[t->id];
        if (p->repetition_penalty != 1.0f)
            l = l > 0 ? l / p->repetition_penalty : l * p->repetition_penalty;
        if (t->n_output > 0)
            l -= p->frequency_penalty * (float)t->n_output + p->presence_penalty;
        logits[t->id] = l;
    }
}

/* Entries of bias that hold for the next token. */
static uint32_t n_bias_now(const struct sampler *s, uint32_t n_generated)
{
    return n_generated < s->params->min_tokens ? s->n_bias : s->params->n_logit_bias;
}

/* The logits with bias, min_tokens and penalties: the caller's when nothing applies. */
static const float *adjusted(const struct sampler *s, const float *logits,
                             struct sampler_scratch *scratch, uint32_t n_generated)
{
    const uint32_t n_bias = n_bias_now(s, n_generated);
    if (n_bias == 0 && s->n_seen == 0)
        return logits;

    float *l = scratch->logits;
    memcpy(l, logits, s->vocab_size * sizeof(*l));
    for (uint32_t i = 0; i < n_bias; i++)
        l[s->bias[i].token] += s->bias[i].bias;
    apply_penalties(s, l);
    return l;
}

uint32_t sampler_pick(const struct sampler *s, const float *logits, struct sampler_scratch *scratch,
                      uint32_t n_generated)
{
    const struct sampling_params *p = s->params;
    BUG_ON(scratch->vocab_size != s->vocab_size);
    const float *l = adjusted(s, logits, scratch, n_generated);
    float max = sampler_block_max(scratch, l);
    if (p->temperature < GREEDY_BELOW || !isfinite(max))
        return sampler_argmax(scratch, l, max);

    double u = sampler_uniform(p->seed, s->choice, n_generated);
    const struct sampler_cuts cuts = {
        .temperature = p->temperature, .top_p = p->top_p, .min_p = p->min_p, .top_k = p->top_k};
    bool whole =
        p->top_p >= 1.0f && p->min_p <= 0.0f && (p->top_k == 0 || p->top_k >= s->vocab_size);
    if (whole)
        return sampler_draw_all(scratch, l, max, p->temperature, u);
    uint32_t n = sampler_candidates(scratch, l, max, &cuts);
    return sampler_draw(scratch, n, u);
}

void sampler_describe(const struct sampler *s, uint32_t n_generated, struct sample_how *out)
{
    const struct sampling_params *p = s->params;
    *out = (struct sample_how){
        .temperature = p->temperature < GREEDY_BELOW ? 0.0f : p->temperature,
        .top_p = p->top_p,
        .min_p = p->min_p,
        .top_k = p->top_k,
        .presence_penalty = p->presence_penalty,
        .frequency_penalty = p->frequency_penalty,
        .repetition_penalty = p->repetition_penalty,
        .choice = s->choice,
        .n_generated = n_generated,
        .seed = p->seed,
        .bias = s->bias,
        .n_bias = n_bias_now(s, n_generated),
        .n_seen = s->n_seen,
        .seen = s->seen,
    };
}

/* --- scratch --- */

int sampler_scratch_init(struct sampler_scratch *s, uint32_t vocab_size)
{
    uint32_t n_blocks = (vocab_size + SAMPLER_BLOCK - 1) / SAMPLER_BLOCK;
    *s = (struct sampler_scratch){.vocab_size = vocab_size, .n_blocks = n_blocks};
    s->logits = calloc(vocab_size, sizeof(*s->logits));
    s->weights = calloc((size_t)n_blocks * SAMPLER_BLOCK, sizeof(*s->weights));
    s->block_max = calloc(n_blocks, sizeof(*s->block_max));
    s->block_sum = calloc(n_blocks, sizeof(*s->block_sum));
    s->cand = calloc(vocab_size, sizeof(*s->cand));
    s->work = calloc(vocab_size, sizeof(*s->work));
    if (s->logits && s->weights && s->block_max && s->block_sum && s->cand && s->work)
        return 0;
    sampler_scratch_fini(s);
    return -LLMD_ENOMEM;
}

void sampler_scratch_fini(struct sampler_scratch *s)
{
    free(s->logits);
    free(s->weights);
    free(s->block_max);
    free(s->block_sum);
    free(s->cand);
    free(s->work);
    *s = (struct sampler_scratch){0};
}

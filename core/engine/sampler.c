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
    /* The client's; then what bad words forbid for the next token: n_always; then what min_tokens
     * suppresses: n_bias. */
    struct sample_bias *bias;
    uint32_t n_always, n_bias;
    uint32_t *mask; /* of allowed_ids, a bit per token; NULL: anything is allowed */
    /* The last tokens, the newest at the end, as far as bad words look back. */
    uint32_t *recent; /* [max_recent], n_recent in use */
    uint32_t n_recent, max_recent;
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

/* Whether the tokens just now were the word's but for its last. */
static bool nearly_said(const struct sampler *s, const struct token_run *word)
{
    const uint32_t n = word->n - 1;
    return n <= s->n_recent && (n == 0 || memcmp(s->recent + (s->n_recent - n), word->ids,
                                                 n * sizeof(*word->ids)) == 0);
}

/* What follows the client's own entries, for the next token. */
static void bias_update(struct sampler *s)
{
    const struct sampling_params *p = s->params;
    uint32_t n = p->n_logit_bias;
    for (uint32_t i = 0; i < p->n_bad_words; i++) {
        const struct token_run *word = &p->bad_words[i];
        if (nearly_said(s, word))
            s->bias[n++] = (struct sample_bias){word->ids[word->n - 1], -INFINITY};
    }
    s->n_always = n;
    for (uint32_t i = 0; n_suppressed(p) > 0 && i < p->n_eos_ids; i++)
        s->bias[n++] = (struct sample_bias){p->eos_ids[i], -INFINITY};
    for (uint32_t i = 0; n_suppressed(p) > 0 && i < p->n_stop_ids; i++)
        s->bias[n++] = (struct sample_bias){p->stop_ids[i], -INFINITY};
    s->n_bias = n;
}

static int bias_init(struct sampler *s)
{
    const struct sampling_params *p = s->params;
    const uint32_t n = p->n_logit_bias + p->n_bad_words + n_suppressed(p);
    for (uint32_t i = 0; i < p->n_bad_words; i++)
        s->max_recent = (uint32_t)u64_max(s->max_recent, p->bad_words[i].n - 1);
    if (s->max_recent > 0) {
        s->recent = malloc(s->max_recent * sizeof(*s->recent));
        if (!s->recent)
            return -LLMD_ENOMEM;
    }
    if (n == 0)
        return 0;
    s->bias = malloc(n * sizeof(*s->bias));
    if (!s->bias)
        return -LLMD_ENOMEM;
    for (uint32_t i = 0; i < p->n_logit_bias; i++)
        s->bias[i] = (struct sample_bias){p->logit_bias[i].token, p->logit_bias[i].bias};
    bias_update(s);
    return 0;
}

static int mask_init(struct sampler *s)
{
    const struct sampling_params *p = s->params;
    if (p->n_allowed_ids == 0)
        return 0;
    s->mask = calloc((s->vocab_size + 31) / 32, sizeof(*s->mask));
    for (uint32_t i = 0; s->mask && i < p->n_allowed_ids; i++)
        s->mask[p->allowed_ids[i] / 32] |= 1u << p->allowed_ids[i] % 32;
    return s->mask ? 0 : -LLMD_ENOMEM;
}

static bool is_allowed(const struct sampler *s, uint32_t id)
{
    return !s->mask || (s->mask[id / 32] >> id % 32 & 1);
}

static bool all_below(const uint32_t *ids, uint32_t n, uint32_t vocab_size)
{
    bool ok = true;
    for (uint32_t i = 0; i < n; i++)
        ok &= ids[i] < vocab_size;
    return ok;
}

static bool in_vocabulary(const struct sampling_params *p, const uint32_t *prompt,
                          uint32_t n_prompt, uint32_t vocab_size)
{
    bool ok = all_below(p->stop_ids, p->n_stop_ids, vocab_size) &&
              all_below(p->eos_ids, p->n_eos_ids, vocab_size) &&
              all_below(p->allowed_ids, p->n_allowed_ids, vocab_size) &&
              all_below(p->logprob_ids, p->n_logprob_ids, vocab_size) &&
              all_below(prompt, n_prompt, vocab_size);
    for (uint32_t i = 0; i < p->n_logit_bias; i++)
        ok &= p->logit_bias[i].token < vocab_size;
    for (uint32_t i = 0; i < p->n_bad_words; i++)
        ok &= all_below(p->bad_words[i].ids, p->bad_words[i].n, vocab_size);
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
    if (bias_init(s) || mask_init(s) || (s->penalties && seen_init(s, n_prompt))) {
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
    free(s->recent);
    free(s->mask);
    free(s);
}

/* Bad words look back at it. */
static void recent_push(struct sampler *s, uint32_t token)
{
    if (s->n_recent == s->max_recent)
        memmove(s->recent, s->recent + 1, --s->n_recent * sizeof(*s->recent));
    s->recent[s->n_recent++] = token;
    bias_update(s);
}

void sampler_accept(struct sampler *s, uint32_t token)
{
    BUG_ON(token >= s->vocab_size);
    if (s->penalties)
        seen_entry(s, token)->n_output++;
    if (s->max_recent > 0)
        recent_push(s, token);
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
    return n_generated < s->params->min_tokens ? s->n_bias : s->n_always;
}

/* The logits with all that changes them: the caller's when nothing applies. */
static const float *adjusted(const struct sampler *s, const float *logits,
                             struct sampler_scratch *scratch, uint32_t n_generated)
{
    const uint32_t n_bias = n_bias_now(s, n_generated);
    if (n_bias == 0 && s->n_seen == 0 && !s->mask)
        return logits;

    float *l = scratch->logits;
    memcpy(l, logits, s->vocab_size * sizeof(*l));
    for (uint32_t i = 0; s->mask && i < s->vocab_size; i++)
        l[i] = is_allowed(s, i) ? l[i] : -INFINITY;
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
    if (max == -INFINITY && s->mask)
        return p->allowed_ids[0]; /* all others are forbidden: rather that one than any */
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

uint32_t sampler_allowed(const struct sampler *s, uint32_t token)
{
    return is_allowed(s, token) ? token : s->params->allowed_ids[0];
}

bool sampler_can_follow(const struct sampler *s)
{
    return !s->mask && s->max_recent == 0;
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
        .mask = s->mask,
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

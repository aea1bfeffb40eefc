/* model_rope.c - inverse frequencies of rotary embedding, for contexts beyond the original one too.
 *
 * Position p turns pair i by p * inv_freq[i]; unscaled, inv_freq[i] = theta^(-2i / head_dim).
 * Computed in double: the reference rounds each step to F32, which is what may differ.
 *
 * Source  linear: Chen et al., arXiv:2306.15595; YaRN: Peng et al., arXiv:2309.00071, section 3;
 *         llama3: Llama 3.1 model code (apply_scaling). All as in transformers 5,
 *         modeling_rope_utils.py. */
#include <math.h>
#include <stdlib.h>

#include "core/model/model_int.h"

static const double two_pi = 6.28318530717958647692;

static double clamp(double x, double min, double max)
{
    return x < min ? min : x > max ? max : x;
}

/* Long waves are stretched, short ones kept, those between interpolated. */
static double llama3(const struct rope_scaling_params *s, double freq)
{
    const double turns = s->original_context * freq / two_pi; /* within the original context */
    const double low = s->low_freq_factor, high = s->high_freq_factor;
    if (turns <= low)
        return freq / s->factor;
    if (turns > high)
        return freq;
    const double keep = (turns - low) / (high - low);
    return (1 - keep) * freq / s->factor + keep * freq;
}

/* YaRN's ramp: 0 for pairs that keep their frequency, 1 for those that are stretched. */
struct ramp {
    double low, high;
};

/* The pair, as a real number, that turns n times within the original context. */
static double pair_of_turns(const struct hparams *h, double n)
{
    return h->head_dim * log(h->scaling.original_context / (n * two_pi)) /
           (2 * log((double)h->rope_theta));
}

static struct ramp yarn_ramp(const struct hparams *h)
{
    struct ramp r = {.low = pair_of_turns(h, h->scaling.beta_fast),
                     .high = pair_of_turns(h, h->scaling.beta_slow)};
    if (h->scaling.truncate) {
        r.low = floor(r.low);
        r.high = ceil(r.high);
    }
    r.low = fmax(r.low, 0);
    r.high = fmin(r.high, h->head_dim - 1.0); /* not half of it: as the reference has it */
    if (r.high == r.low)
        r.high += 0.001; /* a step instead of a ramp */
    return r;
}

static double yarn(const struct hparams *h, const struct ramp *r, double freq, uint32_t pair)
{
    const double stretch = clamp((pair - r->low) / (r->high - r->low), 0, 1);
    return freq / h->scaling.factor * stretch + freq * (1 - stretch);
}

static double scaled(const struct hparams *h, const struct ramp *r, double freq, uint32_t pair)
{
    switch (h->rope_scaling) {
    case ROPE_SCALING_NONE:
        return freq;
    case ROPE_SCALING_LINEAR:
        return freq / h->scaling.factor;
    case ROPE_SCALING_LLAMA3:
        return llama3(&h->scaling, freq);
    case ROPE_SCALING_YARN:
        return yarn(h, r, freq, pair);
    }
    BUG_ON(true);
}

static float yarn_scale(const struct rope_scaling_params *s)
{
    if (s->attention_factor > 0)
        return s->attention_factor;
    return s->factor > 1 ? (float)(0.1 * log((double)s->factor) + 1) : 1;
}

int model_set_rope(struct model *m, const float *divisors, struct err *e)
{
    const struct hparams *h = &m->hparams;
    const bool is_yarn = h->rope_scaling == ROPE_SCALING_YARN;
    struct ramp r = {0};
    if (is_yarn) {
        if (!(h->rope_theta > 1))
            return err_set(e, LLMD_EUNSUPPORTED, "%s: YaRN needs a rope theta above 1, not %g",
                           m->path, (double)h->rope_theta);
        r = yarn_ramp(h);
    }
    double *freqs = calloc(h->head_dim / 2, sizeof(*freqs));
    if (!freqs)
        return err_set(e, LLMD_ENOMEM, "%s: out of memory", m->path);
    for (uint32_t i = 0; i < h->head_dim / 2; i++) {
        freqs[i] = scaled(h, &r, pow(h->rope_theta, -2.0 * i / h->head_dim), i);
        if (divisors)
            freqs[i] /= divisors[i];
    }
    free(m->inv_freq);
    m->inv_freq = freqs;
    m->rope_divided = divisors != NULL;
    m->rope_scale = is_yarn ? yarn_scale(&h->scaling) : 1;
    return 0;
}

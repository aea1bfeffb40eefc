/* The sampler against straightforward references: sorted candidate sets, distributions in double,
 * dense penalty arrays. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/engine/sampler_int.h"
#include "core/util/err.h"

/* --- helpers --- */

static uint32_t rng_state = 1;

static uint32_t rnd(void)
{
    rng_state = rng_state * 1664525u + 1013904223u;
    return rng_state >> 8;
}

static float rnd_float(float lo, float hi)
{
    return lo + (hi - lo) * (float)(rnd() & 0xffff) * 0x1p-16f;
}

static struct sampling_params neutral(float temperature)
{
    return (struct sampling_params){.temperature = temperature,
                                    .top_p = 1,
                                    .repetition_penalty = 1,
                                    .seed = 1234,
                                    .n = 1,
                                    .max_tokens = 100};
}

static struct sampler *new_sampler(const struct sampling_params *p, uint32_t vocab)
{
    struct sampler *s;
    assert_int_equal(sampler_new(p, NULL, 0, vocab, 0, &s), 0);
    return s;
}

static uint32_t pick_once(const struct sampling_params *p, const float *logits, uint32_t vocab,
                          uint32_t n_generated)
{
    struct sampler_scratch scratch;
    struct sampler *s = new_sampler(p, vocab);
    assert_int_equal(sampler_scratch_init(&scratch, vocab), 0);
    uint32_t id = sampler_pick(s, logits, &scratch, n_generated);
    sampler_free(s);
    sampler_scratch_fini(&scratch);
    return id;
}

/* --- random numbers --- */

/* Known answers of Random123's kat_vectors (philox4x32, 10 rounds). */
static void test_philox_known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } kat[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < ARRAY_LEN(kat); i++) {
        uint32_t out[4];
        philox4x32(kat[i].key, kat[i].counter, out);
        assert_memory_equal(out, kat[i].out, sizeof(out));
    }
}

static void test_uniform(void **state)
{
    (void)state;
    enum { BINS = 100, PER_BIN = 1000, N = BINS * PER_BIN };
    uint32_t counts[BINS] = {0};
    double chi2 = 0;
    for (uint32_t i = 0; i < N; i++) {
        double u = sampler_uniform(i % 10, i / 10 % 10, i / 100);
        assert_true(u >= 0 && u < 1);
        counts[(int)(u * BINS)]++;
    }
    for (int i = 0; i < BINS; i++)
        chi2 += pow((double)counts[i] - PER_BIN, 2) / PER_BIN;
    assert_true(chi2 < 180); /* 99 degrees of freedom, p = 1e-6 */

    double u = sampler_uniform(7, 0, 0);
    assert_true(u == sampler_uniform(7, 0, 0));
    assert_true(u != sampler_uniform(8, 0, 0));
    assert_true(u != sampler_uniform(7, 1, 0));
    assert_true(u != sampler_uniform(7, 0, 1));
    assert_true(sampler_uniform(8, 0, 0) != sampler_uniform(7, 1, 0)); /* no seed + choice */
    assert_true(u != sampler_uniform(7 + (1ull << 32), 0, 0));
}

static void test_exp(void **state)
{
    (void)state;
    double worst = 0;
    for (uint32_t bits = 0x80000000u; bits <= 0xc2ae0000u; bits += 1009) { /* -0 .. -87 */
        float x;
        memcpy(&x, &bits, sizeof(x));
        double want = exp(x), got = sampler_exp(x);
        worst = fmax(worst, fabs(got - want) / want);
    }
    assert_true(worst < 1.8e-7);
    assert_true(sampler_exp(0.0f) == 1.0f);
    assert_true(sampler_exp(-87.5f) == 0.0f);
    assert_true(sampler_exp(-INFINITY) == 0.0f);
    assert_true(sampler_exp(NAN) == 0.0f);
}

/* --- candidate sets --- */

static int by_rank(const void *a, const void *b)
{
    const struct sampler_candidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

/* The same definition by sorting everything. *out_slack: how close (relative to all weight) the
 * mass at the end of the prefix comes to top_p, where rounding may decide. */
static uint32_t reference_candidates(const float *logits, uint32_t vocab,
                                     const struct sampler_cuts *c, struct sampler_candidate *out,
                                     double *out_slack)
{
    uint32_t n = 0;
    float max = -INFINITY;
    for (uint32_t i = 0; i < vocab; i++)
        if (logits[i] > -INFINITY) {
            out[n++] = (struct sampler_candidate){.logit = logits[i], .id = i};
            max = fmaxf(max, logits[i]);
        }
    qsort(out, n, sizeof(*out), by_rank);
    for (uint32_t i = 0; i < n; i++)
        out[i].weight = sampler_exp((out[i].logit - max) * (1.0f / c->temperature));
    if (c->top_k > 0 && n > c->top_k)
        n = c->top_k;
    double total = 0, sum = 0;
    uint32_t kept = 0;
    while (kept < n && out[kept].weight >= c->min_p)
        total += out[kept++].weight;
    *out_slack = 1;
    if (c->top_p >= 1)
        return kept;
    for (uint32_t i = 0; i < kept; i++) {
        sum += out[i].weight;
        *out_slack = fmin(*out_slack, fabs(sum / total - (double)c->top_p));
        if (sum >= (double)c->top_p * total)
            return i + 1;
    }
    return kept;
}

static int by_id(const void *a, const void *b)
{
    const struct sampler_candidate *x = a, *y = b;
    return x->id < y->id ? -1 : 1;
}

enum { VOCAB_MAX = 6000 };

static void random_logits(float *l, uint32_t vocab)
{
    uint32_t kind = rnd() % 4;
    for (uint32_t i = 0; i < vocab; i++) {
        l[i] = rnd_float(-10, 10);
        if (kind == 1)
            l[i] = truncf(l[i]); /* ties everywhere */
        if (kind == 2 && rnd() % 3 == 0)
            l[i] = rnd() % 2 ? -INFINITY : NAN;
        if (kind == 3)
            l[i] = rnd() % 200 ? -30.0f : rnd_float(0, 8); /* a long flat tail */
    }
    l[vocab / 2] = 9; /* something is finite */
}

static struct sampler_cuts random_cuts(uint32_t vocab)
{
    static const float temperatures[] = {0.05f, 0.7f, 1, 1.5f, 10};
    static const float top_ps[] = {1, 0.999f, 0.95f, 0.9f, 0.5f, 0.1f, 1e-6f};
    static const float min_ps[] = {0, 0, 1e-6f, 0.05f, 0.5f, 1};
    struct sampler_cuts c = {.temperature = temperatures[rnd() % ARRAY_LEN(temperatures)],
                             .top_p = top_ps[rnd() % ARRAY_LEN(top_ps)],
                             .min_p = min_ps[rnd() % ARRAY_LEN(min_ps)]};
    if (rnd() % 2)
        c.top_k = rnd() % 3 ? 1 + rnd() % 60 : 1 + rnd() % (vocab + 5);
    if (c.top_p >= 1 && c.min_p <= 0 && (c.top_k == 0 || c.top_k >= vocab))
        c.top_p = 0.8f; /* some cut must be on */
    return c;
}

static void test_candidates_are_those_of_a_sort(void **state)
{
    (void)state;
    static const uint32_t vocabs[] = {1, 2, 3, 63, 64, 65, 129, 1000, VOCAB_MAX};
    static float logits[VOCAB_MAX];
    static struct sampler_candidate want[VOCAB_MAX];
    uint32_t n_rounding = 0;
    for (uint32_t round = 0; round < 3000; round++) {
        uint32_t vocab = vocabs[rnd() % ARRAY_LEN(vocabs)];
        struct sampler_scratch s;
        struct sampler_cuts cuts = random_cuts(vocab);
        double slack;
        assert_int_equal(sampler_scratch_init(&s, vocab), 0);
        random_logits(logits, vocab);
        uint32_t n_want = reference_candidates(logits, vocab, &cuts, want, &slack);
        float max = sampler_block_max(&s, logits);
        uint32_t n = sampler_candidates(&s, logits, max, &cuts);
        if (n != n_want && slack < 1e-6) {
            n_rounding++; /* a prefix of the same order all the same */
            assert_true(n > 0);
            n_want = n;
        }
        assert_int_equal(n, n_want);
        qsort(want, n_want, sizeof(*want), by_id);
        for (uint32_t i = 0; i < n; i++) {
            assert_int_equal(s.cand[i].id, want[i].id);
            assert_true(s.cand[i].weight == want[i].weight);
        }
        sampler_scratch_fini(&s);
    }
    assert_true(n_rounding < 30);
}

/* --- distributions --- */

/* Draws and compares with the exact probabilities of the reference's candidates. */
static void check_distribution(const float *logits, uint32_t vocab, const struct sampling_params *p)
{
    enum { N = 60000 };
    static struct sampler_candidate want[VOCAB_MAX];
    static uint32_t counts[VOCAB_MAX];
    const struct sampler_cuts cuts = {p->temperature, p->top_p, p->min_p, p->top_k};
    double slack, total = 0, chi2 = 0, rest_want = 0, rest_got = 0;
    uint32_t n = reference_candidates(logits, vocab, &cuts, want, &slack), df = 0, n_drawn = 0;
    assert_true(slack > 1e-6);

    struct sampler_scratch scratch;
    struct sampler *s = new_sampler(p, vocab);
    assert_int_equal(sampler_scratch_init(&scratch, vocab), 0);
    memset(counts, 0, sizeof(counts));
    for (uint32_t i = 0; i < N; i++)
        counts[sampler_pick(s, logits, &scratch, i)]++;
    for (uint32_t i = 0; i < n; i++)
        total += exp(((double)want[i].logit - want[0].logit) / p->temperature);
    for (uint32_t i = 0; i < n; i++) {
        double expected = N * exp(((double)want[i].logit - want[0].logit) / p->temperature) / total;
        uint32_t got = counts[want[i].id];
        n_drawn += got;
        if (expected < 10) { /* too rare for chi-square: pooled */
            rest_want += expected;
            rest_got += got;
            continue;
        }
        chi2 += (got - expected) * (got - expected) / expected;
        df++;
    }
    if (rest_want >= 10)
        chi2 += (rest_got - rest_want) * (rest_got - rest_want) / rest_want;
    assert_int_equal(n_drawn, N); /* nothing outside the candidates */
    /* Chi-square is near normal with mean df and variance 2 df; 5 sigma. */
    assert_true(chi2 < df + 5 * sqrt(2.0 * df) + 15);
    sampler_free(s);
    sampler_scratch_fini(&scratch);
}

static void test_distributions(void **state)
{
    (void)state;
    static float logits[2000];
    static const uint32_t vocabs[] = {2, 50, 300, 2000};
    for (size_t v = 0; v < ARRAY_LEN(vocabs); v++) {
        uint32_t vocab = vocabs[v];
        for (uint32_t i = 0; i < vocab; i++)
            logits[i] = rnd_float(-4, 4);
        struct sampling_params p = neutral(1);
        check_distribution(logits, vocab, &p);
        p.temperature = 0.6f;
        check_distribution(logits, vocab, &p);
        p.top_k = 20;
        check_distribution(logits, vocab, &p);
        p.top_p = 0.8f;
        check_distribution(logits, vocab, &p);
        p.top_k = 0;
        check_distribution(logits, vocab, &p);
        p.min_p = 0.1f;
        check_distribution(logits, vocab, &p);
        p.top_p = 1;
        check_distribution(logits, vocab, &p);
    }
}

/* --- greedy and degenerate input --- */

static void test_greedy_takes_the_lowest_of_the_best(void **state)
{
    (void)state;
    static float logits[VOCAB_MAX];
    for (uint32_t round = 0; round < 300; round++) {
        uint32_t vocab = 1 + rnd() % (round % 2 ? 200 : VOCAB_MAX);
        uint32_t best = 0;
        for (uint32_t i = 0; i < vocab; i++) {
            logits[i] = (float)(rnd() % 50) - 60;
            if (logits[i] > logits[best])
                best = i;
        }
        struct sampling_params p = neutral(0);
        assert_int_equal(pick_once(&p, logits, vocab, round), best);
        p = neutral(1.3f);
        p.top_k = 1;
        assert_int_equal(pick_once(&p, logits, vocab, round), best);
        p = neutral(1.3f);
        p.top_p = 1e-9f;
        assert_int_equal(pick_once(&p, logits, vocab, round), best);
    }
}

static void test_nan_and_infinities(void **state)
{
    (void)state;
    const float inf = INFINITY;
    static const struct sampling_params modes[] = {
        {.temperature = 0, .top_p = 1, .repetition_penalty = 1},
        {.temperature = 1, .top_p = 1, .repetition_penalty = 1},
        {.temperature = 1, .top_p = 0.9f, .repetition_penalty = 1},
        {.temperature = 1, .top_p = 1, .top_k = 2, .repetition_penalty = 1},
        {.temperature = 1, .top_p = 1, .min_p = 0.1f, .repetition_penalty = 1},
        {.temperature = 1e-30f, .top_p = 0.9f, .repetition_penalty = 1},
        {.temperature = 1e30f, .top_p = 0.9f, .repetition_penalty = 1},
    };
    for (size_t m = 0; m < ARRAY_LEN(modes); m++)
        for (uint32_t n = 0; n < 50; n++) {
            const struct sampling_params *p = &modes[m];
            assert_int_equal(pick_once(p, (float[]){NAN, -inf, 2, NAN, -inf}, 5, n), 2);
            assert_int_equal(pick_once(p, (float[]){1, 2, inf, 3, inf}, 5, n), 2);
            assert_int_equal(pick_once(p, (float[]){NAN, -inf, -inf}, 3, n), 1);
            assert_int_equal(pick_once(p, (float[]){NAN, NAN, NAN}, 3, n), 0);
            assert_in_range(pick_once(p, (float[]){-3e38f, 3e38f, 3e38f}, 3, n), 1, 2);
            assert_int_equal(pick_once(p, (float[]){-inf, -3e38f, NAN}, 3, n), 1);
        }
}

/* --- penalties, bias, min_tokens --- */

struct dense { /* the obvious bookkeeping */
    uint32_t n_output[100];
    bool in_prompt[100];
    uint32_t said[100], n_said;
};

static bool is_listed(const uint32_t *ids, uint32_t n, uint32_t id)
{
    while (n > 0 && ids[n - 1] != id)
        n--;
    return n > 0;
}

/* Whether one of the bad words would be complete with this token. */
static bool completes_bad_word(const struct sampling_params *p, const struct dense *d, uint32_t id)
{
    for (uint32_t i = 0; i < p->n_bad_words; i++) {
        const struct token_run *word = &p->bad_words[i];
        const uint32_t n = word->n - 1;
        if (d->n_said >= n && word->ids[n] == id &&
            memcmp(d->said + d->n_said - n, word->ids, n * sizeof(*word->ids)) == 0)
            return true;
    }
    return false;
}

static uint32_t reference_greedy(const struct sampling_params *p, const struct dense *d,
                                 const float *logits, uint32_t vocab, uint32_t n_generated)
{
    float l[100];
    memcpy(l, logits, vocab * sizeof(*l));
    for (uint32_t i = 0; i < p->n_logit_bias; i++)
        l[p->logit_bias[i].token] += p->logit_bias[i].bias;
    for (uint32_t i = 0; n_generated < p->min_tokens && i < p->n_eos_ids; i++)
        l[p->eos_ids[i]] = -INFINITY;
    for (uint32_t i = 0; n_generated < p->min_tokens && i < p->n_stop_ids; i++)
        l[p->stop_ids[i]] = -INFINITY;
    uint32_t best = p->n_allowed_ids > 0 ? p->allowed_ids[0] : 0;
    bool found = false;
    for (uint32_t i = 0; i < vocab; i++) {
        if (d->in_prompt[i] || d->n_output[i] > 0)
            l[i] = l[i] > 0 ? l[i] / p->repetition_penalty : l[i] * p->repetition_penalty;
        if (d->n_output[i] > 0)
            l[i] -= p->frequency_penalty * (float)d->n_output[i] + p->presence_penalty;
        bool allowed = p->n_allowed_ids == 0 || is_listed(p->allowed_ids, p->n_allowed_ids, i);
        if (!allowed || completes_bad_word(p, d, i) || l[i] == -INFINITY)
            continue;
        best = !found || l[i] > l[best] ? i : best;
        found = true;
    }
    return best;
}

static void random_words(struct sampling_params *p, struct token_run words[4], uint32_t ids[16],
                         uint32_t vocab)
{
    p->n_bad_words = rnd() % 3 ? 0 : 1 + rnd() % 4;
    p->bad_words = words;
    for (uint32_t i = 0; i < p->n_bad_words; i++) {
        words[i] = (struct token_run){ids + 4 * i, 1 + rnd() % 3};
        for (uint32_t k = 0; k < words[i].n; k++)
            ids[4 * i + k] = rnd() % vocab;
    }
}

static void random_params(struct sampling_params *p, struct logit_bias *bias, uint32_t *ids,
                          uint32_t vocab)
{
    *p = neutral(0);
    p->max_tokens = 60;
    if (rnd() % 2)
        p->repetition_penalty = rnd_float(0.5f, 2);
    if (rnd() % 2)
        p->frequency_penalty = rnd_float(-2, 2);
    if (rnd() % 2)
        p->presence_penalty = rnd_float(-2, 2);
    p->n_logit_bias = rnd() % 4;
    p->logit_bias = bias;
    for (uint32_t i = 0; i < p->n_logit_bias; i++)
        bias[i] = (struct logit_bias){rnd() % vocab, rnd_float(-5, 5)};
    p->min_tokens = rnd() % 3 ? 0 : 30;
    p->eos_ids = ids;
    p->n_eos_ids = rnd() % 2;
    p->stop_ids = ids + 1;
    p->n_stop_ids = rnd() % 3;
    p->allowed_ids = ids + 3;
    p->n_allowed_ids = rnd() % 3 ? 0 : 1 + rnd() % 8;
    for (int i = 0; i < 11; i++)
        ids[i] = rnd() % vocab;
}

static void test_adjustments_follow_the_model(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 400; round++) {
        struct sampling_params p;
        struct logit_bias bias[4];
        struct dense d = {0};
        struct sampler_scratch scratch;
        struct sampler *s;
        struct token_run words[4];
        uint32_t prompt[40], n_prompt = 1 + rnd() % 40, vocab = 4 + rnd() % 96;
        uint32_t ids[11], word_ids[16];
        float logits[100];
        random_params(&p, bias, ids, vocab);
        random_words(&p, words, word_ids, vocab);
        for (uint32_t i = 0; i < n_prompt; i++) {
            prompt[i] = rnd() % vocab;
            d.in_prompt[prompt[i]] = true;
        }
        assert_int_equal(sampler_scratch_init(&scratch, vocab), 0);
        assert_int_equal(sampler_new(&p, prompt, n_prompt, vocab, 0, &s), 0);
        for (uint32_t t = 0; t < p.max_tokens; t++) {
            for (uint32_t i = 0; i < vocab; i++)
                logits[i] = rnd_float(-3, 3);
            uint32_t id = sampler_pick(s, logits, &scratch, t);
            assert_int_equal(id, reference_greedy(&p, &d, logits, vocab, t));
            sampler_accept(s, id);
            d.n_output[id]++;
            d.said[d.n_said++] = id;
        }
        sampler_free(s);
        sampler_scratch_fini(&scratch);
    }
}

static void test_presence_and_frequency_ignore_the_prompt(void **state)
{
    (void)state;
    struct sampling_params p = neutral(0);
    struct sampler_scratch scratch;
    struct sampler *s;
    const float logits[3] = {2.0f, 1.5f, 0};
    p.presence_penalty = 0.4f;
    p.frequency_penalty = 0.2f;
    assert_int_equal(sampler_scratch_init(&scratch, 3), 0);
    assert_int_equal(sampler_new(&p, (uint32_t[]){0, 0, 0}, 3, 3, 0, &s), 0);
    assert_int_equal(sampler_pick(s, logits, &scratch, 0), 0);
    sampler_accept(s, 0); /* 2 - 0.6 < 1.5 */
    assert_int_equal(sampler_pick(s, logits, &scratch, 1), 1);
    sampler_free(s);
    sampler_scratch_fini(&scratch);
}

static void test_min_tokens_holds_while_sampling(void **state)
{
    (void)state;
    struct sampling_params p = neutral(1);
    const float logits[4] = {9, 1, 9, 1};
    p.min_tokens = 40;
    p.eos_ids = (uint32_t[]){0};
    p.n_eos_ids = 1;
    p.stop_ids = (uint32_t[]){2};
    p.n_stop_ids = 1;
    uint32_t n_ended = 0;
    for (uint32_t i = 0; i < 80; i++) {
        uint32_t id = pick_once(&p, logits, 4, i);
        if (i < 40)
            assert_true(id == 1 || id == 3);
        else
            n_ended += id == 0 || id == 2;
    }
    assert_true(n_ended > 30);
}

static void test_tokens_outside_the_vocabulary_are_refused(void **state)
{
    (void)state;
    struct sampler *s = NULL;
    const uint32_t ten = 10;
    const struct logit_bias bias = {10, 1};
    struct sampling_params p = neutral(1);
    assert_int_equal(sampler_new(&p, &ten, 1, 10, 0, &s), -LLMD_EINVAL);
    p.eos_ids = &ten;
    p.n_eos_ids = 1;
    assert_int_equal(sampler_new(&p, NULL, 0, 10, 0, &s), -LLMD_EINVAL);
    p = neutral(1);
    p.stop_ids = &ten;
    p.n_stop_ids = 1;
    assert_int_equal(sampler_new(&p, NULL, 0, 10, 0, &s), -LLMD_EINVAL);
    p = neutral(1);
    p.logit_bias = &bias;
    p.n_logit_bias = 1;
    assert_int_equal(sampler_new(&p, NULL, 0, 10, 0, &s), -LLMD_EINVAL);
    assert_null(s);
}

/* --- determinism --- */

/* The choices depend on logits, seed, choice and position only; the hash was computed once and
 * holds for every compiler, optimisation level and machine. */
static void test_same_choices_everywhere(void **state)
{
    (void)state;
    enum { VOCAB = 5000 };
    static float logits[VOCAB];
    struct sampler_scratch scratch;
    uint64_t hash = 0xcbf29ce484222325u;
    assert_int_equal(sampler_scratch_init(&scratch, VOCAB), 0);
    rng_state = 99;
    for (uint32_t i = 0; i < VOCAB; i++)
        logits[i] = rnd_float(-8, 8) + rnd_float(-2, 2);
    for (uint32_t mode = 0; mode < 16; mode++) {
        struct sampling_params p = neutral(mode & 1 ? 1.0f : 0.7f);
        struct sampler *s;
        p.top_p = mode & 2 ? 0.9f : 1.0f;
        p.top_k = mode & 4 ? 50 : 0;
        p.min_p = mode & 8 ? 0.02f : 0.0f;
        p.repetition_penalty = 1.1f;
        p.frequency_penalty = 0.3f;
        assert_int_equal(sampler_new(&p, NULL, 0, VOCAB, mode, &s), 0);
        for (uint32_t i = 0; i < 100; i++) {
            uint32_t id = sampler_pick(s, logits, &scratch, i);
            assert_int_equal(id, sampler_pick(s, logits, &scratch, i));
            sampler_accept(s, id);
            hash = (hash ^ id) * 0x100000001b3u;
        }
        sampler_free(s);
    }
    sampler_scratch_fini(&scratch);
    assert_int_equal(hash, 0x6344d2975108d3ea);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_known_answers),
        cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_exp),
        cmocka_unit_test(test_candidates_are_those_of_a_sort),
        cmocka_unit_test(test_distributions),
        cmocka_unit_test(test_greedy_takes_the_lowest_of_the_best),
        cmocka_unit_test(test_nan_and_infinities),
        cmocka_unit_test(test_adjustments_follow_the_model),
        cmocka_unit_test(test_presence_and_frequency_ignore_the_prompt),
        cmocka_unit_test(test_min_tokens_holds_while_sampling),
        cmocka_unit_test(test_tokens_outside_the_vocabulary_are_refused),
        cmocka_unit_test(test_same_choices_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

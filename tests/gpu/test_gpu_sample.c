/* Sampling on the device: the token is the one that the engine's sampler picks from the same logits,
 * whatever the parameters; log probabilities against double. */
#include "core/engine/sampler.h"
#include "tests/gpu/gpu_case.h"

enum { MAX_CASES = 64, MAX_LIST = 2048 };

static const struct sampling_params PLAIN = {
    .temperature = 1.0f, .top_p = 1.0f, .repetition_penalty = 1.0f, .n = 1, .max_tokens = 64};

/* The rows of one launch, as both sides take them. */
struct rows {
    uint32_t vocab, n;
    float *logits; /* [n][vocab] */
    struct sampler *samplers[MAX_CASES];
    struct sample_how how[MAX_CASES];
    struct gpu_sample_row rows[MAX_CASES];
    struct sample_bias bias[MAX_LIST];
    struct sample_seen seen[MAX_LIST];
    uint32_t n_bias, n_seen;
    uint32_t *masks; /* of all rows, for those that have one */
    uint32_t n_top;  /* 0: no log probabilities; else 1 + n_top, of all rows */
    bool fed;        /* each row has seen one token more than its sampler knows: */
    uint32_t tokens[MAX_CASES], sampled[MAX_CASES]; /* as gpu_fed_token() takes them */
    uint32_t ids[MAX_CASES];
    struct sample_logprobs logprobs[MAX_CASES];
};

static struct rows *rows_new(uint32_t vocab)
{
    struct rows *r = calloc(1, sizeof(*r));
    assert_non_null(r);
    r->vocab = vocab;
    r->logits = calloc((size_t)MAX_CASES * vocab, sizeof(*r->logits));
    r->masks = calloc((size_t)MAX_CASES * (vocab / 32 + 1), sizeof(*r->masks));
    assert_non_null(r->logits);
    assert_non_null(r->masks);
    return r;
}

static void rows_free(struct rows *r)
{
    for (uint32_t i = 0; i < r->n; i++)
        sampler_free(r->samplers[i]);
    free(r->logits);
    free(r->masks);
    free(r);
}

/* A row of logits with a few that stand out, and one sampler that has seen n_seen tokens. */
static float *rows_add(struct rows *r, const struct sampling_params *p, float spread,
                       uint32_t n_seen)
{
    static uint32_t prompt[8];
    const uint32_t i = r->n++;
    float *l = r->logits + (size_t)i * r->vocab;
    assert_true(i < MAX_CASES);
    for (uint32_t t = 0; t < r->vocab; t++)
        l[t] = spread * (random_float() + random_float() + random_float());
    for (uint32_t t = 0; t < ARRAY_LEN(prompt); t++)
        prompt[t] = t * 11 % r->vocab;
    assert_int_equal(sampler_new(p, prompt, ARRAY_LEN(prompt), r->vocab, i % 3, &r->samplers[i]),
                     0);
    for (uint32_t t = 0; t < n_seen; t++)
        sampler_accept(r->samplers[i], t * t * 7 % r->vocab);
    sampler_describe(r->samplers[i], n_seen, &r->how[i]);
    return l;
}

static void pack_row(struct rows *r, uint32_t i)
{
    const struct sample_how *h = &r->how[i];
    assert_true(r->n_bias + h->n_bias <= MAX_LIST && r->n_seen + h->n_seen <= MAX_LIST);
    r->rows[i] = (struct gpu_sample_row){
        .row = r->n - 1 - i, /* another order */
        .inv_temperature = h->temperature > 0 ? 1.0f / h->temperature : 0.0f,
        .top_p = h->top_p,
        .min_p = h->min_p,
        .top_k = h->top_k,
        .presence_penalty = h->presence_penalty,
        .frequency_penalty = h->frequency_penalty,
        .repetition_penalty = h->repetition_penalty,
        .choice = h->choice,
        .n_generated = h->n_generated,
        .seed = {(uint32_t)h->seed, (uint32_t)(h->seed >> 32)},
        .first_bias = r->n_bias,
        .n_bias = h->n_bias,
        .first_seen = r->n_seen,
        .n_seen = h->n_seen,
        .first_mask = h->mask ? i * (r->vocab / 32 + 1) : GPU_NO_MASK,
        .logprobs = r->n_top,
        .to = i,
    };
    for (uint32_t k = 0; k < h->n_bias; k++)
        r->bias[r->n_bias++] = h->bias[k];
    for (uint32_t k = 0; k < h->n_seen; k++)
        r->seen[r->n_seen++] = h->seen[k];
    if (r->fed) {
        r->seen[r->n_seen++] = (struct sample_seen){.id = GPU_FED};
        r->rows[i].n_seen++;
    }
}

static void *or_some(const void *p, size_t bytes)
{
    return bytes > 0 ? device_copy(p, bytes) : device_new(4);
}

static void sample_on_device(struct rows *r)
{
    const size_t row_bytes = r->vocab * sizeof(float);
    const size_t maxima = r->n * gpu_sample_blocks(r->vocab) * sizeof(float);
    for (uint32_t i = 0; i < r->n; i++)
        pack_row(r, i);
    float *logits = device_new(r->n * row_bytes);
    for (uint32_t i = 0; i < r->n; i++)
        wait_well(gpu_copy_in(stream, logits + (size_t)r->rows[i].row * r->vocab,
                              r->logits + (size_t)i * r->vocab, row_bytes));
    struct gpu_sample a = {
        .logits = logits,
        .vocab = r->vocab,
        .n_rows = r->n,
        .rows = device_copy(r->rows, r->n * sizeof(r->rows[0])),
        .bias = or_some(r->bias, r->n_bias * sizeof(r->bias[0])),
        .seen = or_some(r->seen, r->n_seen * sizeof(r->seen[0])),
        .masks = device_copy(r->masks, r->n * (r->vocab / 32 + 1) * sizeof(r->masks[0])),
        .raw_bias = device_new(MAX_LIST * sizeof(float)),
        .raw_seen = device_new(MAX_LIST * sizeof(float)),
        .block_max = device_new(maxima),
        .block_sum = device_new(maxima),
        .tokens = device_copy(r->tokens, sizeof(r->tokens)),
        .ids = device_new(sizeof(r->ids)),
        .sampled = device_copy(r->sampled, sizeof(r->sampled)),
        .logprobs = device_new(sizeof(r->logprobs)),
    };
    if (r->n_top > 0)
        wait_well(gpu_sample_logprobs(stream, &a));
    if (r->n_bias + r->n_seen > 0)
        wait_well(gpu_sample_adjust(stream, &a));
    wait_well(gpu_sample_pick(stream, &a));
    device_read(r->ids, a.ids, r->n * sizeof(r->ids[0]));
    uint32_t sampled[MAX_CASES];
    device_read(sampled, a.sampled, r->n * sizeof(sampled[0]));
    for (uint32_t i = 0; i < r->n; i++)
        assert_int_equal(sampled[r->rows[i].row], r->ids[i]);
    device_read(r->logprobs, a.logprobs, r->n * sizeof(r->logprobs[0]));
    const void *all[] = {logits,     a.rows,    a.bias,     a.seen,      a.masks,
                         a.raw_bias, a.tokens,  a.raw_seen, a.block_max, a.block_sum,
                         a.ids,      a.sampled, a.logprobs};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        gpu_free(gpu, (void *)(uintptr_t)all[i]);
}

static void check_same(struct rows *r, const char *what)
{
    struct sampler_scratch scratch;
    assert_int_equal(sampler_scratch_init(&scratch, r->vocab), 0);
    uint32_t fed[MAX_CASES];
    memcpy(fed, r->sampled, sizeof(fed));
    sample_on_device(r);
    for (uint32_t i = 0; i < r->n; i++) {
        float *l = r->logits + (size_t)i * r->vocab;
        if (r->fed)
            sampler_accept(r->samplers[i], fed[i]);
        for (uint32_t t = 0; t < r->vocab && r->how[i].mask; t++)
            if (!(r->how[i].mask[t / 32] >> t % 32 & 1u))
                l[t] = -INFINITY;
        const uint32_t want = sampler_pick(r->samplers[i], l, &scratch, r->how[i].n_generated);
        if (r->ids[i] != want)
            fail_msg("%s, vocabulary %u, row %u: token %u, the host picks %u", what, r->vocab, i,
                     r->ids[i], want);
    }
    sampler_scratch_fini(&scratch);
    rows_free(r);
}

/* Vocabularies: less than a block, a short last block, several groups of blocks. */
static const uint32_t vocabularies[] = {37, 1000, 4997};

static void for_params(const char *what, const struct sampling_params *p, uint32_t n_params,
                       uint32_t n_seen)
{
    static const float spreads[] = {0.3f, 3.0f, 12.0f};
    for (size_t v = 0; v < ARRAY_LEN(vocabularies); v++) {
        struct rows *r = rows_new(vocabularies[v]);
        struct sampling_params seeded[MAX_CASES];
        for (uint32_t i = 0; i < n_params; i++)
            for (size_t s = 0; s < ARRAY_LEN(spreads); s++) {
                struct sampling_params *q = &seeded[r->n];
                *q = p[i];
                q->seed = 77000 + 1000003ull * r->n + ((uint64_t)r->n << 40);
                rows_add(r, q, spreads[s], n_seen);
            }
        check_same(r, what);
    }
}

static struct sampling_params with(float temperature, uint32_t top_k, float top_p, float min_p)
{
    struct sampling_params p = PLAIN;
    p.temperature = temperature;
    p.top_k = top_k;
    p.top_p = top_p;
    p.min_p = min_p;
    return p;
}

static void test_greedy_and_whole(void **state)
{
    (void)state;
    const struct sampling_params p[] = {with(0, 0, 1, 0),       with(1e-6f, 40, 0.5f, 0),
                                        with(1.0f, 0, 1, 0),    with(0.2f, 0, 1, 0),
                                        with(2.0f, 9999, 1, 0), with(0.7f, 0, 1, 0)};
    for_params("greedy and whole", p, ARRAY_LEN(p), 0);
}

static void test_cuts(void **state)
{
    (void)state;
    const struct sampling_params p[] = {with(1, 1, 1, 0),        with(1, 5, 1, 0),
                                        with(0.8f, 50, 0.9f, 0), with(1, 900, 0.99f, 0),
                                        with(1, 0, 0.9f, 0),     with(1.3f, 0, 0.999f, 0),
                                        with(1, 0, 0.01f, 0),    with(1, 0, 1, 0.05f),
                                        with(1, 0, 0.8f, 0.02f), with(0.6f, 20, 0.95f, 0.1f),
                                        with(1, 36, 1, 0),       with(1, 0, 0.5f, 1.0f)};
    for_params("cuts", p, ARRAY_LEN(p), 0);
}

static void test_penalties(void **state)
{
    (void)state;
    struct sampling_params p[4];
    for (size_t i = 0; i < ARRAY_LEN(p); i++)
        p[i] = with(i % 2 == 0 ? 0 : 0.9f, 0, i == 3 ? 0.9f : 1.0f, 0);
    p[0].repetition_penalty = 1.3f;
    p[1].presence_penalty = 1.5f;
    p[2].frequency_penalty = -0.7f;
    p[3].repetition_penalty = 0.8f;
    p[3].frequency_penalty = 0.3f;
    for_params("penalties", p, ARRAY_LEN(p), 24);
}

/* The last token is not known to the host: on the device it counts all the same, old or new. */
static void test_penalties_of_the_token_fed(void **state)
{
    (void)state;
    enum { N = 24, SEEN = 30 };
    for (size_t v = 0; v < ARRAY_LEN(vocabularies); v++) {
        struct rows *r = rows_new(vocabularies[v]);
        static struct sampling_params p[N];
        r->fed = true;
        r->n_top = v % 2 ? 4 : 0;
        for (uint32_t i = 0; i < N; i++) {
            p[i] = with(i % 2 == 0 ? 0 : 0.9f, 0, 1.0f, 0);
            p[i].presence_penalty = i % 3 == 0 ? 2.5f : 0;
            p[i].frequency_penalty = i % 3 == 1 ? 1.5f : 0;
            p[i].repetition_penalty = i % 3 == 2 ? 1.5f : 1.0f;
            p[i].seed = 31 + i;
            float *l = rows_add(r, &p[i], 2.0f, i < 4 ? 0 : SEEN);
            uint32_t best = 0;
            for (uint32_t t = 0; t < r->vocab; t++)
                best = l[t] > l[best] ? t : best;
            const uint32_t fed = i % 4 < 2 ? best : 7; /* one that decides; one that was seen */
            const uint32_t row = N - 1 - i;            /* see pack_row() */
            r->sampled[i] = fed;
            r->tokens[row] = i % 3 == 0 ? fed : GPU_SAMPLED | i;
        }
        check_same(r, "penalties of the token fed");
    }
}

static void test_bias_and_minimum(void **state)
{
    (void)state;
    static const struct logit_bias bias[] = {{3, 4.5f}, {17, -100.0f}, {36, 2.0f}};
    static const uint32_t ends[] = {0, 36};
    struct sampling_params p[3] = {with(0, 0, 1, 0), with(1, 0, 1, 0), with(1, 3, 1, 0)};
    for (size_t i = 0; i < ARRAY_LEN(p); i++) {
        p[i].logit_bias = bias;
        p[i].n_logit_bias = ARRAY_LEN(bias);
        p[i].eos_ids = p[i].stop_ids = ends;
        p[i].n_eos_ids = 2;
        p[i].n_stop_ids = 1;
        p[i].min_tokens = 20;
    }
    p[2].repetition_penalty = 1.1f;
    for_params("bias", p, ARRAY_LEN(p), 8);
}

static void test_odd_logits(void **state)
{
    (void)state;
    for (size_t v = 0; v < ARRAY_LEN(vocabularies); v++) {
        struct rows *r = rows_new(vocabularies[v]);
        static struct sampling_params p[4];
        p[0] = with(0, 0, 1, 0);
        p[1] = with(1, 0, 1, 0);
        p[2] = with(1, 7, 1, 0);
        p[3] = with(1, 0, 0.9f, 0);
        for (size_t i = 0; i < 6 * ARRAY_LEN(p); i++) {
            float *l = rows_add(r, &p[i % 4], 1.0f, 0);
            const size_t kind = i / 4;
            for (uint32_t t = 0; t < r->vocab; t++)
                l[t] = kind == 0   ? 1.0f /* all tie */
                       : kind == 1 ? NAN
                       : kind == 2 ? -INFINITY
                       : kind == 3 ? (t % 3 == 0 ? NAN : l[t])
                       : kind == 4 ? (t % 2 == 0 ? 0.0f : -0.0f)
                                   : (t == 30 ? INFINITY : l[t]);
        }
        check_same(r, "odd logits");
    }
}

static void test_masks(void **state)
{
    (void)state;
    static struct sampling_params p[4];
    struct rows *r = rows_new(1000);
    p[0] = with(0, 0, 1, 0);
    p[1] = with(1, 0, 1, 0);
    p[2] = with(1, 7, 1, 0);
    p[3] = with(1, 0, 0.9f, 0);
    for (uint32_t i = 0; i < ARRAY_LEN(p); i++) {
        uint32_t *mask = r->masks + i * (r->vocab / 32 + 1);
        rows_add(r, &p[i], 3.0f, 0);
        for (uint32_t t = 0; t < r->vocab; t += 1 + i * 13)
            mask[t / 32] |= 1u << t % 32;
        r->how[i].mask = mask;
    }
    check_same(r, "masks");
}

/* The same row, sampled with many seeds in several orders of threads. */
static void test_seeds(void **state)
{
    (void)state;
    for (uint64_t seed = 2; seed < 6; seed++) {
        struct rows *r = rows_new(700);
        static struct sampling_params p[8];
        stand_in_set_seed(seed);
        for (uint32_t i = 0; i < ARRAY_LEN(p); i++) {
            p[i] = with(1, i % 2 == 0 ? 0 : 60, 0.95f, 0);
            p[i].seed = seed * 1000 + i;
            rows_add(r, &p[i], 2.0f, i);
        }
        check_same(r, "seeds");
    }
}

/* --- log probabilities --- */

static double log_sum_exp(const float *l, uint32_t n)
{
    double max = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++)
        max = fmax(max, (double)l[i]);
    for (uint32_t i = 0; i < n; i++)
        sum += exp((double)l[i] - max);
    return max + log(sum);
}

/* Bias and penalties move the choice, and no log probability. */
static void test_logprobs(void **state)
{
    (void)state;
    static const struct logit_bias bias[] = {{5, 50.0f}};
    static struct sampling_params p[3];
    struct rows *r = rows_new(1000);
    r->n_top = 1 + SAMPLE_TOP_MAX;
    p[0] = with(0, 0, 1, 0);
    p[1] = with(1, 0, 0.9f, 0);
    p[1].repetition_penalty = 1.5f;
    p[2] = with(0, 0, 1, 0);
    p[2].logit_bias = bias;
    p[2].n_logit_bias = 1;
    for (uint32_t i = 0; i < ARRAY_LEN(p); i++)
        rows_add(r, &p[i], 4.0f, 5);
    r->logits[400] = r->logits[70] = r->logits[71] = 13.0f; /* a tie at the top */
    sample_on_device(r);
    assert_int_equal(r->ids[2], 5);
    for (uint32_t i = 0; i < r->n; i++) {
        const float *l = r->logits + (size_t)i * r->vocab;
        const struct sample_logprobs *got = &r->logprobs[i];
        const double lse = log_sum_exp(l, r->vocab);
        assert_near(got->chosen, (double)l[r->ids[i]] - lse, 2e-5, "chosen", i);
        assert_int_equal(got->n_top, SAMPLE_TOP_MAX);
        for (uint32_t k = 0; k < got->n_top; k++) {
            uint32_t rank = 0;
            const uint32_t id = got->top_ids[k];
            for (uint32_t t = 0; t < r->vocab; t++)
                rank += l[t] > l[id] || (l[t] == l[id] && t < id);
            assert_int_equal(rank, k);
            assert_near(got->top[k], (double)l[id] - lse, 2e-5, "top", k);
        }
    }
    rows_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_greedy_and_whole, open_device, close_device),
        cmocka_unit_test_setup_teardown(test_cuts, open_device, close_device),
        cmocka_unit_test_setup_teardown(test_penalties, open_device, close_device),
        cmocka_unit_test_setup_teardown(test_penalties_of_the_token_fed, open_device, close_device),
        cmocka_unit_test_setup_teardown(test_bias_and_minimum, open_device, close_device),
        cmocka_unit_test_setup_teardown(test_odd_logits, open_device, close_device),
        cmocka_unit_test_setup_teardown(test_masks, open_device, close_device),
        cmocka_unit_test_setup_teardown(test_seeds, open_device, close_device),
        cmocka_unit_test_setup_teardown(test_logprobs, open_device, close_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

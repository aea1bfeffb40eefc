/* Golden logits: our layer loop on the CPU backend against transformers on the same weights
 * (tests/golden/README.md), without scheduler or sampler.
 *
 * F32 arithmetic must agree to rounding. Quantized arithmetic must stay within a stated KL
 * divergence. Both must give the same bits however a prompt is cut into chunks, whatever else is in
 * the batch, and on any number of threads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/model/model.h"
#include "tests/golden/logits_golden.h"
#include "tests/unit/forward_rig.h"

#define MODEL_PATH  "models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define GOLDEN_PATH "tests/golden/data/smollm2_logits.bin"

/* A sanitizer makes the arithmetic thirty times slower and has seen it all after two short prompts;
 * each instruction set is the business of the operations' own tests then. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1, MAX_PROMPT = 13, MAX_GREEDY = 1, MAX_CHUNKED = 6 };
#else
enum { SANITIZED = 0, MAX_PROMPT = 512, MAX_GREEDY = 64, MAX_CHUNKED = 64 };
#endif

static struct model *model;
static struct logits_golden golden;

static void rig_open(struct rig *rig, enum compute_type compute, uint32_t n_threads,
                     struct engine_weights *shared)
{
    assert_true(rig_try(rig, model, compute, n_threads, "auto", shared));
}

/* Computes a golden prompt in chunks; copies the logits of its golden positions to out, and those
 * after its last token are the last (positions include it). */
static void prefill(struct rig *rig, uint32_t prompt, uint32_t chunk, struct sequence *s,
                    float *out)
{
    const struct logits_prompt *p = &golden.prompts[prompt];
    const size_t row_bytes = golden.vocab_size * sizeof(float);
    static struct step st;
    uint32_t next = 0; /* golden position */
    *s = (struct sequence){0};
    for (uint32_t at = 0; at < p->n_tokens;) {
        uint32_t n = p->n_tokens - at < chunk ? p->n_tokens - at : chunk;
        uint32_t first = next;
        st.batch = (struct batch){0};
        step_add(rig, &st, s, p->ids + at, n);
        at += n;
        for (; next < p->n_positions; next++) {
            uint32_t pos = logits_golden_position(&golden, prompt, next).position;
            if (pos >= at)
                break;
            step_want(&st, n - (at - pos));
        }
        step_run(rig, &st);
        for (uint32_t i = first; i < next; i++)
            memcpy(out + (size_t)i * golden.vocab_size, forward_logits(rig->forward, i - first),
                   row_bytes);
    }
    assert_int_equal(next, p->n_positions);
}

/* --- comparisons --- */

static double log_sum_exp(const float *l)
{
    float max = l[0];
    double sum = 0;
    for (uint32_t i = 1; i < golden.vocab_size; i++)
        max = l[i] > max ? l[i] : max;
    for (uint32_t i = 0; i < golden.vocab_size; i++)
        sum += exp((double)l[i] - max);
    return max + log(sum);
}

/* Largest |difference| over the golden top logits and the log-sum-exp. */
static double max_delta(const struct logits_position *g, const float *l)
{
    double worst = fabs(log_sum_exp(l) - g->lse);
    for (uint32_t i = 0; i < golden.top_k; i++)
        worst = fmax(worst, fabs((double)l[g->top_ids[i]] - g->top_logits[i]));
    return worst;
}

/* KL(golden || ours) of the distributions over the golden top tokens and "all others". */
static double kl_divergence(const struct logits_position *g, const float *l)
{
    double lse = log_sum_exp(l), kl = 0, p_rest = 1, q_rest = 1;
    for (uint32_t i = 0; i < golden.top_k; i++) {
        double log_p = (double)g->top_logits[i] - g->lse;
        double log_q = l[g->top_ids[i]] - lse;
        kl += exp(log_p) * (log_p - log_q);
        p_rest -= exp(log_p);
        q_rest -= exp(log_q);
    }
    if (p_rest > 1e-9)
        kl += p_rest * log(p_rest / fmax(q_rest, 1e-12));
    return kl;
}

static uint32_t argmax(const float *l)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < golden.vocab_size; i++)
        if (l[i] > l[best])
            best = i;
    return best;
}

/* --- tests --- */

static int open_files(void **state)
{
    (void)state;
    struct err e = {0};
    if (logits_golden_open(&golden, GOLDEN_PATH, &e) || model_open(MODEL_PATH, &model, &e)) {
        print_error("%s (run from the repository's root; `make model` fetches the model)\n", e.msg);
        return -1;
    }
    if (golden.vocab_size != model->hparams.vocab_size || golden.top_k > MAX_OUT ||
        golden.n_prompts > MAX_OUT) {
        print_error("%s is not of this model\n", GOLDEN_PATH);
        return -1;
    }
    return 0;
}

static int close_files(void **state)
{
    (void)state;
    model_free(model);
    logits_golden_close(&golden);
    return 0;
}

static uint32_t prompt_named(const char *label)
{
    uint32_t i = 0;
    while (i < golden.n_prompts && strcmp(golden.prompts[i].label, label) != 0)
        i++;
    assert_true(i < golden.n_prompts);
    return i;
}

static float *logits_rows(uint32_t n)
{
    float *l = malloc((size_t)n * golden.vocab_size * sizeof(*l));
    assert_non_null(l);
    return l;
}

/* All continuations at once, one row per sequence and step: what else is in a batch does not
 * change a row. */
static void check_continuations(struct rig *rig, struct sequence *seqs, uint32_t *next)
{
    static struct step st;
    for (uint32_t t = 0; t < golden.n_greedy && t < MAX_GREEDY; t++) {
        st.batch = (struct batch){0};
        for (uint32_t i = 0; i < golden.n_prompts; i++) {
            if (golden.prompts[i].n_tokens > MAX_PROMPT)
                continue;
            if (next[i] != golden.prompts[i].greedy_ids[t])
                fail_msg("prompt '%s': token %u of the continuation is %u, not %u (margin %g)",
                         golden.prompts[i].label, t, next[i], golden.prompts[i].greedy_ids[t],
                         (double)golden.prompts[i].greedy_margin[t]);
            step_want(&st, st.batch.n_rows);
            step_add(rig, &st, &seqs[i], &next[i], 1);
        }
        step_run(rig, &st);
        for (uint32_t i = 0, row = 0; i < golden.n_prompts; i++)
            if (golden.prompts[i].n_tokens <= MAX_PROMPT)
                next[i] = argmax(forward_logits(rig->forward, row++));
    }
}

/* The same prompts cut differently, on one and on two threads: the same bits as in one piece. */
static void check_equivalence(struct rig *whole, enum compute_type compute)
{
    static const struct {
        uint32_t n_threads, chunk;
    } ways[] = {{1, MAX_ROWS}, {2, MAX_ROWS}, {2, 16}, {1, 1}};
    static const char *const labels[] = {"fox", "once", "paris", "harbour-half"};
    enum { N = ARRAY_LEN(labels) };
    float *want[N], *l = logits_rows(MAX_OUT);
    struct sequence seq;
    for (uint32_t k = 0; k < N; k++) {
        want[k] = logits_rows(MAX_OUT);
        prefill(whole, prompt_named(labels[k]), MAX_ROWS, &seq, want[k]);
    }
    for (size_t w = 0; w < ARRAY_LEN(ways); w++) {
        struct rig rig;
        rig_open(&rig, compute, ways[w].n_threads, whole->weights);
        for (uint32_t k = 0; k < N; k++) {
            const struct logits_prompt *p = &golden.prompts[prompt_named(labels[k])];
            if (p->n_tokens > (ways[w].chunk == 1 ? MAX_CHUNKED : MAX_PROMPT))
                continue; /* row by row is slow */
            prefill(&rig, prompt_named(labels[k]), ways[w].chunk, &seq, l);
            if (memcmp(want[k], l, p->n_positions * golden.vocab_size * sizeof(*l)) != 0)
                fail_msg("prompt '%s' on %u threads in chunks of %u has other logits", labels[k],
                         ways[w].n_threads, ways[w].chunk);
        }
        rig_close(&rig);
    }
    for (uint32_t k = 0; k < N; k++)
        free(want[k]);
    free(l);
}

static void test_f32_is_transformers(void **state)
{
    (void)state;
    struct rig rig;
    static struct sequence seqs[MAX_OUT];
    uint32_t next[MAX_OUT] = {0};
    float *l = logits_rows(MAX_OUT);
    double worst = 0;
    rig_open(&rig, COMPUTE_F32, 0, NULL);
    for (uint32_t i = 0; i < golden.n_prompts; i++) {
        uint32_t n = golden.prompts[i].n_positions;
        if (golden.prompts[i].n_tokens > MAX_PROMPT)
            continue;
        prefill(&rig, i, MAX_ROWS, &seqs[i], l);
        for (uint32_t j = 0; j < n; j++) {
            struct logits_position g = logits_golden_position(&golden, i, j);
            worst = fmax(worst, max_delta(&g, l + (size_t)j * golden.vocab_size));
        }
        next[i] = argmax(l + (size_t)(n - 1) * golden.vocab_size);
    }
    print_message("F32: largest difference %.2e\n", worst);
    assert_true(worst <= 1e-3);
    check_continuations(&rig, seqs, next);
    rig.next_block = 0;
    if (!SANITIZED) /* the quantized one below takes the same paths */
        check_equivalence(&rig, COMPUTE_F32);
    rig_close(&rig);
    free(l);
}

/* Bounds: what was measured, with modest headroom (core/engine/README.md). */
static const double KL_MEAN_MAX = 0.006, KL_MAX = 0.08;

static void test_quantized_is_close(void **state)
{
    (void)state;
    struct rig rig;
    struct sequence seq;
    float *l = logits_rows(MAX_OUT);
    double sum = 0, worst = 0;
    uint32_t n = 0, n_same_best = 0;
    rig_open(&rig, COMPUTE_AUTO, 0, NULL);
    for (uint32_t i = 0; i < golden.n_prompts; i++) {
        if (golden.prompts[i].n_tokens > MAX_PROMPT)
            continue;
        prefill(&rig, i, MAX_ROWS, &seq, l);
        for (uint32_t j = 0; j < golden.prompts[i].n_positions; j++) {
            struct logits_position g = logits_golden_position(&golden, i, j);
            const float *row = l + (size_t)j * golden.vocab_size;
            double kl = kl_divergence(&g, row);
            sum += kl;
            worst = fmax(worst, kl);
            n_same_best += argmax(row) == g.top_ids[0];
            n++;
        }
    }
    print_message("quantized (%s): KL mean %.5f, max %.4f; same best token at %u of %u positions\n",
                  cpu_backend_isa(rig.be), sum / n, worst, n_same_best, n);
    assert_true(sum / n <= KL_MEAN_MAX);
    assert_true(worst <= KL_MAX);
    rig.next_block = 0;
    check_equivalence(&rig, COMPUTE_AUTO);
    rig_close(&rig);
    free(l);
}

/* One short prompt on every instruction set that this machine has. */
static void test_same_bits_on_every_isa(void **state)
{
    (void)state;
    static const char *const isas[] = {"portable", "avx2", "avx512"};
    static const enum compute_type computes[] = {COMPUTE_F32, COMPUTE_AUTO};
    const uint32_t prompt = prompt_named("fox");
    if (SANITIZED)
        skip();
    float *want = logits_rows(MAX_OUT), *l = logits_rows(MAX_OUT);
    for (size_t c = 0; c < ARRAY_LEN(computes); c++)
        for (size_t i = 0; i < ARRAY_LEN(isas); i++) {
            struct rig rig;
            struct sequence seq;
            if (!rig_try(&rig, model, computes[c], 0, isas[i], NULL))
                continue;
            prefill(&rig, prompt, MAX_ROWS, &seq, i == 0 ? want : l);
            if (i > 0 &&
                memcmp(want, l,
                       golden.prompts[prompt].n_positions * golden.vocab_size * sizeof(*l)) != 0)
                fail_msg("%s has other logits than portable C", cpu_backend_isa(rig.be));
            rig_close(&rig);
        }
    free(want);
    free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32_is_transformers),
        cmocka_unit_test(test_quantized_is_close),
        cmocka_unit_test(test_same_bits_on_every_isa),
    };
    return cmocka_run_group_tests(tests, open_files, close_files);
}

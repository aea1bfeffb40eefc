/* Every architecture and option against transformers: tiny models in Hugging Face form and as GGUF
 * (tests/golden/README.md), through model_open and the layer loop on the CPU backend.
 *
 * F32 arithmetic must agree to rounding. With the arithmetic of serving, the logits stay within a
 * stated bound. Both give the same bits however the prompt is cut, whatever else is in the batch,
 * on any number of threads and any instruction set. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/model/model.h"
#include "tests/golden/tiny_golden.h"
#include "tests/unit/forward_rig.h"

#define FOLDER "tests/golden/data/tiny"

static struct tiny_golden golden;

static int open_golden(void **state)
{
    struct err e = {0};
    (void)state;
    if (tiny_golden_open(&golden, FOLDER "/logits.bin", &e) == 0 && golden.n_prompt <= MAX_OUT)
        return 0;
    print_error("%s (run from the repository's root)\n", e.msg);
    return -1;
}

static int close_golden(void **state)
{
    (void)state;
    file_map_close(&golden.map);
    return 0;
}

static struct model *open_tiny(const char *name, const char *suffix)
{
    char path[128];
    struct model *m;
    struct err e = {0};
    snprintf(path, sizeof(path), FOLDER "/%s%s", name, suffix);
    must(model_open(path, &m, &e), &e);
    assert_int_equal(m->hparams.vocab_size, golden.vocab_size);
    return m;
}

static size_t all_bytes(void)
{
    return (size_t)golden.n_prompt * golden.vocab_size * sizeof(float);
}

static float *all_logits(void)
{
    float *l = malloc(all_bytes());
    assert_non_null(l);
    return l;
}

/* Logits of every position of the prompt; a second sequence with the prompt's ids from the back
 * runs beside it, when that is asked for. */
static void run_prompt(struct rig *rig, const uint32_t *ids, uint32_t chunk, bool company,
                       float *out)
{
    static struct step st;
    struct sequence seq = {0}, other = {0};
    uint32_t back[MAX_OUT];
    const uint32_t total = golden.n_prompt;
    rig->next_block = 0;
    for (uint32_t i = 0; i < total; i++)
        back[i] = ids[total - 1 - i];
    for (uint32_t at = 0, n; at < total; at += n) {
        n = total - at < chunk ? total - at : chunk;
        st.batch = (struct batch){0};
        if (company)
            step_add(rig, &st, &other, back + at, n);
        for (uint32_t i = 0; i < n; i++)
            step_want(&st, st.batch.n_rows + i);
        step_add(rig, &st, &seq, ids + at, n);
        step_run(rig, &st);
        for (uint32_t i = 0; i < n; i++)
            memcpy(out + (size_t)(at + i) * golden.vocab_size, forward_logits(rig->forward, i),
                   golden.vocab_size * sizeof(float));
    }
}

static double max_delta(const struct tiny_golden_model *g, const float *l)
{
    double worst = 0;
    for (uint32_t i = 0; i < golden.n_positions; i++)
        for (uint32_t t = 0; t < golden.vocab_size; t++) {
            const double want = g->logits[(size_t)i * golden.vocab_size + t];
            const double got = l[(size_t)golden.positions[i] * golden.vocab_size + t];
            if (!(fabs(got - want) <= worst)) /* a NaN is the worst */
                worst = fabs(got - want);
        }
    return worst;
}

static double delta_of(const struct model *m, const struct tiny_golden_model *g,
                       enum compute_type c)
{
    struct rig rig;
    float *l = all_logits();
    assert_true(rig_try(&rig, m, c, 1, "auto", NULL));
    run_prompt(&rig, g->ids, golden.n_prompt, false, l);
    const double worst = max_delta(g, l);
    rig_close(&rig);
    free(l);
    return worst;
}

static void test_folders(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < golden.n_models; i++) {
        const struct tiny_golden_model g = tiny_golden_model(&golden, i);
        struct model *m = open_tiny(g.name, "");
        const double f32 = delta_of(m, &g, COMPUTE_F32), served = delta_of(m, &g, COMPUTE_AUTO);
        print_message("%-15s largest difference %.1e, as served %.1e\n", g.name, f32, served);
        assert_true(f32 <= 1e-3);
        assert_true(served <= 3e-2); /* measured: 1.8e-2; F16 keys and values */
        model_free(m);
    }
}

static struct tiny_golden_model golden_of(const char *name)
{
    for (uint32_t i = 0; i < golden.n_models; i++) {
        const struct tiny_golden_model g = tiny_golden_model(&golden, i);
        if (strcmp(g.name, name) == 0)
            return g;
    }
    fail_msg("no golden of %s", name);
    abort();
}

static void test_gguf_twins(void **state)
{
    static const char *const names[] = {"llama-llama3", "llama-yarn", "qwen2", "qwen3"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const struct tiny_golden_model g = golden_of(names[i]);
        struct model *m = open_tiny(names[i], ".gguf");
        const double f32 = delta_of(m, &g, COMPUTE_F32);
        print_message("%s.gguf: largest difference %.1e\n", names[i], f32);
        assert_true(f32 <= 1e-3);
        model_free(m);
    }
}

/* --- each option is seen by the goldens --- */

static void plain_rope(struct model *m)
{
    const struct hparams *h = &m->hparams;
    for (uint32_t i = 0; i < h->head_dim / 2; i++)
        m->inv_freq[i] = pow(h->rope_theta, -2.0 * i / h->head_dim);
}

static void plain_scale(struct model *m)
{
    m->rope_scale = 1;
}

static void no_windows(struct model *m)
{
    memset(m->layer_windows, 0, m->hparams.n_layers * sizeof(*m->layer_windows));
}

static void window_one_less(struct model *m)
{
    m->layer_windows[m->hparams.n_layers - 1]--;
}

static void window_everywhere(struct model *m)
{
    m->layer_windows[0] = m->layer_windows[1];
}

static void no_q_bias(struct model *m)
{
    m->weights.layers[1].q_bias.data = NULL;
}

static void no_k_bias(struct model *m)
{
    /* The same amount on every score of a query cancels out, but not once it is rotated. */
    m->weights.layers[1].k_bias.data = NULL;
}

static void no_v_bias(struct model *m)
{
    m->weights.layers[1].v_bias.data = NULL;
}

static void no_o_bias(struct model *m)
{
    m->weights.layers[0].o_bias.data = NULL;
}

static void no_head_norms(struct model *m)
{
    m->weights.layers[0].q_norm.data = m->weights.layers[0].k_norm.data = NULL;
}

static void test_each_option_matters(void **state)
{
    static const struct {
        const char *model;
        void (*take_away)(struct model *m);
    } cases[] = {
        {"llama-gqa-bias", no_q_bias},
        {"llama-gqa-bias", no_k_bias},
        {"llama-gqa-bias", no_v_bias},
        {"llama-gqa-bias", no_o_bias},
        {"llama-llama3", plain_rope},
        {"llama-linear", plain_rope},
        {"llama-yarn", plain_rope},
        {"llama-yarn", plain_scale},
        {"mistral-window", no_windows},
        {"mistral-window", window_one_less},
        {"qwen2-window", no_windows},
        {"qwen2-window", window_one_less},
        {"qwen2-window", window_everywhere},
        {"qwen2-yarn", plain_rope},
        {"qwen2-yarn", plain_scale},
        {"qwen2", no_q_bias},
        {"qwen2", no_v_bias},
        {"qwen3", no_head_norms},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct tiny_golden_model g = golden_of(cases[i].model);
        struct model *m = open_tiny(cases[i].model, "");
        cases[i].take_away(m);
        const double worst = delta_of(m, &g, COMPUTE_F32);
        if (!(worst > 0.02))
            fail_msg("case %zu (%s): the goldens do not see it (%.1e)", i, cases[i].model, worst);
        model_free(m);
    }
}

/* --- the same bits, however it is computed --- */

static void check_equivalence(const struct model *m, const uint32_t *ids, enum compute_type c)
{
    static const struct {
        const char *isa;
        uint32_t n_threads, chunk;
        bool company;
    } ways[] = {{"auto", 2, 1, false},   {"auto", 3, 16, true},  {"auto", 1, 7, true},
                {"avx512", 2, 90, true}, {"avx2", 2, 16, false}, {"portable", 2, 37, true},
                {"auto", 2, 90, false}};
    struct rig whole, rig;
    float *want = all_logits(), *got = all_logits();
    assert_true(rig_try(&whole, m, c, 1, "auto", NULL));
    run_prompt(&whole, ids, golden.n_prompt, false, want);
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        if (!rig_try(&rig, m, c, ways[i].n_threads, ways[i].isa, whole.weights))
            continue;
        memset(got, 0xff, all_bytes());
        run_prompt(&rig, ids, ways[i].chunk, ways[i].company, got);
        rig_close(&rig);
        if (memcmp(got, want, all_bytes()) != 0)
            fail_msg("%s: %s, %u threads, chunks of %u: other bits", m->path, ways[i].isa,
                     ways[i].n_threads, ways[i].chunk);
    }
    rig_close(&whole);
    free(want);
    free(got);
}

static void test_same_bits(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < golden.n_models; i++) {
        const struct tiny_golden_model g = tiny_golden_model(&golden, i);
        struct model *m = open_tiny(g.name, "");
        check_equivalence(m, g.ids, COMPUTE_F32);
        check_equivalence(m, g.ids, COMPUTE_AUTO);
        model_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_gguf_twins),
        cmocka_unit_test(test_each_option_matters),
        cmocka_unit_test(test_same_bits),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}

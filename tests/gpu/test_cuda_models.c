/* The CUDA backend, end to end on the host stand-in: tiny models of every architecture and option
 * through the engine's layer loop, against transformers' logits (tests/golden), whole and in chunks,
 * alone and in company, with the kernels of newer and of older devices. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "gpu/cuda.h"
#include "gpu/cuda_int.h"
#include "tests/gpu/host/control.h"
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

static struct model *open_tiny(const char *name)
{
    char path[128];
    struct model *m;
    struct err e = {0};
    snprintf(path, sizeof(path), FOLDER "/%s", name);
    must(model_open(path, &m, &e), &e);
    return m;
}

static void open_rig(struct rig *rig, const struct model *m, uint32_t capability, bool pin)
{
    const struct cuda_opts o = {
        .force_capability = capability, .pin_kernels = pin, .host_logits = true};
    struct backend *be;
    struct err e = {0};
    stand_in_set_capability(90);
    stand_in_set_memory(1u << 30);
    must(cuda_backend_new(&o, &be, &e), &e);
    rig_init(rig, be, m, NULL);
}

static size_t logit_bytes(void)
{
    return golden.vocab_size * sizeof(float);
}

/* Logits of every position of the prompt, in chunks; a second sequence runs beside it, when that is
 * asked for. */
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
                   logit_bytes());
    }
}

static float *all_logits(void)
{
    float *l = malloc(golden.n_prompt * logit_bytes());
    assert_non_null(l);
    return l;
}

/* Root of the mean square difference to the golden logits, and of the logits themselves. */
static double rms_delta(const struct tiny_golden_model *g, const float *l, double *out_rms)
{
    double sum = 0, squares = 0;
    const size_t n = (size_t)golden.n_positions * golden.vocab_size;
    for (uint32_t i = 0; i < golden.n_positions; i++)
        for (uint32_t t = 0; t < golden.vocab_size; t++) {
            const double want = g->logits[(size_t)i * golden.vocab_size + t];
            const double d = l[(size_t)golden.positions[i] * golden.vocab_size + t] - want;
            sum += d * d;
            squares += want * want;
        }
    *out_rms = sqrt(squares / (double)n);
    return sqrt(sum / (double)n);
}

/* The first n tiny models; bound: of the error, relative to the spread of the logits. */
static void check_models(uint32_t n, uint32_t capability, uint32_t chunk, double bound)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct tiny_golden_model g = tiny_golden_model(&golden, i);
        struct model *m = open_tiny(g.name);
        struct rig rig;
        float *l = all_logits();
        double spread;
        open_rig(&rig, m, capability, false);
        run_prompt(&rig, g.ids, chunk, false, l);
        const double delta = rms_delta(&g, l, &spread);
        print_message("%-15s error %.4f of logits' %.2f\n", g.name, delta, spread);
        if (!(delta <= bound * spread))
            fail_msg("%s: error %.4f of %.2f", g.name, delta, spread);
        rig_close(&rig);
        free(l);
        model_free(m);
    }
}

static void test_prompts(void **state)
{
    (void)state;
    check_models(golden.n_models, 90, golden.n_prompt, 0.02);
}

static void test_decodes(void **state)
{
    (void)state;
    check_models(2, 90, 1, 0.02);
}

/* F16 has eight times the precision of BF16. */
static void test_kernels_of_older_devices(void **state)
{
    (void)state;
    check_models(golden.n_models, 75, 40, 0.004);
}

/* With pinned kernels every position has the same bits, whatever the chunk and the company. */
static void test_pinned_kernels(void **state)
{
    static const char *const names[] = {"qwen3", "mistral-window"};
    static const struct {
        uint32_t chunk;
        bool company;
    } ways[] = {{29, false}, {40, true}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct model *m = open_tiny(names[i]);
        struct rig rig;
        float *want = all_logits(), *got = all_logits();
        const uint32_t *ids = tiny_golden_model(&golden, 0).ids;
        open_rig(&rig, m, 90, true);
        run_prompt(&rig, ids, golden.n_prompt, false, want);
        for (size_t k = 0; k < ARRAY_LEN(ways); k++) {
            stand_in_set_seed(k + 5);
            run_prompt(&rig, ids, ways[k].chunk, ways[k].company, got);
            assert_memory_equal(got, want, golden.n_prompt * logit_bytes());
        }
        rig_close(&rig);
        free(want);
        free(got);
        model_free(m);
    }
}

/* Without, a sequence beside others is near what it is alone. */
static void test_company(void **state)
{
    const struct tiny_golden_model g = tiny_golden_model(&golden, 0);
    struct model *m = open_tiny(g.name);
    struct rig rig;
    float *l = all_logits();
    double spread;
    (void)state;
    open_rig(&rig, m, 90, false);
    run_prompt(&rig, g.ids, 9, true, l);
    assert_true(rms_delta(&g, l, &spread) <= 0.02 * spread);
    rig_close(&rig);
    free(l);
    model_free(m);
}

/* A kernel that never ends fails the step after the time-out, and the backend lets go of it all. */
static void test_a_device_that_hangs(void **state)
{
    static const uint32_t table[] = {0}, zero[] = {0};
    const struct cuda_opts o = {.step_timeout_us = 2000};
    const struct tiny_golden_model g = tiny_golden_model(&golden, 0);
    struct model *m = open_tiny(g.name);
    const struct batch_seq seq = {.n_rows = 1, .block_table = table};
    const struct batch b = {
        .n_rows = 1, .tokens = g.ids, .positions = zero, .slots = zero, .n_seqs = 1, .seqs = &seq};
    struct backend *be;
    struct rig rig;
    struct err e = {0};
    (void)state;
    must(cuda_backend_new(&o, &be, &e), &e);
    rig_init(&rig, be, m, NULL);
    must(forward_step(rig.forward, &b, &e), &e);
    stand_in_stall(((struct cuda_backend *)be)->gpu);
    assert_int_equal(forward_step(rig.forward, &b, &e), -LLMD_EPOISONED);
    rig_close(&rig);
    model_free(m);
}

/* What cannot be served is refused with its reason. */
static void test_refusals(void **state)
{
    const struct cuda_opts none = {.device = 3}, newer = {.force_capability = 90};
    struct backend *be;
    struct err e = {0};
    (void)state;
    stand_in_set_capability(80);
    assert_int_equal(cuda_backend_new(&none, &be, &e), -LLMD_EUNSUPPORTED);
    assert_non_null(strstr(e.msg, "cuda:3"));
    err_clear(&e);
    assert_int_equal(cuda_backend_new(&newer, &be, &e), -LLMD_EINVAL);
    stand_in_set_capability(0);
    err_clear(&e);
    assert_int_equal(cuda_backend_new(&(struct cuda_opts){0}, &be, &e), -LLMD_EUNSUPPORTED);
    assert_non_null(strstr(e.msg, "driver"));

    /* a device without room for the KV cache */
    struct attn_shape s = {.n_layers = 2, .n_heads = 2, .n_kv_heads = 1, .head_dim = 64};
    const struct backend_limits limits = {.max_rows = 4, .max_seqs = 4, .max_out = 4};
    const double freqs[32] = {1};
    s.max_context = 64;
    s.inv_freq = freqs;
    stand_in_set_capability(90);
    stand_in_set_memory(1 << 20);
    err_clear(&e);
    must(cuda_backend_new(&(struct cuda_opts){0}, &be, &e), &e);
    assert_int_equal(be->ops->reserve(be, &s, &limits, 1000, &e), -LLMD_ENOMEM);
    assert_non_null(strstr(e.msg, "1000 blocks"));
    be->ops->free(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_decodes),
        cmocka_unit_test(test_kernels_of_older_devices),
        cmocka_unit_test(test_pinned_kernels),
        cmocka_unit_test(test_company),
        cmocka_unit_test(test_a_device_that_hangs),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}

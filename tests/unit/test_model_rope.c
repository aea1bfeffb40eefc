/* test_model_rope.c - rotary frequencies of every kind of scaling against transformers
 * (tests/golden/gen_rope.py), and the keys of GGUF files that ask for them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/model/model.h"
#include "core/model/model_int.h"
#include "core/util/fsio.h"
#include "core/util/json.h"
#include "tests/unit/model_sample.h"

#define GOLDEN_PATH "tests/golden/data/rope.json"

static double number_or(const json_t *o, const char *key, double otherwise)
{
    const json_t *v = json_object_get(o, key);
    return v ? json_number_value(v) : otherwise;
}

static enum rope_scaling kind_of(const char *name)
{
    return strcmp(name, "linear") == 0   ? ROPE_SCALING_LINEAR
           : strcmp(name, "llama3") == 0 ? ROPE_SCALING_LLAMA3
           : strcmp(name, "yarn") == 0   ? ROPE_SCALING_YARN
                                         : ROPE_SCALING_NONE;
}

static void case_model(const json_t *c, struct model *m)
{
    struct hparams *h = &m->hparams;
    *m = (struct model){0};
    h->head_dim = (uint32_t)number_or(c, "head_dim", 0);
    h->rope_theta = (float)number_or(c, "theta", 0);
    h->rope_scaling = kind_of(json_string_value(json_object_get(c, "kind")));
    h->scaling = (struct rope_scaling_params){
        .factor = (float)number_or(c, "factor", 1),
        .original_context = (uint32_t)number_or(c, "orig", 0),
        .low_freq_factor = (float)number_or(c, "low", 0),
        .high_freq_factor = (float)number_or(c, "high", 0),
        .beta_fast = (float)number_or(c, "beta_fast", 32),
        .beta_slow = (float)number_or(c, "beta_slow", 1),
        .attention_factor = (float)number_or(c, "attention_factor", 0),
        .truncate = !json_is_false(json_object_get(c, "truncate")),
    };
}

static void test_as_transformers(void **state)
{
    struct file_map map;
    struct err e = {0};
    json_t *cases;
    (void)state;
    assert_int_equal(file_map_open(&map, GOLDEN_PATH, &e), 0);
    assert_int_equal(json_parse(map.data, map.size_bytes, &cases, &e), 0);
    assert_true(json_array_size(cases) >= 10);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i), *want = json_object_get(c, "inv_freq");
        struct model m;
        case_model(c, &m);
        assert_int_equal(model_set_rope(&m, NULL, &e), 0);
        assert_int_equal(json_array_size(want), m.hparams.head_dim / 2);
        for (size_t k = 0; k < json_array_size(want); k++) {
            const double freq = json_number_value(json_array_get(want, k));
            if (!(fabs(m.inv_freq[k] - freq) <= 2e-6 * freq)) /* theirs are of float32 */
                fail_msg("case %zu, pair %zu: %.9g, not %.9g", i, k, m.inv_freq[k], freq);
        }
        assert_true(fabs((double)m.rope_scale - number_or(c, "scale", 0)) < 1e-6);
        free(m.inv_freq);
    }
    json_decref(cases);
    file_map_close(&map);
}

static void test_theta_of_one(void **state)
{
    static char path[] = "mem";
    struct model m = {.path = path, .hparams = {.head_dim = 4, .rope_theta = 1}};
    struct err e = {0};
    (void)state;
    m.hparams.rope_scaling = ROPE_SCALING_YARN;
    assert_int_equal(model_set_rope(&m, NULL, &e), -LLMD_EUNSUPPORTED);
    assert_string_equal(e.msg, "mem: YaRN needs a rope theta above 1, not 1");
    assert_null(m.inv_freq);
}

static struct model *open_with(struct gguf_writer *w, struct buf *file)
{
    struct model *m = NULL;
    struct err e = {0};
    if (open_model(w, file, &m, &e))
        fail_msg("%s", e.msg);
    return m;
}

static void assert_near(double got, double want)
{
    assert_true(fabs(got - want) <= 1e-6 * fabs(want));
}

/* Heads of 6 elements turn three pairs, with theta 100,000. */
static const double plain[] = {1, 0.021544346900318843, 0.00046415888336127795};

static void test_rope_keys(void **state)
{
    static const uint64_t three[] = {3};
    static const float divisors[] = {1, 2, 8};
    struct buf file = {0};
    (void)state;

    struct gguf_writer w = {0};
    sample_model(&w, NULL);
    struct model *m = open_with(&w, &file);
    for (int i = 0; i < 3; i++)
        assert_near(m->inv_freq[i], plain[i]);
    assert_true(m->rope_scale == 1 && !m->layer_windows);
    model_free(m);
    buf_fini(&file);

    w = (struct gguf_writer){0}; /* files of before rope.scaling.type: a factor alone */
    sample_model(&w, NULL);
    gw_f32(&w, "llama.rope.scale_linear", 4);
    gw_u32(&w, "llama.attention.sliding_window", 100);
    m = open_with(&w, &file);
    assert_int_equal(m->hparams.rope_scaling, ROPE_SCALING_LINEAR);
    assert_near(m->inv_freq[1], plain[1] / 4);
    assert_true(m->layer_windows[0] == 100 && m->layer_windows[1] == 100);
    model_free(m);
    buf_fini(&file);

    w = (struct gguf_writer){0};
    sample_model(&w, NULL);
    gw_str(&w, "llama.rope.scaling.type", "none");
    gw_f32(&w, "llama.rope.scaling.factor", 4);
    gw_u32(&w, "llama.attention.sliding_window", 0);
    gw_tensor(&w, "rope_freqs.weight", 1, three, GW_F32, sizeof(divisors));
    memcpy(w.data.data + w.data.len - sizeof(divisors), divisors, sizeof(divisors));
    m = open_with(&w, &file);
    for (int i = 0; i < 3; i++)
        assert_near(m->inv_freq[i], plain[i] / (double)divisors[i]);
    assert_null(m->layer_windows);
    model_free(m);
    buf_fini(&file);

    w = (struct gguf_writer){0};
    sample_model(&w, NULL);
    gw_str(&w, "llama.rope.scaling.type", "yarn");
    gw_f32(&w, "llama.rope.scaling.factor", 8);
    gw_u32(&w, "llama.rope.scaling.original_context_length", 64);
    gw_f32(&w, "llama.rope.scaling.attn_factor", 0.5f);
    gw_f32(&w, "llama.rope.scaling.yarn_beta_fast", 16);
    gw_bool(&w, "llama.rope.scaling.finetuned", 1);
    m = open_with(&w, &file);
    assert_true(m->hparams.scaling.beta_fast == 16 && m->hparams.scaling.beta_slow == 1);
    assert_int_equal(m->hparams.scaling.original_context, 64);
    assert_near(m->rope_scale, 0.5 * (1 + 0.1 * log(8)));
    assert_near(m->inv_freq[0], plain[0]);
    assert_near(m->inv_freq[2], plain[2] / 8);
    model_free(m);
    buf_fini(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_transformers),
        cmocka_unit_test(test_theta_of_one),
        cmocka_unit_test(test_rope_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

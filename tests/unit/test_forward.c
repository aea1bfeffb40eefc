/* The layer loop against a backend that writes down what it is asked to do. */
#include "tests/unit/recording_backend.h"

#define LAYER_KV(plus, l) "norm vec:an" plus " 8>8\nmul lin:q:k:v 8>16\nrope " l " 16\n"
#define LAYER_REST(l)                                                                              \
    "attn " l " 16>8\nmul lin:o 8>8\nnorm vec:fn + 8>8\nmul gu:g:u 8>12\nmul lin:d 12>8\n"

static void test_order_of_operations(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    uint32_t out_rows[2] = {1, 4};
    struct batch b = {.n_rows = 5, .n_out = 2, .out_rows = out_rows};
    assert_int_equal(forward_step(f.forward, &b, NULL), 0);
    assert_string_equal(buf_str(&f.rec.log),
                        "begin 5\nembed emb:embed 8\n" LAYER_KV("", "0") LAYER_REST("0")
                            LAYER_KV(" +", "1")
                                LAYER_REST("1") "norm vec:final + 8>8\ngather 8>8\n"
                                                "head vec:final emb:embed 8>20\nfinish\n");
    assert_ptr_equal(forward_logits(f.forward, 1), forward_logits(f.forward, 0) + VOCAB);
    assert_false(forward_has_sampler(f.forward));
    teardown(&f);
}

static void test_a_step_without_logits_ends_at_the_last_kv_write(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    struct batch b = {.n_rows = 6};
    assert_int_equal(forward_step(f.forward, &b, NULL), 0);
    assert_string_equal(buf_str(&f.rec.log), "begin 6\nembed emb:embed 8\n" LAYER_KV("", "0")
                                                 LAYER_REST("0") LAYER_KV(" +", "1") "finish\n");
    teardown(&f);
}

static void test_every_failing_operation_is_reported(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    uint32_t out_rows[1] = {0};
    struct batch b = {.n_rows = 1, .n_out = 1, .out_rows = out_rows};
    int n_ops = 0;
    for (;; n_ops++) {
        struct err e = {0};
        f.rec.fail_at = n_ops + 1;
        int rc = forward_step(f.forward, &b, &e);
        if (rc == 0)
            break;
        assert_int_equal(rc, -LLMD_EGPU);
        assert_int_equal(e.code, LLMD_EGPU);
        assert_non_null(strstr(e.msg, "step of 1 rows"));
    }
    assert_int_equal(n_ops, 2 + 2 * 8 + 4);
    teardown(&f);
}

static void test_attn_shape(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    assert_int_equal(f.shape.n_layers, N_LAYERS);
    assert_int_equal(f.shape.n_heads, 2);
    assert_int_equal(f.shape.n_kv_heads, 1);
    assert_int_equal(f.shape.head_dim, 4);
    assert_int_equal(f.shape.max_context, 128);
    assert_ptr_equal(f.shape.inv_freq, f.model.inv_freq);
    assert_ptr_equal(f.shape.windows, f.model.layer_windows);
    assert_true(f.shape.rope_scale == 1.5f);
    assert_true(f.shape.rope_interleaved);
    teardown(&f);
}

static void test_forward_new_fails_cleanly(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    for (int i = 1; i <= 8; i++) {
        struct forward *other = NULL;
        struct err e = {0};
        f.rec.fail_at = i;
        assert_int_equal(
            forward_new(&f.rec.base, &f.model, f.weights, &f.shape, &f.limits, &other, &e),
            -LLMD_ENOMEM);
        assert_null(other);
    }
    teardown(&f);
}

static void test_sim_samples_by_itself(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    struct sim_opts o = {.first_token = 3, .n_tokens = 5};
    struct backend *be;
    struct engine_weights *w;
    struct forward *fw;
    assert_int_equal(sim_backend_new(&o, &be, NULL), 0);
    assert_int_equal(engine_weights_new(be, &f.model, NULL, NULL, &w, NULL), 0);
    assert_int_equal(w->n_bytes,
                     4 * (20 * 8 + 8 + 2 * (8 + 8 * 8 + 2 * 4 * 8 + 8 * 8 + 8 + 3 * 12 * 8)));
    assert_int_equal(be->ops->reserve(be, &f.shape, &f.limits, 10, NULL), 0);
    assert_int_equal(forward_new(be, &f.model, w, &f.shape, &f.limits, &fw, NULL), 0);
    engine_weights_unref(w); /* the forward holds its own reference */

    uint32_t out_rows[2] = {0, 1}, ids[2];
    struct batch b = {.n_rows = 2, .n_out = 2, .out_rows = out_rows};
    struct sample_row rows[2] = {{.row = 0, .tag = 1, .position = 9}, {.row = 1, .tag = 2}};
    assert_int_equal(forward_step(fw, &b, NULL), 0);
    assert_true(forward_has_sampler(fw));
    assert_null(forward_logits(fw, 0));
    assert_int_equal(forward_sample(fw, rows, 2, ids, NULL), 0);
    assert_in_range(ids[0], 3, 7);
    assert_in_range(ids[1], 3, 7);
    forward_free(fw);
    be->ops->free(be);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_operations),
        cmocka_unit_test(test_a_step_without_logits_ends_at_the_last_kv_write),
        cmocka_unit_test(test_every_failing_operation_is_reported),
        cmocka_unit_test(test_attn_shape),
        cmocka_unit_test(test_forward_new_fails_cleanly),
        cmocka_unit_test(test_sim_samples_by_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

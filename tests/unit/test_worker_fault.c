/* A worker whose device fails. This file has its own sim_backend_new, which the linker takes in
 * place of the library's: a device that computes nothing and fails when it is told to. */
#include <stdatomic.h>

#include "core/backend/backend.h"
#include "tests/unit/llama_fixture.h"

/* --- the device --- */

enum fault { FAULT_NONE, FAULT_OPEN, FAULT_WEIGHT, FAULT_RESERVE, FAULT_TENSOR, FAULT_STEP };

/* Steps are counted from 1, the warm-up takes two. */
static atomic_int fault; /* enum fault */
static uint32_t fault_step, n_steps, n_weights;
static struct backend device;

static struct weight *const a_weight = (struct weight *)&device;

static int dev_weight_new(struct backend *be, enum weight_role role,
                          const struct host_tensor *parts, uint32_t n_parts,
                          const struct host_tensor *biases, struct weight **out, struct err *e)
{
    (void)be;
    (void)role;
    (void)parts;
    (void)n_parts;
    (void)biases;
    n_weights++;
    if (fault == FAULT_WEIGHT)
        return err_set(e, LLMD_ENOMEM, "no memory left");
    *out = a_weight;
    return 0;
}

static void dev_weight_free(struct weight *w)
{
    (void)w;
}

static size_t dev_weight_bytes(const struct weight *w)
{
    (void)w;
    return 1;
}

static size_t dev_kv_block_bytes(struct backend *be, const struct attn_shape *shape)
{
    (void)be;
    (void)shape;
    return 1024;
}

static int dev_reserve(struct backend *be, const struct attn_shape *shape,
                       const struct backend_limits *limits, uint32_t n_kv_blocks, struct err *e)
{
    (void)be;
    (void)shape;
    (void)limits;
    if (fault == FAULT_RESERVE)
        return err_set(e, LLMD_ENOMEM, "no room for %u blocks", n_kv_blocks);
    return 0;
}

static int dev_tensor_new(struct backend *be, uint32_t max_rows, uint32_t cols, struct tensor *out,
                          struct err *e)
{
    (void)be;
    if (fault == FAULT_TENSOR)
        return err_set(e, LLMD_ENOMEM, "no room for a tensor");
    *out = (struct tensor){.max_rows = max_rows, .cols = cols};
    return 0;
}

static int dev_begin(struct backend *be, const struct batch *b)
{
    (void)be;
    (void)b;
    n_steps++;
    return fault == FAULT_STEP && n_steps >= fault_step ? -LLMD_EGPU : 0;
}

static int dev_embed(struct backend *be, const struct weight *embed, struct tensor *x)
{
    (void)be;
    (void)embed;
    (void)x;
    return 0;
}

static int dev_rms_norm(struct backend *be, struct tensor *x, const struct tensor *residual,
                        const struct weight *w, float eps, struct tensor *out)
{
    (void)be;
    (void)x;
    (void)residual;
    (void)w;
    (void)eps;
    (void)out;
    return 0;
}

static int dev_linear(struct backend *be, const struct tensor *in, const struct weight *w,
                      struct tensor *out)
{
    (void)be;
    (void)in;
    (void)w;
    (void)out;
    return 0;
}

static int dev_rope_kv(struct backend *be, uint32_t layer, struct tensor *qkv,
                       const struct weight *q_norm, const struct weight *k_norm, float eps)
{
    (void)be;
    (void)layer;
    (void)qkv;
    (void)q_norm;
    (void)k_norm;
    (void)eps;
    return 0;
}

static int dev_attention(struct backend *be, uint32_t layer, const struct tensor *qkv,
                         struct tensor *out)
{
    (void)be;
    (void)layer;
    (void)qkv;
    (void)out;
    return 0;
}

static int dev_gather(struct backend *be, const struct tensor *in, struct tensor *out)
{
    (void)be;
    (void)in;
    (void)out;
    return 0;
}

static int dev_head(struct backend *be, struct tensor *x, const struct weight *norm, float eps,
                    const struct weight *lm_head, struct tensor *logits)
{
    (void)be;
    (void)x;
    (void)norm;
    (void)eps;
    (void)lm_head;
    (void)logits;
    return 0;
}

static int dev_sample(struct backend *be, const struct tensor *logits,
                      const struct sample_row *rows, uint32_t n, uint32_t *out_ids)
{
    (void)be;
    (void)logits;
    for (uint32_t i = 0; i < n; i++)
        out_ids[i] = 3 + rows[i].position % 200;
    return 0;
}

static int dev_finish(struct backend *be)
{
    (void)be;
    clock_sleep_us(1000);
    return 0;
}

static void dev_free(struct backend *be)
{
    (void)be;
}

static const struct backend_ops device_ops = {
    .kind = "faulty",
    .free = dev_free,
    .weight_new = dev_weight_new,
    .weight_free = dev_weight_free,
    .weight_bytes = dev_weight_bytes,
    .kv_block_bytes = dev_kv_block_bytes,
    .reserve = dev_reserve,
    .tensor_new = dev_tensor_new,
    .begin = dev_begin,
    .embed = dev_embed,
    .rms_norm = dev_rms_norm,
    .linear = dev_linear,
    .gate_up = dev_linear,
    .rope_kv = dev_rope_kv,
    .attention = dev_attention,
    .gather = dev_gather,
    .head = dev_head,
    .sample = dev_sample,
    .finish = dev_finish,
};

int sim_backend_new(const struct sim_opts *o, struct backend **out, struct err *e)
{
    (void)o;
    if (fault == FAULT_OPEN)
        return err_set(e, LLMD_EGPU, "no such device");
    n_steps = 0;
    device.ops = &device_ops;
    *out = &device;
    return 0;
}

/* --- tests --- */

static void test_what_fails_before_ready_is_named(void **state)
{
    (void)state;
    static const struct {
        enum fault fault;
        uint32_t step;
        const char *text;
    } cases[] = {
        {FAULT_OPEN, 0, "no such device"},      {FAULT_WEIGHT, 0, "token_embd.weight: no memory"},
        {FAULT_RESERVE, 0, "256 blocks"},       {FAULT_TENSOR, 0, "a tensor"},
        {FAULT_STEP, 1, "warm-up: the device"}, {FAULT_STEP, 2, "warm-up: the device"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct noted_worker n;
        struct reader rd;
        struct worker_opts o = sim_worker_opts(&llama);
        fault = cases[i].fault;
        fault_step = cases[i].step;
        noted_start(&n, &o);
        assert_true(n.dead && !n.ready);
        if (!strstr(n.why.msg, cases[i].text))
            fail_msg("case %zu: %s", i, n.why.msg);
        assert_int_equal(n.last.state, WORKER_DEAD);
        reader_init(&rd, NULL, (const uint32_t[]){5}, 1, 4, 1);
        assert_int_equal(reader_submit(&rd, n.w, NULL), -LLMD_ENOTREADY);
        reader_fini(&rd);
        noted_free(&n);
    }
}

static void test_a_failing_step_ends_every_request(void **state)
{
    (void)state;
    enum { N = 6 };
    struct noted_worker n;
    struct reader rd[N];
    struct err e = {0};
    struct worker_opts o = sim_worker_opts(&llama);
    o.max_num_seqs = 2; /* some run, some wait */
    fault = FAULT_NONE;
    fault_step = 0; /* once it is to fail, it does so at the next */
    noted_start(&n, &o);
    assert_true(n.ready);
    for (uint32_t i = 0; i < N; i++) {
        reader_init(&rd[i], NULL, (const uint32_t[]){5, 6, 7}, 3, 400, 1 + i % 2);
        assert_int_equal(reader_submit(&rd[i], n.w, NULL), 0);
    }
    assert_soon(reader_pull(&rd[0], 1) > 0);
    fault = FAULT_STEP;
    noted_wait_dead(&n);
    assert_int_equal(n.why.code, LLMD_EGPU);
    assert_non_null(strstr(n.why.msg, "worker 0 of model \"tiny\" failed"));
    for (uint32_t i = 0; i < N; i++) {
        reader_wait(&rd[i]); /* the last push came before the callback */
        for (uint32_t c = 0; c < rd[i].r->sampling.n; c++)
            assert_int_equal(rd[i].finish[c], FINISH_ERROR);
        assert_true(stream_error(rd[i].r, &e));
        assert_int_equal(e.code, LLMD_EWORKER);
        assert_true(err_retryable(e.code));
    }
    err_clear(&e);
    assert_int_equal(reader_submit(&rd[0], n.w, &e), -LLMD_ENOTREADY);
    assert_non_null(strstr(e.msg, "is dead"));
    for (uint32_t i = 0; i < N; i++)
        reader_fini(&rd[i]);
    noted_free(&n);
    fault = FAULT_NONE;
}

struct ending {
    void (*how)(struct worker *w);
    struct err why;
};

static void end_while_loading(void *ctx, struct worker *w, const struct worker_report *r)
{
    const struct ending *end = ctx;
    const struct worker_status *s = &r->status;
    if (s->state == WORKER_LOADING && s->load.done_bytes > 0)
        end->how(w);
}

static void keep_why(void *ctx, struct worker *w, const struct err *why)
{
    struct ending *end = ctx;
    (void)w;
    end->why = *why;
}

/* Who wants to end does not wait for a load that may take minutes. */
static void test_ends_while_it_loads(void **state)
{
    static void (*const ways[])(struct worker * w) = {worker_stop, worker_drain};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        struct ending end = {.how = ways[i]};
        const struct worker_callbacks cb = {
            .ctx = &end, .published = end_while_loading, .dead = keep_why};
        const struct worker_opts o = sim_worker_opts(&llama);
        struct worker *w;
        struct err e = {0};
        n_weights = 0;
        assert_int_equal(worker_start(&o, &cb, &w, &e), 0);
        worker_free(w); /* waits for its end */
        assert_int_equal(end.why.code, LLMD_EDRAINING);
        assert_in_range(n_weights, 1, 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_fails_before_ready_is_named),
        cmocka_unit_test(test_a_failing_step_ends_every_request),
        cmocka_unit_test(test_ends_while_it_loads),
    };
    return cmocka_run_group_tests(tests, open_llama, close_llama);
}

/* The layer loop and the loading of weights, against a backend that only writes down what it is
 * asked to do and can be told to fail at the n-th call. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/engine/engine_weights.h"
#include "core/engine/forward.h"
#include "core/engine/worker.h"
#include "core/model/model.h"
#include "core/util/buf.h"
#include "core/util/clock.h"

enum { N_LAYERS = 2, HIDDEN = 8, VOCAB = 20 };

/* --- the recording backend --- */

struct recorder {
    struct backend base;
    struct buf log;
    int fail_at;          /* countdown; 0: never */
    uint32_t weight_us;   /* time of one weight_new */
    atomic_int n_weights; /* alive */
    int n_created;
};

struct weight { /* names what it was made of */
    char name[96];
    struct recorder *rec;
};

static int step(struct recorder *rec)
{
    return rec->fail_at > 0 && --rec->fail_at == 0 ? -LLMD_EGPU : 0;
}

static int rec_weight_new(struct backend *be, enum weight_role role,
                          const struct host_tensor *parts, uint32_t n_parts,
                          const struct host_tensor *biases, struct weight **out, struct err *e)
{
    static const char *const roles[] = {"lin", "gu", "emb", "vec"};
    struct recorder *rec = (struct recorder *)be;
    clock_sleep_us(rec->weight_us);
    if (step(rec))
        return err_set(e, LLMD_ENOMEM, "no room");
    struct weight *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    w->rec = rec;
    snprintf(w->name, sizeof(w->name), "%s", roles[role]);
    for (uint32_t i = 0; i < n_parts; i++)
        snprintf(w->name + strlen(w->name), sizeof(w->name) - strlen(w->name), ":%s%s",
                 parts[i].name, biases && biases[i].data ? biases[i].name : "");
    atomic_fetch_add(&rec->n_weights, 1);
    rec->n_created++;
    *out = w;
    return 0;
}

static void rec_weight_free(struct weight *w)
{
    if (w)
        atomic_fetch_sub(&w->rec->n_weights, 1);
    free(w);
}

static size_t rec_weight_bytes(const struct weight *w)
{
    (void)w;
    return 10;
}

static int rec_tensor_new(struct backend *be, uint32_t max_rows, uint32_t cols, struct tensor *out,
                          struct err *e)
{
    static float memory[4096];
    struct recorder *rec = (struct recorder *)be;
    if (step(rec))
        return err_set(e, LLMD_ENOMEM, "no room");
    *out = (struct tensor){.data = memory, .max_rows = max_rows, .cols = cols};
    return 0;
}

static int rec_begin(struct backend *be, const struct batch *b)
{
    struct recorder *rec = (struct recorder *)be;
    buf_addf(&rec->log, "begin %u\n", b->n_rows);
    return step(rec);
}

static int rec_embed(struct backend *be, const struct weight *embed, struct tensor *x)
{
    struct recorder *rec = (struct recorder *)be;
    buf_addf(&rec->log, "embed %s %u\n", embed->name, x->cols);
    return step(rec);
}

static int rec_rms_norm(struct backend *be, struct tensor *x, const struct tensor *residual,
                        const struct weight *w, float eps, struct tensor *out)
{
    struct recorder *rec = (struct recorder *)be;
    assert_true(eps == 1e-5f);
    buf_addf(&rec->log, "norm %s%s %u>%u\n", w->name, residual ? " +" : "", x->cols, out->cols);
    return step(rec);
}

static int rec_linear(struct backend *be, const struct tensor *in, const struct weight *w,
                      struct tensor *out)
{
    struct recorder *rec = (struct recorder *)be;
    buf_addf(&rec->log, "mul %s %u>%u\n", w->name, in->cols, out->cols);
    return step(rec);
}

static int rec_rope_kv(struct backend *be, uint32_t layer, struct tensor *qkv,
                       const struct weight *q_norm, const struct weight *k_norm, float eps)
{
    struct recorder *rec = (struct recorder *)be;
    assert_true(eps == 1e-5f);
    buf_addf(&rec->log, "rope %u %u", layer, qkv->cols);
    if (q_norm || k_norm)
        buf_addf(&rec->log, " %s %s", q_norm->name, k_norm->name);
    buf_addf(&rec->log, "\n");
    return step(rec);
}

static int rec_attention(struct backend *be, uint32_t layer, const struct tensor *qkv,
                         struct tensor *out)
{
    struct recorder *rec = (struct recorder *)be;
    buf_addf(&rec->log, "attn %u %u>%u\n", layer, qkv->cols, out->cols);
    return step(rec);
}

static int rec_gather(struct backend *be, const struct tensor *in, struct tensor *out)
{
    struct recorder *rec = (struct recorder *)be;
    buf_addf(&rec->log, "gather %u>%u\n", in->cols, out->cols);
    return step(rec);
}

static int rec_head(struct backend *be, struct tensor *x, const struct weight *norm, float eps,
                    const struct weight *lm_head, struct tensor *logits)
{
    struct recorder *rec = (struct recorder *)be;
    assert_true(eps == 1e-5f);
    buf_addf(&rec->log, "head %s %s %u>%u\n", norm->name, lm_head->name, x->cols, logits->cols);
    return step(rec);
}

static int rec_finish(struct backend *be)
{
    struct recorder *rec = (struct recorder *)be;
    buf_addf(&rec->log, "finish\n");
    return step(rec);
}

static const struct backend_ops rec_ops = {
    .kind = "recorder",
    .weight_new = rec_weight_new,
    .weight_free = rec_weight_free,
    .weight_bytes = rec_weight_bytes,
    .tensor_new = rec_tensor_new,
    .begin = rec_begin,
    .embed = rec_embed,
    .rms_norm = rec_rms_norm,
    .linear = rec_linear,
    .gate_up = rec_linear,
    .rope_kv = rec_rope_kv,
    .attention = rec_attention,
    .gather = rec_gather,
    .head = rec_head,
    .finish = rec_finish,
};

/* --- a model of two layers: hidden 8, 2 query and 1 KV head of 4, ffn 12 --- */

static struct host_tensor tensor(const char *name, uint64_t rows, uint64_t cols)
{
    static float data[VOCAB * HIDDEN];
    return (struct host_tensor){
        .name = name, .data = data, .dtype = DTYPE_F32, .rows = rows, .cols = cols};
}

static void model_fill(struct model *m, struct layer_weights layers[N_LAYERS], bool tied)
{
    static char path[] = "toy.gguf";
    memset(m, 0, sizeof(*m));
    m->path = path;
    m->hparams = (struct hparams){.n_layers = N_LAYERS,
                                  .hidden_size = HIDDEN,
                                  .n_heads = 2,
                                  .n_kv_heads = 1,
                                  .head_dim = 4,
                                  .ffn_size = 12,
                                  .vocab_size = VOCAB,
                                  .rope_theta = 5e4f,
                                  .rms_norm_eps = 1e-5f,
                                  .rope_style = ROPE_INTERLEAVED,
                                  .tied_embedding = tied};
    static double inv_freq[2];
    static uint32_t windows[N_LAYERS];
    m->inv_freq = inv_freq;
    m->rope_scale = 1.5f;
    m->layer_windows = windows;
    m->weights.embed = tensor("embed", VOCAB, HIDDEN);
    m->weights.final_norm = tensor("final", 1, HIDDEN);
    m->weights.lm_head = tied ? m->weights.embed : tensor("lm_head", VOCAB, HIDDEN);
    m->weights.layers = layers;
    for (int i = 0; i < N_LAYERS; i++)
        layers[i] = (struct layer_weights){
            .attn_norm = tensor("an", 1, HIDDEN),
            .q = tensor("q", 8, HIDDEN),
            .k = tensor("k", 4, HIDDEN),
            .v = tensor("v", 4, HIDDEN),
            .o = tensor("o", HIDDEN, 8),
            .ffn_norm = tensor("fn", 1, HIDDEN),
            .gate = tensor("g", 12, HIDDEN),
            .up = tensor("u", 12, HIDDEN),
            .down = tensor("d", HIDDEN, 12),
        };
}

struct fixture {
    struct recorder rec;
    struct layer_weights layers[N_LAYERS];
    struct model model;
    struct attn_shape shape;
    struct backend_limits limits;
    struct engine_weights *weights;
    struct forward *forward;
};

static void setup(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    f->rec.base.ops = &rec_ops;
    f->limits = (struct backend_limits){.max_rows = 6, .max_seqs = 2, .max_out = 3};
    model_fill(&f->model, f->layers, true);
    forward_attn_shape(&f->model, 128, &f->shape);
    struct backend *be = &f->rec.base;
    assert_int_equal(engine_weights_new(be, &f->model, NULL, NULL, &f->weights, NULL), 0);
    assert_int_equal(
        forward_new(be, &f->model, f->weights, &f->shape, &f->limits, &f->forward, NULL), 0);
}

static void teardown(struct fixture *f)
{
    forward_free(f->forward);
    engine_weights_unref(f->weights);
    assert_int_equal(atomic_load(&f->rec.n_weights), 0);
    buf_fini(&f->rec.log);
}

/* --- tests of the loop --- */

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

/* --- tests of weights --- */

struct progress {
    struct load_progress last;
    int n_calls, n_whole;
    int stop_at; /* the call that asks to end */
};

static bool note_progress(void *ctx, const struct load_progress *at)
{
    struct progress *p = ctx;
    assert_true(at->total_bytes > 0 && at->done_bytes <= at->total_bytes);
    if (p->n_calls == 0) {
        assert_int_equal(at->done_bytes, 0);
        assert_true(load_mib_per_s(at) == 0 && load_seconds_left(at) < 0);
    } else {
        assert_int_equal(at->total_bytes, p->last.total_bytes);
        assert_true(at->done_bytes > p->last.done_bytes);
        assert_true(at->elapsed_us >= p->last.elapsed_us);
        assert_true(load_seconds_left(at) >= 0);
    }
    p->last = *at;
    p->n_calls++;
    p->n_whole += at->done_bytes == at->total_bytes;
    return p->n_calls != p->stop_at;
}

static void test_progress_grows_to_100(void **state)
{
    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        struct fixture f;
        setup(&f);
        model_fill(&f.model, f.layers, tied != 0);
        struct engine_weights *w;
        struct progress p = {0};
        f.rec.n_created = 0;
        assert_int_equal(engine_weights_new(&f.rec.base, &f.model, note_progress, &p, &w, NULL), 0);
        assert_int_equal(load_percent(&p.last), 100);
        assert_true(load_seconds_left(&p.last) == 0);
        assert_int_equal(p.n_whole, 1);
        assert_true(p.n_calls > 5);
        assert_int_equal(f.rec.n_created, 2 + 6 * N_LAYERS + !tied);
        assert_int_equal(w->n_bytes, 10 * f.rec.n_created);
        assert_int_equal(w->lm_head == w->embed, tied);
        engine_weights_unref(w);
        engine_weights_unref(NULL);
        teardown(&f);
    }
}

/* What only some architectures have is loaded where it is, used, counted and freed. */
static void test_optional_tensors(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    struct engine_weights *w;
    struct forward *fw;
    struct progress p = {0};
    struct batch b = {.n_rows = 1};
    f.layers[0].q_bias = tensor("+qb", 1, 8);
    f.layers[0].v_bias = tensor("+vb", 1, 4);
    f.layers[0].o_bias = tensor("+ob", 1, HIDDEN);
    f.layers[1].q_norm = tensor("qn", 1, 4);
    f.layers[1].k_norm = tensor("kn", 1, 4);
    f.rec.n_created = 0;
    assert_int_equal(engine_weights_new(&f.rec.base, &f.model, note_progress, &p, &w, NULL), 0);
    assert_int_equal(f.rec.n_created, 2 + 6 * N_LAYERS + 2);
    assert_int_equal(p.n_whole, 1);
    assert_int_equal(forward_new(&f.rec.base, &f.model, w, &f.shape, &f.limits, &fw, NULL), 0);
    engine_weights_unref(w);
    assert_int_equal(forward_step(fw, &b, NULL), 0);
    assert_string_equal(buf_str(&f.rec.log),
                        "begin 1\nembed emb:embed 8\nnorm vec:an 8>8\n"
                        "mul lin:q+qb:k:v+vb 8>16\nrope 0 16\nattn 0 16>8\nmul lin:o+ob 8>8\n"
                        "norm vec:fn + 8>8\nmul gu:g:u 8>12\nmul lin:d 12>8\nnorm vec:an + 8>8\n"
                        "mul lin:q:k:v 8>16\nrope 1 16 vec:qn vec:kn\nfinish\n");
    forward_free(fw);
    teardown(&f);
}

/* Whatever the progress is, a load can be stopped there and leaves nothing behind. */
static void test_a_load_can_be_stopped(void **state)
{
    (void)state;
    struct fixture f;
    struct engine_weights *w = NULL;
    setup(&f);
    const int before = atomic_load(&f.rec.n_weights);
    for (int i = 1;; i++) {
        struct progress p = {.stop_at = i};
        struct err e = {0};
        int rc = engine_weights_new(&f.rec.base, &f.model, note_progress, &p, &w, &e);
        if (rc == 0) {
            assert_true(i > 5 && p.n_calls == i - 1);
            break;
        }
        assert_int_equal(rc, -LLMD_EDRAINING);
        assert_int_equal(p.n_calls, i);
        assert_int_equal(atomic_load(&f.rec.n_weights), before);
        assert_null(w);
    }
    engine_weights_unref(w);
    teardown(&f);
}

static void test_failed_load_frees_everything_and_names_the_tensor(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    int before = atomic_load(&f.rec.n_weights);
    for (int i = 1; i <= 2 + 6 * N_LAYERS; i++) {
        struct engine_weights *w = NULL;
        struct err e = {0};
        f.rec.fail_at = i;
        assert_int_equal(engine_weights_new(&f.rec.base, &f.model, NULL, NULL, &w, &e),
                         -LLMD_ENOMEM);
        assert_null(w);
        assert_int_equal(atomic_load(&f.rec.n_weights), before);
        assert_non_null(strstr(e.msg, ": no room"));
        if (i == 1)
            assert_string_equal(e.msg, "embed: no room");
    }
    teardown(&f);
}

struct getter {
    pthread_t thread;
    struct shared_weights *shared;
    struct recorder *rec;
    const struct model *model;
    struct engine_weights *got;
    int rc;
};

static void *get_main(void *arg)
{
    struct getter *g = arg;
    g->rc = shared_weights_get(g->shared, &g->rec->base, g->model, NULL, NULL, &g->got, NULL);
    return NULL;
}

/* Several workers at once: one loads, and when it fails exactly one other tries again. */
static void test_shared_weights_load_once(void **state)
{
    (void)state;
    for (int fail = 0; fail < 2; fail++) {
        enum { N = 4 };
        struct fixture f;
        struct getter g[N];
        int n_failed = 0;
        setup(&f);
        f.rec.n_created = 0;
        f.rec.weight_us = 500;
        f.rec.fail_at = fail ? 6 : 0;
        struct shared_weights *s;
        assert_int_equal(shared_weights_new(&s), 0);
        for (int i = 0; i < N; i++) {
            g[i] = (struct getter){.shared = s, .rec = &f.rec, .model = &f.model};
            pthread_create(&g[i].thread, NULL, get_main, &g[i]);
        }
        struct engine_weights *w = NULL;
        for (int i = 0; i < N; i++) {
            pthread_join(g[i].thread, NULL);
            if (g[i].rc) {
                n_failed++;
                continue;
            }
            assert_true(!w || w == g[i].got);
            w = g[i].got;
        }
        assert_int_equal(n_failed, fail);
        assert_int_equal(f.rec.n_created, 2 + 6 * N_LAYERS + (fail ? 5 : 0));
        assert_int_equal(atomic_load(&w->refs), N - n_failed + 1);
        for (int i = 0; i < N - n_failed; i++)
            engine_weights_unref(w);
        shared_weights_unref(s);
        teardown(&f);
    }
}

static void test_shared_weights_serve_one_model(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    struct shared_weights *s;
    struct engine_weights *w, *other = NULL;
    struct model second = f.model;
    struct err e = {0};
    assert_int_equal(shared_weights_new(&s), 0);
    assert_int_equal(shared_weights_get(s, &f.rec.base, &f.model, NULL, NULL, &w, NULL), 0);
    assert_int_equal(shared_weights_get(s, &f.rec.base, &second, NULL, NULL, &other, &e),
                     -LLMD_EINVAL);
    assert_null(other);
    engine_weights_unref(w);
    shared_weights_unref(s);
    shared_weights_unref(NULL);
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
        cmocka_unit_test(test_progress_grows_to_100),
        cmocka_unit_test(test_optional_tensors),
        cmocka_unit_test(test_a_load_can_be_stopped),
        cmocka_unit_test(test_failed_load_frees_everything_and_names_the_tensor),
        cmocka_unit_test(test_shared_weights_load_once),
        cmocka_unit_test(test_shared_weights_serve_one_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

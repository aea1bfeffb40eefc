/* recording_backend.h - a backend that only writes down what it is asked to do and can be told to
 * fail at the n-th call, and a model of two layers for it. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
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

static inline int step(struct recorder *rec)
{
    return rec->fail_at > 0 && --rec->fail_at == 0 ? -LLMD_EGPU : 0;
}

static inline int rec_weight_new(struct backend *be, enum weight_role role,
                                 const struct host_tensor *parts, uint32_t n_parts,
                                 const struct host_tensor *biases, struct weight **out,
                                 struct err *e)
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

static inline void rec_weight_free(struct weight *w)
{
    if (w)
        atomic_fetch_sub(&w->rec->n_weights, 1);
    free(w);
}

static inline size_t rec_weight_bytes(const struct weight *w)
{
    (void)w;
    return 10;
}

static inline int rec_tensor_new(struct backend *be, uint32_t max_rows, uint32_t cols,
                                 struct tensor *out, struct err *e)
{
    static float memory[4096];
    struct recorder *rec = (struct recorder *)be;
    if (step(rec))
        return err_set(e, LLMD_ENOMEM, "no room");
    *out = (struct tensor){.data = memory, .max_rows = max_rows, .cols = cols};
    return 0;
}

static inline int rec_begin(struct backend *be, const struct batch *b)
{
    struct recorder *rec = (struct recorder *)be;
    buf_addf(&rec->log, "begin %u\n", b->n_rows);
    return step(rec);
}

static inline int rec_embed(struct backend *be, const struct weight *embed, struct tensor *x)
{
    struct recorder *rec = (struct recorder *)be;
    buf_addf(&rec->log, "embed %s %u\n", embed->name, x->cols);
    return step(rec);
}

static inline int rec_rms_norm(struct backend *be, struct tensor *x, const struct tensor *residual,
                               const struct weight *w, float eps, struct tensor *out)
{
    struct recorder *rec = (struct recorder *)be;
    assert_true(eps == 1e-5f);
    buf_addf(&rec->log, "norm %s%s %u>%u\n", w->name, residual ? " +" : "", x->cols, out->cols);
    return step(rec);
}

static inline int rec_linear(struct backend *be, const struct tensor *in, const struct weight *w,
                             struct tensor *out)
{
    struct recorder *rec = (struct recorder *)be;
    buf_addf(&rec->log, "mul %s %u>%u\n", w->name, in->cols, out->cols);
    return step(rec);
}

static inline int rec_rope_kv(struct backend *be, uint32_t layer, struct tensor *qkv,
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

static inline int rec_attention(struct backend *be, uint32_t layer, const struct tensor *qkv,
                                struct tensor *out)
{
    struct recorder *rec = (struct recorder *)be;
    buf_addf(&rec->log, "attn %u %u>%u\n", layer, qkv->cols, out->cols);
    return step(rec);
}

static inline int rec_gather(struct backend *be, const struct tensor *in, struct tensor *out)
{
    struct recorder *rec = (struct recorder *)be;
    buf_addf(&rec->log, "gather %u>%u\n", in->cols, out->cols);
    return step(rec);
}

static inline int rec_head(struct backend *be, struct tensor *x, const struct weight *norm,
                           float eps, const struct weight *lm_head, struct tensor *logits)
{
    struct recorder *rec = (struct recorder *)be;
    assert_true(eps == 1e-5f);
    buf_addf(&rec->log, "head %s %s %u>%u\n", norm->name, lm_head->name, x->cols, logits->cols);
    return step(rec);
}

static inline int rec_finish(struct backend *be)
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

static inline struct host_tensor tensor(const char *name, uint64_t rows, uint64_t cols)
{
    static float data[VOCAB * HIDDEN];
    return (struct host_tensor){
        .name = name, .data = data, .dtype = DTYPE_F32, .rows = rows, .cols = cols};
}

static inline void model_fill(struct model *m, struct layer_weights layers[N_LAYERS], bool tied)
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

static inline void setup(struct fixture *f)
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

static inline void teardown(struct fixture *f)
{
    forward_free(f->forward);
    engine_weights_unref(f->weights);
    assert_int_equal(atomic_load(&f->rec.n_weights), 0);
    buf_fini(&f->rec.log);
}

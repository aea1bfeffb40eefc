/* test_model.c - a GGUF file as a model: what it becomes, and that nothing unfit is served. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/model/model.h"
#include "core/model/model_int.h"
#include "tests/unit/model_sample.h"

static void assert_shape(const struct host_tensor *t, const char *name, uint64_t rows,
                         uint64_t cols)
{
    assert_string_equal(t->name, name);
    assert_non_null(t->data);
    assert_int_equal(t->dtype, DTYPE_F32);
    assert_int_equal(t->rows, rows);
    assert_int_equal(t->cols, cols);
}

static void test_opens(void **state)
{
    struct gguf_writer w = {0};
    struct buf file = {0};
    struct model *m;
    struct err e = {0};
    uint32_t n;
    (void)state;
    sample_model(&w, NULL);
    gw_f32(&w, "general.sampling.temp", 0.25f);
    gw_f32(&w, "general.sampling.top_p", 7.0f); /* nonsense: not given */
    gw_u32(&w, "general.sampling.top_k", 40);
    assert_int_equal(open_model(&w, &file, &m, &e), 0);
    const struct hparams *h = &m->hparams;
    assert_int_equal(h->arch, ARCH_LLAMA);
    assert_int_equal(h->n_layers, 2);
    assert_int_equal(h->hidden_size, 12);
    assert_int_equal(h->n_heads, 2);
    assert_int_equal(h->n_kv_heads, 1);
    assert_int_equal(h->head_dim, 6);
    assert_int_equal(h->ffn_size, 20);
    assert_int_equal(h->vocab_size, 260);
    assert_int_equal(h->context_length, 512);
    assert_true(h->rope_theta == 100000.0f && h->rms_norm_eps == 1e-5f);
    assert_int_equal(h->rope_style, ROPE_INTERLEAVED);
    assert_true(h->tied_embedding);

    const struct model_weights *mw = &m->weights;
    assert_shape(&mw->embed, "token_embd.weight", 260, 12);
    assert_shape(&mw->final_norm, "output_norm.weight", 1, 12);
    assert_ptr_equal(mw->lm_head.data, mw->embed.data);
    assert_shape(&mw->layers[0].q, "blk.0.attn_q.weight", 12, 12);
    assert_shape(&mw->layers[1].attn_norm, "blk.1.attn_norm.weight", 1, 12);
    assert_shape(&mw->layers[1].k, "blk.1.attn_k.weight", 6, 12);
    assert_shape(&mw->layers[1].v, "blk.1.attn_v.weight", 6, 12);
    assert_shape(&mw->layers[1].o, "blk.1.attn_output.weight", 12, 12);
    assert_shape(&mw->layers[1].ffn_norm, "blk.1.ffn_norm.weight", 1, 12);
    assert_shape(&mw->layers[1].gate, "blk.1.ffn_gate.weight", 20, 12);
    assert_shape(&mw->layers[1].up, "blk.1.ffn_up.weight", 20, 12);
    assert_shape(&mw->layers[1].down, "blk.1.ffn_down.weight", 12, 20);
    size_t layer = 12 + 144 + 72 + 72 + 144 + 12 + 240 + 240 + 240;
    assert_int_equal(mw->total_bytes, 4 * (260 * 12 + 12 + 2 * layer));

    assert_string_equal(m->path, "mem");
    assert_string_equal(m->display_name, "Tiny llama");
    assert_string_equal(m->bos_token, "<|im_start|>");
    assert_string_equal(m->eos_token, "<|im_end|>");
    assert_string_equal(m->chat_template_source, sample_template);
    assert_non_null(m->chat_template);
    assert_int_equal(tokenizer_n_tokens(m->tokenizer), 260);
    assert_int_equal(tokenizer_find(m->tokenizer, "ab", 2), 259);
    assert_int_equal(tokenizer_eos_ids(m->tokenizer, &n)[0], 2);
    assert_true(tokenizer_is_control(m->tokenizer, 0) && !tokenizer_is_control(m->tokenizer, 3));
    assert_true(m->defaults.temperature == 0.25f);
    assert_true(isnan(m->defaults.top_p) && isnan(m->defaults.min_p));
    assert_true(isnan(m->defaults.repetition_penalty));
    assert_int_equal(m->defaults.top_k, 40);
    model_release_pages(m);
    model_free(m);
    model_free(NULL);
    buf_fini(&file);
}

/* An own output matrix; norms and weights of other types; keys left to their defaults. */
static void test_variants(void **state)
{
    struct gguf_writer w = {0};
    struct buf file = {0};
    struct model *m;
    struct err e = {0};
    static const uint64_t norm[] = {SAMPLE_HIDDEN}, head[] = {SAMPLE_HIDDEN, SAMPLE_VOCAB};
    (void)state;
    sample_model(&w, "output_norm.weight");
    gw_tensor(&w, "output_norm.weight", 1, norm, GW_BF16, 2 * SAMPLE_HIDDEN);
    gw_tensor(&w, "output.weight", 2, head, GW_F16, (size_t)2 * SAMPLE_HIDDEN * SAMPLE_VOCAB);
    gw_u32(&w, "llama.expert_count", 0);
    gw_u32(&w, "llama.attention.key_length", SAMPLE_HEAD_DIM);
    gw_bool(&w, "llama.attention.causal", 1);
    gw_str(&w, "llama.tensor_data_layout", "Meta AI original pth");
    assert_int_equal(open_model(&w, &file, &m, &e), 0);
    assert_false(m->hparams.tied_embedding);
    assert_int_equal(m->weights.lm_head.dtype, DTYPE_F16);
    assert_ptr_not_equal(m->weights.lm_head.data, m->weights.embed.data);
    assert_int_equal(m->weights.final_norm.dtype, DTYPE_BF16);
    model_free(m);
    buf_fini(&file);

    static const char *const optional[] = {
        "general.name",
        "llama.attention.head_count_kv",
        "llama.rope.dimension_count",
        "llama.rope.freq_base",
        "llama.vocab_size",
        "tokenizer.chat_template",
        "tokenizer.ggml.add_bos_token",
        "tokenizer.ggml.bos_token_id",
        "tokenizer.ggml.eos_token_id",
        "tokenizer.ggml.token_type",
    };
    for (size_t i = 0; i < ARRAY_LEN(optional); i++) {
        w = (struct gguf_writer){0};
        sample_model(&w, optional[i]);
        int rc = open_model(&w, &file, &m, &e);
        if (strcmp(optional[i], "llama.attention.head_count_kv") == 0) {
            assert_int_equal(rc, -LLMD_EPARSE); /* then one KV head per head: K has another shape */
            assert_non_null(strstr(e.msg, "tensor 'blk.0.attn_k.weight': has 6 rows of 12, "
                                          "the keys ask for 12 of 12"));
            err_clear(&e);
        } else {
            assert_int_equal(rc, 0);
            if (i == 0)
                assert_string_equal(m->display_name, "mem");
            if (i == 3)
                assert_true(m->hparams.rope_theta == 10000.0f);
            if (i == 5)
                assert_true(!m->chat_template && !m->chat_template_source);
            if (i == 7)
                assert_string_equal(m->bos_token, "");
            model_free(m);
        }
        buf_fini(&file);
    }
}

/* Names that must not reach a terminal are replaced by the file's. */
static void test_names(void **state)
{
    static const char *const bad[] = {"", "a\nb", "\x1b[2J", "caf\xe9", "\xe2\x80\xae"};
    struct buf file = {0};
    struct model *m;
    struct err e = {0};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct gguf_writer w = {0};
        sample_model(&w, "general.name");
        gw_str(&w, "general.name", bad[i]);
        assert_int_equal(open_model(&w, &file, &m, &e), 0);
        assert_string_equal(m->display_name, "mem");
        model_free(m);
        buf_fini(&file);
    }
    struct gguf_writer w = {0};
    sample_model(&w, "general.name");
    gw_str(&w, "general.name", "Modèle 7B 日本");
    assert_int_equal(open_model(&w, &file, &m, &e), 0);
    assert_string_equal(m->display_name, "Modèle 7B 日本");
    model_free(m);
    buf_fini(&file);
}

/* A template that cannot be used does not keep the model from serving completions. */
static void test_template_faults(void **state)
{
    static const char *const bad[][2] = {
        {"caf\xe9", "not valid UTF-8 text"},
        {"{% if %}", "line 1"},
        {"a\n{% include 'x' %}", "line 2"},
    };
    struct buf file = {0};
    struct model *m;
    struct err e = {0};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct gguf_writer w = {0};
        sample_model(&w, "tokenizer.chat_template");
        gw_str(&w, "tokenizer.chat_template", bad[i][0]);
        assert_int_equal(open_model(&w, &file, &m, &e), 0);
        assert_null(m->chat_template);
        assert_null(m->chat_template_source);
        assert_string_equal(m->chat_template_origin, "tokenizer.chat_template");
        assert_non_null(strstr(m->chat_template_fault, bad[i][1]));
        model_free(m);
        buf_fini(&file);
    }
}

/* --- what is refused --- */

/* One thing left out of the sample and one put in. */
struct fault {
    const char *without;
    const char *key; /* the key put in, or tensor when cols > 0 */
    int type;        /* of the value, as GGUF_*; -1: nothing is put in */
    union {
        uint32_t u;
        float f;
        const char *s;
    } v;
    uint32_t tensor_type;
    uint64_t rows, cols;
    int code;
    const char *msg;
};

#define MISSING(name)                                                                              \
    {                                                                                              \
        .without = name, .type = -1, .code = LLMD_EPARSE, .msg = "'" name "': missing"             \
    }
#define NUMBER(k, value, c, text)                                                                  \
    {                                                                                              \
        .without = k, .key = k, .type = GGUF_U32, .v.u = value, .code = c, .msg = "'" k "': " text \
    }
#define REAL(k, value, c, text)                                                                    \
    {                                                                                              \
        .without = k, .key = k, .type = GGUF_F32, .v.f = value, .code = c, .msg = "'" k "': " text \
    }
#define TEXT(k, value, c, text)                                                                    \
    {                                                                                              \
        .without = k, .key = k, .type = GGUF_STRING, .v.s = value, .code = c,                      \
        .msg = "'" k "': " text                                                                    \
    }
#define FLAG(k, value, text)                                                                       \
    {                                                                                              \
        .without = k, .key = k, .type = GGUF_BOOL, .v.u = value, .code = LLMD_EUNSUPPORTED,        \
        .msg = "'" k "': " text                                                                    \
    }
#define TENSOR(name, t, r, c, e, text)                                                             \
    {                                                                                              \
        .without = name, .key = name, .tensor_type = t, .rows = r, .cols = c, .code = e,           \
        .msg = "tensor '" name "': " text                                                          \
    }
#define U LLMD_EUNSUPPORTED
#define P LLMD_EPARSE

static const struct fault faults[] = {
    MISSING("general.architecture"),
    MISSING("llama.block_count"),
    MISSING("llama.context_length"),
    MISSING("llama.embedding_length"),
    MISSING("llama.feed_forward_length"),
    MISSING("llama.attention.head_count"),
    MISSING("llama.attention.layer_norm_rms_epsilon"),
    MISSING("tokenizer.ggml.model"),
    MISSING("tokenizer.ggml.pre"),
    MISSING("tokenizer.ggml.tokens"),
    MISSING("tokenizer.ggml.merges"),
    MISSING("token_embd.weight"),
    MISSING("output_norm.weight"),
    MISSING("blk.0.attn_norm.weight"),
    MISSING("blk.1.attn_q.weight"),
    MISSING("blk.0.attn_k.weight"),
    MISSING("blk.1.attn_v.weight"),
    MISSING("blk.0.attn_output.weight"),
    MISSING("blk.1.ffn_norm.weight"),
    MISSING("blk.0.ffn_gate.weight"),
    MISSING("blk.1.ffn_up.weight"),
    MISSING("blk.1.ffn_down.weight"),
    TEXT("general.architecture", "llama4", U,
         "'llama4' is not supported (llama, qwen2 and qwen3 are)"),
    TEXT("general.architecture", "qwen2moe", U, "'qwen2moe' is not supported"),
    TEXT("general.architecture", "a\nb\xff", U, "'a?b?' is not supported (llama, qwen2"),
    NUMBER("general.architecture", 1, P, "holds a uint32, expected a string"),
    NUMBER("llama.block_count", 0, P, "0 is not within 1 to 1024"),
    NUMBER("llama.block_count", UINT32_MAX, P, "4294967295 is not within 1 to 1024"),
    NUMBER("llama.embedding_length", 0, P, "0 is not within 1 to 131072"),
    NUMBER("llama.feed_forward_length", 0, P, "0 is not within"),
    NUMBER("llama.context_length", 0, P, "0 is not within"),
    NUMBER("llama.attention.head_count", 0, P, "0 is not within"),
    NUMBER("llama.attention.head_count", 5, P, "5 does not divide the embedding length 12"),
    NUMBER("llama.attention.head_count_kv", 3, P, "3 does not divide the 2 heads"),
    NUMBER("llama.attention.value_length", 4, U, "4 differs from the heads' 6"),
    NUMBER("llama.rope.dimension_count", 4, U, "4 differs from the heads' 6 (partial RoPE"),
    NUMBER("llama.vocab_size", 259, P, "259, but there are 260 tokens"),
    TEXT("llama.block_count", "2", P, "holds a string, expected an integer"),
    REAL("llama.block_count", 2.0f, P, "holds a float32, expected an integer"),
    REAL("llama.rope.freq_base", 0.0f, P, "0 is not within"),
    REAL("llama.rope.freq_base", NAN, P, "nan is not within"),
    REAL("llama.attention.layer_norm_rms_epsilon", -1.0f, P, "-1 is not within"),
    REAL("llama.attention.layer_norm_rms_epsilon", INFINITY, P, "inf is not within"),
    NUMBER("llama.expert_count", 8, U, "a mixture of experts is not supported"),
    NUMBER("llama.expert_used_count", 2, U, "a mixture of experts is not supported"),
    TEXT("llama.rope.scaling.type", "longrope", U,
         "'longrope' is not supported (none, linear and yarn are)"),
    REAL("llama.rope.scaling.factor", 0.5f, P, "0.5 is not within 1 to 1e+06"),
    REAL("llama.rope.scaling.factor", NAN, P, "nan is not within"),
    REAL("llama.rope.scale_linear", -4.0f, P, "-4 is not within"),
    NUMBER("llama.rope.scaling.type", 1, P, "holds a uint32, expected a string"),
    REAL("llama.rope.scaling.yarn_log_multiplier", 0.1f, U,
         "this form of RoPE scaling is not supported"),
    REAL("llama.rope.scaling.yarn_ext_factor", 0.5f, U,
         "this form of RoPE scaling is not supported"),
    REAL("llama.rope.scaling.alpha", 2.0f, U, "this form of RoPE scaling is not supported"),
    TEXT("llama.attention.sliding_window", "8", P, "holds a string, expected an integer"),
    NUMBER("llama.attention.sliding_window_pattern", 2, U,
           "this form of attention is not supported"),
    FLAG("llama.attention.causal", 0, "non-causal attention is not supported"),
    FLAG("llama.use_parallel_residual", 1, "what this key asks for is not supported"),
    NUMBER("llama.something_new", 1, U, "what this key asks for is not supported"),
    NUMBER("split.count", 2, U, "one of 2 parts; merge them into one file first"),
    TEXT("tokenizer.ggml.model", "bert", U, "only 'gpt2' (byte-level BPE) and 'llama' (Sentence"),
    TEXT("tokenizer.ggml.model", "gpt2x", U, "only 'gpt2' (byte-level BPE) and 'llama' (Sentence"),
    FLAG("tokenizer.ggml.add_eos_token", 1, "true is not supported"),
    FLAG("tokenizer.ggml.add_space_prefix", 1, "true is not supported"),
    NUMBER("tokenizer.ggml.bos_token_id", 260, P, "there is no token 260 (260 tokens)"),
    NUMBER("tokenizer.ggml.eos_token_id", UINT32_MAX, P, "there is no token 4294967295"),
    NUMBER("tokenizer.ggml.token_type", 1, P, "holds a uint32, expected an array"),
    NUMBER("tokenizer.ggml.tokens", 1, P, "holds a uint32, expected an array"),
    TEXT("tokenizer.ggml.merges", "a b", P, "holds a string, expected an array"),
    TEXT("tokenizer.ggml.add_bos_token", "yes", P, "holds a string, expected a boolean"),
    NUMBER("tokenizer.chat_template", 1, P, "holds a uint32, expected a string"),
    TENSOR("blk.0.attn_q.weight", GW_F32, 11, 12, P,
           "has 11 rows of 12, the keys ask for 12 of 12"),
    TENSOR("blk.0.attn_k.weight", GW_F32, 12, 12, P, "has 12 rows of 12, the keys ask for 6 of 12"),
    TENSOR("blk.1.ffn_down.weight", GW_F32, 20, 12, P, "has 20 rows of 12"),
    TENSOR("token_embd.weight", GW_F32, 259, 12, P, "has 259 rows of 12"),
    TENSOR("output.weight", GW_F32, 261, 12, P, "has 261 rows of 12"),
    TENSOR("output_norm.weight", GW_F32, 1, 11, P, "has 1 rows of 11"),
    TENSOR("blk.0.attn_q.bias", GW_F32, 1, 11, P, "has 1 rows of 11, the keys ask for 1 of 12"),
    TENSOR("blk.0.attn_k.bias", GW_F32, 1, 12, P, "has 1 rows of 12, the keys ask for 1 of 6"),
    TENSOR("blk.0.ffn_up.bias", GW_F32, 1, 20, U, "a bias; llama models of 2 layers"),
    TENSOR("blk.0.attn_q_norm.weight", GW_F32, 1, 6, U,
           "a tensor that is not known here; llama models of 2 layers"),
    TENSOR("rope_freqs.weight", GW_F32, 1, 6, P, "has 1 rows of 6, not 1 of 3"),
    TENSOR("rope_freqs.weight", GW_F32, 1, 3, P, "element 0 is 0"),
    TENSOR("rope_freqs.weight", GW_F16, 1, 3, U, "type F16; F32 is read"),
    TENSOR("blk.0.ffn_gate_inp.weight", GW_F32, 8, 12, U, "a mixture of experts; "),
    TENSOR("blk.2.attn_norm.weight", GW_F32, 1, 12, U, "a tensor that is not known here; "),
    TENSOR("blk.00.attn_norm.weight", GW_F32, 1, 12, U, "a tensor that is not known here; "),
};

static void put_in(struct gguf_writer *w, const struct fault *f)
{
    if (f->cols > 0) {
        gw_tensor(w, f->key, f->rows == 1 ? 1 : 2, (uint64_t[]){f->cols, f->rows}, f->tensor_type,
                  (size_t)(f->rows * f->cols * 4));
        return;
    }
    if (f->type == GGUF_U32)
        gw_u32(w, f->key, f->v.u);
    else if (f->type == GGUF_F32)
        gw_f32(w, f->key, f->v.f);
    else if (f->type == GGUF_BOOL)
        gw_bool(w, f->key, (uint8_t)f->v.u);
    else if (f->type == GGUF_STRING)
        gw_str(w, f->key, f->v.s);
}

static void test_faults(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        const struct fault *f = &faults[i];
        struct gguf_writer w = {0};
        struct buf file = {0};
        struct model *m = NULL;
        struct err e = {0};
        sample_model(&w, f->without);
        put_in(&w, f);
        int rc = open_model(&w, &file, &m, &e);
        if (rc != -f->code || !strstr(e.msg, f->msg))
            print_error("case %zu: rc %d, '%s', expected '%s'\n", i, rc, e.msg, f->msg);
        assert_int_equal(rc, -f->code);
        assert_int_equal(e.code, f->code);
        assert_non_null(strstr(e.msg, f->msg));
        assert_int_equal(strncmp(e.msg, "mem: ", 5), 0);
        assert_null(strchr(e.msg, '\n'));
        assert_null(m);
        buf_fini(&file);
    }
}

/* Faults that need an array. */
static void test_vocab_faults(void **state)
{
    struct gguf_writer w = {0};
    struct buf file = {0};
    struct model *m;
    struct err e = {0};
    (void)state;
    sample_model(&w, "tokenizer.ggml.token_type");
    gw_array(&w, "tokenizer.ggml.token_type", GGUF_I32, 1);
    gw_put_u32(&w.kvs, 1);
    assert_int_equal(open_model(&w, &file, &m, &e), -LLMD_EPARSE);
    assert_non_null(strstr(e.msg, "'tokenizer.ggml.token_type': 1 elements for 260 tokens"));
    buf_fini(&file);

    w = (struct gguf_writer){0};
    err_clear(&e);
    sample_model(&w, "tokenizer.ggml.token_type");
    gw_array(&w, "tokenizer.ggml.token_type", GGUF_I32, SAMPLE_VOCAB);
    for (int i = 0; i < SAMPLE_VOCAB; i++)
        gw_put_u32(&w.kvs, i == 100 ? 7 : 1);
    assert_int_equal(open_model(&w, &file, &m, &e), -LLMD_EPARSE);
    assert_non_null(strstr(e.msg, "token 100 is of the unknown kind 7"));
    buf_fini(&file);

    w = (struct gguf_writer){0};
    err_clear(&e);
    sample_model(&w, "output_norm.weight");
    gw_tensor(&w, "output_norm.weight", 2, (uint64_t[]){SAMPLE_HIDDEN, 1}, GW_F32, 48);
    assert_int_equal(open_model(&w, &file, &m, &e), 0);
    model_free(m);
    buf_fini(&file);
}

/* A norm is too short for blocks in the sample, so this one has rows of 32. */
static void test_norm_type(void **state)
{
    struct gguf_writer w = {0};
    struct buf file = {0};
    struct model *m;
    struct err e = {0};
    (void)state;
    sample_keys(&w, "llama.embedding_length");
    gw_u32(&w, "llama.embedding_length", 32);
    gw_u32(&w, "llama.attention.key_length", SAMPLE_HEAD_DIM);
    gw_tensor(&w, "token_embd.weight", 2, (uint64_t[]){32, SAMPLE_VOCAB}, GW_Q8_0,
              (size_t)34 * SAMPLE_VOCAB);
    gw_tensor(&w, "output_norm.weight", 1, (uint64_t[]){32}, GW_Q8_0, 34);
    assert_int_equal(open_model(&w, &file, &m, &e), -LLMD_EUNSUPPORTED);
    assert_string_equal(e.msg, "mem: tensor 'output_norm.weight': a vector of type Q8_0; F32, F16 "
                               "and BF16 are read");
    buf_fini(&file);
}

/* Flips anywhere in front of the weights: a model, or one line. */
static void test_flipped(void **state)
{
    struct gguf_writer w = {0};
    struct buf file = {0};
    struct gguf *g;
    uint64_t seed = 0x9e3779b97f4a7c15u;
    unsigned opened = 0, refused = 0;
    (void)state;
    sample_model(&w, NULL);
    size_t header = 24 + w.kvs.len + w.infos.len;
    gw_finish(&w, &file);
    gw_fini(&w);
    unsigned char *p = gw_copy(file.data, file.len);
    for (int round = 0; round < 3000; round++) {
        struct model *m;
        struct err e = {0};
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        size_t at = (size_t)(seed >> 8) % header;
        unsigned char old = p[at];
        p[at] ^= (unsigned char)(1u << (seed & 7));
        int rc = gguf_open_memory(p, file.len, "mem", &g, &e);
        if (!rc) {
            rc = model_from_gguf(g, &m, &e);
            if (rc)
                gguf_close(g);
            else
                model_free(m);
        }
        if (rc) {
            assert_int_equal(strncmp(e.msg, "mem: ", 5), 0);
            assert_null(strchr(e.msg, '\n'));
            refused++;
        } else
            opened++;
        p[at] = old;
    }
    assert_true(opened > 50 && refused > 1000);
    free(p);
    buf_fini(&file);
}

static void test_file(void **state)
{
    char path[] = "/tmp/llmd_test_model_XXXXXX";
    struct gguf_writer w = {0};
    struct buf file = {0};
    struct model *m;
    struct err e = {0};
    (void)state;
    sample_model(&w, "general.name");
    memset(w.data.data, 0x11, w.data.len);
    gw_finish(&w, &file);
    gw_fini(&w);
    int fd = mkstemp(path);
    assert_int_equal(write(fd, file.data, file.len), (ssize_t)file.len);
    close(fd);
    buf_fini(&file);
    assert_int_equal(model_open(path, &m, &e), 0);
    assert_string_equal(m->path, path);
    assert_string_equal(m->display_name, path + 5);
    model_release_pages(m);
    assert_int_equal(((const unsigned char *)m->weights.layers[1].down.data)[3], 0x11);
    model_free(m);
    unlink(path);
    assert_int_equal(model_open(path, &m, &e), -LLMD_ENOTFOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opens),     cmocka_unit_test(test_variants),
        cmocka_unit_test(test_names),     cmocka_unit_test(test_template_faults),
        cmocka_unit_test(test_faults),    cmocka_unit_test(test_vocab_faults),
        cmocka_unit_test(test_norm_type), cmocka_unit_test(test_flipped),
        cmocka_unit_test(test_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

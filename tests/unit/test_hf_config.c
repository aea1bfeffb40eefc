/* test_hf_config.c - config.json, generation_config.json and tokenizer_config.json: what they become,
 * and that nothing is ignored that could change a result. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/model/hf_int.h"

#define LLAMA   "\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\""
#define MISTRAL "\"architectures\":[\"MistralForCausalLM\"],\"model_type\":\"mistral\""
#define QWEN2   "\"architectures\":[\"Qwen2ForCausalLM\"],\"model_type\":\"qwen2\""
#define QWEN3   "\"architectures\":[\"Qwen3ForCausalLM\"],\"model_type\":\"qwen3\""

static int parse(const char *text, struct hf_config *c, struct err *e)
{
    err_clear(e);
    /* An exact copy, so that a sanitizer sees reads past its end. */
    size_t n = strlen(text);
    char *copy = malloc(n ? n : 1);
    for (size_t i = 0; i < n; i++)
        copy[i] = text[i];
    int rc = hf_config_parse(copy, n, "config.json", c, e);
    free(copy);
    return rc;
}

static void must_parse(const char *text, struct hf_config *c)
{
    struct err e = {0};
    if (parse(text, c, &e) != 0)
        fail_msg("%s", e.msg);
}

/* --- what published files say --- */

/* The config.json files of models as their makers published them. */
static const struct published {
    const char *text;
    enum arch arch;
    uint32_t layers, hidden, heads, kv_heads, head_dim, ffn, vocab, context;
    float theta;
    enum rope_scaling scaling;
    bool tied;
    uint32_t window, n_eos;
} published[] = {
    /* Llama 2 7B */
    {"{\"_name_or_path\":\"meta-llama/Llama-2-7b-hf\"," LLAMA
     ",\"bos_token_id\":1,\"eos_token_id\":2,"
     "\"hidden_act\":\"silu\",\"hidden_size\":4096,\"initializer_range\":0.02,"
     "\"intermediate_size\":11008,\"max_position_embeddings\":4096,\"num_attention_heads\":32,"
     "\"num_hidden_layers\":32,\"num_key_value_heads\":32,\"pretraining_tp\":1,"
     "\"rms_norm_eps\":1e-05,\"rope_scaling\":null,\"tie_word_embeddings\":false,"
     "\"torch_dtype\":\"float16\",\"transformers_version\":\"4.31.0.dev0\",\"use_cache\":true,"
     "\"vocab_size\":32000}",
     ARCH_LLAMA, 32, 4096, 32, 32, 128, 11008, 32000, 4096, 1e4f, ROPE_SCALING_NONE, false, 0, 1},
    /* Llama 3.2 1B Instruct */
    {"{" LLAMA ",\"attention_bias\":false,\"attention_dropout\":0.0,\"bos_token_id\":128000,"
     "\"eos_token_id\":[128001,128008,128009],\"head_dim\":64,\"hidden_act\":\"silu\","
     "\"hidden_size\":2048,\"initializer_range\":0.02,\"intermediate_size\":8192,"
     "\"max_position_embeddings\":131072,\"mlp_bias\":false,\"num_attention_heads\":32,"
     "\"num_hidden_layers\":16,\"num_key_value_heads\":8,\"pretraining_tp\":1,"
     "\"rms_norm_eps\":1e-05,\"rope_scaling\":{\"factor\":32.0,\"high_freq_factor\":4.0,"
     "\"low_freq_factor\":1.0,\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"},"
     "\"rope_theta\":500000.0,\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\","
     "\"transformers_version\":\"4.45.0.dev0\",\"use_cache\":true,\"vocab_size\":128256}",
     ARCH_LLAMA, 16, 2048, 32, 8, 64, 8192, 128256, 131072, 5e5f, ROPE_SCALING_LLAMA3, true, 0, 3},
    /* SmolLM2 135M Instruct */
    {"{" LLAMA ",\"attention_bias\":false,\"attention_dropout\":0.0,\"bos_token_id\":1,"
     "\"eos_token_id\":2,\"hidden_act\":\"silu\",\"hidden_size\":576,"
     "\"initializer_range\":0.041666666666666664,\"intermediate_size\":1536,"
     "\"is_llama_config\":true,\"max_position_embeddings\":8192,\"mlp_bias\":false,"
     "\"num_attention_heads\":9,\"num_hidden_layers\":30,\"num_key_value_heads\":3,"
     "\"pad_token_id\":2,\"pretraining_tp\":1,\"rms_norm_eps\":1e-05,\"rope_interleaved\":false,"
     "\"rope_scaling\":null,\"rope_theta\":100000,\"tie_word_embeddings\":true,"
     "\"torch_dtype\":\"bfloat16\",\"transformers_version\":\"4.42.3\",\"transformers.js_config\":{"
     "\"kv_cache_dtype\":{\"q4f16\":\"float16\"}},\"use_cache\":true,\"vocab_size\":49152}",
     ARCH_LLAMA, 30, 576, 9, 3, 64, 1536, 49152, 8192, 1e5f, ROPE_SCALING_NONE, true, 0, 1},
    /* Mistral 7B v0.1 */
    {"{" MISTRAL
     ",\"bos_token_id\":1,\"eos_token_id\":2,\"hidden_act\":\"silu\",\"hidden_size\":4096,"
     "\"initializer_range\":0.02,\"intermediate_size\":14336,\"max_position_embeddings\":32768,"
     "\"num_attention_heads\":32,\"num_hidden_layers\":32,\"num_key_value_heads\":8,"
     "\"rms_norm_eps\":1e-05,\"rope_theta\":10000.0,\"sliding_window\":4096,"
     "\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\",\"use_cache\":true,"
     "\"vocab_size\":32000}",
     ARCH_MISTRAL, 32, 4096, 32, 8, 128, 14336, 32000, 32768, 1e4f, ROPE_SCALING_NONE, false, 4096,
     1},
    /* Mistral Nemo */
    {"{" MISTRAL
     ",\"attention_dropout\":0.0,\"bos_token_id\":1,\"eos_token_id\":2,\"head_dim\":128,"
     "\"hidden_act\":\"silu\",\"hidden_size\":5120,\"intermediate_size\":14336,"
     "\"max_position_embeddings\":131072,\"num_attention_heads\":32,\"num_hidden_layers\":40,"
     "\"num_key_value_heads\":8,\"rms_norm_eps\":1e-05,\"rope_theta\":1000000.0,"
     "\"sliding_window\":null,\"tie_word_embeddings\":false,\"vocab_size\":131072}",
     ARCH_MISTRAL, 40, 5120, 32, 8, 128, 14336, 131072, 131072, 1e6f, ROPE_SCALING_NONE, false, 0,
     1},
    /* Qwen2.5 7B Instruct */
    {"{" QWEN2 ",\"attention_dropout\":0.0,\"bos_token_id\":151643,\"eos_token_id\":151645,"
     "\"hidden_act\":\"silu\",\"hidden_size\":3584,\"initializer_range\":0.02,"
     "\"intermediate_size\":18944,\"max_position_embeddings\":32768,\"max_window_layers\":28,"
     "\"num_attention_heads\":28,\"num_hidden_layers\":28,\"num_key_value_heads\":4,"
     "\"rms_norm_eps\":1e-06,\"rope_theta\":1000000.0,\"sliding_window\":131072,"
     "\"tie_word_embeddings\":false,\"use_sliding_window\":false,\"vocab_size\":152064}",
     ARCH_QWEN2, 28, 3584, 28, 4, 128, 18944, 152064, 32768, 1e6f, ROPE_SCALING_NONE, false, 0, 1},
    /* The same with YaRN, as its README says, for 131,072 tokens */
    {"{" QWEN2 ",\"hidden_act\":\"silu\",\"hidden_size\":3584,\"intermediate_size\":18944,"
     "\"max_position_embeddings\":32768,\"num_attention_heads\":28,\"num_hidden_layers\":28,"
     "\"num_key_value_heads\":4,\"rms_norm_eps\":1e-06,\"rope_theta\":1000000.0,\"rope_scaling\":{"
     "\"factor\":4.0,\"original_max_position_embeddings\":32768,\"type\":\"yarn\"},"
     "\"sliding_window\":131072,\"use_sliding_window\":false,\"vocab_size\":152064}",
     ARCH_QWEN2, 28, 3584, 28, 4, 128, 18944, 152064, 131072, 1e6f, ROPE_SCALING_YARN, false, 0, 0},
    /* DeepSeek-R1-Distill-Qwen-1.5B */
    {"{" QWEN2 ",\"attention_dropout\":0.0,\"bos_token_id\":151643,\"eos_token_id\":151643,"
     "\"hidden_act\":\"silu\",\"hidden_size\":1536,\"intermediate_size\":8960,"
     "\"max_position_embeddings\":131072,\"max_window_layers\":21,\"num_attention_heads\":12,"
     "\"num_hidden_layers\":28,\"num_key_value_heads\":2,\"rms_norm_eps\":1e-06,"
     "\"rope_theta\":10000,\"sliding_window\":4096,\"tie_word_embeddings\":false,"
     "\"use_mrope\":false,\"use_sliding_window\":false,\"vocab_size\":151936}",
     ARCH_QWEN2, 28, 1536, 12, 2, 128, 8960, 151936, 131072, 1e4f, ROPE_SCALING_NONE, false, 0, 1},
    /* Qwen3 0.6B, as transformers 5 writes it */
    {"{" QWEN3 ",\"attention_bias\":false,\"attention_dropout\":0.0,\"bos_token_id\":151643,"
     "\"dtype\":\"bfloat16\",\"eos_token_id\":151645,\"head_dim\":128,\"hidden_act\":\"silu\","
     "\"hidden_size\":1024,\"initializer_range\":0.02,\"intermediate_size\":3072,\"layer_types\":["
     "\"full_attention\",\"full_attention\"],\"max_position_embeddings\":40960,"
     "\"max_window_layers\":28,\"num_attention_heads\":16,\"num_hidden_layers\":2,"
     "\"num_key_value_heads\":8,\"pad_token_id\":null,\"rms_norm_eps\":1e-06,\"rope_parameters\":{"
     "\"rope_theta\":1000000,\"rope_type\":\"default\"},\"sliding_window\":null,"
     "\"tie_word_embeddings\":true,\"transformers_version\":\"5.0.0\",\"use_cache\":true,"
     "\"use_sliding_window\":false,\"vocab_size\":151936}",
     ARCH_QWEN3, 2, 1024, 16, 8, 128, 3072, 151936, 40960, 1e6f, ROPE_SCALING_NONE, true, 0, 1},
};

static void test_published(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(published); i++) {
        const struct published *p = &published[i];
        struct hf_config c;
        must_parse(p->text, &c);
        const struct hparams *h = &c.hp;
        assert_int_equal(h->arch, p->arch);
        assert_int_equal(h->n_layers, p->layers);
        assert_int_equal(h->hidden_size, p->hidden);
        assert_int_equal(h->n_heads, p->heads);
        assert_int_equal(h->n_kv_heads, p->kv_heads);
        assert_int_equal(h->head_dim, p->head_dim);
        assert_int_equal(h->ffn_size, p->ffn);
        assert_int_equal(h->vocab_size, p->vocab);
        assert_int_equal(h->context_length, p->context);
        assert_true(h->rope_theta == p->theta);
        assert_int_equal(h->rope_scaling, p->scaling);
        assert_int_equal(h->rope_style, ROPE_NEOX);
        assert_int_equal(h->tied_embedding, p->tied);
        assert_int_equal(c.eos.n, p->n_eos);
        assert_int_equal(c.qkv_bias, p->arch == ARCH_QWEN2);
        assert_false(c.o_bias);
        assert_int_equal(c.qk_norm, p->arch == ARCH_QWEN3);
        assert_int_equal(c.layer_windows ? c.layer_windows[0] : 0, p->window);
        hf_config_fini(&c);
    }
}

/* Defaults of the configuration classes in transformers 5. */
static void test_defaults(void **state)
{
    static const struct {
        const char *text;
        uint32_t vocab, ffn, kv_heads, context, head_dim, window;
    } all[] = {
        {"{\"model_type\":\"llama\"}", 32000, 11008, 32, 2048, 128, 0},
        {"{\"model_type\":\"mistral\"}", 32000, 14336, 8, 131072, 128, 4096},
        {"{\"model_type\":\"qwen2\"}", 151936, 22016, 32, 32768, 128, 0},
        {"{\"architectures\":[\"Qwen3ForCausalLM\"]}", 151936, 22016, 32, 32768, 128, 0},
        {"{\"model_type\":\"qwen3\",\"num_key_value_heads\":null,\"num_attention_heads\":64}",
         151936, 22016, 64, 32768, 128, 0},
        {"{\"model_type\":\"mistral\",\"num_key_value_heads\":null,\"num_attention_heads\":64}",
         32000, 14336, 64, 131072, 64, 4096},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct hf_config c;
        must_parse(all[i].text, &c);
        assert_int_equal(c.hp.n_layers, 32);
        assert_int_equal(c.hp.hidden_size, 4096);
        assert_int_equal(c.hp.vocab_size, all[i].vocab);
        assert_int_equal(c.hp.ffn_size, all[i].ffn);
        assert_int_equal(c.hp.n_kv_heads, all[i].kv_heads);
        assert_int_equal(c.hp.context_length, all[i].context);
        assert_int_equal(c.hp.head_dim, all[i].head_dim);
        assert_true(c.hp.rope_theta == 1e4f && c.hp.rms_norm_eps == 1e-6f);
        assert_false(c.hp.tied_embedding);
        assert_int_equal(c.layer_windows ? c.layer_windows[31] : 0, all[i].window);
        assert_false(c.eos.given);
        hf_config_fini(&c);
    }
}

/* --- windows --- */

static void test_windows(void **state)
{
    static const struct {
        const char *text;
        uint32_t windows[4]; /* of four layers */
    } all[] = {
        {"{" MISTRAL ",\"sliding_window\":7}", {7, 7, 7, 7}},
        {"{" MISTRAL ",\"sliding_window\":7,\"use_sliding_window\":true}", {7, 7, 7, 7}},
        {"{" MISTRAL ",\"sliding_window\":null,\"use_sliding_window\":false}", {0}},
        {"{" MISTRAL ",\"sliding_window\":131072}", {0}}, /* as long as the context */
        {"{" MISTRAL ",\"sliding_window\":131071}", {131071, 131071, 131071, 131071}},
        {"{" MISTRAL ",\"sliding_window\":7,\"layer_types\":[\"sliding_attention\","
         "\"sliding_attention\",\"sliding_attention\",\"sliding_attention\"]}",
         {7, 7, 7, 7}},
        {"{" QWEN2 ",\"sliding_window\":7,\"max_window_layers\":2}", {0}},
        {"{" QWEN2 ",\"sliding_window\":7,\"max_window_layers\":2,\"use_sliding_window\":true}",
         {0, 0, 7, 7}},
        {"{" QWEN2 ",\"use_sliding_window\":true,\"max_window_layers\":0}",
         {4096, 4096, 4096, 4096}},
        {"{" QWEN2 ",\"use_sliding_window\":true}", {0}}, /* from layer 28 on */
        {"{" QWEN3 ",\"sliding_window\":9,\"use_sliding_window\":true,\"layer_types\":["
         "\"sliding_attention\",\"full_attention\",\"sliding_attention\",\"attention\"]}",
         {9, 0, 9, 0}},
        {"{" QWEN3 ",\"sliding_window\":null,\"use_sliding_window\":true,\"max_window_layers\":0}",
         {0}},
        {"{" LLAMA
         ",\"sliding_window\":null,\"layer_types\":[\"full_attention\",\"full_attention\","
         "\"full_attention\",\"full_attention\"]}",
         {0}},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        char text[512];
        struct hf_config c;
        snprintf(text, sizeof(text), "{\"num_hidden_layers\":4,%s", all[i].text + 1);
        must_parse(text, &c);
        bool any = all[i].windows[0] || all[i].windows[2];
        assert_int_equal(c.layer_windows != NULL, any);
        for (int k = 0; k < 4 && c.layer_windows; k++)
            assert_int_equal(c.layer_windows[k], all[i].windows[k]);
        hf_config_fini(&c);
    }
}

/* --- rope --- */

#define YARN(fields)                                                                               \
    "{" LLAMA ",\"max_position_embeddings\":4096,\"rope_scaling\":{\"rope_type\":\"yarn\"," fields \
    "}}"

static void test_rope(void **state)
{
    struct hf_config c;
    const struct rope_scaling_params *s = &c.hp.scaling;
    (void)state;
    must_parse("{" LLAMA ",\"rope_theta\":2e4,\"rope_parameters\":{\"rope_type\":\"linear\","
               "\"type\":\"linear\",\"factor\":4,\"rope_theta\":5e5,\"partial_rotary_factor\":1.0,"
               "\"attention_factor\":null}}",
               &c);
    assert_int_equal(c.hp.rope_scaling, ROPE_SCALING_LINEAR);
    assert_true(s->factor == 4 && c.hp.rope_theta == 5e5f && c.hp.context_length == 2048);
    must_parse("{" LLAMA ",\"rope_theta\":2e4,\"rope_scaling\":{\"type\":\"linear\",\"factor\":2},"
               "\"rope_parameters\":{\"type\":\"linear\",\"factor\":2}}",
               &c);
    assert_true(s->factor == 2 && c.hp.rope_theta == 2e4f);
    must_parse("{" LLAMA ",\"rope_scaling\":{}}", &c);
    assert_int_equal(c.hp.rope_scaling, ROPE_SCALING_NONE);
    must_parse("{" LLAMA ",\"rope_scaling\":{\"rope_theta\":7e4}}", &c);
    assert_true(c.hp.rope_scaling == ROPE_SCALING_NONE && c.hp.rope_theta == 7e4f);

    must_parse("{" LLAMA
               ",\"max_position_embeddings\":9000,\"rope_scaling\":{\"rope_type\":\"llama3\","
               "\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4}}",
               &c);
    assert_int_equal(c.hp.rope_scaling, ROPE_SCALING_LLAMA3);
    assert_int_equal(s->original_context, 9000); /* as long as nothing says it */
    assert_true(s->low_freq_factor == 1 && s->high_freq_factor == 4 && s->factor == 8);
    must_parse("{" LLAMA
               ",\"original_max_position_embeddings\":100,\"rope_scaling\":{\"rope_type\":"
               "\"llama3\",\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,"
               "\"original_max_position_embeddings\":200}}",
               &c);
    assert_int_equal(s->original_context, 100); /* the one beside wins */

    must_parse(YARN("\"factor\":4,\"original_max_position_embeddings\":1024,\"finetuned\":true"),
               &c);
    assert_true(s->factor == 4 && s->beta_fast == 32 && s->beta_slow == 1 && s->truncate);
    assert_true(s->attention_factor == 0 && s->original_context == 1024);
    assert_int_equal(c.hp.context_length, 4096);
    must_parse(YARN("\"factor\":null,\"original_max_position_embeddings\":512"), &c);
    assert_true(s->factor == 8);
    must_parse(YARN("\"factor\":4"), &c); /* then the context is that before stretching */
    assert_true(s->original_context == 4096 && c.hp.context_length == 16384);
    must_parse(YARN("\"factor\":4,\"beta_fast\":16,\"beta_slow\":2,\"truncate\":false,"
                    "\"attention_factor\":0.5,\"mscale\":2,\"mscale_all_dim\":3"),
               &c);
    assert_true(s->beta_fast == 16 && s->beta_slow == 2 && !s->truncate);
    assert_true(s->attention_factor == 0.5f);
    must_parse(YARN("\"factor\":40,\"mscale\":0.707,\"mscale_all_dim\":1"), &c);
    double want = (0.1 * 0.707 * log(40) + 1) / (0.1 * log(40) + 1);
    assert_true(fabs((double)s->attention_factor - want) < 1e-6);
    must_parse(YARN("\"factor\":40,\"mscale\":0.707"), &c); /* one alone says nothing */
    assert_true(s->attention_factor == 0);
}

/* --- biases, neutral values --- */

static void test_options(void **state)
{
    struct hf_config c;
    (void)state;
    must_parse("{" LLAMA ",\"attention_bias\":true}", &c);
    assert_true(c.qkv_bias && c.o_bias);
    must_parse("{" QWEN3 ",\"attention_bias\":true}", &c);
    assert_true(c.qkv_bias && c.o_bias && c.qk_norm);
    must_parse("{" QWEN2 ",\"attention_bias\":true,\"head_dim\":64}", &c);
    assert_true(c.qkv_bias && !c.o_bias && c.hp.head_dim == 64);
    must_parse("{" LLAMA ",\"hidden_act\":\"swish\",\"mlp_bias\":null,\"quantization_config\":null,"
               "\"something_unknown\":null,\"_something\":[1],\"pruned_heads\":{},"
               "\"chunk_size_feed_forward\":0,\"partial_rotary_factor\":1,\"is_causal\":true,"
               "\"max_length\":1000000000000000019884624838656,\"torch_dtype\":5,\"auto_map\":{"
               "\"AutoConfig\":\"x.Y\"},\"temperature\":9}",
               &c);
    must_parse("{" LLAMA ",\"eos_token_id\":[5,6,5,0]}", &c);
    assert_true(c.eos.given && c.eos.n == 3);
    assert_true(c.eos.ids[0] == 5 && c.eos.ids[1] == 6 && c.eos.ids[2] == 0);
    must_parse("{" LLAMA ",\"eos_token_id\":[]}", &c);
    assert_true(c.eos.given && c.eos.n == 0);
}

/* --- what is refused --- */

#define U LLMD_EUNSUPPORTED
#define P LLMD_EPARSE

static const struct {
    const char *text;
    int code;
    const char *msg; /* behind "config.json: " */
} faults[] = {
    {"", P, ""},
    {"{", P, "line 1"},
    {"[]", P, "not a JSON object"},
    {"\"text\"", P, "not a JSON object"},
    {"{\"a\":NaN}", P, ""},
    {"{\"vocab_size\":1e999}", P, ""},
    {"{}", P, "key 'architectures': missing, and so is 'model_type'"},
    {"{\"architectures\":[]}", P, "key 'architectures': must be a list of one name"},
    {"{\"architectures\":[\"a\",\"b\"]}", P, "key 'architectures': must be a list of one name"},
    {"{\"architectures\":[7]}", P, "key 'architectures': must be a list of one name"},
    {"{\"model_type\":7}", P, "key 'model_type': is a number, not a string"},
    {"{\"model_type\":\"gpt2\"}", U,
     "key 'model_type': 'gpt2' is not supported (LlamaForCausalLM, Mis"},
    {"{\"model_type\":\"lla\\u0000ma\"}", P, "key 'model_type': holds a NUL character"},
    {"{\"architectures\":[\"LlamaForSequenceClassification\"],\"model_type\":\"llama\"}", U,
     "key 'architectures': 'LlamaForSequenceClassification' is not supported"},
    {"{\"architectures\":[\"Evil\\n\\u001b[2J\"]}", U,
     "key 'architectures': 'Evil\\n\\x1b[2J' is not"},
    {"{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"qwen2\"}", P,
     "key 'model_type': 'qwen2' contradicts architecture 'LlamaForCausalLM'"},

    {"{" LLAMA ",\"new_thing\":1}", U, "key 'new_thing': not known for llama models"},
    {"{" LLAMA ",\"new\\nthing\":false}", U, "key 'new\\nthing': not known"},
    {"{" LLAMA ",\"num_local_experts\":8}", U, "key 'num_local_experts': not supported: a mixture"},
    {"{" LLAMA ",\"final_logit_softcapping\":30.0}", U, "not supported: capping of logits"},
    {"{" LLAMA ",\"logit_scale\":0.5}", U, "not supported: scaling of logits"},
    {"{" LLAMA ",\"no_rope_layers\":[1]}", U, "not supported: layers without RoPE"},
    {"{" QWEN2 ",\"dual_chunk_attention_config\":{}}", U, "not supported: dual chunk attention"},
    {"{" LLAMA ",\"quantization_config\":{\"quant_method\":\"awq\"}}", U,
     "key 'quantization_config': weights quantized by 'awq' are not supported (BF16, F16 and F32"},
    {"{" LLAMA ",\"quantization_config\":{}}", U, "not supported: weights of that quantization"},
    {"{" LLAMA ",\"hidden_act\":\"gelu\"}", U,
     "key 'hidden_act': not supported: this activation (silu is)"},
    {"{" LLAMA ",\"hidden_act\":null}", U, "key 'hidden_act': not supported: this activation"},
    {"{" LLAMA ",\"mlp_bias\":true}", U,
     "key 'mlp_bias': not supported: biases of the feed-forward"},
    {"{" LLAMA ",\"sliding_window\":4096}", U,
     "key 'sliding_window': not supported: a sliding window in"},
    {"{" LLAMA ",\"partial_rotary_factor\":0.5}", U,
     "key 'partial_rotary_factor': not supported: partial RoPE"},
    {"{" LLAMA ",\"is_causal\":false}", U, "not supported: non-causal attention"},
    {"{" MISTRAL ",\"attention_bias\":true}", U,
     "key 'attention_bias': not supported: biases so set"},
    {"{" QWEN2 ",\"attention_bias\":false}", U,
     "key 'attention_bias': not supported: biases so set"},

    {"{" LLAMA ",\"vocab_size\":0}", P, "key 'vocab_size': 0 is not within 1 to 4194304"},
    {"{" LLAMA ",\"vocab_size\":-1}", P, "key 'vocab_size': -1 is not within"},
    {"{" LLAMA ",\"vocab_size\":9223372036854775807}", P,
     "key 'vocab_size': 9.22337203685478e+18 is not"},
    {"{" LLAMA ",\"vocab_size\":1.5}", P, "key 'vocab_size': 1.5 is not a whole number from 1"},
    {"{" LLAMA ",\"vocab_size\":\"big\"}", P, "key 'vocab_size': is a string, not a number from 1"},
    {"{" LLAMA ",\"vocab_size\":null}", P, "key 'vocab_size': is null, not a number from 1"},
    {"{" LLAMA ",\"vocab_size\":true}", P, "key 'vocab_size': is true or false, not a number"},
    {"{" LLAMA ",\"hidden_size\":131073}", P, "key 'hidden_size': 131073 is not within"},
    {"{" LLAMA ",\"num_hidden_layers\":1025}", P, "key 'num_hidden_layers': 1025 is not within"},
    {"{" LLAMA ",\"max_position_embeddings\":[]}", P, "is a list, not a number from 1 to 16777216"},
    {"{" LLAMA ",\"rms_norm_eps\":1}", P, "key 'rms_norm_eps': 1 is not within 1e-12 to 0.1"},
    {"{" LLAMA ",\"rms_norm_eps\":{}}", P, "key 'rms_norm_eps': is an object, not a number"},
    {"{" LLAMA ",\"num_key_value_heads\":5}", P,
     "key 'num_key_value_heads': 5 does not divide the 32"},
    {"{" LLAMA ",\"num_attention_heads\":7}", P,
     "key 'num_attention_heads': 7 does not divide the hid"},
    {"{" LLAMA ",\"head_dim\":7}", U, "key 'head_dim': heads of 7 elements; even sizes"},
    {"{" LLAMA ",\"head_dim\":1026}", P, "key 'head_dim': 1026 is not within 1 to 1024"},
    {"{" LLAMA ",\"num_attention_heads\":2,\"num_key_value_heads\":2}", U,
     "heads of 2048 elements"},
    {"{" LLAMA ",\"tie_word_embeddings\":\"yes\"}", P,
     "'tie_word_embeddings': is a string, not true or"},
    {"{" LLAMA ",\"attention_bias\":1}", P, "key 'attention_bias': is a number, not true or false"},
    {"{" LLAMA ",\"eos_token_id\":\"</s>\"}", P,
     "key 'eos_token_id': is a string, not a token id or"},
    {"{" LLAMA ",\"eos_token_id\":32000}", P, "key 'eos_token_id': there is no token 32000"},
    {"{" LLAMA ",\"eos_token_id\":[1,-1]}", P, "key 'eos_token_id': there is no token -1"},

    {"{" MISTRAL ",\"sliding_window\":0}", P, "key 'sliding_window': 0 is not within 1"},
    {"{" MISTRAL ",\"use_sliding_window\":false}", P, "false, but 'sliding_window' is 4096"},
    {"{" QWEN2 ",\"max_window_layers\":-1}", P, "key 'max_window_layers': -1 is not within"},
    {"{" QWEN2 ",\"layer_types\":[\"full_attention\"]}", P,
     "must be a list of 32 names, one per layer"},
    {"{" QWEN2 ",\"layer_types\":\"full_attention\"}", P,
     "must be a list of 32 names, one per layer"},
    {"{" QWEN2 ",\"num_hidden_layers\":1,\"layer_types\":[3]}", P,
     "'layer_types': must be a list of names"},
    {"{" QWEN2 ",\"num_hidden_layers\":1,\"layer_types\":[\"mamba\"]}", U,
     "'mamba' is not supported"},
    {"{" QWEN2 ",\"num_hidden_layers\":1,\"layer_types\":[\"sliding_attention\"]}", P,
     "layer 0 has sliding attention, but there is no window"},
    {"{" LLAMA ",\"num_hidden_layers\":1,\"layer_types\":[\"sliding_attention\"]}", P,
     "layer 0 has sliding attention, but there is no window"},
    {"{" MISTRAL ",\"num_hidden_layers\":1,\"layer_types\":[\"full_attention\"]}", U,
     "layer 0 differs: in mistral models the window is of all layers"},

    {"{" LLAMA ",\"rope_theta\":0}", P, "key 'rope_theta': 0 is not within 1 to 1e+12"},
    {"{" LLAMA ",\"rope_theta\":\"1e6\"}", P, "key 'rope_theta': is a string, not a number"},
    {"{" LLAMA ",\"rope_scaling\":4}", P, "key 'rope_scaling': must be an object"},
    {"{" LLAMA ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}}", U,
     "key 'rope_scaling.type': RoPE scaling 'dynamic' is not supported (default, linear, llama3 "
     "and"},
    {"{" LLAMA ",\"rope_parameters\":{\"rope_type\":\"longrope\"}}", U,
     "key 'rope_parameters.rope_type': RoPE scaling 'longrope' is not supported"},
    {"{" LLAMA ",\"rope_scaling\":{\"type\":7}}", P,
     "'rope_scaling.type': is a number, not a string"},
    {"{" LLAMA ",\"rope_scaling\":{\"type\":\"linear\"}}", P,
     "'rope_scaling.factor': missing; RoPE sc"},
    {"{" LLAMA ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":0.5}}", P,
     "0.5 is not within 1 to"},
    {"{" LLAMA ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2,\"beta_fast\":3}}", U,
     "key 'rope_scaling.beta_fast': does not belong to RoPE scaling 'linear'"},
    {"{" LLAMA ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2,\"mrope_section\":[1]}}", U,
     "key 'rope_scaling.mrope_section': not known"},
    {"{" LLAMA ",\"rope_parameters\":{\"partial_rotary_factor\":0.25}}", U,
     "0.25: partial RoPE is not"},
    {"{" LLAMA ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2},\"rope_parameters\":{\"type\":"
     "\"linear\",\"factor\":3}}",
     P, "key 'rope_parameters': differs from 'rope_scaling'; keep one"},
    {"{" LLAMA ",\"rope_scaling\":{\"type\":\"llama3\",\"factor\":2,\"high_freq_factor\":4}}", P,
     "key 'rope_scaling.low_freq_factor': missing"},
    {"{" LLAMA ",\"rope_scaling\":{\"type\":\"llama3\",\"factor\":2,\"high_freq_factor\":4,"
     "\"low_freq_factor\":4}}",
     P, "4 is not above low_freq_factor, 4"},
    {YARN("\"factor\":4,\"beta_fast\":1,\"beta_slow\":2"), P, "1 is below beta_slow, 2"},
    {YARN("\"factor\":4,\"attention_factor\":0"), P,
     "'rope_scaling.attention_factor': 0 is not within"},
    {YARN("\"factor\":4,\"truncate\":1"), P, "'rope_scaling.truncate': is a number, not true or"},
    {YARN("\"factor\":4,\"original_max_position_embeddings\":0"), P,
     "0 is not within 1 to 16777216"},
};

static void test_faults(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        struct hf_config c;
        struct err e;
        int rc = parse(faults[i].text, &c, &e);
        if (rc == 0)
            fail_msg("accepted: %s", faults[i].text);
        if (rc != -faults[i].code || strncmp(e.msg, "config.json: ", 13) != 0 ||
            !strstr(e.msg, faults[i].msg) || strchr(e.msg, '\n'))
            fail_msg("%s: error %d, \"%s\"", faults[i].text, rc, e.msg);
    }
}

static void test_deep_recursion(void **state)
{
    enum { N = 200000 };
    struct hf_config c;
    struct err e = {0};
    char *text = malloc(N);
    (void)state;
    for (size_t i = 0; i < N; i++)
        text[i] = i < 5 ? "{\"a\":"[i] : '[';
    assert_int_equal(hf_config_parse(text, N, "config.json", &c, &e), -LLMD_EPARSE);
    free(text);
}

/* --- the files beside it --- */

static void test_generation(void **state)
{
    static const char text[] =
        "{\"do_sample\":true,\"eos_token_id\":[3,1],\"temperature\":0.5,\"top_p\":2,\"top_k\":20,"
        "\"min_p\":\"x\",\"repetition_penalty\":1,\"pad_token_id\":null,\"unknown\":{}}";
    struct hf_generation g;
    struct err e = {0};
    (void)state;
    assert_int_equal(hf_generation_parse(text, strlen(text), "g", 4, &g, &e), 0);
    assert_true(g.defaults.temperature == 0.5f &&
                isnan(g.defaults.top_p)); /* nonsense: not given */
    assert_true(isnan(g.defaults.min_p) && g.defaults.repetition_penalty == 1);
    assert_int_equal(g.defaults.top_k, 20);
    assert_true(g.eos.given && g.eos.n == 2 && g.eos.ids[0] == 3 && g.eos.ids[1] == 1);
    assert_int_equal(hf_generation_parse("{}", 2, "g", 4, &g, &e), 0);
    assert_true(isnan(g.defaults.temperature) && g.defaults.top_k == -1 && !g.eos.given);
    assert_int_equal(hf_generation_parse(text, strlen(text), "g", 3, &g, &e), -LLMD_EPARSE);
    assert_string_equal(e.msg, "g: key 'eos_token_id': there is no token 3 (vocabulary of 3)");
    err_clear(&e);
    assert_int_equal(hf_generation_parse("[]", 2, "g", 3, &g, &e), -LLMD_EPARSE);
}

static int add(struct hf_text *t, const char *source, const char *text, struct err *e)
{
    err_clear(e);
    return hf_tokenizer_config_parse(text, strlen(text), source, t, e);
}

static void test_tokenizer_config(void **state)
{
    struct hf_text t = {0};
    struct err e = {0};
    (void)state;
    assert_int_equal(add(&t, "d/tokenizer_config.json",
                         "{\"bos_token\":{\"content\":\"<s>\",\"lstrip\":false},\"eos_token\":null,"
                         "\"chat_template\":\"hi\",\"added_tokens_decoder\":{},"
                         "\"model_max_length\":1000000000000000019884624838656}",
                         &e),
                     0);
    assert_int_equal(add(&t, "m", "{\"bos_token\":\"<b>\",\"eos_token\":\"</s>\"}", &e), 0);
    assert_string_equal(t.bos_token, "<s>"); /* what is said first stays */
    assert_string_equal(t.eos_token, "</s>");
    assert_string_equal(t.template, "hi");
    assert_string_equal(t.template_origin, "tokenizer_config.json");
    hf_text_fini(&t);
    assert_int_equal(add(&t, "tc",
                         "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"a\"},"
                         "{\"name\":\"default\",\"template\":\"b\"}]}",
                         &e),
                     0);
    assert_string_equal(t.template, "b");
    assert_string_equal(t.template_origin, "tc, 'default' of 2");
    hf_text_fini(&t);
    assert_int_equal(
        add(&t, "tc", "{\"chat_template\":[{\"name\":\"rag\",\"template\":\"a\"}]}", &e), 0);
    assert_null(t.template);
    assert_non_null(strstr(t.template_fault, "'default'"));
    hf_text_fini(&t);

    static const char *const bad[][2] = {
        {"{\"bos_token\":5}", "tc: key 'bos_token': is a number, not a string"},
        {"{\"eos_token\":{}}", "tc: key 'eos_token.content': missing"},
        {"{\"eos_token\":{\"content\":1}}",
         "tc: key 'eos_token.content': is a number, not a string"},
        {"{\"chat_template\":{}}", "tc: key 'chat_template': is an object, not a string"},
        {"{\"chat_template\":[\"x\"]}",
         "tc: key 'chat_template': must be a string or a list of {name, template}"},
        {"{\"chat_template\":[{\"name\":\"default\"}]}",
         "tc: key 'chat_template[].template': missing"},
        {"{\"chat_template\":\"a\\u0000b\"}", "tc: key 'chat_template': holds a NUL character"},
        {"7", "tc: not a JSON object"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(add(&t, "tc", bad[i][0], &e), -LLMD_EPARSE);
        assert_string_equal(e.msg, bad[i][1]);
        hf_text_fini(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published),        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_windows),          cmocka_unit_test(test_rope),
        cmocka_unit_test(test_options),          cmocka_unit_test(test_faults),
        cmocka_unit_test(test_deep_recursion),   cmocka_unit_test(test_generation),
        cmocka_unit_test(test_tokenizer_config),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

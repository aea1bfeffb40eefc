/* hf_config.c - from config.json to hparams.
 *
 * A key that is not in the table below is refused: it may change what the model computes, and a
 * model that loads but answers subtly wrong is worse than one that does not load. In the table are
 * the keys that the configuration classes of transformers 5 know, and those that published models
 * carry though their architecture has never read them. Keys that begin with an underscore are
 * transformers' own notes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/hf_int.h"
#include "core/util/printable.h"

enum { MAX_LAYERS = 1024, MAX_CONTEXT = 1 << 24, N_ARCHS = ARCH_QWEN3 + 1 };

/* Architectures with the defaults of their configuration classes. */
static const struct arch_class {
    const char *model_type, *name;
    uint32_t vocab_size, ffn_size, n_kv_heads, context_length; /* n_kv_heads 0: as heads */
    uint32_t head_dim;                                         /* 0: hidden size / heads */
    uint32_t window;
} classes[N_ARCHS] = {
    [ARCH_LLAMA] = {"llama", "LlamaForCausalLM", 32000, 11008, 0, 2048, 0, 0},
    [ARCH_MISTRAL] = {"mistral", "MistralForCausalLM", 32000, 14336, 8, 131072, 0, 4096},
    [ARCH_QWEN2] = {"qwen2", "Qwen2ForCausalLM", 151936, 22016, 32, 32768, 0, 4096},
    [ARCH_QWEN3] = {"qwen3", "Qwen3ForCausalLM", 151936, 22016, 32, 32768, 128, 4096},
};
static const char supported[] =
    "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM and Qwen3ForCausalLM are";

enum rule {
    READ,     /* the functions below take it */
    HARMLESS, /* changes nothing */
    IS_FALSE, /* accepted with the one value at which it changes nothing, or as null: */
    IS_TRUE,
    IS_ZERO,
    IS_ONE,
    IS_SILU,
    IS_NULL,
    IS_EMPTY,
};

#define ALL(rule)                                                                                  \
    {                                                                                              \
        rule, rule, rule, rule                                                                     \
    }

/* llama, mistral, qwen2, qwen3 */
static const struct known_key {
    const char *key;
    uint8_t rules[N_ARCHS];
} known_keys[] = {
    {"architectures", ALL(READ)},
    {"model_type", ALL(READ)},
    {"vocab_size", ALL(READ)},
    {"hidden_size", ALL(READ)},
    {"intermediate_size", ALL(READ)},
    {"num_hidden_layers", ALL(READ)},
    {"num_attention_heads", ALL(READ)},
    {"num_key_value_heads", ALL(READ)},
    {"head_dim", ALL(READ)},
    {"max_position_embeddings", ALL(READ)},
    {"rms_norm_eps", ALL(READ)},
    {"tie_word_embeddings", ALL(READ)},
    {"rope_theta", ALL(READ)},
    {"rope_scaling", ALL(READ)},
    {"rope_parameters", ALL(READ)},
    {"original_max_position_embeddings", ALL(READ)},
    {"eos_token_id", ALL(READ)},
    {"attention_bias", {READ, IS_FALSE, IS_TRUE, READ}},
    {"sliding_window", {IS_NULL, READ, READ, READ}},
    {"use_sliding_window", {IS_FALSE, READ, READ, READ}},
    {"max_window_layers", {HARMLESS, HARMLESS, READ, READ}},
    {"layer_types", ALL(READ)},

    {"hidden_act", ALL(IS_SILU)},
    {"mlp_bias", ALL(IS_FALSE)},
    {"partial_rotary_factor", ALL(IS_ONE)},
    {"quantization_config", ALL(IS_NULL)},
    {"compression_config", ALL(IS_NULL)},
    {"per_layer_config", ALL(IS_NULL)},
    {"rope_interleaved", ALL(IS_FALSE)},
    {"use_mrope", ALL(IS_FALSE)},
    {"is_encoder_decoder", ALL(IS_FALSE)},
    {"add_cross_attention", ALL(IS_FALSE)},
    {"tie_encoder_decoder", ALL(IS_FALSE)},
    {"use_bidirectional_attention", ALL(IS_FALSE)},
    {"is_causal", ALL(IS_TRUE)},
    {"chunk_size_feed_forward", ALL(IS_ZERO)},
    {"pruned_heads", ALL(IS_EMPTY)},

    {"attention_dropout", ALL(HARMLESS)},
    {"hidden_dropout", ALL(HARMLESS)},
    {"resid_pdrop", ALL(HARMLESS)},
    {"embd_pdrop", ALL(HARMLESS)},
    {"classifier_dropout", ALL(HARMLESS)},
    {"initializer_range", ALL(HARMLESS)},
    {"pretraining_tp", ALL(HARMLESS)}, /* how products were cut; their result is the same */
    {"use_cache", ALL(HARMLESS)},
    {"torch_dtype", ALL(HARMLESS)}, /* each tensor says its type */
    {"dtype", ALL(HARMLESS)},
    {"transformers_version", ALL(HARMLESS)},
    {"transformers.js_config", ALL(HARMLESS)},
    {"unsloth_version", ALL(HARMLESS)},
    {"unsloth_fixed", ALL(HARMLESS)},
    {"name_or_path", ALL(HARMLESS)},
    {"auto_map", ALL(HARMLESS)}, /* code of the model's own, which transformers does not take for
                                  * an architecture that it knows */
    {"is_llama_config", ALL(HARMLESS)},
    {"max_sequence_length", ALL(HARMLESS)},
    {"model_max_length", ALL(HARMLESS)},
    {"bos_token_id", ALL(HARMLESS)}, /* what stands in front of a text is the tokenizer's word */
    {"pad_token_id", ALL(HARMLESS)},
    {"unk_token_id", ALL(HARMLESS)},
    {"sep_token_id", ALL(HARMLESS)},
    {"decoder_start_token_id", ALL(HARMLESS)},
    {"tokenizer_class", ALL(HARMLESS)},
    {"prefix", ALL(HARMLESS)},
    {"task_specific_params", ALL(HARMLESS)},
    {"finetuning_task", ALL(HARMLESS)},
    {"id2label", ALL(HARMLESS)},
    {"label2id", ALL(HARMLESS)},
    {"num_labels", ALL(HARMLESS)},
    {"problem_type", ALL(HARMLESS)},
    {"is_decoder", ALL(HARMLESS)},
    {"output_attentions", ALL(HARMLESS)},
    {"output_hidden_states", ALL(HARMLESS)},
    {"tie_last_hidden_states", ALL(HARMLESS)},
    {"return_dict", ALL(HARMLESS)},
    {"use_return_dict", ALL(HARMLESS)},
    {"torchscript", ALL(HARMLESS)},
    {"use_bfloat16", ALL(HARMLESS)},
    {"tf_legacy_loss", ALL(HARMLESS)},
    {"attn_implementation", ALL(HARMLESS)},
    {"experts_implementation", ALL(HARMLESS)},

    /* Settings of generation, which transformers 5 does not take from this file. */
    {"max_length", ALL(HARMLESS)},
    {"max_new_tokens", ALL(HARMLESS)},
    {"min_length", ALL(HARMLESS)},
    {"do_sample", ALL(HARMLESS)},
    {"early_stopping", ALL(HARMLESS)},
    {"num_beams", ALL(HARMLESS)},
    {"num_beam_groups", ALL(HARMLESS)},
    {"diversity_penalty", ALL(HARMLESS)},
    {"temperature", ALL(HARMLESS)},
    {"top_k", ALL(HARMLESS)},
    {"top_p", ALL(HARMLESS)},
    {"typical_p", ALL(HARMLESS)},
    {"repetition_penalty", ALL(HARMLESS)},
    {"length_penalty", ALL(HARMLESS)},
    {"no_repeat_ngram_size", ALL(HARMLESS)},
    {"encoder_no_repeat_ngram_size", ALL(HARMLESS)},
    {"bad_words_ids", ALL(HARMLESS)},
    {"num_return_sequences", ALL(HARMLESS)},
    {"output_scores", ALL(HARMLESS)},
    {"return_dict_in_generate", ALL(HARMLESS)},
    {"forced_bos_token_id", ALL(HARMLESS)},
    {"forced_eos_token_id", ALL(HARMLESS)},
    {"remove_invalid_values", ALL(HARMLESS)},
    {"exponential_decay_length_penalty", ALL(HARMLESS)},
    {"suppress_tokens", ALL(HARMLESS)},
    {"begin_suppress_tokens", ALL(HARMLESS)},
};

/* What a model may have and this version does not; the first prefix that fits gives the message. */
static const struct {
    const char *prefix, *what;
} lacking[] = {
    {"quantization", "weights of that quantization"},
    {"compression_config", "weights of that quantization"},
    {"num_experts", "a mixture of experts"},
    {"num_local_experts", "a mixture of experts"},
    {"n_routed_experts", "a mixture of experts"},
    {"moe_", "a mixture of experts"},
    {"dual_chunk_attention", "dual chunk attention"},
    {"attention_chunk_size", "chunked attention"},
    {"sliding_window", "a sliding window in this architecture"},
    {"use_sliding_window", "a sliding window in this architecture"},
    {"attention_bias", "biases so set in this architecture"},
    {"mlp_bias", "biases of the feed-forward network"},
    {"attn_logit_softcapping", "capping of attention scores"},
    {"final_logit_softcapping", "capping of logits"},
    {"logit", "scaling of logits"},
    {"embedding_multiplier", "scaling of embeddings"},
    {"residual_multiplier", "scaling of residuals"},
    {"attention_multiplier", "scaling of attention"},
    {"hidden_act", "this activation (silu is)"},
    {"partial_rotary_factor", "partial RoPE"},
    {"no_rope_layer", "layers without RoPE"},
    {"rotary_", "this form of RoPE"},
    {"rope_", "this form of RoPE"},
    {"use_mrope", "this form of RoPE"},
    {"kv_lora_rank", "latent attention"},
    {"vision_config", "a model of images"},
    {"num_nextn_predict_layers", "prediction of several tokens at once"},
    {"per_layer_config", "layers that differ from each other"},
    {"is_encoder_decoder", "an encoder-decoder model"},
    {"add_cross_attention", "cross attention"},
    {"is_causal", "non-causal attention"},
    {"use_bidirectional_attention", "non-causal attention"},
};

/* --- keys --- */

static bool is_neutral(enum rule rule, const json_t *v)
{
    const char *s = json_string_value(v);
    switch (rule) {
    case READ:
    case HARMLESS:
        return true;
    case IS_FALSE:
        return json_is_null(v) || json_is_false(v);
    case IS_TRUE:
        return json_is_null(v) || json_is_true(v);
    case IS_ZERO:
        return json_is_null(v) || (json_is_number(v) && json_number_value(v) == 0);
    case IS_ONE:
        return json_is_null(v) || (json_is_number(v) && json_number_value(v) == 1);
    case IS_SILU:
        return s && (strcmp(s, "silu") == 0 || strcmp(s, "swish") == 0);
    case IS_NULL:
        return json_is_null(v);
    case IS_EMPTY:
        return json_is_null(v) || (json_is_object(v) && json_object_size(v) == 0);
    }
    BUG_ON(true);
}

/* "awq": how the weights are quantized; "" when the file does not say. */
static void quantization(const json_t *v, char out[64])
{
    const char *s = json_string_value(json_object_get(v, "quant_method"));
    printable_text(s ? s : "", s ? strlen(s) : 0, "", out, 64);
}

static int refuse_key(const struct hf_reader *r, const char *key, const json_t *v,
                      const struct arch_class *class)
{
    char method[64];
    quantization(v, method);
    if (method[0])
        return hf_fault(r, LLMD_EUNSUPPORTED, key,
                        "weights quantized by '%s' are not supported (BF16, F16 and F32 are)",
                        method);
    for (size_t i = 0; i < ARRAY_LEN(lacking); i++)
        if (strncmp(key, lacking[i].prefix, strlen(lacking[i].prefix)) == 0)
            return hf_fault(r, LLMD_EUNSUPPORTED, key, "not supported: %s", lacking[i].what);
    return hf_fault(r, LLMD_EUNSUPPORTED, key,
                    "not known for %s models, and what could change the result is never ignored; "
                    "delete it if the model does without",
                    class->model_type);
}

static int check_keys(const struct hf_reader *r, enum arch arch)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)r->object, key, v)
    {
        size_t i = 0;
        while (i < ARRAY_LEN(known_keys) && strcmp(known_keys[i].key, key) != 0)
            i++;
        if (i == ARRAY_LEN(known_keys) ? !json_is_null(v) && key[0] != '_'
                                       : !is_neutral((enum rule)known_keys[i].rules[arch], v))
            return refuse_key(r, key, v, &classes[arch]);
    }
    return 0;
}

/* --- architecture --- */

static int refuse_arch(const struct hf_reader *r, const char *key, const char *name)
{
    char shown[64];
    printable_text(name, strlen(name), "", shown, sizeof(shown));
    return hf_fault(r, LLMD_EUNSUPPORTED, key, "'%s' is not supported (%s)", shown, supported);
}

/* The architecture by `architectures` and `model_type`, which must not contradict each other. */
static int read_arch(const struct hf_reader *r, enum arch *out)
{
    const json_t *list = hf_get(r, "architectures");
    const char *type = NULL;
    int by_type = -1, by_name = -1;
    int rc = hf_get(r, "model_type") ? hf_read_string(r, "model_type", &type) : 0;
    if (rc)
        return rc;
    const char *name = json_string_value(json_array_get(list, 0));
    if (list && (json_array_size(list) != 1 || !name))
        return hf_fault(r, LLMD_EPARSE, "architectures", "must be a list of one name");
    for (int i = 0; i < N_ARCHS; i++) {
        if (type && strcmp(type, classes[i].model_type) == 0)
            by_type = i;
        if (name && strcmp(name, classes[i].name) == 0)
            by_name = i;
    }
    if (name && by_name < 0)
        return refuse_arch(r, "architectures", name);
    if (type && by_type < 0)
        return refuse_arch(r, "model_type", type);
    if (!name && !type)
        return hf_fault(r, LLMD_EPARSE, "architectures", "missing, and so is 'model_type'");
    if (name && type && by_name != by_type)
        return hf_fault(r, LLMD_EPARSE, "model_type", "'%s' contradicts architecture '%s'", type,
                        name);
    *out = (enum arch)(name ? by_name : by_type);
    return 0;
}

/* --- numbers --- */

static int read_sizes(const struct hf_reader *r, struct hparams *h)
{
    const struct {
        const char *key;
        uint32_t max;
        uint32_t *io;
    } sizes[] = {
        {"vocab_size", 1 << 22, &h->vocab_size},
        {"hidden_size", 1 << 17, &h->hidden_size},
        {"intermediate_size", 1 << 20, &h->ffn_size},
        {"num_hidden_layers", MAX_LAYERS, &h->n_layers},
        {"num_attention_heads", 1024, &h->n_heads},
        {"max_position_embeddings", MAX_CONTEXT, &h->context_length},
    };
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        int rc = hf_read_u32(r, sizes[i].key, 1, sizes[i].max, sizes[i].io);
        if (rc)
            return rc;
    }
    return hf_read_f32(r, "rms_norm_eps", 1e-12, 0.1, &h->rms_norm_eps);
}

static int read_heads(const struct hf_reader *r, struct hparams *h)
{
    const char *key = "num_key_value_heads";
    int rc = 0;
    if (json_is_null(json_object_get(r->object, key)) || h->n_kv_heads == 0)
        h->n_kv_heads = h->n_heads;
    if (hf_get(r, key))
        rc = hf_read_u32(r, key, 1, 1024, &h->n_kv_heads);
    if (rc)
        return rc;
    if (h->n_heads % h->n_kv_heads != 0)
        return hf_fault(r, LLMD_EPARSE, key, "%u does not divide the %u heads", h->n_kv_heads,
                        h->n_heads);
    if (hf_get(r, "head_dim"))
        rc = hf_read_u32(r, "head_dim", 1, 1024, &h->head_dim);
    if (rc)
        return rc;
    if (h->head_dim == 0 && h->hidden_size % h->n_heads != 0)
        return hf_fault(r, LLMD_EPARSE, "num_attention_heads",
                        "%u does not divide the hidden size %u", h->n_heads, h->hidden_size);
    if (h->head_dim == 0)
        h->head_dim = h->hidden_size / h->n_heads;
    if (h->head_dim > 1024 || h->head_dim % 2 != 0)
        return hf_fault(r, LLMD_EUNSUPPORTED, "head_dim",
                        "heads of %u elements; even sizes up to 1024 are supported", h->head_dim);
    return 0;
}

/* --- sliding windows --- */

/* The window of those layers that have one; 0: none has. */
static int read_window(const struct hf_reader *r, const struct hparams *h, uint32_t *out)
{
    bool use = h->arch == ARCH_MISTRAL;
    uint32_t window = classes[h->arch].window;
    int rc = hf_read_bool(r, "use_sliding_window", &use);
    if (json_is_null(json_object_get(r->object, "sliding_window")))
        window = 0;
    else if (!rc)
        rc = hf_read_u32(r, "sliding_window", 1, INT32_MAX, &window);
    if (rc)
        return rc;
    if (!use && window > 0 && h->arch == ARCH_MISTRAL)
        return hf_fault(r, LLMD_EPARSE, "use_sliding_window",
                        "false, but 'sliding_window' is %u; make that null", window);
    *out = use ? window : 0;
    return 0;
}

/* Whether layer i has the window; `types` is checked for its length. */
static int layer_slides(const struct hf_reader *r, const struct hparams *h, const json_t *types,
                        uint32_t i, uint32_t window, bool *out)
{
    const char *type = json_string_value(json_array_get(types, i));
    char shown[64];
    if (!type)
        return hf_fault(r, LLMD_EPARSE, "layer_types", "must be a list of names");
    *out = strcmp(type, "sliding_attention") == 0;
    if (!*out && strcmp(type, "full_attention") != 0 && strcmp(type, "attention") != 0) {
        printable_text(type, strlen(type), "", shown, sizeof(shown));
        return hf_fault(r, LLMD_EUNSUPPORTED, "layer_types",
                        "'%s' is not supported (full_attention and sliding_attention are)", shown);
    }
    if (*out && window == 0)
        return hf_fault(r, LLMD_EPARSE, "layer_types",
                        "layer %u has sliding attention, but there is no window", i);
    if (h->arch == ARCH_MISTRAL && *out != (window > 0))
        return hf_fault(r, LLMD_EUNSUPPORTED, "layer_types",
                        "layer %u differs: in mistral models the window is of all layers", i);
    return 0;
}

static int read_windows(const struct hf_reader *r, struct hf_config *c)
{
    const struct hparams *h = &c->hp;
    const json_t *types = hf_get(r, "layer_types");
    uint32_t window = 0, first = h->arch == ARCH_MISTRAL ? 0 : 28;
    int rc = h->arch == ARCH_LLAMA ? 0 : read_window(r, h, &window);
    if (!rc && h->arch != ARCH_MISTRAL)
        rc = hf_read_u32(r, "max_window_layers", 0, INT32_MAX, &first);
    if (!rc && types && json_array_size(types) != h->n_layers)
        rc = hf_fault(r, LLMD_EPARSE, "layer_types", "must be a list of %u names, one per layer",
                      h->n_layers);
    if (rc)
        return rc;
    c->layer_windows = calloc(h->n_layers, sizeof(*c->layer_windows));
    if (!c->layer_windows)
        return err_set(r->e, LLMD_ENOMEM, "%s: out of memory", r->source);
    bool any = false;
    for (uint32_t i = 0; i < h->n_layers; i++) {
        bool slides = window > 0 && i >= first;
        if (types)
            rc = layer_slides(r, h, types, i, window, &slides);
        if (rc)
            break;
        /* A window as long as the context hides nothing. */
        c->layer_windows[i] = slides && window < h->context_length ? window : 0;
        any |= c->layer_windows[i] > 0;
    }
    if (rc || !any) {
        free(c->layer_windows);
        c->layer_windows = NULL;
    }
    return rc;
}

/* --- all of it --- */

static int read_config(const struct hf_reader *r, struct hf_config *c)
{
    enum arch arch = ARCH_LLAMA;
    int rc = read_arch(r, &arch);
    if (!rc)
        rc = check_keys(r, arch);
    if (rc)
        return rc;
    const struct arch_class *class = &classes[arch];
    c->hp = (struct hparams){
        .arch = arch,
        .n_layers = 32,
        .hidden_size = 4096,
        .n_heads = 32,
        .n_kv_heads = class->n_kv_heads,
        .head_dim = class->head_dim,
        .ffn_size = class->ffn_size,
        .vocab_size = class->vocab_size,
        .context_length = class->context_length,
        .rope_theta = 10000.0f,
        .rms_norm_eps = 1e-6f,
        .rope_style = ROPE_NEOX,
    };
    bool bias = arch == ARCH_QWEN2;
    c->qk_norm = arch == ARCH_QWEN3;
    rc = read_sizes(r, &c->hp);
    if (!rc)
        rc = read_heads(r, &c->hp);
    if (!rc)
        rc = hf_read_bool(r, "tie_word_embeddings", &c->hp.tied_embedding);
    if (!rc && (arch == ARCH_LLAMA || arch == ARCH_QWEN3))
        rc = hf_read_bool(r, "attention_bias", &bias);
    if (!rc)
        rc = hf_read_rope(r, &c->hp);
    if (!rc)
        rc = hf_read_eos(r, c->hp.vocab_size, &c->eos);
    c->qkv_bias = bias;
    c->o_bias = bias && arch != ARCH_QWEN2;
    return rc ? rc : read_windows(r, c);
}

int hf_config_parse(const char *text, size_t n, const char *source, struct hf_config *out,
                    struct err *e)
{
    struct hf_config c = {0};
    json_t *object;
    int rc = hf_parse_object(text, n, source, &object, e);
    if (rc)
        return rc;
    const struct hf_reader r = {.source = source, .within = "", .object = object, .e = e};
    rc = read_config(&r, &c);
    json_decref(object);
    if (rc == 0)
        *out = c;
    return rc;
}

void hf_config_fini(struct hf_config *c)
{
    free(c->layer_windows);
    c->layer_windows = NULL;
}

/* hparams.h - the numbers that define a transformer, whatever file they came from. */
#pragma once
#include "core/util/base.h"

enum arch { ARCH_LLAMA, ARCH_MISTRAL, ARCH_QWEN2, ARCH_QWEN3 };
const char *arch_name(enum arch a); /* "llama", ...: as the models' own files spell it */

enum rope_style {
    ROPE_NEOX,        /* element i rotates with i + head_dim/2 (Hugging Face weights) */
    ROPE_INTERLEAVED, /* element 2i rotates with 2i+1 (GGUF's permuted llama weights) */
};

/* How rotary frequencies are changed for contexts beyond the original one.
 * Source  linear: Chen et al., arXiv:2306.15595; YaRN: Peng et al., arXiv:2309.00071; llama3: the
 *         formula of Llama 3.1's own code. */
enum rope_scaling {
    ROPE_SCALING_NONE,
    ROPE_SCALING_LINEAR,
    ROPE_SCALING_LLAMA3,
    ROPE_SCALING_YARN
};

struct rope_scaling_params {
    float factor;                            /* >= 1 */
    uint32_t original_context;               /* llama3, yarn: positions before scaling */
    float low_freq_factor, high_freq_factor; /* llama3 */
    float beta_fast, beta_slow;              /* yarn */
    float attention_factor; /* yarn: of cos and sin; 0: from factor, as the paper */
    bool truncate;          /* yarn: bounds of the ramp rounded to whole pairs */
};

struct hparams {
    enum arch arch;
    uint32_t n_layers;
    uint32_t hidden_size;
    uint32_t n_heads;
    uint32_t n_kv_heads; /* divides n_heads */
    uint32_t head_dim;
    uint32_t ffn_size;
    uint32_t vocab_size;
    uint32_t context_length; /* positions the model was trained for */
    float rope_theta;
    float rms_norm_eps;
    enum rope_style rope_style;
    enum rope_scaling rope_scaling;
    struct rope_scaling_params scaling;
    bool tied_embedding; /* lm_head is the embedding */
};

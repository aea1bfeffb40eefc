/* hparams.h - the numbers that define a transformer, whatever file they came from. */
#pragma once
#include "core/util/base.h"

enum arch { ARCH_LLAMA };
enum rope_style {
    ROPE_NEOX,        /* element i rotates with i + head_dim/2 (Hugging Face weights) */
    ROPE_INTERLEAVED, /* element 2i rotates with 2i+1 (GGUF's permuted llama weights) */
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
    bool tied_embedding; /* lm_head is the embedding */
};

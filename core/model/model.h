/* model.h - everything a model directory or file holds, opened and checked.
 *
 * Thread  immutable after model_open.
 * Memory  weights borrow from the mapping that the model owns: free the model last. */
#pragma once
#include "core/model/chat_template.h"
#include "core/model/hparams.h"
#include "core/model/tokenizer.h"
#include "core/util/base.h"
#include "core/util/err.h"
#include "core/util/tensor.h"

/* Optional tensors have data NULL where the model has none. */
struct layer_weights {
    struct host_tensor attn_norm; /* [1][hidden] */
    struct host_tensor q, k, v;   /* [n_heads*head_dim | n_kv_heads*head_dim][hidden] */
    struct host_tensor o;         /* [hidden][n_heads*head_dim] */
    struct host_tensor ffn_norm;  /* [1][hidden] */
    struct host_tensor gate, up;  /* [ffn][hidden] */
    struct host_tensor down;      /* [hidden][ffn] */

    struct host_tensor q_bias, k_bias, v_bias; /* [1][rows of q, k, v]; optional */
    struct host_tensor o_bias;                 /* [1][hidden]; optional */
    struct host_tensor q_norm, k_norm;         /* [1][head_dim]: RMS norm of each head before RoPE
                                                * (eps is rms_norm_eps); optional, both or none */
};

/* The tensors that a layer has; returns how many. */
enum { LAYER_TENSORS_MAX = 15 };
uint32_t layer_tensors(const struct layer_weights *l,
                       const struct host_tensor *out[LAYER_TENSORS_MAX]);

struct model_weights {
    struct host_tensor embed;      /* [vocab][hidden] */
    struct host_tensor final_norm; /* [1][hidden] */
    struct host_tensor lm_head;    /* [vocab][hidden]; equals embed when tied */
    struct layer_weights *layers;  /* [n_layers] */
    size_t total_bytes;
};

/* Sampling defaults that the model's makers ship; NAN / 0 where they say nothing. */
struct generation_defaults {
    float temperature, top_p, min_p, repetition_penalty; /* NAN: not given */
    int32_t top_k;                                       /* -1: not given */
};

struct model_files; /* the mappings behind the tensors */

struct model {
    char *path;
    char *display_name; /* general.name or the file's name */
    struct hparams hparams;
    struct model_weights weights;
    struct tokenizer *tokenizer;
    struct chat_template *chat_template; /* NULL: the model has none that can be used */
    char *chat_template_source;          /* NULL likewise */
    char *chat_template_origin;          /* the file or key that it comes from; NULL: none */
    char *chat_template_fault;   /* why the model's template cannot be used; NULL: no fault */
    char *bos_token, *eos_token; /* written form, for the template; "" when none */
    struct generation_defaults defaults;
    double *inv_freq;  /* [head_dim / 2] radians per position of each rotated pair */
    bool rope_divided; /* inv_freq is divided by a tensor of the file, as llama3's is in GGUF */
    float rope_scale;  /* factor of cos and sin: 1, or YaRN's attention factor */
    uint32_t *layer_windows; /* [n_layers] positions that a token sees, itself included; 0: all.
                              * NULL: every layer sees all */
    struct model_files *files;
};

/* Opens a GGUF file, or a folder in Hugging Face form (config.json, tokenizer.json, safetensors). One
 * message names file, tensor or key, and fault. */
MUST_CHECK int model_open(const char *path, struct model **out, struct err *e);
/* The same without numbers and weights, which may be missing: tokenizer, chat template, names. */
MUST_CHECK int model_open_text(const char *path, struct model **out, struct err *e);
void model_free(struct model *m); /* NULL is fine */
/* After a backend repacked the weights: lets the kernel reclaim the mapped tensor pages. They
 * stay readable (from the file) but leave resident memory. */
void model_release_pages(const struct model *m);

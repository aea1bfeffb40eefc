/* hf_weights.c - finds a model's tensors in safetensors files and checks that they fit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/hf_int.h"
#include "core/model/model_int.h"

enum when { ALWAYS, QKV_BIAS, O_BIAS, QK_NORM };

struct tensor_rule {
    const char *name; /* behind "model.layers.N." for a layer's */
    bool vector;      /* has no rows */
    enum dim rows, cols;
    enum when when;
    size_t offset; /* of the host_tensor in its struct */
};

#define MATRIX(name, rows, cols, field)                                                            \
    {                                                                                              \
        name ".weight", false, rows, cols, ALWAYS, offsetof(struct layer_weights, field)           \
    }
#define VECTOR(name, cols, when, field)                                                            \
    {                                                                                              \
        name, true, cols, cols, when, offsetof(struct layer_weights, field)                        \
    }
static const struct tensor_rule layer_rules[] = {
    VECTOR("input_layernorm.weight", DIM_HIDDEN, ALWAYS, attn_norm),
    MATRIX("self_attn.q_proj", DIM_Q, DIM_HIDDEN, q),
    MATRIX("self_attn.k_proj", DIM_KV, DIM_HIDDEN, k),
    MATRIX("self_attn.v_proj", DIM_KV, DIM_HIDDEN, v),
    MATRIX("self_attn.o_proj", DIM_HIDDEN, DIM_Q, o),
    VECTOR("self_attn.q_proj.bias", DIM_Q, QKV_BIAS, q_bias),
    VECTOR("self_attn.k_proj.bias", DIM_KV, QKV_BIAS, k_bias),
    VECTOR("self_attn.v_proj.bias", DIM_KV, QKV_BIAS, v_bias),
    VECTOR("self_attn.o_proj.bias", DIM_HIDDEN, O_BIAS, o_bias),
    VECTOR("self_attn.q_norm.weight", DIM_HEAD, QK_NORM, q_norm),
    VECTOR("self_attn.k_norm.weight", DIM_HEAD, QK_NORM, k_norm),
    VECTOR("post_attention_layernorm.weight", DIM_HIDDEN, ALWAYS, ffn_norm),
    MATRIX("mlp.gate_proj", DIM_FFN, DIM_HIDDEN, gate),
    MATRIX("mlp.up_proj", DIM_FFN, DIM_HIDDEN, up),
    MATRIX("mlp.down_proj", DIM_HIDDEN, DIM_FFN, down),
};
#undef MATRIX
#undef VECTOR

static const char embed_name[] = "model.embed_tokens.weight", head_name[] = "lm_head.weight";
static const struct tensor_rule embed_rule = {
    embed_name, false, DIM_VOCAB, DIM_HIDDEN, ALWAYS, offsetof(struct model_weights, embed)};
static const struct tensor_rule head_rule = {
    head_name, false, DIM_VOCAB, DIM_HIDDEN, ALWAYS, offsetof(struct model_weights, lm_head)};
static const struct tensor_rule norm_rule = {
    "model.norm.weight", true,   DIM_HIDDEN,
    DIM_HIDDEN,          ALWAYS, offsetof(struct model_weights, final_norm)};

/* One pass over the folder's tensors. */
struct finder {
    const struct safetensors *s;
    const char *folder;
    const struct hf_config *config;
    uint32_t n_used;
    size_t total_bytes;
};

static bool rule_applies(const struct hf_config *c, enum when when)
{
    switch (when) {
    case ALWAYS:
        return true;
    case QKV_BIAS:
        return c->qkv_bias;
    case O_BIAS:
        return c->o_bias;
    case QK_NORM:
        return c->qk_norm;
    }
    BUG_ON(true);
}

/* Looks `name` up, checks it against the rule and writes it to base + rule->offset. */
static int find(struct finder *f, const char *name, const struct tensor_rule *rule, void *base,
                struct err *e)
{
    const struct hparams *hp = &f->config->hp;
    uint64_t rows = rule->vector ? 1 : model_dim(hp, rule->rows), cols = model_dim(hp, rule->cols);
    struct host_tensor t;
    size_t row_bytes;
    int rc = safetensors_get(f->s, name, &t, e);
    if (rc == -LLMD_ENOTFOUND && e && e->code == LLMD_ENOTFOUND)
        e->code = LLMD_EPARSE; /* a fault of the files, not files that were not found */
    if (rc)
        return rc == -LLMD_ENOTFOUND ? -LLMD_EPARSE : rc;
    if (t.rows != rows || t.cols != cols)
        return err_set(e, LLMD_EPARSE,
                       "%s: tensor '%s': has %llu rows of %llu, config.json asks for %llu of %llu",
                       f->folder, name, (unsigned long long)t.rows, (unsigned long long)t.cols,
                       (unsigned long long)rows, (unsigned long long)cols);
    BUG_ON(!dtype_row_bytes(t.dtype, t.cols, &row_bytes)); /* the reader checked the whole */
    f->n_used++;
    f->total_bytes += row_bytes * rows; /* distinct pieces of the files: no overflow */
    memcpy((char *)base + rule->offset, &t, sizeof(t));
    return 0;
}

static int find_layer(struct finder *f, uint32_t layer, struct layer_weights *out, struct err *e)
{
    char name[80];
    for (size_t i = 0; i < ARRAY_LEN(layer_rules); i++) {
        if (!rule_applies(f->config, layer_rules[i].when))
            continue;
        snprintf(name, sizeof(name), "model.layers.%u.%s", layer, layer_rules[i].name);
        int rc = find(f, name, &layer_rules[i], out, e);
        if (rc)
            return rc;
    }
    return 0;
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), k = strlen(end);
    return n >= k && strcmp(name + n - k, end) == 0;
}

/* A table that old versions of transformers saved and that config.json determines. */
static bool is_harmless(const char *name)
{
    return ends_with(name, ".rotary_emb.inv_freq");
}

/* Whether the architecture has the tensor: then find() has read it. */
static bool is_used(const struct hf_config *c, const char *name)
{
    static const char prefix[] = "model.layers.";
    char own[80], *end;
    if (strcmp(name, embed_name) == 0 || strcmp(name, norm_rule.name) == 0 ||
        strcmp(name, head_name) == 0)
        return true;
    if (strncmp(name, prefix, sizeof(prefix) - 1) != 0)
        return false;
    unsigned long layer = strtoul(name + sizeof(prefix) - 1, &end, 10);
    if (layer >= c->hp.n_layers)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(layer_rules); i++) {
        snprintf(own, sizeof(own), "%s%lu.%s", prefix, layer, layer_rules[i].name);
        if (strcmp(own, name) == 0) /* "layers.01" is no layer */
            return rule_applies(c, layer_rules[i].when);
    }
    return false;
}

static const char *what_is(const char *name)
{
    static const struct {
        const char *part, *what;
    } known[] = {
        {".bias", "a bias"},
        {".qweight", "a quantized matrix"},
        {".weight_packed", "a quantized matrix"},
        {"weight_scale", "the scale of a quantized matrix"},
        {".weight_scale_inv", "the scale of a quantized matrix"},
        {".experts.", "a mixture of experts"},
        {"lora_", "an adapter"},
        {"vision", "a part for images"},
        {"_norm.weight", "a norm"},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strstr(name, known[i].part))
            return known[i].what;
    return "a tensor that is not known here";
}

/* A tensor that nothing here reads would be left out of the computation without a word. */
static int check_all_used(const struct finder *f, struct err *e)
{
    uint32_t n = safetensors_n_tensors(f->s), n_left = n - f->n_used;
    for (uint32_t i = 0; n_left > 0 && i < n; i++) {
        const char *name = safetensors_name(f->s, i);
        if (is_harmless(name) || is_used(f->config, name))
            continue;
        return err_set(e, LLMD_EUNSUPPORTED,
                       "%s: tensor '%.120s': %s; %s models of %u layers with this config.json have "
                       "none",
                       f->folder, name, what_is(name), arch_name(f->config->hp.arch),
                       f->config->hp.n_layers);
    }
    return 0;
}

static bool has(const struct safetensors *s, const char *name)
{
    struct host_tensor t;
    return safetensors_get(s, name, &t, NULL) != -LLMD_ENOTFOUND;
}

/* Embedding and head. As in transformers 5: tied ones may be stored under either name, and where
 * both are stored each is what its file says. */
static int find_ends(struct finder *f, bool *tied, struct model_weights *out, struct err *e)
{
    const bool has_embed = has(f->s, embed_name), has_head = has(f->s, head_name);
    int rc;
    *tied = f->config->hp.tied_embedding && has_embed != has_head;
    if (!*tied) {
        rc = find(f, embed_name, &embed_rule, out, e);
        if (rc == 0)
            rc = find(f, head_name, &head_rule, out, e);
        return rc;
    }
    rc = find(f, has_embed ? embed_name : head_name, &embed_rule, out, e);
    out->lm_head = out->embed;
    return rc;
}

int hf_read_weights(const struct safetensors *s, const char *folder, const struct hf_config *c,
                    struct hparams *hp, struct model_weights *out, struct err *e)
{
    struct finder f = {.s = s, .folder = folder, .config = c};
    out->layers = calloc(c->hp.n_layers, sizeof(*out->layers));
    if (!out->layers)
        return err_set(e, LLMD_ENOMEM, "%s: out of memory", folder);
    int rc = find_ends(&f, &hp->tied_embedding, out, e);
    if (rc == 0)
        rc = find(&f, norm_rule.name, &norm_rule, out, e);
    for (uint32_t i = 0; i < c->hp.n_layers && rc == 0; i++)
        rc = find_layer(&f, i, &out->layers[i], e);
    out->total_bytes = f.total_bytes;
    return rc ? rc : check_all_used(&f, e);
}

/* model_weights.c - finds a model's tensors in a GGUF file and checks that they fit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/model_int.h"

struct tensor_rule {
    const char *name; /* behind "blk.N." for a layer's */
    enum dim rows, cols;
    size_t offset;               /* of the host_tensor in its struct */
    unsigned required, optional; /* architectures that must have it, that may: bits of enum arch */
};

#define ARCH_BIT(name) (1u << ARCH_##name)
enum { EVERY_ARCH = ARCH_BIT(LLAMA) | ARCH_BIT(MISTRAL) | ARCH_BIT(QWEN2) | ARCH_BIT(QWEN3) };

static const struct tensor_rule layer_rules[] = {
#define PART(name, rows, cols, field, required, optional)                                          \
    {                                                                                              \
        name, rows, cols, offsetof(struct layer_weights, field), required, optional                \
    }
#define L(name, rows, cols, field) PART(name ".weight", rows, cols, field, EVERY_ARCH, 0)
    L("attn_norm", DIM_ONE, DIM_HIDDEN, attn_norm),
    L("attn_q", DIM_Q, DIM_HIDDEN, q),
    L("attn_k", DIM_KV, DIM_HIDDEN, k),
    L("attn_v", DIM_KV, DIM_HIDDEN, v),
    L("attn_output", DIM_HIDDEN, DIM_Q, o),
    L("ffn_norm", DIM_ONE, DIM_HIDDEN, ffn_norm),
    L("ffn_gate", DIM_FFN, DIM_HIDDEN, gate),
    L("ffn_up", DIM_FFN, DIM_HIDDEN, up),
    L("ffn_down", DIM_HIDDEN, DIM_FFN, down),
    PART("attn_q.bias", DIM_ONE, DIM_Q, q_bias, ARCH_BIT(QWEN2), ARCH_BIT(LLAMA)),
    PART("attn_k.bias", DIM_ONE, DIM_KV, k_bias, ARCH_BIT(QWEN2), ARCH_BIT(LLAMA)),
    PART("attn_v.bias", DIM_ONE, DIM_KV, v_bias, ARCH_BIT(QWEN2), ARCH_BIT(LLAMA)),
    PART("attn_output.bias", DIM_ONE, DIM_HIDDEN, o_bias, 0, ARCH_BIT(LLAMA)),
    PART("attn_q_norm.weight", DIM_ONE, DIM_HEAD, q_norm, ARCH_BIT(QWEN3), 0),
    PART("attn_k_norm.weight", DIM_ONE, DIM_HEAD, k_norm, ARCH_BIT(QWEN3), 0),
#undef L
#undef PART
};

static const struct tensor_rule embed_rule = {
    "token_embd.weight", DIM_VOCAB, DIM_HIDDEN, offsetof(struct model_weights, embed), 0, 0};
static const struct tensor_rule norm_rule = {
    "output_norm.weight", DIM_ONE, DIM_HIDDEN, offsetof(struct model_weights, final_norm), 0, 0};
static const struct tensor_rule head_rule = {
    "output.weight", DIM_VOCAB, DIM_HIDDEN, offsetof(struct model_weights, lm_head), 0, 0};
static const char rope_freqs[] = "rope_freqs.weight";

/* One pass over the file's tensors. */
struct finder {
    const struct gguf *g;
    const struct hparams *hp;
    bool *used; /* [gguf_n_tensors] */
    size_t total_bytes;
};

static bool is_float(enum dtype t)
{
    return t == DTYPE_F32 || t == DTYPE_F16 || t == DTYPE_BF16;
}

/* Finds `name`, checks it against the rule and writes it to base + rule->offset. */
static int find(struct finder *f, const char *name, const struct tensor_rule *rule, void *base,
                struct err *e)
{
    const char *path = gguf_path(f->g);
    uint64_t rows = model_dim(f->hp, rule->rows), cols = model_dim(f->hp, rule->cols);
    uint32_t i;
    size_t row_bytes;
    if (!gguf_find_tensor(f->g, name, &i))
        return err_set(e, LLMD_EPARSE, "%s: tensor '%s': missing", path, name);
    const struct host_tensor *t = gguf_tensor_at(f->g, i);
    if (t->rows != rows || t->cols != cols)
        return err_set(e, LLMD_EPARSE,
                       "%s: tensor '%s': has %llu rows of %llu, the keys ask for %llu of %llu",
                       path, name, (unsigned long long)t->rows, (unsigned long long)t->cols,
                       (unsigned long long)rows, (unsigned long long)cols);
    if (rule->rows == DIM_ONE && !is_float(t->dtype))
        return err_set(e, LLMD_EUNSUPPORTED,
                       "%s: tensor '%s': a vector of type %s; F32, F16 and BF16 are read", path,
                       name, dtype_name(t->dtype));
    BUG_ON(!dtype_row_bytes(t->dtype, t->cols, &row_bytes)); /* gguf_open checked it */
    f->used[i] = true;
    f->total_bytes += row_bytes * rows; /* distinct pieces of the file: no overflow */
    memcpy((char *)base + rule->offset, t, sizeof(*t));
    return 0;
}

static int find_layer(struct finder *f, uint32_t layer, struct layer_weights *out, struct err *e)
{
    char name[64];
    const unsigned arch = 1u << f->hp->arch;
    for (size_t i = 0; i < ARRAY_LEN(layer_rules); i++) {
        const struct tensor_rule *rule = &layer_rules[i];
        uint32_t at;
        snprintf(name, sizeof(name), "blk.%u.%s", layer, rule->name);
        if (!(rule->required & arch) &&
            !((rule->optional & arch) && gguf_find_tensor(f->g, name, &at)))
            continue;
        int rc = find(f, name, rule, out, e);
        if (rc)
            return rc;
    }
    return 0;
}

/* The file's own divisors of the rotary frequencies, which llama 3.1 came with. */
static int find_rope_freqs(struct finder *f, const float **out, struct err *e)
{
    const char *path = gguf_path(f->g);
    const uint32_t half = f->hp->head_dim / 2;
    uint32_t i;
    if (!gguf_find_tensor(f->g, rope_freqs, &i))
        return 0;
    const struct host_tensor *t = gguf_tensor_at(f->g, i);
    if (t->rows != 1 || t->cols != half)
        return err_set(e, LLMD_EPARSE, "%s: tensor '%s': has %llu rows of %llu, not 1 of %u", path,
                       rope_freqs, (unsigned long long)t->rows, (unsigned long long)t->cols, half);
    if (t->dtype != DTYPE_F32)
        return err_set(e, LLMD_EUNSUPPORTED, "%s: tensor '%s': type %s; F32 is read", path,
                       rope_freqs, dtype_name(t->dtype));
    const float *divisors = t->data;
    for (uint32_t k = 0; k < half; k++)
        if (!(divisors[k] >= 1e-6f && divisors[k] <= 1e6f)) /* also refuses NaN */
            return err_set(e, LLMD_EPARSE, "%s: tensor '%s': element %u is %g", path, rope_freqs, k,
                           (double)divisors[k]);
    f->used[i] = true;
    *out = divisors;
    return 0;
}

/* A tensor that nothing here reads would be left out of the computation without a word. */
static int check_all_used(const struct finder *f, struct err *e)
{
    for (uint32_t i = 0; i < gguf_n_tensors(f->g); i++) {
        if (f->used[i])
            continue;
        const char *name = gguf_tensor_at(f->g, i)->name, *what = "a tensor that is not known here";
        size_t n = strlen(name);
        if (n > 5 && strcmp(name + n - 5, ".bias") == 0)
            what = "a bias";
        else if (strstr(name, "_exps.") || strstr(name, "_gate_inp"))
            what = "a mixture of experts";
        return err_set(e, LLMD_EUNSUPPORTED,
                       "%s: tensor '%s': %s; %s models of %u layers have none that is supported",
                       gguf_path(f->g), name, what, arch_name(f->hp->arch), f->hp->n_layers);
    }
    return 0;
}

static int find_all(struct finder *f, bool tied, struct model_weights *out,
                    const float **out_rope_divisors, struct err *e)
{
    int rc = find(f, embed_rule.name, &embed_rule, out, e);
    if (!rc)
        rc = find(f, norm_rule.name, &norm_rule, out, e);
    if (!rc && !tied)
        rc = find(f, head_rule.name, &head_rule, out, e);
    for (uint32_t i = 0; i < f->hp->n_layers && !rc; i++)
        rc = find_layer(f, i, &out->layers[i], e);
    if (tied)
        out->lm_head = out->embed;
    if (!rc)
        rc = find_rope_freqs(f, out_rope_divisors, e);
    return rc ? rc : check_all_used(f, e);
}

int model_read_weights(const struct gguf *g, struct hparams *hp, struct model_weights *out,
                       const float **out_rope_divisors, struct err *e)
{
    struct finder f = {.g = g, .hp = hp};
    f.used = calloc(gguf_n_tensors(g) + 1u, sizeof(*f.used));
    out->layers = calloc(hp->n_layers, sizeof(*out->layers));
    int rc;
    if (f.used && out->layers) {
        hp->tied_embedding = gguf_tensor(g, head_rule.name) == NULL;
        rc = find_all(&f, hp->tied_embedding, out, out_rope_divisors, e);
        out->total_bytes = f.total_bytes;
    } else
        rc = err_set(e, LLMD_ENOMEM, "%s: out of memory", gguf_path(g));
    free(f.used);
    return rc;
}

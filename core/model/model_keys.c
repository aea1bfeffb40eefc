/* model_keys.c - from the keys of a GGUF file to hparams.
 *
 * A key of the architecture that is not in the table below is refused: it may change what the
 * model computes, and a model that loads but answers subtly wrong is worse than one that does
 * not load. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/model_int.h"

/* What a model may have and this version does not; the longest matching prefix need not be found,
 * the first one is good enough for a message. */
static const struct {
    const char *prefix, *what;
} lacking[] = {
    {"rope.scaling.", "this form of RoPE scaling"},
    {"rope.", "this form of RoPE"},
    {"expert", "a mixture of experts"},
    {"attention.causal", "non-causal attention"},
    {"attention.", "this form of attention"},
    {"logit_scale", "scaling of logits"},
    {"pooling_type", "an embedding model"},
};

enum key_rule {
    KEY_READ,        /* read_hparams() takes it */
    KEY_INFORMATION, /* changes nothing */
    KEY_NEUTRAL_U32, /* accepted with the value at which it changes nothing */
    KEY_NEUTRAL_BOOL,
    KEY_NEUTRAL_F32,
};

static const struct {
    const char *suffix;
    enum key_rule rule;
    uint32_t neutral;
} known_keys[] = {
    {"attention.head_count", KEY_READ, 0},
    {"attention.head_count_kv", KEY_READ, 0},
    {"attention.key_length", KEY_READ, 0},
    {"attention.layer_norm_rms_epsilon", KEY_READ, 0},
    {"attention.value_length", KEY_READ, 0},
    {"block_count", KEY_READ, 0},
    {"context_length", KEY_READ, 0},
    {"embedding_length", KEY_READ, 0},
    {"feed_forward_length", KEY_READ, 0},
    {"attention.sliding_window", KEY_READ, 0},
    {"rope.dimension_count", KEY_READ, 0},
    {"rope.freq_base", KEY_READ, 0},
    {"rope.scale_linear", KEY_READ, 0},
    {"rope.scaling.attn_factor", KEY_READ, 0},
    {"rope.scaling.factor", KEY_READ, 0},
    {"rope.scaling.original_context_length", KEY_READ, 0},
    {"rope.scaling.type", KEY_READ, 0},
    {"rope.scaling.yarn_beta_fast", KEY_READ, 0},
    {"rope.scaling.yarn_beta_slow", KEY_READ, 0},
    {"vocab_size", KEY_READ, 0},
    {"rope.scaling.finetuned", KEY_INFORMATION, 0},
    {"tensor_data_layout", KEY_INFORMATION, 0},
    {"attention.causal", KEY_NEUTRAL_BOOL, true},
    {"expert_count", KEY_NEUTRAL_U32, 0},
    {"expert_used_count", KEY_NEUTRAL_U32, 0},
    {"pooling_type", KEY_NEUTRAL_U32, 0},
    {"rope.scaling.yarn_attn_factor", KEY_NEUTRAL_F32, 1},
    {"rope.scaling.yarn_ext_factor", KEY_NEUTRAL_F32, 1},
    {"rope.scaling.yarn_log_multiplier", KEY_NEUTRAL_F32, 0},
    {"use_parallel_residual", KEY_NEUTRAL_BOOL, false},
};

/* Architectures as general.architecture spells them. Mistral's files say llama. */
static const struct gguf_arch {
    const char *name;
    enum arch arch;
    enum rope_style rope; /* converters permute Q and K of llama models, and of no others */
} archs[] = {
    {"llama", ARCH_LLAMA, ROPE_INTERLEAVED},
    {"qwen2", ARCH_QWEN2, ROPE_NEOX},
    {"qwen3", ARCH_QWEN3, ROPE_NEOX},
};
static const char supported_archs[] = "llama, qwen2 and qwen3 are";

/* A file whose architecture is known: its keys are arch.<suffix>. */
struct keys {
    const struct gguf *g;
    const struct gguf_arch *arch;
    struct err *e;
};

enum { KEY_CHARS = 128 };

static const char *full_key(const struct keys *k, const char *suffix, char buf[KEY_CHARS])
{
    snprintf(buf, KEY_CHARS, "%s.%s", k->arch->name, suffix);
    return buf;
}

static int refuse_key(const struct keys *k, const char *key, const char *suffix)
{
    const char *what = "what this key asks for";
    for (size_t i = 0; i < ARRAY_LEN(lacking); i++)
        if (strncmp(suffix, lacking[i].prefix, strlen(lacking[i].prefix)) == 0) {
            what = lacking[i].what;
            break;
        }
    return err_set(k->e, LLMD_EUNSUPPORTED, "%s: key '%s': %s is not supported", gguf_path(k->g),
                   key, what);
}

static bool key_is_harmless(const struct gguf *g, const char *key, const char *suffix)
{
    for (size_t i = 0; i < ARRAY_LEN(known_keys); i++) {
        uint32_t v;
        float f;
        bool b;
        if (strcmp(known_keys[i].suffix, suffix) != 0)
            continue;
        if (known_keys[i].rule == KEY_NEUTRAL_U32)
            return gguf_get_u32(g, key, &v, NULL) == 0 && v == known_keys[i].neutral;
        if (known_keys[i].rule == KEY_NEUTRAL_F32)
            return gguf_get_f32(g, key, &f, NULL) == 0 && f == (float)known_keys[i].neutral;
        if (known_keys[i].rule == KEY_NEUTRAL_BOOL)
            return gguf_get_bool(g, key, &b, NULL) == 0 && b == (bool)known_keys[i].neutral;
        return true;
    }
    return false;
}

static int check_known(const struct keys *k)
{
    const size_t n_prefix = strlen(k->arch->name) + 1;
    char prefix[KEY_CHARS], key[KEY_CHARS];
    full_key(k, "", prefix);
    for (uint32_t i = 0; i < gguf_n_keys(k->g); i++) {
        struct gguf_str s = gguf_key_at(k->g, i);
        if (s.n < n_prefix || memcmp(s.s, prefix, n_prefix) != 0)
            continue;
        snprintf(key, sizeof(key), "%.*s", (int)u64_min(s.n, sizeof(key) - 1), s.s);
        if (!key_is_harmless(k->g, key, key + n_prefix))
            return refuse_key(k, key, key + n_prefix);
    }
    return 0;
}

static bool str_is(struct gguf_str s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.s, text, s.n) == 0;
}

/* A text of the file as it may stand in a message. */
static const char *shown(struct gguf_str s, char out[64])
{
    size_t n = 0;
    for (; n < s.n && n < 63; n++)
        out[n] = s.s[n] > ' ' && s.s[n] <= '~' ? s.s[n] : '?';
    out[n] = '\0';
    return out;
}

static int find_arch(struct keys *k)
{
    const char *key = "general.architecture";
    struct gguf_str name;
    char text[64];
    uint32_t n_parts;
    int rc = key_required(gguf_get_str(k->g, key, &name, k->e), k->e);
    if (rc)
        return rc;
    for (size_t i = 0; i < ARRAY_LEN(archs) && !k->arch; i++)
        if (str_is(name, archs[i].name))
            k->arch = &archs[i];
    if (!k->arch)
        return err_set(k->e, LLMD_EUNSUPPORTED, "%s: key '%s': '%s' is not supported (%s)",
                       gguf_path(k->g), key, shown(name, text), supported_archs);
    if (gguf_get_u32(k->g, "split.count", &n_parts, NULL) == 0 && n_parts > 1)
        return err_set(k->e, LLMD_EUNSUPPORTED,
                       "%s: key 'split.count': one of %u parts; merge them into one file first",
                       gguf_path(k->g), n_parts);
    return 0;
}

static bool has(const struct keys *k, const char *suffix)
{
    char key[KEY_CHARS];
    return gguf_has(k->g, full_key(k, suffix, key));
}

/* Reads arch.<suffix> within [min, max]. A missing key keeps *io when it is optional. */
static int read_u32(const struct keys *k, const char *suffix, bool required, uint32_t min,
                    uint32_t max, uint32_t *io)
{
    char key[KEY_CHARS];
    uint32_t v;
    if (!required && !has(k, suffix))
        return 0;
    int rc = key_required(gguf_get_u32(k->g, full_key(k, suffix, key), &v, k->e), k->e);
    if (rc)
        return rc;
    if (v < min || v > max)
        return err_set(k->e, LLMD_EPARSE, "%s: key '%s': %u is not within %u to %u",
                       gguf_path(k->g), key, v, min, max);
    *io = v;
    return 0;
}

static int read_f32(const struct keys *k, const char *suffix, bool required, double min, double max,
                    float *io)
{
    char key[KEY_CHARS];
    float v;
    if (!required && !has(k, suffix))
        return 0;
    int rc = key_required(gguf_get_f32(k->g, full_key(k, suffix, key), &v, k->e), k->e);
    if (rc)
        return rc;
    if (!(v >= min && v <= max)) /* also refuses NaN */
        return err_set(k->e, LLMD_EPARSE, "%s: key '%s': %g is not within %g to %g",
                       gguf_path(k->g), key, (double)v, min, max);
    *io = v;
    return 0;
}

static int read_sizes(const struct keys *k, struct hparams *h)
{
    const struct {
        const char *suffix;
        uint32_t max;
        uint32_t *out;
    } sizes[] = {
        {"block_count", 1024, &h->n_layers},
        {"embedding_length", 1 << 17, &h->hidden_size},
        {"feed_forward_length", 1 << 20, &h->ffn_size},
        {"context_length", 1 << 24, &h->context_length},
        {"attention.head_count", 1024, &h->n_heads},
    };
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        int rc = read_u32(k, sizes[i].suffix, true, 1, sizes[i].max, sizes[i].out);
        if (rc)
            return rc;
    }
    h->n_kv_heads = h->n_heads;
    return read_u32(k, "attention.head_count_kv", false, 1, 1024, &h->n_kv_heads);
}

/* What the heads' size is not, though the key says it. */
static int check_head_size(const struct keys *k, const char *suffix, uint32_t head_dim,
                           const char *hint)
{
    uint32_t v = head_dim;
    int rc = read_u32(k, suffix, false, 1, 1024, &v);
    if (rc || v == head_dim)
        return rc;
    return err_set(k->e, LLMD_EUNSUPPORTED, "%s: key '%s.%s': %u differs from the heads' %u%s",
                   gguf_path(k->g), k->arch->name, suffix, v, head_dim, hint);
}

static int read_heads(const struct keys *k, struct hparams *h)
{
    const char *path = gguf_path(k->g), *arch = k->arch->name;
    if (h->n_heads % h->n_kv_heads != 0)
        return err_set(k->e, LLMD_EPARSE,
                       "%s: key '%s.attention.head_count_kv': %u does not divide the %u heads",
                       path, arch, h->n_kv_heads, h->n_heads);
    uint32_t size = 0;
    int rc = read_u32(k, "attention.key_length", false, 1, 1024, &size);
    if (rc)
        return rc;
    if (size == 0 && h->hidden_size % h->n_heads != 0)
        return err_set(k->e, LLMD_EPARSE,
                       "%s: key '%s.attention.head_count': %u does not divide the embedding "
                       "length %u",
                       path, arch, h->n_heads, h->hidden_size);
    h->head_dim = size ? size : h->hidden_size / h->n_heads;
    if (h->head_dim > 1024 || h->head_dim % 2 != 0)
        return err_set(k->e, LLMD_EPARSE,
                       "%s: heads of %u elements; even sizes up to 1024 are read", path,
                       h->head_dim);
    rc = check_head_size(k, "attention.value_length", h->head_dim, "");
    if (!rc)
        rc = check_head_size(k, "rope.dimension_count", h->head_dim,
                             " (partial RoPE is not supported)");
    return rc;
}

/* The kind of scaling; files of before the key give a factor alone, and mean linear. */
static int read_scaling_kind(const struct keys *k, enum rope_scaling *out)
{
    static const struct {
        const char *name;
        enum rope_scaling kind;
    } kinds[] = {
        {"none", ROPE_SCALING_NONE}, {"linear", ROPE_SCALING_LINEAR}, {"yarn", ROPE_SCALING_YARN}};
    char key[KEY_CHARS], text[64];
    struct gguf_str s;
    if (!has(k, "rope.scaling.type")) {
        const bool factor = has(k, "rope.scaling.factor") || has(k, "rope.scale_linear");
        *out = factor ? ROPE_SCALING_LINEAR : ROPE_SCALING_NONE;
        return 0;
    }
    int rc = gguf_get_str(k->g, full_key(k, "rope.scaling.type", key), &s, k->e);
    if (rc)
        return rc;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (str_is(s, kinds[i].name)) {
            *out = kinds[i].kind;
            return 0;
        }
    return err_set(k->e, LLMD_EUNSUPPORTED,
                   "%s: key '%s': '%s' is not supported (none, linear and yarn are)",
                   gguf_path(k->g), key, shown(s, text));
}

/* llama3's kind has no keys: its files carry a tensor of divisors. */
static int read_scaling(const struct keys *k, struct hparams *h)
{
    struct rope_scaling_params *s = &h->scaling;
    *s = (struct rope_scaling_params){
        .original_context = h->context_length, .beta_fast = 32, .beta_slow = 1, .truncate = true};
    int rc = read_scaling_kind(k, &h->rope_scaling);
    if (rc || h->rope_scaling == ROPE_SCALING_NONE)
        return rc;
    const bool old = !has(k, "rope.scaling.factor") && has(k, "rope.scale_linear");
    rc = read_f32(k, old ? "rope.scale_linear" : "rope.scaling.factor", true, 1, 1e6, &s->factor);
    if (rc || h->rope_scaling == ROPE_SCALING_LINEAR)
        return rc;
    float attention = 1; /* beside the paper's own factor */
    rc = read_u32(k, "rope.scaling.original_context_length", false, 1, 1 << 24,
                  &s->original_context);
    if (!rc)
        rc = read_f32(k, "rope.scaling.attn_factor", false, 1e-3, 1e3, &attention);
    if (!rc)
        rc = read_f32(k, "rope.scaling.yarn_beta_fast", false, 1e-3, 1e6, &s->beta_fast);
    if (!rc)
        rc = read_f32(k, "rope.scaling.yarn_beta_slow", false, 1e-3, 1e6, &s->beta_slow);
    s->attention_factor = attention * (0.1f * logf(s->factor) + 1);
    return rc;
}

static int read_vocab_size(const struct keys *k, struct hparams *h)
{
    const char *path = gguf_path(k->g), *key = "tokenizer.ggml.tokens";
    struct gguf_array tokens;
    const uint32_t max = 1 << 22;
    int rc = key_required(gguf_get_array(k->g, key, GGUF_STRING, &tokens, k->e), k->e);
    if (rc)
        return rc;
    if (tokens.n < 1 || tokens.n > max)
        return err_set(k->e, LLMD_EPARSE, "%s: key '%s': %llu tokens, not 1 to %u", path, key,
                       (unsigned long long)tokens.n, max);
    uint32_t claimed = (uint32_t)tokens.n;
    rc = read_u32(k, "vocab_size", false, 1, max, &claimed);
    if (rc)
        return rc;
    if (claimed != tokens.n)
        return err_set(k->e, LLMD_EPARSE, "%s: key '%s.vocab_size': %u, but there are %llu tokens",
                       path, k->arch->name, claimed, (unsigned long long)tokens.n);
    h->vocab_size = claimed;
    return 0;
}

/* One window for all layers; 0, or a key that is absent: none. */
static int read_window(const struct keys *k, uint32_t n_layers, uint32_t **out)
{
    uint32_t window = 0;
    int rc = read_u32(k, "attention.sliding_window", false, 0, UINT32_MAX, &window);
    if (rc || window == 0)
        return rc;
    *out = calloc(n_layers, sizeof(**out));
    if (!*out)
        return err_set(k->e, LLMD_ENOMEM, "%s: out of memory", gguf_path(k->g));
    for (uint32_t i = 0; i < n_layers; i++)
        (*out)[i] = window;
    return 0;
}

int model_read_hparams(const struct gguf *g, struct hparams *out, uint32_t **out_windows,
                       struct err *e)
{
    struct keys k = {.g = g, .e = e};
    struct hparams h = {.rope_theta = 10000.0f}; /* what a file means that does not say */
    int rc = find_arch(&k);
    if (!rc)
        rc = check_known(&k);
    if (!rc)
        rc = read_sizes(&k, &h);
    if (!rc)
        rc = read_heads(&k, &h);
    if (!rc)
        rc = read_f32(&k, "attention.layer_norm_rms_epsilon", true, 1e-12, 0.1, &h.rms_norm_eps);
    if (!rc)
        rc = read_f32(&k, "rope.freq_base", false, 1, 1e12, &h.rope_theta);
    if (!rc)
        rc = read_scaling(&k, &h);
    if (!rc)
        rc = read_vocab_size(&k, &h);
    if (!rc)
        rc = read_window(&k, h.n_layers, out_windows);
    if (rc)
        return rc;
    h.arch = k.arch->arch;
    h.rope_style = k.arch->rope;
    *out = h;
    return 0;
}

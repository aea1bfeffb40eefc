/* model_keys.c - from the keys of a GGUF file to hparams.
 *
 * A key of the architecture that is not in the table below is refused: it may change what the
 * model computes, and a model that loads but answers subtly wrong is worse than one that does
 * not load. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/model/model_int.h"

/* What a model may have and this version does not; the longest matching prefix need not be found,
 * the first one is good enough for a message. */
static const struct {
    const char *prefix, *what;
} lacking[] = {
    {"rope.scaling.", "RoPE scaling"},
    {"rope.scale_linear", "RoPE scaling"},
    {"rope.", "this form of RoPE"},
    {"expert", "a mixture of experts"},
    {"attention.sliding_window", "sliding-window attention"},
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
    {"rope.dimension_count", KEY_READ, 0},
    {"rope.freq_base", KEY_READ, 0},
    {"vocab_size", KEY_READ, 0},
    {"tensor_data_layout", KEY_INFORMATION, 0},
    {"attention.causal", KEY_NEUTRAL_BOOL, true},
    {"attention.sliding_window", KEY_NEUTRAL_U32, 0},
    {"expert_count", KEY_NEUTRAL_U32, 0},
    {"expert_used_count", KEY_NEUTRAL_U32, 0},
    {"pooling_type", KEY_NEUTRAL_U32, 0},
    {"use_parallel_residual", KEY_NEUTRAL_BOOL, false},
};

static const char supported_archs[] = "llama";
static const char arch_prefix[] = "llama.";

static int refuse_key(const struct gguf *g, const char *key, const char *suffix, struct err *e)
{
    const char *what = "what this key asks for";
    for (size_t i = 0; i < ARRAY_LEN(lacking); i++)
        if (strncmp(suffix, lacking[i].prefix, strlen(lacking[i].prefix)) == 0) {
            what = lacking[i].what;
            break;
        }
    return err_set(e, LLMD_EUNSUPPORTED, "%s: key '%s': %s is not supported", gguf_path(g), key,
                   what);
}

static bool key_is_harmless(const struct gguf *g, const char *key, const char *suffix)
{
    for (size_t i = 0; i < ARRAY_LEN(known_keys); i++) {
        uint32_t v;
        bool b;
        if (strcmp(known_keys[i].suffix, suffix) != 0)
            continue;
        if (known_keys[i].rule == KEY_NEUTRAL_U32)
            return gguf_get_u32(g, key, &v, NULL) == 0 && v == known_keys[i].neutral;
        if (known_keys[i].rule == KEY_NEUTRAL_BOOL)
            return gguf_get_bool(g, key, &b, NULL) == 0 && b == (bool)known_keys[i].neutral;
        return true;
    }
    return false;
}

static int check_known(const struct gguf *g, struct err *e)
{
    const size_t n_prefix = sizeof(arch_prefix) - 1;
    char key[128];
    for (uint32_t i = 0; i < gguf_n_keys(g); i++) {
        struct gguf_str k = gguf_key_at(g, i);
        if (k.n < n_prefix || memcmp(k.s, arch_prefix, n_prefix) != 0)
            continue;
        snprintf(key, sizeof(key), "%.*s", (int)u64_min(k.n, sizeof(key) - 1), k.s);
        if (!key_is_harmless(g, key, key + n_prefix))
            return refuse_key(g, key, key + n_prefix, e);
    }
    return 0;
}

static int check_arch(const struct gguf *g, struct err *e)
{
    struct gguf_str arch;
    uint32_t n_parts;
    int rc = key_required(gguf_get_str(g, "general.architecture", &arch, e), e);
    if (rc)
        return rc;
    if (arch.n != strlen(supported_archs) || memcmp(arch.s, supported_archs, arch.n) != 0) {
        char shown[64];
        size_t n = 0;
        for (; n < arch.n && n < sizeof(shown) - 1; n++)
            shown[n] = arch.s[n] > ' ' && arch.s[n] <= '~' ? arch.s[n] : '?';
        return err_set(e, LLMD_EUNSUPPORTED,
                       "%s: key 'general.architecture': '%.*s' is not supported (%s is)",
                       gguf_path(g), (int)n, shown, supported_archs);
    }
    if (gguf_get_u32(g, "split.count", &n_parts, NULL) == 0 && n_parts > 1)
        return err_set(e, LLMD_EUNSUPPORTED,
                       "%s: key 'split.count': one of %u parts; merge them into one file first",
                       gguf_path(g), n_parts);
    return 0;
}

/* Reads llama.<suffix> within [min, max]. A missing key keeps *io when it is optional. */
static int read_u32(const struct gguf *g, const char *suffix, bool required, uint32_t min,
                    uint32_t max, uint32_t *io, struct err *e)
{
    char key[128];
    uint32_t v;
    snprintf(key, sizeof(key), "%s%s", arch_prefix, suffix);
    if (!required && !gguf_has(g, key))
        return 0;
    int rc = key_required(gguf_get_u32(g, key, &v, e), e);
    if (rc)
        return rc;
    if (v < min || v > max)
        return err_set(e, LLMD_EPARSE, "%s: key '%s': %u is not within %u to %u", gguf_path(g), key,
                       v, min, max);
    *io = v;
    return 0;
}

static int read_f32(const struct gguf *g, const char *suffix, bool required, double min, double max,
                    float *io, struct err *e)
{
    char key[128];
    float v;
    snprintf(key, sizeof(key), "%s%s", arch_prefix, suffix);
    if (!required && !gguf_has(g, key))
        return 0;
    int rc = key_required(gguf_get_f32(g, key, &v, e), e);
    if (rc)
        return rc;
    if (!(v >= min && v <= max)) /* also refuses NaN */
        return err_set(e, LLMD_EPARSE, "%s: key '%s': %g is not within %g to %g", gguf_path(g), key,
                       (double)v, min, max);
    *io = v;
    return 0;
}

static int read_sizes(const struct gguf *g, struct hparams *h, struct err *e)
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
        int rc = read_u32(g, sizes[i].suffix, true, 1, sizes[i].max, sizes[i].out, e);
        if (rc)
            return rc;
    }
    h->n_kv_heads = h->n_heads;
    return read_u32(g, "attention.head_count_kv", false, 1, 1024, &h->n_kv_heads, e);
}

static int read_heads(const struct gguf *g, struct hparams *h, struct err *e)
{
    const char *path = gguf_path(g);
    if (h->n_heads % h->n_kv_heads != 0)
        return err_set(e, LLMD_EPARSE,
                       "%s: key 'llama.attention.head_count_kv': %u does not divide the %u heads",
                       path, h->n_kv_heads, h->n_heads);
    uint32_t k = 0;
    int rc = read_u32(g, "attention.key_length", false, 1, 1024, &k, e);
    if (rc)
        return rc;
    if (k == 0 && h->hidden_size % h->n_heads != 0)
        return err_set(e, LLMD_EPARSE,
                       "%s: key 'llama.attention.head_count': %u does not divide the embedding "
                       "length %u",
                       path, h->n_heads, h->hidden_size);
    h->head_dim = k ? k : h->hidden_size / h->n_heads;
    uint32_t v = h->head_dim, rope = h->head_dim;
    rc = read_u32(g, "attention.value_length", false, 1, 1024, &v, e);
    if (!rc)
        rc = read_u32(g, "rope.dimension_count", false, 1, 1024, &rope, e);
    if (rc)
        return rc;
    if (h->head_dim > 1024 || h->head_dim % 2 != 0)
        return err_set(e, LLMD_EPARSE, "%s: heads of %u elements; even sizes up to 1024 are read",
                       path, h->head_dim);
    if (v != h->head_dim)
        return err_set(e, LLMD_EUNSUPPORTED,
                       "%s: key 'llama.attention.value_length': %u differs from the heads' %u",
                       path, v, h->head_dim);
    if (rope != h->head_dim)
        return err_set(e, LLMD_EUNSUPPORTED,
                       "%s: key 'llama.rope.dimension_count': %u differs from the heads' %u "
                       "(partial RoPE is not supported)",
                       path, rope, h->head_dim);
    return 0;
}

static int read_vocab_size(const struct gguf *g, struct hparams *h, struct err *e)
{
    struct gguf_array tokens;
    const uint32_t max = 1 << 22;
    int rc = key_required(gguf_get_array(g, "tokenizer.ggml.tokens", GGUF_STRING, &tokens, e), e);
    if (rc)
        return rc;
    if (tokens.n < 1 || tokens.n > max)
        return err_set(e, LLMD_EPARSE, "%s: key 'tokenizer.ggml.tokens': %llu tokens, not 1 to %u",
                       gguf_path(g), (unsigned long long)tokens.n, max);
    uint32_t claimed = (uint32_t)tokens.n;
    rc = read_u32(g, "vocab_size", false, 1, max, &claimed, e);
    if (rc)
        return rc;
    if (claimed != tokens.n)
        return err_set(e, LLMD_EPARSE, "%s: key 'llama.vocab_size': %u, but there are %llu tokens",
                       gguf_path(g), claimed, (unsigned long long)tokens.n);
    h->vocab_size = claimed;
    return 0;
}

int model_read_hparams(const struct gguf *g, struct hparams *out, struct err *e)
{
    struct hparams h = {
        .arch = ARCH_LLAMA,
        .rope_style = ROPE_INTERLEAVED, /* as converters permute Q and K of llama models */
        .rope_theta = 10000.0f,         /* what a file means that does not say */
    };
    int rc = check_arch(g, e);
    if (!rc)
        rc = check_known(g, e);
    if (!rc)
        rc = read_sizes(g, &h, e);
    if (!rc)
        rc = read_heads(g, &h, e);
    if (!rc)
        rc = read_f32(g, "attention.layer_norm_rms_epsilon", true, 1e-12, 0.1, &h.rms_norm_eps, e);
    if (!rc)
        rc = read_f32(g, "rope.freq_base", false, 1, 1e12, &h.rope_theta, e);
    if (!rc)
        rc = read_vocab_size(g, &h, e);
    if (!rc)
        *out = h;
    return rc;
}

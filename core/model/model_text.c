/* model_text.c - the text side of a GGUF model: tokenizer, chat template, names, defaults. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/model_int.h"

#define KEY(name) "tokenizer.ggml." name

/* What tokenizer_new borrows while it runs. */
struct vocab_arrays {
    struct token_text *texts, *merges;
    enum token_kind *kinds;
    char *pre;
};

static int no_memory(const struct gguf *g, struct err *e)
{
    return err_set(e, LLMD_ENOMEM, "%s: out of memory", gguf_path(g));
}

static char *copy_string(struct gguf_str s)
{
    char *p = malloc(s.n + 1);
    if (p) {
        memcpy(p, s.s, s.n);
        p[s.n] = '\0';
    }
    return p;
}

/* The elements of an array of strings as texts. */
static int read_texts(const struct gguf *g, const char *key, struct token_text **out,
                      uint32_t *out_n, struct err *e)
{
    struct gguf_array a;
    int rc = key_required(gguf_get_array(g, key, GGUF_STRING, &a, e), e);
    if (rc)
        return rc;
    if (a.n > UINT32_MAX)
        return err_set(e, LLMD_EPARSE, "%s: key '%s': %llu elements", gguf_path(g), key,
                       (unsigned long long)a.n);
    struct gguf_str *strings = calloc(a.n + 1, sizeof(*strings));
    struct token_text *texts = calloc(a.n + 1, sizeof(*texts));
    if (!strings || !texts) {
        free(strings);
        free(texts);
        return no_memory(g, e);
    }
    gguf_array_strings(&a, strings);
    for (uint64_t i = 0; i < a.n; i++)
        texts[i] = (struct token_text){strings[i].s, strings[i].n};
    free(strings);
    *out = texts;
    *out_n = (uint32_t)a.n;
    return 0;
}

/* Kinds as the format numbers them; all normal when the file does not say. */
static int read_kinds(const struct gguf *g, uint32_t n_tokens, enum token_kind **out, struct err *e)
{
    static const enum token_kind kinds[] = {
        [1] = TOKEN_NORMAL,       [2] = TOKEN_UNKNOWN, [3] = TOKEN_CONTROL,
        [4] = TOKEN_USER_DEFINED, [5] = TOKEN_UNUSED,  [6] = TOKEN_BYTE,
    };
    const char *key = KEY("token_type");
    struct gguf_array a = {0};
    bool present = gguf_has(g, key);
    int rc = present ? gguf_get_array(g, key, GGUF_I32, &a, e) : 0;
    if (rc)
        return rc;
    if (present && a.n != n_tokens)
        return err_set(e, LLMD_EPARSE, "%s: key '%s': %llu elements for %u tokens", gguf_path(g),
                       key, (unsigned long long)a.n, n_tokens);
    *out = calloc(n_tokens + (size_t)1, sizeof(**out)); /* 0 is TOKEN_NORMAL */
    if (!*out)
        return no_memory(g, e);
    for (uint32_t i = 0; i < n_tokens && present; i++) {
        int32_t k;
        memcpy(&k, a.data + (size_t)i * sizeof(k), sizeof(k));
        if (k < 1 || (size_t)k >= ARRAY_LEN(kinds))
            return err_set(e, LLMD_EPARSE, "%s: key '%s': token %u is of the unknown kind %d",
                           gguf_path(g), key, i, k);
        (*out)[i] = kinds[k];
    }
    return 0;
}

/* A token id; -1 when the key is absent. */
static int read_token_id(const struct gguf *g, const char *key, uint32_t n_tokens, int64_t *out,
                         struct err *e)
{
    uint32_t id;
    *out = -1;
    if (!gguf_has(g, key))
        return 0;
    int rc = gguf_get_u32(g, key, &id, e);
    if (rc)
        return rc;
    if (id >= n_tokens)
        return err_set(e, LLMD_EPARSE, "%s: key '%s': there is no token %u (%u tokens)",
                       gguf_path(g), key, id, n_tokens);
    *out = id;
    return 0;
}

/* A boolean that is false when absent. */
static int read_flag(const struct gguf *g, const char *key, bool *out, struct err *e)
{
    *out = false;
    return gguf_has(g, key) ? gguf_get_bool(g, key, out, e) : 0;
}

static int check_tokenizer_model(const struct gguf *g, struct err *e)
{
    struct gguf_str s;
    int rc = key_required(gguf_get_str(g, KEY("model"), &s, e), e);
    if (rc)
        return rc;
    if (s.n == 4 && memcmp(s.s, "gpt2", 4) == 0)
        return 0;
    return err_set(e, LLMD_EUNSUPPORTED, "%s: key '%s': only 'gpt2' (byte-level BPE) is supported",
                   gguf_path(g), KEY("model"));
}

/* Switches of other tokenizers that would change the ids. */
static int refuse_flags(const struct gguf *g, struct err *e)
{
    static const char *const keys[] = {KEY("add_eos_token"), KEY("add_space_prefix")};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        bool on;
        int rc = read_flag(g, keys[i], &on, e);
        if (rc)
            return rc;
        if (on)
            return err_set(e, LLMD_EUNSUPPORTED, "%s: key '%s': true is not supported",
                           gguf_path(g), keys[i]);
    }
    return 0;
}

static int read_spec(const struct gguf *g, struct vocab_arrays *v, struct tokenizer_spec *spec,
                     struct err *e)
{
    struct gguf_str pre;
    int rc = check_tokenizer_model(g, e);
    if (!rc)
        rc = refuse_flags(g, e);
    if (!rc)
        rc = key_required(gguf_get_str(g, KEY("pre"), &pre, e), e);
    if (rc)
        return rc;
    v->pre = copy_string(pre);
    if (!v->pre)
        return no_memory(g, e);
    rc = read_texts(g, KEY("tokens"), &v->texts, &spec->n_tokens, e);
    if (!rc)
        rc = read_kinds(g, spec->n_tokens, &v->kinds, e);
    if (!rc)
        rc = read_texts(g, KEY("merges"), &v->merges, &spec->n_merges, e);
    if (!rc)
        rc = read_token_id(g, KEY("bos_token_id"), spec->n_tokens, &spec->bos_id, e);
    if (!rc)
        rc = read_token_id(g, KEY("eos_token_id"), spec->n_tokens, &spec->eos_id, e);
    if (!rc)
        rc = read_flag(g, KEY("add_bos_token"), &spec->add_bos, e);
    spec->source = gguf_path(g);
    spec->pretokenizer = v->pre;
    spec->texts = v->texts;
    spec->kinds = v->kinds;
    spec->merges = v->merges;
    return rc;
}

/* Written form of a token; "" for -1. */
static char *token_form(const struct tokenizer_spec *spec, int64_t id)
{
    struct gguf_str s = {"", 0};
    if (id >= 0)
        s = (struct gguf_str){spec->texts[id].s, spec->texts[id].n};
    return copy_string(s);
}

static int read_tokenizer(const struct gguf *g, struct model *m, struct err *e)
{
    struct vocab_arrays v = {0};
    struct tokenizer_spec spec = {.bos_id = -1, .eos_id = -1};
    int rc = read_spec(g, &v, &spec, e);
    if (!rc)
        rc = tokenizer_new(&spec, &m->tokenizer, e);
    if (!rc) {
        m->bos_token = token_form(&spec, spec.bos_id);
        m->eos_token = token_form(&spec, spec.eos_id);
        if (!m->bos_token || !m->eos_token)
            rc = no_memory(g, e);
    }
    free(v.texts);
    free(v.merges);
    free(v.kinds);
    free(v.pre);
    return rc;
}

static int read_chat_template(const struct gguf *g, struct model *m, struct err *e)
{
    const char *key = "tokenizer.chat_template";
    struct gguf_str s;
    if (!gguf_has(g, key))
        return 0;
    int rc = gguf_get_str(g, key, &s, e);
    if (rc)
        return rc;
    char *source = copy_string(s), *origin = strdup(key);
    if (!source || !origin) {
        free(source);
        free(origin);
        return no_memory(g, e);
    }
    return model_set_template(m, source, s.n, origin, e);
}

static int read_name(const struct gguf *g, struct model *m, struct err *e)
{
    struct gguf_str s;
    if (gguf_get_str(g, "general.name", &s, NULL) != 0 || !model_name_is_fit(s.s, s.n)) {
        const char *slash = strrchr(gguf_path(g), '/');
        const char *base = slash ? slash + 1 : gguf_path(g);
        s = (struct gguf_str){base, strlen(base)};
    }
    m->display_name = copy_string(s);
    return m->display_name ? 0 : no_memory(g, e);
}

/* Sampling defaults are advice: what is absent, mistyped or out of range is not given. */
static float advice(const struct gguf *g, const char *key, float min, float max)
{
    float v;
    return gguf_get_f32(g, key, &v, NULL) == 0 && v >= min && v <= max ? v : NAN;
}

static void read_defaults(const struct gguf *g, struct generation_defaults *out)
{
    uint32_t k;
    *out = (struct generation_defaults){
        .temperature = advice(g, "general.sampling.temp", 0, 2),
        .top_p = advice(g, "general.sampling.top_p", 1e-6f, 1),
        .min_p = advice(g, "general.sampling.min_p", 0, 1),
        .repetition_penalty = advice(g, "general.sampling.penalty_repeat", 1e-3f, 10),
        .top_k = -1,
    };
    if (gguf_get_u32(g, "general.sampling.top_k", &k, NULL) == 0 && k <= INT32_MAX)
        out->top_k = (int32_t)k;
}

int model_read_text(const struct gguf *g, struct model *m, struct err *e)
{
    read_defaults(g, &m->defaults);
    int rc = read_name(g, m, e);
    if (!rc)
        rc = read_tokenizer(g, m, e);
    if (!rc)
        rc = read_chat_template(g, m, e);
    return rc;
}

/* model_tokenizer.c - the tokenizer of a GGUF model: byte-level BPE ("gpt2") or SentencePiece-style
 * BPE with scores ("llama"). */
#include <stdlib.h>
#include <string.h>

#include "core/model/model_int.h"

#define KEY(name) "tokenizer.ggml." name

/* What tokenizer_new borrows while it runs. */
struct vocab_arrays {
    struct token_text *texts, *merges;
    enum token_kind *kinds;
    float *scores;
    char *pre;
    uint32_t eos_ids[2];
};

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
        return gguf_no_memory(g, e);
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
        return gguf_no_memory(g, e);
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

/* What GGUF leaves to the name of the split pattern. `always_bos`: where the file does not say. */
static const struct {
    const char *pre;
    bool ignore_merges, nfc, always_bos;
} customs[] = {
    {"llama-bpe", true, false, true}, {"llama3", true, false, true},
    {"llama-v3", true, false, true},  {"tekken", true, false, false},
    {"qwen2", false, true, false},    {"deepseek-r1-qwen", false, true, false},
};

static bool str_is(struct gguf_str s, const char *want)
{
    return s.n == strlen(want) && memcmp(s.s, want, s.n) == 0;
}

/* Refuses a switch that would change the ids. */
static int refuse_flag(const struct gguf *g, const char *key, struct err *e)
{
    bool on;
    int rc = read_flag(g, key, &on, e);
    if (!rc && on)
        rc =
            err_set(e, LLMD_EUNSUPPORTED, "%s: key '%s': true is not supported", gguf_path(g), key);
    return rc;
}

/* A switch that is `absent` where the file does not say. */
static int read_switch(const struct gguf *g, const char *key, bool absent, bool *out, struct err *e)
{
    *out = absent;
    return gguf_has(g, key) ? gguf_get_bool(g, key, out, e) : 0;
}

static int read_scores(const struct gguf *g, uint32_t n_tokens, float **out, struct err *e)
{
    const char *key = KEY("scores");
    struct gguf_array a;
    int rc = key_required(gguf_get_array(g, key, GGUF_F32, &a, e), e);
    if (rc)
        return rc;
    if (a.n != n_tokens)
        return err_set(e, LLMD_EPARSE, "%s: key '%s': %llu elements for %u tokens", gguf_path(g),
                       key, (unsigned long long)a.n, n_tokens);
    *out = malloc((n_tokens + (size_t)1) * sizeof(**out));
    if (!*out)
        return gguf_no_memory(g, e);
    memcpy(*out, a.data, (size_t)n_tokens * sizeof(**out));
    return 0;
}

static int read_pre(const struct gguf *g, struct vocab_arrays *v, struct tokenizer_spec *spec,
                    struct err *e)
{
    struct gguf_str pre;
    int rc = key_required(gguf_get_str(g, KEY("pre"), &pre, e), e);
    if (rc)
        return rc;
    bool bos = false;
    for (size_t i = 0; i < ARRAY_LEN(customs); i++) {
        if (!str_is(pre, customs[i].pre))
            continue;
        spec->ignore_merges = customs[i].ignore_merges;
        spec->nfc = customs[i].nfc;
        bos = customs[i].always_bos;
    }
    v->pre = gguf_copy_string(pre);
    return v->pre ? read_switch(g, KEY("add_bos_token"), bos, &spec->add_bos, e)
                  : gguf_no_memory(g, e);
}

/* The keys of byte-level BPE. */
static int read_byte_level(const struct gguf *g, struct vocab_arrays *v,
                           struct tokenizer_spec *spec, struct err *e)
{
    int rc = refuse_flag(g, KEY("add_space_prefix"), e);
    if (!rc)
        rc = read_pre(g, v, spec, e);
    if (!rc)
        rc = read_texts(g, KEY("merges"), &v->merges, &spec->n_merges, e);
    return rc;
}

/* A token of its kind that SentencePiece gives this id where the file does not say. */
static int64_t usual_id(const struct tokenizer_spec *spec, uint32_t id, enum token_kind kind)
{
    return id < spec->n_tokens && spec->kinds[id] == kind ? (int64_t)id : -1;
}

/* The keys of SentencePiece-style BPE. */
static int read_spm(const struct gguf *g, struct vocab_arrays *v, struct tokenizer_spec *spec,
                    struct err *e)
{
    bool prefix;
    int64_t unk;
    int rc = refuse_flag(g, KEY("remove_extra_whitespaces"), e);
    if (!rc && gguf_has(g, KEY("precompiled_charsmap")))
        rc = err_set(e, LLMD_EUNSUPPORTED, "%s: key '%s': not supported", gguf_path(g),
                     KEY("precompiled_charsmap"));
    if (!rc)
        rc = read_scores(g, spec->n_tokens, &v->scores, e);
    if (!rc)
        rc = read_switch(g, KEY("add_space_prefix"), true, &prefix, e);
    if (!rc)
        rc = read_token_id(g, KEY("unknown_token_id"), spec->n_tokens, &unk, e);
    if (!rc)
        rc = read_switch(g, KEY("add_bos_token"), true, &spec->add_bos, e);
    if (rc)
        return rc;
    unk = unk < 0 ? usual_id(spec, 0, TOKEN_UNKNOWN) : unk;
    spec->form = TOKENIZER_SPM;
    spec->scores = v->scores;
    spec->space_prefix = prefix ? SPACE_PREFIX_EVERY : SPACE_PREFIX_NONE;
    spec->strip_first_space = prefix;
    spec->has_unk = unk >= 0;
    spec->unk_id = spec->has_unk ? (uint32_t)unk : 0;
    spec->fuse_unk = true;
    for (uint32_t i = 0; i < spec->n_tokens; i++)
        spec->byte_fallback |= spec->kinds[i] == TOKEN_BYTE;
    if (spec->bos_id < 0)
        spec->bos_id = usual_id(spec, 1, TOKEN_CONTROL);
    if (spec->eos_id < 0)
        spec->eos_id = usual_id(spec, 2, TOKEN_CONTROL);
    return 0;
}

/* Ids that the file names as ends of a turn or message besides the eos. */
static int read_turn_ends(const struct gguf *g, struct vocab_arrays *v, struct tokenizer_spec *spec,
                          struct err *e)
{
    static const char *const keys[] = {KEY("eot_token_id"), KEY("eom_token_id")};
    int rc = 0;
    for (size_t i = 0; i < ARRAY_LEN(keys) && !rc; i++) {
        int64_t id;
        rc = read_token_id(g, keys[i], spec->n_tokens, &id, e);
        if (!rc && id >= 0)
            v->eos_ids[spec->n_eos_ids++] = (uint32_t)id;
    }
    spec->eos_ids = v->eos_ids;
    return rc;
}

static int read_spec(const struct gguf *g, struct vocab_arrays *v, struct tokenizer_spec *spec,
                     struct err *e)
{
    struct gguf_str kind;
    int rc = key_required(gguf_get_str(g, KEY("model"), &kind, e), e);
    if (rc)
        return rc;
    bool spm = str_is(kind, "llama");
    if (!spm && !str_is(kind, "gpt2"))
        return err_set(e, LLMD_EUNSUPPORTED,
                       "%s: key '%s': only 'gpt2' (byte-level BPE) and 'llama' (SentencePiece "
                       "BPE) are supported",
                       gguf_path(g), KEY("model"));
    spec->source = gguf_path(g);
    rc = refuse_flag(g, KEY("add_eos_token"), e);
    if (!rc)
        rc = read_texts(g, KEY("tokens"), &v->texts, &spec->n_tokens, e);
    if (!rc)
        rc = read_kinds(g, spec->n_tokens, &v->kinds, e);
    spec->texts = v->texts;
    spec->kinds = v->kinds;
    if (!rc)
        rc = read_token_id(g, KEY("bos_token_id"), spec->n_tokens, &spec->bos_id, e);
    if (!rc)
        rc = read_token_id(g, KEY("eos_token_id"), spec->n_tokens, &spec->eos_id, e);
    if (!rc)
        rc = read_turn_ends(g, v, spec, e);
    if (!rc)
        rc = spm ? read_spm(g, v, spec, e) : read_byte_level(g, v, spec, e);
    spec->pretokenizer = v->pre;
    spec->merges = v->merges;
    return rc;
}

/* Written form of a token; "" for -1. */
static char *token_form(const struct tokenizer_spec *spec, int64_t id)
{
    struct gguf_str s = {"", 0};
    if (id >= 0)
        s = (struct gguf_str){spec->texts[id].s, spec->texts[id].n};
    return gguf_copy_string(s);
}

int model_read_tokenizer(const struct gguf *g, struct model *m, struct err *e)
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
            rc = gguf_no_memory(g, e);
    }
    free(v.texts);
    free(v.merges);
    free(v.kinds);
    free(v.scores);
    free(v.pre);
    return rc;
}

/* hf_int.h - how a folder in Hugging Face form becomes a model: config.json to numbers,
 * safetensors to weights, the files around the tokenizer to the text side.
 *
 * Every key of config.json is known, harmless, or refused by name (hf_config.c). Defaults of
 * missing keys are those of the architecture's configuration class in transformers 5.
 *
 * Errors  EPARSE for what is malformed, EUNSUPPORTED for what is sound but not known here;
 *         "FILE: key 'x': fault" or "FOLDER: tensor 'x': fault", one line. */
#pragma once
#include <jansson.h>

#include "core/model/model.h"
#include "core/model/safetensors.h"

enum { HF_MAX_EOS = 64, HF_MAX_CONFIG_BYTES = 1 << 20 };

struct hf_eos {
    uint32_t ids[HF_MAX_EOS];
    uint32_t n;
    bool given; /* the file says something */
};

/* What config.json says. */
struct hf_config {
    struct hparams hp;       /* tied_embedding: as the file wants it */
    bool qkv_bias, o_bias;   /* the architecture has them with this file's settings */
    bool qk_norm;            /* norms of each head */
    uint32_t *layer_windows; /* as in struct model; owned */
    struct hf_eos eos;
};

/* source names the text in messages. *out is to be freed by hf_config_fini, after success only. */
MUST_CHECK int hf_config_parse(const char *text, size_t n, const char *source,
                               struct hf_config *out, struct err *e);
void hf_config_fini(struct hf_config *c);

/* --- hf_json.c: reading of one JSON object --- */

struct hf_reader {
    const char *source;
    const char *within; /* "rope_scaling." in front of keys in messages, or "" */
    const json_t *object;
    struct err *e;
};

/* Parses the text, whose top must be an object; the caller frees *out. All numbers are reals:
 * transformers writes 10^30 for "no limit". */
MUST_CHECK int hf_parse_object(const char *text, size_t n, const char *source, json_t **out,
                               struct err *e);
/* The value of a key; NULL where it is absent or null. */
const json_t *hf_get(const struct hf_reader *r, const char *key);
/* Fault of a key. Returns -code. */
#define hf_fault(r, code, ...) err_code((code), hf_fault_of((r), (code), __VA_ARGS__))
int hf_fault_of(const struct hf_reader *r, int code, const char *key, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* These leave *io as it is where the key is absent. null is a fault: who allows it asks first. */
MUST_CHECK int hf_read_u32(const struct hf_reader *r, const char *key, uint32_t min, uint32_t max,
                           uint32_t *io);
MUST_CHECK int hf_read_f32(const struct hf_reader *r, const char *key, double min, double max,
                           float *io);
MUST_CHECK int hf_read_bool(const struct hf_reader *r, const char *key, bool *io);
/* A string without NUL; NULL where it is absent. Borrowed. */
MUST_CHECK int hf_read_string(const struct hf_reader *r, const char *key, const char **out);
/* `eos_token_id`: one id or a list; out->given tells whether there was one. */
MUST_CHECK int hf_read_eos(const struct hf_reader *r, uint32_t vocab_size, struct hf_eos *out);

/* hf_rope.c: rope_theta, rope_scaling or rope_parameters into hp, whose context_length is set. */
MUST_CHECK int hf_read_rope(const struct hf_reader *r, struct hparams *hp);

/* --- the other steps --- */

/* hf_weights.c: finds each tensor, checks type and shape; one that the architecture does not have
 * is refused. Sets hp->tied_embedding. The caller frees out->layers, also after an error. */
MUST_CHECK int hf_read_weights(const struct safetensors *s, const char *folder,
                               const struct hf_config *c, struct hparams *hp,
                               struct model_weights *out, struct err *e);

/* What generation_config.json says. */
struct hf_generation {
    struct generation_defaults defaults;
    struct hf_eos eos;
};
MUST_CHECK int hf_generation_parse(const char *text, size_t n, const char *source,
                                   uint32_t vocab_size, struct hf_generation *out, struct err *e);

/* What tokenizer_config.json and its neighbours say. All strings are owned, NULL: not said. */
struct hf_text {
    char *bos_token, *eos_token;
    char *template; /* source of the chat template */
    char *template_origin;
    char *template_fault; /* there are templates, but none that is the default */
};
MUST_CHECK int hf_tokenizer_config_parse(const char *text, size_t n, const char *source,
                                         struct hf_text *io, struct err *e);
void hf_text_fini(struct hf_text *t);

/* hf_text.c: tokenizer, chat template, names, defaults of a folder, into m. c: NULL when the folder
 * has no config.json. What was made stays in m after an error, for model_free. */
MUST_CHECK int hf_read_text(const char *folder, const struct hf_config *c, struct model *m,
                            struct err *e);

/* A whole folder. */
MUST_CHECK int hf_model_open(const char *folder, struct model **out, struct err *e);

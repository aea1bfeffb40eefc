/* model_int.h - how a GGUF file becomes a model, in three steps that need no order but this:
 * the numbers, the weights that must fit them, the text side. Folders: hf_int.h. */
#pragma once
#include "core/model/gguf.h"
#include "core/model/model.h"

struct safetensors;

struct model_files { /* one of them */
    struct gguf *gguf;
    struct safetensors *safetensors;
};

/* An empty model with its path; NULL and ENOMEM in e. */
struct model *model_new(const char *path, struct err *e);

/* Builds a model over g and takes g over when it succeeds. */
MUST_CHECK int model_from_gguf(struct gguf *g, struct model **out, struct err *e);

/* Result of reading a key that must be there: its absence is a fault of the file (EPARSE), not a
 * file that was not found. */
static inline int key_required(int rc, struct err *e)
{
    if (rc != -LLMD_ENOTFOUND)
        return rc;
    if (e && e->code == LLMD_ENOTFOUND)
        e->code = LLMD_EPARSE;
    return -LLMD_EPARSE;
}

/* model_text.c: for the files that read GGUF models. */
int gguf_no_memory(const struct gguf *g, struct err *e);
char *gguf_copy_string(struct gguf_str s); /* NULL: out of memory */

/* A side of a weight, and its size. */
enum dim { DIM_ONE, DIM_HIDDEN, DIM_Q, DIM_KV, DIM_HEAD, DIM_FFN, DIM_VOCAB };
uint64_t model_dim(const struct hparams *hp, enum dim d); /* model.c */

/* model_keys.c: the architecture's keys. Every one is known and in range, or refused by name.
 * *out_windows stays as it is, or gets an allocated array as in struct model. */
MUST_CHECK int model_read_hparams(const struct gguf *g, struct hparams *out, uint32_t **out_windows,
                                  struct err *e);

/* model_weights.c: finds each tensor, checks type and shape; a tensor that the architecture
 * does not have is refused. Sets hp->tied_embedding. *out_rope_divisors stays as it is, or
 * borrows the file's (see model_set_rope). The caller frees out->layers, also after an error. */
MUST_CHECK int model_read_weights(const struct gguf *g, struct hparams *hp,
                                  struct model_weights *out, const float **out_rope_divisors,
                                  struct err *e);

/* model_text.c: tokenizer, chat template, names, sampling defaults, into m. What was made stays
 * in m after an error, for model_free. */
MUST_CHECK int model_read_text(const struct gguf *g, struct model *m, struct err *e);
/* model_tokenizer.c: its first part. */
MUST_CHECK int model_read_tokenizer(const struct gguf *g, struct model *m, struct err *e);

/* model_template.c: parses a chat template into m; source and origin move. One that cannot be used is
 * no error: m->chat_template_fault says why, and the model serves completions. */
MUST_CHECK int model_set_template(struct model *m, char *source, size_t n, char *origin,
                                  struct err *e);
/* Whether a name may stand in a log line and a JSON answer. */
bool model_name_is_fit(const char *s, size_t n);

/* model_rope.c: m->inv_freq and m->rope_scale from m->hparams, whose rope fields are checked.
 * divisors: NULL, or [head_dim / 2] factors that the file gives ready made (GGUF's rope_freqs). */
MUST_CHECK int model_set_rope(struct model *m, const float *divisors, struct err *e);

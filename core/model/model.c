#include "core/model/model.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/model/hf_int.h"
#include "core/model/model_int.h"
#include "core/model/safetensors.h"

uint64_t model_dim(const struct hparams *hp, enum dim d)
{
    switch (d) {
    case DIM_ONE:
        return 1;
    case DIM_HIDDEN:
        return hp->hidden_size;
    case DIM_Q:
        return (uint64_t)hp->n_heads * hp->head_dim;
    case DIM_KV:
        return (uint64_t)hp->n_kv_heads * hp->head_dim;
    case DIM_HEAD:
        return hp->head_dim;
    case DIM_FFN:
        return hp->ffn_size;
    case DIM_VOCAB:
        return hp->vocab_size;
    }
    BUG_ON(true);
}

void model_free(struct model *m)
{
    if (!m)
        return;
    tokenizer_free(m->tokenizer);
    chat_template_free(m->chat_template);
    free(m->path);
    free(m->display_name);
    free(m->chat_template_source);
    free(m->chat_template_origin);
    free(m->chat_template_fault);
    free(m->bos_token);
    free(m->eos_token);
    free(m->weights.layers);
    free(m->inv_freq);
    free(m->layer_windows);
    if (m->files) {
        gguf_close(m->files->gguf);
        safetensors_close(m->files->safetensors);
    }
    free(m->files);
    free(m);
}

struct model *model_new(const char *path, struct err *e)
{
    struct model *m = calloc(1, sizeof(*m));
    if (m) {
        m->path = strdup(path);
        m->files = calloc(1, sizeof(*m->files));
    }
    if (m && m->path && m->files)
        return m;
    model_free(m);
    (void)err_set(e, LLMD_ENOMEM, "%s: out of memory", path);
    return NULL;
}

int model_from_gguf(struct gguf *g, struct model **out, struct err *e)
{
    struct model *m = model_new(gguf_path(g), e);
    if (!m)
        return -LLMD_ENOMEM;
    const float *divisors = NULL; /* of rotary frequencies */
    int rc = model_read_hparams(g, &m->hparams, &m->layer_windows, e);
    if (!rc)
        rc = model_read_weights(g, &m->hparams, &m->weights, &divisors, e);
    if (!rc)
        rc = model_set_rope(m, divisors, e);
    if (!rc)
        rc = model_read_text(g, m, e);
    if (rc) {
        model_free(m);
        return rc;
    }
    m->files->gguf = g;
    *out = m;
    return 0;
}

uint32_t layer_tensors(const struct layer_weights *l,
                       const struct host_tensor *out[LAYER_TENSORS_MAX])
{
    const struct host_tensor *const all[] = {
        &l->attn_norm, &l->q,      &l->k,      &l->v,      &l->o,
        &l->ffn_norm,  &l->gate,   &l->up,     &l->down,   &l->q_bias,
        &l->k_bias,    &l->v_bias, &l->o_bias, &l->q_norm, &l->k_norm,
    };
    _Static_assert(sizeof(*l) == sizeof(all) / sizeof(all[0]) * sizeof(*all[0]), "a new tensor");
    uint32_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (all[i]->data)
            out[n++] = all[i];
    return n;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int model_open(const char *path, struct model **out, struct err *e)
{
    struct gguf *g;
    if (is_folder(path))
        return hf_model_open(path, out, e);
    int rc = gguf_open(path, &g, e);
    if (rc)
        return rc;
    rc = model_from_gguf(g, out, e);
    if (rc)
        gguf_close(g);
    return rc;
}

int model_open_text(const char *path, struct model **out, struct err *e)
{
    struct model *m = model_new(path, e);
    if (!m)
        return -LLMD_ENOMEM;
    int rc = is_folder(path) ? hf_read_text(path, NULL, m, e) : gguf_open(path, &m->files->gguf, e);
    if (rc == 0 && m->files->gguf)
        rc = model_read_text(m->files->gguf, m, e);
    if (rc)
        model_free(m);
    else
        *out = m;
    return rc;
}

void model_release_pages(const struct model *m)
{
    if (m->files && m->files->gguf) /* a model made in memory has none */
        gguf_release_pages(m->files->gguf);
    if (m->files && m->files->safetensors)
        safetensors_release_pages(m->files->safetensors);
}

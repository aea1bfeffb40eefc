#include "core/model/model.h"

#include <stdlib.h>
#include <string.h>

#include "core/model/model_int.h"

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
    if (m->files)
        gguf_close(m->files->gguf);
    free(m->files);
    free(m);
}

int model_from_gguf(struct gguf *g, struct model **out, struct err *e)
{
    struct model *m = calloc(1, sizeof(*m));
    if (!m)
        return err_set(e, LLMD_ENOMEM, "%s: out of memory", gguf_path(g));
    m->path = strdup(gguf_path(g));
    m->files = calloc(1, sizeof(*m->files));
    int rc = 0;
    if (!m->path || !m->files)
        rc = err_set(e, LLMD_ENOMEM, "%s: out of memory", gguf_path(g));
    if (!rc)
        rc = model_read_hparams(g, &m->hparams, e);
    if (!rc)
        rc = model_read_weights(g, &m->hparams, &m->weights, e);
    if (!rc)
        rc = model_set_rope(m, NULL, e);
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

int model_open(const char *path, struct model **out, struct err *e)
{
    struct gguf *g;
    int rc = gguf_open(path, &g, e);
    if (rc)
        return rc;
    rc = model_from_gguf(g, out, e);
    if (rc)
        gguf_close(g);
    return rc;
}

void model_release_pages(const struct model *m)
{
    if (m->files) /* a model made in memory has none */
        gguf_release_pages(m->files->gguf);
}

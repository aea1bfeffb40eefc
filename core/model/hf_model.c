/* hf_model.c - a folder in Hugging Face form as a model. */
#include <stdlib.h>
#include <string.h>

#include "core/model/hf_int.h"
#include "core/model/model_file_int.h"
#include "core/model/model_int.h"
#include "core/util/fsio.h"

static int read_config(const char *folder, struct hf_config *out, struct err *e)
{
    struct buf path = {0}, text = {0};
    if (!model_file_listed(folder, "config.json"))
        return err_set(
            e, LLMD_ENOTFOUND,
            "%s: no config.json in this folder (a model is a GGUF file, or a folder with "
            "config.json, tokenizer.json and model.safetensors)",
            folder);
    buf_addf(&path, "%s/config.json", folder);
    int rc = path.failed ? err_set(e, LLMD_ENOMEM, "%s: out of memory", folder)
                         : file_read(buf_str(&path), HF_MAX_CONFIG_BYTES, &text, e);
    if (rc == 0)
        rc = hf_config_parse(buf_str(&text), text.len, buf_str(&path), out, e);
    buf_fini(&path);
    buf_fini(&text);
    return rc;
}

static int open_weights(const char *folder, struct safetensors **out, struct err *e)
{
    if (!model_file_listed(folder, "model.safetensors.index.json") &&
        !model_file_listed(folder, "model.safetensors"))
        return err_set(e, LLMD_ENOTFOUND,
                       "%s: neither model.safetensors nor model.safetensors.index.json is in this "
                       "folder%s",
                       folder,
                       model_file_listed(folder, "pytorch_model.bin") ||
                               model_file_listed(folder, "pytorch_model.bin.index.json")
                           ? " (pytorch_model.bin is not read: convert it to safetensors)"
                           : "");
    return safetensors_open(folder, out, e);
}

/* All but the weights, then the weights: a fault of the small files is told at once. */
static int fill(struct model *m, const char *folder, struct hf_config *c, struct err *e)
{
    m->hparams = c->hp;
    m->layer_windows = c->layer_windows;
    c->layer_windows = NULL;
    int rc = model_set_rope(m, NULL, e);
    if (rc == 0)
        rc = open_weights(folder, &m->files->safetensors, e);
    if (rc == 0)
        rc = hf_read_weights(m->files->safetensors, folder, c, &m->hparams, &m->weights, e);
    return rc ? rc : hf_read_text(folder, c, m, e);
}

int hf_model_open(const char *folder, struct model **out, struct err *e)
{
    struct hf_config c;
    int rc = read_config(folder, &c, e);
    if (rc)
        return rc;
    struct model *m = model_new(folder, e);
    rc = m ? fill(m, folder, &c, e) : -LLMD_ENOMEM;
    hf_config_fini(&c);
    if (rc)
        model_free(m);
    else
        *out = m;
    return rc;
}

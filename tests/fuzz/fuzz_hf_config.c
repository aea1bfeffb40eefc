/* fuzz_hf_config.c - any text as config.json, generation_config.json and tokenizer_config.json. What
 * is accepted holds numbers that the engine can be built on; what is refused says so in one line. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/hf_int.h"
#include "core/model/model_int.h"
#include "core/util/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void demand(bool c)
{
    if (!c)
        abort();
}

static void check_message(const struct err *e)
{
    size_t n = strlen(e->msg);
    demand(e->code != 0 && !strchr(e->msg, '\n') && strncmp(e->msg, "fuzz: ", 6) == 0);
    demand(n + 1 == sizeof(e->msg) || utf8_valid(e->msg, n)); /* a cut may split a character */
}

static void check_rope(const struct hparams *h)
{
    struct err e = {0};
    struct model *m = model_new("fuzz", &e);
    demand(m != NULL);
    m->hparams = *h;
    if (model_set_rope(m, NULL, &e) == 0) {
        for (uint32_t i = 0; i < h->head_dim / 2; i++)
            demand(isfinite(m->inv_freq[i]) && m->inv_freq[i] >= 0);
        demand(isfinite(m->rope_scale) && m->rope_scale > 0);
    } else
        check_message(&e);
    model_free(m);
}

static void check_config(const struct hf_config *c)
{
    const struct hparams *h = &c->hp;
    demand(h->n_layers >= 1 && h->n_layers <= 1024 && h->hidden_size >= 1 && h->ffn_size >= 1);
    demand(h->n_kv_heads >= 1 && h->n_heads % h->n_kv_heads == 0);
    demand(h->head_dim >= 2 && h->head_dim % 2 == 0 && h->head_dim <= 1024);
    demand(h->vocab_size >= 1 && h->context_length >= 1 && h->context_length <= 1 << 24);
    demand(h->rms_norm_eps > 0 && h->rope_theta >= 1 && isfinite(h->rope_theta));
    demand(h->rope_scaling == ROPE_SCALING_NONE || h->scaling.factor >= 1);
    for (uint32_t i = 0; c->layer_windows && i < h->n_layers; i++)
        demand(c->layer_windows[i] < h->context_length);
    for (uint32_t i = 0; i < c->eos.n; i++)
        demand(c->eos.ids[i] < h->vocab_size);
    check_rope(h);
}

static void check_generation(const struct hf_generation *g)
{
    const struct generation_defaults *d = &g->defaults;
    demand(isnan(d->temperature) || (d->temperature >= 0 && d->temperature <= 2));
    demand(isnan(d->top_p) || (d->top_p > 0 && d->top_p <= 1));
    demand(d->top_k >= -1 && g->eos.n <= HF_MAX_EOS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *text = (const char *)data;
    struct hf_config c;
    struct hf_generation g;
    struct hf_text t = {0};
    struct err e = {0};
    if (hf_config_parse(text, n, "fuzz", &c, &e) == 0) {
        check_config(&c);
        hf_config_fini(&c);
    } else
        check_message(&e);
    err_clear(&e);
    if (hf_generation_parse(text, n, "fuzz", 1000, &g, &e) == 0)
        check_generation(&g);
    else
        check_message(&e);
    err_clear(&e);
    if (hf_tokenizer_config_parse(text, n, "fuzz", &t, &e) == 0)
        demand(!t.template || t.template_origin);
    else
        check_message(&e);
    hf_text_fini(&t);
    return 0;
}

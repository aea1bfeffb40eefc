#include "core/engine/forward.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/engine/engine_weights.h"
#include "core/model/model.h"

struct forward {
    struct backend *be;
    const struct backend_ops *ops;
    struct engine_weights *weights;
    struct backend_limits limits;
    float eps;
    uint32_t n_rows, n_out;                          /* of the last step */
    uint32_t posted_rows[STEPS_IN_FLIGHT], n_posted; /* of those that were posted, oldest first */
    struct tensor x, normed, qkv, attn, delta, ffn;
    struct tensor head_in, logits;
    const float *host_logits; /* NULL: the backend samples by itself */
};

void forward_attn_shape(const struct model *m, uint32_t max_context, struct attn_shape *out)
{
    const struct hparams *h = &m->hparams;
    *out = (struct attn_shape){
        .n_layers = h->n_layers,
        .n_heads = h->n_heads,
        .n_kv_heads = h->n_kv_heads,
        .head_dim = h->head_dim,
        .max_context = max_context,
        .inv_freq = m->inv_freq,
        .rope_scale = m->rope_scale,
        .rope_interleaved = h->rope_style == ROPE_INTERLEAVED,
        .windows = m->layer_windows,
    };
}

int forward_new(struct backend *be, const struct model *m, struct engine_weights *w,
                const struct attn_shape *shape, const struct backend_limits *limits,
                struct forward **out, struct err *e)
{
    const struct hparams *h = &m->hparams;
    BUG_ON(w->n_layers != shape->n_layers);
    struct forward *f = calloc(1, sizeof(*f));
    if (!f)
        return err_set(e, LLMD_ENOMEM, "out of memory for the layer loop");

    const uint32_t q = shape->n_heads * shape->head_dim;
    const uint32_t kv = shape->n_kv_heads * shape->head_dim;
    const struct {
        struct tensor *t;
        uint32_t rows, cols;
    } buffers[] = {
        {&f->x, limits->max_rows, h->hidden_size},
        {&f->normed, limits->max_rows, h->hidden_size},
        {&f->qkv, limits->max_rows, q + 2 * kv},
        {&f->attn, limits->max_rows, q},
        {&f->delta, limits->max_rows, h->hidden_size},
        {&f->ffn, limits->max_rows, h->ffn_size},
        {&f->head_in, limits->max_out, h->hidden_size},
        {&f->logits, limits->max_out, h->vocab_size},
    };
    for (size_t i = 0; i < ARRAY_LEN(buffers); i++) {
        int rc = be->ops->tensor_new(be, buffers[i].rows, buffers[i].cols, buffers[i].t, e);
        if (rc) {
            free(f);
            return rc;
        }
    }
    f->host_logits = f->logits.data;
    int rc = 0;
    if (be->ops->logits_to_host && !be->ops->sample)
        rc = be->ops->logits_to_host(be, &f->logits, &f->host_logits, e);
    else if (be->ops->sample_reserve)
        rc = be->ops->sample_reserve(be, &f->logits, e);
    if (rc) {
        free(f);
        return rc;
    }
    f->be = be;
    f->ops = be->ops;
    f->weights = engine_weights_ref(w);
    f->limits = *limits;
    f->eps = h->rms_norm_eps;
    *out = f;
    return 0;
}

void forward_free(struct forward *f)
{
    int rc = 0;
    if (!f)
        return;
    for (; f->n_posted > 0 && !rc; f->n_posted--) /* nobody wants them any more */
        rc = f->ops->collect(f->be);
    engine_weights_unref(f->weights);
    free(f);
}

/* Projections and the KV write. `pending` is the delta that x still lacks, NULL for none. */
static int layer_kv(struct forward *f, uint32_t layer, const struct tensor *pending)
{
    const struct engine_layer *l = &f->weights->layers[layer];
    int rc = f->ops->rms_norm(f->be, &f->x, pending, l->attn_norm, f->eps, &f->normed);
    if (!rc)
        rc = f->ops->linear(f->be, &f->normed, l->qkv, &f->qkv);
    if (!rc)
        rc = f->ops->rope_kv(f->be, layer, &f->qkv, l->q_norm, l->k_norm, f->eps);
    return rc;
}

/* The rest of the layer; its last product is left in delta. */
static int layer_rest(struct forward *f, uint32_t layer)
{
    const struct engine_layer *l = &f->weights->layers[layer];
    int rc = f->ops->attention(f->be, layer, &f->qkv, &f->attn);
    if (!rc)
        rc = f->ops->linear(f->be, &f->attn, l->o, &f->delta);
    if (!rc)
        rc = f->ops->rms_norm(f->be, &f->x, &f->delta, l->ffn_norm, f->eps, &f->normed);
    if (!rc)
        rc = f->ops->gate_up(f->be, &f->normed, l->gate_up, &f->ffn);
    if (!rc)
        rc = f->ops->linear(f->be, &f->ffn, l->down, &f->delta);
    return rc;
}

/* Logits of the wanted rows. The norm over all rows is for its side effect, x += delta: that must
 * happen before rows are gathered. */
static int head(struct forward *f)
{
    const struct engine_weights *w = f->weights;
    int rc = f->ops->rms_norm(f->be, &f->x, &f->delta, w->final_norm, f->eps, &f->normed);
    if (!rc)
        rc = f->ops->gather(f->be, &f->x, &f->head_in);
    if (!rc)
        rc = f->ops->head(f->be, &f->head_in, w->final_norm, f->eps, w->lm_head, &f->logits);
    return rc;
}

/* where: "in layer 3 of", "to finish". The device's own words follow, when it has some. */
static int device_failed(const struct forward *f, int rc, const char *where, struct err *e)
{
    const char *why = f->ops->fault ? f->ops->fault(f->be) : NULL;
    return err_set(e, -rc, "the device failed %s a step of %u rows%s%s", where, f->n_rows,
                   why ? ": " : "", why ? why : "");
}

static int run_layers(struct forward *f, const struct batch *b, struct err *e)
{
    const uint32_t n_layers = f->weights->n_layers;
    const struct tensor *pending = NULL;
    for (uint32_t layer = 0; layer < n_layers; layer++) {
        int rc = layer_kv(f, layer, pending);
        /* Without logits to compute, nothing reads what follows the last KV write. */
        if (!rc && (layer + 1 < n_layers || b->n_out > 0))
            rc = layer_rest(f, layer);
        if (rc) {
            char where[32];
            snprintf(where, sizeof(where), "in layer %u of", layer);
            return device_failed(f, rc, where, e);
        }
        pending = &f->delta;
    }
    return 0;
}

/* forward_sample() follows, and waits. */
static bool forward_samples(const struct forward *f)
{
    return f->n_out > 0 && f->ops->sample;
}

/* All operations down to the logits. */
static int enqueue(struct forward *f, const struct batch *b, struct err *e)
{
    BUG_ON(b->n_rows == 0 || b->n_rows > f->limits.max_rows);
    BUG_ON(b->n_seqs > f->limits.max_seqs || b->n_out > f->limits.max_out);
    f->n_rows = b->n_rows;
    f->n_out = b->n_out;

    int rc = f->ops->begin(f->be, b);
    if (!rc)
        rc = f->ops->embed(f->be, f->weights->embed, &f->x);
    if (rc)
        return device_failed(f, rc, "to begin", e);
    rc = run_layers(f, b, e);
    if (rc)
        return rc;
    if (b->n_out > 0)
        rc = head(f);
    return rc ? device_failed(f, rc, "to finish", e) : 0;
}

int forward_step(struct forward *f, const struct batch *b, struct err *e)
{
    int rc = enqueue(f, b, e);
    if (rc || forward_samples(f))
        return rc;
    rc = f->ops->finish(f->be);
    return rc ? device_failed(f, rc, "to finish", e) : 0;
}

const float *forward_logits(const struct forward *f, uint32_t out_row)
{
    BUG_ON(out_row >= f->n_out);
    if (!f->host_logits)
        return NULL;
    return f->host_logits + (size_t)out_row * f->logits.cols;
}

bool forward_has_sampler(const struct forward *f)
{
    return f->ops->sample != NULL;
}

bool forward_needs_samplers(const struct forward *f)
{
    return !f->ops->sample || f->ops->sample_reads_how;
}

int forward_sample(struct forward *f, const struct sample_row *rows, uint32_t n, uint32_t *out_ids,
                   struct err *e)
{
    BUG_ON(n != f->n_out);
    int rc = f->ops->sample(f->be, &f->logits, rows, n, out_ids);
    if (!rc)
        rc = f->ops->finish(f->be);
    if (rc)
        return device_failed(f, rc, "to sample", e);
    return 0;
}

bool forward_can_post(const struct forward *f)
{
    return f->ops->sample && f->ops->post;
}

int forward_post(struct forward *f, const struct batch *b, const struct sample_row *rows,
                 uint32_t *out_ids, struct err *e)
{
    const uint32_t n_before = f->n_posted;
    BUG_ON(n_before == STEPS_IN_FLIGHT || (b->follows && n_before == 0));
    f->n_posted = 0; /* nothing is collected after an error */
    int rc = enqueue(f, b, e);
    if (rc)
        return rc;
    if (b->n_out > 0)
        rc = f->ops->sample(f->be, &f->logits, rows, b->n_out, out_ids);
    if (!rc)
        rc = f->ops->post(f->be);
    if (rc)
        return device_failed(f, rc, "to sample", e);
    f->posted_rows[n_before] = b->n_rows;
    f->n_posted = n_before + 1;
    return 0;
}

int forward_collect(struct forward *f, struct err *e)
{
    BUG_ON(f->n_posted == 0);
    f->n_rows = f->posted_rows[0];
    f->posted_rows[0] = f->posted_rows[1];
    const int rc = f->ops->collect(f->be);
    f->n_posted = rc ? 0 : f->n_posted - 1;
    return rc ? device_failed(f, rc, "to sample", e) : 0;
}

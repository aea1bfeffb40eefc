#include "core/engine/engine_weights.h"

#include <pthread.h>
#include <stdlib.h>

#include "core/engine/worker.h"
#include "core/model/model.h"
#include "core/util/clock.h"
#include "core/util/fsio.h"
#include "core/util/lock.h"

/* --- one set of weights --- */

static const uint64_t READ_AHEAD_BYTES = 256 << 20;

/* The state of a load in progress. */
struct loader {
    struct backend *be;
    struct engine_weights *w;
    engine_progress *progress;
    void *ctx;
    struct load_progress at;
    uint64_t started_us;
    uint32_t percent;     /* last reported */
    uint32_t n_asked;     /* layers that the kernel was asked to read */
    uint64_t asked_bytes; /* of the model's tensors, likewise */
};

static uint64_t layer_bytes(const struct layer_weights *l)
{
    const struct host_tensor *all[LAYER_TENSORS_MAX];
    uint64_t sum = 0;
    for (uint32_t i = 0, n = layer_tensors(l, all); i < n; i++)
        sum += host_tensor_bytes(all[i]);
    return sum;
}

static uint64_t model_bytes(const struct model *m)
{
    const struct model_weights *mw = &m->weights;
    uint64_t n = host_tensor_bytes(&mw->embed) + host_tensor_bytes(&mw->final_norm);
    if (!m->hparams.tied_embedding)
        n += host_tensor_bytes(&mw->lm_head);
    for (uint32_t i = 0; i < m->hparams.n_layers; i++)
        n += layer_bytes(&mw->layers[i]);
    return n;
}

static int report(struct loader *ld, struct err *e)
{
    ld->percent = load_percent(&ld->at);
    ld->at.elapsed_us = clock_now_us() - ld->started_us;
    if (!ld->progress || ld->progress(ld->ctx, &ld->at))
        return 0;
    return err_set(e, LLMD_EDRAINING, "the server is shutting down");
}

/* Parts that make one product, with their biases (NULL: none). */
static int load_parts(struct loader *ld, enum weight_role role, const struct host_tensor *parts,
                      uint32_t n_parts, const struct host_tensor *biases, struct weight **out,
                      struct err *e)
{
    int rc = ld->be->ops->weight_new(ld->be, role, parts, n_parts, biases, out, e);
    if (rc) {
        err_prefix(e, "%s: ", parts[0].name);
        return rc;
    }
    ld->w->n_bytes += ld->be->ops->weight_bytes(*out);
    for (uint32_t i = 0; i < n_parts; i++)
        ld->at.done_bytes +=
            host_tensor_bytes(&parts[i]) + (biases ? host_tensor_bytes(&biases[i]) : 0);
    /* All done is said once the pages are released. */
    if (load_percent(&ld->at) > ld->percent && ld->at.done_bytes < ld->at.total_bytes)
        return report(ld, e);
    return 0;
}

static int load(struct loader *ld, enum weight_role role, const struct host_tensor *t,
                struct weight **out, struct err *e)
{
    return load_parts(ld, role, t, 1, NULL, out, e);
}

static int load_head_norm(struct loader *ld, const struct host_tensor *t, struct weight **out,
                          struct err *e)
{
    return t->data ? load(ld, WEIGHT_VECTOR, t, out, e) : 0;
}

static int load_layer(struct loader *ld, const struct layer_weights *l, struct engine_layer *out,
                      struct err *e)
{
    const struct host_tensor qkv[] = {l->q, l->k, l->v};
    const struct host_tensor qkv_bias[] = {l->q_bias, l->k_bias, l->v_bias};
    const struct host_tensor gate_up[] = {l->gate, l->up};
    int rc = load(ld, WEIGHT_VECTOR, &l->attn_norm, &out->attn_norm, e);
    if (!rc)
        rc = load_parts(ld, WEIGHT_LINEAR, qkv, ARRAY_LEN(qkv), qkv_bias, &out->qkv, e);
    if (!rc)
        rc = load_head_norm(ld, &l->q_norm, &out->q_norm, e);
    if (!rc)
        rc = load_head_norm(ld, &l->k_norm, &out->k_norm, e);
    if (!rc)
        rc = load_parts(ld, WEIGHT_LINEAR, &l->o, 1, &l->o_bias, &out->o, e);
    if (!rc)
        rc = load(ld, WEIGHT_VECTOR, &l->ffn_norm, &out->ffn_norm, e);
    if (!rc)
        rc = load_parts(ld, WEIGHT_GATE_UP, gate_up, ARRAY_LEN(gate_up), NULL, &out->gate_up, e);
    if (!rc)
        rc = load(ld, WEIGHT_LINEAR, &l->down, &out->down, e);
    return rc;
}

/* Asks for a tensor's bytes before they are wanted. */
static void ask(struct loader *ld, const struct host_tensor *t)
{
    file_map_read_ahead(t->data, host_tensor_bytes(t));
    ld->asked_bytes += host_tensor_bytes(t);
}

/* Keeps the disk READ_AHEAD_BYTES ahead of what is being packed, in the order of the load: page
 * faults alone would read a cold file in small pieces, and only while nobody computes. */
static void read_ahead(struct loader *ld, const struct model *m)
{
    const struct model_weights *mw = &m->weights;
    if (ld->asked_bytes == 0)
        ask(ld, &mw->embed);
    for (; ld->n_asked <= ld->w->n_layers; ld->n_asked++) {
        if (ld->asked_bytes > ld->at.done_bytes + READ_AHEAD_BYTES)
            return;
        if (ld->n_asked == ld->w->n_layers) {
            if (!m->hparams.tied_embedding)
                ask(ld, &mw->lm_head);
            continue;
        }
        const struct host_tensor *all[LAYER_TENSORS_MAX];
        for (uint32_t i = 0, n = layer_tensors(&mw->layers[ld->n_asked], all); i < n; i++)
            ask(ld, all[i]);
    }
}

static int load_all(struct loader *ld, const struct model *m, struct err *e)
{
    struct engine_weights *w = ld->w;
    const struct model_weights *mw = &m->weights;
    read_ahead(ld, m);
    int rc = load(ld, WEIGHT_EMBED, &mw->embed, &w->embed, e);
    for (uint32_t i = 0; !rc && i < w->n_layers; i++) {
        read_ahead(ld, m);
        rc = load_layer(ld, &mw->layers[i], &w->layers[i], e);
    }
    if (!rc)
        rc = load(ld, WEIGHT_VECTOR, &mw->final_norm, &w->final_norm, e);
    if (rc)
        return rc;
    if (m->hparams.tied_embedding) {
        w->lm_head = w->embed;
        return 0;
    }
    return load(ld, WEIGHT_LINEAR, &mw->lm_head, &w->lm_head, e);
}

int engine_weights_new(struct backend *be, const struct model *m, engine_progress *progress,
                       void *ctx, struct engine_weights **out, struct err *e)
{
    struct engine_weights *w = calloc(1, sizeof(*w));
    struct engine_layer *layers = calloc(m->hparams.n_layers, sizeof(*layers));
    if (!w || !layers) {
        free(w);
        free(layers);
        return err_set(e, LLMD_ENOMEM, "out of memory for the weights of %s", m->path);
    }
    atomic_init(&w->refs, 1);
    w->ops = be->ops;
    w->layers = layers;
    w->n_layers = m->hparams.n_layers;

    struct loader ld = {.be = be, .w = w, .progress = progress, .ctx = ctx};
    ld.at.total_bytes = model_bytes(m);
    ld.started_us = clock_now_us();
    int rc = report(&ld, e);
    if (!rc)
        rc = load_all(&ld, m, e);
    if (!rc) {
        model_release_pages(m);
        rc = report(&ld, e);
    }
    if (rc) {
        engine_weights_unref(w);
        return rc;
    }
    *out = w;
    return 0;
}

struct engine_weights *engine_weights_ref(struct engine_weights *w)
{
    unsigned before = atomic_fetch_add_explicit(&w->refs, 1, memory_order_relaxed);
    BUG_ON(before == 0);
    return w;
}

static void layer_free(const struct backend_ops *ops, struct engine_layer *l)
{
    ops->weight_free(l->attn_norm);
    ops->weight_free(l->qkv);
    ops->weight_free(l->q_norm);
    ops->weight_free(l->k_norm);
    ops->weight_free(l->o);
    ops->weight_free(l->ffn_norm);
    ops->weight_free(l->gate_up);
    ops->weight_free(l->down);
}

void engine_weights_unref(struct engine_weights *w)
{
    if (!w)
        return;
    unsigned before = atomic_fetch_sub_explicit(&w->refs, 1, memory_order_acq_rel);
    BUG_ON(before == 0);
    if (before > 1)
        return;
    if (w->lm_head != w->embed)
        w->ops->weight_free(w->lm_head);
    w->ops->weight_free(w->embed);
    w->ops->weight_free(w->final_norm);
    for (uint32_t i = 0; i < w->n_layers; i++)
        layer_free(w->ops, &w->layers[i]);
    free(w->layers);
    free(w);
}

/* --- sharing --- */

struct shared_weights {
    struct lock mu;
    pthread_cond_t changed;         /* a load ended */
    bool loading;                   /* guarded by mu, like all below */
    const void *loader;             /* the ctx of who does */
    struct engine_weights *weights; /* NULL until loaded; holds a reference */
    const struct model *model;      /* of the first caller, as is: */
    const struct backend_ops *ops;
};

int shared_weights_new(struct shared_weights **out)
{
    struct shared_weights *s = calloc(1, sizeof(*s));
    if (!s)
        return -LLMD_ENOMEM;
    lock_init(&s->mu, LOCK_RANK_LEAF);
    lock_cond_init(&s->changed);
    *out = s;
    return 0;
}

void shared_weights_unref(struct shared_weights *s)
{
    if (!s)
        return;
    engine_weights_unref(s->weights);
    pthread_cond_destroy(&s->changed);
    lock_fini(&s->mu);
    free(s);
}

/* Waits until the weights are there (a reference to them comes out) or it is the caller's turn to load
 * (NULL). EDRAINING: the caller is to end. s->mu is held, but not all the time. */
static int wait_or_claim(struct shared_weights *s, engine_progress *progress, void *ctx,
                         struct engine_weights **out, struct err *e)
{
    enum { LOOK_AGAIN_US = 100000 };
    const struct load_progress nothing = {0};
    while (s->loading) {
        if (lock_wait(&s->mu, &s->changed, clock_now_us() + LOOK_AGAIN_US) || !progress)
            continue;
        lock_drop(&s->mu);
        const bool go_on = progress(ctx, &nothing);
        lock_take(&s->mu);
        if (!go_on)
            return err_set(e, LLMD_EDRAINING, "told to end while another worker loads");
    }
    s->loading = s->weights == NULL;
    s->loader = ctx;
    *out = s->weights ? engine_weights_ref(s->weights) : NULL;
    return 0;
}

/* Loads for all that wait, unless the caller is disowned meanwhile. */
static int load_shared(struct shared_weights *s, struct backend *be, const struct model *m,
                       engine_progress *progress, void *ctx, struct engine_weights **out,
                       struct err *e)
{
    const int rc = engine_weights_new(be, m, progress, ctx, out, e);
    lock_take(&s->mu);
    if (s->loading && s->loader == ctx) {
        s->loading = false;
        if (!rc && !s->weights)
            s->weights = engine_weights_ref(*out);
        pthread_cond_broadcast(&s->changed);
    }
    lock_drop(&s->mu);
    return rc;
}

void shared_weights_disown(struct shared_weights *s, const void *ctx)
{
    lock_take(&s->mu);
    if (s->loading && s->loader == ctx) {
        s->loading = false;
        pthread_cond_broadcast(&s->changed);
    }
    lock_drop(&s->mu);
}

int shared_weights_get(struct shared_weights *s, struct backend *be, const struct model *m,
                       engine_progress *progress, void *ctx, struct engine_weights **out,
                       struct err *e)
{
    lock_take(&s->mu);
    if (!s->model) {
        s->model = m;
        s->ops = be->ops;
    }
    const bool fits = s->model == m && s->ops == be->ops;
    struct engine_weights *w = NULL;
    int rc = fits ? wait_or_claim(s, progress, ctx, &w, e) : 0;
    lock_drop(&s->mu);
    if (!fits)
        return err_set(e, LLMD_EINVAL,
                       "shared weights hold another model or device kind than %s/%s", m->path,
                       be->ops->kind);

    if (!rc && !w)
        rc = load_shared(s, be, m, progress, ctx, &w, e);
    if (!rc)
        *out = w;
    return rc;
}

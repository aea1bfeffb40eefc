/* engine_weights.h - the weights of one model in the layout of one kind of backend.
 *
 * Built once per model and kind of device, then immutable: the CPU workers of one model share one
 * set through a shared_weights (core/engine/worker.h), where the first that asks loads and the
 * others wait for it.
 *
 * Thread  engine_weights: reference counted, any thread. shared_weights: any thread.
 * Memory  the backend copies what it needs: the model's tensors are not used after _new, which
 *         also lets their pages go (model_release_pages).
 * Errors  those of backend_ops.weight_new, with the tensor's name in front. */
#pragma once
#include <stdatomic.h>

#include "core/backend/backend.h"
#include "core/util/base.h"
#include "core/util/err.h"

struct model;
struct shared_weights;

struct engine_layer {
    struct weight *attn_norm;
    struct weight *qkv;             /* rows of q, then k, then v, with their biases */
    struct weight *q_norm, *k_norm; /* NULL where the model has none */
    struct weight *o;
    struct weight *ffn_norm;
    struct weight *gate_up;
    struct weight *down;
};

struct engine_weights {
    atomic_uint refs;
    const struct backend_ops *ops; /* frees what it made */
    struct weight *embed;
    struct weight *final_norm;
    struct weight *lm_head;      /* the same object as embed when tied */
    struct engine_layer *layers; /* [n_layers] */
    uint32_t n_layers;
    size_t n_bytes; /* memory of all weights */
};

/* progress (may be NULL) is called on this thread: with nothing done, then whenever a percent has
 * been added, and once with all done, last. False ends the load with EDRAINING. */
struct load_progress;
typedef bool engine_progress(void *ctx, const struct load_progress *p);

MUST_CHECK int engine_weights_new(struct backend *be, const struct model *m,
                                  engine_progress *progress, void *ctx, struct engine_weights **out,
                                  struct err *e);
struct engine_weights *engine_weights_ref(struct engine_weights *w);
void engine_weights_unref(struct engine_weights *w); /* NULL is fine */

/* One reference to the weights that s holds for backends of be's kind. The first caller loads
 * with its backend, the others wait, with progress calls that say that nothing has begun; when loading
 * failed, or its caller was disowned, one of those that wait, or else the next caller, tries again. s
 * serves one model and one kind of backend: another is EINVAL. ctx tells the callers apart. */
MUST_CHECK int shared_weights_get(struct shared_weights *s, struct backend *be,
                                  const struct model *m, engine_progress *progress, void *ctx,
                                  struct engine_weights **out, struct err *e);
/* The caller with this ctx is given up: if it is loading, another may begin anew. Its own load goes on,
 * for itself. */
void shared_weights_disown(struct shared_weights *s, const void *ctx);

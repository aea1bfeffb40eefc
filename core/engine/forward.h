/* forward.h - the layer loop of a decoder-only transformer, written once over the backend's
 * operations, with the activation buffers it needs.
 *
 *   x        [rows][H]           the residual stream
 *   normed   [rows][H]           input of the next product
 *   qkv      [rows][Q + 2 KV]    fused projections
 *   attn     [rows][Q]
 *   delta    [rows][H]           what the next rms_norm adds to x
 *   ffn      [rows][F]
 *   head_in  [max_out][H]        rows whose logits are wanted
 *   logits   [max_out][V]
 *
 * Thread  confined to the worker that owns the backend.
 * Memory  nothing is allocated after _new. The buffers live as long as the backend; a forward
 *         holds a reference to its weights.
 * Errors  of a step: those of the backend's operations; the worker is dead then. */
#pragma once
#include "core/backend/backend.h"
#include "core/backend/batch.h"
#include "core/util/base.h"
#include "core/util/err.h"

struct engine_weights;
struct forward;
struct model;

/* What the backend must know of the model's attention, for ops->reserve. */
void forward_attn_shape(const struct model *m, uint32_t max_context, struct attn_shape *out);

/* After ops->reserve with the same shape and limits. */
MUST_CHECK int forward_new(struct backend *be, const struct model *m, struct engine_weights *w,
                           const struct attn_shape *shape, const struct backend_limits *limits,
                           struct forward **out, struct err *e);
/* Waits for what was posted. NULL is fine. */
void forward_free(struct forward *f);

/* Computes the batch and waits for it; where forward_has_sampler(), a batch with out_rows is waited for
 * by forward_sample(), which must follow. A batch without out_rows only fills the KV cache. */
MUST_CHECK int forward_step(struct forward *f, const struct batch *b, struct err *e);
/* Logits of the last step, [V]; out_row < n_out. NULL for a backend that samples itself. */
const float *forward_logits(const struct forward *f, uint32_t out_row);

/* True when the backend samples by itself: then forward_sample() instead of forward_logits(). */
bool forward_has_sampler(const struct forward *f);
/* True when sequences need samplers: for the host's use, or to tell the device what to do. */
bool forward_needs_samplers(const struct forward *f);
/* Samples all rows of the last step on the device. Only if forward_has_sampler(). */
MUST_CHECK int forward_sample(struct forward *f, const struct sample_row *rows, uint32_t n,
                              uint32_t *out_ids, struct err *e);

/* True when a step need not be waited for before the next is enqueued: then forward_post() and
 * forward_collect() may stand in place of the two above, with up to STEPS_IN_FLIGHT steps between. */
bool forward_can_post(const struct forward *f);
/* Enqueues the batch, and the sampling of its n_out rows. rows (but for their lists), their logprobs and
 * out_ids stay where they are until the step is collected. */
MUST_CHECK int forward_post(struct forward *f, const struct batch *b, const struct sample_row *rows,
                            uint32_t *out_ids, struct err *e);
/* Waits for the oldest step that was posted, and fills its out_ids and logprobs. */
MUST_CHECK int forward_collect(struct forward *f, struct err *e);

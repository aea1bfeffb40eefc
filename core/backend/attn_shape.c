/* attn_shape.c - which shapes of attention the kernels of any device take. */
#include "core/backend/backend.h"

enum { HEAD_DIM_STEP = 16, MAX_HEADS = 4096, MAX_CONTEXT = 1 << 24 };

int attn_shape_check(const struct attn_shape *s, uint32_t max_head_dim, const char *device,
                     struct err *e)
{
    if (s->head_dim == 0 || s->head_dim % HEAD_DIM_STEP != 0 || s->head_dim > max_head_dim)
        return err_set(e, LLMD_EUNSUPPORTED, "head_dim %u: the %s takes multiples of %d up to %u",
                       s->head_dim, device, HEAD_DIM_STEP, max_head_dim);
    if (s->n_kv_heads == 0 || s->n_heads == 0 || s->n_heads % s->n_kv_heads != 0 ||
        s->n_heads > MAX_HEADS)
        return err_set(e, LLMD_EUNSUPPORTED, "%u heads over %u KV heads: must be a multiple",
                       s->n_heads, s->n_kv_heads);
    if (s->n_layers == 0 || s->max_context == 0 || s->max_context > MAX_CONTEXT)
        return err_set(e, LLMD_EUNSUPPORTED, "%u layers, context of %u tokens: not supported",
                       s->n_layers, s->max_context);
    return 0;
}

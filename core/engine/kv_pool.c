#include "core/engine/kv_pool.h"

#include <stdlib.h>

#include "core/util/err.h"

static void check_owner(const struct kv_pool *p)
{
    BUG_ON(!pthread_equal(p->owner, pthread_self()));
#ifdef LLMD_DEBUG
    kv_pool_audit(p);
#endif
}

/* Only the owner writes. */
static void show(struct kv_pool *p, uint32_t id, bool indexed)
{
    const uint32_t holders = p->ref[id] < KV_VIEW_HOLDERS ? p->ref[id] : KV_VIEW_HOLDERS;
    atomic_store_explicit(&p->view->blocks[id],
                          (uint8_t)(holders | (indexed ? KV_VIEW_INDEXED : 0)),
                          memory_order_relaxed);
}

/* The number of holders has changed. */
static void show_holders(struct kv_pool *p, uint32_t id)
{
    if (p->view)
        show(p, id,
             (atomic_load_explicit(&p->view->blocks[id], memory_order_relaxed) & KV_VIEW_INDEXED) !=
                 0);
}

void kv_pool_note_indexed(struct kv_pool *p, uint32_t id, bool indexed)
{
    if (p->view)
        show(p, id, indexed);
}

int kv_pool_init(struct kv_pool *p, uint32_t n_blocks)
{
    *p = (struct kv_pool){.n_blocks = n_blocks, .owner = pthread_self()};
    p->free_ids = calloc(n_blocks, sizeof(*p->free_ids));
    p->ref = calloc(n_blocks, sizeof(*p->ref));
    if (!p->free_ids || !p->ref) {
        kv_pool_fini(p);
        return -LLMD_ENOMEM;
    }
    for (uint32_t b = 0; b < n_blocks; b++)
        p->free_ids[p->n_free++] = n_blocks - 1 - b;
    return 0;
}

void kv_pool_fini(struct kv_pool *p)
{
    free(p->free_ids);
    free(p->ref);
    *p = (struct kv_pool){0};
}

int kv_pool_take(struct kv_pool *p, uint32_t n, uint32_t out_ids[])
{
    check_owner(p);
    if (n > p->n_free)
        return -LLMD_EFULL; /* expected under load: the caller decides */

    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = p->free_ids[--p->n_free];
        BUG_ON(p->ref[id] != 0); /* I1 */
        p->ref[id] = 1;
        show_holders(p, id);
        out_ids[i] = id;
    }
    return 0;
}

void kv_pool_ref(struct kv_pool *p, uint32_t id)
{
    check_owner(p);
    BUG_ON(id >= p->n_blocks || p->ref[id] == 0 || p->ref[id] == UINT32_MAX);
    p->ref[id]++;
    show_holders(p, id);
}

uint32_t kv_pool_unref(struct kv_pool *p, uint32_t id)
{
    check_owner(p);
    BUG_ON(id >= p->n_blocks || p->ref[id] == 0);
    uint32_t left = --p->ref[id];
    show_holders(p, id);
    if (left == 0)
        p->free_ids[p->n_free++] = id;
    return left;
}

void kv_pool_audit(const struct kv_pool *p)
{
    uint32_t n_used = 0;
    for (uint32_t b = 0; b < p->n_blocks; b++)
        n_used += p->ref[b] > 0;
    BUG_ON(p->n_free + n_used != p->n_blocks); /* I2 */
    for (uint32_t i = 0; i < p->n_free; i++)
        BUG_ON(p->ref[p->free_ids[i]] != 0); /* I1 */
}

#include "core/engine/kv_prefix.h"

#include <stdlib.h>
#include <string.h>

#include "core/util/err.h"

int kv_prefix_init(struct kv_prefix *p, struct kv_pool *pool, bool enabled)
{
    *p = (struct kv_prefix){
        .pool = pool, .lru_first = KV_NO_BLOCK, .lru_last = KV_NO_BLOCK, .hash = prefix_hash_block};
    if (!enabled)
        return 0;

    size_t n_buckets = 1;
    while (n_buckets < (size_t)pool->n_blocks * 2)
        n_buckets *= 2;
    p->entries = calloc(pool->n_blocks, sizeof(*p->entries));
    p->buckets = malloc(n_buckets * sizeof(*p->buckets));
    p->changes = calloc((size_t)pool->n_blocks * 2, sizeof(*p->changes));
    if (!p->entries || !p->buckets || !p->changes) {
        kv_prefix_fini(p);
        return -LLMD_ENOMEM;
    }
    p->bucket_mask = (uint32_t)(n_buckets - 1);
    for (size_t i = 0; i < n_buckets; i++)
        p->buckets[i] = KV_NO_BLOCK;
    return 0;
}

void kv_prefix_fini(struct kv_prefix *p)
{
    free(p->entries);
    free(p->buckets);
    free(p->changes);
    *p = (struct kv_prefix){0};
}

uint32_t kv_prefix_n_free(const struct kv_prefix *p)
{
    return p->pool->n_free + p->n_idle;
}

/* --- the LRU list of idle blocks --- */

static void lru_append(struct kv_prefix *p, uint32_t id)
{
    struct kv_entry *b = &p->entries[id];
    b->idle = true;
    b->lru_prev = p->lru_last;
    b->lru_next = KV_NO_BLOCK;
    if (p->lru_last != KV_NO_BLOCK)
        p->entries[p->lru_last].lru_next = id;
    else
        p->lru_first = id;
    p->lru_last = id;
    p->n_idle++;
}

static void lru_remove(struct kv_prefix *p, uint32_t id)
{
    struct kv_entry *b = &p->entries[id];
    b->idle = false;
    if (b->lru_prev != KV_NO_BLOCK)
        p->entries[b->lru_prev].lru_next = b->lru_next;
    else
        p->lru_first = b->lru_next;
    if (b->lru_next != KV_NO_BLOCK)
        p->entries[b->lru_next].lru_prev = b->lru_prev;
    else
        p->lru_last = b->lru_prev;
    p->n_idle--;
}

/* --- the index --- */

static struct prefix_hash hash_of(const struct kv_prefix *p, uint32_t parent, uint64_t salt,
                                  const uint32_t tokens[KV_BLOCK_TOKENS])
{
    _Static_assert((int)KV_BLOCK_TOKENS == (int)PREFIX_BLOCK_TOKENS, "blocks have one size");
    struct prefix_hash before = {0};
    if (parent != KV_NO_BLOCK) {
        BUG_ON(!p->entries[parent].indexed); /* I1 */
        before = p->entries[parent].hash;
    }
    return p->hash(before, salt, tokens);
}

static uint32_t *bucket_of(const struct kv_prefix *p, struct prefix_hash h)
{
    return &p->buckets[h.lo & p->bucket_mask];
}

static uint32_t find(const struct kv_prefix *p, struct prefix_hash h, uint32_t parent,
                     uint64_t salt, const uint32_t tokens[KV_BLOCK_TOKENS])
{
    uint32_t id = *bucket_of(p, h);
    for (; id != KV_NO_BLOCK; id = p->entries[id].chain) {
        const struct kv_entry *b = &p->entries[id];
        if (prefix_hash_equal(b->hash, h) && b->parent == parent && b->salt == salt &&
            memcmp(b->tokens, tokens, sizeof(b->tokens)) == 0)
            break;
    }
    return id;
}

static void note_change(struct kv_prefix *p, struct prefix_hash name, bool added)
{
    if (p->n_changes == p->pool->n_blocks * 2)
        p->changes_lost = true;
    else
        p->changes[p->n_changes++] = (struct prefix_change){.name = name, .added = added};
}

uint32_t kv_prefix_take_changes(struct kv_prefix *p, const struct prefix_change **out,
                                bool *out_anew)
{
    uint32_t n = p->n_changes;
    *out = p->changes;
    *out_anew = p->changes_lost;
    if (p->changes_lost) {
        n = 0;
        for (uint32_t id = 0; id < p->pool->n_blocks; id++)
            if (p->entries[id].indexed)
                p->changes[n++] =
                    (struct prefix_change){.name = p->entries[id].hash, .added = true};
    }
    p->n_changes = 0;
    p->changes_lost = false;
    return n;
}

/* Takes an idle block out of the index; its last reference goes, so it is free. */
static void evict(struct kv_prefix *p, uint32_t id)
{
    struct kv_entry *b = &p->entries[id];
    BUG_ON(!b->indexed || b->n_children > 0); /* I1 */
    uint32_t *link = bucket_of(p, b->hash);
    while (*link != id)
        link = &p->entries[*link].chain;
    *link = b->chain;

    lru_remove(p, id);
    if (b->parent != KV_NO_BLOCK)
        p->entries[b->parent].n_children--;
    b->indexed = false;
    kv_pool_note_indexed(p->pool, id, false);
    p->n_indexed--;
    note_change(p, b->hash, false);
    BUG_ON(kv_pool_unref(p->pool, id) != 0); /* I2 */
}

int kv_prefix_take(struct kv_prefix *p, uint32_t n, uint32_t out_ids[])
{
    if (n > kv_prefix_n_free(p))
        return -LLMD_EFULL;
    while (p->pool->n_free < n)
        evict(p, p->lru_first);
    return kv_pool_take(p->pool, n, out_ids);
}

void kv_prefix_release(struct kv_prefix *p, uint32_t id)
{
    uint32_t left = kv_pool_unref(p->pool, id);
    if (left == 1 && p->entries && p->entries[id].indexed)
        lru_append(p, id);
}

/* One more reference of an indexed block. */
static void hold(struct kv_prefix *p, uint32_t id)
{
    if (p->entries[id].idle)
        lru_remove(p, id);
    kv_pool_ref(p->pool, id);
}

uint32_t kv_prefix_adopt(struct kv_prefix *p, uint32_t parent, uint64_t salt,
                         const uint32_t tokens[KV_BLOCK_TOKENS])
{
    if (!p->entries)
        return KV_NO_BLOCK;
    uint32_t id = find(p, hash_of(p, parent, salt, tokens), parent, salt, tokens);
    if (id != KV_NO_BLOCK)
        hold(p, id);
    return id;
}

uint32_t kv_prefix_insert(struct kv_prefix *p, uint32_t parent, uint64_t salt,
                          const uint32_t tokens[KV_BLOCK_TOKENS], uint32_t id)
{
    if (!p->entries)
        return id;
    struct kv_entry *b = &p->entries[id];
    BUG_ON(b->indexed);
    struct prefix_hash h = hash_of(p, parent, salt, tokens);
    uint32_t twin = find(p, h, parent, salt, tokens);
    if (twin != KV_NO_BLOCK) {
        hold(p, twin);
        kv_prefix_release(p, id);
        return twin;
    }

    uint32_t *bucket = bucket_of(p, h);
    *b = (struct kv_entry){
        .hash = h, .salt = salt, .parent = parent, .chain = *bucket, .indexed = true};
    memcpy(b->tokens, tokens, sizeof(b->tokens));
    *bucket = id;
    if (parent != KV_NO_BLOCK)
        p->entries[parent].n_children++;
    p->n_indexed++;
    note_change(p, h, true);
    kv_pool_ref(p->pool, id); /* the index's own */
    kv_pool_note_indexed(p->pool, id, true);
    return id;
}

static void audit_view(const struct kv_pool *pool, uint32_t id, bool indexed)
{
    const uint32_t holders = pool->ref[id] < KV_VIEW_HOLDERS ? pool->ref[id] : KV_VIEW_HOLDERS;
    if (pool->view)
        BUG_ON(atomic_load(&pool->view->blocks[id]) != (holders | (indexed ? KV_VIEW_INDEXED : 0)));
}

void kv_prefix_audit(const struct kv_prefix *p)
{
    kv_pool_audit(p->pool);
    if (!p->entries)
        return;
    uint32_t n_indexed = 0, n_idle = 0, n_chained = 0, n_children = 0;
    for (uint32_t id = 0; id < p->pool->n_blocks; id++) {
        const struct kv_entry *b = &p->entries[id];
        BUG_ON(b->idle != (b->indexed && p->pool->ref[id] == 1)); /* I2 */
        audit_view(p->pool, id, b->indexed);
        if (!b->indexed)
            continue;
        n_indexed++;
        n_idle += b->idle;
        n_children += b->n_children;
        if (b->parent != KV_NO_BLOCK) {
            n_children--;
            BUG_ON(!p->entries[b->parent].indexed);          /* I1 */
            BUG_ON(p->pool->ref[b->parent] < 2 && !b->idle); /* I1: a holder holds both */
        }
        BUG_ON(find(p, b->hash, b->parent, b->salt, b->tokens) != id); /* I3 */
    }
    for (size_t i = 0; i <= p->bucket_mask; i++)
        for (uint32_t id = p->buckets[i]; id != KV_NO_BLOCK; id = p->entries[id].chain)
            n_chained++;
    uint32_t n_lru = 0;
    for (uint32_t id = p->lru_first; id != KV_NO_BLOCK; id = p->entries[id].lru_next)
        n_lru++;
    BUG_ON(n_indexed != p->n_indexed || n_chained != n_indexed || n_children != 0);
    BUG_ON(n_idle != p->n_idle || n_lru != n_idle);
}

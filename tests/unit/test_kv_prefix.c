/* The prefix index: each rule alone, then random sequences against a naive model that knows blocks
 * by their whole content, with the real hash and with one that collides all the time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/engine/kv_prefix.h"
#include "core/util/err.h"

struct cache {
    struct kv_pool pool;
    struct kv_prefix prefix;
};

static void cache_init(struct cache *c, uint32_t n_blocks, bool enabled)
{
    assert_int_equal(kv_pool_init(&c->pool, n_blocks), 0);
    c->pool.view = calloc(1, sizeof(*c->pool.view) + n_blocks); /* the audit compares it */
    assert_non_null(c->pool.view);
    c->pool.view->n_blocks = n_blocks;
    assert_int_equal(kv_prefix_init(&c->prefix, &c->pool, enabled), 0);
}

static void cache_fini(struct cache *c)
{
    kv_prefix_audit(&c->prefix);
    free(c->pool.view);
    kv_prefix_fini(&c->prefix);
    kv_pool_fini(&c->pool);
}

/* A block's worth of one symbol. */
static const uint32_t *block_of(uint32_t symbol)
{
    static uint32_t tokens[KV_BLOCK_TOKENS];
    for (uint32_t i = 0; i < KV_BLOCK_TOKENS; i++)
        tokens[i] = symbol;
    return tokens;
}

static uint32_t take_one(struct cache *c)
{
    uint32_t id;
    assert_int_equal(kv_prefix_take(&c->prefix, 1, &id), 0);
    return id;
}

static void test_a_hit_needs_tokens_parent_and_salt(void **state)
{
    (void)state;
    struct cache c;
    cache_init(&c, 4, true);
    uint32_t a = take_one(&c), b = take_one(&c);
    assert_int_equal(kv_prefix_insert(&c.prefix, KV_NO_BLOCK, 7, block_of(1), a), a);
    assert_int_equal(kv_prefix_insert(&c.prefix, a, 7, block_of(2), b), b);

    assert_int_equal(kv_prefix_adopt(&c.prefix, KV_NO_BLOCK, 8, block_of(1)), KV_NO_BLOCK);
    assert_int_equal(kv_prefix_adopt(&c.prefix, KV_NO_BLOCK, 7, block_of(2)), KV_NO_BLOCK);
    assert_int_equal(kv_prefix_adopt(&c.prefix, b, 7, block_of(2)), KV_NO_BLOCK);
    assert_int_equal(kv_prefix_adopt(&c.prefix, KV_NO_BLOCK, 7, block_of(1)), a);
    assert_int_equal(kv_prefix_adopt(&c.prefix, a, 7, block_of(2)), b);
    assert_int_equal(c.pool.ref[a], 3); /* two holders and the index */
    cache_fini(&c);
}

static void test_idle_blocks_are_free_and_revived(void **state)
{
    (void)state;
    struct cache c;
    uint32_t ids[2];
    cache_init(&c, 2, true);
    uint32_t a = take_one(&c);
    assert_int_equal(kv_prefix_insert(&c.prefix, KV_NO_BLOCK, 0, block_of(1), a), a);
    assert_int_equal(kv_prefix_n_free(&c.prefix), 1);
    kv_prefix_release(&c.prefix, a);
    assert_int_equal(kv_prefix_n_free(&c.prefix), 2);

    assert_int_equal(kv_prefix_adopt(&c.prefix, KV_NO_BLOCK, 0, block_of(1)), a);
    assert_int_equal(kv_prefix_take(&c.prefix, 2, ids), -LLMD_EFULL);
    kv_prefix_release(&c.prefix, a);
    assert_int_equal(kv_prefix_take(&c.prefix, 2, ids), 0); /* evicts it */
    assert_int_equal(kv_prefix_adopt(&c.prefix, KV_NO_BLOCK, 0, block_of(1)), KV_NO_BLOCK);
    cache_fini(&c);
}

static void test_eviction_goes_from_the_leaves_by_age(void **state)
{
    (void)state;
    struct cache c;
    cache_init(&c, 4, true);
    uint32_t root = take_one(&c), left = take_one(&c), right = take_one(&c);
    assert_int_equal(kv_prefix_insert(&c.prefix, KV_NO_BLOCK, 0, block_of(1), root), root);
    assert_int_equal(kv_prefix_insert(&c.prefix, root, 0, block_of(2), left), left);
    assert_int_equal(kv_prefix_insert(&c.prefix, root, 0, block_of(3), right), right);
    kv_prefix_release(&c.prefix, left);
    kv_prefix_release(&c.prefix, right);
    kv_prefix_release(&c.prefix, root);

    take_one(&c); /* the free one */
    assert_int_equal(take_one(&c), left);
    assert_int_equal(take_one(&c), right);
    assert_int_equal(take_one(&c), root);
    assert_int_equal(c.prefix.n_indexed, 0);
    cache_fini(&c);
}

static void test_the_same_content_is_kept_once(void **state)
{
    (void)state;
    struct cache c;
    cache_init(&c, 4, true);
    uint32_t a = take_one(&c), b = take_one(&c);
    assert_int_equal(kv_prefix_insert(&c.prefix, KV_NO_BLOCK, 0, block_of(1), a), a);
    assert_int_equal(kv_prefix_insert(&c.prefix, KV_NO_BLOCK, 0, block_of(1), b), a);
    assert_int_equal(c.pool.ref[b], 0);
    assert_int_equal(c.pool.ref[a], 3);
    kv_prefix_release(&c.prefix, a);
    kv_prefix_release(&c.prefix, a);
    assert_int_equal(kv_prefix_n_free(&c.prefix), 4);
    cache_fini(&c);
}

static void test_off_finds_and_keeps_nothing(void **state)
{
    (void)state;
    struct cache c;
    cache_init(&c, 2, false);
    uint32_t a = take_one(&c);
    assert_int_equal(kv_prefix_insert(&c.prefix, KV_NO_BLOCK, 0, block_of(1), a), a);
    assert_int_equal(kv_prefix_adopt(&c.prefix, KV_NO_BLOCK, 0, block_of(1)), KV_NO_BLOCK);
    kv_prefix_release(&c.prefix, a);
    assert_int_equal(c.pool.n_free, 2);
    cache_fini(&c);
}

/* --- the model --- */

enum {
    MODEL_BLOCKS = 24,
    MODEL_SEQS = 8,
    PATH_MAX_BLOCKS = 6,
    N_SYMBOLS = 3,
    N_SALTS = 2,
    MODEL_STEPS = 60000,
};

/* What a block means: the salt and every symbol from the start. */
struct path {
    uint32_t salt, n;
    uint32_t symbols[PATH_MAX_BLOCKS];
};

struct model_block {
    bool used;
    struct path path;
    uint32_t id;
    uint32_t n_holders;
    uint64_t idle_since; /* of a block without holders */
};

struct model_seq {
    bool live;
    struct path path; /* of all its blocks */
    uint32_t ids[PATH_MAX_BLOCKS];
    uint32_t n_ids;     /* blocks it holds */
    uint32_t n_indexed; /* of those, entered */
};

struct world {
    struct cache c;
    struct model_block blocks[MODEL_BLOCKS];
    struct model_seq seqs[MODEL_SEQS];
    uint64_t now;
    uint32_t seed;
    uint32_t n_hits, n_twins, n_evictions, n_full;
};

static uint32_t rnd(struct world *w, uint32_t n)
{
    w->seed = w->seed * 1664525u + 1013904223u;
    return (w->seed >> 8) % n;
}

static struct path prefix_of(const struct path *p, uint32_t n)
{
    struct path r = {.salt = p->salt, .n = n};
    memcpy(r.symbols, p->symbols, n * sizeof(r.symbols[0]));
    return r;
}

static struct model_block *model_find(struct world *w, const struct path *p)
{
    for (uint32_t i = 0; i < MODEL_BLOCKS; i++)
        if (w->blocks[i].used && memcmp(&w->blocks[i].path, p, sizeof(*p)) == 0)
            return &w->blocks[i];
    return NULL;
}

static struct model_block *model_oldest(struct world *w)
{
    struct model_block *oldest = NULL;
    for (uint32_t i = 0; i < MODEL_BLOCKS; i++) {
        struct model_block *b = &w->blocks[i];
        if (b->used && b->n_holders == 0 && (!oldest || b->idle_since < oldest->idle_since))
            oldest = b;
    }
    return oldest;
}

static uint32_t model_n_free(struct world *w, uint32_t *out_idle)
{
    uint32_t n = MODEL_BLOCKS;
    *out_idle = 0;
    for (uint32_t i = 0; i < MODEL_BLOCKS; i++) {
        n -= w->blocks[i].used && w->blocks[i].n_holders > 0;
        *out_idle += w->blocks[i].used && w->blocks[i].n_holders == 0;
    }
    for (uint32_t i = 0; i < MODEL_SEQS; i++)
        if (w->seqs[i].live)
            n -= w->seqs[i].n_ids - w->seqs[i].n_indexed;
    return n;
}

static uint32_t parent_of(const struct model_seq *s, uint32_t i)
{
    return i > 0 ? s->ids[i - 1] : KV_NO_BLOCK;
}

/* A new sequence adopts what is cached, exactly as far as the model says. */
static void seq_start(struct world *w, struct model_seq *s)
{
    *s = (struct model_seq){.live = true};
    s->path.salt = rnd(w, N_SALTS);
    s->path.n = 1 + rnd(w, PATH_MAX_BLOCKS);
    for (uint32_t i = 0; i < s->path.n; i++)
        s->path.symbols[i] = rnd(w, N_SYMBOLS);
    for (uint32_t i = 0; i < s->path.n; i++) {
        struct path p = prefix_of(&s->path, i + 1);
        struct model_block *b = model_find(w, &p);
        uint32_t id =
            kv_prefix_adopt(&w->c.prefix, parent_of(s, i), p.salt, block_of(p.symbols[i]));
        assert_int_equal(id, b ? b->id : KV_NO_BLOCK);
        if (!b)
            break;
        b->n_holders++;
        s->ids[i] = id;
        s->n_ids = s->n_indexed = i + 1;
        w->n_hits++;
    }
}

static void seq_take(struct world *w, struct model_seq *s)
{
    uint32_t want = 1 + rnd(w, s->path.n - s->n_ids), n_idle, ids[PATH_MAX_BLOCKS];
    uint32_t n_free = model_n_free(w, &n_idle);
    int rc = kv_prefix_take(&w->c.prefix, want, ids);
    assert_int_equal(rc, want <= n_free ? 0 : -LLMD_EFULL);
    if (rc != 0) {
        w->n_full++;
        return;
    }
    for (uint32_t free_ones = n_free - n_idle; free_ones < want; free_ones++) {
        struct model_block *b = model_oldest(w);
        b->used = false;
        w->n_evictions++;
    }
    for (uint32_t i = 0; i < want; i++) {
        for (uint32_t k = 0; k < MODEL_BLOCKS; k++) /* nobody's block but a forgotten one's */
            assert_false(w->blocks[k].used && w->blocks[k].id == ids[i]);
        s->ids[s->n_ids++] = ids[i];
    }
}

static void seq_insert(struct world *w, struct model_seq *s)
{
    uint32_t i = s->n_indexed;
    struct path p = prefix_of(&s->path, i + 1);
    struct model_block *b = model_find(w, &p);
    uint32_t id =
        kv_prefix_insert(&w->c.prefix, parent_of(s, i), p.salt, block_of(p.symbols[i]), s->ids[i]);
    assert_int_equal(id, b ? b->id : s->ids[i]);
    if (b) {
        w->n_twins++;
    } else {
        for (b = w->blocks; b->used; b++)
            ;
        *b = (struct model_block){.used = true, .path = p, .id = id};
    }
    b->n_holders++;
    s->ids[i] = id;
    s->n_indexed++;
}

static void seq_end(struct world *w, struct model_seq *s)
{
    while (s->n_ids > 0) {
        uint32_t i = --s->n_ids;
        kv_prefix_release(&w->c.prefix, s->ids[i]);
        if (i >= s->n_indexed)
            continue;
        struct path p = prefix_of(&s->path, i + 1);
        struct model_block *b = model_find(w, &p);
        if (--b->n_holders == 0)
            b->idle_since = ++w->now;
    }
    s->live = false;
}

/* What somebody knows who is told of all changes. */
struct mirror {
    struct prefix_hash names[MODEL_BLOCKS];
    uint32_t n, n_anew;
};

static uint32_t mirror_find(const struct mirror *m, struct prefix_hash name)
{
    uint32_t i = 0;
    while (i < m->n && !prefix_hash_equal(m->names[i], name))
        i++;
    return i;
}

static void mirror_follow(struct mirror *m, struct kv_prefix *p)
{
    const struct prefix_change *changes;
    bool anew;
    uint32_t n = kv_prefix_take_changes(p, &changes, &anew);
    if (anew) {
        m->n = 0;
        m->n_anew++;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = mirror_find(m, changes[i].name);
        if (!changes[i].added) {
            assert_true(at < m->n);
            m->names[at] = m->names[--m->n];
        } else {
            assert_true(m->n < MODEL_BLOCKS);
            m->names[m->n++] = changes[i].name;
        }
    }
    assert_int_equal(m->n, p->n_indexed);
    for (uint32_t id = 0; id < p->pool->n_blocks; id++)
        if (p->entries[id].indexed)
            assert_true(mirror_find(m, p->entries[id].hash) < m->n);
}

static void run_model(uint32_t seed, kv_hash_fn *hash)
{
    static struct world w;
    struct mirror mirror = {.n = 0};
    memset(&w, 0, sizeof(w));
    w.seed = seed;
    cache_init(&w.c, MODEL_BLOCKS, true);
    if (hash)
        w.c.prefix.hash = hash;
    for (uint32_t step = 0; step < MODEL_STEPS; step++) {
        struct model_seq *s = &w.seqs[rnd(&w, MODEL_SEQS)];
        uint32_t what = rnd(&w, 8);
        if (!s->live)
            seq_start(&w, s);
        else if (what == 0)
            seq_end(&w, s);
        else if (s->n_indexed < s->n_ids && what < 5)
            seq_insert(&w, s);
        else if (s->n_ids < s->path.n)
            seq_take(&w, s);
        uint32_t n_idle;
        assert_int_equal(kv_prefix_n_free(&w.c.prefix), model_n_free(&w, &n_idle));
        assert_int_equal(w.c.prefix.n_idle, n_idle);
        if (step % 16 == 0)
            kv_prefix_audit(&w.c.prefix);
        if (step % 1024 > 512 ? step % 8 == 0 : step % 512 == 0)
            mirror_follow(&mirror, &w.c.prefix);
    }
    assert_true(mirror.n_anew > 10); /* too many changes for the list */
    assert_true(w.n_hits > 1000 && w.n_twins > 100 && w.n_evictions > 1000 && w.n_full > 100);
    for (uint32_t i = 0; i < MODEL_SEQS; i++)
        if (w.seqs[i].live)
            seq_end(&w, &w.seqs[i]);
    assert_int_equal(kv_prefix_n_free(&w.c.prefix), MODEL_BLOCKS);
    cache_fini(&w.c);
}

static struct prefix_hash weak_hash(struct prefix_hash parent, uint64_t salt,
                                    const uint32_t tokens[KV_BLOCK_TOKENS])
{
    (void)parent;
    (void)salt;
    return (struct prefix_hash){.lo = tokens[KV_BLOCK_TOKENS - 1] & 1u};
}

static struct prefix_hash constant_hash(struct prefix_hash parent, uint64_t salt,
                                        const uint32_t tokens[KV_BLOCK_TOKENS])
{
    (void)parent;
    (void)salt;
    (void)tokens;
    return (struct prefix_hash){0};
}

static void test_random_against_model(void **state)
{
    (void)state;
    run_model(1, NULL);
    run_model(2, NULL);
}

static void test_collisions_do_no_harm(void **state)
{
    (void)state;
    run_model(3, weak_hash);
    run_model(4, constant_hash);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_hit_needs_tokens_parent_and_salt),
        cmocka_unit_test(test_idle_blocks_are_free_and_revived),
        cmocka_unit_test(test_eviction_goes_from_the_leaves_by_age),
        cmocka_unit_test(test_the_same_content_is_kept_once),
        cmocka_unit_test(test_off_finds_and_keeps_nothing),
        cmocka_unit_test(test_random_against_model),
        cmocka_unit_test(test_collisions_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

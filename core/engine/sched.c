#include "core/engine/sched.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/engine/sched_int.h"

int sched_init(struct sched *s, const struct sched_opts *o)
{
    *s = (struct sched){.opts = *o};
    BUG_ON(o->max_num_seqs == 0 || o->max_num_batched_tokens < o->max_num_seqs);
    s->running = calloc(o->max_num_seqs, sizeof(struct seq *));
    s->prefills = calloc(o->max_num_seqs, sizeof(struct seq *));
    int rc = 0;
    for (uint32_t i = 0; i < STEPS_IN_FLIGHT; i++) {
        s->plans[i].entries = calloc(o->max_num_seqs, sizeof(struct plan_entry));
        rc = s->plans[i].entries ? rc : -LLMD_ENOMEM;
    }
    size_t n_twins = 1;
    while (n_twins < (size_t)o->max_num_seqs * 2)
        n_twins *= 2;
    s->twin_mask = (uint32_t)(n_twins - 1);
    s->twins = calloc(n_twins, sizeof(struct seq *));
    if (!s->twins || !s->running || !s->prefills)
        rc = -LLMD_ENOMEM;
    if (!rc)
        rc = seq_queue_init(&s->queue, o->max_groups);
    if (!rc)
        rc = kv_pool_init(&s->pool, o->n_kv_blocks);
    if (!rc)
        rc = kv_prefix_init(&s->prefix, &s->pool, o->enable_prefix_caching);
    if (rc)
        sched_fini(s);
    return rc;
}

void sched_fini(struct sched *s)
{
    BUG_ON(s->groups);
    kv_prefix_fini(&s->prefix);
    kv_pool_fini(&s->pool);
    seq_queue_fini(&s->queue);
    for (uint32_t i = 0; i < STEPS_IN_FLIGHT; i++)
        free(s->plans[i].entries);
    free(s->twins);
    free(s->prefills);
    free(s->running);
    *s = (struct sched){0};
}

/* --- waiting --- */

static void waiting_push(struct sched *s, struct seq *q)
{
    struct seq_group *g = q->group;
    q->next_waiting = NULL;
    if (g->last_waiting)
        g->last_waiting->next_waiting = q;
    else
        g->first_waiting = q;
    g->last_waiting = q;
    q->n_counted = seq_n_todo(q);
    s->n_waiting_tokens += q->n_counted;
    if (!g->queued) {
        g->queued = true;
        seq_queue_add(&s->queue, g);
    }
}

struct seq *sched_peek_waiting(const struct sched *s)
{
    struct seq_group *g = seq_queue_first(&s->queue);
    return g ? g->first_waiting : NULL;
}

static void group_unqueue(struct sched *s, struct seq_group *g)
{
    if (!g->queued)
        return;
    g->queued = false;
    seq_queue_remove(&s->queue, g);
}

static void waiting_pop(struct sched *s, struct seq *q)
{
    struct seq_group *g = q->group;
    BUG_ON(g->first_waiting != q);
    g->first_waiting = q->next_waiting;
    s->n_waiting_tokens -= q->n_counted;
    if (!g->first_waiting) {
        g->last_waiting = NULL;
        group_unqueue(s, g);
    }
}

/* --- parked: not running, but holding blocks --- */

static void park(struct sched *s, struct seq *q)
{
    if (q->n_blocks == 0)
        return;
    q->parked = true;
    q->parked_prev = NULL;
    q->parked_next = s->parked;
    if (s->parked)
        s->parked->parked_prev = q;
    s->parked = q;
}

static void unpark(struct sched *s, struct seq *q)
{
    if (!q->parked)
        return;
    q->parked = false;
    if (q->parked_prev)
        q->parked_prev->parked_next = q->parked_next;
    else
        s->parked = q->parked_next;
    if (q->parked_next)
        q->parked_next->parked_prev = q->parked_prev;
}

/* --- running --- */

/* Position in running where q is or belongs. */
static uint32_t running_index(const struct sched *s, const struct seq *q)
{
    uint32_t lo = 0, hi = s->n_running;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (seq_before(s->running[mid], q))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

void sched_start(struct sched *s, struct seq *q)
{
    BUG_ON(s->n_running == s->opts.max_num_seqs);
    waiting_pop(s, q);
    unpark(s, q);
    s->n_waiting--;
    q->state = seq_n_todo(q) == 1 && seq_n_generated(q) > 0 ? SEQ_DECODE : SEQ_PREFILL;
    uint32_t at = running_index(s, q);
    memmove(s->running + at + 1, s->running + at, (s->n_running - at) * sizeof(struct seq *));
    s->running[at] = q;
    s->n_running++;
}

void sched_sweep(struct sched *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_running; i++)
        if (seq_is_running(s->running[i]))
            s->running[n++] = s->running[i];
    s->n_running = n;
}

void sched_pause(struct sched *s, struct seq *q)
{
    BUG_ON(!seq_is_running(q));
    q->state = SEQ_PAUSED;
    q->was_paused = true;
    s->n_paused++;
    park(s, q);
}

void sched_resume(struct sched *s, struct seq_group *g)
{
    for (uint32_t i = 0; i < g->n_seqs && s->n_paused > 0; i++) {
        struct seq *q = &g->seqs[i];
        if (q->state != SEQ_PAUSED)
            continue;
        q->state = SEQ_WAITING;
        s->n_paused--;
        s->n_waiting++;
        waiting_push(s, q);
    }
}

/* --- blocks --- */

void sched_release_blocks(struct sched *s, struct seq *q)
{
    while (q->n_blocks > 0) /* from the last to the first: kv_prefix I1 */
        kv_prefix_release(&s->prefix, q->blocks[--q->n_blocks]);
    q->n_indexed = 0;
    q->n_computed = 0;
}

void sched_preempt(struct sched *s, struct seq *q)
{
    BUG_ON(q->n_planned > 0 || q->ahead);
    struct request *r = q->group->req;
    lock_take(&r->stream.mu);
    r->trace.n_preemptions++;
    lock_drop(&r->stream.mu);
    s->counts.n_preemptions++;
    bool running = seq_is_running(q);
    s->preempted |= running;
    q->preempted = q->was_preempted = true;
    if (q->state == SEQ_WAITING) { /* what it had is to be computed anew */
        s->n_waiting_tokens += q->n_computed;
        q->n_counted += q->n_computed;
    }
    unpark(s, q);
    sched_release_blocks(s, q);
    if (running) {
        q->state = SEQ_WAITING;
        s->n_waiting++;
        waiting_push(s, q);
    }
}

static uint32_t parent_of(const struct seq *q, uint32_t block)
{
    return block > 0 ? q->blocks[block - 1] : KV_NO_BLOCK;
}

uint32_t sched_adopt(struct sched *s, struct seq *q)
{
    /* What is to be scored is computed here. */
    uint32_t n_useful = (uint32_t)u64_min(q->n_known - 1, seq_first_score_row(q));
    uint32_t limit = n_useful / KV_BLOCK_TOKENS, n_before = q->n_indexed;
    uint32_t tokens[KV_BLOCK_TOKENS];
    if (q->n_blocks != q->n_indexed)
        return 0; /* in the middle of a block */
    while (q->n_blocks < limit) {
        uint32_t i = q->n_blocks;
        seq_copy_tokens(q, i * KV_BLOCK_TOKENS, KV_BLOCK_TOKENS, tokens);
        uint32_t id =
            kv_prefix_adopt(&s->prefix, parent_of(q, i), q->group->req->cache_salt, tokens);
        if (id == KV_NO_BLOCK)
            break;
        q->blocks[q->n_blocks++] = id;
    }
    q->n_indexed = q->n_blocks;
    if (q->n_indexed > n_before)
        q->n_computed = q->n_indexed * KV_BLOCK_TOKENS;
    return (q->n_indexed - n_before) * KV_BLOCK_TOKENS;
}

void sched_count_adopted(struct sched *s, struct seq *q, uint32_t n_tokens)
{
    if (q->preempted)
        return; /* its own blocks again */
    q->n_adopted += n_tokens;
    s->counts.prefix_hits += n_tokens;
}

static bool same_next_block(const struct seq *a, const struct seq *b, const uint32_t *b_tokens)
{
    uint32_t tokens[KV_BLOCK_TOKENS];
    if (a->n_blocks != b->n_blocks || parent_of(a, a->n_blocks) != parent_of(b, b->n_blocks) ||
        a->group->req->cache_salt != b->group->req->cache_salt)
        return false;
    seq_copy_tokens(a, a->n_computed, KV_BLOCK_TOKENS, tokens);
    return memcmp(tokens, b_tokens, sizeof(tokens)) == 0;
}

struct seq **sched_twin_slot(const struct sched *s, const struct seq *q)
{
    uint32_t tokens[KV_BLOCK_TOKENS];
    seq_copy_tokens(q, q->n_computed, KV_BLOCK_TOKENS, tokens);
    uint64_t seed = q->group->req->cache_salt ^ parent_of(q, q->n_blocks);
    uint32_t h = (uint32_t)XXH3_64bits_withSeed(tokens, sizeof(tokens), seed) & s->twin_mask;
    while (s->twins[h] && !same_next_block(s->twins[h], q, tokens))
        h = (h + 1) & s->twin_mask;
    return &s->twins[h];
}

/* Tells the prefix cache of the blocks that are full now. */
static void index_blocks(struct sched *s, struct seq *q)
{
    uint32_t tokens[KV_BLOCK_TOKENS];
    for (; q->n_indexed < q->n_computed / KV_BLOCK_TOKENS; q->n_indexed++) {
        uint32_t i = q->n_indexed;
        seq_copy_tokens(q, i * KV_BLOCK_TOKENS, KV_BLOCK_TOKENS, tokens);
        q->blocks[i] = kv_prefix_insert(&s->prefix, parent_of(q, i), q->group->req->cache_salt,
                                        tokens, q->blocks[i]);
    }
}

/* --- plans --- */

struct plan *sched_new_plan(struct sched *s)
{
    struct plan *p = &s->plans[(s->first_plan + s->n_plans) % STEPS_IN_FLIGHT];
    *p = (struct plan){.entries = p->entries, .follows = s->n_plans > 0};
    s->plan = p;
    return p;
}

/* --- groups --- */

/* The leader has computed the prompt: the others can start behind it. */
static void release_siblings(struct sched *s, struct seq_group *g)
{
    g->prompt_ready = true;
    for (uint32_t i = 0; i < g->n_seqs; i++)
        if (&g->seqs[i] != g->leader && g->seqs[i].state != SEQ_DONE)
            waiting_push(s, &g->seqs[i]);
}

void sched_add(struct sched *s, struct seq_group *g)
{
    BUG_ON(s->n_groups == s->opts.max_groups);
    g->prev = NULL;
    g->next = s->groups;
    if (s->groups)
        s->groups->prev = g;
    s->groups = g;
    s->n_groups++;
    s->n_waiting += g->n_live;
    g->n_scored = stream_n_scored(g->req);
    waiting_push(s, g->leader);
    if (!s->opts.enable_prefix_caching && seq_first_score_row(g->leader) == UINT32_MAX)
        release_siblings(s, g);
}

void sched_end_seq(struct sched *s, struct seq *q)
{
    if (q->state == SEQ_DONE)
        return;
    s->n_waiting -= q->state == SEQ_WAITING;
    s->n_paused -= q->state == SEQ_PAUSED;
    unpark(s, q);
    q->state = SEQ_DONE;
    if (q->ahead) {
        q->ahead->seq = NULL;
        q->ahead = NULL;
        sched_return_room(q->group);
    }
    if (s->no_fit == q)
        s->no_fit = NULL;
    sched_release_blocks(s, q);
    q->group->n_live--;
}

void sched_remove(struct sched *s, struct seq_group *g)
{
    for (struct seq *q = g->first_waiting; q; q = q->next_waiting)
        s->n_waiting_tokens -= q->n_counted;
    g->first_waiting = g->last_waiting = NULL;
    group_unqueue(s, g);
    for (uint32_t i = 0; i < g->n_seqs; i++)
        sched_end_seq(s, &g->seqs[i]);
    if (g->prev)
        g->prev->next = g->next;
    else
        s->groups = g->next;
    if (g->next)
        g->next->prev = g->prev;
    s->n_groups--;
}

void sched_commit(struct sched *s)
{
    const struct plan *plan = &s->plans[s->first_plan];
    BUG_ON(s->n_plans == 0);
    s->first_plan = (s->first_plan + 1) % STEPS_IN_FLIGHT;
    s->n_plans--;
    for (uint32_t i = 0; i < plan->n; i++) {
        const struct plan_entry *p = &plan->entries[i];
        struct seq *q = p->seq;
        if (!q)
            continue;
        if (q->ahead == p)
            q->ahead = NULL;
        q->n_computed += p->n_rows;
        q->n_planned = 0;
        index_blocks(s, q);
        if (p->wants_token) {
            q->state = SEQ_DECODE;
            q->group->n_reserved--;
        }
        if (!q->group->prompt_ready && q->n_computed >= q->group->n_prompt)
            release_siblings(s, q->group);
    }
}

uint64_t sched_prefill_tokens(const struct sched *s)
{
    uint64_t n = s->n_waiting_tokens;
    for (uint32_t i = 0; i < s->n_running; i++)
        if (s->running[i]->state == SEQ_PREFILL)
            n += seq_n_todo(s->running[i]);
    return n;
}

/* Tokens that a choice which has not begun will find in the prefix cache, because the first choice
 * computes them. */
static uint32_t n_found(const struct sched *s, const struct seq *q)
{
    if (!s->opts.enable_prefix_caching || q == q->group->leader || q->n_blocks > 0 || q->preempted)
        return 0;
    return (q->group->n_prompt - 1) / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS;
}

void sched_load(const struct sched *s, struct sched_load *out)
{
    *out = (struct sched_load){.n_seqs = 0};
    for (const struct seq_group *g = s->groups; g; g = g->next)
        for (uint32_t i = 0; i < g->n_seqs && g->started; i++) {
            const struct seq *q = &g->seqs[i];
            const uint32_t found = n_found(s, q);
            const uint32_t n_blocks = blocks_for(q->n_known) - found / KV_BLOCK_TOKENS;
            if (q->state == SEQ_PAUSED)
                out->n_idle_blocks += q->n_blocks;
            if (q->state == SEQ_DONE || q->state == SEQ_PAUSED)
                continue;
            out->n_seqs++;
            out->n_owed_blocks += n_blocks > q->n_blocks ? n_blocks - q->n_blocks : 0;
            if (q->state == SEQ_DECODE) {
                out->n_owed_blocks++;
                continue;
            }
            out->n_prefilling++;
            out->n_owed_tokens += seq_n_todo(q) - found;
        }
}

/* --- audit --- */

struct audit {
    uint32_t *refs; /* [n_blocks] tables that name the block */
    uint32_t n_waiting, n_paused;
    uint64_t n_waiting_tokens;
};

static void audit_group(const struct seq_group *g, struct audit *a)
{
    uint32_t n_live = 0, n_ahead = 0;
    BUG_ON(g->queued != (g->first_waiting != NULL));
    for (const struct seq *q = g->first_waiting; q; q = q->next_waiting) {
        BUG_ON(q->state != SEQ_WAITING || q->n_counted != seq_n_todo(q));
        a->n_waiting_tokens += q->n_counted;
    }
    for (uint32_t i = 0; i < g->n_seqs; i++) {
        const struct seq *q = &g->seqs[i];
        n_live += q->state != SEQ_DONE;
        n_ahead += q->ahead != NULL;
        BUG_ON(q->ahead && (q->state != SEQ_DECODE || q->ahead->seq != q)); /* I4 */
        a->n_waiting += q->state == SEQ_WAITING;
        a->n_paused += q->state == SEQ_PAUSED;
        BUG_ON(q->state != SEQ_DONE && q->n_computed >= q->n_known);
        BUG_ON(q->n_computed > q->n_blocks * KV_BLOCK_TOKENS);
        BUG_ON(q->n_indexed != q->n_computed / KV_BLOCK_TOKENS);
        BUG_ON(q->n_blocks > 0 && !seq_is_running(q) && !q->parked); /* I2 */
        for (uint32_t b = 0; b < q->n_blocks; b++)
            a->refs[q->blocks[b]]++;
    }
    BUG_ON(n_live != g->n_live || n_ahead != g->n_reserved);
}

void sched_audit(const struct sched *s)
{
    BUG_ON(s->n_plans > 1 || (s->n_plans == 1 && !s->plan->follows)); /* I4 */
    struct audit a = {.refs = calloc(s->pool.n_blocks, sizeof(*a.refs))};
    uint32_t n_groups = 0;
    BUG_ON(!a.refs);
    kv_prefix_audit(&s->prefix);
    for (const struct seq_group *g = s->groups; g; g = g->next, n_groups++)
        audit_group(g, &a);
    BUG_ON(n_groups != s->n_groups || a.n_waiting != s->n_waiting || a.n_paused != s->n_paused);
    BUG_ON(a.n_waiting_tokens != s->n_waiting_tokens);
    for (uint32_t i = 0; i < s->n_running; i++) {
        BUG_ON(!seq_is_running(s->running[i]));
        BUG_ON(i > 0 && !seq_before(s->running[i - 1], s->running[i])); /* I1 */
    }
    for (uint32_t b = 0; b < s->pool.n_blocks; b++) {
        bool indexed = s->prefix.entries && s->prefix.entries[b].indexed;
        BUG_ON(s->pool.ref[b] != a.refs[b] + indexed); /* no block leaks */
    }
    free(a.refs);
}

/* sched_plan.c - one step: who computes how many rows. The policy stands in sched.h. */
#include <string.h>

#include "core/engine/sched_int.h"

static void plan_add(struct sched *s, struct seq *q, uint32_t n_rows, bool wants_token)
{
    struct plan *p = s->plan;
    const uint32_t first = seq_first_score_row(q), end = q->n_computed + n_rows - wants_token;
    const uint32_t n_scores = end > first ? end - (uint32_t)u64_max(first, q->n_computed) : 0;
    p->entries[p->n++] = (struct plan_entry){
        .seq = q, .n_rows = n_rows, .n_scores = n_scores, .wants_token = wants_token};
    p->n_rows += n_rows;
    p->n_out += n_scores + wants_token;
    p->n_tokens += wants_token;
    q->n_planned = n_rows;
}

/* --- blocks --- */

/* The last in order of those that hold blocks without running, q excepted. */
static struct seq *parked_victim(const struct sched *s, const struct seq *q)
{
    struct seq *last = NULL;
    for (struct seq *v = s->parked; v; v = v->parked_next)
        if (v != q && (!last || seq_before(last, v)))
            last = v;
    return last;
}

/* Who must give its blocks to q: nobody before q, nobody who is planned. */
static struct seq *victim(const struct sched *s, const struct seq *q)
{
    struct seq *v = parked_victim(s, q);
    if (v)
        return v;
    for (uint32_t i = s->n_running; i > 0; i--) {
        v = s->running[i - 1];
        if (v == q || seq_before(v, q))
            return NULL;
        if (seq_is_running(v) && v->n_planned == 0)
            return v;
    }
    return NULL;
}

static bool secure_blocks(struct sched *s, const struct seq *q, uint32_t n)
{
    while (n > kv_prefix_n_free(&s->prefix)) {
        struct seq *v = victim(s, q);
        if (!v)
            return false;
        sched_preempt(s, v);
    }
    return true;
}

/* --- 1. decodes --- */

static void plan_decode(struct sched *s, struct seq *q)
{
    if (!sched_reserve_room(q->group)) {
        sched_pause(s, q);
        return;
    }
    uint32_t n = sched_missing_blocks(q, q->n_computed + 1);
    if (!secure_blocks(s, q, n)) {
        sched_return_room(q->group);
        sched_preempt(s, q); /* it is the last itself */
        return;
    }
    sched_take_blocks(s, q, n);
    plan_add(s, q, 1, true);
}

static void plan_decodes(struct sched *s)
{
    for (uint32_t i = 0; i < s->n_running; i++)
        if (s->running[i]->state == SEQ_DECODE)
            plan_decode(s, s->running[i]);
}

/* --- 2. admission --- */

/* Blocks that the running prefills will still ask for. */
static uint64_t promised_blocks(const struct sched *s)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < s->n_running; i++)
        if (s->running[i]->state == SEQ_PREFILL)
            n += sched_missing_blocks(s->running[i], s->running[i]->n_known);
    return n;
}

/* Whether the pool can hold all that q must compute beside the others. What does not run makes
 * room for it. When nothing runs, q fits: seq_group_new saw to that. */
static bool fits(struct sched *s, const struct seq *q, uint64_t promised)
{
    uint64_t need = sched_missing_blocks(q, q->n_known) + promised + s->n_running;
    while (need > kv_prefix_n_free(&s->prefix)) {
        struct seq *v = parked_victim(s, q);
        if (!v)
            return s->n_running == 0;
        sched_preempt(s, v);
    }
    return true;
}

static void admit(struct sched *s)
{
    uint64_t promised = promised_blocks(s);
    while (!s->preempted && s->n_running < s->opts.max_num_seqs) {
        struct seq *q = sched_peek_waiting(s);
        if (!q)
            return;
        bool fresh = q->n_blocks == 0;
        uint32_t n_adopted = fresh ? sched_adopt(s, q) : 0;
        if (!fits(s, q, promised)) {
            if (fresh)
                sched_release_blocks(s, q);
            s->no_fit = q;
            s->no_fit_free = kv_prefix_n_free(&s->prefix);
            return;
        }
        if (fresh && !q->preempted && seq_n_generated(q) == 0)
            s->counts.prefix_queries += q->group->n_prompt;
        sched_count_adopted(s, q, n_adopted);
        promised += sched_missing_blocks(q, q->n_known);
        sched_start(s, q);
        if (q->state == SEQ_DECODE) /* it had paused */
            plan_decode(s, q);
    }
}

/* --- 3. prefills --- */

/* Shorter rest first, within a priority. */
static bool shorter(const struct seq *a, const struct seq *b)
{
    if (a->group->req->priority != b->group->req->priority)
        return a->group->req->priority < b->group->req->priority;
    if (seq_n_todo(a) != seq_n_todo(b))
        return seq_n_todo(a) < seq_n_todo(b);
    return seq_before(a, b);
}

/* Of prefills that would compute the same block next, one does; the others find it in the prefix
 * cache at the next step. It is the first in order, which surely moves, or else the shortest. */
static void mark_twins(struct sched *s)
{
    const struct seq *first = NULL;
    bool caching = s->opts.enable_prefix_caching;
    if (caching)
        memset(s->twins, 0, (s->twin_mask + 1) * sizeof(struct seq *));
    for (uint32_t i = 0; i < s->n_running; i++) {
        struct seq *q = s->running[i];
        if (q->state != SEQ_PREFILL)
            continue;
        q->behind_twin = false;
        if (!first)
            first = q;
        sched_count_adopted(s, q, sched_adopt(s, q)); /* somebody may have computed it meanwhile */
        if (!caching || seq_first_score_row(q) != UINT32_MAX ||
            q->n_computed % KV_BLOCK_TOKENS != 0 || seq_n_todo(q) < KV_BLOCK_TOKENS)
            continue;
        struct seq **slot = sched_twin_slot(s, q);
        if (*slot == NULL)
            *slot = q;
        else if (seq_n_todo(q) == KV_BLOCK_TOKENS)
            continue; /* its last block is never taken over */
        else if (*slot == first || !shorter(q, *slot))
            q->behind_twin = true;
        else {
            (*slot)->behind_twin = seq_n_todo(*slot) > KV_BLOCK_TOKENS;
            *slot = q;
        }
    }
}

/* Rows that q can compute when the logits of those that score fit beside one row of each other
 * sequence that runs (I3). */
static uint64_t rows_beside_others(const struct sched *s, const struct seq *q)
{
    const struct plan *p = s->plan;
    const uint32_t first = seq_first_score_row(q);
    if (first == UINT32_MAX)
        return UINT64_MAX;
    uint32_t taken = p->n_out + (s->n_running - p->n) - 1; /* q is one of those not planned */
    uint32_t n_before = first > q->n_computed ? first - q->n_computed : 0;
    return (uint64_t)n_before + (s->opts.max_num_seqs - taken);
}

/* Plans a chunk of at most max_rows rows; returns its size. */
static uint32_t plan_chunk(struct sched *s, struct seq *q, uint32_t max_rows, bool may_preempt)
{
    uint32_t todo = seq_n_todo(q);
    uint32_t n_rows = (uint32_t)u64_min(max_rows, todo);
    if (may_preempt)
        (void)secure_blocks(s, q, sched_missing_blocks(q, q->n_computed + 1));
    uint64_t holds =
        ((uint64_t)q->n_blocks + kv_prefix_n_free(&s->prefix)) * KV_BLOCK_TOKENS - q->n_computed;
    n_rows = (uint32_t)u64_min(u64_min(n_rows, holds), rows_beside_others(s, q));
    if (n_rows == 0)
        return 0;
    bool wants_token = n_rows == todo;
    if (wants_token && !sched_reserve_room(q->group)) {
        sched_pause(s, q);
        return 0;
    }
    sched_take_blocks(s, q, sched_missing_blocks(q, q->n_computed + n_rows));
    plan_add(s, q, n_rows, wants_token);
    return n_rows;
}

/* Restores the heap (the shortest on top) below position i. */
static void sift_down(struct seq **heap, uint32_t n, uint32_t i)
{
    for (uint32_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && shorter(heap[child + 1], heap[child]))
            child++;
        if (!shorter(heap[child], heap[i]))
            return;
        struct seq *t = heap[i];
        heap[i] = heap[child];
        heap[child] = t;
    }
}

static void plan_shortest(struct sched *s, struct seq **heap, uint32_t n, uint32_t n_rows)
{
    for (uint32_t i = n / 2; i > 0; i--)
        sift_down(heap, n, i - 1);
    while (n > 0 && n_rows > 0) {
        struct seq *q = heap[0];
        heap[0] = heap[--n];
        sift_down(heap, n, 0);
        n_rows -= plan_chunk(s, q, n_rows, false);
    }
}

static void plan_prefills(struct sched *s)
{
    uint32_t n = 0, left = s->opts.max_num_batched_tokens - s->plan->n_rows;
    uint64_t others = 0; /* rows that could be computed beside the first */
    mark_twins(s);
    for (uint32_t i = 0; i < s->n_running; i++) {
        struct seq *q = s->running[i];
        if (q->state != SEQ_PREFILL || q->behind_twin)
            continue;
        s->prefills[n++] = q;
        if (n > 1)
            others += seq_n_todo(q);
    }
    uint32_t n_first = 0, i = 0;
    for (; i < n && n_first == 0; i++) { /* the first that can go on */
        uint32_t half = left - left / 2;
        uint32_t share = (uint32_t)u64_max(half, left - u64_min(left, others));
        if (s->prefills[i]->state == SEQ_PREFILL)
            n_first = plan_chunk(s, s->prefills[i], share, true);
    }
    /* The first may have taken the blocks of those behind it. */
    uint32_t n_rest = 0;
    for (; i < n; i++)
        if (s->prefills[i]->state == SEQ_PREFILL)
            s->prefills[n_rest++] = s->prefills[i];
    plan_shortest(s, s->prefills, n_rest, left - n_first);
}

const struct plan *sched_plan(struct sched *s)
{
    BUG_ON(s->n_plans > 0);
    for (;;) {
        uint32_t n_paused = s->n_paused;
        const struct plan *p = sched_new_plan(s);
        s->preempted = false;
        s->no_fit = NULL;
        plan_decodes(s);
        sched_sweep(s);
        admit(s);
        plan_prefills(s);
        sched_sweep(s);
        s->n_plans = p->n > 0;
        if (p->n > 0 || (s->n_running == 0 && s->queue.n == 0))
            return p;
        BUG_ON(s->n_paused == n_paused); /* I3: only full streams can be in the way */
    }
}

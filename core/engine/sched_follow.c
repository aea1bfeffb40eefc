/* sched_follow.c - a step that is planned before the one in front of it was read: see sched.h. */
#include "core/engine/sampler.h"
#include "core/engine/sched_int.h"

/* The token of the step under way is its last, whatever it is. */
static bool ends_surely(const struct seq *q)
{
    return seq_n_generated(q) + 1 == q->group->max_output;
}

/* Whether the entry's sequence can be fed a token that is not known, or need not be fed any. */
static bool can_follow(const struct plan_entry *p)
{
    const struct seq *q = p->seq;
    return p->wants_token && (q->group->prompt_ready || q->group->n_live == 1) &&
           (!q->sampler || ends_surely(q) || sampler_can_follow(q->sampler));
}

/* How many go on behind the step; 0 also when that must be read first. */
static uint32_t count_followers(const struct plan *before, uint32_t n_running)
{
    uint32_t n = 0, n_live = 0;
    for (uint32_t i = 0; i < before->n; i++) {
        const struct plan_entry *p = &before->entries[i];
        if (!p->seq)
            continue;
        if (!can_follow(p))
            return 0;
        n_live++;
        n += !ends_surely(p->seq);
    }
    return n_live == n_running ? n : 0;
}

/* Whether somebody who waits might find a place when the step under way is over. */
static bool others_may_start(const struct sched *s, uint32_t n_followers)
{
    const struct seq *q = sched_peek_waiting(s);
    if (!q)
        return false;
    if (n_followers < s->n_running)
        return true;
    const bool no_fit = q == s->no_fit && kv_prefix_n_free(&s->prefix) <= s->no_fit_free;
    return s->n_running < s->opts.max_num_seqs && !no_fit;
}

/* False: there is no room for its token, or no block. */
static bool add(struct sched *s, struct seq *q, uint32_t after)
{
    struct plan *p = s->plan;
    const uint32_t n = sched_missing_blocks(q, q->n_known + 1);
    if (n > kv_prefix_n_free(&s->prefix) || !sched_reserve_room(q->group))
        return false;
    sched_take_blocks(s, q, n);
    q->ahead = &p->entries[p->n++];
    *q->ahead = (struct plan_entry){.seq = q, .n_rows = 1, .after = after, .wants_token = true};
    return true;
}

/* The blocks that were taken stay with their sequences, which need them next. */
static void take_back(const struct plan *p)
{
    for (uint32_t i = 0; i < p->n; i++) {
        struct seq *q = p->entries[i].seq;
        q->ahead = NULL;
        sched_return_room(q->group);
    }
}

const struct plan *sched_follow(struct sched *s)
{
    const struct plan *before = &s->plans[s->first_plan];
    BUG_ON(s->n_plans != 1);
    const uint32_t n = count_followers(before, s->n_running);
    if (n == 0 || others_may_start(s, n))
        return NULL;
    struct plan *p = sched_new_plan(s);
    uint32_t out_row = 0;
    for (uint32_t i = 0; i < before->n; i++) {
        struct seq *q = before->entries[i].seq;
        out_row += before->entries[i].n_scores;
        const uint32_t after = out_row++;
        if (!q || ends_surely(q))
            continue;
        if (!add(s, q, after)) {
            take_back(p);
            s->plan = &s->plans[s->first_plan];
            return NULL;
        }
    }
    p->n_rows = p->n_out = p->n_tokens = p->n;
    s->n_plans++;
    return p;
}

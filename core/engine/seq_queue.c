#include "core/engine/seq_queue.h"

#include <stdlib.h>
#include <string.h>

int seq_queue_init(struct seq_queue *q, uint32_t max_groups)
{
    size_t cap;
    *q = (struct seq_queue){0};
    if (!size_mul(max_groups, 2, &cap) || cap > UINT32_MAX)
        return -LLMD_ENOMEM;
    q->items = calloc(cap, sizeof(struct seq_group *));
    if (!q->items)
        return -LLMD_ENOMEM;
    q->cap = (uint32_t)cap;
    return 0;
}

void seq_queue_fini(struct seq_queue *q)
{
    free(q->items);
    *q = (struct seq_queue){0};
}

/* Index, from the start, of the first item that does not come before g. */
static uint32_t lower_bound(const struct seq_queue *q, const struct seq_group *g)
{
    uint32_t lo = 0, hi = q->n;
    if (hi > 0 && seq_group_before(q->items[q->first + hi - 1], g))
        return hi; /* the usual case: g is the newest */
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (seq_group_before(q->items[q->first + mid], g))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

void seq_queue_add(struct seq_queue *q, struct seq_group *g)
{
    BUG_ON(q->n > q->cap / 2);
    if (q->first + q->n == q->cap) { /* at least half the array was passed since the last time */
        memmove(q->items, q->items + q->first, q->n * sizeof(struct seq_group *));
        q->first = 0;
    }
    uint32_t at = q->first + lower_bound(q, g);
    if (at == q->first && q->first > 0) {
        q->items[--q->first] = g;
    } else {
        memmove(q->items + at + 1, q->items + at,
                (q->first + q->n - at) * sizeof(struct seq_group *));
        q->items[at] = g;
    }
    q->n++;
}

void seq_queue_remove(struct seq_queue *q, struct seq_group *g)
{
    uint32_t at = q->first + lower_bound(q, g);
    BUG_ON(at == q->first + q->n || q->items[at] != g);
    if (at == q->first)
        q->first++;
    else
        memmove(q->items + at, q->items + at + 1,
                (q->first + q->n - at - 1) * sizeof(struct seq_group *));
    if (--q->n == 0)
        q->first = 0;
}

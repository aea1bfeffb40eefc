/* seq_queue.h - the groups that have sequences waiting, in the order of seq_group_before().
 *
 * A sorted array with a moving start: taking the first and adding the last, which is nearly all
 * that happens, move nothing.
 *
 * Memory  taken by init; a worker never holds more groups than max_groups. */
#pragma once
#include "core/engine/seq.h"

struct seq_queue {
    struct seq_group **items; /* [cap], items[first .. first + n - 1] in use */
    uint32_t cap, first, n;
};

MUST_CHECK int seq_queue_init(struct seq_queue *q, uint32_t max_groups);
void seq_queue_fini(struct seq_queue *q); /* a zeroed queue is fine */
void seq_queue_add(struct seq_queue *q, struct seq_group *g);
void seq_queue_remove(struct seq_queue *q, struct seq_group *g);

static inline struct seq_group *seq_queue_first(const struct seq_queue *q)
{
    return q->n > 0 ? q->items[q->first] : NULL;
}

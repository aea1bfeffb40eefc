/* wait.c - how long a request would wait, and whether it may.
 *
 * By Little's law, places become free at the rate of requests at workers by the time that one stays
 * there. Before a newcomer go those of lower priority numbers, those of its key, and of every other key
 * as much as of its own. So a flood of one key does not shut out the others; nor does it when the queue
 * is full: a key that has less than its share of it may wait all the same, up to max_queue in all
 * beside what fills it.
 *
 * What that leaves out (others that come later and go first, requests for which a place is not enough)
 * is learned: projections are multiplied by what requests have waited for by what was projected. */
#include "core/router/router_int.h"
#include "core/util/clock.h"

/* Who may wait is to be started in time: that far must the projection stay below the limit. */
static const double safety = 0.8;

void wait_learn_stay(struct routed *m, const struct dispatch *dp)
{
    static const double weight = 0.05;
    const double us = (double)(clock_now_us() - dp->record->bound_us);
    m->mean_stay_us = m->mean_stay_us > 0 ? m->mean_stay_us * (1 - weight) + us * weight : us;
}

void wait_learn_wait(struct routed *m, const struct dispatch *dp)
{
    static const double weight = 0.02;
    if (dp->projected_us <= 0)
        return;
    m->waited_us = m->waited_us * (1 - weight) + (double)(clock_now_us() - dp->queued_us) * weight;
    m->projected_us = m->projected_us * (1 - weight) + dp->projected_us * weight;
}

/* Real waits by projected ones; long waits count for more. */
static double correction(const struct routed *m)
{
    static const double least = 0.5, most = 4;
    const double c = m->projected_us > 0 ? m->waited_us / m->projected_us : 1;
    return c < least ? least : c > most ? most : c;
}

/* Not corrected; 0: not known. */
static double project_us(const struct routed *m, const struct fair_ahead *ahead)
{
    uint32_t n_bound = 0;
    for (uint32_t i = 0; i < m->n_slots; i++)
        n_bound += router_slot_able(m->slots[i]) ? m->slots[i]->n_bound : 0;
    if (n_bound == 0 || fair_queue_n(m->queue) == 0)
        return 0;
    const double mean_cost = (double)fair_queue_cost(m->queue) / fair_queue_n(m->queue);
    return ((double)ahead->cost / mean_cost + 1) * m->mean_stay_us / n_bound;
}

int wait_verdict(const struct routed *m, struct dispatch *dp, uint32_t cost, struct err *e)
{
    const struct request *req = dp->req;
    const uint32_t n = fair_queue_n(m->queue);
    const struct fair_ahead ahead =
        fair_queue_ahead(m->queue, req->key_name ? req->key_name : "", req->priority, cost);
    const bool has_share = (uint64_t)ahead.n_own * ahead.n_keys < m->opts.max_queue;
    if (n >= m->opts.max_queue && (!has_share || n / 2 >= m->opts.max_queue))
        return err_set(e, LLMD_EFULL, "%u requests wait already; try again later", n);
    dp->projected_us = project_us(m, &ahead);
    const double wait_us = dp->projected_us * correction(m);
    if (m->opts.max_queue_us > 0 && wait_us > safety * (double)m->opts.max_queue_us)
        return err_set(e, LLMD_EFULL,
                       "%u requests wait; at the present rate this one would wait %.1f s, too long "
                       "to be started surely within the %.1f s that are allowed",
                       n, wait_us / 1e6, (double)m->opts.max_queue_us / 1e6);
    return 0;
}

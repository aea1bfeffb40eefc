#include "core/router/fair_queue.h"

#include <stdlib.h>
#include <string.h>

#include "core/util/err.h"

struct fair_class {
    struct fair_class *next; /* higher number, later served */
    int64_t priority;
    struct fair_flow *turn; /* of the ring; never NULL (I1) */
    bool begun;             /* that flow has its credit for this turn */
    uint32_t n_flows;
};

struct fair_flow {
    struct fair_class *class_of;
    struct fair_flow *prev, *next; /* ring */
    struct fair_item *first, *last;
    uint32_t n;
    uint64_t n_cost;
    uint64_t credit;         /* tokens that it may still send in this turn */
    struct fair_item *asked; /* of the scan under way: the next item to ask; NULL: all were */
    char key[];
};

struct fair_queue {
    struct fair_class *classes; /* by priority */
    uint32_t quantum, n;
    uint64_t n_cost;
};

int fair_queue_new(uint32_t quantum, struct fair_queue **out)
{
    struct fair_queue *q = calloc(1, sizeof(*q));
    if (!q)
        return -LLMD_ENOMEM;
    BUG_ON(quantum == 0);
    q->quantum = quantum;
    *out = q;
    return 0;
}

void fair_queue_free(struct fair_queue *q)
{
    BUG_ON(q && q->n > 0);
    free(q);
}

uint32_t fair_queue_n(const struct fair_queue *q)
{
    return q->n;
}

uint64_t fair_queue_cost(const struct fair_queue *q)
{
    return q->n_cost;
}

/* --- classes and flows --- */

/* The link to the class of this priority, or to where it belongs. */
static struct fair_class **class_link(struct fair_queue *q, int64_t priority)
{
    struct fair_class **link = &q->classes;
    while (*link && (*link)->priority < priority)
        link = &(*link)->next;
    return link;
}

static struct fair_flow *find_flow(const struct fair_class *c, const char *key)
{
    struct fair_flow *f = c->turn;
    do {
        if (strcmp(f->key, key) == 0)
            return f;
        f = f->next;
    } while (f != c->turn);
    return NULL;
}

/* A flow for the key, last in the ring of its class, both made as needed. */
static struct fair_flow *add_flow(struct fair_class **link, int64_t priority, const char *key)
{
    struct fair_class *c = *link && (*link)->priority == priority ? *link : NULL;
    const size_t n_key = strlen(key) + 1;
    struct fair_flow *f = calloc(1, sizeof(*f) + n_key);
    if (!f)
        return NULL;
    memcpy(f->key, key, n_key);
    if (c) {
        f->next = c->turn;
        f->prev = c->turn->prev;
        f->prev->next = f->next->prev = f;
    } else {
        c = calloc(1, sizeof(*c));
        if (!c) {
            free(f);
            return NULL;
        }
        *c = (struct fair_class){.next = *link, .priority = priority, .turn = f};
        *link = c;
        f->prev = f->next = f;
    }
    c->n_flows++;
    f->class_of = c;
    return f;
}

static void drop_flow(struct fair_queue *q, struct fair_flow *f)
{
    struct fair_class *c = f->class_of;
    if (f->next != f) {
        if (c->turn == f) {
            c->turn = f->next;
            c->begun = false;
        }
        c->n_flows--;
        f->prev->next = f->next;
        f->next->prev = f->prev;
    } else {
        *class_link(q, c->priority) = c->next;
        free(c);
    }
    free(f);
}

/* --- items --- */

int fair_queue_push(struct fair_queue *q, struct fair_item *item, const char *key, int64_t priority,
                    uint32_t cost)
{
    struct fair_class **link = class_link(q, priority);
    struct fair_flow *f = NULL;
    BUG_ON(cost == 0 || item->flow);
    if (*link && (*link)->priority == priority)
        f = find_flow(*link, key);
    if (!f)
        f = add_flow(link, priority, key);
    if (!f)
        return -LLMD_ENOMEM;
    *item = (struct fair_item){.flow = f, .prev = f->last, .cost = cost};
    if (f->last)
        f->last->next = item;
    else
        f->first = item;
    f->last = item;
    f->n++;
    f->n_cost += cost;
    q->n++;
    q->n_cost += cost;
    return 0;
}

/* Takes the item out; its flow stays, perhaps empty. */
static void unlink_item(struct fair_queue *q, struct fair_item *item)
{
    struct fair_flow *f = item->flow;
    if (item->prev)
        item->prev->next = item->next;
    else
        f->first = item->next;
    if (item->next)
        item->next->prev = item->prev;
    else
        f->last = item->prev;
    item->flow = NULL;
    f->n--;
    f->n_cost -= item->cost;
    q->n--;
    q->n_cost -= item->cost;
}

void fair_queue_remove(struct fair_queue *q, struct fair_item *item)
{
    struct fair_flow *f = item->flow;
    unlink_item(q, item);
    if (!f->first)
        drop_flow(q, f);
}

/* Those of a class that have their turn before the newcomer's: of its own class as much of every other
 * key as of its own. */
static uint64_t cost_before(const struct fair_class *c, const struct fair_flow *own,
                            int64_t priority, uint32_t cost)
{
    const uint64_t own_cost = own ? own->n_cost : 0;
    const uint64_t most = c->priority < priority ? UINT64_MAX : own_cost + cost;
    const struct fair_flow *f = c->turn;
    uint64_t sum = 0;
    if (c->priority > priority)
        return 0;
    do {
        sum += f == own ? own_cost : u64_min(f->n_cost, most);
        f = f->next;
    } while (f != c->turn);
    return sum;
}

struct fair_ahead fair_queue_ahead(const struct fair_queue *q, const char *key, int64_t priority,
                                   uint32_t cost)
{
    struct fair_ahead ahead = {.n_keys = 1};
    for (const struct fair_class *c = q->classes; c; c = c->next) {
        const struct fair_flow *own = find_flow(c, key);
        const uint32_t n_keys = c->n_flows + (own == NULL);
        ahead.n_own += own ? own->n : 0;
        ahead.n_keys = n_keys > ahead.n_keys ? n_keys : ahead.n_keys;
        ahead.cost += cost_before(c, own, priority, cost);
    }
    return ahead;
}

struct fair_item *fair_queue_any(const struct fair_queue *q)
{
    return q->classes ? q->classes->turn->first : NULL;
}

/* --- the scan --- */

/* A scan in progress. */
struct scan {
    struct fair_queue *q;
    enum fair_verdict (*visit)(void *ctx, struct fair_item *item);
    void *ctx;
    uint32_t left; /* items that may still be asked */
    bool took;     /* one of this class */
    bool stopped;
};

/* Asks items of the flow while its credit lasts. True when one was asked. */
static bool scan_flow(struct scan *s, struct fair_flow *f)
{
    bool asked = false;
    while (f->asked && f->asked->cost <= f->credit && !s->stopped) {
        struct fair_item *item = f->asked;
        const enum fair_verdict v = s->left > 0 ? s->visit(s->ctx, item) : FAIR_STOP;
        s->stopped = v == FAIR_STOP;
        if (s->stopped)
            break;
        s->left--;
        asked = true;
        f->asked = item->next;
        if (v == FAIR_TAKE) {
            s->took = true;
            f->credit -= item->cost;
            unlink_item(s->q, item);
        }
    }
    return asked;
}

/* Nobody could send in the last round: lets pass at once the rounds in which nobody can. False
 * when all items were asked. */
static bool skip_rounds(const struct scan *s, struct fair_class *c)
{
    const uint32_t quantum = s->q->quantum;
    uint64_t least = UINT64_MAX;
    struct fair_flow *f = c->turn;
    do {
        if (f->asked) {
            BUG_ON(f->asked->cost <= f->credit);
            least = u64_min(least, (f->asked->cost - f->credit + quantum - 1) / quantum);
        }
        f = f->next;
    } while (f != c->turn);
    if (least == UINT64_MAX)
        return false;
    do {
        if (f->asked)
            f->credit += (least - 1) * quantum;
        f = f->next;
    } while (f != c->turn);
    return true;
}

/* One priority: the turn passes from flow to flow, beginning where the last scan ended. */
static void scan_class(struct scan *s, struct fair_class *c)
{
    struct fair_flow *f = c->turn;
    do {
        f->asked = f->first;
        f = f->next;
    } while (f != c->turn);

    for (uint32_t n_idle = 0; !s->stopped;) { /* flows in a row that could not send */
        if (n_idle == c->n_flows) {
            if (!skip_rounds(s, c))
                break;
            n_idle = 0;
        }
        if (!c->begun && c->turn->asked)
            c->turn->credit += s->q->quantum;
        c->begun = true;
        n_idle = scan_flow(s, c->turn) ? 0 : n_idle + 1;
        if (!s->stopped || s->left == 0) {
            c->turn = c->turn->next;
            c->begun = false;
        }
    }
}

/* Frees the flows that have no items left, and the class with its last one. */
static void drop_empty_flows(struct fair_queue *q, struct fair_class *c)
{
    struct fair_flow *f = c->turn;
    for (uint32_t n = c->n_flows; n > 0; n--) {
        struct fair_flow *next = f->next;
        if (!f->first)
            drop_flow(q, f);
        else /* what was not used is not hoarded */
            f->credit = u64_min(f->credit, q->quantum + (f->asked ? f->asked->cost : 0));
        f = next;
    }
}

void fair_queue_scan(struct fair_queue *q, uint32_t max,
                     enum fair_verdict (*visit)(void *ctx, struct fair_item *item), void *ctx)
{
    struct scan s = {.q = q, .visit = visit, .ctx = ctx, .left = max};
    for (struct fair_class *c = q->classes, *next; c && !s.stopped && s.left > 0; c = next) {
        next = c->next;
        const uint32_t for_others = next ? s.left / 2 : 0;
        s.left -= for_others;
        s.took = false;
        scan_class(&s, c);
        drop_empty_flows(q, c);
        if (s.left == 0 && !s.took) /* it stopped for having asked enough, in vain */
            s.stopped = false;
        s.left += for_others;
    }
}

void fair_queue_sweep(struct fair_queue *q, bool (*gone)(void *ctx, struct fair_item *item),
                      void *ctx)
{
    for (struct fair_class *c = q->classes, *next_class; c; c = next_class) {
        struct fair_flow *f = c->turn;
        next_class = c->next;
        do {
            f->asked = NULL;
            for (struct fair_item *i = f->first, *next; i; i = next) {
                next = i->next;
                if (gone(ctx, i))
                    unlink_item(q, i);
            }
            f = f->next;
        } while (f != c->turn);
        drop_empty_flows(q, c);
    }
}

void fair_queue_audit(const struct fair_queue *q)
{
    uint64_t n = 0, cost = 0;
    for (const struct fair_class *c = q->classes; c; c = c->next) {
        const struct fair_flow *f = c->turn;
        uint32_t n_flows = 0;
        BUG_ON(c->next && c->next->priority <= c->priority);
        do {
            BUG_ON(!f->first || f->class_of != c || f->next->prev != f); /* I1 */
            uint64_t n_flow = 0, flow_cost = 0;
            for (const struct fair_item *i = f->first; i; i = i->next) {
                BUG_ON(i->flow != f || (i->next ? i->next->prev != i : f->last != i));
                n_flow++;
                flow_cost += i->cost;
            }
            BUG_ON(n_flow != f->n || flow_cost != f->n_cost); /* I2 */
            n += n_flow;
            cost += flow_cost;
            n_flows++;
            f = f->next;
        } while (f != c->turn);
        BUG_ON(n_flows != c->n_flows);
    }
    BUG_ON(n != q->n || cost != q->n_cost); /* I2 */
}

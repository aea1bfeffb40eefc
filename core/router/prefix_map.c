#include "core/router/prefix_map.h"

#include <stdlib.h>

#include "core/util/err.h"

struct entry {
    struct prefix_hash name;
    uint64_t held, promised; /* bit w: worker w; both 0: the slot is empty */
};

struct prefix_map {
    struct entry *slots; /* [mask + 1] */
    uint32_t mask;
    uint32_t n, max;
    uint64_t forgotten;  /* workers whose held bits are swept away; 0: no sweep is under way */
    uint32_t sweep_from; /* slots below are yet to be swept */
};

int prefix_map_new(uint32_t max_entries, struct prefix_map **out)
{
    struct prefix_map *m = calloc(1, sizeof(*m));
    uint64_t n_slots = 64;
    while (n_slots < (uint64_t)max_entries * 2)
        n_slots *= 2;
    if (m && n_slots <= UINT32_MAX)
        m->slots = calloc(n_slots, sizeof(*m->slots));
    if (!m || !m->slots) {
        free(m);
        return -LLMD_ENOMEM;
    }
    m->mask = (uint32_t)(n_slots - 1);
    m->max = max_entries;
    *out = m;
    return 0;
}

void prefix_map_free(struct prefix_map *m)
{
    if (!m)
        return;
    free(m->slots);
    free(m);
}

size_t prefix_map_bytes(const struct prefix_map *m)
{
    return sizeof(*m) + ((size_t)m->mask + 1) * sizeof(*m->slots);
}

uint32_t prefix_map_n_entries(const struct prefix_map *m)
{
    return m->n;
}

static bool is_empty(const struct entry *e)
{
    return (e->held | e->promised) == 0;
}

static uint32_t home_of(const struct prefix_map *m, struct prefix_hash name)
{
    return (uint32_t)name.lo & m->mask;
}

/* The slot of the name, or the empty one where it belongs. */
static struct entry *probe(const struct prefix_map *m, struct prefix_hash name)
{
    uint32_t i = home_of(m, name);
    while (!is_empty(&m->slots[i]) && !prefix_hash_equal(m->slots[i].name, name))
        i = (i + 1) & m->mask;
    return &m->slots[i];
}

/* The slot of the name, to be given a worker; NULL: no room for a new one. */
static struct entry *enter(struct prefix_map *m, struct prefix_hash name)
{
    struct entry *e = probe(m, name);
    if (!is_empty(e))
        return e;
    if (m->n == m->max)
        return NULL;
    m->n++;
    e->name = name;
    return e;
}

/* Empties the slot: later entries of the run that may stand here move back (I2). */
static void take_out(struct prefix_map *m, struct entry *gone)
{
    uint32_t hole = (uint32_t)(gone - m->slots);
    for (uint32_t i = (hole + 1) & m->mask; !is_empty(&m->slots[i]); i = (i + 1) & m->mask) {
        const uint32_t from_home = (i - home_of(m, m->slots[i].name)) & m->mask;
        if (from_home < ((i - hole) & m->mask))
            continue; /* it would stand before its home */
        m->slots[hole] = m->slots[i];
        hole = i;
    }
    m->slots[hole] = (struct entry){.held = 0};
    m->n--;
}

static uint64_t bit_of(uint32_t worker)
{
    BUG_ON(worker >= PREFIX_MAP_WORKERS);
    return 1ull << worker;
}

/* A worker whose blocks are still being forgotten gets new ones. */
static void end_sweep(struct prefix_map *m, uint32_t worker)
{
    if (m->forgotten & bit_of(worker))
        (void)prefix_map_sweep(m, UINT32_MAX);
}

void prefix_map_add(struct prefix_map *m, uint32_t worker, struct prefix_hash name)
{
    end_sweep(m, worker);
    struct entry *e = enter(m, name);
    if (e)
        e->held |= bit_of(worker);
}

void prefix_map_remove(struct prefix_map *m, uint32_t worker, struct prefix_hash name)
{
    struct entry *e = probe(m, name);
    if (is_empty(e))
        return;
    e->held &= ~bit_of(worker);
    if (is_empty(e))
        take_out(m, e);
}

bool prefix_map_promise(struct prefix_map *m, uint32_t worker, struct prefix_hash name)
{
    end_sweep(m, worker);
    struct entry *e = enter(m, name);
    if (!e || ((e->held | e->promised) & bit_of(worker)))
        return false;
    e->promised |= bit_of(worker);
    return true;
}

void prefix_map_break(struct prefix_map *m, uint32_t worker, struct prefix_hash name)
{
    struct entry *e = probe(m, name);
    if (is_empty(e))
        return;
    e->promised &= ~bit_of(worker);
    if (is_empty(e))
        take_out(m, e);
}

int prefix_map_grow(struct prefix_map *m, uint32_t max_entries)
{
    struct prefix_map *larger;
    BUG_ON(max_entries < m->max);
    int rc = prefix_map_new(max_entries, &larger);
    if (rc)
        return rc;
    (void)prefix_map_sweep(m, UINT32_MAX);
    for (uint64_t i = 0; i <= m->mask && m->n > 0; i++)
        if (!is_empty(&m->slots[i]))
            *enter(larger, m->slots[i].name) = m->slots[i];
    struct entry *old = m->slots;
    *m = *larger;
    larger->slots = old;
    prefix_map_free(larger);
    return 0;
}

void prefix_map_forget(struct prefix_map *m, uint32_t worker)
{
    m->forgotten |= bit_of(worker);
    m->sweep_from = m->mask + 1;
}

/* Another may stand in the slot when its entry was taken out: looks again. */
static void sweep_slot(struct prefix_map *m, struct entry *e)
{
    while (e->held & m->forgotten) {
        e->held &= ~m->forgotten;
        if (is_empty(e))
            take_out(m, e);
    }
}

/* From the last slot down: entries move down only (I2), from what was swept to what will be. But for
 * the run that ends at the last slot, into which entries from the first slots may have moved. */
bool prefix_map_sweep(struct prefix_map *m, uint32_t max_slots)
{
    for (; m->forgotten && m->sweep_from > 0 && max_slots > 0; max_slots--)
        sweep_slot(m, &m->slots[--m->sweep_from]);
    if (!m->forgotten || m->sweep_from > 0)
        return m->forgotten == 0;
    uint32_t first = m->mask;
    while (first > 0 && !is_empty(&m->slots[first]))
        first--;
    for (uint32_t i = m->mask; i > first; i--)
        sweep_slot(m, &m->slots[i]);
    m->forgotten = 0;
    return true;
}

void prefix_map_match(const struct prefix_map *m, const struct prefix_hash *names, uint32_t n,
                      uint64_t workers, struct prefix_match out[PREFIX_MAP_WORKERS])
{
    uint64_t held = workers, known = workers; /* those that have all blocks so far */
    for (uint32_t i = 0; i <= n && (held | known); i++) {
        const struct entry *e = i < n ? probe(m, names[i]) : NULL;
        const uint64_t here = e ? e->held & ~m->forgotten : 0;
        for (uint64_t ends = held & ~here; ends; ends &= ends - 1)
            out[__builtin_ctzll(ends)].n_held = i;
        held &= here;
        const uint64_t sure = e ? here | e->promised : 0;
        for (uint64_t ends = known & ~sure; ends; ends &= ends - 1)
            out[__builtin_ctzll(ends)].n_known = i;
        known &= sure;
    }
}

void prefix_map_audit(const struct prefix_map *m)
{
    uint32_t n = 0;
    for (uint64_t i = 0; i <= m->mask; i++) {
        const struct entry *e = &m->slots[i];
        n += !is_empty(e);
        BUG_ON(!is_empty(e) && probe(m, e->name) != e); /* I2 */
    }
    BUG_ON(n != m->n || n > m->max);
}

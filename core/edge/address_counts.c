#include "core/edge/address_counts.h"

#include <stdlib.h>
#include <string.h>

#include "core/util/cidr.h"

enum { FIRST_PLACES = 64, V6_BYTES = 8 };

bool address_block_of(const struct sockaddr_storage *a, struct address_block *out)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (!cidr_address(a, out->bits))
        return false;
    if (memcmp(out->bits, mapped, sizeof(mapped)) != 0)
        memset(out->bits + V6_BYTES, 0, sizeof(out->bits) - V6_BYTES);
    return true;
}

/* Where the search for a block begins. */
static uint32_t home(const struct address_counts *c, const struct address_block *b)
{
    uint64_t half[2], x = c->seed;
    memcpy(half, b->bits, sizeof(half));
    for (int i = 0; i < 2; i++) {
        x = (x ^ half[i]) * 0x9e3779b97f4a7c15u;
        x = (x ^ (x >> 32) ^ c->seed) * 0xd6e8feb86659fd93u;
        x ^= x >> 29;
    }
    return (uint32_t)(x >> 20) & (c->n_places - 1);
}

/* The place of a block, or the free one where it would be. */
static uint32_t find(const struct address_counts *c, const struct address_block *b)
{
    uint32_t i = home(c, b);
    while (c->all[i].n > 0 && memcmp(&c->all[i].block, b, sizeof(*b)) != 0)
        i = (i + 1) & (c->n_places - 1);
    return i;
}

static int grow(struct address_counts *c)
{
    const struct address_counts old = *c;
    const uint32_t n = c->n_places ? c->n_places * 2 : FIRST_PLACES;
    struct address_count *all = calloc(n, sizeof(*all));
    if (!all)
        return -LLMD_ENOMEM;
    c->all = all;
    c->n_places = n;
    for (uint32_t i = 0; i < old.n_places; i++)
        if (old.all[i].n > 0)
            all[find(c, &old.all[i].block)] = old.all[i];
    free(old.all);
    return 0;
}

int address_counts_add(struct address_counts *c, const struct address_block *b, uint32_t max)
{
    if (2 * (uint64_t)(c->n_used + 1) > c->n_places) {
        int rc = grow(c);
        if (rc != 0)
            return rc;
    }
    struct address_count *at = &c->all[find(c, b)];
    if (max > 0 && at->n >= max)
        return -LLMD_EFULL;
    if (at->n == 0) {
        at->block = *b;
        c->n_used++;
    }
    at->n++;
    return 0;
}

/* Entries behind a place that becomes free move up, or a search for them would end there. */
static void close_gap(struct address_counts *c, uint32_t gap)
{
    const uint32_t mask = c->n_places - 1;
    for (uint32_t i = (gap + 1) & mask; c->all[i].n > 0; i = (i + 1) & mask) {
        const uint32_t want = home(c, &c->all[i].block);
        if (((i - want) & mask) < ((i - gap) & mask))
            continue; /* it is nearer to where it belongs than the gap is */
        c->all[gap] = c->all[i];
        gap = i;
    }
    c->all[gap] = (struct address_count){.n = 0};
}

void address_counts_drop(struct address_counts *c, const struct address_block *b)
{
    BUG_ON(!c->all);
    const uint32_t i = find(c, b);
    BUG_ON(c->all[i].n == 0); /* it was never added */
    if (--c->all[i].n > 0)
        return;
    c->n_used--;
    close_gap(c, i);
}

uint32_t address_counts_of(const struct address_counts *c, const struct address_block *b)
{
    return c->all ? c->all[find(c, b)].n : 0;
}

void address_counts_fini(struct address_counts *c)
{
    free(c->all);
    *c = (struct address_counts){.n_places = 0};
}

#include "core/router/history.h"

#include <stdlib.h>
#include <string.h>

#include "core/util/err.h"

enum { ALIGN_BYTES = 16 };

struct history_item {
    size_t at, n; /* in bytes; n as it was asked for */
};

int history_init(struct history *h, uint32_t max_items, size_t max_bytes)
{
    BUG_ON(max_items == 0 || max_bytes % ALIGN_BYTES != 0);
    *h = (struct history){
        .bytes = malloc(max_bytes),
        .max_bytes = max_bytes,
        .items = calloc(max_items, sizeof(*h->items)),
        .max_items = max_items,
        .first = 1,
        .next = 1,
    };
    if (h->bytes && h->items) {
        memset(h->bytes, 0, max_bytes); /* pages are not to be fetched under a lock */
        return 0;
    }
    history_fini(h);
    return -LLMD_ENOMEM;
}

void history_fini(struct history *h)
{
    free(h->bytes);
    free(h->items);
    *h = (struct history){0};
}

static struct history_item *item(const struct history *h, uint64_t number)
{
    return &h->items[number % h->max_items];
}

static size_t aligned(size_t n)
{
    return (n + ALIGN_BYTES - 1) & ~(size_t)(ALIGN_BYTES - 1);
}

void *history_add(struct history *h, size_t n)
{
    const size_t room = aligned(n);
    size_t at = 0;
    if (room < n || room > h->max_bytes)
        return NULL;
    if (h->next > h->first) {
        const struct history_item *last = item(h, h->next - 1);
        at = last->at + aligned(last->n);
    }
    if (room > h->max_bytes - at) {
        while (h->first < h->next && item(h, h->first)->at >= at) /* older than what is in front */
            h->first++;
        at = 0;
    }
    while (h->first < h->next && (h->next - h->first == h->max_items ||
                                  (item(h, h->first)->at < at + room &&
                                   item(h, h->first)->at + aligned(item(h, h->first)->n) > at)))
        h->first++;
    *item(h, h->next++) = (struct history_item){.at = at, .n = n};
    return h->bytes + at;
}

const void *history_get(const struct history *h, uint64_t number, size_t *out_n)
{
    if (number < h->first || number >= h->next)
        return NULL;
    *out_n = item(h, number)->n;
    return h->bytes + item(h, number)->at;
}

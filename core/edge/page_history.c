#include "core/edge/page_history.h"

#include <stdlib.h>
#include <string.h>

#include "core/util/json.h"

static const struct {
    const char *name;
    uint32_t step_s, max;
} spans[] = {[SPAN_15M] = {"15m", 1, 900}, [SPAN_6H] = {"6h", 15, 1440}};

static const char *const names[] = {
#define X(name) #name,
    PAGE_COLUMNS(X)
#undef X
};

const char *page_column_name(enum page_column c)
{
    return names[c];
}

uint32_t page_span_step_s(enum page_span span)
{
    return spans[span].step_s;
}

bool page_span_parse(const char *name, enum page_span *out)
{
    for (int i = 0; i < N_SPANS; i++)
        if (strcmp(spans[i].name, name) == 0) {
            *out = (enum page_span)i;
            return true;
        }
    return false;
}

int page_history_init(struct page_history *h)
{
    lock_init(&h->mu, LOCK_RANK_LEAF);
    for (int i = 0; i < N_SPANS; i++) {
        h->rings[i].all = calloc(spans[i].max, sizeof(struct page_sample));
        if (!h->rings[i].all)
            return -LLMD_ENOMEM;
    }
    return 0;
}

void page_history_fini(struct page_history *h)
{
    for (int i = 0; i < N_SPANS; i++)
        free(h->rings[i].all);
    lock_fini(&h->mu);
}

void page_history_add(struct page_history *h, enum page_span span, const struct page_sample *s)
{
    struct page_ring *r = &h->rings[span];
    lock_take(&h->mu);
    r->all[r->n++ % spans[span].max] = *s;
    lock_drop(&h->mu);
}

/* Oldest first; the caller frees. NULL: out of memory. */
static struct page_sample *copy(struct page_history *h, enum page_span span, uint32_t *out_n)
{
    const uint32_t max = spans[span].max;
    const struct page_ring *r = &h->rings[span];
    struct page_sample *to = malloc(max * sizeof(*to));
    if (!to)
        return NULL;
    lock_take(&h->mu);
    const uint32_t n = (uint32_t)u64_min(r->n, max);
    for (uint32_t i = 0; i < n; i++)
        to[i] = r->all[(r->n - n + i) % max];
    lock_drop(&h->mu);
    *out_n = n;
    return to;
}

/* Shorter than a float's double, and as exact as anybody looks. */
static void add_value(float v, struct buf *out)
{
    if (v != v)
        buf_addstr(out, "null");
    else
        buf_addf(out, "%.5g", (double)v);
}

void page_history_add_json(struct page_history *h, enum page_span span, int64_t after,
                           const char *process, struct buf *out)
{
    uint32_t n = 0, first = 0;
    struct page_sample *all = copy(h, span, &n);
    if (!all) {
        out->failed = true;
        return;
    }
    while (first < n && all[first].t <= after)
        first++;
    buf_addf(out, "{\"process\":\"%s\",\"span\":\"%s\",\"step\":%u,\"t\":[", process,
             spans[span].name, spans[span].step_s);
    for (uint32_t i = first; i < n; i++)
        buf_addf(out, "%s%lld", i > first ? "," : "", (long long)all[i].t);
    buf_addch(out, ']');
    for (int c = 0; c < N_PAGE_COLUMNS; c++) {
        buf_addf(out, ",\"%s\":[", names[c]);
        for (uint32_t i = first; i < n; i++) {
            if (i > first)
                buf_addch(out, ',');
            add_value(all[i].v[c], out);
        }
        buf_addch(out, ']');
    }
    buf_addch(out, '}');
    free(all);
}

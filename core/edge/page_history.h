/* page_history.h - what was measured, second by second for a quarter of an hour and every 15 seconds for
 * six hours, in this process's memory.
 *
 * Thread  one adds, any read; a lock of rank LEAF for the time of a copy.
 * Memory  170 KB, all of it taken by history_init. NaN: not known, or no traffic. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/lock.h"

/* Columns, by the names that readers see: what a moment has, as seconds, counts per second, shares. */
#define PAGE_COLUMNS(X)                                                                            \
    X(ttft_p50)                                                                                    \
    X(ttft_p95)                                                                                    \
    X(ttft_p99)                                                                                    \
    X(itl_p50)                                                                                     \
    X(itl_p95)                                                                                     \
    X(itl_p99)                                                                                     \
    X(queue_p95)                                                                                   \
    X(e2e_p95)                                                                                     \
    X(tok_s)                                                                                       \
    X(prompt_tok_s)                                                                                \
    X(req_s)                                                                                       \
    X(failed_s)                                                                                    \
    X(preempt_s)                                                                                   \
    X(hit_rate)                                                                                    \
    X(running)                                                                                     \
    X(waiting)                                                                                     \
    X(kv)

enum page_column {
#define X(name) COLUMN_##name,
    PAGE_COLUMNS(X)
#undef X
        N_PAGE_COLUMNS
};
const char *page_column_name(enum page_column c);

enum page_span { SPAN_15M, SPAN_6H, N_SPANS };

struct page_sample {
    int64_t t; /* seconds since 1970 */
    float v[N_PAGE_COLUMNS];
};

struct page_ring {
    struct page_sample *all; /* [max], number n lies at n % max */
    uint64_t n;              /* that ever were */
};

struct page_history {
    struct lock mu;
    struct page_ring rings[N_SPANS];
};

uint32_t page_span_step_s(enum page_span span);
/* False: no such span. */
bool page_span_parse(const char *name, enum page_span *out);

MUST_CHECK int page_history_init(struct page_history *h); /* a zeroed one; ENOMEM */
void page_history_fini(struct page_history *h);           /* also of a zeroed one */
void page_history_add(struct page_history *h, enum page_span span, const struct page_sample *s);
/* Appends {"process":...,"span":...,"step":...,"t":[...],"ttft_p50":[...],...}: what has t > after. */
void page_history_add_json(struct page_history *h, enum page_span span, int64_t after,
                           const char *process, struct buf *out);

/* page.h - what the edge keeps for the status page: who is logged in, what was measured, how the server
 * does, and the snapshot that all tabs get.
 *
 *   main thread   page_tick, once a second: reads the counters, judges, writes the snapshot, has the loops
 *                 with streams wake (page_stream.h)
 *   loops         page_latest: a reference to what is there
 *
 * Thread  page_tick, page_new, page_free: the owner of the edge; the rest any.
 * Memory  a snapshot is freed with its last reference. */
#pragma once
#include <stdatomic.h>

#include "core/edge/login_tries.h"
#include "core/edge/page_history.h"
#include "core/edge/page_rates.h"
#include "core/edge/page_verdict.h"
#include "core/edge/sessions.h"
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

enum { PROCESS_ID_BYTES = 17 /* 16 hexadecimal digits */, PAGE_STREAMS_MAX = 64 };

struct edge;

/* Immutable. */
struct snapshot {
    atomic_uint refs;
    uint64_t number;
    size_t n_head; /* of the event's lines in front of the JSON */
    size_t n_json;
    struct buf event; /* all of it, with the empty line behind */
};

struct page {
    char process[PROCESS_ID_BYTES]; /* random: another start has another */
    struct sessions sessions;
    struct login_tries tries;
    struct page_history history;
    atomic_uint n_streams; /* over all loops */

    struct lock mu; /* rank LEAF; guards: */
    struct snapshot *latest;
    char verdict[1600]; /* as JSON */

    /* the owner's: */
    struct page_rates rates;
    struct page_health health;
    uint64_t number; /* of the next snapshot */
    uint64_t next_us;
};

/* EINTERNAL: no randomness; ENOMEM. */
MUST_CHECK int page_new(struct page **out, struct err *e);
void page_free(struct page *p); /* NULL is fine */
/* Does what is due; returns in how many microseconds something is again. */
uint64_t page_tick(struct edge *edge);
/* With a reference; NULL: there is none yet, or memory was short. */
struct snapshot *page_latest(struct page *p);
void snapshot_unref(struct snapshot *s); /* NULL is fine */
/* Appends the verdict of the last tick as an object. */
void page_add_verdict(struct page *p, struct buf *out);

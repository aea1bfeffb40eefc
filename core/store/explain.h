/* explain.h - the story of one request: where its time went, and the sentence that says so.
 *
 * A story is the row of the request log with its details (store_row_json), or what a server tells of a
 * request that is still with it (GET /admin/v1/requests/ID), brought into the same form.
 *
 * Thread  pure functions. */
#pragma once
#include <jansson.h>

#include "core/util/buf.h"

/* Where the time went: what took most of it, from the figures of a story. */
enum explain_part {
    PART_EDGE,
    PART_QUEUE,
    PART_PREFILL,        /* rows of its own prompt */
    PART_PREFILL_OTHERS, /* others' rows beside them, and steps between them */
    PART_DECODE,         /* steps, as if it were alone */
    PART_BATCH,
    PART_GAP_PREFILL, /* prompts of others beside its tokens */
    PART_STALL,
    PART_CLIENT, /* paused, or the answer lay ready */
    PART_PREEMPTION,
    PART_MIGRATION,
    PART_COUNT
};
struct explain_parts {
    double us[PART_COUNT];
    double total_us;
    enum explain_part most;
};
const char *explain_part_name(enum explain_part p);
void explain_measure(const json_t *story, struct explain_parts *out);
/* One sentence: what dominated, with figures. */
void explain_verdict(const json_t *story, const struct explain_parts *parts, struct buf *out);
/* The story that a record and a time line of a server make; a new reference, NULL: out of memory. */
json_t *explain_live_story(json_t *record);
/* {"dominated","dominated_us","verdict","parts_us":{},"request":the story}, on one line. */
void explain_json(const json_t *story, struct buf *out);

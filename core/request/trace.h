/* trace.h - where the time of one request went: when its stages began, what was computed of its
 * prompt in which step, and how long its tokens were apart and why.
 *
 * The worker knows the facts at the moment of each token: what was in the step beside it, what such a
 * step costs, whether the sequence was interrupted since its last token. So each gap is split into
 * parts by cause there and then; the sums of all and the slowest few are kept.
 *
 * Thread  guarded by the request's stream.mu; the functions expect it held, or a copy.
 * Memory  part of the request: 2 KB, nothing is allocated. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"

enum gap_cause {
    GAP_STEP,       /* what a step costs that decodes this sequence alone */
    GAP_BATCH,      /* other sequences that decode in the same steps */
    GAP_PREFILL,    /* prompts of others, computed in the same steps */
    GAP_STALL,      /* a step took twice what it costs, for no reason that the worker knows */
    GAP_CLIENT,     /* the client read slowly: its ring was full, the sequence paused */
    GAP_PREEMPTION, /* its KV blocks were taken away and computed anew */
    GAP_MIGRATION,  /* its worker was lost, another went on */
    GAP_N_CAUSES
};
const char *gap_cause_name(enum gap_cause c); /* one word */

enum { TRACE_GAPS = 8, TRACE_CHUNKS = 16, TRACE_OTHER_BYTES = 48 };

/* Between two tokens of a choice. */
struct trace_gap {
    uint64_t ended_us; /* clock_now_us() of the second token */
    uint64_t us;
    uint64_t part_us[GAP_N_CAUSES]; /* add up to us */
    enum gap_cause cause;
    uint32_t choice, n_tokens;          /* of that choice, with the second token */
    uint64_t n_steps;                   /* of the worker, from one token to the other */
    uint32_t n_decodes, n_prefill_rows; /* in the last of them; rows of others' prompts */
    uint32_t worker;
    char other[TRACE_OTHER_BYTES]; /* whose prompt had the most rows there; "" */
};

/* Rows of its prompt that one step computed. The last one that is kept adds up all that follow. */
struct trace_chunk {
    uint64_t began_us, us;
    uint64_t n_rows;      /* of this request */
    uint64_t n_step_rows; /* of all in the step */
    uint32_t n_decodes;   /* of all in the step */
    uint32_t n_steps;     /* more than 1: added up */
};

/* Times in clock_now_us(); 0 while a stage has not happened. */
struct request_trace {
    uint64_t queued_us;      /* accepted by the router */
    uint64_t scheduled_us;   /* first row computed */
    uint64_t first_token_us; /* first token of any choice pushed */
    uint64_t last_token_us;
    uint32_t n_cached_tokens; /* prompt tokens found in the prefix cache (first choice) */
    uint32_t n_preemptions;
    uint32_t n_migrations; /* times another worker went on with it */
    int32_t worker;        /* index of the worker that ran it last; -1: none yet */

    uint64_t part_us[GAP_N_CAUSES]; /* of all gaps, over all choices */
    uint32_t n_gaps;                /* kept: the slowest, the slowest first */
    struct trace_gap gaps[TRACE_GAPS];
    uint32_t n_chunks;
    struct trace_chunk chunks[TRACE_CHUNKS]; /* in the order of the steps */
};

void trace_add_gap(struct request_trace *t, const struct trace_gap *gap);
void trace_add_chunk(struct request_trace *t, const struct trace_chunk *chunk);
/* Makes one of two, for a reply that took several requests: the earlier begin of each stage, sums, the
 * slowest gaps of both; the chunks of `to`, unless it has none. */
void trace_merge(struct request_trace *to, const struct request_trace *from);
/* {"chunks":[...],"gaps":[...],"part_us":{...}}, moments in microseconds since began_us. */
void trace_add_json(const struct request_trace *t, uint64_t began_us, struct buf *out);

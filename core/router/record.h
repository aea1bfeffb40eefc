/* record.h - what happened to one request at the router: its decisions, the workers that lost or
 * refused it, its times, its end.
 *
 * A decision that gave the request to nobody, for the same reason as the one before it, takes that
 * one's place and is counted: a request that waits is looked at once per step. Of what is left the
 * first two and the last four are kept, of moves and refusals the last four; the rest is counted.
 *
 * Memory  sized when the request is submitted: 2 KB, and for each decision 100 bytes and 56 per
 *         worker. Most requests have one decision or two, so the room of the others is only taken
 *         with the third. While the request lives it belongs to its arena, which nobody else uses
 *         then; a copy is one piece, and whoever gets it (router_record) frees it with free().
 * Thread  a live one is guarded by router.mu; a copy is its owner's. */
#pragma once
#include "core/router/decision.h"
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

struct request;

enum {
    RECORD_FIRST = 2,
    RECORD_LAST = 4,
    RECORD_DECISIONS = RECORD_FIRST + RECORD_LAST,
    RECORD_EVENTS = 4,
};

enum route_outcome {
    OUTCOME_LIVE,
    OUTCOME_FINISHED,
    OUTCOME_FAILED,    /* error says why */
    OUTCOME_CANCELLED, /* its client left, or a stop string ended it */
    OUTCOME_REFUSED,   /* it was never taken; error says why */
};
const char *route_outcome_name(enum route_outcome o);

/* A worker lost the request, or would not have it. */
struct record_event {
    uint64_t at_us;
    uint32_t worker;
    uint32_t n_output_tokens; /* of all choices, so far */
    char why[96];
};
struct record_events { /* number i lies at i % RECORD_EVENTS */
    uint32_t n;        /* that there were */
    struct record_event last[RECORD_EVENTS];
};

struct route_record {
    char id[160], model[128], key[64]; /* cut off where they are longer */
    uint32_t n_prompt_tokens, max_tokens, n_choices;
    int64_t priority;

    enum route_outcome outcome;
    int error_code; /* LLMD_E*; 0: none */
    char error[256];
    int32_t worker;           /* that has it, or had it last; -1: none yet */
    uint32_t n_cached_tokens; /* of the prompt, expected there */
    uint32_t n_output_tokens; /* of all choices */

    /* clock_now_us(); 0: it did not happen. bound, started: the last time. */
    uint64_t submitted_us, queued_us, bound_us, started_us, first_token_us, over_us;
    uint64_t submitted_wall_us;

    struct record_events moves, refusals;

    uint64_t n_decisions;  /* all that were made */
    uint64_t n_left_out;   /* of these, neither kept nor counted as a repetition of one kept */
    uint32_t n_entries;    /* decisions and runs of them, those left out too */
    uint32_t n_candidates; /* room of a decision */
    uint64_t n_times[RECORD_DECISIONS];  /* how often the decision was made */
    uint64_t first_us[RECORD_DECISIONS]; /* the first time */
    unsigned char *last; /* the RECORD_LAST others; NULL: not needed yet, or behind the first */
    _Alignas(16) unsigned char decisions[]; /* the RECORD_FIRST first */
};

/* Of a request that is about to be submitted, in its arena, where decisions have up to n_candidates.
 * Takes the one that is there from a submission before. NULL: out of memory. */
struct route_record *record_begin(struct request *req, uint32_t n_candidates);
/* One that was just made for it, and where that sends it. False when it only repeats the last. */
bool record_decision(struct route_record *rec, struct request *req, const struct decision *d);
/* A worker lost the request, or would not have it. Takes the stream's lock. */
void record_event(struct record_events *events, struct request *req, uint32_t worker,
                  const char *why);
/* Takes up what the request's stream knows: tokens, times, and its end when it has ended. Takes the
 * stream's lock. */
void record_look(struct route_record *rec, struct request *req);
/* The request is over, for this reason; NULL: its stream says how. Takes the stream's lock. */
void record_end(struct route_record *rec, struct request *req, const struct err *why);

/* What a copy needs: now; at most. */
size_t record_bytes(const struct route_record *rec);
size_t record_max_bytes(const struct route_record *rec);
void record_copy(const struct route_record *rec, void *to);
/* Decisions that are kept, oldest first: i < record_n_kept(). */
uint32_t record_n_kept(const struct route_record *rec);
const struct decision *record_kept(const struct route_record *rec, uint32_t i,
                                   uint64_t *out_n_times, uint64_t *out_first_us);
/* The last decision that gave it to a worker; NULL: none, or it is not kept. */
const struct decision *record_last_binding(const struct route_record *rec);
/* As one JSON object; times in milliseconds since the submission. */
void record_add_json(const struct route_record *rec, struct buf *out);

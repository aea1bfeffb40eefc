/* generation.h - one chat or completions reply: from the plan over its requests to the text that
 * leaves the connection.
 *
 *   plan_parse -> one struct request per prompt -> router_submit
 *     (of a large body on another thread; the exchange is suspended meanwhile)
 *   waker -> generation_wake -> stream_pull -> choice_take -> SSE events in `out`
 *   libmicrohttpd -> generation_read -> bytes of `out`, or suspend
 *
 * Invariants  I1: out holds at most about OUT_HIGH_BYTES: beyond that nothing is pulled, the
 *                 request's ring fills and the worker pauses the sequence. The reader pulls again.
 *             I2: request->consumer points to its part as long as the generation lives; a
 *                 wake-up that comes later finds NULL.
 *             I3: n_open is the number of choices without a finish; ended is set when the last
 *                 byte of a stream is in out, or a plain reply can be written.
 * Thread      confined to the connection's loop. */
#pragma once
#include <microhttpd.h>

#include "core/edge/choice.h"
#include "core/edge/edge_int.h"
#include "core/edge/plan.h"
#include "core/request/request.h"

struct part { /* the request of one prompt and its choices */
    struct generation *generation;
    struct request *request; /* NULL when nothing is to be generated */
    uint32_t n_prompt;       /* tokens */
    uint32_t first_choice;   /* index of its choice 0 */
    uint32_t n_open;
    bool begun; /* its first output came */
};

struct generation {
    struct exchange *exchange; /* what each token needs comes first: it is cold memory every time */
    struct part *parts;        /* [plan.n_prompts] */
    struct choice *choices;    /* [n_choices], by the index that the client sees */
    uint32_t n_choices, n_open;
    bool submitted; /* the router took it */
    bool begun;     /* the first output came */
    bool in_body;   /* of a stream: libmicrohttpd asks for its body, the head has left */
    bool ended;     /* I3 */
    bool behind;    /* out is full: items may wait in rings */
    struct token_logprob
        *logprobs;  /* [PULL_MAX][rules.n_logprobs] of items just pulled; NULL: none */
    struct buf out; /* SSE: bytes to send, from out_at on */
    size_t out_at;
    uint64_t last_sent_us;
    uint64_t token_us; /* when the last token came, or it was submitted */
    struct buf head;   /* SSE: an event's beginning up to the choice's index */
    uint32_t n_refs;   /* the exchange's, and that of a thread that writes its reply */
    enum plan_kind kind;
    struct catalog *catalog; /* that the plan was made by */
    struct plan plan;
    int64_t created; /* seconds since 1970 */
    char id[REQUEST_ID_BYTES + 16];
    struct err error; /* what ended it early; code 0: nothing */
};

/* Of all its requests and choices. */
struct generation_sum {
    uint64_t n_prompt, n_generated; /* tokens */
    uint32_t n_longest;             /* tokens of its longest choice */
    struct request_trace trace;
};

/* The request's body is complete: replies, or suspends until generation_reply is due. */
enum MHD_Result generation_begin(struct exchange *ex, enum plan_kind kind);
/* A suspended exchange was resumed: its plan is there, or the plain reply, or it is the end of the
 * connection. */
enum MHD_Result generation_reply(struct generation *g);
/* Tokens wait in the request's ring. */
void generation_wake(struct request *r);
/* Tells the processor what that will read of several requests, n <= GENERATION_FETCH: nothing of it was
 * touched for a step, and to wait for it piece by piece takes as long as the rest. */
enum { GENERATION_FETCH = 16 };
void generation_fetch(struct request *const ready[], uint32_t n);
/* Every sweep: ends it when it took too long; a comment line when a stream was silent for long. */
void generation_tick(struct generation *g, uint64_t now_us);
/* Ends it with an error: an error event and [DONE], or an error reply. */
void generation_fail(struct generation *g, const struct err *why);
/* Tells the workers to stop. */
void generation_cancel(struct generation *g);
/* The exchange is over: metrics, the log line, everything freed. */
void generation_free(struct generation *g);

/* "stop", "length", "abort" or "error", of the whole. */
const char *generation_outcome(const struct generation *g);
void generation_sum(const struct generation *g, struct generation_sum *out);
/* Prompt tokens that came from the prefix cache, over all prompts. */
uint64_t generation_cached_tokens(const struct generation *g);

/* stream.h - the ring that carries tokens from a worker to an edge thread.
 *
 *   worker: stream_push() per token, waker_set_flush() at the end of each step
 *   edge:   eventfd readable -> waker_take() -> stream_pull() per request
 *
 * One waker per edge thread. A push links the request into its waker's ready list. The eighth push of
 * a step writes the eventfd of each touched waker, so that the edge sends the first tokens of a large
 * batch while the last are pushed, and so does the flush at its end: never one system call per stream.
 *
 * Invariants  I1: a request is linked at most once, and the link holds a reference.
 *             I2: an item pushed with an epoch other than the current one is dropped: a worker
 *                 that lost the request (migration) can do no harm.
 *             I3: exactly one item per choice has finish != FINISH_NONE, and it is the last.
 *             I4: an armed waker has a non-empty list or a pending eventfd.
 * Locks       stream.mu (rank STREAM), then waker.mu (rank WAKER); both leaf-short.
 * Errors      -LLMD_EFULL: no room; the worker pauses that sequence and is called back through
 *             `room` when the consumer made some. -LLMD_ECANCELLED: stop producing. */
#pragma once
#include <stdatomic.h>

#include "core/util/base.h"
#include "core/util/err.h"
#include "core/util/lock.h"

struct request;
struct trace_gap;

enum finish_reason {
    FINISH_NONE,
    FINISH_STOP,   /* eos, stop id */
    FINISH_LENGTH, /* max_tokens or context */
    FINISH_ABORT,  /* cancelled or server going down */
    FINISH_ERROR,  /* stream.error says why */
};

enum { STREAM_NO_TOKEN = UINT32_MAX };

struct token_logprob {
    uint32_t token; /* STREAM_NO_TOKEN: the vocabulary has no more */
    float logprob;
};

struct stream_item {
    uint32_t choice;
    uint32_t token;  /* STREAM_NO_TOKEN for an item that only finishes */
    int64_t stop_id; /* with FINISH_STOP by one of stop_ids: that id; else -1 */
    uint8_t finish;  /* enum finish_reason */
    bool hidden;     /* counted but not shown (eos, stop id) */
    /* [sampling_n_logprobs()]: of the token itself, of the most likely ones (the likeliest first), of
     * logprob_ids. NULL: none. The stream copies them. */
    const struct token_logprob *logprobs;
};

struct waker {
    struct lock mu;
    struct request *first, *last; /* ready list, oldest first; guarded by mu */
    bool armed;                   /* eventfd written since the last take; guarded by mu */
    int event_fd;
};

enum { WAKER_SET_MAX = 64 };
struct waker_set { /* the wakers that one step touched; a producer's own */
    struct waker *items[WAKER_SET_MAX];
    uint32_t n;
    uint32_t n_pushes; /* since the last flush */
};

/* What the model thinks of the prompt's tokens. The first has no score. */
struct stream_scores {
    uint32_t n_each;                /* token_logprobs of a token: its own, then the most likely */
    uint32_t n;                     /* tokens that have theirs, the first included */
    struct token_logprob *logprobs; /* [n_prompt][n_each] */
    uint32_t *ranks;                /* [n_prompt] 1: no other was likelier */
};

struct stream {
    struct lock mu;
    struct stream_item *ring; /* [cap]; guarded by mu, like all below */
    uint32_t cap, head, len;
    uint32_t epoch;
    uint32_t n_choices;
    uint32_t n_unfinished; /* choices without a finish item */
    bool starved;          /* the producer saw EFULL and waits for room */
    bool linked;           /* guarded by waker->mu, as is: */
    struct request *ready_next;
    struct waker *waker; /* the consumer's; fixed at init */
    bool *finished;      /* [n_choices]: its finish item was pushed */
    uint32_t *outputs;   /* [n_choices][max_output] tokens pushed so far, see stream_keep() */
    uint32_t *n_outputs; /* [n_choices] */
    uint32_t max_output;
    uint32_t n_logprobs;            /* of an item; 0: none are wanted */
    struct token_logprob *logprobs; /* [cap][n_logprobs], beside the ring */
    struct stream_scores *scores;   /* of the prompt's tokens; NULL: none are wanted */
    struct err error;               /* with FINISH_ERROR */
    void (*room)(void *ctx);        /* the producer's wake-up; called without locks */
    void *room_ctx;                 /* outlives the request's stay at that producer, see there */
    atomic_uint room_calls;         /* calls of room() under way, see stream_attach() */
};

MUST_CHECK int waker_init(struct waker *w, struct err *e);
void waker_fini(struct waker *w); /* drops the references of what is still linked */
/* Consumer: takes up to max ready requests, each with a reference for the caller. Drains the
 * eventfd and disarms first. 0: nothing left. */
uint32_t waker_take(struct waker *w, struct request *out[], uint32_t max);
/* Producer: one eventfd write per touched waker that is not armed yet; empties the set. */
void waker_set_flush(struct waker_set *set);

/* n choices; the ring holds at least 64 items and 4 per choice. The request has its final place,
 * prompt and sampling parameters now, and no other thread knows it yet. w may be NULL: the consumer
 * polls. */
MUST_CHECK int stream_init(struct request *r, struct waker *w, uint32_t n_choices, struct err *e);
/* A new producer takes the request: returns its epoch. room(ctx) is called when a starved stream
 * has room again and when the request is cancelled; a producer that attaches looks at `cancelled`
 * afterwards. The stay of a producer ends with the next stream_attach(), with the push of the last
 * finish item, or with stream_fail(): these wait for a room() under way, so that its ctx may go
 * when they return, and are called without locks. room() must not wait for the producer. */
uint32_t stream_attach(struct request *r, void (*room)(void *ctx), void *ctx);
/* The same for a producer that was given the request when its epoch was `from`. ECANCELLED, and
 * nothing is changed, when another producer took it since. */
MUST_CHECK int stream_attach_from(struct request *r, uint32_t from, void (*room)(void *ctx),
                                  void *ctx, uint32_t *out_epoch);
/* A producer that may have lost the request leaves: no room() to it any more when this returns.
 * Somebody else ends the stream. */
void stream_detach(struct request *r, uint32_t epoch);
/* Makes the stream keep what is pushed, up to max_output tokens of each choice, so that another
 * producer can go on where this one ended. Once; later calls change nothing. */
MUST_CHECK int stream_keep(struct request *r, uint32_t max_output);
/* What was kept of a choice: its tokens, and in *out_n how many. Those do not change any more;
 * their memory is the request's. *out_finished: it has its last item. NULL without stream_keep(). */
const uint32_t *stream_kept(struct request *r, uint32_t choice, uint32_t *out_n,
                            bool *out_finished);
/* Items the ring can still take for this epoch; marks the stream starved when fewer than `want`.
 * `want` for a producer that lost the request or a request that was cancelled: its push says so.
 * want is at most 48, what the smallest empty ring can take. */
uint32_t stream_room(struct request *r, uint32_t epoch, uint32_t want);
/* Whether the producer waits for room: the consumer takes nothing. */
bool stream_starved(struct request *r);
/* ECANCELLED: cancelled, another epoch, or that choice is finished; the item is dropped. EFULL only
 * for items without a finish. Keeps trace.first_token_us and last_token_us. */
MUST_CHECK int stream_push(struct request *r, uint32_t epoch, const struct stream_item *item,
                           struct waker_set *touched);
/* The same, noting the gap before the token in the request's trace; NULL: none. */
MUST_CHECK int stream_push_gap(struct request *r, uint32_t epoch, const struct stream_item *item,
                               const struct trace_gap *gap, struct waker_set *touched);
/* Finishes every unfinished choice with FINISH_ERROR (or FINISH_ABORT for ECANCELLED) and the
 * error. Always succeeds: the ring keeps one slot per choice in reserve for it. */
void stream_fail(struct request *r, uint32_t epoch, const struct err *why,
                 struct waker_set *touched);
/* The scores of the next prompt token without any: [scores.n_each], and the token's rank.
 * ECANCELLED: another epoch. The prompt's are complete before the first item is pushed. */
MUST_CHECK int stream_push_score(struct request *r, uint32_t epoch,
                                 const struct token_logprob *logprobs, uint32_t rank);
/* How many prompt tokens need no score any more (scores.n); all of them when none are wanted. */
uint32_t stream_n_scored(struct request *r);
/* Consumer: moves up to max items to out; wakes a starved producer. Their logprobs are NULL. */
uint32_t stream_pull(struct request *r, struct stream_item *out, uint32_t max);
/* The same with the logprobs: they are copied to [max][n_logprobs], where the items point to. */
uint32_t stream_pull_logprobs(struct request *r, struct stream_item *out, uint32_t max,
                              struct token_logprob *logprobs);
/* Consumer: copies the error; false when there is none. */
bool stream_error(struct request *r, struct err *out);

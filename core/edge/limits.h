/* limits.h - what a key may use: requests and tokens per minute, requests at a time.
 *
 * A bucket holds what may be used in a minute, fills evenly within one, and is full at first. All that
 * there is to know of it is the moment at which it will be full again:
 *
 *   full_at <= now              full
 *   full_at - now = 15 s        three quarters are left
 *   full_at - now > 60 s        in debt: more was used than had been reserved
 *
 * so that taking is one compare-and-swap and no lock, a refusal knows exactly when it would not be one,
 * and when a limit changes the share that was used stays used.
 *
 * A request's life: key_enter (counts it) -> key_reserve (its prompt is tokenized) -> key_settle (what
 * it used in the end) -> key_leave. A hold remembers what is to be given back; zeroed, it holds nothing
 * and every function is without effect.
 *
 * Thread  buckets and uses: any; a hold: one at a time.
 * Source  the generic cell rate algorithm, ITU-T I.371 annex A, in its virtual scheduling form. */
#pragma once
#include <stdatomic.h>

#include "core/util/base.h"
#include "core/util/buf.h"

enum {
    LIMIT_MAX_PER_MINUTE = 100000000, /* what 64 bits of nanoseconds allow for */
    LIMIT_OUTPUT_RESERVE = 1024,      /* tokens of an answer that are reserved at most */
};

struct bucket {
    atomic_ullong full_at_ns; /* monotonic */
};

/* Takes n. 0: taken; else nothing was, and in so many nanoseconds it will fit; UINT64_MAX: never, as it
 * is more than the bucket holds. per_minute: 1 to LIMIT_MAX_PER_MINUTE, here and below. */
uint64_t bucket_take(struct bucket *b, uint32_t per_minute, uint64_t n, uint64_t now_ns);
/* Corrects `reserved` that was taken to what was used: gives back, or takes into debt. */
void bucket_settle(struct bucket *b, uint32_t per_minute, uint64_t reserved, uint64_t used,
                   uint64_t now_ns);
/* Whole ones that are left; 0 in debt. */
uint32_t bucket_left(const struct bucket *b, uint32_t per_minute, uint64_t now_ns);
/* Until it is full. */
uint64_t bucket_refill_ns(const struct bucket *b, uint64_t now_ns);

/* What is configured; 0: no limit. */
struct key_limits {
    uint32_t requests_per_minute, tokens_per_minute, max_concurrent;
};

enum limit_kind { LIMIT_NONE, LIMIT_REQUESTS, LIMIT_TOKENS, LIMIT_CONCURRENT, N_LIMITS };

/* What a key uses, and has used. */
struct key_use {
    struct bucket requests, tokens;
    atomic_uint n_running;
    atomic_ullong n_requests, n_prompt_tokens, n_output_tokens; /* of requests that are over */
    atomic_ullong n_limited[N_LIMITS];                          /* refusals */
};

struct key_hold {
    struct key_use *use; /* NULL: nothing is held */
    const struct key_limits *limits;
    bool counted; /* in the bucket of requests */
    bool settled;
    uint64_t reserved; /* tokens */
};

struct limit_refusal {
    enum limit_kind kind;
    uint64_t wait_ns; /* UINT64_MAX: it will never fit */
};

/* What a request asks for: prompt tokens over all prompts, and at most so many of each of n answers. */
struct key_demand {
    uint64_t n_prompt, n_choices, max_tokens;
};

/* Both arguments outlive the hold. False: nothing is held, and *why says what for. */
bool key_enter(struct key_hold *h, struct key_use *use, const struct key_limits *limits,
               uint64_t now_ns, struct limit_refusal *why);
/* The prompts, and LIMIT_OUTPUT_RESERVE of each answer or what it may have; of answers no more than fits
 * beside the prompts. False: no tokens are held. What an earlier call reserved is given back first. */
bool key_reserve(struct key_hold *h, const struct key_demand *d, uint64_t now_ns,
                 struct limit_refusal *why);
/* What was used instead of what was reserved. Once: afterwards nothing is reserved. */
void key_settle(struct key_hold *h, uint64_t n_prompt, uint64_t n_output, uint64_t now_ns);
/* Nothing was done for the request: it is not counted either. */
void key_give_back(struct key_hold *h, uint64_t now_ns);
/* The request is over. What is still reserved is given back. */
void key_leave(struct key_hold *h, uint64_t now_ns);

/* A time as OpenAI's x-ratelimit-reset-* have it, rounded up: "120ms", "1.5s", "6m0s". */
void limit_format_reset(uint64_t ns, struct buf *out);

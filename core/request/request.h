/* request.h - one generation request, from admission to its last token.
 *
 * The edge builds it (single-threaded, in its own arena), then hands a reference to the router.
 * After router_submit() everything is read-only except `stream`, `cancelled` and `trace`.
 *
 * Memory  reference counted; the arena goes with the last reference.
 * Thread  refs and cancelled are atomic; stream and trace are guarded by stream.mu. */
#pragma once
#include <stdatomic.h>

#include "core/request/stream.h"
#include "core/request/trace.h"
#include "core/util/arena.h"
#include "core/util/base.h"

struct dispatch;
struct route_record;

struct logit_bias {
    uint32_t token;
    float bias; /* added to the logit */
};

/* Tokens that must not follow each other: after all but the last, the last is forbidden. */
struct token_run {
    const uint32_t *ids; /* [n], n >= 1 */
    uint32_t n;
};

enum { MAX_TOP_LOGPROBS = 20, MAX_LOGPROB_IDS = 128 };

struct logprobs_wanted {
    bool on;        /* of each token itself, */
    uint32_t n_top; /* and of so many that were most likely in its place: <= MAX_TOP_LOGPROBS */
};

struct sampling_params {
    float temperature;        /* 0: greedy */
    float top_p;              /* (0, 1]; 1: off */
    float min_p;              /* [0, 1]; 0: off */
    uint32_t top_k;           /* 0: off */
    float presence_penalty;   /* [-2, 2], over output tokens */
    float frequency_penalty;  /* [-2, 2], over output tokens */
    float repetition_penalty; /* > 0, over prompt and output; 1: off */
    uint64_t seed;            /* always set: the edge draws one when the client gave none */
    uint32_t n;               /* choices */
    uint32_t max_tokens;      /* >= 1, already clamped to the context */
    bool max_tokens_yields;   /* nobody asked for so many: fewer where the KV cache takes no more */
    uint32_t min_tokens;      /* eos and stop ids are suppressed before */
    bool ignore_eos;
    const struct logit_bias *logit_bias; /* [n_logit_bias] */
    uint32_t n_logit_bias;
    const uint32_t *eos_ids; /* [n_eos_ids] end silently: stop_reason null */
    uint32_t n_eos_ids;
    const uint32_t *stop_ids; /* [n_stop_ids] the client's: stop_reason is the id */
    uint32_t n_stop_ids;
    const uint32_t *allowed_ids; /* [n_allowed_ids] nothing else is generated; 0: anything may be */
    uint32_t n_allowed_ids;
    const struct token_run *bad_words; /* [n_bad_words] are not generated */
    uint32_t n_bad_words;

    /* What is told of tokens: natural logarithms of probabilities by the model's own logits,
     * before anything above changes them. */
    struct logprobs_wanted logprobs;
    const uint32_t *logprob_ids; /* [n_logprob_ids] of generated tokens: of these, too;
                                  * n_logprob_ids <= MAX_LOGPROB_IDS */
    uint32_t n_logprob_ids;
    struct logprobs_wanted prompt_logprobs;
};

/* How many logarithms are told of a generated token, respectively one of the prompt. */
static inline uint32_t sampling_n_logprobs(const struct sampling_params *p)
{
    return p->logprobs.on ? 1 + p->logprobs.n_top + p->n_logprob_ids : 0;
}
static inline uint32_t sampling_n_scores(const struct sampling_params *p)
{
    return p->prompt_logprobs.on ? 1 + p->prompt_logprobs.n_top : 0;
}

struct request {
    /* What each token needs, side by side: it is cold memory every time. */
    atomic_uint refs;
    atomic_bool cancelled;
    void *consumer; /* the edge thread's own; no other thread looks at it */
    struct stream stream;
    struct arena arena;
    const char *id;         /* "chatcmpl-..." */
    const char *model;      /* canonical name */
    uint64_t generation;    /* of the model, whose tokenizer made the prompt; 0: the newest */
    const char *key_name;   /* of the bearer key, "" without keys */
    const uint32_t *prompt; /* [n_prompt] */
    uint32_t n_prompt;      /* >= 1 */
    struct sampling_params sampling;
    int64_t priority;     /* lower first */
    uint64_t session;     /* request_session() of what it belongs to; 0: nothing */
    uint64_t cache_salt;  /* enters the first prefix-cache hash: different salts share nothing */
    uint64_t arrival_us;  /* first byte handled by the edge */
    const char *trace_id; /* of a trace that is recorded; NULL: none */
    struct request_trace trace;
    struct dispatch *dispatch;   /* the router's own, under its lock; NULL: not with it */
    struct route_record *record; /* likewise, but it stays (in the arena); NULL: never submitted */
};

/* A request with one reference. The stream is set up by stream_init() once n is known. */
MUST_CHECK int request_new(struct request **out);
struct request *request_ref(struct request *r);
void request_unref(struct request *r); /* NULL is fine */

/* What stands for a session's name; never 0. */
uint64_t request_session(const char *name);

/* Tells the producer to stop; its sequences are freed at the next step. Idempotent; any thread. */
void request_cancel(struct request *r);
static inline bool request_is_cancelled(struct request *r)
{
    return atomic_load_explicit(&r->cancelled, memory_order_relaxed);
}

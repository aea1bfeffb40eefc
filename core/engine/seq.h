/* seq.h - one request at one worker, and the sequences (choices) that it generates.
 *
 *                 admit                    prompt computed
 *     WAITING ------------> PREFILL ------------------------> DECODE
 *        ^  ^                  |  |                            |  |
 *        |  |   pool dry       |  |        pool dry            |  |
 *        |  +------------------+--+----------------------------+  |
 *        |                        |                               |
 *        |   room                 |  no room in the stream        |
 *        +----------- PAUSED <----+-------------------------------+      any -> DONE
 *
 * Tokens 0 .. n_prompt-1 are the prompt (borrowed from the request), the rest is the output. The
 * keys and values of the first n_computed are in the blocks of the table. A sequence whose blocks
 * were taken away (n_computed = 0) computes prompt and output anew and goes on where it was: the
 * sampler's counter is the number of tokens generated.
 *
 * Invariants  I1: n_computed < n_known while not DONE: the last known token is still to be fed.
 *             I2: n_computed <= n_blocks * KV_BLOCK_TOKENS.
 *             I3: the first n_indexed blocks are those that the prefix cache knows;
 *                 n_indexed == n_computed / KV_BLOCK_TOKENS between two steps.
 * Thread      built by the submitter, then confined to the worker; the links of the inbox and of
 *             the poke list are guarded by the inbox's lock.
 * Memory      all of it is taken by seq_group_new (on the submitter's thread). The group holds a
 *             reference of the request; sampling parameters, prompt and output are borrowed from
 *             it. Output that an earlier worker pushed is gone on from. */
#pragma once
#include "core/backend/batch.h"
#include "core/request/request.h"
#include "core/util/base.h"
#include "core/util/err.h"

struct plan_entry;
struct sampler;
struct seq_group;
struct worker;

enum seq_state { SEQ_WAITING, SEQ_PREFILL, SEQ_DECODE, SEQ_PAUSED, SEQ_DONE };

struct seq {
    struct seq_group *group;
    struct sampler *sampler; /* NULL when the device samples, and when DONE */
    uint64_t tag;            /* of batch_seq: follows from prompt, seed and choice alone */
    uint32_t choice;
    enum seq_state state;
    uint32_t n_known;    /* tokens of prompt and output so far */
    uint32_t n_computed; /* tokens whose keys and values are in the blocks */
    uint32_t n_adopted;  /* prompt tokens found in the prefix cache before the first output */
    uint32_t n_planned;  /* rows of the step under way */
    struct plan_entry
        *ahead;       /* its entry in a step that follows and was not computed yet; NULL: none */
    bool behind_twin; /* in the plan under way: another computes its next block */
    const uint32_t *output; /* [max_output], n_known - n_prompt in use: what the stream keeps */
    uint32_t *blocks;       /* [ceil((n_prompt + max_output) / KV_BLOCK_TOKENS)] */
    uint32_t n_blocks;
    uint32_t n_indexed;
    uint64_t last_token_us;
    uint64_t last_step;                    /* that gave it; of the worker's steps */
    bool was_paused, was_preempted;        /* since then */
    struct seq *next_waiting;              /* in the group's list */
    uint32_t n_counted;                    /* what it adds to sched.n_waiting_tokens */
    struct seq *parked_prev, *parked_next; /* not running, but holding blocks */
    bool parked;
    bool preempted; /* once at least */
};

struct seq_group {
    struct request *req; /* one reference */
    struct worker *worker;
    uint32_t epoch; /* of the stream; before the worker has attached: of its submission */
    uint64_t id;    /* order of acceptance, breaks ties of arrival */
    uint32_t n_prompt;
    uint32_t max_output; /* of each sequence */
    uint32_t n_seqs;
    uint32_t n_live;     /* not DONE */
    struct seq *leader;  /* the first that was live: computes the prompt for the others */
    bool started;        /* the worker's router was told that it is scheduled */
    uint32_t n_scored;   /* prompt tokens that need no score (any more), since sched_add() */
    uint32_t room;       /* items that the stream is known to take beyond: */
    uint32_t n_reserved; /* tokens that the steps under way will give */

    /* The leader computes the prompt, then the others find it in the prefix cache. */
    bool prompt_ready;
    bool queued; /* in the scheduler's queue: first_waiting is not NULL */
    struct seq *first_waiting, *last_waiting;

    /* clock_now_us(), 0 while it has not happened */
    uint64_t queued_us, scheduled_us, first_token_us, last_token_us;

    struct seq_group *prev, *next; /* all groups of the scheduler */
    bool over;                     /* its stream has all that it will get */
    struct seq_group *over_next;   /* among those to be freed after the step */
    struct seq_group *inbox_next;  /* guarded by the inbox's lock, as are: */
    struct seq_group *poke_prev, *poke_next;
    bool poked;
    struct seq seqs[]; /* [n_seqs] */
};

/* What a request is checked against and its sequences are made for. */
struct seq_limits {
    uint32_t vocab_size;
    uint32_t max_model_len;
    uint32_t n_kv_blocks;
    bool samplers;   /* give each sequence a sampler */
    bool has_logits; /* the host sees all logits: anything may be asked of them */
};

/* Takes a reference of the request. ETOOBIG: can never fit the pool; ECONTEXT: no room for one
 * token; EINVAL: a token outside the vocabulary; ENOMEM. */
MUST_CHECK int seq_group_new(struct request *r, const struct seq_limits *limits,
                             struct seq_group **out, struct err *e);
void seq_group_free(struct seq_group *g); /* holds no blocks any more; NULL is fine */

/* Tokens i .. i + n - 1 of prompt and output. */
void seq_copy_tokens(const struct seq *s, uint32_t i, uint32_t n, uint32_t *out);

static inline uint32_t seq_n_generated(const struct seq *s)
{
    return s->n_known - s->group->n_prompt;
}

/* The first row whose logits score the next prompt token; UINT32_MAX when it has none to give. */
static inline uint32_t seq_first_score_row(const struct seq *s)
{
    const struct seq_group *g = s->group;
    return s == g->leader && g->n_scored < g->n_prompt ? g->n_scored - 1 : UINT32_MAX;
}

static inline bool seq_is_running(const struct seq *s)
{
    return s->state == SEQ_PREFILL || s->state == SEQ_DECODE;
}

static inline uint32_t blocks_for(uint32_t n_tokens)
{
    return n_tokens / KV_BLOCK_TOKENS + (n_tokens % KV_BLOCK_TOKENS != 0);
}

/* Rows to compute before the next token can be sampled. */
static inline uint32_t seq_n_todo(const struct seq *s)
{
    return s->n_known - s->n_computed;
}

/* Says in *out what the stream gets for a sampled token: finish and hidden are set when the
 * sequence ends with it. When the stream took it (and keeps it), seq_accept() counts it in. */
void seq_next_item(const struct seq *s, uint32_t token, struct stream_item *out);
void seq_accept(struct seq *s, uint32_t token);

/* The order of all waiting and running sequences: priority, then arrival, then choice. */
bool seq_group_before(const struct seq_group *a, const struct seq_group *b);
bool seq_before(const struct seq *a, const struct seq *b);

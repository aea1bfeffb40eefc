/* decision.h - which worker a request goes to, as a pure function of a record that says why.
 *
 * The router fills a record with all that it knows of each worker; decision_make() adds the costs,
 * the choice and the reason. Nothing else enters: the same record gives the same choice again, so
 * a log of records can be replayed (decision_replay) and every choice explained.
 *
 * Costs, in prompt tokens still to compute (prefill tokens):
 *   prefix        J = Q + U (1 + p + alpha d) + delta (p + d)
 *                   Q  tokens that the worker owes to others before this request has its turn
 *                   U  tokens of this prompt that it neither holds nor is about to hold, >= 1
 *                   p  requests there that wait or prefill: U delays their first token
 *                   d  requests there that decode: U delays their next token, which matters alpha
 *                      times as much
 *                   delta  what one more sequence costs the others over its whole answer
 *   least_loaded  Q + delta (p + d)
 *   roundrobin    0: the least recently chosen
 *   session       by rendezvous hashing of the session over the workers that can take it, so that
 *                 a worker's end moves its own sessions only; without a session: least_loaded
 * The least cost wins, then the least recently chosen, then the lowest index. A worker that is only
 * behind with its prefill (BAR_BACKLOG) competes as well, but under roundrobin: Q is in its cost. If
 * it wins all the same, the request waits for it and nobody gets it now. step_us enters no cost: it is
 * there for who asks why a worker was slow.
 *
 * Thread  pure functions.
 * Source  the form of J and its constants: the simulation described in README.md of this folder;
 *         rendezvous hashing: Thaler and Ravishankar, 1998. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

enum { DECISION_CANDIDATES = 64 }; /* at most */

enum route_policy { ROUTE_PREFIX, ROUTE_ROUNDROBIN, ROUTE_SESSION, ROUTE_LEAST_LOADED };
const char *route_policy_name(enum route_policy p);
/* By name, with "kvaware" for prefix; false when there is none. */
bool route_policy_find(const char *name, enum route_policy *out);

/* Why a worker cannot take the request now. */
enum route_bar {
    BAR_NONE,
    BAR_STATE,    /* not ready, draining or dead */
    BAR_DRAINED,  /* taken out of service */
    BAR_SUSPECT,  /* seems to stall, and there is another */
    BAR_REFUSES,  /* it refused a request since its last report */
    BAR_EXCLUDED, /* it lost this request before */
    BAR_TOO_BIG,  /* its KV cache can never hold it */
    BAR_SEQS,     /* max_num_seqs are there */
    BAR_KV,       /* its KV cache has no room for it now */
    BAR_BACKLOG,  /* it owes prefill enough for two steps: the request is bound later */
};
const char *route_bar_text(enum route_bar b);
bool route_bar_find(const char *text, enum route_bar *out); /* false: no such text */

struct candidate {
    uint32_t worker;          /* index within the process */
    enum route_bar bar;       /* BAR_NONE: it can take the request */
    uint64_t n_owed_tokens;   /* Q */
    uint32_t n_cached_tokens; /* of this prompt: held there, or promised by a request before */
    uint32_t n_held_tokens;   /* held there; <= n_cached_tokens */
    uint32_t n_prefilling;    /* p */
    uint32_t n_decoding;      /* d */
    uint32_t step_us;         /* what a step of it that only decodes took of late; 0: not known */
    uint64_t last_chosen;     /* number of the decision that chose it last; 0: none */
    double cost;              /* set by decision_make */
};

enum route_reason {
    REASON_NONE,         /* no worker can take it now */
    REASON_BACKLOG,      /* waiting for a worker that is behind is better than any other */
    REASON_ONLY,         /* no other could */
    REASON_CACHED,       /* holds the most of the prompt */
    REASON_LOAD,         /* another holds more of it, but has more to do */
    REASON_LEAST_LOADED, /* nobody holds more; this one has the least to do */
    REASON_TURN,         /* equal to others, its turn */
    REASON_SESSION,      /* the session lives there */
    REASON_COUNT
};
const char *route_reason_name(enum route_reason r);               /* one word, for metrics */
bool route_reason_find(const char *name, enum route_reason *out); /* false: no such name */

struct decision {
    uint64_t number; /* of the model's decisions, from 1 */
    uint64_t at_us;
    enum route_policy policy;
    uint32_t n_prompt_tokens;
    bool has_session;
    uint64_t session; /* hash of its name */
    double alpha, delta;

    int32_t chosen;  /* index into candidates; -1: none */
    int32_t awaited; /* with REASON_BACKLOG: index of the worker that is behind; else -1 */
    enum route_reason reason;
    uint32_t n_candidates;
    struct candidate candidates[];
};

/* Of a record with so many candidates. */
size_t decision_bytes(uint32_t n_candidates);
/* Fills cost, chosen, awaited and reason. */
void decision_make(struct decision *d);
/* True when making it again gives what it says: for records that were kept. */
bool decision_replay(const struct decision *d);
/* "worker 1: 2048 of 2100 prompt tokens cached there" */
void decision_explain(const struct decision *d, struct buf *out);

/* The record as one JSON object: every input as the decision saw it (a double reads back as the
 * same), costs, choice, reason as a word and in words. */
void decision_add_json(const struct decision *d, struct buf *out);
/* The same without the braces, for an object that says more. */
void decision_add_members(const struct decision *d, struct buf *out);
/* Such an object back; other members are passed over. The caller frees *out. Whether it is what
 * decision_make() would give is decision_replay()'s business. Errors: EPARSE names the member. */
MUST_CHECK int decision_from_json(const char *text, size_t n, struct decision **out, struct err *e);

/* measure.h - what a run measured.
 *
 *   TTFT   due time -> first piece of text (open loop: the time at which the request was due, so that a
 *          client that comes late does not make the server look better)
 *   ITL    gap between two pieces of text of one answer, all gaps pooled
 *   TPOT   (last piece - first piece) / (tokens - 1), per request
 *   E2E    due time -> end of the answer
 *
 * Only answers that came whole count; the others are counted by what became of them. Tokens are
 * those of the server's usage, else pieces of text. */
#pragma once
#include "core/bench/histogram.h"
#include "core/util/base.h"
#include "core/util/err.h"

enum outcome {
    OUTCOME_OK,
    OUTCOME_CONNECT,   /* no connection */
    OUTCOME_STATUS,    /* an HTTP status other than 2xx */
    OUTCOME_TIMEOUT,   /* not whole in time */
    OUTCOME_BROKEN,    /* the connection ended in the middle */
    OUTCOME_EVENT,     /* the server reported an error in its stream */
    OUTCOME_MALFORMED, /* no HTTP, no JSON, or no text at all */
    OUTCOME_CANCELLED, /* by us, at Ctrl-C */
    N_OUTCOMES,
};

enum { MEASURE_STATUSES = 8, MEASURE_MESSAGE = 200 };

/* Bounds of a service level; 0: none. */
struct slo {
    uint64_t ttft_us, itl_us, tpot_us, e2e_us; /* itl: the longest gap of the request */
};

/* One request that is over. */
struct sample {
    enum outcome outcome;
    int status;          /* OUTCOME_STATUS */
    const char *message; /* of a failure; borrowed */
    uint64_t ttft_us, e2e_us;
    uint64_t text_us;     /* first to last piece */
    const uint32_t *gaps; /* [n_gaps] us, borrowed */
    uint32_t n_gaps;
    uint32_t n_pieces;
    bool has_usage;
    uint32_t prompt_tokens, cached_tokens, completion_tokens;
};

struct measure {
    struct histogram ttft, itl, tpot, e2e;
    struct histogram late; /* open loop: start of a request after its due time */
    uint64_t n[N_OUTCOMES];
    struct {
        int status;
        uint64_t n;
    } statuses[MEASURE_STATUSES]; /* the last one collects the rest, status 0 */
    uint32_t n_statuses;
    char messages[N_OUTCOMES][MEASURE_MESSAGE]; /* the first of each kind */
    uint64_t n_with_usage;
    uint64_t prompt_tokens, cached_tokens, output_tokens; /* of whole answers */
    uint64_t n_pieces, n_bytes;                           /* received, of all answers */
    struct slo slo;
    uint64_t n_good;          /* whole answers within the service level */
    uint64_t wall_us, cpu_us; /* of the run; of this process */
    uint32_t peak;            /* requests at once */
};

/* "ttft:200ms,itl:50ms,tpot:40ms,e2e:5s" in any selection. EINVAL. */
MUST_CHECK int slo_parse(struct slo *s, const char *text, struct err *e);
void measure_add(struct measure *m, const struct sample *s);
/* Requests that are over but for the cancelled ones; those of them that failed. */
uint64_t measure_ended(const struct measure *m);
uint64_t measure_failed(const struct measure *m);
/* n per second of the run; 0 for an empty one. */
double measure_per_s(const struct measure *m, uint64_t n);
/* "connect", "status", ...: for machines; and in words for people. */
const char *outcome_name(enum outcome o);
const char *outcome_text(enum outcome o);

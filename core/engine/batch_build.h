/* batch_build.h - turns a plan into the flat arrays that backends take (core/backend/batch.h).
 *
 * Thread  confined to its worker.
 * Memory  taken by init; the batch borrows it until the next build. */
#pragma once
#include "core/backend/backend.h"
#include "core/backend/batch.h"
#include "core/engine/sched.h"

struct batch_build {
    struct batch batch;
    uint32_t *tokens, *positions, *slots; /* [max_rows] */
    struct batch_seq *seqs;               /* [max_seqs] */
    uint32_t *out_rows;                   /* [max_seqs] */
    struct sample_row *sample_rows;       /* [max_seqs], plan.n_out in use */
    uint32_t *out_ids;                    /* [max_seqs] a token for each of them */
    struct sample_bias *forced;           /* [max_seqs] of those that score prompts */
    struct sample_logprobs *logprobs;     /* [max_seqs] of those that want them of the device */
};

MUST_CHECK int batch_build_init(struct batch_build *b, uint32_t max_rows, uint32_t max_seqs);
void batch_build_fini(struct batch_build *b); /* a zeroed one is fine */
/* Entries keep their order; each has n_scores rows of the logits, then one if it wants a token. */
const struct batch *batch_build_plan(struct batch_build *b, const struct plan *p);

#include "core/engine/batch_build.h"

#include <math.h>
#include <stdlib.h>

#include "core/engine/sampler.h"
#include "core/util/err.h"

int batch_build_init(struct batch_build *b, uint32_t max_rows, uint32_t max_seqs)
{
    *b = (struct batch_build){
        .tokens = calloc(max_rows, sizeof(*b->tokens)),
        .positions = calloc(max_rows, sizeof(*b->positions)),
        .slots = calloc(max_rows, sizeof(*b->slots)),
        .seqs = calloc(max_seqs, sizeof(*b->seqs)),
        .out_rows = calloc(max_seqs, sizeof(*b->out_rows)),
        .sample_rows = calloc(max_seqs, sizeof(*b->sample_rows)),
        .out_ids = calloc(max_seqs, sizeof(*b->out_ids)),
        .forced = calloc(max_seqs, sizeof(*b->forced)),
        .logprobs = calloc(max_seqs, sizeof(*b->logprobs)),
    };
    if (b->tokens && b->positions && b->slots && b->seqs && b->out_rows && b->sample_rows &&
        b->out_ids && b->forced && b->logprobs)
        return 0;
    batch_build_fini(b);
    return -LLMD_ENOMEM;
}

void batch_build_fini(struct batch_build *b)
{
    free(b->tokens);
    free(b->positions);
    free(b->slots);
    free(b->seqs);
    free(b->out_rows);
    free(b->sample_rows);
    free(b->out_ids);
    free(b->forced);
    free(b->logprobs);
    *b = (struct batch_build){0};
}

/* Where the entry's rows begin: behind the token that a step under way gives, when it follows that. */
static uint32_t first_pos(const struct plan *p, const struct seq *q)
{
    return p->follows ? q->n_known : q->n_computed;
}

static void add_rows(struct batch_build *b, const struct plan *p, const struct plan_entry *entry,
                     uint32_t first_row)
{
    const struct seq *q = entry->seq;
    const uint32_t first = first_pos(p, q);
    if (p->follows)
        b->tokens[first_row] = entry->after;
    else
        seq_copy_tokens(q, first, entry->n_rows, b->tokens + first_row);
    for (uint32_t i = 0; i < entry->n_rows; i++) {
        uint32_t pos = first + i;
        b->positions[first_row + i] = pos;
        b->slots[first_row + i] =
            q->blocks[pos / KV_BLOCK_TOKENS] * KV_BLOCK_TOKENS + pos % KV_BLOCK_TOKENS;
    }
}

/* Where the device is to put what the model thinks of row n's token. */
static struct sample_logprobs *want_logprobs(struct batch_build *b, uint32_t n,
                                             const struct logprobs_wanted *wanted)
{
    if (!wanted->on)
        return NULL;
    b->logprobs[n].n_top = wanted->n_top;
    return &b->logprobs[n];
}

/* Row n of the logits scores a prompt token: a device that samples by itself is made to choose it. */
static void add_score(struct batch_build *b, uint32_t n, const struct seq *q, uint32_t position)
{
    const struct request *r = q->group->req;
    b->sample_rows[n] = (struct sample_row){.row = n, .tag = q->tag, .position = position};
    if (!q->sampler)
        return;
    b->forced[n] = (struct sample_bias){.token = r->prompt[position], .bias = INFINITY};
    b->sample_rows[n].how = (struct sample_how){
        .top_p = 1.0f, .repetition_penalty = 1.0f, .bias = &b->forced[n], .n_bias = 1};
    b->sample_rows[n].logprobs = want_logprobs(b, n, &r->sampling.prompt_logprobs);
}

/* Row n of the logits gives the next token, or the one after it. */
static void add_token(struct batch_build *b, uint32_t n, const struct seq *q, bool follows)
{
    b->sample_rows[n] =
        (struct sample_row){.row = n, .tag = q->tag, .position = q->n_known + follows};
    if (!q->sampler)
        return;
    sampler_describe(q->sampler, seq_n_generated(q) + follows, &b->sample_rows[n].how);
    b->sample_rows[n].logprobs = want_logprobs(b, n, &q->group->req->sampling.logprobs);
}

const struct batch *batch_build_plan(struct batch_build *b, const struct plan *p)
{
    uint32_t row = 0, n_out = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct plan_entry *entry = &p->entries[i];
        const struct seq *q = entry->seq;
        add_rows(b, p, entry, row);
        b->seqs[i] = (struct batch_seq){
            .first_row = row,
            .n_rows = entry->n_rows,
            .first_pos = first_pos(p, q),
            .block_table = q->blocks,
            .tag = q->tag,
        };
        row += entry->n_rows;
        for (uint32_t left = entry->n_scores; left > 0; left--) {
            const uint32_t at = row - left - entry->wants_token;
            b->out_rows[n_out] = at;
            add_score(b, n_out++, q, b->positions[at] + 1);
        }
        if (entry->wants_token) {
            b->out_rows[n_out] = row - 1;
            add_token(b, n_out++, q, p->follows);
        }
    }
    b->batch = (struct batch){
        .n_rows = row,
        .tokens = b->tokens,
        .positions = b->positions,
        .slots = b->slots,
        .n_seqs = p->n,
        .seqs = b->seqs,
        .n_out = n_out,
        .out_rows = b->out_rows,
        .follows = p->follows,
    };
    return &b->batch;
}

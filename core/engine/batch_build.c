#include "core/engine/batch_build.h"

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
    };
    if (b->tokens && b->positions && b->slots && b->seqs && b->out_rows && b->sample_rows &&
        b->out_ids)
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
    *b = (struct batch_build){0};
}

static void add_rows(struct batch_build *b, const struct seq *q, uint32_t first_row,
                     uint32_t n_rows)
{
    seq_copy_tokens(q, q->n_computed, n_rows, b->tokens + first_row);
    for (uint32_t i = 0; i < n_rows; i++) {
        uint32_t pos = q->n_computed + i;
        b->positions[first_row + i] = pos;
        b->slots[first_row + i] =
            q->blocks[pos / KV_BLOCK_TOKENS] * KV_BLOCK_TOKENS + pos % KV_BLOCK_TOKENS;
    }
}

const struct batch *batch_build_plan(struct batch_build *b, const struct plan *p)
{
    uint32_t row = 0, n_out = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct plan_entry *entry = &p->entries[i];
        const struct seq *q = entry->seq;
        add_rows(b, q, row, entry->n_rows);
        b->seqs[i] = (struct batch_seq){
            .first_row = row,
            .n_rows = entry->n_rows,
            .first_pos = q->n_computed,
            .block_table = q->blocks,
            .tag = q->tag,
        };
        row += entry->n_rows;
        if (entry->wants_token) {
            b->out_rows[n_out] = row - 1;
            b->sample_rows[n_out] =
                (struct sample_row){.row = n_out, .tag = q->tag, .position = q->n_known};
            if (q->sampler)
                sampler_describe(q->sampler, seq_n_generated(q), &b->sample_rows[n_out].how);
            n_out++;
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
    };
    return &b->batch;
}

/* batch.h - what one step of the engine computes: a ragged batch of prefill chunks and decodes.
 *
 * Rows are tokens; the rows of one sequence are adjacent and in order. Before attention runs, the
 * keys and values of all rows are written to their KV slots, so a row attends to every position
 * of its sequence up to and including its own.
 *
 * Memory  everything is borrowed for the length of the step; the engine's scratch owns it. */
#pragma once
#include "core/util/base.h"

enum {
    KV_BLOCK_TOKENS = 16,
    STEPS_IN_FLIGHT = 2, /* posted and not collected, at most (backend.h) */
};

struct batch_seq {
    uint32_t first_row;          /* in the batch */
    uint32_t n_rows;             /* 1 for a decode */
    uint32_t first_pos;          /* position of first_row; context is first_pos + n_rows */
    const uint32_t *block_table; /* [ceil((first_pos + n_rows) / KV_BLOCK_TOKENS)] block ids */
    uint64_t tag;                /* the engine's own mark; sim derives its tokens from it */
};

struct batch {
    uint32_t n_rows;
    const uint32_t *tokens;    /* [n_rows]; see follows */
    const uint32_t *positions; /* [n_rows] */
    const uint32_t *slots;     /* [n_rows] block id * KV_BLOCK_TOKENS + offset in the block */
    uint32_t n_seqs;
    const struct batch_seq *seqs; /* [n_seqs], by first_row */
    uint32_t n_out;
    const uint32_t *out_rows; /* [n_out] rows whose logits are wanted, ascending */
    /* Nobody knows the tokens yet (ops->post): row r takes what the step posted before samples from row
     * tokens[r] of its logits. All sequences have one row, and all rows' logits are wanted. */
    bool follows;
};

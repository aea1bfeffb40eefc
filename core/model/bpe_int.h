/* bpe_int.h - byte-level BPE: merges the bytes of one piece into tokens.
 *
 * A piece begins as one token per byte. Again and again the adjacent pair with the best (lowest)
 * merge rank, the leftmost of equals, becomes one token, until no pair has a merge. A byte that
 * the vocabulary cannot write is left out before, as Hugging Face `tokenizers` does.
 *
 * A short piece is scanned for its best pair after every merge; a long one keeps its ranks in a
 * tree of minima (bpe_long.c), so that time stays near-linear. Most pieces of real text are one token: those tokens that
 * merging yields from their own bytes are found by one look-up.
 *
 * Thread  immutable after bpe_init; struct bpe_scratch belongs to one call.
 * Source  Sennrich et al., arXiv:1508.07909, over bytes as in Radford et al. 2019. */
#pragma once
#include "core/model/vocab_int.h"

struct merge_slot {
    uint32_t left, right; /* left TEXT_NONE: empty */
    uint32_t rank;
};

struct bpe {
    uint32_t byte_ids[256]; /* TEXT_NONE: no token writes this byte */
    /* Open addressing over (left, right); at least half of the slots stay empty. */
    struct merge_slot *slots;
    uint32_t n_slots_log2;
    uint32_t *results; /* [n_merges] by rank: the token that the merge makes */
    /* The tokens of two bytes or more that merging yields from their own bytes. */
    struct text_index whole;
    size_t max_whole_bytes;
    const struct text_list *bytes; /* the vocabulary's */
};

/* Borrows v for its whole life. */
MUST_CHECK int bpe_init(struct bpe *b, const struct vocab *v, const struct tokenizer_spec *spec,
                        struct err *e);
void bpe_fini(struct bpe *b); /* a zeroed bpe is fine */

/* Working memory of long pieces, kept from piece to piece. Begins zeroed. */
struct bpe_scratch {
    void *mem;
    size_t cap_bytes;
};
void bpe_scratch_fini(struct bpe_scratch *sc);

/* Writes the tokens of piece s[0..n-1], at most n, to out_ids. n < 2^31. Errors: ENOMEM. */
MUST_CHECK int bpe_encode(const struct bpe *b, struct bpe_scratch *sc, const char *s, size_t n,
                          uint32_t out_ids[], size_t *out_n);

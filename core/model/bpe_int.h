/* bpe_int.h - BPE: merges the symbols of one piece into tokens.
 *
 * A piece begins as one token per symbol: of a byte-level vocabulary a byte, of a
 * SentencePiece-style one a character. Again and again the adjacent pair with the best (lowest)
 * merge rank, the leftmost of equals, becomes one token, until no pair has a merge. A symbol that
 * no token writes becomes the tokens of its bytes or the unknown token, where the vocabulary has
 * them; else it is left out before, as Hugging Face `tokenizers` does.
 *
 * A short piece is scanned for its best pair after every merge; a long one keeps its ranks in a
 * tree of minima (bpe_long.c), so that time stays near-linear. Most pieces of real text are one
 * token: those tokens that merging yields from their own symbols are found by one look-up.
 *
 * A SentencePiece-style piece may be a whole text. Where no merge makes a token with U+2581 behind
 * another character (none does in practice), it is merged word by word, which is the same.
 *
 * Thread  immutable after bpe_init; struct bpe_scratch belongs to one call.
 * Source  Sennrich et al., arXiv:1508.07909, over bytes as in Radford et al. 2019; scores: Kudo
 *         and Richardson, arXiv:1808.06226. */
#pragma once
#include "core/model/vocab_int.h"

#define BPE_MAX_SCORED_BYTES 512 /* longest token of a vocabulary with scores */

struct merge_slot {
    uint32_t left, right; /* left TEXT_NONE: empty */
    uint32_t rank;
};

struct bpe {
    const struct vocab *vocab;
    /* The texts that pieces are made of: of a byte-level vocabulary the bytes of the tokens, of
     * the other kind their written forms. */
    const struct text_list *texts;
    bool by_characters;      /* SentencePiece-style */
    bool cut_at_spaces;      /* merges never reach back across U+2581 */
    bool ignore_merges;      /* a piece that is a token becomes it */
    bool byte_fallback;      /* byte_ids are fallen back to */
    bool fuse_unk;           /* a run of unknown symbols is one token */
    uint32_t unk_id;         /* TEXT_NONE: unknown symbols are left out */
    uint32_t space_id;       /* of U+2581, or TEXT_NONE */
    uint32_t byte_ids[256];  /* TEXT_NONE: no token writes this byte */
    uint32_t ascii_ids[128]; /* by_characters: the tokens of single characters */
    /* Open addressing over (left, right); at least half of the slots stay empty. */
    struct merge_slot *slots;
    uint32_t n_slots_log2;
    /* [n_ranks] by rank: the token that the merge makes. TEXT_NONE: several tokens share the
     * rank, and the joined text tells which. */
    uint32_t *results;
    /* The tokens of two bytes or more that merging yields from their own symbols; where merges
     * are ignored, all those that a piece can be. */
    struct text_index whole;
    size_t max_whole_bytes;
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

/* Length in bytes (1..n) of the first part of a piece s[0..n-1], n > 0, whose parts may be merged
 * one after the other. A byte-level piece is one part. */
size_t bpe_part(const struct bpe *b, const char *s, size_t n);
/* The token that a whole piece is, without merging, where merges are ignored; else TEXT_NONE. */
uint32_t bpe_unmerged(const struct bpe *b, const char *s, size_t n);
/* Writes the tokens of the part s[0..n-1], at most n, to out_ids. n < 2^31. Errors: ENOMEM. */
MUST_CHECK int bpe_encode(const struct bpe *b, struct bpe_scratch *sc, const char *s, size_t n,
                          uint32_t out_ids[], size_t *out_n);

/* bpe_merge_int.h - what the files of the encoder share: symbols, the merge table, long pieces. */
#pragma once
#include "core/model/bpe_int.h"

#define BPE_MAX_MERGES (1u << 26)

/* Reads the merges of the spec, or makes them of its scores, into b->slots and b->results. On
 * failure bpe_fini cleans up. */
MUST_CHECK int bpe_merges_init(struct bpe *b, const struct vocab *v,
                               const struct tokenizer_spec *spec, struct err *e);
MUST_CHECK int bpe_scores_init(struct bpe *b, const struct vocab *v,
                               const struct tokenizer_spec *spec, struct err *e);
/* Room for n_merges slots, all empty, and n_ranks results. false: no memory. */
MUST_CHECK bool bpe_table_alloc(struct bpe *b, uint32_t n_merges, uint32_t n_ranks);

/* b->byte_ids, ascii_ids and space_id. */
void bpe_symbols_init(struct bpe *b);
/* Writes the tokens that the symbols of s[0..n-1] begin as, at most n; returns their number. */
size_t bpe_symbols(const struct bpe *b, const char *s, size_t n, uint32_t out_ids[]);

/* The slot of the pair, or the empty one where it belongs. */
static inline struct merge_slot *merge_probe(const struct bpe *b, uint32_t left, uint32_t right)
{
    uint32_t mask = (1u << b->n_slots_log2) - 1;
    uint64_t key = (uint64_t)left << 32 | right;
    uint32_t k = (uint32_t)((key * 0x9e3779b97f4a7c15u) >> (64 - b->n_slots_log2));
    while (b->slots[k].left != TEXT_NONE &&
           (b->slots[k].left != left || b->slots[k].right != right))
        k = (k + 1) & mask;
    return &b->slots[k];
}

/* Rank of the merge of the pair, or TEXT_NONE: an empty slot's rank. */
static inline uint32_t merge_rank(const struct bpe *b, uint32_t left, uint32_t right)
{
    return merge_probe(b, left, right)->rank;
}

/* The token of the joined texts of two tokens, which a merge of theirs makes. */
uint32_t bpe_joined(const struct bpe *b, uint32_t left, uint32_t right);

/* The token that the pair with this rank becomes. */
static inline uint32_t merge_result(const struct bpe *b, uint32_t rank, uint32_t left,
                                    uint32_t right)
{
    uint32_t id = b->results[rank];
    return LIKELY(id != TEXT_NONE) ? id : bpe_joined(b, left, right);
}

/* Room for n_bytes in sc->mem; what was there is lost. */
bool bpe_scratch_reserve(struct bpe_scratch *sc, size_t n_bytes);
/* Merges ids[0..n-1] in place, 0 < n < 2^31. Errors: ENOMEM. */
MUST_CHECK int bpe_merge_long(const struct bpe *b, struct bpe_scratch *sc, uint32_t ids[], size_t n,
                              size_t *out_n);

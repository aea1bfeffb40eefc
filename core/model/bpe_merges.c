/* bpe_merges.c - the merge table of a vocabulary. */
#include <stdlib.h>
#include <string.h>

#include "core/model/bpe_int.h"
#include "core/model/bpe_merge_int.h"

static struct merge_pair pair_at(const struct tokenizer_spec *spec, uint32_t rank, bool *out_sound)
{
    struct merge_pair p = {{NULL, 0}, {NULL, 0}};
    *out_sound = true;
    if (spec->merge_pairs)
        return spec->merge_pairs[rank];
    const struct token_text *m = &spec->merges[rank];
    const char *space = m->n > 0 ? memchr(m->s, ' ', m->n) : NULL;
    *out_sound = space;
    if (space) {
        p.left = (struct token_text){m->s, (size_t)(space - m->s)};
        p.right = (struct token_text){space + 1, m->n - p.left.n - 1};
    }
    return p;
}

static int bad_merge(const struct tokenizer_spec *spec, uint32_t rank, const char *fault,
                     struct err *e)
{
    if (spec->merge_pairs) {
        const struct merge_pair *p = &spec->merge_pairs[rank];
        return err_set(e, LLMD_EPARSE, "%s: merge %u of '%s' and '%s' %s", spec->source, rank,
                       quote_text(p->left.s, p->left.n).s, quote_text(p->right.s, p->right.n).s,
                       fault);
    }
    const struct token_text *m = &spec->merges[rank];
    return err_set(e, LLMD_EPARSE, "%s: merge %u '%s' %s", spec->source, rank,
                   quote_text(m->s, m->n).s, fault);
}

/* A pair that is listed twice keeps the later rank, as in Hugging Face `tokenizers`. */
static void merge_add(struct bpe *b, uint32_t left, uint32_t right, uint32_t rank)
{
    struct merge_slot *slot = merge_probe(b, left, right);
    slot->left = left;
    slot->right = right;
    slot->rank = rank;
}

/* Adds a merge. `joined` has room for max_written_bytes. */
static int merge_read(struct bpe *b, const struct vocab *v, const struct tokenizer_spec *spec,
                      uint32_t rank, char *joined, struct err *e)
{
    bool sound;
    struct merge_pair p = pair_at(spec, rank, &sound);
    if (!sound)
        return bad_merge(spec, rank, "is not of the form 'left right'", e);
    uint32_t left = vocab_find_own(v, p.left.s, p.left.n);
    uint32_t right = vocab_find_own(v, p.right.s, p.right.n);
    if (left == TEXT_NONE || right == TEXT_NONE)
        return bad_merge(spec, rank, "joins what is no token of the vocabulary", e);
    b->results[rank] = TEXT_NONE;
    if (p.left.n + p.right.n <= v->max_written_bytes) {
        memcpy(joined, p.left.s, p.left.n);
        memcpy(joined + p.left.n, p.right.s, p.right.n);
        b->results[rank] = vocab_find_own(v, joined, p.left.n + p.right.n);
    }
    if (b->results[rank] == TEXT_NONE)
        return bad_merge(spec, rank, "makes what is no token of the vocabulary", e);
    merge_add(b, left, right, rank);
    return 0;
}

bool bpe_table_alloc(struct bpe *b, uint32_t n_merges, uint32_t n_ranks)
{
    b->n_slots_log2 = 4;
    while (1u << b->n_slots_log2 < 2 * n_merges)
        b->n_slots_log2++;
    size_t slots_bytes = sizeof(*b->slots) << b->n_slots_log2;
    b->slots = malloc(slots_bytes);
    b->results = malloc(((size_t)n_ranks + 1) * sizeof(*b->results));
    if (!b->slots || !b->results)
        return false;
    memset(b->slots, 0xff, slots_bytes); /* left TEXT_NONE everywhere */
    return true;
}

int bpe_merges_init(struct bpe *b, const struct vocab *v, const struct tokenizer_spec *spec,
                    struct err *e)
{
    if (spec->n_merges > BPE_MAX_MERGES)
        return err_set(e, LLMD_ELIMIT, "%s: %u merges; at most %u are supported", spec->source,
                       spec->n_merges, BPE_MAX_MERGES);
    char *joined = malloc(v->max_written_bytes + 1);
    int rc = 0;
    if (!joined || !bpe_table_alloc(b, spec->n_merges, spec->n_merges)) {
        rc = err_set(e, LLMD_ENOMEM, "%s: no memory for %u merges", spec->source, spec->n_merges);
        goto out;
    }
    for (uint32_t rank = 0; rank < spec->n_merges && rc == 0; rank++)
        rc = merge_read(b, v, spec, rank, joined, e);
out:
    free(joined);
    return rc;
}

/* bpe_merges.c - the merge table of a vocabulary. */
#include <stdlib.h>
#include <string.h>

#include "core/model/bpe_int.h"
#include "core/model/bpe_merge_int.h"

#define MAX_MERGES (1u << 26)

static int bad_merge(const struct tokenizer_spec *spec, uint32_t rank, const char *fault,
                     struct err *e)
{
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

/* Adds the merge "left right". `joined` has room for max_written_bytes. */
static int merge_parse(struct bpe *b, const struct vocab *v, const struct tokenizer_spec *spec,
                       uint32_t rank, char *joined, struct err *e)
{
    const struct token_text *m = &spec->merges[rank];
    const char *space = m->n > 0 ? memchr(m->s, ' ', m->n) : NULL;
    if (!space)
        return bad_merge(spec, rank, "is not of the form 'left right'", e);
    size_t n_left = (size_t)(space - m->s), n_right = m->n - n_left - 1;
    uint32_t left = vocab_find(v, m->s, n_left);
    uint32_t right = vocab_find(v, space + 1, n_right);
    if (left == TEXT_NONE || right == TEXT_NONE)
        return bad_merge(spec, rank, "joins what is no token of the vocabulary", e);
    b->results[rank] = TEXT_NONE;
    if (n_left + n_right <= v->max_written_bytes) {
        memcpy(joined, m->s, n_left);
        memcpy(joined + n_left, space + 1, n_right);
        b->results[rank] = vocab_find(v, joined, n_left + n_right);
    }
    if (b->results[rank] == TEXT_NONE)
        return bad_merge(spec, rank, "makes what is no token of the vocabulary", e);
    merge_add(b, left, right, rank);
    return 0;
}

int bpe_merges_init(struct bpe *b, const struct vocab *v, const struct tokenizer_spec *spec,
                    struct err *e)
{
    if (spec->n_merges > MAX_MERGES)
        return err_set(e, LLMD_ELIMIT, "%s: %u merges; at most %u are supported", spec->source,
                       spec->n_merges, MAX_MERGES);
    b->n_slots_log2 = 4;
    while (1u << b->n_slots_log2 < 2 * spec->n_merges)
        b->n_slots_log2++;
    size_t slots_bytes = sizeof(*b->slots) << b->n_slots_log2;
    b->slots = malloc(slots_bytes);
    b->results = malloc(((size_t)spec->n_merges + 1) * sizeof(*b->results));
    char *joined = malloc(v->max_written_bytes);
    int rc = 0;
    if (!b->slots || !b->results || !joined) {
        rc = err_set(e, LLMD_ENOMEM, "%s: no memory for %u merges", spec->source, spec->n_merges);
        goto out;
    }
    memset(b->slots, 0xff, slots_bytes); /* left TEXT_NONE everywhere */
    for (uint32_t rank = 0; rank < spec->n_merges && rc == 0; rank++)
        rc = merge_parse(b, v, spec, rank, joined, e);
out:
    free(joined);
    return rc;
}

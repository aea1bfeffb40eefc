/* bpe_scores.c - the merge table of a vocabulary that has scores instead of merges.
 *
 * SentencePiece joins, of all adjacent pairs whose joined text is a token, the pair whose token
 * scores best, the leftmost of equals. So every way to cut a token into two tokens is a merge, and
 * its rank is the place of the token's score among all scores; tokens of equal score share a rank.
 * Only normal and user-defined tokens take part. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/bpe_merge_int.h"
#include "core/model/pretok_scan_int.h"

static bool takes_part(const struct vocab *v, uint32_t id)
{
    if (id == TEXT_NONE || (v->flags[id] & (VOCAB_EXTRA | VOCAB_BYTE)))
        return false;
    return v->kinds[id] == TOKEN_NORMAL || v->kinds[id] == TOKEN_USER_DEFINED;
}

/* The first way to cut token id into two tokens at or behind byte *at (0 at first), which moves
 * on; false when there is none. */
static bool next_cut(const struct vocab *v, uint32_t id, size_t *at, uint32_t *out_left,
                     uint32_t *out_right)
{
    size_t n;
    uint32_t cp;
    const char *s = text_at(&v->written, id, &n);
    for (;;) {
        *at += decode_valid(s + *at, &cp);
        if (*at >= n)
            return false;
        *out_left = vocab_find_own(v, s, *at);
        if (!takes_part(v, *out_left))
            continue;
        *out_right = vocab_find_own(v, s + *at, n - *at);
        if (takes_part(v, *out_right))
            return true;
    }
}

static int best_first(const void *pa, const void *pb, void *ctx)
{
    const float *scores = ctx;
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;
    if (scores[a] != scores[b])
        return scores[a] > scores[b] ? -1 : 1;
    return (a > b) - (a < b);
}

/* The tokens that take part, best score first. */
static int sorted_tokens(const struct vocab *v, const struct tokenizer_spec *spec, uint32_t *ids,
                         uint32_t *out_n, struct err *e)
{
    uint32_t n = 0;
    for (uint32_t id = 0; id < v->n; id++) {
        size_t n_bytes;
        const char *s = text_at(&v->written, id, &n_bytes);
        if (!takes_part(v, id))
            continue;
        if (isnan(spec->scores[id]))
            return err_set(e, LLMD_EPARSE, "%s: the score of token %u '%s' is not a number",
                           spec->source, id, quote_text(s, n_bytes).s);
        if (n_bytes > BPE_MAX_SCORED_BYTES)
            return err_set(e, LLMD_ELIMIT,
                           "%s: token %u '%s' takes %zu bytes; at most %d are supported where "
                           "scores decide",
                           spec->source, id, quote_text(s, n_bytes).s, n_bytes,
                           BPE_MAX_SCORED_BYTES);
        ids[n++] = id;
    }
    qsort_r(ids, n, sizeof(*ids), best_first, (void *)(uintptr_t)spec->scores);
    *out_n = n;
    return 0;
}

/* Adds the merges of the sorted tokens to the table; counts them instead when it is not there. */
static uint64_t add_merges(struct bpe *b, const struct vocab *v, const float *scores,
                           const uint32_t *ids, uint32_t n)
{
    uint64_t n_merges = 0;
    uint32_t rank = 0;
    for (uint32_t i = 0; i < n; i++) {
        bool tie = i > 0 && scores[ids[i]] == scores[ids[i - 1]];
        rank += i > 0 && !tie;
        if (b->results)
            b->results[rank] = tie ? TEXT_NONE : ids[i];
        uint32_t left, right;
        for (size_t at = 0; next_cut(v, ids[i], &at, &left, &right); n_merges++) {
            if (!b->slots)
                continue;
            *merge_probe(b, left, right) = (struct merge_slot){left, right, rank};
        }
    }
    return n_merges;
}

int bpe_scores_init(struct bpe *b, const struct vocab *v, const struct tokenizer_spec *spec,
                    struct err *e)
{
    uint32_t *ids = malloc((size_t)v->n * sizeof(*ids)), n = 0;
    int rc = ids ? sorted_tokens(v, spec, ids, &n, e)
                 : err_set(e, LLMD_ENOMEM, "%s: no memory for %u tokens", spec->source, v->n);
    if (rc < 0)
        goto out;
    uint64_t n_merges = add_merges(b, v, spec->scores, ids, n);
    if (n_merges > BPE_MAX_MERGES)
        rc = err_set(e, LLMD_ELIMIT, "%s: the scores make more than %u merges", spec->source,
                     BPE_MAX_MERGES);
    else if (!bpe_table_alloc(b, (uint32_t)n_merges, n))
        rc = err_set(e, LLMD_ENOMEM, "%s: no memory for %llu merges", spec->source,
                     (unsigned long long)n_merges);
    else
        add_merges(b, v, spec->scores, ids, n);
out:
    free(ids);
    return rc;
}

#include "core/model/bpe_int.h"

#include <stdlib.h>
#include <string.h>

#include "core/model/bpe_merge_int.h"

#define SHORT_PIECE 48 /* up to here scanning is faster */
#define NO_RANK     TEXT_NONE

/* Merges ids[0..n-1] in place, n <= SHORT_PIECE; returns what is left of n. */
static size_t merge_short(const struct bpe *b, uint32_t ids[], size_t n)
{
    uint32_t ranks[SHORT_PIECE]; /* of the pair (ids[i], ids[i + 1]) */
    for (size_t i = 0; i + 1 < n; i++)
        ranks[i] = merge_rank(b, ids[i], ids[i + 1]);
    while (n > 1) {
        size_t at = 0;
        uint32_t best = ranks[0];
        for (size_t i = 1; i + 1 < n; i++) {
            if (ranks[i] < best) {
                best = ranks[i];
                at = i;
            }
        }
        if (best == NO_RANK)
            break;
        ids[at] = merge_result(b, best, ids[at], ids[at + 1]);
        n--;
        for (size_t i = at + 1; i < n; i++) {
            ids[i] = ids[i + 1];
            ranks[i - 1] = ranks[i];
        }
        if (at + 1 < n)
            ranks[at] = merge_rank(b, ids[at], ids[at + 1]);
        if (at > 0)
            ranks[at - 1] = merge_rank(b, ids[at - 1], ids[at]);
    }
    return n;
}

bool bpe_scratch_reserve(struct bpe_scratch *sc, size_t n_bytes)
{
    if (sc->cap_bytes >= n_bytes)
        return true;
    free(sc->mem);
    sc->mem = malloc(n_bytes);
    sc->cap_bytes = sc->mem ? n_bytes : 0;
    return sc->mem;
}

void bpe_scratch_fini(struct bpe_scratch *sc)
{
    free(sc->mem);
    sc->mem = NULL;
    sc->cap_bytes = 0;
}

uint32_t bpe_joined(const struct bpe *b, uint32_t left, uint32_t right)
{
    char joined[2 * BPE_MAX_SCORED_BYTES];
    size_t n_left, n_right;
    const char *l = text_at(&b->vocab->written, left, &n_left);
    const char *r = text_at(&b->vocab->written, right, &n_right);
    BUG_ON(n_left + n_right > sizeof(joined)); /* only scores make tokens share a rank */
    memcpy(joined, l, n_left);
    memcpy(joined + n_left, r, n_right);
    uint32_t id = vocab_find_own(b->vocab, joined, n_left + n_right);
    BUG_ON(id == TEXT_NONE);
    return id;
}

/* As bpe_encode, but always by merging. */
static int encode_merging(const struct bpe *b, struct bpe_scratch *sc, const char *s, size_t n,
                          uint32_t out_ids[], size_t *out_n)
{
    size_t k = bpe_symbols(b, s, n, out_ids);
    if (k <= SHORT_PIECE) {
        *out_n = merge_short(b, out_ids, k);
        return 0;
    }
    return bpe_merge_long(b, sc, out_ids, k, out_n);
}

int bpe_encode(const struct bpe *b, struct bpe_scratch *sc, const char *s, size_t n,
               uint32_t out_ids[], size_t *out_n)
{
    if (n >= 2 && n <= b->max_whole_bytes) {
        uint32_t id = text_index_find(&b->whole, b->texts, s, n);
        if (id != TEXT_NONE) {
            out_ids[0] = id;
            *out_n = 1;
            return 0;
        }
    }
    return encode_merging(b, sc, s, n, out_ids, out_n);
}

size_t bpe_part(const struct bpe *b, const char *s, size_t n)
{
    if (!b->cut_at_spaces)
        return n;
    for (size_t i = 1; i + SPM_SPACE_N <= n; i++) {
        const char *space = memchr(s + i, SPM_SPACE[0], n - i);
        if (!space)
            break;
        i = (size_t)(space - s);
        if (n - i >= SPM_SPACE_N && memcmp(space, SPM_SPACE, SPM_SPACE_N) == 0 &&
            (i < SPM_SPACE_N || memcmp(space - SPM_SPACE_N, SPM_SPACE, SPM_SPACE_N) != 0))
            return i;
    }
    return n;
}

uint32_t bpe_unmerged(const struct bpe *b, const char *s, size_t n)
{
    if (!b->ignore_merges || !b->by_characters || n > b->vocab->max_written_bytes)
        return TEXT_NONE; /* a byte-level piece is found among b->whole */
    return vocab_find_own(b->vocab, s, n);
}

/* Whether a token is one that a piece can be as a whole. `ids` has room for its symbols. */
static int find_whole(const struct bpe *b, struct bpe_scratch *sc, uint32_t i, uint32_t *ids,
                      bool *out_is)
{
    size_t n_bytes, n_ids = 0;
    const char *s = text_at(b->texts, i, &n_bytes);
    *out_is = false;
    if (n_bytes < 2 || (b->vocab->flags[i] & VOCAB_EXTRA))
        return 0;
    if (b->ignore_merges && !b->by_characters && (b->vocab->flags[i] & VOCAB_SPELLED)) {
        *out_is = true;
        return 0;
    }
    int rc = encode_merging(b, sc, s, n_bytes, ids, &n_ids);
    *out_is = rc == 0 && n_ids == 1 && ids[0] == i;
    return rc;
}

/* Fills b->whole. */
static int whole_init(struct bpe *b)
{
    const struct vocab *v = b->vocab;
    struct bpe_scratch sc = {NULL, 0};
    uint32_t *ids = malloc((v->max_written_bytes + 1) * sizeof(*ids));
    int rc = -LLMD_ENOMEM;
    if (!ids || !text_index_init(&b->whole, v->n))
        goto out;
    rc = 0;
    for (uint32_t i = 0; i < v->n && rc == 0; i++) {
        bool is_whole;
        size_t n_bytes = b->texts->at[i + 1] - b->texts->at[i];
        rc = find_whole(b, &sc, i, ids, &is_whole);
        if (!is_whole)
            continue;
        text_index_add(&b->whole, b->texts, i);
        if (n_bytes > b->max_whole_bytes)
            b->max_whole_bytes = n_bytes;
    }
out:
    free(ids);
    bpe_scratch_fini(&sc);
    return rc;
}

/* Whether the text has U+2581 behind another character. */
static bool space_inside(const char *s, size_t n)
{
    bool other = false;
    for (size_t i = 0; i < n; i++) {
        bool space = n - i >= SPM_SPACE_N && memcmp(s + i, SPM_SPACE, SPM_SPACE_N) == 0;
        if (space && other)
            return true;
        other |= !space;
        i += space ? SPM_SPACE_N - 1 : 0;
    }
    return false;
}

/* Whether a symbol may be left out, so that its neighbours become adjacent. */
static bool leaves_out(const struct bpe *b)
{
    bool all = b->byte_fallback;
    for (size_t byte = 0; byte < ARRAY_LEN(b->byte_ids) && all; byte++)
        all = b->byte_ids[byte] != TEXT_NONE;
    return b->unk_id == TEXT_NONE && !all;
}

/* Whether every token that merging can make has U+2581 only in front. */
static bool may_cut_at_spaces(const struct bpe *b, const struct tokenizer_spec *spec)
{
    if (!b->by_characters || b->space_id == TEXT_NONE || leaves_out(b))
        return false;
    uint32_t n = spec->scores ? b->vocab->n : spec->n_merges;
    for (uint32_t i = 0; i < n; i++) {
        size_t n_bytes;
        uint32_t id = spec->scores ? i : b->results[i];
        const char *s = text_at(&b->vocab->written, id, &n_bytes);
        if (space_inside(s, n_bytes))
            return false;
    }
    return true;
}

static int check_alphabet(const struct bpe *b, const struct tokenizer_spec *spec, struct err *e)
{
    for (uint32_t byte = '!'; byte <= '~' && !b->by_characters; byte++)
        if (b->byte_ids[byte] == TEXT_NONE)
            return err_set(e, LLMD_EPARSE,
                           "%s: no token writes the byte '%c': this is no byte-level vocabulary",
                           spec->source, (char)byte);
    return 0;
}

static int set_unk(struct bpe *b, const struct tokenizer_spec *spec, struct err *e)
{
    b->unk_id = TEXT_NONE;
    if (!spec->has_unk)
        return 0;
    if (spec->unk_id >= b->vocab->n)
        return err_set(e, LLMD_EPARSE, "%s: the unknown token's id %u is outside of the %u tokens",
                       spec->source, spec->unk_id, b->vocab->n);
    b->unk_id = spec->unk_id;
    return 0;
}

int bpe_init(struct bpe *b, const struct vocab *v, const struct tokenizer_spec *spec, struct err *e)
{
    memset(b, 0, sizeof(*b));
    b->vocab = v;
    b->by_characters = spec->form == TOKENIZER_SPM;
    b->texts = b->by_characters ? &v->written : &v->bytes;
    b->ignore_merges = spec->ignore_merges;
    b->byte_fallback = spec->byte_fallback;
    b->fuse_unk = spec->fuse_unk;
    bpe_symbols_init(b);
    int rc = set_unk(b, spec, e);
    if (rc == 0)
        rc = check_alphabet(b, spec, e);
    if (rc == 0)
        rc = spec->scores ? bpe_scores_init(b, v, spec, e) : bpe_merges_init(b, v, spec, e);
    if (rc == 0) {
        b->cut_at_spaces = may_cut_at_spaces(b, spec);
        rc = whole_init(b);
        if (rc < 0)
            err_set(e, LLMD_ENOMEM, "%s: no memory for %u tokens", spec->source, v->n);
    }
    if (rc < 0)
        bpe_fini(b);
    return rc;
}

void bpe_fini(struct bpe *b)
{
    free(b->slots);
    free(b->results);
    text_index_fini(&b->whole);
    memset(b, 0, sizeof(*b));
}

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
        ids[at] = b->results[best];
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

/* As bpe_encode, but always by merging. */
static int encode_merging(const struct bpe *b, struct bpe_scratch *sc, const char *s, size_t n,
                          uint32_t out_ids[], size_t *out_n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t id = b->byte_ids[(unsigned char)s[i]];
        if (id != TEXT_NONE)
            out_ids[k++] = id;
    }
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
        uint32_t id = text_index_find(&b->whole, b->bytes, s, n);
        if (id != TEXT_NONE) {
            out_ids[0] = id;
            *out_n = 1;
            return 0;
        }
    }
    return encode_merging(b, sc, s, n, out_ids, out_n);
}

/* Fills b->whole: every token that its own bytes merge into. */
static int whole_init(struct bpe *b, const struct vocab *v)
{
    struct bpe_scratch sc = {NULL, 0};
    uint32_t *ids = malloc(v->max_written_bytes * sizeof(*ids));
    int rc = -LLMD_ENOMEM;
    if (!ids || !text_index_init(&b->whole, v->n))
        goto out;
    rc = 0;
    for (uint32_t i = 0; i < v->n && rc == 0; i++) {
        size_t n_bytes, n_ids = 0;
        const char *s = text_at(b->bytes, i, &n_bytes);
        if (n_bytes < 2)
            continue;
        rc = encode_merging(b, &sc, s, n_bytes, ids, &n_ids);
        if (rc < 0 || n_ids != 1 || ids[0] != i)
            continue;
        text_index_add(&b->whole, b->bytes, i);
        if (n_bytes > b->max_whole_bytes)
            b->max_whole_bytes = n_bytes;
    }
out:
    free(ids);
    bpe_scratch_fini(&sc);
    return rc;
}

int bpe_init(struct bpe *b, const struct vocab *v, const struct tokenizer_spec *spec, struct err *e)
{
    memset(b, 0, sizeof(*b));
    b->bytes = &v->bytes;
    vocab_byte_ids(v, b->byte_ids);
    for (uint32_t byte = '!'; byte <= '~'; byte++)
        if (b->byte_ids[byte] == TEXT_NONE)
            return err_set(e, LLMD_EPARSE,
                           "%s: no token writes the byte '%c': this is no byte-level vocabulary",
                           spec->source, (char)byte);
    int rc = bpe_merges_init(b, v, spec, e);
    if (rc == 0) {
        rc = whole_init(b, v);
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

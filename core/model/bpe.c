#include "core/model/bpe_int.h"

#include <stdlib.h>
#include <string.h>

#include "core/model/bpe_merge_int.h"

#define SHORT_PIECE 48 /* up to here scanning beats the heap */
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

/* A long piece is a linked list of tokens; a token's node stands where its first byte was. */
#define LIST_END UINT32_MAX

struct node {
    uint32_t id;
    uint32_t prev, next; /* LIST_END at the ends */
    uint32_t rank;       /* of the merge with next; NO_RANK: none, or the node is gone */
};

/* A min-heap of rank << 32 | node, four children each. An entry whose node has another rank by
 * now is stale and is dropped when it comes up; a rank never comes back to a node, since the text
 * under its pair only grows. */
struct heap {
    uint64_t *keys;
    size_t n;
};

static void heap_down(struct heap *h, size_t i)
{
    uint64_t key = h->keys[i];
    for (;;) {
        size_t first = 4 * i + 1;
        if (first >= h->n)
            break;
        size_t end = first + 4 < h->n ? first + 4 : h->n, least = first;
        for (size_t k = first + 1; k < end; k++)
            if (h->keys[k] < h->keys[least])
                least = k;
        if (h->keys[least] >= key)
            break;
        h->keys[i] = h->keys[least];
        i = least;
    }
    h->keys[i] = key;
}

static void heap_push(struct heap *h, uint64_t key)
{
    size_t i = h->n++;
    while (i > 0 && h->keys[(i - 1) / 4] > key) {
        h->keys[i] = h->keys[(i - 1) / 4];
        i = (i - 1) / 4;
    }
    h->keys[i] = key;
}

static uint64_t heap_pop(struct heap *h)
{
    uint64_t top = h->keys[0];
    h->keys[0] = h->keys[--h->n];
    if (h->n > 1)
        heap_down(h, 0);
    return top;
}

static uint64_t heap_key(const struct node *nodes, uint32_t at)
{
    return (uint64_t)nodes[at].rank << 32 | at;
}

static void node_rank(const struct bpe *b, struct node *nodes, uint32_t at)
{
    uint32_t next = nodes[at].next;
    nodes[at].rank = next == LIST_END ? NO_RANK : merge_rank(b, nodes[at].id, nodes[next].id);
}

static void list_init(const struct bpe *b, struct node *nodes, struct heap *h, const uint32_t ids[],
                      uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        nodes[i].id = ids[i];
        nodes[i].prev = i > 0 ? i - 1 : LIST_END;
        nodes[i].next = i + 1 < n ? i + 1 : LIST_END;
    }
    h->n = 0;
    for (uint32_t i = 0; i < n; i++) {
        node_rank(b, nodes, i);
        if (nodes[i].rank != NO_RANK)
            h->keys[h->n++] = heap_key(nodes, i);
    }
    for (size_t i = h->n / 4 + 1; i-- > 0;)
        if (i < h->n)
            heap_down(h, i);
}

/* Merges ids[0..n-1] in place; returns what is left of n. The heap has room for 2n keys: n - 1
 * at first, and every merge takes one out and puts at most two in. */
static size_t merge_long(const struct bpe *b, struct node *nodes, struct heap *h, uint32_t ids[],
                         uint32_t n)
{
    list_init(b, nodes, h, ids, n);
    while (h->n > 0) {
        uint64_t key = heap_pop(h);
        uint32_t at = (uint32_t)key;
        if (nodes[at].rank != key >> 32)
            continue;
        uint32_t gone = nodes[at].next, next = nodes[gone].next, prev = nodes[at].prev;
        nodes[at].id = b->results[nodes[at].rank];
        nodes[at].next = next;
        nodes[gone].rank = NO_RANK;
        if (next != LIST_END)
            nodes[next].prev = at;
        node_rank(b, nodes, at);
        if (nodes[at].rank != NO_RANK)
            heap_push(h, heap_key(nodes, at));
        if (prev == LIST_END)
            continue;
        node_rank(b, nodes, prev);
        if (nodes[prev].rank != NO_RANK)
            heap_push(h, heap_key(nodes, prev));
    }
    size_t k = 0;
    for (uint32_t i = 0; i != LIST_END; i = nodes[i].next)
        ids[k++] = nodes[i].id;
    return k;
}

static bool scratch_reserve(struct bpe_scratch *sc, size_t n_bytes)
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
    BUG_ON(k >= 1u << 31);
    if (!scratch_reserve(sc, k * (sizeof(struct node) + 2 * sizeof(uint64_t))))
        return -LLMD_ENOMEM;
    struct heap h = {sc->mem, 0};
    struct node *nodes = (struct node *)(h.keys + 2 * k);
    *out_n = merge_long(b, nodes, &h, out_ids, (uint32_t)k);
    return 0;
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

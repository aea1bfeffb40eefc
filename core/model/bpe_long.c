/* bpe_long.c - merging a long piece.
 *
 * The piece is a linked list of tokens; a token's node stands where its first byte was. The rank
 * of each node's pair is a leaf of a tree of minima, FAN children to a node, so that the leftmost
 * best pair is found, and three leaves are changed after a merge, in a few cache lines each:
 * O(log n) a merge, whatever the piece holds. */
#include <stdlib.h>
#include <string.h>

#include "core/model/bpe_merge_int.h"

#define LIST_END   UINT32_MAX
#define FAN        16u
#define MAX_LEVELS 8 /* FAN^8 leaves */

struct node {
    uint32_t id;
    uint32_t prev, next; /* LIST_END at the ends */
};

/* level[0] holds the ranks; level[l + 1][i] is the least of level[l][FAN * i ..]. Levels are
 * padded to whole groups of FAN with TEXT_NONE, the rank of a pair without a merge. The highest
 * level is one group. */
struct min_tree {
    uint32_t *level[MAX_LEVELS];
    uint32_t n_levels;
};

static size_t padded(size_t n)
{
    return (n + FAN - 1) / FAN * FAN;
}

/* Words that the levels over n leaves take. */
static size_t tree_words(size_t n)
{
    size_t words = padded(n);
    for (; n > FAN; words += padded(n))
        n = padded(n) / FAN;
    return words;
}

static uint32_t group_min(const uint32_t *group)
{
    uint32_t least = group[0];
    for (uint32_t i = 1; i < FAN; i++)
        least = group[i] < least ? group[i] : least;
    return least;
}

/* Lays the levels over n leaves into mem; level[0] is filled by the caller and then built upon. */
static void tree_init(struct min_tree *t, uint32_t *mem, size_t n)
{
    t->n_levels = 0;
    for (;;) {
        t->level[t->n_levels++] = mem;
        memset(mem + n, 0xff, (padded(n) - n) * sizeof(*mem));
        mem += padded(n);
        if (n <= FAN)
            break;
        n = padded(n) / FAN;
    }
}

static void tree_build(struct min_tree *t, size_t n)
{
    for (uint32_t l = 0; l + 1 < t->n_levels; l++) {
        n = padded(n) / FAN;
        for (size_t i = 0; i < n; i++)
            t->level[l + 1][i] = group_min(t->level[l] + FAN * i);
    }
}

static void tree_set(struct min_tree *t, uint32_t i, uint32_t rank)
{
    for (uint32_t l = 0;; l++, i /= FAN) {
        uint32_t old = t->level[l][i];
        t->level[l][i] = rank;
        if (l + 1 == t->n_levels)
            return;
        uint32_t *up = &t->level[l + 1][i / FAN];
        if (rank > *up) {
            if (old != *up)
                return; /* the least is another one */
            rank = group_min(t->level[l] + i / FAN * FAN);
        }
        if (rank == *up)
            return;
    }
}

/* The leftmost leaf with the least rank; that rank through *out_rank. */
static uint32_t tree_find(const struct min_tree *t, uint32_t *out_rank)
{
    uint32_t i = 0, l = t->n_levels, rank = group_min(t->level[l - 1]);
    while (l-- > 0) {
        i *= FAN;
        while (t->level[l][i] != rank)
            i++;
    }
    *out_rank = rank;
    return i;
}

static uint32_t pair_rank(const struct bpe *b, const struct node *nodes, uint32_t at)
{
    uint32_t next = nodes[at].next;
    return next == LIST_END ? TEXT_NONE : merge_rank(b, nodes[at].id, nodes[next].id);
}

static void merge_all(const struct bpe *b, struct node *nodes, struct min_tree *t)
{
    for (;;) {
        uint32_t rank, at = tree_find(t, &rank);
        if (rank == TEXT_NONE)
            break;
        uint32_t gone = nodes[at].next, next = nodes[gone].next, prev = nodes[at].prev;
        nodes[at].id = merge_result(b, rank, nodes[at].id, nodes[gone].id);
        nodes[at].next = next;
        if (next != LIST_END)
            nodes[next].prev = at;
        tree_set(t, gone, TEXT_NONE);
        tree_set(t, at, pair_rank(b, nodes, at));
        if (prev != LIST_END)
            tree_set(t, prev, pair_rank(b, nodes, prev));
    }
}

int bpe_merge_long(const struct bpe *b, struct bpe_scratch *sc, uint32_t ids[], size_t n,
                   size_t *out_n)
{
    struct min_tree t;
    BUG_ON(n < 1 || n >= 1u << 31);
    if (!bpe_scratch_reserve(sc, n * sizeof(struct node) + tree_words(n) * sizeof(uint32_t)))
        return -LLMD_ENOMEM;
    struct node *nodes = sc->mem;
    tree_init(&t, (uint32_t *)(nodes + n), n);
    for (uint32_t i = 0; i < n; i++) {
        nodes[i].id = ids[i];
        nodes[i].prev = i > 0 ? i - 1 : LIST_END;
        nodes[i].next = i + 1 < n ? i + 1 : LIST_END;
        t.level[0][i] = i + 1 < n ? merge_rank(b, ids[i], ids[i + 1]) : TEXT_NONE;
    }
    tree_build(&t, n);
    merge_all(b, nodes, &t);
    size_t k = 0;
    for (uint32_t i = 0; i != LIST_END; i = nodes[i].next)
        ids[k++] = nodes[i].id;
    *out_n = k;
    return 0;
}

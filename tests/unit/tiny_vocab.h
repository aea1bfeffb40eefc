/* tiny_vocab.h - made-up byte-level vocabularies for tests and fuzzing, and BPE the slow way.
 *
 * Ids in order: the bytes (those not skipped), what the merges make, the added tokens. */
#pragma once
#include <stdlib.h>
#include <string.h>

#include "core/model/tokenizer.h"
#include "core/util/utf8.h"

enum { TINY_MAX_TOKENS = 1024, TINY_MAX_MERGES = 512, TINY_BYTES = 1 << 16 };

struct tiny_vocab {
    struct token_text texts[TINY_MAX_TOKENS];
    enum token_kind kinds[TINY_MAX_TOKENS];
    struct token_text merges[TINY_MAX_MERGES];
    uint32_t n_tokens, n_merges;
    char bytes[TINY_BYTES]; /* behind texts and merges */
    size_t n_bytes;
};

/* A copy of the text; an empty one when the vocabulary is full. */
static inline struct token_text tiny_copy(struct tiny_vocab *v, const char *s, size_t n)
{
    struct token_text t = {v->bytes + v->n_bytes, 0};
    if (n > TINY_BYTES - v->n_bytes)
        return t;
    memcpy(v->bytes + v->n_bytes, s, n);
    v->n_bytes += n;
    t.n = n;
    return t;
}

static inline bool tiny_equal(struct token_text a, struct token_text b)
{
    return a.n == b.n && memcmp(a.s, b.s, a.n) == 0;
}

static inline int64_t tiny_find(const struct tiny_vocab *v, struct token_text t)
{
    for (uint32_t i = 0; i < v->n_tokens; i++)
        if (tiny_equal(v->texts[i], t))
            return i;
    return -1;
}

static inline void tiny_add(struct tiny_vocab *v, const char *s, size_t n, enum token_kind kind)
{
    if (v->n_tokens == TINY_MAX_TOKENS)
        return;
    v->kinds[v->n_tokens] = kind;
    v->texts[v->n_tokens++] = tiny_copy(v, s, n);
}

/* The character that stands for a byte, as UTF-8 in out; returns its length. */
static inline size_t tiny_byte_char(uint32_t byte, char out[4])
{
    uint32_t cp = byte; /* the 68 invisible ones follow each other from U+0100 on */
    if (byte <= 0x20)
        cp = 0x100 + byte;
    else if (byte >= 0x7f && byte <= 0xa0)
        cp = 0x121 + byte - 0x7f;
    else if (byte == 0xad)
        cp = 0x143;
    return utf8_encode(cp, out);
}

/* All byte tokens but those with skip[byte]; skip may be NULL. */
static inline void tiny_init(struct tiny_vocab *v, const bool *skip)
{
    char s[4];
    v->n_tokens = v->n_merges = 0;
    v->n_bytes = 0;
    for (uint32_t b = 0; b < 256; b++)
        if (!skip || !skip[b])
            tiny_add(v, s, tiny_byte_char(b, s), TOKEN_NORMAL);
}

/* Adds the merge "left right" and, when it is new, the token that it makes. */
static inline void tiny_merge(struct tiny_vocab *v, const char *s, size_t n)
{
    const char *space = n > 0 ? memchr(s, ' ', n) : NULL;
    if (v->n_merges == TINY_MAX_MERGES)
        return;
    v->merges[v->n_merges++] = tiny_copy(v, s, n);
    char joined[256];
    if (!space || n > sizeof(joined))
        return;
    size_t n_left = (size_t)(space - s);
    memcpy(joined, s, n_left);
    memcpy(joined + n_left, space + 1, n - n_left - 1);
    struct token_text t = {joined, n - 1};
    if (t.n > 0 && tiny_find(v, t) < 0)
        tiny_add(v, joined, t.n, TOKEN_NORMAL);
}

static inline void tiny_merge_str(struct tiny_vocab *v, const char *s)
{
    tiny_merge(v, s, strlen(s));
}

static inline struct tokenizer_spec tiny_spec(const struct tiny_vocab *v)
{
    struct tokenizer_spec s = {.source = "tiny", .pretokenizer = "gpt-2", .bos_id = -1};
    s.eos_id = -1;
    s.texts = v->texts;
    s.kinds = v->kinds;
    s.n_tokens = v->n_tokens;
    s.merges = v->merges;
    s.n_merges = v->n_merges;
    return s;
}

/* Rank of the merge of two tokens, the later one of two equal merges; -1: none. */
static inline int64_t tiny_rank(const struct tiny_vocab *v, uint32_t left, uint32_t right)
{
    struct token_text a = v->texts[left], b = v->texts[right];
    for (uint32_t m = v->n_merges; m-- > 0;) {
        struct token_text t = v->merges[m];
        if (t.n == a.n + 1 + b.n && memcmp(t.s, a.s, a.n) == 0 && t.s[a.n] == ' ' &&
            memcmp(t.s + a.n + 1, b.s, b.n) == 0)
            return m;
    }
    return -1;
}

/* Merges the tokens ids[0..k-1] the way the definition reads, rescanning after every merge;
 * returns their number. */
static inline size_t tiny_merge_ids(const struct tiny_vocab *v, uint32_t *ids, size_t k)
{
    for (;;) {
        int64_t best = -1;
        size_t at = 0;
        for (size_t i = 0; i + 1 < k; i++) {
            int64_t rank = tiny_rank(v, ids[i], ids[i + 1]);
            if (rank >= 0 && (best < 0 || rank < best)) {
                best = rank;
                at = i;
            }
        }
        if (best < 0)
            return k;
        char joined[256];
        struct token_text a = v->texts[ids[at]], b = v->texts[ids[at + 1]];
        memcpy(joined, a.s, a.n);
        memcpy(joined + a.n, b.s, b.n);
        ids[at] = (uint32_t)tiny_find(v, (struct token_text){joined, a.n + b.n});
        memmove(ids + at + 1, ids + at + 2, (k - at - 2) * sizeof(*ids));
        k--;
    }
}

/* The same for one byte-level piece. ids has room for n. */
static inline size_t tiny_encode(const struct tiny_vocab *v, const char *s, size_t n, uint32_t *ids)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        char c[4];
        struct token_text t = {c, tiny_byte_char((unsigned char)s[i], c)};
        int64_t id = tiny_find(v, t);
        if (id >= 0)
            ids[k++] = (uint32_t)id;
    }
    return tiny_merge_ids(v, ids, k);
}

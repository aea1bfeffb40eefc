/* tokenizer_text.h - draws the text that the tokenizer goldens are about.
 *
 * The twin of class Source in gen_tokenizer.py: same draws, same order, so that megabytes of text
 * need not be committed. A difference between the two shows as a wrong hash of the text. */
#pragma once
#include <jansson.h>
#include <string.h>

#include "core/model/tokenizer.h"
#include "core/util/buf.h"
#include "core/util/fsio.h"
#include "core/util/json.h"
#include "core/util/utf8.h"

struct text_source {
    const json_t *ranges, *words, *lines; /* data/tokenizer_text.json */
    const struct tokenizer *tok;          /* its tokens are material, too */
    const json_t *tokens;                 /* or these texts of tokens */
    uint64_t state;
};

/* splitmix64 */
static inline size_t text_below(struct text_source *t, size_t n)
{
    t->state += 0x9e3779b97f4a7c15u;
    uint64_t z = t->state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (size_t)((z ^ (z >> 31)) % n);
}

static inline const json_t *text_pick(struct text_source *t, const json_t *items)
{
    return json_array_get(items, text_below(t, json_array_size(items)));
}

static inline void text_add_cp(struct buf *b, uint32_t cp)
{
    char s[4];
    buf_add(b, s, utf8_encode(cp, s));
}

static inline uint32_t text_char(struct text_source *t, uint32_t first, uint32_t last)
{
    return first + (uint32_t)text_below(t, last - first + 1);
}

static inline void text_chars(struct text_source *t, size_t n, uint32_t first, uint32_t last,
                              struct buf *b)
{
    for (size_t i = 0; i < n; i++)
        text_add_cp(b, text_char(t, first, last));
}

static inline void text_range(struct text_source *t, uint32_t *first, uint32_t *last)
{
    const json_t *r = text_pick(t, t->ranges);
    *first = (uint32_t)json_integer_value(json_array_get(r, 0));
    *last = (uint32_t)json_integer_value(json_array_get(r, 1));
}

/* Byte offset of the i-th character, or n when there are fewer. */
static inline size_t text_offset(const char *s, size_t n, size_t i)
{
    size_t at = 0;
    uint32_t cp;
    for (; i > 0 && at < n; i--)
        at += utf8_decode(s + at, n - at, &cp);
    return at;
}

/* Up to 40 characters of a line. */
static inline void text_slice(struct text_source *t, struct buf *b)
{
    const json_t *line = text_pick(t, t->lines);
    const char *s = json_string_value(line);
    size_t n = json_string_length(line), n_chars = 0;
    for (size_t i = 0; i < n; i++)
        n_chars += ((unsigned char)s[i] & 0xc0) != 0x80;
    size_t begin = text_below(t, n_chars), count = 1 + text_below(t, 40);
    size_t from = text_offset(s, n, begin);
    buf_add(b, s + from, text_offset(s + from, n - from, count));
}

static inline void text_add_word(struct text_source *t, size_t most, struct buf *b)
{
    const json_t *word = text_pick(t, t->words);
    for (size_t n = most > 1 ? 1 + text_below(t, most) : 1; n > 0; n--)
        buf_add(b, json_string_value(word), json_string_length(word));
}

static inline void text_tokens(struct text_source *t, struct buf *b)
{
    for (size_t n = 1 + text_below(t, 8); n > 0; n--) {
        if (t->tokens) {
            const json_t *token = text_pick(t, t->tokens);
            buf_add(b, json_string_value(token), json_string_length(token));
            continue;
        }
        uint32_t id = (uint32_t)text_below(t, tokenizer_n_tokens(t->tok));
        struct token_text text = tokenizer_bytes(t->tok, id);
        utf8_add_lossy(b, text.s, text.n);
    }
}

static inline void text_run(struct text_source *t, size_t kind, struct buf *b)
{
    uint32_t first, last;
    text_range(t, &first, &last);
    if (kind < 6) {
        size_t n = 1 + text_below(t, 6);
        text_chars(t, n, first, last, b);
        return;
    }
    uint32_t cp = text_char(t, first, last);
    for (size_t n = 1 + text_below(t, 12); n > 0; n--)
        text_add_cp(b, cp);
}

static inline void text_item(struct text_source *t, struct buf *b)
{
    size_t kind = text_below(t, 16);
    if (kind < 4) {
        text_add_word(t, 1, b);
    } else if (kind < 7) {
        text_run(t, kind, b);
    } else if (kind == 7) {
        uint32_t cp = (uint32_t)text_below(t, 0x110000 - 0x800);
        text_add_cp(b, cp >= 0xd800 ? cp + 0x800 : cp);
    } else if (kind == 8) {
        text_add_word(t, 20, b);
    } else if (kind == 9) {
        size_t n = 1 + text_below(t, 60);
        text_chars(t, n, 'a', 'z', b);
    } else if (kind == 10) {
        size_t n = 1 + text_below(t, 12);
        text_chars(t, n, '0', '9', b);
    } else if (kind == 11) {
        size_t n = 1 + text_below(t, 4);
        text_chars(t, n, 0, 0x1f, b);
    } else if (kind < 14) {
        text_slice(t, b);
    } else {
        text_tokens(t, b);
    }
}

/* One random string. */
static inline void text_string(struct text_source *t, struct buf *b)
{
    for (size_t n = 1 + text_below(t, 24); n > 0; n--)
        text_item(t, b);
}

/* One part of the corpus. */
static inline void text_part(struct text_source *t, struct buf *b)
{
    static const char *const ends[] = {"\n", "\n\n", " ", "\r\n"};
    size_t kind = text_below(t, 4);
    if (kind == 0) {
        text_string(t, b);
        buf_addch(b, '\n');
        return;
    }
    if (kind == 1) {
        for (size_t n = 1 + text_below(t, 6); n > 0; n--) {
            text_slice(t, b);
            buf_addch(b, ' ');
        }
        return;
    }
    const json_t *line = text_pick(t, t->lines);
    buf_add(b, json_string_value(line), json_string_length(line));
    buf_addstr(b, ends[text_below(t, ARRAY_LEN(ends))]);
}

/* Random ids into out[40]; returns their number. */
static inline size_t text_ids(struct text_source *t, uint32_t out[40])
{
    size_t n = 1 + text_below(t, 40);
    for (size_t i = 0; i < n; i++) {
        size_t low = text_below(t, 4);
        out[i] = (uint32_t)text_below(t, low == 0 ? 400 : tokenizer_n_tokens(t->tok));
    }
    return n;
}

/* FNV-1a over whole words, and over the bytes of a string. */
#define TEXT_HASH_BEGIN 0xcbf29ce484222325u

static inline uint64_t text_hash_add(uint64_t h, uint32_t v)
{
    return (h ^ v) * 0x100000001b3u;
}

static inline uint64_t text_hash_ids(const uint32_t *ids, size_t n)
{
    uint64_t h = TEXT_HASH_BEGIN;
    for (size_t i = 0; i < n; i++)
        h = text_hash_add(h, ids[i]);
    return h;
}

static inline uint64_t text_hash_bytes(const char *s, size_t n)
{
    uint64_t h = TEXT_HASH_BEGIN;
    for (size_t i = 0; i < n; i++)
        h = text_hash_add(h, (unsigned char)s[i]);
    return h;
}

static inline uint32_t text_hash_fold(uint64_t h)
{
    return (uint32_t)(h ^ h >> 32);
}

/* Reads a JSON file of up to 4 MiB; the caller owns *out. */
MUST_CHECK static inline int text_json(const char *path, json_t **out, struct err *e)
{
    struct buf b = {0};
    int rc = file_read(path, (size_t)4 << 20, &b, e);
    if (rc == 0)
        rc = json_parse(b.data, b.len, out, e);
    buf_fini(&b);
    return rc;
}

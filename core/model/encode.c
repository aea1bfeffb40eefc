/* encode.c - from text to ids: added tokens, normalization, pieces, merging.
 *
 * The steps are those of Hugging Face `tokenizers`, in its order: added tokens are found in the
 * text as it comes; each stretch between them is normalized; the added tokens that want to be
 * found in normalized text are; what is left is cut into pieces, and each is merged. */
#include <stdlib.h>
#include <string.h>

#include "core/model/tokenizer_int.h"
#include "core/util/utf8.h"

/* Merging can number 2^31 symbols; normalization makes a text three times as long at most. */
#define MAX_TEXT_BYTES      ((size_t)1 << 30)
#define MAX_TEXT_BYTES_LESS ((size_t)1 << 29)

/* One call's working memory. */
struct encoding {
    const struct tokenizer *t;
    struct bpe_scratch scratch;
    struct buf normal, spaced; /* a stretch, normalized; the same, spaces put in */
    struct token_list *out;
    bool special;
};

void token_list_fini(struct token_list *l)
{
    free(l->ids);
    memset(l, 0, sizeof(*l));
}

/* Room for n more ids. */
static bool token_list_reserve(struct token_list *l, size_t n)
{
    if (l->cap - l->n >= n)
        return true;
    size_t cap, bytes;
    if (!size_add(l->n, n, &cap) || !size_add(cap, cap / 2 + 16, &cap) ||
        !size_mul(cap, sizeof(*l->ids), &bytes))
        return false;
    uint32_t *ids = realloc(l->ids, bytes);
    if (!ids)
        return false;
    l->ids = ids;
    l->cap = cap;
    return true;
}

static int add_ids(struct token_list *l, const uint32_t *ids, size_t n)
{
    if (!token_list_reserve(l, n))
        return -LLMD_ENOMEM;
    if (n > 0)
        memcpy(l->ids + l->n, ids, n * sizeof(*ids));
    l->n += n;
    return 0;
}

/* Appends s with every space written as U+2581. */
static void add_spaced(struct buf *out, const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        const char *space = memchr(s + i, ' ', n - i);
        size_t end = space ? (size_t)(space - s) : n;
        buf_add(out, s + i, end - i);
        if (space)
            buf_add(out, SPM_SPACE, SPM_SPACE_N);
        i = end + (space ? 1 : 0);
    }
}

bool tokenizer_normalize(const struct tokenizer *t, const char *s, size_t n, struct buf *out)
{
    bool spaced = t->form == TOKENIZER_SPM && t->spaces_normalized && n > 0;
    bool is_nfc = !t->nfc || nfc_stable_prefix(&t->nfc_table, s, n) == n;
    if (is_nfc && !spaced)
        return true;
    buf_clear(out);
    if (!spaced) {
        nfc_add(&t->nfc_table, out, s, n);
        return false;
    }
    struct buf composed = {0};
    if (!is_nfc) {
        nfc_add(&t->nfc_table, &composed, s, n);
        s = buf_str(&composed);
        n = composed.len;
    }
    if (t->space_prefix == SPACE_PREFIX_EVERY)
        buf_add(out, SPM_SPACE, SPM_SPACE_N);
    add_spaced(out, s, n);
    out->failed |= composed.failed;
    buf_fini(&composed);
    return false;
}

/* Appends the tokens of one piece of a pre-tokenizer. */
static int encode_piece(struct encoding *c, const char *s, size_t n)
{
    const struct bpe *b = &c->t->bpe;
    uint32_t id = bpe_unmerged(b, s, n);
    if (id != TEXT_NONE)
        return add_ids(c->out, &id, 1);
    for (size_t i = 0, len; i < n; i += len) {
        size_t n_ids;
        len = bpe_part(b, s + i, n - i);
        if (!token_list_reserve(c->out, len))
            return -LLMD_ENOMEM;
        int rc = bpe_encode(b, &c->scratch, s + i, len, c->out->ids + c->out->n, &n_ids);
        if (rc < 0)
            return rc;
        c->out->n += n_ids;
    }
    return 0;
}

static int encode_byte_level(struct encoding *c, const char *s, size_t n)
{
    const struct tokenizer *t = c->t;
    if (t->add_prefix_space && n > 0 && s[0] != ' ') {
        buf_clear(&c->spaced);
        buf_addch(&c->spaced, ' ');
        buf_add(&c->spaced, s, n);
        if (c->spaced.failed)
            return -LLMD_ENOMEM;
        s = buf_str(&c->spaced);
        n = c->spaced.len;
    }
    for (size_t i = 0, len; i < n; i += len) {
        len = t->pretok->piece(t->pretok, &t->classes, s + i, n - i);
        int rc = encode_piece(c, s + i, len);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static bool begins_with_space(const char *s, size_t n)
{
    if (n > 0 && s[0] == ' ')
        return true;
    return n >= SPM_SPACE_N && memcmp(s, SPM_SPACE, SPM_SPACE_N) == 0;
}

/* Length of the piece at the beginning of s[0..n-1]: all of it, or up to the next space. */
static size_t spaced_piece(bool split, const char *s, size_t n)
{
    for (size_t i = 1; split && i < n; i++) {
        const char *space = memchr(s + i, SPM_SPACE[0], n - i);
        if (!space)
            break;
        i = (size_t)(space - s);
        if (n - i >= SPM_SPACE_N && memcmp(space, SPM_SPACE, SPM_SPACE_N) == 0)
            return i;
    }
    return n;
}

/* A stretch of a SentencePiece-style vocabulary; `first`: the text begins with it. */
static int encode_spm(struct encoding *c, const char *s, size_t n, bool first)
{
    const struct tokenizer *t = c->t;
    if (!t->spaces_normalized) {
        bool prefix = t->space_prefix == SPACE_PREFIX_ABSENT ||
                      (t->space_prefix == SPACE_PREFIX_FIRST && first);
        buf_clear(&c->spaced);
        if (prefix && !begins_with_space(s, n))
            buf_add(&c->spaced, SPM_SPACE, SPM_SPACE_N);
        add_spaced(&c->spaced, s, n);
        if (c->spaced.failed)
            return -LLMD_ENOMEM;
        s = buf_str(&c->spaced);
        n = c->spaced.len;
    }
    for (size_t i = 0, len; i < n; i += len) {
        len = spaced_piece(t->split_spaces, s + i, n - i);
        int rc = encode_piece(c, s + i, len);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* A stretch without added tokens. */
static int encode_plain(struct encoding *c, const char *s, size_t n, bool first)
{
    return c->t->form == TOKENIZER_SPM ? encode_spm(c, s, n, first) : encode_byte_level(c, s, n);
}

/* A stretch between added tokens of the text as it comes. */
static int encode_stretch(struct encoding *c, const char *s, size_t n, bool first)
{
    if (!tokenizer_normalize(c->t, s, n, &c->normal)) {
        if (c->normal.failed)
            return -LLMD_ENOMEM;
        s = buf_str(&c->normal);
        n = c->normal.len;
    }
    struct added_scan scan = added_scan(&c->t->normalized, s, n, c->special);
    for (;;) {
        struct added_match m = added_next(&scan);
        int rc = 0;
        if (m.begin > m.before)
            rc = encode_plain(c, s + m.before, m.begin - m.before, first && m.before == 0);
        if (rc < 0 || m.id == TEXT_NONE)
            return rc;
        rc = add_ids(c->out, &m.id, 1);
        if (rc < 0)
            return rc;
    }
}

static int encode_text(struct encoding *c, const char *s, size_t n)
{
    struct added_scan scan = added_scan(&c->t->raw, s, n, c->special);
    for (;;) {
        struct added_match m = added_next(&scan);
        int rc = 0;
        if (m.begin > m.before)
            rc = encode_stretch(c, s + m.before, m.begin - m.before, m.before == 0);
        if (rc < 0 || m.id == TEXT_NONE)
            return rc;
        rc = add_ids(c->out, &m.id, 1);
        if (rc < 0)
            return rc;
    }
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, unsigned flags,
                     struct token_list *out, struct err *e)
{
    struct encoding c = {.t = t, .out = out, .special = flags & TOKENIZE_PARSE_SPECIAL};
    size_t old_n = out->n;
    int rc = 0;
    size_t max_bytes = t->nfc || t->form == TOKENIZER_SPM ? MAX_TEXT_BYTES_LESS : MAX_TEXT_BYTES;
    if (n > max_bytes)
        return err_set(e, LLMD_ETOOBIG, "the text has %zu bytes; at most %zu can be tokenized", n,
                       max_bytes);
    size_t n_valid = utf8_valid_prefix(text, n);
    if (n_valid < n)
        return err_set(e, LLMD_EINVAL, "the text is not valid UTF-8 at byte %zu", n_valid);
    if (flags & TOKENIZE_ADD_SPECIAL)
        rc = add_ids(out, t->prefix_ids, t->n_prefix_ids);
    if (rc == 0)
        rc = encode_text(&c, text, n);
    if (rc == 0 && (flags & TOKENIZE_ADD_SPECIAL))
        rc = add_ids(out, t->suffix_ids, t->n_suffix_ids);
    bpe_scratch_fini(&c.scratch);
    buf_fini(&c.normal);
    buf_fini(&c.spaced);
    if (rc < 0) {
        out->n = old_n;
        err_set(e, LLMD_ENOMEM, "no memory to tokenize a text of %zu bytes", n);
    }
    return rc;
}

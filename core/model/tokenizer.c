#include "core/model/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "core/model/added_int.h"
#include "core/model/bpe_int.h"
#include "core/model/pretok_int.h"
#include "core/util/utf8.h"

#define MAX_TEXT_BYTES ((size_t)1 << 30)

/* What models write at the end of a turn, or of a message that waits for a tool. The separator
 * of documents (<|endoftext|>) is not among them: a model that ends its turns with it names it
 * as its eos. */
static const char *const turn_ends[] = {"<|im_end|>", "<|eot_id|>", "<|eom_id|>"};

struct tokenizer {
    struct vocab vocab;
    struct bpe bpe;
    struct added added;
    const struct pretok *pretok;
    struct char_classes classes;
    uint32_t bos_id; /* TEXT_NONE: encode() never adds one */
    uint32_t eos_ids[1 + ARRAY_LEN(turn_ends)];
    uint32_t n_eos_ids;
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

static int find_pretok(struct tokenizer *t, const struct tokenizer_spec *spec, struct err *e)
{
    const char *name = spec->pretokenizer ? spec->pretokenizer : "";
    t->pretok = pretok_find(name);
    if (t->pretok)
        return 0;
    struct buf known = {0};
    for (size_t i = 0; pretok_name(i); i++)
        buf_addf(&known, "%s'%s'", i > 0 ? ", " : "", pretok_name(i));
    int rc = err_set(e, LLMD_EUNSUPPORTED, "%s: unknown pretokenizer '%s'; known are %s",
                     spec->source, quote_text(name, strlen(name)).s, buf_str(&known));
    buf_fini(&known);
    return rc;
}

static int check_id(const struct tokenizer_spec *spec, const char *what, int64_t id, struct err *e)
{
    if (id >= -1 && id < (int64_t)spec->n_tokens)
        return 0;
    return err_set(e, LLMD_EPARSE, "%s: the %s id %lld is outside of the %u tokens", spec->source,
                   what, (long long)id, spec->n_tokens);
}

static int set_special_ids(struct tokenizer *t, const struct tokenizer_spec *spec, struct err *e)
{
    int rc = check_id(spec, "bos", spec->bos_id, e);
    if (rc == 0)
        rc = check_id(spec, "eos", spec->eos_id, e);
    if (rc < 0)
        return rc;
    if (spec->add_bos && spec->bos_id < 0)
        return err_set(e, LLMD_EPARSE, "%s: texts shall begin with bos, but no bos id is given",
                       spec->source);
    t->bos_id = spec->add_bos ? (uint32_t)spec->bos_id : TEXT_NONE;
    if (spec->eos_id >= 0)
        t->eos_ids[t->n_eos_ids++] = (uint32_t)spec->eos_id;
    for (size_t i = 0; i < ARRAY_LEN(turn_ends); i++) {
        uint32_t id = vocab_find(&t->vocab, turn_ends[i], strlen(turn_ends[i]));
        if (id != TEXT_NONE && id != spec->eos_id && t->vocab.kinds[id] == TOKEN_CONTROL)
            t->eos_ids[t->n_eos_ids++] = id;
    }
    return 0;
}

int tokenizer_new(const struct tokenizer_spec *spec, struct tokenizer **out, struct err *e)
{
    struct tokenizer *t = calloc(1, sizeof(*t));
    if (!t)
        return err_set(e, LLMD_ENOMEM, "%s: no memory for the tokenizer", spec->source);
    int rc = find_pretok(t, spec, e);
    if (rc == 0)
        rc = vocab_init(&t->vocab, spec, e);
    if (rc == 0)
        rc = set_special_ids(t, spec, e);
    if (rc == 0)
        rc = bpe_init(&t->bpe, &t->vocab, spec, e);
    if (rc == 0)
        rc = added_init(&t->added, &t->vocab, spec->source, e);
    if (rc < 0) {
        tokenizer_free(t);
        return rc;
    }
    char_classes_init(&t->classes);
    *out = t;
    return 0;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t)
        return;
    added_fini(&t->added);
    bpe_fini(&t->bpe);
    vocab_fini(&t->vocab);
    free(t);
}

/* Appends the tokens of a text without added tokens. */
static int encode_plain(const struct tokenizer *t, struct bpe_scratch *sc, const char *s, size_t n,
                        struct token_list *out)
{
    for (size_t i = 0; i < n;) {
        size_t len = t->pretok->piece(t->pretok, &t->classes, s + i, n - i), n_ids;
        if (!token_list_reserve(out, len))
            return -LLMD_ENOMEM;
        int rc = bpe_encode(&t->bpe, sc, s + i, len, out->ids + out->n, &n_ids);
        if (rc < 0)
            return rc;
        out->n += n_ids;
        i += len;
    }
    return 0;
}

static int encode_text(const struct tokenizer *t, struct bpe_scratch *sc, const char *s, size_t n,
                       bool control, struct token_list *out)
{
    for (size_t at = 0; at < n;) {
        struct added_match m = added_find(&t->added, s, at, n, control);
        int rc = encode_plain(t, sc, s + at, m.begin - at, out);
        if (rc < 0)
            return rc;
        if (m.begin == m.end)
            break;
        if (!token_list_reserve(out, 1))
            return -LLMD_ENOMEM;
        out->ids[out->n++] = m.id;
        at = m.end;
    }
    return 0;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, unsigned flags,
                     struct token_list *out, struct err *e)
{
    if (n > MAX_TEXT_BYTES)
        return err_set(e, LLMD_ETOOBIG, "the text has %zu bytes; at most %zu can be tokenized", n,
                       MAX_TEXT_BYTES);
    if (!utf8_valid(text, n))
        return err_set(e, LLMD_EINVAL, "the text is not valid UTF-8");
    struct bpe_scratch sc = {NULL, 0};
    size_t old_n = out->n;
    int rc = 0;
    if ((flags & TOKENIZE_ADD_SPECIAL) && t->bos_id != TEXT_NONE) {
        if (token_list_reserve(out, 1))
            out->ids[out->n++] = t->bos_id;
        else
            rc = -LLMD_ENOMEM;
    }
    if (rc == 0)
        rc = encode_text(t, &sc, text, n, flags & TOKENIZE_PARSE_SPECIAL, out);
    bpe_scratch_fini(&sc);
    if (rc < 0) {
        out->n = old_n;
        err_set(e, LLMD_ENOMEM, "no memory to tokenize a text of %zu bytes", n);
    }
    return rc;
}

uint32_t tokenizer_n_tokens(const struct tokenizer *t)
{
    return t->vocab.n;
}

struct token_text tokenizer_bytes(const struct tokenizer *t, uint32_t id)
{
    struct token_text text;
    BUG_ON(id >= t->vocab.n);
    text.s = text_at(&t->vocab.bytes, id, &text.n);
    return text;
}

bool tokenizer_is_control(const struct tokenizer *t, uint32_t id)
{
    BUG_ON(id >= t->vocab.n);
    return t->vocab.kinds[id] == TOKEN_CONTROL || t->vocab.kinds[id] == TOKEN_UNKNOWN;
}

int64_t tokenizer_find(const struct tokenizer *t, const char *text, size_t n)
{
    uint32_t id = vocab_find(&t->vocab, text, n);
    return id == TEXT_NONE ? -1 : (int64_t)id;
}

const uint32_t *tokenizer_eos_ids(const struct tokenizer *t, uint32_t *out_n)
{
    *out_n = t->n_eos_ids;
    return t->eos_ids;
}

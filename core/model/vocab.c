#include "core/model/vocab_int.h"

#include <stdlib.h>
#include <string.h>

#include "core/util/printable.h"
#include "core/util/utf8.h"

#define ALPHABET_END 0x144 /* 256 bytes: 188 written as themselves, 68 from U+0100 on */

struct alphabet {
    int16_t byte_of[ALPHABET_END]; /* by character; -1: not in the alphabet */
    uint16_t char_of[256];
};

static bool writes_itself(uint32_t b)
{
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
}

static void alphabet_init(struct alphabet *a)
{
    uint16_t next = 0x100;
    memset(a->byte_of, 0xff, sizeof(a->byte_of));
    for (uint32_t b = 0; b < 256; b++) {
        a->char_of[b] = writes_itself(b) ? (uint16_t)b : next++;
        a->byte_of[a->char_of[b]] = (int16_t)b;
    }
}

struct quoted quote_text(const char *s, size_t n)
{
    struct quoted q;
    size_t k = 0, len;
    for (size_t i = 0; i < n; k += len) {
        char shown[PRINTABLE_ESCAPE_MAX];
        i += printable_next(s + i, n - i, shown, &len);
        if (k + len + sizeof("...") > sizeof(q.s)) {
            memcpy(q.s + k, "...", 3);
            k += 3;
            break;
        }
        memcpy(q.s + k, shown, len);
    }
    q.s[k] = '\0';
    return q;
}

/* Writes the bytes that a written form stands for, at most n of them; returns their number. */
static size_t spell_bytes(const struct alphabet *a, const char *s, size_t n, bool normal, char *out)
{
    size_t k = 0;
    for (size_t i = 0; normal && i < n;) {
        uint32_t cp = 0;
        i += utf8_decode(s + i, n - i, &cp);
        normal = cp < ALPHABET_END && a->byte_of[cp] >= 0;
        if (normal)
            out[k++] = (char)a->byte_of[cp];
    }
    if (normal)
        return k;
    memcpy(out, s, n);
    return n;
}

/* Checks token i and adds its length to *total. */
static int check_token(const struct tokenizer_spec *spec, uint32_t i, size_t *total, struct err *e)
{
    const struct token_text *t = &spec->texts[i];
    if (t->n == 0)
        return err_set(e, LLMD_EPARSE, "%s: token %u is empty", spec->source, i);
    if (!utf8_valid(t->s, t->n))
        return err_set(e, LLMD_EPARSE, "%s: token %u '%s' is not valid UTF-8", spec->source, i,
                       quote_text(t->s, t->n).s);
    if (!size_add(*total, t->n, total) || *total > UINT32_MAX)
        return err_set(e, LLMD_ELIMIT, "%s: the tokens take more than 4 GiB", spec->source);
    switch (spec->kinds[i]) {
    case TOKEN_NORMAL:
    case TOKEN_UNKNOWN:
    case TOKEN_CONTROL:
    case TOKEN_USER_DEFINED:
    case TOKEN_UNUSED:
        return 0;
    case TOKEN_BYTE:
        return err_set(e, LLMD_EUNSUPPORTED,
                       "%s: token %u '%s' is a byte token: a SentencePiece vocabulary, where a "
                       "byte-level one (GPT-2 style) is needed",
                       spec->source, i, quote_text(t->s, t->n).s);
    }
    return err_set(e, LLMD_EPARSE, "%s: token %u has the unknown kind %d", spec->source, i,
                   (int)spec->kinds[i]);
}

static int vocab_alloc(struct vocab *v, uint32_t n, size_t total_bytes)
{
    v->written.bytes = malloc(total_bytes);
    v->bytes.bytes = malloc(total_bytes);
    v->written.at = malloc(((size_t)n + 1) * sizeof(uint32_t));
    v->bytes.at = malloc(((size_t)n + 1) * sizeof(uint32_t));
    v->kinds = malloc(n);
    if (!v->written.bytes || !v->bytes.bytes || !v->written.at || !v->bytes.at || !v->kinds ||
        !text_index_init(&v->by_written, n))
        return -LLMD_ENOMEM;
    return 0;
}

static int vocab_fill(struct vocab *v, const struct tokenizer_spec *spec, struct err *e)
{
    struct alphabet alphabet;
    uint32_t written_at = 0, bytes_at = 0;
    alphabet_init(&alphabet);
    v->written.at[0] = v->bytes.at[0] = 0;
    for (uint32_t i = 0; i < spec->n_tokens; i++) {
        const struct token_text *t = &spec->texts[i];
        memcpy(v->written.bytes + written_at, t->s, t->n);
        written_at += (uint32_t)t->n;
        bytes_at += (uint32_t)spell_bytes(&alphabet, t->s, t->n, spec->kinds[i] == TOKEN_NORMAL,
                                          v->bytes.bytes + bytes_at);
        v->written.at[i + 1] = written_at;
        v->bytes.at[i + 1] = bytes_at;
        v->kinds[i] = (uint8_t)spec->kinds[i];
        v->n = v->written.n = v->bytes.n = i + 1;
        if (t->n > v->max_written_bytes)
            v->max_written_bytes = t->n;
        uint32_t first = text_index_add(&v->by_written, &v->written, i);
        if (first != i)
            return err_set(e, LLMD_EPARSE, "%s: tokens %u and %u are both '%s'", spec->source,
                           first, i, quote_text(t->s, t->n).s);
    }
    return 0;
}

int vocab_init(struct vocab *v, const struct tokenizer_spec *spec, struct err *e)
{
    size_t total = 0;
    memset(v, 0, sizeof(*v));
    if (spec->n_tokens == 0)
        return err_set(e, LLMD_EPARSE, "%s: the vocabulary is empty", spec->source);
    if (spec->n_tokens > VOCAB_MAX_TOKENS)
        return err_set(e, LLMD_ELIMIT, "%s: %u tokens; at most %u are supported", spec->source,
                       spec->n_tokens, VOCAB_MAX_TOKENS);
    for (uint32_t i = 0; i < spec->n_tokens; i++) {
        int rc = check_token(spec, i, &total, e);
        if (rc < 0)
            return rc;
    }
    int rc = vocab_alloc(v, spec->n_tokens, total);
    if (rc < 0)
        err_set(e, LLMD_ENOMEM, "%s: no memory for %u tokens", spec->source, spec->n_tokens);
    else
        rc = vocab_fill(v, spec, e);
    if (rc < 0)
        vocab_fini(v);
    return rc;
}

void vocab_fini(struct vocab *v)
{
    text_index_fini(&v->by_written);
    free(v->written.bytes);
    free(v->written.at);
    free(v->bytes.bytes);
    free(v->bytes.at);
    free(v->kinds);
    memset(v, 0, sizeof(*v));
}

uint32_t vocab_find(const struct vocab *v, const char *s, size_t n)
{
    return text_index_find(&v->by_written, &v->written, s, n);
}

void vocab_byte_ids(const struct vocab *v, uint32_t out_ids[256])
{
    struct alphabet alphabet;
    char s[4];
    alphabet_init(&alphabet);
    for (uint32_t b = 0; b < 256; b++)
        out_ids[b] = vocab_find(v, s, utf8_encode(alphabet.char_of[b], s));
}

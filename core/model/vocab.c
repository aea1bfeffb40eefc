#include "core/model/vocab_int.h"

#include <stdio.h>
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

/* What a vocabulary is read from: the spec with its added tokens laid over it. */
struct source {
    const struct tokenizer_spec *spec;
    const struct token_text *texts; /* [n_tokens] */
    const struct token_text *forms; /* [n_tokens] what they are decoded as */
    const enum token_kind *kinds;   /* [n_tokens] */
    struct token_text *own_texts;   /* to be freed; NULL when the spec's arrays serve */
    struct token_text *own_forms;
    enum token_kind *own_kinds;
    struct alphabet alphabet;
};

/* Writes the bytes that a written form stands for, at most n of them; returns their number. */
static size_t spell_bytes(const struct alphabet *a, const char *s, size_t n, char *out)
{
    size_t k = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        i += utf8_decode(s + i, n - i, &cp);
        if (cp >= ALPHABET_END || a->byte_of[cp] < 0)
            return 0;
        out[k++] = (char)a->byte_of[cp];
    }
    return k;
}

/* Value of "<0xNN>"; -1 for another text. */
static int byte_form(const char *s, size_t n)
{
    int value = 0;
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>')
        return -1;
    for (size_t i = 3; i < 5; i++) {
        int c = s[i] >= 'a' ? s[i] - 'a' + 'A' : s[i];
        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'F')))
            return -1;
        value = value * 16 + (c <= '9' ? c - '0' : c - 'A' + 10);
    }
    return value;
}

/* Copies a text with U+2581 made a space; returns its length. */
static size_t copy_spaced(const char *s, size_t n, char *out)
{
    size_t k = 0;
    for (size_t i = 0; i < n; k++) {
        bool space = n - i >= SPM_SPACE_N && memcmp(s + i, SPM_SPACE, SPM_SPACE_N) == 0;
        out[k] = space ? ' ' : s[i];
        i += space ? SPM_SPACE_N : 1;
    }
    return k;
}

/* Writes the bytes of token i, at most as many as its form has, and its flags. */
static size_t spell(const struct source *src, uint32_t i, char *out, uint8_t *out_flags)
{
    const struct token_text *t = &src->forms[i];
    if (src->spec->form == TOKENIZER_SPM) {
        bool bytes = src->spec->byte_fallback && !src->spec->bytes_as_text;
        int byte = bytes ? byte_form(t->s, t->n) : -1;
        if (byte < 0)
            return copy_spaced(t->s, t->n, out);
        *out_flags |= VOCAB_BYTE;
        out[0] = (char)byte;
        return 1;
    }
    /* What merging can make is read by the alphabet, also where it is an added token too. */
    bool by_alphabet =
        src->kinds[i] == TOKEN_NORMAL || (src->spec->has_added && src->spec->texts[i].n > 0);
    size_t k = by_alphabet ? spell_bytes(&src->alphabet, t->s, t->n, out) : 0;
    if (k > 0) {
        *out_flags |= VOCAB_SPELLED;
        return k;
    }
    memcpy(out, t->s, t->n);
    return t->n;
}

static int check_byte_token(const struct source *src, uint32_t i, struct err *e)
{
    const struct tokenizer_spec *spec = src->spec;
    struct quoted shown = quote_text(src->texts[i].s, src->texts[i].n);
    if (spec->form != TOKENIZER_SPM)
        return err_set(e, LLMD_EUNSUPPORTED,
                       "%s: token %u '%s' is a byte token: a SentencePiece vocabulary, where a "
                       "byte-level one (GPT-2 style) is needed",
                       spec->source, i, shown.s);
    if (byte_form(src->texts[i].s, src->texts[i].n) < 0)
        return err_set(e, LLMD_EPARSE, "%s: byte token %u '%s' is not of the form '<0xNN>'",
                       spec->source, i, shown.s);
    return 0;
}

/* Checks token i and adds its length, and that of its form, to the totals. */
static int check_token(const struct source *src, uint32_t i, size_t *total, size_t *total_forms,
                       struct err *e)
{
    const struct token_text *t = &src->texts[i];
    const char *file = src->spec->source;
    if (t->n == 0 && src->kinds[i] != TOKEN_UNUSED)
        return err_set(e, LLMD_EPARSE, "%s: token %u is empty", file, i);
    if (!utf8_valid(t->s, t->n))
        return err_set(e, LLMD_EPARSE, "%s: token %u '%s' is not valid UTF-8", file, i,
                       quote_text(t->s, t->n).s);
    if (!size_add(*total, t->n, total) || !size_add(*total_forms, src->forms[i].n, total_forms) ||
        *total > UINT32_MAX || *total_forms > UINT32_MAX)
        return err_set(e, LLMD_ELIMIT, "%s: the tokens take more than 4 GiB", file);
    switch (src->kinds[i]) {
    case TOKEN_NORMAL:
    case TOKEN_UNKNOWN:
    case TOKEN_CONTROL:
    case TOKEN_USER_DEFINED:
    case TOKEN_UNUSED:
        return 0;
    case TOKEN_BYTE:
        return check_byte_token(src, i, e);
    }
    return err_set(e, LLMD_EPARSE, "%s: token %u has the unknown kind %d", file, i,
                   (int)src->kinds[i]);
}

/* Lays one added token over the vocabulary. */
static int lay_added(struct source *src, const struct added_token *a, struct token_text form,
                     struct err *e)
{
    const struct tokenizer_spec *spec = src->spec;
    struct quoted shown = quote_text(a->text.s, a->text.n);
    if (a->text.n == 0)
        return err_set(e, LLMD_EPARSE, "%s: added token %u is empty", spec->source, a->id);
    if (a->id >= spec->n_tokens)
        return err_set(e, LLMD_EPARSE, "%s: added token '%s' has the id %u of %u tokens",
                       spec->source, shown.s, a->id, spec->n_tokens);
    const struct token_text *own = &src->own_texts[a->id];
    if (own->n > 0 && (own->n != a->text.n || memcmp(own->s, a->text.s, own->n) != 0))
        return err_set(e, LLMD_EPARSE, "%s: added token %u is '%s', but the vocabulary has '%s'",
                       spec->source, a->id, shown.s, quote_text(own->s, own->n).s);
    src->own_texts[a->id] = a->text;
    src->own_forms[a->id] = form;
    src->own_kinds[a->id] = a->special ? TOKEN_CONTROL : TOKEN_USER_DEFINED;
    return 0;
}

static int source_init(struct source *src, const struct tokenizer_spec *spec,
                       const struct token_text *forms, struct err *e)
{
    size_t n_bytes = spec->n_tokens * sizeof(*src->own_texts);
    memset(src, 0, sizeof(*src));
    alphabet_init(&src->alphabet);
    src->spec = spec;
    src->texts = src->forms = spec->texts;
    src->kinds = spec->kinds;
    if (!spec->has_added)
        return 0;
    src->own_texts = malloc(n_bytes);
    src->own_forms = malloc(n_bytes);
    src->own_kinds = malloc(spec->n_tokens * sizeof(*src->own_kinds));
    if (!src->own_texts || !src->own_forms || !src->own_kinds)
        return err_set(e, LLMD_ENOMEM, "%s: no memory for %u tokens", spec->source, spec->n_tokens);
    memcpy(src->own_texts, spec->texts, n_bytes);
    memcpy(src->own_forms, spec->texts, n_bytes);
    memcpy(src->own_kinds, spec->kinds, spec->n_tokens * sizeof(*src->own_kinds));
    src->texts = src->own_texts;
    src->forms = src->own_forms;
    src->kinds = src->own_kinds;
    int rc = 0;
    for (uint32_t i = 0; i < spec->n_added && rc == 0; i++)
        rc = lay_added(src, &spec->added[i], forms[i], e);
    return rc;
}

static void source_fini(struct source *src)
{
    free(src->own_texts);
    free(src->own_forms);
    free(src->own_kinds);
}

static int vocab_alloc(struct vocab *v, uint32_t n, size_t total, size_t total_forms)
{
    v->written.bytes = malloc(total + 1);
    v->bytes.bytes = malloc(total_forms + 1);
    v->written.at = malloc(((size_t)n + 1) * sizeof(uint32_t));
    v->bytes.at = malloc(((size_t)n + 1) * sizeof(uint32_t));
    v->kinds = malloc(n);
    v->flags = calloc(n, 1);
    if (!v->written.bytes || !v->bytes.bytes || !v->written.at || !v->bytes.at || !v->kinds ||
        !v->flags || !text_index_init(&v->by_written, n))
        return -LLMD_ENOMEM;
    return 0;
}

static int vocab_fill(struct vocab *v, const struct source *src, struct err *e)
{
    uint32_t written_at = 0, bytes_at = 0;
    v->written.at[0] = v->bytes.at[0] = 0;
    for (uint32_t i = 0; i < src->spec->n_tokens; i++) {
        const struct token_text *t = &src->texts[i];
        if (t->n > 0)
            memcpy(v->written.bytes + written_at, t->s, t->n);
        written_at += (uint32_t)t->n;
        v->flags[i] = src->spec->texts[i].n == 0 ? VOCAB_EXTRA : 0;
        if (t->n > 0)
            bytes_at += (uint32_t)spell(src, i, v->bytes.bytes + bytes_at, &v->flags[i]);
        v->written.at[i + 1] = written_at;
        v->bytes.at[i + 1] = bytes_at;
        v->kinds[i] = (uint8_t)src->kinds[i];
        v->n = v->written.n = v->bytes.n = i + 1;
        if (t->n > v->max_written_bytes)
            v->max_written_bytes = t->n;
        uint32_t first = t->n > 0 ? text_index_add(&v->by_written, &v->written, i) : i;
        if (first != i)
            return err_set(e, LLMD_EPARSE, "%s: tokens %u and %u are both '%s'", src->spec->source,
                           first, i, quote_text(t->s, t->n).s);
    }
    return 0;
}

static int vocab_read(struct vocab *v, const struct source *src, struct err *e)
{
    const struct tokenizer_spec *spec = src->spec;
    size_t total = 0, total_forms = 0;
    for (uint32_t i = 0; i < spec->n_tokens; i++) {
        int rc = check_token(src, i, &total, &total_forms, e);
        if (rc < 0)
            return rc;
    }
    if (vocab_alloc(v, spec->n_tokens, total, total_forms) < 0)
        return err_set(e, LLMD_ENOMEM, "%s: no memory for %u tokens", spec->source, spec->n_tokens);
    return vocab_fill(v, src, e);
}

int vocab_init(struct vocab *v, const struct tokenizer_spec *spec, const struct token_text *forms,
               struct err *e)
{
    struct source src;
    memset(v, 0, sizeof(*v));
    if (spec->n_tokens == 0)
        return err_set(e, LLMD_EPARSE, "%s: the vocabulary is empty", spec->source);
    if (spec->n_tokens > VOCAB_MAX_TOKENS)
        return err_set(e, LLMD_ELIMIT, "%s: %u tokens; at most %u are supported", spec->source,
                       spec->n_tokens, VOCAB_MAX_TOKENS);
    int rc = source_init(&src, spec, forms, e);
    if (rc == 0)
        rc = vocab_read(v, &src, e);
    source_fini(&src);
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
    free(v->flags);
    memset(v, 0, sizeof(*v));
}

uint32_t vocab_find(const struct vocab *v, const char *s, size_t n)
{
    return text_index_find(&v->by_written, &v->written, s, n);
}

uint32_t vocab_find_own(const struct vocab *v, const char *s, size_t n)
{
    uint32_t id = vocab_find(v, s, n);
    return id != TEXT_NONE && (v->flags[id] & VOCAB_EXTRA) ? TEXT_NONE : id;
}

void vocab_byte_ids(const struct vocab *v, uint32_t out_ids[256])
{
    struct alphabet alphabet;
    char s[4];
    alphabet_init(&alphabet);
    for (uint32_t b = 0; b < 256; b++)
        out_ids[b] = vocab_find_own(v, s, utf8_encode(alphabet.char_of[b], s));
}

void vocab_fallback_ids(const struct vocab *v, uint32_t out_ids[256])
{
    char s[8];
    for (unsigned b = 0; b < 256; b++)
        out_ids[b] = vocab_find_own(v, s, (size_t)snprintf(s, sizeof(s), "<0x%02X>", b));
}

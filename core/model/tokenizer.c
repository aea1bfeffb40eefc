/* tokenizer.c - makes a tokenizer of a vocabulary, and answers about its tokens. */
#include "core/model/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "core/model/tokenizer_int.h"
#include "core/util/utf8.h"

/* What models write at the end of a turn, or of a message that waits for a tool. The separator
 * of documents (<|endoftext|>) is not among them: a model that ends its turns with it names it
 * as its eos. */
static const char *const turn_ends[] = {"<|im_end|>", "<|eot_id|>", "<|eom_id|>"};

static int no_memory(const struct tokenizer_spec *spec, struct err *e)
{
    return err_set(e, LLMD_ENOMEM, "%s: no memory for the tokenizer", spec->source);
}

static int unknown_pretok(const struct tokenizer_spec *spec, const char *name, struct err *e)
{
    struct buf known = {0};
    for (size_t i = 0; pretok_name(i); i++)
        buf_addf(&known, "%s'%s'", i > 0 ? ", " : "", pretok_name(i));
    int rc = err_set(e, LLMD_EUNSUPPORTED, "%s: unknown pretokenizer '%s'; known are %s",
                     spec->source, quote_text(name, strlen(name)).s, buf_str(&known));
    buf_fini(&known);
    return rc;
}

static int find_pretok(struct tokenizer *t, const struct tokenizer_spec *spec, struct err *e)
{
    const char *name = spec->pretokenizer ? spec->pretokenizer : "";
    if (spec->form == TOKENIZER_SPM)
        return 0;
    if (spec->scores)
        return err_set(e, LLMD_EUNSUPPORTED, "%s: scores in a byte-level vocabulary", spec->source);
    t->pretok = pretok_find(name);
    if (!t->pretok)
        return unknown_pretok(spec, name, e);
    bool alone = strcmp(name, "gpt-2") == 0 || strcmp(name, "none") == 0;
    if (spec->add_prefix_space && !alone)
        return err_set(e, LLMD_EUNSUPPORTED,
                       "%s: a space put before the text is not supported with the pretokenizer "
                       "'%s'",
                       spec->source, t->pretok->name);
    return 0;
}

static int check_id(const struct tokenizer_spec *spec, const char *what, int64_t id, struct err *e)
{
    if (id >= -1 && id < (int64_t)spec->n_tokens)
        return 0;
    return err_set(e, LLMD_EPARSE, "%s: the %s id %lld is outside of the %u tokens", spec->source,
                   what, (long long)id, spec->n_tokens);
}

static int check_ids(const struct tokenizer_spec *spec, const char *what, const uint32_t *ids,
                     uint32_t n, struct err *e)
{
    int rc = 0;
    for (uint32_t i = 0; i < n && rc == 0; i++)
        rc = check_id(spec, what, ids[i], e);
    return rc;
}

static int set_around(struct tokenizer *t, const struct tokenizer_spec *spec, struct err *e)
{
    if (spec->add_bos && spec->bos_id < 0)
        return err_set(e, LLMD_EPARSE, "%s: texts shall begin with bos, but no bos id is given",
                       spec->source);
    t->prefix_ids = malloc(((size_t)spec->n_prefix_ids + 1) * sizeof(*t->prefix_ids));
    t->suffix_ids = malloc(((size_t)spec->n_suffix_ids + 1) * sizeof(*t->suffix_ids));
    if (!t->prefix_ids || !t->suffix_ids)
        return no_memory(spec, e);
    if (spec->add_bos)
        t->prefix_ids[t->n_prefix_ids++] = (uint32_t)spec->bos_id;
    for (uint32_t i = 0; i < spec->n_prefix_ids; i++)
        t->prefix_ids[t->n_prefix_ids++] = spec->prefix_ids[i];
    for (uint32_t i = 0; i < spec->n_suffix_ids; i++)
        t->suffix_ids[t->n_suffix_ids++] = spec->suffix_ids[i];
    return 0;
}

static void add_eos(struct tokenizer *t, uint32_t id)
{
    for (uint32_t i = 0; i < t->n_eos_ids; i++)
        if (t->eos_ids[i] == id)
            return;
    t->eos_ids[t->n_eos_ids++] = id;
}

static int set_eos(struct tokenizer *t, const struct tokenizer_spec *spec, struct err *e)
{
    t->eos_ids = malloc((1 + (size_t)spec->n_eos_ids + ARRAY_LEN(turn_ends)) * sizeof(*t->eos_ids));
    if (!t->eos_ids)
        return no_memory(spec, e);
    if (spec->eos_id >= 0)
        add_eos(t, (uint32_t)spec->eos_id);
    for (uint32_t i = 0; i < spec->n_eos_ids; i++)
        add_eos(t, spec->eos_ids[i]);
    for (size_t i = 0; i < ARRAY_LEN(turn_ends) && !spec->eos_complete; i++) {
        uint32_t id = vocab_find(&t->vocab, turn_ends[i], strlen(turn_ends[i]));
        if (id != TEXT_NONE && t->vocab.kinds[id] == TOKEN_CONTROL)
            add_eos(t, id);
    }
    return 0;
}

static int set_special_ids(struct tokenizer *t, const struct tokenizer_spec *spec, struct err *e)
{
    int rc = check_id(spec, "bos", spec->bos_id, e);
    if (rc == 0)
        rc = check_id(spec, "eos", spec->eos_id, e);
    if (rc == 0)
        rc = check_ids(spec, "eos", spec->eos_ids, spec->n_eos_ids, e);
    if (rc == 0)
        rc = check_ids(spec, "leading", spec->prefix_ids, spec->n_prefix_ids, e);
    if (rc == 0)
        rc = check_ids(spec, "trailing", spec->suffix_ids, spec->n_suffix_ids, e);
    if (rc == 0)
        rc = set_around(t, spec, e);
    return rc == 0 ? set_eos(t, spec, e) : rc;
}

/* ---- added tokens ---- */

/* Those of a vocabulary that tells them by kind. Returns their number; entries may be NULL. */
static uint32_t entries_by_kind(const struct vocab *v, struct added_entry *entries)
{
    uint32_t n = 0;
    for (uint32_t id = 0; id < v->n; id++) {
        bool plain = v->kinds[id] == TOKEN_USER_DEFINED;
        if (!plain && v->kinds[id] != TOKEN_CONTROL && v->kinds[id] != TOKEN_UNKNOWN)
            continue;
        if (entries) {
            struct added_entry *entry = &entries[n];
            *entry = (struct added_entry){.id = id, .order = n};
            entry->text.s = text_at(&v->written, id, &entry->text.n);
            entry->flags = plain ? 0 : ADDED_SPECIAL;
        }
        n++;
    }
    return n;
}

/* Those of a list that are looked for in normalized text, or those that are not. Special ones
 * come first among equals. */
static uint32_t entries_of_list(const struct tokenizer_spec *spec, const struct token_text *forms,
                                bool normalized, struct added_entry *entries)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < spec->n_added; i++) {
        const struct added_token *a = &spec->added[i];
        if (a->normalized != normalized)
            continue;
        entries[n] = (struct added_entry){
            .text = forms[i], .id = a->id, .order = a->special ? i : spec->n_added + i};
        entries[n++].flags =
            (uint8_t)((a->special ? ADDED_SPECIAL : 0) | (a->lstrip ? ADDED_LSTRIP : 0) |
                      (a->rstrip ? ADDED_RSTRIP : 0) | (a->single_word ? ADDED_SINGLE_WORD : 0));
    }
    return n;
}

/* What each added token of the list is found and decoded as: its text, normalized where it wants
 * that. The texts that normalization changes lie in *buf. */
static int added_forms(const struct tokenizer *t, const struct tokenizer_spec *spec,
                       struct token_text *forms, struct buf *buf, struct err *e)
{
    struct buf one = {0};
    size_t at = 0;
    for (uint32_t i = 0; i < spec->n_added; i++) {
        const struct added_token *a = &spec->added[i];
        forms[i] = a->text;
        if (!utf8_valid(a->text.s, a->text.n)) {
            buf_fini(&one);
            return err_set(e, LLMD_EPARSE, "%s: added token %u '%s' is not valid UTF-8",
                           spec->source, a->id, quote_text(a->text.s, a->text.n).s);
        }
        if (!a->normalized || tokenizer_normalize(t, a->text.s, a->text.n, &one))
            continue;
        buf_add(buf, one.data, one.len);
        buf->failed |= one.failed;
        forms[i] = (struct token_text){NULL, one.len}; /* its place is known when all are there */
    }
    buf_fini(&one);
    if (buf->failed)
        return no_memory(spec, e);
    for (uint32_t i = 0; i < spec->n_added; i++) {
        if (forms[i].s || forms[i].n == 0)
            continue;
        forms[i].s = buf_str(buf) + at;
        at += forms[i].n;
    }
    return 0;
}

static int set_added(struct tokenizer *t, const struct tokenizer_spec *spec,
                     const struct token_text *forms, struct err *e)
{
    uint32_t n = spec->has_added ? spec->n_added : entries_by_kind(&t->vocab, NULL);
    struct added_entry *entries = malloc(((size_t)n + 1) * sizeof(*entries));
    if (!entries)
        return no_memory(spec, e);
    n = spec->has_added ? entries_of_list(spec, forms, false, entries)
                        : entries_by_kind(&t->vocab, entries);
    int rc = added_init(&t->raw, entries, n, spec->source, e);
    n = spec->has_added ? entries_of_list(spec, forms, true, entries) : 0;
    if (rc == 0)
        rc = added_init(&t->normalized, entries, n, spec->source, e);
    free(entries);
    return rc;
}

/* ---- all of it ---- */

static int build(struct tokenizer *t, const struct tokenizer_spec *spec, struct err *e)
{
    struct buf buf = {0};
    struct token_text *forms = malloc(((size_t)spec->n_added + 1) * sizeof(*forms));
    int rc = forms ? find_pretok(t, spec, e) : no_memory(spec, e);
    if (rc == 0 && spec->has_added)
        rc = added_forms(t, spec, forms, &buf, e);
    if (rc == 0)
        rc = vocab_init(&t->vocab, spec, forms, e);
    if (rc == 0)
        rc = set_special_ids(t, spec, e);
    if (rc == 0)
        rc = bpe_init(&t->bpe, &t->vocab, spec, e);
    if (rc == 0)
        rc = set_added(t, spec, forms, e);
    free(forms);
    buf_fini(&buf);
    return rc;
}

int tokenizer_new(const struct tokenizer_spec *spec, struct tokenizer **out, struct err *e)
{
    struct tokenizer *t = calloc(1, sizeof(*t));
    if (!t)
        return no_memory(spec, e);
    t->form = spec->form;
    t->nfc = spec->nfc;
    t->add_prefix_space = spec->add_prefix_space;
    t->split_spaces = spec->split_spaces;
    t->spaces_normalized = spec->spaces_normalized || spec->space_prefix == SPACE_PREFIX_EVERY;
    t->strip_first_space = spec->strip_first_space;
    t->drop_first_spaces = spec->drop_first_spaces;
    t->space_prefix = spec->space_prefix;
    char_classes_init(&t->classes);
    nfc_init(&t->nfc_table);
    int rc = build(t, spec, e);
    if (rc < 0) {
        tokenizer_free(t);
        return rc;
    }
    *out = t;
    return 0;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t)
        return;
    added_fini(&t->raw);
    added_fini(&t->normalized);
    bpe_fini(&t->bpe);
    vocab_fini(&t->vocab);
    free(t->prefix_ids);
    free(t->suffix_ids);
    free(t->eos_ids);
    free(t);
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

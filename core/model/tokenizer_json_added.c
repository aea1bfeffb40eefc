/* tokenizer_json_added.c - the section "added_tokens", and which id every token has.
 *
 * As in `tokenizers`: an added token that the vocabulary holds has the id that it has there;
 * others are numbered in their order behind the vocabulary, whatever "id" says. */
#include <stdlib.h>
#include <string.h>

#include "core/model/text_index_int.h"
#include "core/model/tokenizer_json_int.h"
#include "core/model/vocab_int.h"

static bool read_flag(struct tokjson *t, struct json_str key, struct added_token *a, uint32_t *seen)
{
    static const char *const names[] = {"single_word", "lstrip", "rstrip", "normalized", "special"};
    bool *const flags[] = {&a->single_word, &a->lstrip, &a->rstrip, &a->normalized, &a->special};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (!json_str_is(key, names[i]))
            continue;
        *seen |= 1u << i;
        json_read_bool(&t->r, flags[i]);
        return true;
    }
    return false;
}

static int read_added_token(struct tokjson *t, struct added_token *a)
{
    enum { ALL_FLAGS = 0x1f, ID = 0x20, CONTENT = 0x40 };
    struct json_str key, s = {NULL, 0};
    uint32_t seen = 0;
    json_open_object(&t->r);
    while (json_next_key(&t->r, &key)) {
        if (json_str_is(key, "id")) {
            seen |= ID;
            json_read_u32(&t->r, &a->id);
        } else if (json_str_is(key, "content")) {
            seen |= CONTENT;
            json_read_str(&t->r, &s);
        } else if (!read_flag(t, key, a, &seen)) {
            return err_set(t->err, LLMD_EUNSUPPORTED, "entry %zu: the option '%s' is not known",
                           t->n_added, quote_text(key.s, key.n).s);
        }
    }
    if (t->r.rc < 0)
        return t->r.rc;
    if (seen != (ALL_FLAGS | ID | CONTENT))
        return err_set(t->err, LLMD_EPARSE,
                       "entry %zu '%s' lacks one of id, content, single_word, lstrip, rstrip, "
                       "normalized, special",
                       t->n_added, quote_text(s.s ? s.s : "", s.n).s);
    a->text = (struct token_text){s.s, s.n};
    return 0;
}

int tokjson_read_added(struct tokjson *t)
{
    json_open_array(&t->r);
    while (json_next_item(&t->r)) {
        struct added_token a = {0};
        int rc = read_added_token(t, &a);
        if (rc < 0)
            return rc;
        if (a.text.n == 0)
            continue; /* of an empty one `tokenizers` takes no notice */
        if (t->n_added == TOKJSON_MAX_ADDED)
            return err_set(t->err, LLMD_ELIMIT, "more than %d tokens", TOKJSON_MAX_ADDED);
        if (!tokjson_room(&t->added, t->n_added, &t->cap_added, sizeof(*t->added)))
            return tokjson_no_memory(t);
        t->added[t->n_added++] = a;
    }
    return t->r.rc;
}

/* ---- ids ---- */

/* Written forms whose ids are looked for: the added tokens, then unk, bos and eos. */
struct wanted {
    struct text_list list;
    struct text_index index;
    uint32_t *ids; /* [n] in the model's vocabulary; TEXT_NONE: not there */
};

static void wanted_fini(struct wanted *w)
{
    text_index_fini(&w->index);
    free(w->list.bytes);
    free(w->list.at);
    free(w->ids);
}

static bool wanted_init(struct wanted *w, const struct tokjson *t, size_t more_bytes)
{
    size_t n = t->n_added + 3, n_bytes = more_bytes + 1;
    for (size_t i = 0; i < t->n_added; i++)
        n_bytes += t->added[i].text.n; /* all of it lies in a file of limited size */
    memset(w, 0, sizeof(*w));
    w->list.bytes = malloc(n_bytes);
    w->list.at = calloc(n + 1, sizeof(*w->list.at));
    w->ids = malloc(n * sizeof(*w->ids));
    if (!w->list.bytes || !w->list.at || !w->ids || !text_index_init(&w->index, (uint32_t)n))
        return false;
    memset(w->ids, 0xff, n * sizeof(*w->ids)); /* TEXT_NONE */
    return true;
}

/* Adds a form; returns the number of the first that is equal. */
static uint32_t wanted_add(struct wanted *w, const char *s, size_t n)
{
    uint32_t i = w->list.n++;
    memcpy(w->list.bytes + w->list.at[i], s, n);
    w->list.at[i + 1] = w->list.at[i] + (uint32_t)n;
    return text_index_add(&w->index, &w->list, i);
}

static int add_wanted(struct tokjson *t, struct wanted *w)
{
    for (uint32_t i = 0; i < t->n_added; i++) {
        struct token_text s = t->added[i].text;
        if (wanted_add(w, s.s, s.n) != i)
            return tokjson_fault(t, LLMD_EPARSE, "added_tokens", "'%s' occurs twice",
                                 quote_text(s.s, s.n).s);
    }
    return 0;
}

/* Looks every entry of the vocabulary up among the wanted. */
static void find_wanted(const struct tokjson *t, struct wanted *w)
{
    for (size_t i = 0; i < t->n_vocab; i++) {
        const struct vocab_entry *v = &t->vocab[i];
        uint32_t k = text_index_find(&w->index, &w->list, v->text.s, v->text.n);
        if (k != TEXT_NONE)
            w->ids[k] = v->id;
    }
}

/* Numbers the added tokens; returns the highest id of all, at least 0. */
static uint32_t number_added(struct tokjson *t, const struct wanted *w)
{
    uint64_t highest = 0, highest_added = 0, n_vocab = t->n_vocab;
    for (size_t i = 0; i < t->n_vocab; i++)
        highest = u64_max(highest, t->vocab[i].id);
    for (size_t i = 0; i < t->n_added; i++) {
        uint64_t id = w->ids[i];
        if (id == TEXT_NONE)
            id = i > 0 && highest_added >= n_vocab ? highest_added + 1 : n_vocab;
        highest_added = u64_max(highest_added, id);
        t->added[i].id = (uint32_t)id; /* may pass 2^32 only behind one that is refused below */
    }
    return (uint32_t)u64_min(u64_max(highest, highest_added), UINT32_MAX);
}

static int alloc_ids(struct tokjson *t, uint32_t highest)
{
    size_t n_given = t->n_vocab + t->n_added;
    if (highest >= n_given + TOKJSON_MAX_HOLES)
        return tokjson_fault(t, LLMD_EPARSE, "model.vocab", "there is an id %u among %zu tokens",
                             highest, n_given);
    t->spec.n_tokens = highest + 1;
    t->texts = calloc(t->spec.n_tokens, sizeof(*t->texts));
    t->kinds = calloc(t->spec.n_tokens, sizeof(*t->kinds));
    t->eos_ids = calloc((size_t)t->opts->n_eos_ids + 1, sizeof(*t->eos_ids));
    return t->texts && t->kinds && t->eos_ids ? 0 : tokjson_no_memory(t);
}

static int fill_vocab(struct tokjson *t)
{
    for (size_t i = 0; i < t->n_vocab; i++) {
        const struct vocab_entry *v = &t->vocab[i];
        struct token_text *text = &t->texts[v->id];
        if (text->n > 0)
            return tokjson_fault(t, LLMD_EPARSE, "model.vocab", "'%s' and '%s' both have the id %u",
                                 quote_text(text->s, text->n).s, quote_text(v->text.s, v->text.n).s,
                                 v->id);
        *text = v->text;
    }
    for (uint32_t id = 0; id < t->spec.n_tokens; id++)
        t->kinds[id] = t->texts[id].n > 0 ? TOKEN_NORMAL : TOKEN_UNUSED;
    return 0;
}

/* An added token that the vocabulary does not hold has an id of its own there. */
static int check_added(struct tokjson *t)
{
    for (size_t i = 0; i < t->n_added; i++) {
        const struct added_token *a = &t->added[i];
        const struct token_text *text = &t->texts[a->id];
        if (t->opts->n_vocab > 0 && a->id >= t->opts->n_vocab)
            return tokjson_fault(t, LLMD_EPARSE, "added_tokens",
                                 "'%s' has the id %u, but the model has %u tokens; "
                                 "delete it from the list if no text needs it",
                                 quote_text(a->text.s, a->text.n).s, a->id, t->opts->n_vocab);
        if (text->n > 0 && (text->n != a->text.n || memcmp(text->s, a->text.s, text->n) != 0))
            return tokjson_fault(
                t, LLMD_EPARSE, "added_tokens", "'%s' would have the id %u, which is that of '%s'",
                quote_text(a->text.s, a->text.n).s, a->id, quote_text(text->s, text->n).s);
    }
    return 0;
}

/* Id of wanted form k, among the added tokens or in the vocabulary; -1 when it is no token. */
static int64_t id_of(const struct tokjson *t, const struct wanted *w, uint32_t k)
{
    if (k < t->n_added)
        return t->added[k].id;
    return w->ids[k] == TEXT_NONE ? -1 : (int64_t)w->ids[k];
}

static int set_unk(struct tokjson *t, const struct wanted *w, uint32_t k)
{
    if (t->unk.n == 0)
        return 0;
    /* Only the vocabulary's own tokens can stand for what is unknown. */
    t->spec.has_unk = w->ids[k] != TEXT_NONE;
    t->spec.unk_id = t->spec.has_unk ? w->ids[k] : 0;
    if (id_of(t, w, k) < 0)
        return tokjson_fault(t, LLMD_EPARSE, "model.unk_token",
                             "'%s' is no token of the vocabulary",
                             quote_text(t->unk.s, t->unk.n).s);
    return 0;
}

static int set_eos(struct tokjson *t, int64_t eos)
{
    const struct tokenizer_json_opts *o = t->opts;
    if (o->eos_token && eos < 0 && o->n_eos_ids == 0)
        return err_set(t->err, LLMD_EPARSE, "the eos token '%s' is no token of the vocabulary",
                       quote_text(o->eos_token, strlen(o->eos_token)).s);
    bool listed = eos < 0;
    for (uint32_t i = 0; i < o->n_eos_ids; i++) {
        listed |= o->eos_ids[i] == eos;
        t->eos_ids[i] = o->eos_ids[i];
    }
    t->spec.n_eos_ids = o->n_eos_ids;
    if (!listed)
        t->eos_ids[t->spec.n_eos_ids++] = (uint32_t)eos;
    t->spec.eos_ids = t->eos_ids;
    t->spec.eos_complete = o->eos_complete;
    return 0;
}

static void hand_over(struct tokjson *t)
{
    t->spec.texts = t->texts;
    t->spec.kinds = t->kinds;
    t->spec.merge_pairs = t->merges;
    t->spec.n_merges = (uint32_t)t->n_merges;
    t->spec.has_added = true;
    t->spec.added = t->added;
    t->spec.n_added = (uint32_t)t->n_added;
}

int tokjson_set_ids(struct tokjson *t)
{
    const char *bos = t->opts->bos_token ? t->opts->bos_token : "";
    const char *eos = t->opts->eos_token ? t->opts->eos_token : "";
    struct wanted w;
    int rc = wanted_init(&w, t, t->unk.n + strlen(bos) + strlen(eos)) ? add_wanted(t, &w)
                                                                      : tokjson_no_memory(t);
    if (rc < 0)
        goto out;
    uint32_t unk_at = wanted_add(&w, t->unk.s ? t->unk.s : "", t->unk.n);
    uint32_t bos_at = wanted_add(&w, bos, strlen(bos));
    uint32_t eos_at = wanted_add(&w, eos, strlen(eos));
    find_wanted(t, &w);
    rc = alloc_ids(t, number_added(t, &w));
    if (rc == 0)
        rc = fill_vocab(t);
    if (rc == 0)
        rc = check_added(t);
    if (rc == 0)
        rc = set_unk(t, &w, unk_at);
    if (rc == 0)
        rc = set_eos(t, id_of(t, &w, eos_at));
    t->spec.bos_id = id_of(t, &w, bos_at);
    hand_over(t);
out:
    wanted_fini(&w);
    return rc;
}

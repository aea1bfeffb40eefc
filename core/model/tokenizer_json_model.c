/* tokenizer_json_model.c - the section "model": vocabulary, merges, switches. */
#include <string.h>

#include "core/model/tokenizer_json_int.h"
#include "core/model/vocab_int.h"

static struct token_text text_of(struct json_str s)
{
    return (struct token_text){s.s, s.n};
}

static int read_type(struct tokjson *t)
{
    struct json_str s;
    if (json_read_str(&t->r, &s) && !json_str_is(s, "BPE"))
        return err_set(t->err, LLMD_EUNSUPPORTED, "'%s' is not supported; known is 'BPE'",
                       quote_text(s.s, s.n).s);
    return t->r.rc;
}

static int read_vocab(struct tokjson *t)
{
    struct json_str key;
    uint32_t id, limit = t->opts->n_vocab;
    json_open_object(&t->r);
    while (json_next_key(&t->r, &key) && json_read_u32(&t->r, &id)) {
        if (key.n == 0)
            return err_set(t->err, LLMD_EPARSE, "token %u is empty", id);
        if (limit > 0 && id >= limit)
            return err_set(t->err, LLMD_EPARSE,
                           "the token '%s' has the id %u, but the model has %u tokens",
                           quote_text(key.s, key.n).s, id, limit);
        if (t->n_vocab == TOKJSON_MAX_TOKENS)
            return err_set(t->err, LLMD_ELIMIT, "more than %d tokens", TOKJSON_MAX_TOKENS);
        if (!tokjson_room(&t->vocab, t->n_vocab, &t->cap_vocab, sizeof(*t->vocab)))
            return tokjson_no_memory(t);
        t->vocab[t->n_vocab++] = (struct vocab_entry){text_of(key), id};
    }
    return t->r.rc;
}

/* "left right": one space in all. */
static bool split_merge(struct json_str s, struct merge_pair *out)
{
    const char *space = s.n > 0 ? memchr(s.s, ' ', s.n) : NULL;
    size_t n_left = space ? (size_t)(space - s.s) : 0, n_right = s.n - n_left - 1;
    if (n_left == 0 || n_right == 0 || memchr(space + 1, ' ', n_right))
        return false;
    out->left = (struct token_text){s.s, n_left};
    out->right = (struct token_text){space + 1, n_right};
    return true;
}

static int bad_merge(struct tokjson *t, const char *expected)
{
    return err_set(t->err, LLMD_EPARSE, "merge %zu is not %s, as the first one is", t->n_merges,
                   expected);
}

/* One merge: "left right" or ["left", "right"]. */
static int read_merge(struct tokjson *t, bool pairs, struct merge_pair *out)
{
    struct json_str s[2];
    if (!pairs) {
        if (json_peek(&t->r) != '"')
            return bad_merge(t, "of the form 'left right'");
        if (json_read_str(&t->r, &s[0]) && !split_merge(s[0], out))
            return err_set(t->err, LLMD_EPARSE, "merge %zu '%s' is not of the form 'left right'",
                           t->n_merges, quote_text(s[0].s, s[0].n).s);
        return t->r.rc;
    }
    if (json_peek(&t->r) != '[')
        return bad_merge(t, "a pair");
    json_open_array(&t->r);
    for (int i = 0; i < 2; i++) {
        if (json_next_item(&t->r))
            json_read_str(&t->r, &s[i]);
        else
            return t->r.rc < 0 ? t->r.rc : bad_merge(t, "a pair of two tokens");
    }
    if (json_next_item(&t->r))
        return bad_merge(t, "a pair of two tokens");
    if (t->r.rc == 0)
        *out = (struct merge_pair){text_of(s[0]), text_of(s[1])};
    return t->r.rc;
}

static int read_merges(struct tokjson *t)
{
    int rc = 0;
    bool pairs = false;
    json_open_array(&t->r);
    while (rc == 0 && json_next_item(&t->r)) {
        if (t->n_merges == TOKJSON_MAX_MERGES)
            return err_set(t->err, LLMD_ELIMIT, "more than %d merges", TOKJSON_MAX_MERGES);
        if (!tokjson_room(&t->merges, t->n_merges, &t->cap_merges, sizeof(*t->merges)))
            return tokjson_no_memory(t);
        if (t->n_merges == 0)
            pairs = json_peek(&t->r) == '[';
        rc = read_merge(t, pairs, &t->merges[t->n_merges]);
        t->n_merges += rc == 0;
    }
    return rc < 0 ? rc : t->r.rc;
}

static int read_unk(struct tokjson *t)
{
    if (!json_read_null(&t->r))
        json_read_str(&t->r, &t->unk);
    return t->r.rc;
}

/* Prefix and suffix of subwords: only none at all is supported. */
static int read_no_text(struct tokjson *t)
{
    struct json_str s;
    if (!json_read_null(&t->r) && json_read_str(&t->r, &s) && s.n > 0)
        return err_set(t->err, LLMD_EUNSUPPORTED, "'%s' is not supported; known is null",
                       quote_text(s.s, s.n).s);
    return t->r.rc;
}

/* Dropout makes ids random: only none at all is supported. */
static int read_dropout(struct tokjson *t)
{
    struct json_str s;
    if (!json_read_null(&t->r) && json_skip(&t->r, &s) && !json_str_is(s, "0.0"))
        return err_set(t->err, LLMD_EUNSUPPORTED, "'%s' is not supported; known is null",
                       quote_text(s.s, s.n).s);
    return t->r.rc;
}

static int read_flag(struct tokjson *t, bool *out)
{
    if (!json_read_null(&t->r))
        json_read_bool(&t->r, out);
    return t->r.rc;
}

static int read_fuse_unk(struct tokjson *t)
{
    return read_flag(t, &t->spec.fuse_unk);
}

static int read_byte_fallback(struct tokjson *t)
{
    return read_flag(t, &t->spec.byte_fallback);
}

static int read_ignore_merges(struct tokjson *t)
{
    return read_flag(t, &t->spec.ignore_merges);
}

static const struct {
    const char *key; /* with the section's name, for messages */
    int (*read)(struct tokjson *t);
    bool required;
} members[] = {
    {"model.type", read_type, false},
    {"model.dropout", read_dropout, false},
    {"model.unk_token", read_unk, false},
    {"model.continuing_subword_prefix", read_no_text, false},
    {"model.end_of_word_suffix", read_no_text, false},
    {"model.fuse_unk", read_fuse_unk, false},
    {"model.byte_fallback", read_byte_fallback, false},
    {"model.ignore_merges", read_ignore_merges, false},
    {"model.vocab", read_vocab, true},
    {"model.merges", read_merges, true},
};

static int read_member(struct tokjson *t, struct json_str key, uint32_t *seen)
{
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        if (!json_str_is(key, members[i].key + strlen("model.")))
            continue;
        if (*seen & 1u << i)
            return err_set(t->err, LLMD_EPARSE, "key '%s': it occurs twice", members[i].key);
        *seen |= 1u << i;
        int rc = members[i].read(t);
        if (rc < 0)
            err_prefix(t->err, "key '%s': ", members[i].key);
        return rc;
    }
    return err_set(t->err, LLMD_EUNSUPPORTED, "the option '%s' is not known",
                   quote_text(key.s, key.n).s);
}

int tokjson_read_model(struct tokjson *t)
{
    struct json_str key;
    uint32_t seen = 0;
    int rc = 0;
    json_open_object(&t->r);
    while (rc == 0 && json_next_key(&t->r, &key))
        rc = read_member(t, key, &seen);
    if (rc == 0)
        rc = t->r.rc;
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(members); i++)
        if (members[i].required && !(seen & 1u << i))
            rc = err_set(t->err, LLMD_EPARSE, "key '%s': missing", members[i].key);
    return rc;
}

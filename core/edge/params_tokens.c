/* params_tokens.c - fields that speak of tokens: which end an answer, are preferred or forbidden. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/edge/params_int.h"

/* Entries of a list that is looked at for every token. */
enum {
    MAX_LISTED_TOKENS = 1024,
    MAX_BAD_WORDS = 128,
    MAX_BAD_WORD_TOKENS = 64,
    MAX_BAD_WORD_BYTES = 2048, /* looked at before it is tokenized, twice */
};

static const float MAX_BIAS = 100.0f;

static int out_of_memory(const char *name, struct err *e)
{
    return err_set_param(e, LLMD_ENOMEM, name, "out of memory for field '%s'", name);
}

int params_token_ids(const json_t *body, const char *name, size_t max, struct plan *p,
                     const uint32_t **out_ids, uint32_t *out_n, struct err *e)
{
    json_t *v = field_get(body, name);
    *out_ids = NULL;
    *out_n = 0;
    if (!v)
        return 0;
    if (!json_is_array(v))
        return field_wrong(name, "a list of token ids", v, e);
    if (json_array_size(v) > max)
        return err_set_param(e, LLMD_EINVAL, name, "field '%s' takes at most %zu token ids", name,
                             max);
    uint32_t n_vocab = tokenizer_n_tokens(p->rules.tokenizer);
    uint32_t *ids = arena_array(&p->arena, json_array_size(v) + 1, sizeof(*ids));
    if (!ids)
        return out_of_memory(name, e);
    size_t i;
    json_t *item;
    json_array_foreach(v, i, item)
    {
        json_int_t id = json_integer_value(item);
        if (!json_is_integer(item) || id < 0 || id >= n_vocab)
            return err_set_param(e, LLMD_EINVAL, name,
                                 "field '%s' must hold token ids from 0 to %u only", name,
                                 n_vocab - 1);
        ids[i] = (uint32_t)id;
    }
    *out_ids = ids;
    *out_n = (uint32_t)json_array_size(v);
    return 0;
}

static int read_allowed(const json_t *body, struct plan *p, struct err *e)
{
    static const char name[] = "allowed_token_ids";
    struct sampling_params *s = &p->sampling;
    int rc = params_token_ids(body, name, tokenizer_n_tokens(p->rules.tokenizer), p,
                              &s->allowed_ids, &s->n_allowed_ids, e);
    if (rc == 0 && s->allowed_ids && s->n_allowed_ids == 0)
        return err_set_param(e, LLMD_EINVAL, name,
                             "field '%s' must not be an empty list: nothing could be generated",
                             name);
    return rc;
}

/* --- logit_bias --- */

static int read_bias(const char *key, const json_t *value, uint32_t n_vocab, struct logit_bias *out,
                     struct err *e)
{
    char *end;
    unsigned long long id = strtoull(key, &end, 10);
    if (key[0] < '0' || key[0] > '9' || *end || id >= n_vocab)
        return err_set_param(e, LLMD_EINVAL, "logit_bias",
                             "field 'logit_bias' must have token ids from 0 to %u as keys",
                             n_vocab - 1);
    if (!json_is_number(value))
        return err_set_param(e, LLMD_EINVAL, "logit_bias",
                             "field 'logit_bias' must have numbers as values");
    float bias = (float)json_number_value(value);
    *out = (struct logit_bias){(uint32_t)id, fmaxf(-MAX_BIAS, fminf(MAX_BIAS, bias))};
    return 0;
}

static int read_logit_bias(const json_t *body, struct plan *p, struct err *e)
{
    json_t *o = NULL;
    int rc = field_object(body, "logit_bias", &o, e);
    size_t n = json_object_size(o);
    if (rc != 0 || n == 0)
        return rc;
    if (n > MAX_LISTED_TOKENS)
        return err_set_param(e, LLMD_EINVAL, "logit_bias",
                             "field 'logit_bias' takes at most %d token ids", MAX_LISTED_TOKENS);
    struct logit_bias *items = arena_array(&p->arena, n, sizeof(*items));
    if (!items)
        return out_of_memory("logit_bias", e);
    const char *key;
    json_t *value;
    uint32_t i = 0;
    json_object_foreach(o, key, value)
    {
        rc = read_bias(key, value, tokenizer_n_tokens(p->rules.tokenizer), &items[i++], e);
        if (rc != 0)
            return rc;
    }
    p->sampling.logit_bias = items;
    p->sampling.n_logit_bias = i;
    return 0;
}

/* --- bad_words --- */

static int encode_word(const char *s, size_t n, bool space_before, struct plan *p,
                       struct token_list *out, struct err *e)
{
    struct buf text = {0};
    if (space_before)
        buf_addch(&text, ' ');
    buf_add(&text, s, n);
    int rc = text.failed
                 ? out_of_memory("bad_words", e)
                 : tokenizer_encode(p->rules.tokenizer, buf_str(&text), text.len, 0, out, e);
    buf_fini(&text);
    return rc;
}

static int add_run(const struct token_list *ids, struct plan *p, struct token_run *runs,
                   struct err *e)
{
    uint32_t *copy = arena_array(&p->arena, ids->n, sizeof(*copy));
    if (!copy)
        return out_of_memory("bad_words", e);
    memcpy(copy, ids->ids, ids->n * sizeof(*copy));
    runs[p->sampling.n_bad_words++] = (struct token_run){copy, (uint32_t)ids->n};
    return 0;
}

/* A word is forbidden where it begins a text and, when that takes other tokens, behind a space. */
static int add_bad_word(const char *s, size_t n, struct plan *p, struct token_run *runs,
                        struct err *e)
{
    struct token_list bare = {0}, spaced = {0};
    while (n > 0 && strchr(" \t\n\r\f\v", s[0]) && s[0]) {
        s++;
        n--;
    }
    int rc = encode_word(s, n, false, p, &bare, e);
    if (rc == 0)
        rc = encode_word(s, n, true, p, &spaced, e);
    if (rc == 0 && bare.n > MAX_BAD_WORD_TOKENS)
        rc = err_set_param(e, LLMD_EINVAL, "bad_words",
                           "field 'bad_words' takes words of at most %d tokens",
                           MAX_BAD_WORD_TOKENS);
    if (rc == 0 && bare.n > 0)
        rc = add_run(&bare, p, runs, e);
    if (rc == 0 && bare.n > 0 && spaced.n == bare.n && spaced.ids[0] != bare.ids[0])
        rc = add_run(&spaced, p, runs, e);
    token_list_fini(&bare);
    token_list_fini(&spaced);
    return rc;
}

static int read_bad_words(const json_t *body, struct plan *p, struct err *e)
{
    static const char name[] = "bad_words", form[] = "a list of strings, none of them empty";
    json_t *v = field_get(body, name), *item;
    if (!v)
        return 0;
    if (!json_is_array(v))
        return field_wrong(name, form, v, e);
    size_t n = json_array_size(v), i;
    if (n > MAX_BAD_WORDS)
        return err_set_param(e, LLMD_EINVAL, name, "field '%s' takes at most %d words", name,
                             MAX_BAD_WORDS);
    struct token_run *runs = arena_array(&p->arena, 2 * n + 1, sizeof(*runs));
    if (!runs)
        return out_of_memory(name, e);
    p->sampling.bad_words = runs;
    json_array_foreach(v, i, item)
    {
        if (!json_is_string(item) || json_string_length(item) == 0)
            return field_wrong(name, form, item, e);
        if (json_string_length(item) > MAX_BAD_WORD_BYTES)
            return err_set_param(e, LLMD_EINVAL, name, "field '%s' takes words of at most %d bytes",
                                 name, MAX_BAD_WORD_BYTES);
        int rc = add_bad_word(json_string_value(item), json_string_length(item), p, runs, e);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int params_tokens(const json_t *body, struct plan *p, struct err *e)
{
    struct sampling_params *s = &p->sampling;
    int rc = params_token_ids(body, "stop_token_ids", MAX_LISTED_TOKENS, p, &s->stop_ids,
                              &s->n_stop_ids, e);
    if (rc == 0)
        rc = read_allowed(body, p, e);
    if (rc == 0)
        rc = read_logit_bias(body, p, e);
    return rc == 0 ? read_bad_words(body, p, e) : rc;
}

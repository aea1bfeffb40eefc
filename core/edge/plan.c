#include "core/edge/plan.h"

#include <stdlib.h>
#include <string.h>

#include "core/edge/fields.h"
#include "core/util/json.h"

bool request_id_valid(const char *s)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "._:-";
    size_t n = strspn(s, letters);
    return n >= 1 && n <= 128 && s[n] == '\0';
}

int plan_choose_model(const struct catalog *c, const struct edge_key *key, const json_t *body,
                      struct plan *p, struct err *e)
{
    const char *name = NULL;
    int rc = field_string(body, "model", &name, e);
    if (rc != 0)
        return rc;
    name = name ? name : "";
    p->model = catalog_find(c, key, name);
    return p->model ? 0 : catalog_no_model(c, key, name, e);
}

/* A few bytes of body must not become a hundred thousand sequences. */
static int check_choices(const struct plan *p, struct err *e)
{
    if ((uint64_t)p->n_prompts * p->sampling.n <= PLAN_MAX_PROMPTS)
        return 0;
    return err_set_param(e, LLMD_EINVAL, "n", "prompts times n must be at most %d, not %u * %u",
                         PLAN_MAX_PROMPTS, p->n_prompts, p->sampling.n);
}

/* Each prompt's request has a list of its own, which may be as long as the vocabulary. */
static int check_allowed(const struct plan *p, struct err *e)
{
    enum { MAX_LISTED = 1 << 22 };
    const uint32_t n = p->sampling.n_allowed_ids;
    if ((uint64_t)p->n_prompts * n <= MAX_LISTED)
        return 0;
    return err_set_param(e, LLMD_EINVAL, "allowed_token_ids",
                         "prompts times allowed_token_ids must be at most %d, not %u * %u; send "
                         "fewer prompts at a time",
                         MAX_LISTED, p->n_prompts, n);
}

/* too_big: as something that is too large (413), not as a bad request. */
static int check_context(const struct plan *p, bool too_big, struct err *e)
{
    uint32_t limit = p->model->max_model_len;
    for (uint32_t i = 0; i < p->n_prompts; i++) {
        size_t n = p->prompts[i].tokens.n;
        if (n == 0)
            return err_set_param(e, LLMD_EINVAL, p->chat ? "messages" : "prompt",
                                 "the prompt is empty; give it at least one token");
        if (n >= limit)
            return err_set_param(e, too_big ? LLMD_ETOOBIG : LLMD_ECONTEXT, "input_tokens",
                                 "This model's maximum context length is %u tokens. However, your "
                                 "prompt contains %zu input tokens, which leaves no room for "
                                 "output. Shorten the prompt. (context_length_exceeded)",
                                 limit, n);
    }
    return 0;
}

/* Events are written by the thread that serves others, too: so many values take it 20 ms at most. */
enum { MAX_OF_EVENTS = 1 << 15 };

/* Scores are kept until the reply is written, and take room there, once for each choice: a small body
 * must not ask for gigabytes. A stream tells them all at its beginning. */
static int check_scores(const struct plan *p, struct err *e)
{
    const uint32_t max = p->stream ? MAX_OF_EVENTS : 1 << 20;
    uint64_t n_tokens = 0, n_each = sampling_n_scores(&p->sampling) * p->sampling.n;
    for (uint32_t i = 0; i < p->n_prompts; i++)
        n_tokens += p->prompts[i].tokens.n;
    if (n_tokens * n_each <= max)
        return 0;
    return err_set_param(e, LLMD_EINVAL, p->tell_prompt_logprobs ? "prompt_logprobs" : "logprobs",
                         "logprobs of prompts are limited to %u values%s, but %llu tokens with "
                         "%llu values each were asked for; send fewer prompts or ask for fewer%s",
                         max, p->stream ? " in a stream" : "", (unsigned long long)n_tokens,
                         (unsigned long long)n_each, p->stream ? ", or for no stream" : "");
}

/* Logprobs of generated tokens wait in the requests' rings, and are kept until they are told: those of a
 * plain reply to its end. */
static int check_logprobs(const struct plan *p, struct err *e)
{
    enum { MAX_LOGPROBS = 1 << 23, RING_TOKENS = 64 };
    uint64_t n_tokens = p->no_max_tokens ? p->model->max_model_len : p->sampling.max_tokens;
    if (p->stream)
        n_tokens = u64_min(n_tokens, p->stream_interval);
    n_tokens = u64_max(n_tokens, RING_TOKENS) * p->n_prompts * p->sampling.n;
    if (n_tokens * p->rules.n_logprobs <= MAX_LOGPROBS)
        return 0;
    return err_set_param(
        e, LLMD_EINVAL, "logprobs",
        "logprobs are limited to %d values at a time, but room for %llu tokens with "
        "%u values each was asked for; ask for fewer choices, tokens or values%s",
        MAX_LOGPROBS, (unsigned long long)n_tokens, p->rules.n_logprobs,
        p->stream ? "" : ", or for a stream");
}

/* Those of a stream are written whenever there are stream_interval tokens of a choice, which is soon so of
 * all at a time. */
static int check_events(const struct plan *p, struct err *e)
{
    const uint64_t n_each =
        p->no_max_tokens ? p->stream_interval : u64_min(p->sampling.max_tokens, p->stream_interval);
    const uint64_t n = n_each * p->n_prompts * p->sampling.n;
    if (!p->stream || n * p->rules.n_logprobs <= MAX_OF_EVENTS)
        return 0;
    return err_set_param(e, LLMD_EINVAL, "logprobs",
                         "logprobs of a stream are limited to %d values at a time, but %llu tokens "
                         "with %u values each were asked for; ask for a smaller stream_interval, "
                         "fewer choices or values, or for no stream",
                         MAX_OF_EVENTS, (unsigned long long)n, p->rules.n_logprobs);
}

/* What is told of a prompt is told again for each choice. */
static int check_repeats(const struct plan *p, struct err *e)
{
    enum { ID_BYTES = 7, MAX_STREAMED_MIB = 4, MAX_MIB = 64 };
    const uint32_t max = p->stream ? MAX_STREAMED_MIB : MAX_MIB, n = p->sampling.n;
    uint64_t n_bytes = 0;
    for (uint32_t i = 0; i < p->n_prompts; i++)
        n_bytes +=
            p->prompts[i].n_text + (p->return_token_ids ? p->prompts[i].tokens.n * ID_BYTES : 0);
    if (n == 1 || n_bytes * n <= (uint64_t)max << 20)
        return 0;
    return err_set_param(e, LLMD_EINVAL, "n",
                         "the prompts are told again for each of n choices, %u MiB%s at most; ask "
                         "for fewer choices, or without echo and return_token_ids",
                         max, p->stream ? " in a stream" : "");
}

/* Whether encoding put this token in front of the text. */
static bool is_prefix(const struct plan *p, uint32_t id)
{
    struct token_list none = {0};
    bool same = (p->tokenize_flags & TOKENIZE_ADD_SPECIAL) &&
                tokenizer_encode(p->rules.tokenizer, "", 0, p->tokenize_flags, &none, NULL) == 0 &&
                none.n > 0 && none.ids[0] == id;
    token_list_fini(&none);
    return same;
}

bool plan_truncate(const struct plan *p, struct token_list *tokens)
{
    if (tokens->n <= p->max_prompt)
        return false;
    size_t n_cut = tokens->n - p->max_prompt, n_front = 0;
    if (!p->keep_prompt_begin) { /* bos stays where it is */
        n_front = p->max_prompt > 0 && is_prefix(p, tokens->ids[0]);
        memmove(tokens->ids + n_front, tokens->ids + n_front + n_cut,
                (p->max_prompt - n_front) * sizeof(*tokens->ids));
    }
    tokens->n = p->max_prompt;
    return true;
}

int plan_detokenize(struct plan *p, const uint32_t *ids, size_t n, const char **out, size_t *out_n,
                    struct err *e)
{
    struct buf text = {0};
    struct detok d;
    detok_init(&d, p->rules.tokenizer, p->rules.skip_special_tokens);
    for (size_t i = 0; i < n; i++)
        detok_push(&d, ids[i], &text);
    detok_flush(&d, &text);
    *out_n = text.len;
    *out = text.failed ? NULL : arena_strndup(&p->arena, buf_str(&text), text.len);
    buf_fini(&text);
    return *out ? 0 : err_set(e, LLMD_ENOMEM, "out of memory for the prompt");
}

int plan_parse_object(const char *body, size_t n, json_t **out, struct err *e)
{
    if (n == 0)
        return err_set(e, LLMD_EINVAL, "the request body is empty; send a JSON object");
    int rc = json_parse(body, n, out, e);
    if (rc != 0)
        return rc;
    if (json_is_object(*out))
        return 0;
    char what[40];
    return err_set(e, LLMD_EINVAL, "the request body must be a JSON object, not %s",
                   field_describe(*out, what, sizeof(what)));
}

static int choose_kind(const json_t *body, struct plan *p, struct err *e)
{
    p->chat = field_get(body, "messages") != NULL;
    if (p->chat || field_get(body, "prompt"))
        return 0;
    return err_set_param(e, LLMD_EINVAL, "messages",
                         "give field 'messages' for a chat, or 'prompt' for a completion");
}

int plan_parse(const struct catalog *c, const struct edge_key *key, enum plan_kind kind,
               const char *body, size_t n, struct plan *out, struct err *e)
{
    *out = (struct plan){.chat = kind == PLAN_CHAT};
    arena_init(&out->arena, 0);
    json_t *object = NULL;
    int rc = plan_parse_object(body, n, &object, e);
    if (rc == 0 && kind == PLAN_EITHER)
        rc = choose_kind(object, out, e);
    if (rc == 0)
        rc = plan_choose_model(c, key, object, out, e);
    if (rc == 0)
        rc = plan_params(object, out, e);
    if (rc == 0)
        rc =
            out->chat ? plan_chat_prompt(object, out, e) : plan_completions_prompts(object, out, e);
    json_decref(object);
    if (rc == 0)
        rc = check_choices(out, e);
    if (rc == 0)
        rc = check_allowed(out, e);
    if (rc == 0)
        rc = check_scores(out, e);
    if (rc == 0)
        rc = check_logprobs(out, e);
    if (rc == 0)
        rc = check_events(out, e);
    if (rc == 0)
        rc = check_repeats(out, e);
    return rc == 0 ? check_context(out, c->limits.overflow_is_too_big, e) : rc;
}

void plan_drop_tokens(struct plan *p)
{
    for (uint32_t i = 0; i < p->n_prompts; i++)
        token_list_fini(&p->prompts[i].tokens);
}

void plan_fini(struct plan *p)
{
    plan_drop_tokens(p);
    arena_fini(&p->arena);
    *p = (struct plan){0};
}

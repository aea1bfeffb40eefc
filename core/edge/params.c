#include <math.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/edge/params_int.h"
#include "core/model/model.h"

static const float GREEDY_BELOW = 1e-5f, MIN_TEMPERATURE = 0.01f;
enum { DEFAULT_COMPLETION_TOKENS = 16, MAX_SALT = 128 };

/* A model's own default, unless it says nothing or nonsense. */
static float sane(float v, float min, float max, float neutral)
{
    return v >= min && v <= max ? v : neutral;
}

static void set_defaults(struct plan *p)
{
    const struct generation_defaults *d = &p->model->model->defaults;
    p->sampling = (struct sampling_params){
        .temperature = sane(d->temperature, 0.0f, 2.0f, 1.0f),
        .top_p = sane(d->top_p, 1e-6f, 1.0f, 1.0f),
        .min_p = sane(d->min_p, 0.0f, 1.0f, 0.0f),
        .top_k = d->top_k > 0 ? (uint32_t)d->top_k : 0,
        .repetition_penalty = sane(d->repetition_penalty, 1e-6f, 1e6f, 1.0f),
        .n = 1,
    };
    p->sampling.eos_ids = tokenizer_eos_ids(p->model->model->tokenizer, &p->sampling.n_eos_ids);
    p->rules.tokenizer = p->model->model->tokenizer;
    p->rules.skip_special_tokens = true;
}

static int read_numbers(const json_t *body, struct sampling_params *s, struct err *e)
{
    const struct {
        const char *name;
        struct number_range range;
        float *out;
    } fields[] = {
        {"temperature", {0, 2, false}, &s->temperature},
        {"top_p", {0, 1, true}, &s->top_p},
        {"min_p", {0, 1, false}, &s->min_p},
        {"presence_penalty", {-2, 2, false}, &s->presence_penalty},
        {"frequency_penalty", {-2, 2, false}, &s->frequency_penalty},
        {"repetition_penalty", {0, 1e30, true}, &s->repetition_penalty},
    };
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        int rc = field_number(body, fields[i].name, fields[i].range, fields[i].out, e);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int read_flags(const json_t *body, struct plan *p, struct err *e)
{
    bool add_special = !p->chat, spaces = true;
    const struct {
        const char *name;
        bool *out;
    } fields[] = {
        {"stream", &p->stream},
        {"ignore_eos", &p->sampling.ignore_eos},
        {"include_stop_str_in_output", &p->rules.include_stop},
        {"skip_special_tokens", &p->rules.skip_special_tokens},
        {"add_special_tokens", &add_special},
        {"spaces_between_special_tokens", &spaces}, /* this detokenizer puts none there anyway */
        {"echo", &p->echo},
        {"return_token_ids", &p->return_token_ids},
        {"return_tokens_as_token_ids", &p->tokens_as_ids},
    };
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        int rc = field_bool(body, fields[i].name, fields[i].out, e);
        if (rc != 0)
            return rc;
    }
    p->tokenize_flags = TOKENIZE_PARSE_SPECIAL | (add_special ? TOKENIZE_ADD_SPECIAL : 0);
    return 0;
}

static int read_stream_options(const json_t *body, struct plan *p, struct err *e)
{
    json_t *o = NULL;
    int rc = field_object(body, "stream_options", &o, e);
    if (rc != 0 || !o)
        return rc;
    if (!p->stream)
        return err_set_param(e, LLMD_EINVAL, "stream_options",
                             "field 'stream_options' needs 'stream': true");
    rc = field_bool(o, "include_usage", &p->include_usage, e);
    if (rc == 0)
        rc = field_bool(o, "continuous_usage_stats", &p->continuous_usage, e);
    if (rc != 0)
        err_prefix(e, "field 'stream_options': ");
    p->continuous_usage = p->continuous_usage && p->include_usage;
    return rc;
}

/* Chat: max_completion_tokens wins over max_tokens; completions know only max_tokens. */
static int read_max_tokens(const json_t *body, struct plan *p, struct err *e)
{
    int64_t max = 0, newer = 0, min = 0, limit = p->model->max_model_len;
    bool none_allowed = p->echo && !p->chat; /* only the prompt is wanted back */
    bool given = field_get(body, "max_tokens") != NULL;
    int rc = field_int(body, "max_tokens", none_allowed ? 0 : 1, limit, &max, e);
    if (rc == 0 && p->chat) {
        rc = field_int(body, "max_completion_tokens", 1, limit, &newer, e);
        given = given || newer > 0;
        max = newer > 0 ? newer : max;
    }
    if (rc == 0)
        rc = field_int(body, "min_tokens", 0, limit, &min, e);
    if (rc != 0)
        return rc;
    if (!given && !p->chat)
        max = DEFAULT_COMPLETION_TOKENS;
    p->no_max_tokens = !given && p->chat;
    p->no_output = given && max == 0;
    if (!p->no_max_tokens && min > max)
        return err_set_param(e, LLMD_EINVAL, "min_tokens",
                             "field 'min_tokens' (%lld) must not exceed max_tokens (%lld)",
                             (long long)min, (long long)max);
    p->sampling.max_tokens = (uint32_t)max;
    p->sampling.min_tokens = p->rules.min_tokens = (uint32_t)min;
    return 0;
}

static int read_integers(const json_t *body, struct plan *p, struct err *e)
{
    int64_t n = 1, top_k = p->sampling.top_k, seed = -1, interval = 1;
    int rc = field_int(body, "n", 1, PLAN_MAX_CHOICES, &n, e);
    if (rc == 0)
        rc = field_int(body, "top_k", -1, INT32_MAX, &top_k, e);
    if (rc == 0)
        rc = field_int(body, "seed", INT64_MIN, INT64_MAX, &seed, e);
    if (rc == 0)
        rc = field_int(body, "priority", INT64_MIN, INT64_MAX, &p->priority, e);
    if (rc == 0)
        rc = field_int(body, "stream_interval", 1, UINT32_MAX, &interval, e);
    if (rc != 0)
        return rc;
    p->sampling.n = (uint32_t)n;
    p->sampling.top_k = top_k > 0 ? (uint32_t)top_k : 0;
    p->sampling.seed = (uint64_t)seed;
    p->stream_interval = (uint32_t)interval;
    p->has_priority = field_get(body, "priority") != NULL;
    if (seed == -1 && RAND_bytes((unsigned char *)&p->sampling.seed, sizeof(p->sampling.seed)) != 1)
        return err_set(e, LLMD_EINTERNAL, "no random numbers from the system");
    return 0;
}

static int read_truncation(const json_t *body, struct plan *p, struct err *e)
{
    const char *side = NULL;
    int64_t n = INT64_MAX, limit = p->model->max_model_len;
    int rc = field_int(body, "truncate_prompt_tokens", -1, limit, &n, e);
    if (rc == 0)
        rc = field_string(body, "truncation_side", &side, e);
    if (rc != 0)
        return rc;
    if (side && strcmp(side, "left") != 0 && strcmp(side, "right") != 0)
        return err_set_param(e, LLMD_EINVAL, "truncation_side",
                             "field 'truncation_side' must be left or right");
    p->max_prompt = n == -1 ? (size_t)limit - 1 : (size_t)n;
    p->keep_prompt_begin = side && strcmp(side, "right") == 0;
    return 0;
}

static int add_stop(struct plan *p, const json_t *v, struct err *e)
{
    if (!json_is_string(v) || json_string_length(v) == 0)
        return field_wrong("stop", "a string or a list of strings, none of them empty", v, e);
    size_t n = json_string_length(v);
    char *s = arena_strndup(&p->arena, json_string_value(v), n);
    int rc = s ? stop_set_add(&p->rules.stops, &p->arena, s, n) : -LLMD_ENOMEM;
    if (rc == -LLMD_ELIMIT)
        return err_set_param(e, LLMD_EINVAL, "stop", "field 'stop' takes at most %d strings",
                             STOP_MAX_STRINGS);
    return rc == 0 ? 0 : err_set(e, LLMD_ENOMEM, "out of memory for stop strings");
}

static int read_stop(const json_t *body, struct plan *p, struct err *e)
{
    json_t *v = field_get(body, "stop");
    if (!json_is_array(v))
        return v ? add_stop(p, v, e) : 0;
    size_t i;
    json_t *item;
    json_array_foreach(v, i, item)
    {
        int rc = add_stop(p, item, e);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int read_cache_salt(const json_t *body, struct plan *p, struct err *e)
{
    const char *salt = NULL;
    int rc = field_string(body, "cache_salt", &salt, e);
    if (rc != 0 || !salt)
        return rc;
    size_t n = strlen(salt);
    if (n == 0 || n > MAX_SALT || strpbrk(salt, "@/\\"))
        return err_set_param(e, LLMD_EINVAL, "cache_salt",
                             "field 'cache_salt' must be 1 to %d bytes without @, / and \\",
                             MAX_SALT);
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256((const unsigned char *)salt, n, digest);
    memcpy(&p->cache_salt, digest, sizeof(p->cache_salt));
    p->cache_salt |= 1; /* 0 means none */
    return 0;
}

/* Whom the request belongs to, for session affinity: OpenAI's own field for it, else the user. What
 * is no name is no session: neither field changes an answer. */
static int read_session(const json_t *body, struct plan *p, struct err *e)
{
    static const char *const names[] = {"prompt_cache_key", "user"};
    (void)e;
    for (size_t i = 0; i < ARRAY_LEN(names) && p->session == 0; i++) {
        const char *name = json_string_value(json_object_get(body, names[i]));
        if (name && *name)
            p->session = request_session(name);
    }
    return 0;
}

static int read_request_id(const json_t *body, struct plan *p, struct err *e)
{
    const char *id = NULL;
    int rc = field_string(body, "request_id", &id, e);
    if (rc != 0 || !id)
        return rc;
    if (!request_id_valid(id))
        return err_set_param(e, LLMD_EINVAL, "request_id",
                             "field 'request_id' must be 1 to 128 letters, digits or ._:-");
    p->request_id = arena_strdup(&p->arena, id);
    return p->request_id ? 0 : err_set(e, LLMD_ENOMEM, "out of memory for the request id");
}

/* What depends on several fields. */
static int settle(struct sampling_params *s, struct err *e)
{
    if (s->temperature < GREEDY_BELOW) {
        s->temperature = 0.0f;
        s->top_p = 1.0f;
        s->min_p = 0.0f;
        s->top_k = 0;
        if (s->n > 1)
            return err_set_param(e, LLMD_EINVAL, "n",
                                 "field 'n' must be 1 with temperature 0, where all choices would "
                                 "be the same, not %u",
                                 s->n);
    } else if (s->temperature < MIN_TEMPERATURE)
        s->temperature = MIN_TEMPERATURE;
    return 0;
}

int plan_params(const json_t *body, struct plan *p, struct err *e)
{
    static int (*const readers[])(const json_t *, struct plan *, struct err *) = {
        read_flags,      read_stream_options, read_max_tokens, read_integers,
        read_truncation, read_stop,           params_tokens,   params_logprobs,
        read_cache_salt, read_session,        read_request_id,
    };
    set_defaults(p);
    int rc = plan_refuse_unsupported(body, p->chat, e);
    if (rc == 0)
        rc = read_numbers(body, &p->sampling, e);
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(readers); i++)
        rc = readers[i](body, p, e);
    return rc == 0 ? settle(&p->sampling, e) : rc;
}

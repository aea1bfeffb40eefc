/* What each field of a chat or completions body does, and how bad ones are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/edge/plan.h"
#include "tests/unit/edge_fixture.h"

static struct fixture fixture;

static int parse(enum plan_kind kind, const char *body, struct plan *p, struct err *e)
{
    return plan_parse(fixture.catalog, NULL, kind, body, strlen(body), p, e);
}

/* A chat body with more fields. */
static const char *chat(const char *fields)
{
    static char body[8192];
    snprintf(body, sizeof(body), "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]%s%s}",
             *fields ? "," : "", fields);
    return body;
}

static const char *text(const char *fields)
{
    static char body[8192];
    snprintf(body, sizeof(body), "{\"prompt\":\"Hi\"%s%s}", *fields ? "," : "", fields);
    return body;
}

static const struct bad {
    const char *fields; /* of a chat body, unless it starts with '=': a completions body */
    int code;
    const char *param;
    const char *words;
} bads[] = {
    {"\"temperature\":2.1", LLMD_EINVAL, "temperature", "at most 2"},
    {"\"temperature\":-0.1", LLMD_EINVAL, "temperature", "-0.1"},
    {"\"temperature\":\"hot\"", LLMD_EINVAL, "temperature", "a string"},
    {"\"temperature\":true", LLMD_EINVAL, "temperature", "true"},
    {"\"top_p\":0", LLMD_EINVAL, "top_p", "above 0"},
    {"\"top_p\":1e-300", LLMD_EINVAL, "top_p", "above 0"},
    {"\"top_p\":1.01", LLMD_EINVAL, "top_p", "at most 1"},
    {"\"top_k\":-2", LLMD_EINVAL, "top_k", "top_k"},
    {"\"top_k\":1.5", LLMD_EINVAL, "top_k", "1.5"},
    {"\"min_p\":1.1", LLMD_EINVAL, "min_p", "min_p"},
    {"\"presence_penalty\":2.5", LLMD_EINVAL, "presence_penalty", "at most 2"},
    {"\"frequency_penalty\":-2.5", LLMD_EINVAL, "frequency_penalty", "at least -2"},
    {"\"repetition_penalty\":0", LLMD_EINVAL, "repetition_penalty", "above 0"},
    {"\"repetition_penalty\":[]", LLMD_EINVAL, "repetition_penalty", "an empty list"},
    {"\"n\":0", LLMD_EINVAL, "n", "from 1 to 128"},
    {"\"n\":129", LLMD_EINVAL, "n", "from 1 to 128"},
    {"\"n\":2,\"temperature\":0", LLMD_EINVAL, "n", "temperature 0"},
    {"\"n\":2,\"temperature\":1e-6", LLMD_EINVAL, "n", "temperature 0"},
    {"\"seed\":\"x\"", LLMD_EINVAL, "seed", "an integer"},
    {"\"seed\":0.5", LLMD_EINVAL, "seed", "0.5"},
    {"\"max_tokens\":0", LLMD_EINVAL, "max_tokens", "from 1 to 1000"},
    {"\"max_tokens\":1001", LLMD_EINVAL, "max_tokens", "from 1 to 1000"},
    {"\"max_completion_tokens\":0", LLMD_EINVAL, "max_completion_tokens", "from 1"},
    {"\"max_tokens\":5,\"min_tokens\":6", LLMD_EINVAL, "min_tokens", "must not exceed"},
    {"\"min_tokens\":-1", LLMD_EINVAL, "min_tokens", "min_tokens"},
    {"\"stop\":\"\"", LLMD_EINVAL, "stop", "empty"},
    {"\"stop\":[\"a\",\"\"]", LLMD_EINVAL, "stop", "empty"},
    {"\"stop\":[\"a\",5]", LLMD_EINVAL, "stop", "5"},
    {"\"stop\":{}", LLMD_EINVAL, "stop", "an object"},
    {"\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]", LLMD_EINVAL, "stop", "at most 4"},
    {"\"stop_token_ids\":5", LLMD_EINVAL, "stop_token_ids", "a list"},
    {"\"stop_token_ids\":[-1]", LLMD_EINVAL, "stop_token_ids", "from 0 to"},
    {"\"stop_token_ids\":[260]", LLMD_EINVAL, "stop_token_ids", "from 0 to 259"},
    {"\"logit_bias\":[1]", LLMD_EINVAL, "logit_bias", "an object"},
    {"\"logit_bias\":{\"-1\":1}", LLMD_EINVAL, "logit_bias", "as keys"},
    {"\"logit_bias\":{\"1x\":1}", LLMD_EINVAL, "logit_bias", "as keys"},
    {"\"logit_bias\":{\"\":1}", LLMD_EINVAL, "logit_bias", "as keys"},
    {"\"logit_bias\":{\"260\":1}", LLMD_EINVAL, "logit_bias", "as keys"},
    {"\"logit_bias\":{\"99999999999999999999\":1}", LLMD_EINVAL, "logit_bias", "as keys"},
    {"\"logit_bias\":{\"5\":null}", LLMD_EINVAL, "logit_bias", "as values"},
    {"\"stream\":1", LLMD_EINVAL, "stream", "true or false"},
    {"\"stream_options\":{}", LLMD_EINVAL, "stream_options", "needs 'stream'"},
    {"\"stream\":true,\"stream_options\":true", LLMD_EINVAL, "stream_options", "an object"},
    {"\"stream\":true,\"stream_options\":{\"include_usage\":1}", LLMD_EINVAL, "include_usage",
     "stream_options"},
    {"\"ignore_eos\":0", LLMD_EINVAL, "ignore_eos", "true or false"},
    {"\"priority\":\"high\"", LLMD_EINVAL, "priority", "an integer"},
    {"\"cache_salt\":\"\"", LLMD_EINVAL, "cache_salt", "1 to 128"},
    {"\"cache_salt\":\"a/b\"", LLMD_EINVAL, "cache_salt", "1 to 128"},
    {"\"cache_salt\":\"a\\u0000b\"", LLMD_EINVAL, "cache_salt", "U+0000"},
    {"\"request_id\":\"a b\"", LLMD_EINVAL, "request_id", "letters"},
    {"\"model\":\"gpt-4\"", LLMD_ENOTFOUND, "model", "does not exist. Valid names: tiny, alias"},
    {"\"model\":\"a\\nb\\u001b\"", LLMD_ENOTFOUND, "model", "The model `a\\nb\\x1b` does not"},
    {"\"model\":4", LLMD_EINVAL, "model", "a string"},
    {"\"tools\":[]", LLMD_EUNSUPPORTED, "tools", "not supported"},
    {"\"tool_choice\":\"auto\"", LLMD_EUNSUPPORTED, "tool_choice", "not supported"},
    {"\"response_format\":{\"type\":\"json_object\"}", LLMD_EUNSUPPORTED, "response_format", ""},
    {"\"response_format\":\"text\"", LLMD_EUNSUPPORTED, "response_format", ""},
    {"\"structured_outputs\":{}", LLMD_EUNSUPPORTED, "structured_outputs", ""},
    {"\"guided_json\":{}", LLMD_EUNSUPPORTED, "guided_json", ""},
    {"\"use_beam_search\":true", LLMD_EUNSUPPORTED, "use_beam_search", ""},
    {"\"best_of\":3,\"n\":2", LLMD_EUNSUPPORTED, "best_of", "above n"},
    {"\"thinking_token_budget\":0", LLMD_EUNSUPPORTED, "thinking_token_budget", ""},
    {"\"chat_template\":\"x\"", LLMD_EUNSUPPORTED, "chat_template", ""},
    {"\"chat_template_kwargs\":[]", LLMD_EINVAL, "chat_template_kwargs", "an object"},
    {"\"reasoning_effort\":5", LLMD_EINVAL, "reasoning_effort", "a string"},
    {"\"reasoning_effort\":\"most\"", LLMD_EINVAL, "reasoning_effort", "one of none"},
    {"\"documents\":{}", LLMD_EINVAL, "documents", "a list"},
    {"\"logprobs\":1", LLMD_EINVAL, "logprobs", "true or false"},
    {"\"top_logprobs\":2", LLMD_EINVAL, "top_logprobs", "needs 'logprobs'"},
    {"\"logprobs\":true,\"top_logprobs\":21", LLMD_EINVAL, "top_logprobs", "from 0 to 20"},
    {"\"logprobs\":true,\"top_logprobs\":-1", LLMD_EINVAL, "top_logprobs", "from 0 to 20"},
    {"\"prompt_logprobs\":-1", LLMD_EINVAL, "prompt_logprobs", "from 0 to 20"},
    {"\"prompt_logprobs\":1,\"stream\":true", LLMD_EINVAL, "prompt_logprobs", "stream"},
    {"\"logprob_token_ids\":[1]", LLMD_EINVAL, "logprob_token_ids", "needs 'logprobs'"},
    {"\"logprobs\":true,\"logprob_token_ids\":[260]", LLMD_EINVAL, "logprob_token_ids", "259"},
    {"\"bad_words\":\"x\"", LLMD_EINVAL, "bad_words", "a list"},
    {"\"bad_words\":[\"\"]", LLMD_EINVAL, "bad_words", "none of them empty"},
    {"\"bad_words\":[5]", LLMD_EINVAL, "bad_words", "5"},
    {"\"allowed_token_ids\":[]", LLMD_EINVAL, "allowed_token_ids", "empty"},
    {"\"allowed_token_ids\":[-1]", LLMD_EINVAL, "allowed_token_ids", "from 0"},
    {"\"truncate_prompt_tokens\":1001", LLMD_EINVAL, "truncate_prompt_tokens", "1000"},
    {"\"truncate_prompt_tokens\":-2", LLMD_EINVAL, "truncate_prompt_tokens", "from -1"},
    {"\"truncation_side\":\"middle\"", LLMD_EINVAL, "truncation_side", "left or right"},
    {"\"stream_interval\":0", LLMD_EINVAL, "stream_interval", "from 1"},
    {"\"return_token_ids\":1", LLMD_EINVAL, "return_token_ids", "true or false"},
    {"\"spaces_between_special_tokens\":1", LLMD_EINVAL, "spaces_between_special_tokens", "true"},
    {"=\"logprobs\":true", LLMD_EINVAL, "logprobs", "from 0 to 20"},
    {"=\"logprobs\":21", LLMD_EINVAL, "logprobs", "from 0 to 20"},
    {"\"continue_final_message\":true,\"add_generation_prompt\":true", LLMD_EINVAL,
     "continue_final_message", "both"},
    {"=\"suffix\":\"x\"", LLMD_EUNSUPPORTED, "suffix", ""},
    {"=\"max_tokens\":0", LLMD_EINVAL, "max_tokens", "from 1"},
    {"=\"prompt\":[]", LLMD_EINVAL, "prompt", "an empty list"},
    {"=\"prompt\":{}", LLMD_EINVAL, "prompt", "an object"},
    {"=\"prompt\":5", LLMD_EINVAL, "prompt", "5"},
    {"=\"prompt\":null", LLMD_EINVAL, "prompt", "required"},
    {"=\"prompt\":\"\"", LLMD_EINVAL, "prompt", "empty"},
    {"=\"prompt\":[\"a\",\"\"]", LLMD_EINVAL, "prompt", "empty"},
    {"=\"prompt\":[[]]", LLMD_EINVAL, "prompt", "empty"},
    {"=\"prompt\":[\"a\",5]", LLMD_EINVAL, "prompt", "mixture"},
    {"=\"prompt\":[[1],5]", LLMD_EINVAL, "prompt", "mixture"},
    {"=\"prompt\":[5,\"a\"]", LLMD_EINVAL, "prompt", "a list"},
    {"=\"prompt\":[1.5]", LLMD_EINVAL, "prompt", "a list"},
    {"=\"prompt\":[260]", LLMD_EINVAL, "prompt", "260"},
    {"=\"prompt\":[[0,-7]]", LLMD_EINVAL, "prompt", "-7"},
};

static void test_bad_fields_are_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bads); i++) {
        bool completions = bads[i].fields[0] == '=';
        const char *body = completions ? text(bads[i].fields + 1) : chat(bads[i].fields);
        struct plan p;
        struct err e = {0};
        int rc = parse(completions ? PLAN_COMPLETIONS : PLAN_CHAT, body, &p, &e);
        if (rc != -bads[i].code || strcmp(e.param, bads[i].param) != 0 ||
            !strstr(e.msg, bads[i].words) || !strstr(e.msg, rc == -LLMD_ENOTFOUND ? "" : e.param))
            fail_msg("%s: code %d param '%s' message '%s'", body, rc, e.param, e.msg);
        plan_fini(&p);
    }
}

static const struct bad_body {
    const char *body;
    int code;
    const char *words;
} bad_bodies[] = {
    {"", LLMD_EINVAL, "empty"},
    {"{", LLMD_EPARSE, "JSON"},
    {"{} {}", LLMD_EPARSE, "JSON"},
    {"[]", LLMD_EINVAL, "JSON object, not an empty list"},
    {"1", LLMD_EINVAL, "JSON object, not 1"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":\"\\ud800\"}]}", LLMD_EPARSE, "JSON"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}", LLMD_EPARSE, "JSON"},
    {"{\"seed\":99999999999999999999}", LLMD_EPARSE, "JSON"},
    {"{\"temperature\":1e999}", LLMD_EPARSE, "JSON"},
    {"{}", LLMD_EINVAL, "'messages' is required"},
    {"{\"messages\":[]}", LLMD_EINVAL, "at least one message"},
    {"{\"messages\":\"Hi\"}", LLMD_EINVAL, "at least one message, not a string"},
    {"{\"messages\":[\"Hi\"]}", LLMD_EINVAL, "messages[0] must be an object"},
    {"{\"messages\":[{\"content\":\"x\"}]}", LLMD_EINVAL, "messages[0].role must be one of"},
    {"{\"messages\":[{\"role\":\"king\",\"content\":\"x\"}]}", LLMD_EINVAL, "messages[0].role"},
    {"{\"messages\":[{\"role\":\"user\"}]}", LLMD_EINVAL, "messages[0].content must be"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":5}]}", LLMD_EINVAL, "not 5"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}",
     LLMD_EUNSUPPORTED, "messages[0].content[0] is of type 'image_url'"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"x\"}]}]}", LLMD_EINVAL,
     "messages[0].content[0] must be of the form"},
    {"{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":5}]}", LLMD_EINVAL,
     "messages[0].tool_calls must be a list"},
    {"{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{}]}]}", LLMD_EINVAL,
     "messages[0].tool_calls[0] must be of the form"},
    {"{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
     "\"arguments\":\"[\"}}]}]}",
     LLMD_EINVAL, "messages[0].tool_calls[0].function.arguments"},
};

static void test_bad_bodies(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_bodies); i++) {
        struct plan p;
        struct err e = {0};
        int rc = parse(PLAN_CHAT, bad_bodies[i].body, &p, &e);
        if (rc != -bad_bodies[i].code || !strstr(e.msg, bad_bodies[i].words))
            fail_msg("%s: code %d message '%s'", bad_bodies[i].body, rc, e.msg);
        plan_fini(&p);
    }
}

/* Its length is looked at before it is tokenized. */
static void test_a_long_bad_word(void **state)
{
    (void)state;
    static const int lengths[] = {2048, 2049};
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        char body[4096];
        struct plan p;
        struct err e = {0};
        snprintf(body, sizeof(body), "{\"prompt\":\"x\",\"bad_words\":[\"%0*d\"]}", lengths[i], 0);
        assert_int_equal(parse(PLAN_COMPLETIONS, body, &p, &e), -LLMD_EINVAL);
        assert_string_equal(e.param, "bad_words");
        assert_non_null(strstr(e.msg, i == 0 ? "at most 64 tokens" : "at most 2048 bytes"));
        plan_fini(&p);
    }
}

static void parse_ok(enum plan_kind kind, const char *body, struct plan *p)
{
    struct err e = {0};
    if (parse(kind, body, p, &e) != 0)
        fail_msg("%s: %s", body, e.msg);
}

static void test_defaults(void **state)
{
    (void)state;
    struct plan p;
    parse_ok(PLAN_CHAT, chat(""), &p);
    const struct sampling_params *s = &p.sampling;
    assert_true(s->temperature == 1.0f && s->top_p == 1.0f && s->min_p == 0.0f);
    assert_true(s->repetition_penalty == 1.0f && s->presence_penalty == 0.0f);
    assert_int_equal(s->top_k, 0);
    assert_int_equal(s->n, 1);
    assert_true(p.no_max_tokens && !p.stream && p.rules.skip_special_tokens);
    assert_int_equal(p.tokenize_flags, TOKENIZE_PARSE_SPECIAL);
    assert_int_equal(s->n_eos_ids, 1);
    assert_int_equal(s->eos_ids[0], fixture_find(&fixture, "<|end|>"));
    plan_fini(&p);

    parse_ok(PLAN_COMPLETIONS, text(""), &p);
    assert_int_equal(p.sampling.max_tokens, 16);
    assert_false(p.no_max_tokens);
    assert_int_equal(p.tokenize_flags, TOKENIZE_PARSE_SPECIAL | TOKENIZE_ADD_SPECIAL);
    plan_fini(&p);
}

static void test_null_equals_omitted(void **state)
{
    (void)state;
    struct plan p;
    parse_ok(PLAN_CHAT,
             chat("\"temperature\":null,\"top_p\":null,\"top_k\":null,\"min_p\":null,\"seed\":null,"
                  "\"stop\":null,\"stop_token_ids\":null,\"logit_bias\":null,\"n\":null,"
                  "\"stream\":null,\"stream_options\":null,\"tools\":null,\"tool_choice\":null,"
                  "\"logprobs\":null,\"top_logprobs\":null,\"max_tokens\":null,\"model\":null,"
                  "\"response_format\":null,\"cache_salt\":null,\"request_id\":null,"
                  "\"chat_template_kwargs\":null,\"documents\":null,\"user\":null"),
             &p);
    assert_true(p.sampling.temperature == 1.0f && p.no_max_tokens);
    plan_fini(&p);
}

static void test_harmless_fields_are_ignored(void **state)
{
    (void)state;
    struct plan p;
    parse_ok(
        PLAN_CHAT,
        chat("\"store\":true,\"metadata\":{},\"user\":5,\"best_of\":1,\"tool_choice\":\"none\","
             "\"response_format\":{\"type\":\"text\"},\"logprobs\":false,\"top_logprobs\":0,"
             "\"bad_words\":[],\"thinking_token_budget\":-1,\"use_beam_search\":false,"
             "\"parallel_tool_calls\":true,\"echo\":false"),
        &p);
    plan_fini(&p);
    parse_ok(PLAN_COMPLETIONS, text("\"suffix\":\"\",\"messages\":5"), &p);
    plan_fini(&p);
}

static void test_model_defaults(void **state)
{
    (void)state;
    struct plan p;
    struct generation_defaults *d = &fixture.model.defaults, before = *d;
    *d = (struct generation_defaults){
        .temperature = 0.5f, .top_p = 0.9f, .min_p = 0.1f, .repetition_penalty = 1.1f, .top_k = 7};
    parse_ok(PLAN_CHAT, chat(""), &p);
    assert_true(p.sampling.temperature == 0.5f && p.sampling.top_p == 0.9f);
    assert_true(p.sampling.min_p == 0.1f && p.sampling.repetition_penalty == 1.1f);
    assert_int_equal(p.sampling.top_k, 7);
    plan_fini(&p);
    parse_ok(PLAN_CHAT, chat("\"temperature\":0.7,\"top_k\":-1"), &p);
    assert_true(p.sampling.temperature == 0.7f);
    assert_int_equal(p.sampling.top_k, 0);
    plan_fini(&p);
    /* Nonsense in a model file does not get through. */
    *d = (struct generation_defaults){
        .temperature = -3, .top_p = 0, .min_p = 9, .repetition_penalty = INFINITY, .top_k = -9};
    parse_ok(PLAN_CHAT, chat(""), &p);
    assert_true(p.sampling.temperature == 1.0f && p.sampling.top_p == 1.0f);
    assert_true(p.sampling.min_p == 0.0f && p.sampling.repetition_penalty == 1.0f);
    plan_fini(&p);
    *d = before;
}

static void test_values_arrive(void **state)
{
    (void)state;
    struct plan p;
    parse_ok(PLAN_CHAT,
             chat("\"model\":\"org/alias\",\"temperature\":0.25,\"top_p\":0.5,\"top_k\":40.0,"
                  "\"min_p\":0.05,\"presence_penalty\":-1,\"frequency_penalty\":2,"
                  "\"repetition_penalty\":1.3,\"seed\":-5,\"n\":3,\"max_tokens\":9,"
                  "\"max_completion_tokens\":11,\"min_tokens\":2,\"stop\":[\"a\",\"bc\"],"
                  "\"stop_token_ids\":[7,0],\"logit_bias\":{\"3\":-500,\"4\":2.5},"
                  "\"ignore_eos\":true,\"stream\":true,\"priority\":-3,\"request_id\":\"r-1\","
                  "\"stream_options\":{\"include_usage\":true,\"continuous_usage_stats\":true},"
                  "\"include_stop_str_in_output\":true,\"skip_special_tokens\":false"),
             &p);
    const struct sampling_params *s = &p.sampling;
    assert_ptr_equal(p.model, &fixture.catalog->models[0]);
    assert_true(s->temperature == 0.25f && s->top_p == 0.5f && s->min_p == 0.05f);
    assert_true(s->presence_penalty == -1 && s->frequency_penalty == 2);
    assert_true(s->repetition_penalty == 1.3f && s->ignore_eos);
    assert_int_equal(s->top_k, 40);
    assert_true(s->seed == (uint64_t)-5);
    assert_int_equal(s->n, 3);
    assert_int_equal(s->max_tokens, 11);
    assert_int_equal(s->min_tokens, 2);
    assert_int_equal(p.rules.min_tokens, 2);
    assert_int_equal(p.rules.stops.n, 2);
    assert_memory_equal(p.rules.stops.items[1].s, "bc", 2);
    assert_int_equal(s->n_stop_ids, 2);
    assert_int_equal(s->stop_ids[0], 7);
    assert_int_equal(s->n_logit_bias, 2);
    for (uint32_t i = 0; i < 2; i++)
        assert_true(s->logit_bias[i].bias == (s->logit_bias[i].token == 3 ? -100.0f : 2.5f));
    assert_int_equal(p.priority, -3);
    assert_string_equal(p.request_id, "r-1");
    assert_true(p.include_usage && p.continuous_usage && p.rules.include_stop);
    assert_false(p.rules.skip_special_tokens);
    plan_fini(&p);
}

static void test_greedy_and_tiny_temperatures(void **state)
{
    (void)state;
    struct plan p;
    parse_ok(PLAN_CHAT, chat("\"temperature\":0,\"top_p\":0.5,\"top_k\":5,\"min_p\":0.5"), &p);
    assert_true(p.sampling.temperature == 0 && p.sampling.top_p == 1 && p.sampling.min_p == 0);
    assert_int_equal(p.sampling.top_k, 0);
    plan_fini(&p);
    parse_ok(PLAN_CHAT, chat("\"temperature\":0.001"), &p);
    assert_true(p.sampling.temperature == 0.01f);
    plan_fini(&p);
}

static void test_seeds_are_drawn_afresh(void **state)
{
    (void)state;
    struct plan a, b;
    parse_ok(PLAN_CHAT, chat(""), &a);
    parse_ok(PLAN_CHAT, chat("\"seed\":-1"), &b);
    assert_true(a.sampling.seed != b.sampling.seed);
    plan_fini(&a);
    plan_fini(&b);
}

static void test_cache_salts(void **state)
{
    (void)state;
    struct plan a, b, c;
    parse_ok(PLAN_CHAT, chat(""), &a);
    parse_ok(PLAN_CHAT, chat("\"cache_salt\":\"x\""), &b);
    parse_ok(PLAN_CHAT, chat("\"cache_salt\":\"y\""), &c);
    assert_true(a.cache_salt == 0 && b.cache_salt != 0 && b.cache_salt != c.cache_salt);
    plan_fini(&a);
    plan_fini(&b);
    plan_fini(&c);
}

/* Whom a request belongs to: by either name, or by none. */
static void test_sessions(void **state)
{
    (void)state;
    struct plan p[4];
    parse_ok(PLAN_CHAT, chat("\"prompt_cache_key\":\"x\",\"user\":\"y\""), &p[0]);
    parse_ok(PLAN_CHAT, chat("\"user\":\"x\""), &p[1]);
    parse_ok(PLAN_CHAT, chat("\"user\":5"), &p[2]);
    parse_ok(PLAN_CHAT, chat("\"user\":\"y\""), &p[3]);
    assert_true(p[0].session == p[1].session && p[0].session != p[3].session);
    assert_true(p[0].session != 0 && p[3].session != 0 && p[2].session == 0);
    for (size_t i = 0; i < ARRAY_LEN(p); i++)
        plan_fini(&p[i]);
}

/* The prompt as text again. */
static char *prompt_text(const struct plan *p, uint32_t i)
{
    struct detok d;
    struct buf b = {0};
    detok_init(&d, fixture.model.tokenizer, false);
    for (size_t t = 0; t < p->prompts[i].tokens.n; t++)
        detok_push(&d, p->prompts[i].tokens.ids[t], &b);
    detok_flush(&d, &b);
    return buf_steal(&b, NULL);
}

static void check_chat(const char *body, const char *want)
{
    struct plan p;
    parse_ok(PLAN_CHAT, body, &p);
    char *got = prompt_text(&p, 0);
    assert_string_equal(got, want);
    free(got);
    plan_fini(&p);
}

static void test_chat_prompts(void **state)
{
    (void)state;
    check_chat(chat(""), "<|user|>Hi<|end|><|assistant|>");
    check_chat(chat("\"add_generation_prompt\":false"), "<|user|>Hi<|end|>");
    check_chat("{\"messages\":[{\"role\":\"developer\",\"content\":\"be\"},{\"role\":\"user\","
               "\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]"
               "},{\"role\":\"assistant\",\"content\":null}]}",
               "<|system|>be<|end|><|user|>a\nb<|end|><|assistant|><|end|><|assistant|>");
    check_chat("{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\","
               "\"content\":\"The answer is \"}],\"continue_final_message\":true}",
               "<|user|>q<|end|><|assistant|>The answer is ");
    /* Control tokens become their ids, as the template needs. */
    struct plan p;
    parse_ok(PLAN_CHAT, chat(""), &p);
    assert_int_equal(p.prompts[0].tokens.n, 5);
    assert_int_equal(p.prompts[0].tokens.ids[0], fixture_find(&fixture, "<|user|>"));
    plan_fini(&p);
}

static void test_prompt_forms(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        uint32_t n;
        const char *last;
    } forms[] = {
        {"{\"prompt\":\"abc\"}", 1, "abc"},
        {"{\"prompt\":[\"a\",\"bc\"]}", 2, "bc"},
        {"{\"prompt\":\"a\\u0000b\"}", 1, NULL},
    };
    struct plan p;
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        parse_ok(PLAN_COMPLETIONS, forms[i].body, &p);
        assert_int_equal(p.n_prompts, forms[i].n);
        char *got = prompt_text(&p, p.n_prompts - 1);
        if (forms[i].last)
            assert_string_equal(got, forms[i].last);
        else
            assert_int_equal(p.prompts[0].tokens.n, 3);
        free(got);
        plan_fini(&p);
    }
    char body[128];
    uint32_t x = fixture_byte(&fixture, 'x'), y = fixture_byte(&fixture, 'y');
    snprintf(body, sizeof(body), "{\"prompt\":[%u,%u],\"echo\":true,\"max_tokens\":0}", x, y);
    parse_ok(PLAN_COMPLETIONS, body, &p);
    assert_true(p.n_prompts == 1 && p.prompts[0].tokens.n == 2 && p.no_output);
    assert_memory_equal(p.prompts[0].text, "xy", 2);
    plan_fini(&p);
    snprintf(body, sizeof(body), "{\"prompt\":[[%u],[%u,%u],[%u]]}", x, y, x, y);
    parse_ok(PLAN_COMPLETIONS, body, &p);
    assert_true(p.n_prompts == 3 && p.prompts[1].tokens.n == 2 && p.prompts[2].tokens.ids[0] == y);
    plan_fini(&p);
}

/* A completions body with a prompt of n tokens. */
static void check_length(uint32_t n, int want)
{
    char *body = malloc(n + 64);
    struct plan p;
    struct err e = {0};
    assert_non_null(body);
    int at = snprintf(body, 64, "{\"prompt\":\"");
    memset(body + at, 'x', n);
    memcpy(body + at + n, "\"}", 3);
    assert_int_equal(parse(PLAN_COMPLETIONS, body, &p, &e), want);
    if (want != 0) {
        assert_string_equal(e.param, "input_tokens");
        assert_non_null(strstr(e.msg, "This model's maximum context length is 1000 tokens. "
                                      "However, your prompt contains 1000 input tokens"));
        assert_non_null(strstr(e.msg, "context_length_exceeded"));
    }
    plan_fini(&p);
    free(body);
}

static void test_choices_in_all(void **state)
{
    (void)state;
    struct buf body = {0};
    buf_addstr(&body, "{\"n\":11,\"prompt\":[\"a\"");
    for (int i = 1; i < 93; i++)
        buf_addstr(&body, ",\"a\"");
    struct plan p;
    parse_ok(PLAN_COMPLETIONS, (buf_addstr(&body, "]}"), buf_str(&body)), &p); /* 93 * 11 */
    plan_fini(&p);
    struct err e = {0};
    buf_truncate(&body, body.len - 2);
    buf_addstr(&body, ",\"a\"]}");
    assert_int_equal(parse(PLAN_COMPLETIONS, buf_str(&body), &p, &e), -LLMD_EINVAL);
    assert_string_equal(e.param, "n");
    plan_fini(&p);
    buf_fini(&body);
}

static void test_context_length(void **state)
{
    (void)state;
    check_length(999, 0);
    check_length(1000, -LLMD_ECONTEXT);
}

static void test_model_without_template(void **state)
{
    (void)state;
    struct plan p;
    struct err e = {0};
    struct chat_template *t = fixture.model.chat_template;
    fixture.model.chat_template = NULL;
    assert_int_equal(parse(PLAN_CHAT, chat(""), &p, &e), -LLMD_EUNSUPPORTED);
    assert_non_null(strstr(e.msg, "no chat template; use /v1/completions"));
    plan_fini(&p);
    char fault[] = "line 3: no such filter 'x'";
    fixture.model.chat_template_fault = fault;
    err_clear(&e);
    assert_int_equal(parse(PLAN_CHAT, chat(""), &p, &e), -LLMD_EUNSUPPORTED);
    assert_non_null(strstr(e.msg, "cannot be used: line 3: no such filter 'x'; use "));
    plan_fini(&p);
    fixture.model.chat_template_fault = NULL;
    fixture.model.chat_template = t;
}

static int setup(void **state)
{
    (void)state;
    return fixture_init(&fixture) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    fixture_fini(&fixture);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_fields_are_named),
        cmocka_unit_test(test_bad_bodies),
        cmocka_unit_test(test_a_long_bad_word),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_null_equals_omitted),
        cmocka_unit_test(test_harmless_fields_are_ignored),
        cmocka_unit_test(test_model_defaults),
        cmocka_unit_test(test_values_arrive),
        cmocka_unit_test(test_greedy_and_tiny_temperatures),
        cmocka_unit_test(test_seeds_are_drawn_afresh),
        cmocka_unit_test(test_cache_salts),
        cmocka_unit_test(test_chat_prompts),
        cmocka_unit_test(test_prompt_forms),
        cmocka_unit_test(test_choices_in_all),
        cmocka_unit_test(test_context_length),
        cmocka_unit_test(test_model_without_template),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

/* What bodies say of tokens (logprobs, allowed and forbidden ones, truncation), and what replies do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>

#include "core/edge/plan.h"
#include "core/edge/token_json.h"
#include "tests/unit/edge_fixture.h"

static struct fixture fixture;

static void parse_ok(enum plan_kind kind, const char *body, struct plan *p)
{
    struct err e = {0};
    if (plan_parse(fixture.catalog, NULL, kind, body, strlen(body), p, &e) != 0)
        fail_msg("%s: %s", body, e.msg);
}

static void chat(const char *fields, struct plan *p)
{
    char body[4096];
    snprintf(body, sizeof(body), "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]%s%s}",
             *fields ? "," : "", fields);
    parse_ok(PLAN_CHAT, body, p);
}

static void completions(const char *fields, struct plan *p)
{
    char body[4096];
    snprintf(body, sizeof(body), "{\"prompt\":\"abcdefgh\"%s%s}", *fields ? "," : "", fields);
    parse_ok(PLAN_COMPLETIONS, body, p);
}

static void assert_wanted(struct logprobs_wanted got, bool on, uint32_t n_top)
{
    assert_int_equal(got.on, on);
    assert_int_equal(got.n_top, n_top);
}

static void test_what_is_wanted_of_logprobs(void **state)
{
    (void)state;
    struct plan p;
    chat("", &p);
    assert_wanted(p.sampling.logprobs, false, 0);
    assert_wanted(p.sampling.prompt_logprobs, false, 0);
    assert_int_equal(p.rules.n_logprobs, 0);
    assert_int_equal(p.stream_interval, 1);
    plan_fini(&p);
    chat("\"logprobs\":true,\"top_logprobs\":3,\"logprob_token_ids\":[4,5],\"prompt_logprobs\":2,"
         "\"return_token_ids\":true,\"return_tokens_as_token_ids\":true,\"stream_interval\":4",
         &p);
    assert_wanted(p.sampling.logprobs, true, 3);
    assert_wanted(p.sampling.prompt_logprobs, true, 2);
    assert_int_equal(p.rules.n_logprobs, 6);
    assert_int_equal(p.sampling.logprob_ids[1], 5);
    assert_true(p.tell_prompt_logprobs && p.return_token_ids && p.tokens_as_ids &&
                p.rules.keep_ids);
    assert_int_equal(p.stream_interval, 4);
    plan_fini(&p);
    chat("\"stream\":true,\"prompt_logprobs\":0", &p); /* nowhere to tell it */
    assert_wanted(p.sampling.prompt_logprobs, false, 0);
    plan_fini(&p);
    completions("\"logprobs\":0", &p);
    assert_wanted(p.sampling.logprobs, true, 0);
    assert_wanted(p.sampling.prompt_logprobs, false, 0);
    plan_fini(&p);
    completions("\"logprobs\":2,\"echo\":true,\"stream\":true,\"max_tokens\":0", &p);
    assert_wanted(p.sampling.prompt_logprobs, true, 2);
    assert_false(p.tell_prompt_logprobs);
    plan_fini(&p);
    completions("\"logprobs\":2,\"echo\":true,\"prompt_logprobs\":5", &p);
    assert_wanted(p.sampling.prompt_logprobs, true, 5);
    assert_int_equal(p.n_tell_prompt, 5);
    plan_fini(&p);
}

static void test_a_small_body_cannot_ask_for_gigabytes(void **state)
{
    (void)state;
    struct buf body = {0};
    struct plan p;
    struct err e = {0};
    buf_addstr(&body, "{\"prompt_logprobs\":20,\"prompt\":[\"");
    for (int i = 0; i < 100; i++) {
        for (int k = 0; k < 990; k++)
            buf_addch(&body, 'x');
        buf_addstr(&body, i < 99 ? "\",\"" : "\"]}");
    }
    assert_int_equal(
        plan_parse(fixture.catalog, NULL, PLAN_COMPLETIONS, buf_str(&body), body.len, &p, &e),
        -LLMD_EINVAL);
    assert_string_equal(e.param, "prompt_logprobs");
    plan_fini(&p);
    buf_fini(&body);
}

static void parse_refused(const char *body, const char *param)
{
    struct plan p;
    struct err e = {0};
    assert_int_equal(
        plan_parse(fixture.catalog, NULL, PLAN_COMPLETIONS, body, strlen(body), &p, &e),
        -LLMD_EINVAL);
    assert_string_equal(e.param, param);
    plan_fini(&p);
}

/* Every choice tells its prompt's scores again. */
static void test_nor_can_its_choices(void **state)
{
    (void)state;
    char body[2048];
    struct plan p;
    const int n_words = 900;
    for (int n = 1; n <= 128; n += 127) {
        int at = snprintf(body, sizeof(body),
                          "{\"logprobs\":20,\"echo\":true,\"n\":%d,\"prompt\":\"", n);
        memset(body + at, 'x', (size_t)n_words);
        snprintf(body + at + n_words, sizeof(body) - (size_t)(at + n_words), "\"}");
        if (n > 1)
            parse_refused(body, "logprobs");
        else {
            parse_ok(PLAN_COMPLETIONS, body, &p);
            plan_fini(&p);
        }
    }
}

/* Nor what is generated, unless it is told as it comes. */
static void test_logprobs_of_many_long_answers(void **state)
{
    (void)state;
    struct plan p;
    static const char many[] = "\"logprobs\":20,\"n\":128,\"max_tokens\":1000,"
                               "\"prompt\":[\"a\",\"b\",\"c\",\"d\"]";
    char body[256];
    snprintf(body, sizeof(body), "{%s}", many);
    parse_refused(body, "logprobs");
    snprintf(body, sizeof(body), "{%s,\"stream\":true,\"stream_interval\":1000}", many);
    parse_refused(body, "logprobs");
    snprintf(body, sizeof(body), "{%s,\"stream\":true}", many);
    parse_ok(PLAN_COMPLETIONS, body, &p);
    plan_fini(&p);
}

static void test_allowed_and_bad_words(void **state)
{
    (void)state;
    struct plan p;
    chat("\"allowed_token_ids\":[7,9],\"bad_words\":[\"no\",\" x\"]", &p);
    const struct sampling_params *s = &p.sampling;
    assert_int_equal(s->n_allowed_ids, 2);
    assert_int_equal(s->allowed_ids[1], 9);
    /* A byte each; behind a space they have a token more, and are found anyway. */
    assert_int_equal(s->n_bad_words, 2);
    assert_int_equal(s->bad_words[0].n, 2);
    assert_int_equal(s->bad_words[0].ids[0], fixture_byte(&fixture, 'n'));
    assert_int_equal(s->bad_words[1].n, 1);
    assert_int_equal(s->bad_words[1].ids[0], fixture_byte(&fixture, 'x'));
    plan_fini(&p);
}

/* The thread that writes events serves others, too. */
static void test_logprobs_of_streams_are_few_at_a_time(void **state)
{
    (void)state;
    static const struct {
        const char *fields;
        uint32_t n_prompt; /* letters, one token each */
        const char *words; /* NULL: it is taken */
    } asks[] = {
        {"\"stream\":true,\"echo\":true,\"logprobs\":19", 819, NULL},
        {"\"stream\":true,\"echo\":true,\"logprobs\":20", 819, "32768 values in a stream"},
        {"\"echo\":true,\"logprobs\":20", 819, NULL},
        {"\"stream\":true,\"n\":8,\"stream_interval\":97,\"max_tokens\":99,\"logprobs\":20", 1,
         NULL},
        {"\"stream\":true,\"n\":8,\"stream_interval\":98,\"max_tokens\":99,\"logprobs\":20", 1,
         "a smaller stream_interval"},
        {"\"n\":8,\"stream_interval\":98,\"max_tokens\":99,\"logprobs\":20", 1, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(asks); i++) {
        char text[1000], body[2400];
        struct plan p;
        struct err e = {0};
        memset(text, 'x', asks[i].n_prompt);
        text[asks[i].n_prompt] = '\0';
        snprintf(body, sizeof(body), "{\"prompt\":[\"%s\",\"%s\"],%s}", text, text, asks[i].fields);
        int rc = plan_parse(fixture.catalog, NULL, PLAN_COMPLETIONS, body, strlen(body), &p, &e);
        if ((rc != 0) != (asks[i].words != NULL) ||
            (rc != 0 && (!strstr(e.msg, asks[i].words) || strcmp(e.param, "logprobs") != 0)))
            fail_msg("%s: %d %s %s", asks[i].fields, rc, e.param, e.msg);
        plan_fini(&p);
    }
}

/* A prompt that is told for each choice, in so few bytes of body. */
static void test_prompts_are_not_told_without_end(void **state)
{
    (void)state;
    static const struct {
        const char *fields;
        bool taken; /* but for its length, which is looked at last */
    } asks[] = {
        {"\"n\":128,\"stream\":true,\"echo\":true", false},
        {"\"n\":128,\"stream\":true,\"return_token_ids\":true", false},
        {"\"n\":128,\"stream\":true", true},
        {"\"n\":1,\"stream\":true,\"echo\":true", true},
        {"\"n\":128,\"echo\":true", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(asks); i++) {
        struct buf body = {0};
        struct plan p;
        struct err e = {0};
        buf_addf(&body, "{\"prompt\":\"%040000d\",%s}", 0, asks[i].fields);
        int rc = plan_parse(fixture.catalog, NULL, PLAN_COMPLETIONS, body.data, body.len, &p, &e);
        assert_int_equal(rc, asks[i].taken ? -LLMD_ECONTEXT : -LLMD_EINVAL);
        assert_string_equal(e.param, asks[i].taken ? "input_tokens" : "n");
        plan_fini(&p);
        buf_fini(&body);
    }
}

static void check_cut(const char *fields, const char *want)
{
    struct plan p;
    completions(fields, &p);
    const struct token_list *t = &p.prompts[0].tokens;
    assert_int_equal(t->n, strlen(want));
    for (size_t i = 0; i < t->n; i++)
        assert_int_equal(t->ids[i], fixture_byte(&fixture, (unsigned char)want[i]));
    if (p.echo) {
        assert_int_equal(p.prompts[0].n_text, strlen(want));
        assert_memory_equal(p.prompts[0].text, want, strlen(want));
    }
    plan_fini(&p);
}

static void test_truncation(void **state)
{
    (void)state;
    check_cut("\"truncate_prompt_tokens\":3", "fgh");
    check_cut("\"truncate_prompt_tokens\":3,\"truncation_side\":\"left\",\"echo\":true", "fgh");
    check_cut("\"truncate_prompt_tokens\":3,\"truncation_side\":\"right\",\"echo\":true", "abc");
    check_cut("\"truncate_prompt_tokens\":8", "abcdefgh");
    check_cut("\"truncate_prompt_tokens\":100,\"echo\":true", "abcdefgh");
    check_cut("\"truncate_prompt_tokens\":-1", "abcdefgh");

    struct buf body = {0};
    struct plan p;
    buf_addstr(&body, "{\"truncate_prompt_tokens\":-1,\"prompt\":\"");
    for (int i = 0; i < 5000; i++)
        buf_addch(&body, 'x');
    buf_addstr(&body, "\"}");
    parse_ok(PLAN_COMPLETIONS, buf_str(&body), &p);
    assert_int_equal(p.prompts[0].tokens.n, 999); /* one is left to generate */
    plan_fini(&p);
    buf_fini(&body);
}

static void test_chat_echo_and_rendered_text(void **state)
{
    (void)state;
    static const char goes_on[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},"
        "{\"role\":\"assistant\",\"content\":\"I am\"}],\"continue_final_message\":true,"
        "\"echo\":true,\"return_prompt_text\":true,\"max_tokens\":5}";
    struct plan p;
    parse_ok(PLAN_CHAT, goes_on, &p);
    assert_string_equal(p.prompts[0].text, "I am");
    assert_string_equal(p.prompts[0].rendered, "<|user|>Hi<|end|><|assistant|>I am");
    plan_fini(&p);
    chat("\"echo\":true", &p); /* nothing goes on */
    assert_null(p.prompts[0].text);
    assert_null(p.prompts[0].rendered);
    plan_fini(&p);
}

/* --- replies --- */

static void assert_written(const struct buf *out, const char *want)
{
    assert_string_equal(buf_str(out), want);
}

/* Two tokens, the likeliest two of each, and one listed id; the second chose what was not likely. */
static struct told_tokens two_tokens(struct token_logprob lps[8])
{
    const uint32_t a = fixture_byte(&fixture, 'a'), b = fixture_byte(&fixture, 'b');
    const uint32_t c3 = fixture_byte(&fixture, 0xc3);
    const struct token_logprob values[8] = {{a, -0.5f},
                                            {a, -0.5f},
                                            {b, -1.5f},
                                            {c3, -INFINITY},
                                            {c3, -3},
                                            {a, -0.25f},
                                            {STREAM_NO_TOKEN, -INFINITY},
                                            {c3, -3}};
    memcpy(lps, values, sizeof(values));
    return (struct told_tokens){
        .logprobs = lps, .n = 2, .n_each = 4, .n_stored_top = 2, .n_top = 2};
}

static void test_chat_logprobs(void **state)
{
    (void)state;
    struct plan p;
    struct token_logprob lps[8];
    struct buf out = {0};
    const struct told_tokens t = two_tokens(lps);
    chat("\"logprobs\":true,\"top_logprobs\":2", &p);
    token_json_chat(&p, &t, &out);
    assert_written(
        &out, "{\"content\":[{\"token\":\"a\",\"logprob\":-0.5,\"bytes\":[97],\"top_logprobs\":["
              "{\"token\":\"a\",\"logprob\":-0.5,\"bytes\":[97]},"
              "{\"token\":\"b\",\"logprob\":-1.5,\"bytes\":[98]},"
              "{\"token\":\"\xef\xbf\xbd\",\"logprob\":-9999,\"bytes\":[195]}]},"
              "{\"token\":\"\xef\xbf\xbd\",\"logprob\":-3,\"bytes\":[195],\"top_logprobs\":["
              "{\"token\":\"a\",\"logprob\":-0.25,\"bytes\":[97]},"
              "{\"token\":\"\xef\xbf\xbd\",\"logprob\":-3,\"bytes\":[195]}]}]}");
    plan_fini(&p);
    buf_fini(&out);
}

static void test_completions_logprobs(void **state)
{
    (void)state;
    struct plan p;
    struct token_logprob lps[8];
    struct buf out = {0}, want = {0};
    size_t offset = 5;
    struct told_tokens t = two_tokens(lps);
    completions("\"logprobs\":2", &p);
    token_json_completions(&p, &t, 1, &offset, &out);
    assert_written(&out, "{\"text_offset\":[5,6],\"token_logprobs\":[-0.5,-3],"
                         "\"tokens\":[\"a\",\"\xef\xbf\xbd\"],\"top_logprobs\":["
                         "{\"a\":-0.5,\"b\":-1.5,\"\xef\xbf\xbd\":-9999},"
                         "{\"\xef\xbf\xbd\":-3,\"a\":-0.25}]}");
    assert_int_equal(offset, 7);
    plan_fini(&p);

    /* With ids for names; a prompt in front, of which less is told than was stored. */
    const struct told_tokens pieces[] = {
        {.logprobs = lps,
         .n = 2,
         .n_each = 4,
         .n_stored_top = 3,
         .n_top = 0,
         .first_unknown = true},
        {.logprobs = lps + 4, .n = 1, .n_each = 4, .n_stored_top = 2, .n_top = 1}};
    buf_clear(&out);
    completions("\"logprobs\":2,\"return_tokens_as_token_ids\":true", &p);
    offset = 0;
    token_json_completions(&p, pieces, 2, &offset, &out);
    const unsigned a = fixture_byte(&fixture, 'a'), c3 = fixture_byte(&fixture, 0xc3);
    char name_a[32], name_c3[32];
    size_t n_a = (size_t)snprintf(name_a, sizeof(name_a), "token_id:%u", a);
    size_t n_c3 = (size_t)snprintf(name_c3, sizeof(name_c3), "token_id:%u", c3);
    buf_addf(&want,
             "{\"text_offset\":[0,%zu,%zu],\"token_logprobs\":[null,-3,-3],"
             "\"tokens\":[\"%s\",\"%s\",\"%s\"],\"top_logprobs\":[null,{\"%s\":-3},"
             "{\"%s\":-3,\"%s\":-0.25}]}",
             n_a, n_a + n_c3, name_a, name_c3, name_c3, name_c3, name_c3, name_a);
    assert_written(&out, buf_str(&want));
    plan_fini(&p);
    buf_fini(&want);
    buf_fini(&out);
}

static void test_prompt_logprobs(void **state)
{
    (void)state;
    struct plan p;
    struct token_logprob lps[8];
    struct buf out = {0}, want = {0};
    two_tokens(lps);
    const struct told_tokens t = {
        .logprobs = lps, .n = 2, .n_each = 4, .n_stored_top = 3, .n_top = 1, .first_unknown = true};
    const uint32_t ranks[] = {0, 17};
    completions("\"prompt_logprobs\":1", &p);
    token_json_prompt(&p, &t, ranks, &out);
    buf_addf(&want,
             "[null,{\"%u\":{\"logprob\":-3,\"rank\":17,\"decoded_token\":\"\xef\xbf\xbd\"},"
             "\"%u\":{\"logprob\":-0.25,\"rank\":1,\"decoded_token\":\"a\"}}]",
             fixture_byte(&fixture, 0xc3), fixture_byte(&fixture, 'a'));
    assert_written(&out, buf_str(&want));
    buf_clear(&out);
    token_json_ids((const uint32_t[]){1, 2, 4000000000u}, 3, &out);
    token_json_ids(NULL, 0, &out);
    assert_written(&out, "[1,2,4000000000][]");
    plan_fini(&p);
    buf_fini(&want);
    buf_fini(&out);
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
        cmocka_unit_test(test_what_is_wanted_of_logprobs),
        cmocka_unit_test(test_a_small_body_cannot_ask_for_gigabytes),
        cmocka_unit_test(test_nor_can_its_choices),
        cmocka_unit_test(test_logprobs_of_many_long_answers),
        cmocka_unit_test(test_allowed_and_bad_words),
        cmocka_unit_test(test_logprobs_of_streams_are_few_at_a_time),
        cmocka_unit_test(test_prompts_are_not_told_without_end),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_chat_echo_and_rendered_text),
        cmocka_unit_test(test_chat_logprobs),
        cmocka_unit_test(test_completions_logprobs),
        cmocka_unit_test(test_prompt_logprobs),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

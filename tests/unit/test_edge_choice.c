/* Stop strings and the text of a choice, against the slow and obvious way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "core/edge/choice.h"
#include "tests/unit/edge_fixture.h"

static struct fixture fixture;
static uint32_t rng_state = 12345;

static uint32_t rng(uint32_t below)
{
    rng_state = rng_state * 1664525u + 1013904223u;
    return (rng_state >> 8) % below;
}

/* ---- the obvious way ---- */

struct naive {
    char text[512];
    size_t n;
    const char *stops[STOP_MAX_STRINGS];
    uint32_t n_stops;
};

/* Longest stop string that ends at text[0..end), -1 for none. */
static int naive_ends(const struct naive *m, size_t end)
{
    int best = -1;
    for (uint32_t i = 0; i < m->n_stops; i++) {
        size_t k = strlen(m->stops[i]);
        if (k <= end && memcmp(m->text + end - k, m->stops[i], k) == 0 &&
            (best < 0 || k > strlen(m->stops[best])))
            best = (int)i;
    }
    return best;
}

/* Longest end of text[0..n) that begins a stop string without being one. */
static size_t naive_held(const struct naive *m)
{
    size_t held = 0;
    for (uint32_t i = 0; i < m->n_stops; i++)
        for (size_t k = 1; k < strlen(m->stops[i]) && k <= m->n; k++)
            if (k > held && memcmp(m->text + m->n - k, m->stops[i], k) == 0)
                held = k;
    return held;
}

/* ---- random texts over few letters ---- */

static void random_string(char *s, size_t min, size_t max)
{
    size_t n = min + rng((uint32_t)(max - min + 1));
    for (size_t i = 0; i < n; i++)
        s[i] = (char)('a' + rng(2));
    s[n] = '\0';
}

static void play(bool include_stop, uint32_t min_tokens, uint32_t n_stops)
{
    struct choice_rules rules = {.tokenizer = fixture.model.tokenizer,
                                 .min_tokens = min_tokens,
                                 .include_stop = include_stop};
    char stops[STOP_MAX_STRINGS][8];
    struct naive naive = {.n_stops = n_stops};
    struct arena arena;
    struct choice c;
    struct buf sent = {0};
    arena_init(&arena, 0);
    for (uint32_t i = 0; i < n_stops; i++) {
        random_string(stops[i], 1, 6);
        naive.stops[i] = stops[i];
        assert_int_equal(stop_set_add(&rules.stops, &arena, stops[i], strlen(stops[i])), 0);
    }
    choice_init(&c, &rules);
    int want = -1;
    for (uint32_t t = 0; t < 200 && want < 0; t++) {
        char byte = (char)('a' + rng(2));
        struct stream_item item = {.token = fixture_byte(&fixture, (unsigned char)byte),
                                   .stop_id = -1};
        choice_take(&c, &rules, &item);
        naive.text[naive.n++] = byte;
        if (t + 1 > min_tokens)
            want = naive_ends(&naive, naive.n);
        if (want < 0) {
            assert_int_equal(c.finish, FINISH_NONE);
            assert_int_equal(c.text.len - choice_safe(&c, &rules), naive_held(&naive));
        }
        buf_add(&sent, buf_str(&c.text), choice_safe(&c, &rules));
        choice_sent(&c, &rules);
    }
    size_t visible = naive.n;
    if (want >= 0) {
        assert_int_equal(c.finish, FINISH_STOP);
        assert_int_equal(strlen(stops[c.stop_string]), strlen(stops[want]));
        if (!include_stop)
            visible -= strlen(stops[want]);
    } else
        visible -= naive_held(&naive);
    assert_int_equal(sent.len, visible);
    assert_memory_equal(buf_str(&sent), naive.text, visible);
    assert_int_equal(c.n_tokens, naive.n);

    /* What comes after the end changes nothing. */
    if (want >= 0) {
        struct stream_item more = {.token = fixture_byte(&fixture, 'z'), .finish = FINISH_LENGTH};
        choice_take(&c, &rules, &more);
        assert_true(c.finish == FINISH_STOP && c.n_tokens == naive.n && c.text.len == 0);
    }
    buf_fini(&sent);
    choice_fini(&c);
    arena_fini(&arena);
}

static void test_random_texts(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++)
        play(rng(2), rng(3) ? 0 : rng(20), rng(STOP_MAX_STRINGS + 1));
}

/* The whole text of tokens given as bytes, '$' for eos, with these stop strings. */
static void check(const char *tokens, const char *const stops[], uint32_t n_stops,
                  struct choice_rules rules, const char *want_text, int want_stop)
{
    struct arena arena;
    struct choice c;
    arena_init(&arena, 0);
    rules.tokenizer = fixture.model.tokenizer;
    rules.stops = (struct stop_set){0};
    for (uint32_t i = 0; i < n_stops; i++)
        assert_int_equal(stop_set_add(&rules.stops, &arena, stops[i], strlen(stops[i])), 0);
    choice_init(&c, &rules);
    for (size_t i = 0; tokens[i]; i++) {
        bool eos = tokens[i] == '$';
        struct stream_item item = {.token = eos ? fixture_find(&fixture, "<|end|>")
                                                : fixture_byte(&fixture, (unsigned char)tokens[i]),
                                   .hidden = eos,
                                   .stop_id = -1,
                                   .finish = tokens[i + 1] ? FINISH_NONE : FINISH_STOP};
        choice_take(&c, &rules, &item);
    }
    assert_string_equal(buf_str(&c.text), want_text);
    assert_int_equal(c.stop_string, want_stop);
    choice_fini(&c);
    arena_fini(&arena);
}

static void test_examples(void **state)
{
    (void)state;
    const struct choice_rules plain = {.skip_special_tokens = true}, shown = {.include_stop = true};
    check("one two$", NULL, 0, plain, "one two", -1);
    check("one two$", NULL, 0, shown, "one two<|end|>", -1);
    check("one two$", (const char *const[]){" t"}, 1, plain, "one", 0);
    check("one two$", (const char *const[]){" t"}, 1, shown, "one t", 0);
    /* the earliest end wins, not the earliest start or the first in the list */
    check("abcdef$", (const char *const[]){"bcde", "cd"}, 2, plain, "ab", 1);
    check("abcdef$", (const char *const[]){"d", "bcd"}, 2, plain, "a", 1);
    /* what looked like a stop string and was none is shown at the end */
    check("abab$", (const char *const[]){"abac"}, 1, plain, "abab", -1);
    check("abaabac$", (const char *const[]){"abac"}, 1, plain, "aba", 0);
    /* characters of several bytes, also cut off ones */
    check("\xc3\xa9\xe2\x82\xac$", (const char *const[]){"\xe2\x82\xac"}, 1, plain, "\xc3\xa9", 0);
    check("a\xe2\x82$", NULL, 0, plain, "a\xef\xbf\xbd", -1);
}

static void test_held_text_begins_at_a_character(void **state)
{
    (void)state;
    static const char *const chars[] = {"\xc3\xa9", "\xc3\xa8", "\xe2\x82\xac", "\xe2\x82\xad",
                                        "a"};
    for (int i = 0; i < 5000; i++) {
        struct choice_rules rules = {.tokenizer = fixture.model.tokenizer};
        struct arena arena;
        struct choice c;
        char stop[64] = "";
        arena_init(&arena, 0);
        size_t n = 0;
        for (uint32_t k = 0, m = 1 + rng(4); k < m; k++) {
            const char *s = chars[rng(ARRAY_LEN(chars))];
            memcpy(stop + n, s, strlen(s));
            n += strlen(s);
        }
        assert_int_equal(stop_set_add(&rules.stops, &arena, stop, n), 0);
        choice_init(&c, &rules);
        for (int t = 0; t < 30 && !c.finish; t++) {
            const char *s = chars[rng(ARRAY_LEN(chars))];
            for (; *s; s++) {
                struct stream_item item = {.token = fixture_byte(&fixture, (unsigned char)*s)};
                choice_take(&c, &rules, &item);
                size_t safe = choice_safe(&c, &rules);
                assert_true(safe == c.text.len ||
                            ((unsigned char)c.text.data[safe] & 0xc0) != 0x80);
                choice_sent(&c, &rules);
            }
        }
        choice_fini(&c);
        arena_fini(&arena);
    }
}

static void test_counts_and_reasons(void **state)
{
    (void)state;
    struct choice_rules rules = {.tokenizer = fixture.model.tokenizer};
    struct choice c;
    choice_init(&c, &rules);
    struct stream_item item = {.token = fixture_byte(&fixture, 'x'), .stop_id = -1};
    choice_take(&c, &rules, &item);
    struct stream_item last = {
        .token = fixture_byte(&fixture, 'y'), .hidden = true, .stop_id = 42, .finish = FINISH_STOP};
    choice_take(&c, &rules, &last);
    assert_string_equal(buf_str(&c.text), "x");
    assert_int_equal(c.n_tokens, 2); /* the one that is not shown counts */
    assert_int_equal(c.stop_id, 42);
    choice_fini(&c);

    choice_init(&c, &rules);
    struct stream_item only = {.token = STREAM_NO_TOKEN, .stop_id = -1, .finish = FINISH_LENGTH};
    choice_take(&c, &rules, &only);
    assert_int_equal(c.n_tokens, 0);
    assert_int_equal(c.finish, FINISH_LENGTH);
    choice_fini(&c);
}

/* A vocabulary that puts a space before every text: a message begins without it, a text that
 * goes on keeps it. */
static void test_space_in_front(void **state)
{
    (void)state;
    const struct token_text texts[] = {{"\xe2\x96\x81", 3}, {"a", 1}};
    const enum token_kind kinds[] = {TOKEN_NORMAL, TOKEN_NORMAL};
    struct tokenizer_spec spec = {
        .source = "spaced", .texts = texts, .kinds = kinds, .n_tokens = 2};
    spec.bos_id = spec.eos_id = -1;
    spec.form = TOKENIZER_SPM;
    spec.space_prefix = SPACE_PREFIX_EVERY;
    spec.strip_first_space = true;
    struct tokenizer *t;
    struct err e = {0};
    assert_int_equal(tokenizer_new(&spec, &t, &e), 0);
    for (int continues = 0; continues < 2; continues++) {
        struct choice_rules rules = {.tokenizer = t, .continues = continues};
        struct choice c;
        choice_init(&c, &rules);
        for (uint32_t i = 0; i < 4; i++) {
            struct stream_item item = {.token = i % 2, .stop_id = -1};
            choice_take(&c, &rules, &item);
        }
        assert_string_equal(buf_str(&c.text), continues ? " a a" : "a a");
        choice_fini(&c);
    }
    tokenizer_free(t);
}

static void test_stop_set_is_bounded(void **state)
{
    (void)state;
    struct stop_set set = {0};
    struct arena arena;
    arena_init(&arena, 0);
    for (int i = 0; i < STOP_MAX_STRINGS; i++)
        assert_int_equal(stop_set_add(&set, &arena, "x", 1), 0);
    assert_int_equal(stop_set_add(&set, &arena, "x", 1), -LLMD_ELIMIT);
    arena_fini(&arena);
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
        cmocka_unit_test(test_random_texts),
        cmocka_unit_test(test_examples),
        cmocka_unit_test(test_held_text_begins_at_a_character),
        cmocka_unit_test(test_counts_and_reasons),
        cmocka_unit_test(test_space_in_front),
        cmocka_unit_test(test_stop_set_is_bounded),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

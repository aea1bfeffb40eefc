/* test_tokenizer_json.c - made-up tokenizer.json files of every form against Hugging Face
 * `tokenizers` (tests/golden/gen_tokenizer_json.py); unfit ones, each by its message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/model/tokenizer_json.h"
#include "core/util/fsio.h"
#include "core/util/json.h"
#include "core/util/printable.h"

#define CASES "tests/golden/data/tokenizer_json_cases.jsonl"

static void need(int rc, const struct err *e)
{
    if (rc < 0)
        fail_msg("%s", e->msg);
}

/* ---- made-up files against tokenizers ---- */

static void add_shown(struct buf *b, const char *s, size_t n)
{
    char shown[PRINTABLE_ESCAPE_MAX];
    size_t len;
    for (size_t i = 0; i < n;) {
        i += printable_next(s + i, n - i, shown, &len);
        buf_add(b, shown, len);
    }
}

static const char *str_at(const json_t *array, size_t i, size_t *out_n)
{
    const json_t *v = json_array_get(array, i);
    *out_n = json_string_length(v);
    return json_string_value(v);
}

static size_t ids_of(const json_t *list, uint32_t out[], size_t max)
{
    size_t n = json_array_size(list);
    assert_true(n <= max);
    for (size_t i = 0; i < n; i++)
        out[i] = (uint32_t)json_integer_value(json_array_get(list, i));
    return n;
}

static void add_ids(struct buf *b, const char *what, const uint32_t ids[], size_t n)
{
    buf_addf(b, "\n%s", what);
    for (size_t i = 0; i < n; i++)
        buf_addf(b, " %u", ids[i]);
}

enum { MAX_IDS = 1024 };

static void check_case(const struct tokenizer *t, size_t line, const json_t *c)
{
    size_t n;
    const char *text = str_at(c, 0, &n);
    json_int_t f = json_integer_value(json_array_get(c, 1));
    uint32_t want[MAX_IDS];
    size_t n_want = ids_of(json_array_get(c, 2), want, MAX_IDS);
    unsigned flags = (f & 1 ? TOKENIZE_PARSE_SPECIAL : 0u) | (f & 2 ? TOKENIZE_ADD_SPECIAL : 0u);
    struct token_list l = {0};
    struct err e = {0};
    need(tokenizer_encode(t, text, n, flags, &l, &e), &e);
    if (l.n != n_want || (n_want > 0 && memcmp(l.ids, want, n_want * sizeof(*want)) != 0)) {
        struct buf b = {0};
        add_shown(&b, text, n);
        add_ids(&b, " got", l.ids, l.n);
        add_ids(&b, "want", want, n_want);
        print_error(CASES ":%zu: flags %d: %s\n", line, (int)f, buf_str(&b));
        buf_fini(&b);
        fail();
    }
    token_list_fini(&l);
}

static void check_decode(const struct tokenizer *t, size_t line, const json_t *c, bool skip)
{
    uint32_t ids[MAX_IDS];
    size_t n = ids_of(json_array_get(c, 0), ids, MAX_IDS), n_want;
    const char *want = str_at(c, skip ? 2 : 1, &n_want);
    struct buf out = {0};
    struct detok d;
    detok_init(&d, t, skip);
    for (size_t i = 0; i < n; i++)
        detok_push(&d, ids[i], &out);
    detok_flush(&d, &out);
    if (out.len != n_want || memcmp(buf_str(&out), want, n_want) != 0) {
        struct buf b = {0};
        add_ids(&b, skip ? "skipping" : "all", ids, n);
        buf_addstr(&b, "\n got ");
        add_shown(&b, buf_str(&out), out.len);
        buf_addstr(&b, "\nwant ");
        add_shown(&b, want, n_want);
        print_error(CASES ":%zu: %s\n", line, buf_str(&b));
        buf_fini(&b);
        fail();
    }
    buf_fini(&out);
}

static void check_line(const char *s, size_t n, size_t line)
{
    struct err e = {0};
    json_t *v = NULL;
    struct tokenizer *t = NULL;
    need(json_parse(s, n, &v, &e), &e);
    const json_t *file = json_object_get(v, "json"), *cases = json_object_get(v, "cases");
    const json_t *decodes = json_object_get(v, "decodes");
    if (tokenizer_json_parse(json_string_value(file), json_string_length(file), "file", NULL, &t,
                             &e) < 0)
        fail_msg(CASES ":%zu: %s", line, e.msg);
    assert_true(json_array_size(cases) > 0 && json_array_size(decodes) > 0);
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_case(t, line, json_array_get(cases, i));
    for (size_t i = 0; i < 2 * json_array_size(decodes); i++)
        check_decode(t, line, json_array_get(decodes, i / 2), i % 2);
    tokenizer_free(t);
    json_decref(v);
}

static void test_made_up_files(void **state)
{
    (void)state;
    struct buf b = {0};
    struct err e = {0};
    size_t n_lines = 0;
    need(file_read(CASES, (size_t)4 << 20, &b, &e), &e);
    for (const char *s = b.data, *end; s < b.data + b.len; s = end + 1) {
        end = memchr(s, '\n', (size_t)(b.data + b.len - s));
        assert_non_null(end);
        check_line(s, (size_t)(end - s), ++n_lines);
    }
    assert_true(n_lines > 40);
    buf_fini(&b);
}

/* ---- one small file, and what may be wrong with it ---- */

/* A sound file: what a pre-tokenizer of the byte-level kind needs, and little else. */
static void base_file(struct buf *b)
{
    buf_addstr(b, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":{\"strategy\":1},"
                  "\"added_tokens\":[{\"id\":96,\"content\":\"<s>\",\"single_word\":false,"
                  "\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true}],"
                  "\"normalizer\":{\"type\":\"NFC\"},"
                  "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                  "\"trim_offsets\":true,\"use_regex\":true},"
                  "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
                  "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
                  "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],"
                  "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[96],"
                  "\"tokens\":[\"<s>\"]}}},\"decoder\":{\"type\":\"ByteLevel\"},"
                  "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
                  "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":\"\","
                  "\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":false,\"vocab\":{"
                  "\"ab\":0,\"abc\":1");
    for (int c = '!'; c <= '~'; c++) {
        char text[2] = {(char)c, '\0'};
        buf_addch(b, ',');
        json_add_cstr(b, text);
        buf_addf(b, ":%d", c - '!' + 2);
    }
    buf_addstr(b, "},\"merges\":[\"a b\",\"ab c\"]}}");
}

/* The base with the first `from` replaced by `to`. */
static void edited_file(struct buf *b, const char *from, const char *to)
{
    struct buf base = {0};
    base_file(&base);
    const char *at = strstr(base.data, from);
    if (!at)
        fail_msg("the base does not hold %s", from);
    buf_add(b, base.data, (size_t)(at - base.data));
    buf_addstr(b, to);
    buf_addstr(b, at + strlen(from));
    buf_fini(&base);
}

static int parse(const struct buf *b, const struct tokenizer_json_opts *o, struct tokenizer **out,
                 struct err *e)
{
    *out = NULL;
    return tokenizer_json_parse(b->data, b->len, "tokenizer.json", o, out, e);
}

static void test_sound_file(void **state)
{
    (void)state;
    struct buf b = {0};
    struct err e = {0};
    struct tokenizer *t;
    struct token_list l = {0};
    uint32_t n;
    base_file(&b);
    struct tokenizer_json_opts o = {.n_vocab = 97, .eos_token = "<s>", .bos_token = "<s>"};
    need(parse(&b, &o, &t, &e), &e);
    assert_int_equal(tokenizer_n_tokens(t), 97);
    assert_int_equal(tokenizer_find(t, "<s>", 3), 96);
    assert_int_equal(tokenizer_eos_ids(t, &n)[0], 96);
    assert_int_equal(n, 1);
    need(tokenizer_encode(t, "abcab<s>", 8, TOKENIZE_ADD_SPECIAL | TOKENIZE_PARSE_SPECIAL, &l, &e),
         &e);
    static const uint32_t want[] = {96, 1, 0, 96};
    assert_int_equal(l.n, 4);
    assert_memory_equal(l.ids, want, sizeof(want));
    token_list_fini(&l);
    tokenizer_free(t);
    buf_fini(&b);
}

/* What other files say about the end of generation. */
static void test_eos(void **state)
{
    (void)state;
    static const uint32_t given[] = {5, 96, 7};
    struct tokenizer_json_opts o = {.eos_ids = given, .n_eos_ids = 3, .eos_token = "abc"};
    struct buf b = {0};
    struct err e = {0};
    struct tokenizer *t;
    uint32_t n;
    base_file(&b);
    need(parse(&b, &o, &t, &e), &e);
    const uint32_t *ids = tokenizer_eos_ids(t, &n);
    assert_int_equal(n, 4);
    assert_true(ids[0] == 5 && ids[1] == 96 && ids[2] == 7 && ids[3] == 1);
    tokenizer_free(t);
    o.eos_token = "nowhere";
    need(parse(&b, &o, &t, &e), &e);
    tokenizer_eos_ids(t, &n);
    assert_int_equal(n, 3);
    tokenizer_free(t);
    o.n_eos_ids = 0;
    assert_int_equal(parse(&b, &o, &t, &e), -LLMD_EPARSE);
    assert_string_equal(e.msg, "tokenizer.json: the eos token 'nowhere' is no token of the "
                               "vocabulary");
    err_clear(&e);
    o = (struct tokenizer_json_opts){.eos_ids = (const uint32_t[]){97}, .n_eos_ids = 1};
    assert_int_equal(parse(&b, &o, &t, &e), -LLMD_EPARSE);
    buf_fini(&b);
}

static void check_refused(const struct buf *b, const struct tokenizer_json_opts *o, int code,
                          const char *message, const char *label)
{
    struct err e = {0};
    struct tokenizer *t;
    int rc = parse(b, o, &t, &e);
    if (rc == 0)
        fail_msg("%s: taken", label);
    assert_null(t);
    if (rc != -code || !strstr(e.msg, message) || strncmp(e.msg, "tokenizer.json: ", 16) != 0)
        fail_msg("%s: %d %s\nexpected: %s", label, rc, e.msg, message);
}

struct unfit {
    const char *from, *to;
    int code;
    const char *message;
};

static void check_unfit(const struct unfit *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct buf b = {0};
        edited_file(&b, cases[i].from, cases[i].to);
        check_refused(&b, NULL, cases[i].code, cases[i].message, cases[i].to);
        buf_fini(&b);
    }
}

#define PRE_KEY "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"

static void test_unfit_model(void **state)
{
    (void)state;
    static const struct unfit cases[] = {
        {"\"BPE\"", "\"WordPiece\"", LLMD_EUNSUPPORTED, "key 'model.type': 'WordPiece' is not"},
        {"\"BPE\"", "\"Unigram\"", LLMD_EUNSUPPORTED, "known is 'BPE'"},
        {"\"BPE\"", "7", LLMD_EPARSE, "key 'model.type': line 1 column"},
        {"\"dropout\":null", "\"dropout\":0.1", LLMD_EUNSUPPORTED, "key 'model.dropout': '0.1'"},
        {"\"unk_token\":null", "\"unk_token\":\"<u>\"", LLMD_EPARSE,
         "key 'model.unk_token': '<u>'"},
        {"\"unk_token\":null", "\"unk_token\":3", LLMD_EPARSE, "a string is expected"},
        {"\"continuing_subword_prefix\":null", "\"continuing_subword_prefix\":\"##\"",
         LLMD_EUNSUPPORTED, "key 'model.continuing_subword_prefix': '##' is not supported"},
        {"\"end_of_word_suffix\":\"\"", "\"end_of_word_suffix\":\"</w>\"", LLMD_EUNSUPPORTED,
         "key 'model.end_of_word_suffix': '</w>'"},
        {"\"byte_fallback\":false", "\"byte_fallback\":true", LLMD_EUNSUPPORTED,
         "key 'model.byte_fallback': true is not supported"},
        {"\"fuse_unk\":false", "\"fuse_unk\":0", LLMD_EPARSE, "true or false is expected"},
        {"\"fuse_unk\":false", "\"fuse\":false", LLMD_EUNSUPPORTED,
         "the option 'fuse' is not known"},
        {"\"fuse_unk\":false", "\"type\":\"BPE\"", LLMD_EPARSE,
         "key 'model.type': it occurs twice"},
        {"\"abc\":1", "\"abc\":0", LLMD_EPARSE, "'ab' and 'abc' both have the id 0"},
        {"\"abc\":1", "\"ab\":1", LLMD_EPARSE, "both 'ab'"},
        {"\"abc\":1", "\"\":1", LLMD_EPARSE, "key 'model.vocab': token 1 is empty"},
        {"\"abc\":1", "\"abc\":-1", LLMD_EPARSE, "an integer from 0 to 4294967295"},
        {"\"abc\":1", "\"abc\":1.0", LLMD_EPARSE, "an integer from 0 to 4294967295"},
        {"\"abc\":1", "\"abc\":\"1\"", LLMD_EPARSE, "key 'model.vocab': line 1 column"},
        {"\"abc\":1", "\"abc\":4294967295", LLMD_EPARSE, "there is an id 4294967295 among 97"},
        {"\"abc\":1", "\"abc\":100000", LLMD_EPARSE, "there is an id 100000 among 97 tokens"},
        {"\"abc\":1", "\"a\\ud800\":1", LLMD_EPARSE, "no valid escape"},
        {"\"a b\"", "\"a  b\"", LLMD_EPARSE, "merge 0 'a  b' is not of the form 'left right'"},
        {"\"a b\"", "\"ab\"", LLMD_EPARSE, "merge 0 'ab' is not of the form"},
        {"\"a b\"", "\" b\"", LLMD_EPARSE, "merge 0 ' b' is not of the form"},
        {"\"a b\"", "\"\"", LLMD_EPARSE, "merge 0 '' is not of the form"},
        {"\"a b\"", "[\"a\",\"b\"]", LLMD_EPARSE, "merge 1 is not a pair, as the first one is"},
        {"\"ab c\"", "[\"ab\",\"c\"]", LLMD_EPARSE, "merge 1 is not of the form 'left right', as"},
        {"\"a b\",\"ab c\"", "[\"a\"]", LLMD_EPARSE, "merge 0 is not a pair of two tokens"},
        {"\"a b\",\"ab c\"", "[\"a\",\"b\",\"c\"]", LLMD_EPARSE, "merge 0 is not a pair of two"},
        {"\"a b\",\"ab c\"", "[\"a\",1]", LLMD_EPARSE, "a string is expected"},
        {"\"ab c\"", "\"ab zz\"", LLMD_EPARSE, "merge 1 of 'ab' and 'zz' joins what"},
        {"\"ab c\"", "\"ab d\"", LLMD_EPARSE, "merge 1 of 'ab' and 'd' makes what"},
        {"\"merges\":[", "\"merges\":7,\"x\":[", LLMD_EPARSE, "an array is expected"},
        {",\"merges\":[\"a b\",\"ab c\"]", "", LLMD_EPARSE, "key 'model.merges': missing"},
        {"\"model\":{", "\"model\":[{", LLMD_EPARSE, "key 'model': line 1 column"},
        {"\"vocab\":{", "\"vocab\":{},\"merges\":[]}}", LLMD_EPARSE, "something follows the value"},
    };
    check_unfit(cases, ARRAY_LEN(cases));
}

static void test_unfit_parts(void **state)
{
    (void)state;
    static const struct unfit cases[] = {
        {"\"version\":\"1.0\"", "\"version\":\"2.0\"", LLMD_EUNSUPPORTED, "key 'version': '2.0'"},
        {"\"version\":\"1.0\"", "\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}", LLMD_EPARSE,
         "the key 'model' occurs twice"},
        {"\"version\":\"1.0\"", "\"verzion\":\"1.0\"", LLMD_EUNSUPPORTED, "'verzion' is not known"},
        {"\"NFC\"", "\"NFKC\"", LLMD_EUNSUPPORTED,
         "key 'normalizer': 'NFKC' is not supported; known"},
        {"\"NFC\"", "\"Lowercase\"", LLMD_EUNSUPPORTED, "known are NFC, Prepend of U+2581"},
        {"\"NFC\"", "\"Prepend\",\"prepend\":\"\xe2\x96\x81\"", LLMD_EUNSUPPORTED,
         "key 'normalizer': Prepend and Replace are not supported before ByteLevel"},
        {"\"NFC\"", "\"Prepend\",\"prepend\":\"_\"", LLMD_EUNSUPPORTED,
         "'Prepend' is not supported as it stands there"},
        {"\"NFC\"", "\"NFC\",\"x\":1", LLMD_EUNSUPPORTED, "the option 'x' is not known"},
        {"\"NFC\"", "\"Sequence\",\"normalizers\":3", LLMD_EPARSE,
         "'normalizers' must be an array"},
        {"\"NFC\"", "\"Sequence\",\"normalizers\":[{\"type\":\"Sequence\",\"normalizers\":[]}]",
         LLMD_EUNSUPPORTED, "'Sequence' is not supported"},
        {"\"NFC\"", "7", LLMD_EPARSE, "a step must be an object with a 'type'"},
        {"{\"type\":\"NFC\"}", "[[[1]]]", LLMD_EPARSE,
         "key 'normalizer': a step must be an object"},
        {PRE_KEY, "\"pre_tokenizer\":{\"type\":\"Whitespace\",", LLMD_EUNSUPPORTED,
         "key 'pre_tokenizer': 'Whitespace' is not supported; known are Split"},
        {PRE_KEY, "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":0,", LLMD_EPARSE,
         "'add_prefix_space' must be true or false"},
        {PRE_KEY, "\"pre_tokenizer\":null,\"x\":{", LLMD_EUNSUPPORTED, "the key 'x' is not known"},
        {"\"decoder\":{\"type\":\"ByteLevel\"}", "\"decoder\":null", LLMD_EUNSUPPORTED,
         "key 'decoder': these steps are not supported"},
        {"\"decoder\":{\"type\":\"ByteLevel\"}", "\"decoder\":{\"type\":\"WordPiece\"}",
         LLMD_EUNSUPPORTED, "key 'decoder': these steps are not supported; known are ByteLevel"},
        {"\"decoder\":{\"type\":\"ByteLevel\"}",
         "\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"_\"}", LLMD_EUNSUPPORTED,
         "key 'decoder': Metaspace is supported with the replacement U+2581 alone"},
        {"\"decoder\":{\"type\":\"ByteLevel\"}",
         "\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\"}", LLMD_EUNSUPPORTED,
         "key 'decoder': ByteLevel is needed, as the pre-tokenizer ends with it"},
        {"\"TemplateProcessing\"", "\"BertProcessing\"", LLMD_EUNSUPPORTED,
         "key 'post_processor': 'BertProcessing' is not supported; known are one Template"},
        {"\"id\":\"A\"", "\"id\":\"B\"", LLMD_EPARSE, "the sequence A once"},
        {"{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}", "{\"SpecialToken\":{\"id\":\"<s>\"}}",
         LLMD_EPARSE, "'single' must hold the sequence A"},
        {"\"ids\":[96]", "\"ids\":[97]", LLMD_EPARSE, "'<s>' has an id that no token has"},
        {"\"ids\":[96]", "\"ids\":[]", LLMD_EPARSE, "'<s>' has no ids"},
        {"\"single\":[", "\"single\":1,\"y\":[", LLMD_EUNSUPPORTED, "the option 'y' is not known"},
        {"\"lstrip\":false", "\"lstrip\":null", LLMD_EPARSE, "key 'added_tokens': line 1 column"},
        {"\"lstrip\":false,", "", LLMD_EPARSE, "entry 0 '<s>' lacks one of id"},
        {"\"lstrip\":false", "\"left\":false", LLMD_EUNSUPPORTED, "entry 0: the option 'left'"},
        {"\"id\":96", "\"id\":\"96\"", LLMD_EPARSE, "key 'added_tokens': line 1 column"},
        {"\"added_tokens\":[", "\"added_tokens\":{", LLMD_EPARSE, "an array is expected"},
    };
    check_unfit(cases, ARRAY_LEN(cases));
}

static void test_unfit_patterns(void **state)
{
    (void)state;
    static const char byte_level[] = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                                     "\"trim_offsets\":true,\"use_regex\":true}";
    static const struct {
        const char *steps, *message;
    } cases[] = {
        {"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x+\"},\"behavior\":\"Isolated\","
         "\"invert\":false}",
         "the split pattern is not known: Split 'x+'"},
        {"{\"type\":\"Digits\",\"individual_digits\":true},{\"type\":\"Digits\","
         "\"individual_digits\":true}",
         "the split pattern is not known: Digits, Digits"},
        {"{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":\"Isolated\"}",
         "Split is supported with a 'Regex' alone"},
        {"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x\"},\"behavior\":\"Removed\"}",
         "Split is supported with behavior 'Isolated'"},
        {"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x\"},\"behavior\":\"MergedWithNext\"}",
         "Split is supported with behavior 'Isolated'"},
        {"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x\"},\"behavior\":\"Removed\","
         "\"invert\":true}",
         "inverted, is supported as the only one"},
        {"{\"type\":\"Digits\",\"individual_digits\":false}", "with individual_digits alone"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\"}", "with the replacement U+2581 alone"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\"}", "'ByteLevel' is not"},
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", "'ByteLevel' is not supported"},
        {"{\"type\":\"BertPreTokenizer\"}", "'BertPreTokenizer' is not supported; known are"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = {0}, to = {0};
        buf_addf(&to, "{\"type\":\"Sequence\",\"pretokenizers\":[%s,%s]}", cases[i].steps,
                 byte_level);
        edited_file(&b, byte_level, buf_str(&to));
        check_refused(&b, NULL, LLMD_EUNSUPPORTED, cases[i].message, cases[i].steps);
        buf_fini(&b);
        buf_fini(&to);
    }
}

/* Ids that the model has no room for. */
static void test_model_size(void **state)
{
    (void)state;
    struct tokenizer_json_opts o = {.n_vocab = 96};
    struct buf b = {0};
    base_file(&b);
    check_refused(&b, &o, LLMD_EPARSE,
                  "key 'added_tokens': '<s>' has the id 96, but the model has 96 tokens; delete it",
                  "added");
    o.n_vocab = 95;
    check_refused(&b, &o, LLMD_EPARSE,
                  "key 'model.vocab': the token '~' has the id 95, but the model has 95 tokens",
                  "vocabulary");
    buf_fini(&b);
}

/* Every prefix of a file is refused; changed bytes are refused or harmless. */
static void test_damaged_files(void **state)
{
    (void)state;
    struct buf b = {0};
    uint64_t seed = 5;
    base_file(&b);
    for (size_t n = 0; n < b.len; n++) {
        struct buf part = {.data = malloc(n + 1), .len = n};
        assert_non_null(part.data);
        memcpy(part.data, b.data, n);
        check_refused(&part, NULL, LLMD_EPARSE, "", "a prefix");
        free(part.data);
    }
    for (int i = 0; i < 4000; i++) {
        struct err e = {0};
        struct tokenizer *t;
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        size_t at = seed % b.len;
        char old = b.data[at];
        b.data[at] = (char)(seed >> 32);
        if (parse(&b, NULL, &t, &e) < 0)
            assert_true(e.msg[0] && !strchr(e.msg, '\n') && !t);
        else
            tokenizer_free(t);
        b.data[at] = old;
    }
    buf_fini(&b);
}

/* What would be large is refused before it is built, and soon. */
static void test_large_claims(void **state)
{
    (void)state;
    struct buf b = {0};
    const clock_t begin = clock();
    edited_file(&b, "{\"type\":\"NFC\"}", "");
    size_t at = (size_t)(strstr(b.data, "\"normalizer\":") - b.data) + strlen("\"normalizer\":");
    struct buf deep = {0};
    buf_add(&deep, b.data, at);
    for (int i = 0; i < 1000000; i++)
        buf_addch(&deep, '[');
    check_refused(&deep, NULL, LLMD_EPARSE, "key 'normalizer': ", "deep");
    assert_true(deep.len > at);
    buf_truncate(&deep, at);
    buf_addch(&deep, '[');
    for (int i = 0; i < 1000000; i++)
        buf_addstr(&deep, "[],");
    buf_addstr(&deep, "[]]");
    buf_addstr(&deep, b.data + at);
    check_refused(&deep, NULL, LLMD_ELIMIT, "key 'normalizer': 3000004 bytes; at most", "wide");
    buf_clear(&deep);
    edited_file(&deep, "\"abc\":1", "\"abc\":16777215");
    check_refused(&deep, NULL, LLMD_EPARSE, "there is an id 16777215 among 97 tokens", "far id");
    buf_fini(&deep);
    buf_fini(&b);
    assert_true(clock() - begin < 5 * CLOCKS_PER_SEC);
}

static void test_files(void **state)
{
    (void)state;
    struct err e = {0};
    struct tokenizer *t = NULL;
    assert_int_equal(tokenizer_json_load("/nonexistent/tokenizer.json", NULL, &t, &e),
                     -LLMD_ENOTFOUND);
    assert_non_null(strstr(e.msg, "/nonexistent/tokenizer.json"));
    err_clear(&e);
    assert_int_equal(tokenizer_json_load("tests/unit", NULL, &t, &e), -LLMD_EINVAL);
    err_clear(&e);
    assert_int_equal(tokenizer_json_load("/dev/null", NULL, &t, &e) < 0, 1);
    assert_int_equal(tokenizer_json_parse("", 0, "x", NULL, &t, NULL), -LLMD_EPARSE);
    assert_null(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sound_file),    cmocka_unit_test(test_eos),
        cmocka_unit_test(test_made_up_files), cmocka_unit_test(test_unfit_model),
        cmocka_unit_test(test_unfit_parts),   cmocka_unit_test(test_unfit_patterns),
        cmocka_unit_test(test_model_size),    cmocka_unit_test(test_damaged_files),
        cmocka_unit_test(test_large_claims),  cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

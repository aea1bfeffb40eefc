/* The tokenizer by itself: splitters, merging against the slow definition, added tokens, the
 * streaming detokenizer, malformed vocabularies. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/model/pretok_int.h"
#include "tests/unit/tiny_vocab.h"

static struct tiny_vocab vocab;

static struct tokenizer *open_spec(const struct tokenizer_spec *spec)
{
    struct err e = {0};
    struct tokenizer *t = NULL;
    if (tokenizer_new(spec, &t, &e) < 0)
        fail_msg("%s", e.msg);
    return t;
}

static struct tokenizer *open_vocab(void)
{
    struct tokenizer_spec spec = tiny_spec(&vocab);
    return open_spec(&spec);
}

static void add_str(const char *s, enum token_kind kind)
{
    tiny_add(&vocab, s, strlen(s), kind);
}

static uint32_t id_of(const struct tokenizer *t, const char *s)
{
    int64_t id = tokenizer_find(t, s, strlen(s));
    assert_true(id >= 0);
    return (uint32_t)id;
}

/* The written forms of the tokens of a text, joined by '|'. */
static void assert_tokens(const struct tokenizer *t, const char *text, unsigned flags,
                          const char *want)
{
    struct err e = {0};
    struct token_list l = {0};
    struct buf got = {0};
    assert_int_equal(tokenizer_encode(t, text, strlen(text), flags, &l, &e), 0);
    for (size_t i = 0; i < l.n; i++) {
        if (i > 0)
            buf_addch(&got, '|');
        buf_add(&got, vocab.texts[l.ids[i]].s, vocab.texts[l.ids[i]].n);
    }
    assert_string_equal(buf_str(&got), want);
    token_list_fini(&l);
    buf_fini(&got);
}

/* ---- splitters ---- */

static void assert_pieces(const char *name, const char *text, const char *want)
{
    static struct char_classes classes;
    const struct pretok *p = pretok_find(name);
    struct buf got = {0};
    assert_non_null(p);
    char_classes_init(&classes);
    for (size_t i = 0, n = strlen(text); i < n;) {
        size_t len = p->piece(p, &classes, text + i, n - i);
        assert_true(len > 0 && len <= n - i);
        if (i > 0)
            buf_addch(&got, '|');
        buf_add(&got, text + i, len);
        i += len;
    }
    assert_string_equal(buf_str(&got), want);
    buf_fini(&got);
}

static void test_gpt2_pieces(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"", ""},
        {"Hello world", "Hello| world"},
        {"don't we'LL I'll they've", "don|'t| we|'|LL| I|'ll| they|'ve"},
        {"'s't'm'd're've'll'l'x'", "'s|'t|'m|'d|'re|'ve|'ll|'|l|'|x|'"},
        {"a1 22 b", "a|1| 22| b"},
        {"x  y", "x| | y"},
        {"x   ", "x|   "},
        {"\n\n\nz", "\n\n|\n|z"},
        {" \t!", " |\t|!"},
        {"a \n b", "a| \n| b"},
        {"!?.. ...", "!?..| ..."},
        {"\xc3\xa9t\xc3\xa9 \xe6\xbc\xa2", "\xc3\xa9t\xc3\xa9| \xe6\xbc\xa2"},
        {"\xc2\xa0\xe3\x80\x80x", "\xc2\xa0|\xe3\x80\x80|x"},     /* other white space */
        {"e\xcc\x81", "e|\xcc\x81"},                              /* a mark is no letter */
        {"\xd9\xa3\xd9\xa4\xc2\xbd", "\xd9\xa3\xd9\xa4\xc2\xbd"}, /* numbers of all kinds */
        {"\xf0\x91\xb7\xa0\xf0\x9f\xa4\x96", "\xf0\x91\xb7\xa0\xf0\x9f\xa4\x96"},
        {"\xf0\xa0\x80\x80\xf0\xb2\x8e\xaf\xf3\xa0\x84\x80",
         "\xf0\xa0\x80\x80\xf0\xb2\x8e\xaf|\xf3\xa0\x84\x80"}, /* planes 2, 3 and 14 */
    };
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
        assert_pieces("gpt-2", pairs[i][0], pairs[i][1]);
}

static void test_smollm_pieces(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"a12 34", "a|1|2| |3|4"},
        {"x  7", "x|  |7"}, /* the run of spaces ends where the digit begins */
        {"1's", "1|'s"},
        {"\xc2\xbd\xe2\x91\xa0 \xd9\xa3", "\xc2\xbd|\xe2\x91\xa0| |\xd9\xa3"},
        {"!\xf0\x91\xb7\xa0!", "!|\xf0\x91\xb7\xa0|!"}, /* Digits knows it, the pattern does not */
    };
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
        assert_pieces("smollm", pairs[i][0], pairs[i][1]);
}

/* ---- merging ---- */

static uint32_t random_state = 1;

static uint32_t below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state % n;
}

/* Merges of random tokens over the letters a, b and c; some are listed twice. */
static void random_vocab(void)
{
    tiny_init(&vocab, NULL);
    uint32_t made = vocab.n_tokens;
    for (uint32_t n = 1 + below(40); n > 0; n--) {
        char merge[128];
        size_t len = 0;
        for (int side = 0; side < 2; side++) {
            uint32_t k = below(3 + vocab.n_tokens - made);
            struct token_text t = vocab.texts[k < 3 ? (uint32_t)'a' + k : made + k - 3];
            assert_true(t.n <= 32);
            memcpy(merge + len, t.s, t.n);
            len += t.n;
            merge[len++] = ' ';
        }
        if (len <= 32)
            tiny_merge(&vocab, merge, len - 1);
    }
}

static void test_merging_is_the_definition(void **state)
{
    (void)state;
    for (int round = 0; round < 300; round++) {
        random_vocab();
        struct tokenizer *t = open_vocab();
        for (int i = 0; i < 12; i++) {
            char text[400];
            uint32_t want[400];
            struct token_list got = {0};
            struct err e = {0};
            uint32_t letters = 1 + below(3);
            size_t n = 1 + below(i % 4 == 0 ? 400 : 60); /* both ways of merging */
            for (size_t k = 0; k < n; k++)
                text[k] = (char)('a' + below(letters));
            size_t n_want = tiny_encode(&vocab, text, n, want);
            assert_int_equal(tokenizer_encode(t, text, n, 0, &got, &e), 0);
            assert_int_equal(got.n, n_want);
            assert_memory_equal(got.ids, want, n_want * sizeof(*want));
            token_list_fini(&got);
        }
        tokenizer_free(t);
    }
}

static void test_rank_decides_then_position(void **state)
{
    (void)state;
    tiny_init(&vocab, NULL);
    tiny_merge_str(&vocab, "b c");
    tiny_merge_str(&vocab, "a b");
    tiny_merge_str(&vocab, "a a");
    tiny_merge_str(&vocab, "ab c"); /* makes abc, which its own bytes never reach */
    struct tokenizer *t = open_vocab();
    assert_tokens(t, "abc", 0, "a|bc");
    assert_tokens(t, "aaaaa", 0, "aa|aa|a");
    assert_tokens(t, "abab", 0, "ab|ab");
    assert_tokens(t, "", 0, "");
    tokenizer_free(t);
}

static void test_missing_bytes_are_left_out(void **state)
{
    (void)state;
    bool skip[256] = {[0x04] = true, [0xf0] = true};
    tiny_init(&vocab, skip);
    tiny_merge_str(&vocab, "a b");
    struct tokenizer *t = open_vocab();
    assert_tokens(t, "\x04", 0, "");
    assert_pieces("gpt-2", "a\x04", "a|\x04");
    assert_tokens(t, "\xf0\x9f\xa4\x96", 0, "\xc5\x81|\xc2\xa4|\xc4\xb8"); /* three of four bytes */
    tokenizer_free(t);
}

/* ---- added tokens, text in and out ---- */

static struct tokenizer *open_added(void)
{
    tiny_init(&vocab, NULL);
    add_str("<a>", TOKEN_CONTROL);
    add_str("<a>b", TOKEN_CONTROL);
    add_str("<a><a>!", TOKEN_USER_DEFINED);
    add_str("{tool}", TOKEN_USER_DEFINED);
    add_str("<unk>", TOKEN_UNKNOWN);
    add_str("<pad>", TOKEN_UNUSED);
    return open_vocab();
}

static void test_added_tokens(void **state)
{
    (void)state;
    struct tokenizer *t = open_added();
    const unsigned parse = TOKENIZE_PARSE_SPECIAL;
    assert_tokens(t, "x<a>y", parse, "x|<a>|y");
    assert_tokens(t, "x<a>y", 0, "x|<|a|>|y");
    assert_tokens(t, "<a>bb<a>", parse, "<a>b|b|<a>"); /* the longest */
    assert_tokens(t, "<a><a>!<a><a>", parse, "<a><a>!|<a>|<a>");
    assert_tokens(t, "{tool}<a", 0, "{tool}|<|a"); /* user-defined ones always */
    assert_tokens(t, "{tool{tool}", parse, "{|t|o|o|l|{tool}");
    assert_tokens(t, "<unk><pad>", parse, "<unk>|<|p|a|d|>");
    assert_tokens(t, "<", parse, "<");
    assert_true(tokenizer_is_control(t, id_of(t, "<unk>")));
    assert_false(tokenizer_is_control(t, id_of(t, "{tool}")));
    tokenizer_free(t);
}

static void test_find_and_bytes(void **state)
{
    (void)state;
    tiny_init(&vocab, NULL);
    tiny_merge_str(&vocab, "\xc4\xa0 a");
    add_str("\xc4\xa0x", TOKEN_CONTROL);      /* as written, whatever its characters */
    add_str("\xe2\x96\x81the", TOKEN_NORMAL); /* not in the byte-level alphabet */
    struct tokenizer *t = open_vocab();
    static const char *const pairs[][2] = {{"\xc4\xa0"
                                            "a",
                                            " a"},
                                           {"\xc4\xa0x", "\xc4\xa0x"},
                                           {"\xe2\x96\x81the", "\xe2\x96\x81the"}};
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct token_text b = tokenizer_bytes(t, id_of(t, pairs[i][0]));
        assert_int_equal(b.n, strlen(pairs[i][1]));
        assert_memory_equal(b.s, pairs[i][1], b.n);
    }
    assert_int_equal(tokenizer_find(t, "zz", 2), -1);
    assert_int_equal(tokenizer_find(t, "", 0), -1);
    for (uint32_t byte = 0; byte < 256; byte++)
        assert_int_equal((unsigned char)*tokenizer_bytes(t, byte).s, byte);
    tokenizer_free(t);
}

static void test_bos_and_eos(void **state)
{
    (void)state;
    uint32_t n;
    tiny_init(&vocab, NULL);
    add_str("<s>", TOKEN_CONTROL);
    add_str("<|endoftext|>", TOKEN_CONTROL);
    add_str("<|im_end|>", TOKEN_CONTROL);
    add_str("<|eot_id|>", TOKEN_NORMAL); /* only control tokens end a turn */
    struct tokenizer_spec spec = tiny_spec(&vocab);
    spec.bos_id = 256;
    spec.eos_id = 257;
    spec.add_bos = true;
    struct tokenizer *t = open_spec(&spec);
    const uint32_t *eos = tokenizer_eos_ids(t, &n);
    assert_int_equal(n, 2);
    assert_int_equal(eos[0], 257);
    assert_int_equal(eos[1], 258);
    assert_tokens(t, "a", TOKENIZE_ADD_SPECIAL, "<s>|a");
    assert_tokens(t, "", TOKENIZE_ADD_SPECIAL, "<s>");
    assert_tokens(t, "a", 0, "a");
    tokenizer_free(t);

    spec.add_bos = false;
    spec.eos_id = 258;
    t = open_spec(&spec);
    eos = tokenizer_eos_ids(t, &n);
    assert_int_equal(n, 1); /* the document separator is not the eos here: it does not count */
    assert_int_equal(eos[0], 258);
    assert_tokens(t, "a", TOKENIZE_ADD_SPECIAL, "a");
    tokenizer_free(t);

    spec.eos_id = -1;
    vocab.n_tokens = 256;
    spec.n_tokens = 256;
    spec.bos_id = -1;
    t = open_spec(&spec);
    tokenizer_eos_ids(t, &n);
    assert_int_equal(n, 0);
    tokenizer_free(t);
}

static void test_encode_appends_and_refuses(void **state)
{
    (void)state;
    struct tokenizer *t = open_added();
    struct token_list l = {0};
    struct err e = {0};
    assert_int_equal(tokenizer_encode(t, "a\0b", 3, 0, &l, &e), 0);
    assert_int_equal(l.n, 3);
    assert_int_equal(tokenizer_encode(t, "c", 1, 0, &l, &e), 0);
    assert_int_equal(l.n, 4);
    assert_int_equal(l.ids[3], 'c');
    assert_int_equal(tokenizer_encode(t, "ok\xc3", 3, 0, &l, &e), -LLMD_EINVAL);
    assert_non_null(strstr(e.msg, "UTF-8"));
    assert_int_equal(l.n, 4);
    err_clear(&e);
    assert_int_equal(tokenizer_encode(t, "", (size_t)1 << 40, 0, &l, &e), -LLMD_ETOOBIG);
    token_list_fini(&l);
    assert_null(l.ids);
    tokenizer_free(t);
    tokenizer_free(NULL);
}

/* ---- the streaming detokenizer ---- */

/* Pushes the bytes one token each and checks what came out after each of them. */
static void assert_stream(const struct tokenizer *t, const char *bytes, size_t n,
                          const char *const after[], const char *at_end)
{
    struct detok d;
    struct buf out = {0};
    detok_init(&d, t, false);
    for (size_t i = 0; i < n; i++) {
        detok_push(&d, (unsigned char)bytes[i], &out);
        assert_string_equal(buf_str(&out), after[i]);
    }
    detok_flush(&d, &out);
    assert_string_equal(buf_str(&out), at_end);
    detok_flush(&d, &out);
    assert_string_equal(buf_str(&out), at_end);
    buf_fini(&out);
}

#define FFFD  "\xef\xbf\xbd"
#define ROBOT "\xf0\x9f\xa4\x96"

static void test_detok_holds_unfinished_characters(void **state)
{
    (void)state;
    struct tokenizer *t = open_added();
    static const char *const emoji[] = {"", "", "", ROBOT, ROBOT "a"};
    assert_stream(t, ROBOT "a", 5, emoji, ROBOT "a");
    static const char *const broken[] = {"", "", FFFD "a"};
    assert_stream(t,
                  "\xf0\x9f"
                  "a",
                  3, broken, FFFD "a");
    static const char *const cut[] = {"", "", ""};
    assert_stream(t, "\xf0\x9f\xa4", 3, cut, FFFD);
    static const char *const never[] = {FFFD, FFFD FFFD, FFFD FFFD, FFFD FFFD FFFD FFFD};
    assert_stream(t, "\xff\x96\xe0\x80", 4, never, FFFD FFFD FFFD FFFD);
    static const char *const again[] = {"", "", FFFD, FFFD "\xc3\xa9"};
    assert_stream(t, "\xe2\x82\xc3\xa9", 4, again, FFFD "\xc3\xa9");
    tokenizer_free(t);
}

static void test_detok_control_and_strange_ids(void **state)
{
    (void)state;
    struct tokenizer *t = open_added();
    const uint32_t ids[] = {0xf0, id_of(t, "<a>"), 0x9f, 0xa4, 100000, 0x96, id_of(t, "{tool}")};
    static const char *const want[] = {FFFD "<a>" FFFD FFFD FFFD "{tool}", ROBOT "{tool}"};
    for (int skip = 0; skip < 2; skip++) {
        struct detok d;
        struct buf out = {0};
        detok_init(&d, t, skip);
        for (size_t i = 0; i < ARRAY_LEN(ids); i++)
            detok_push(&d, ids[i], &out);
        detok_flush(&d, &out);
        assert_string_equal(buf_str(&out), want[skip]);
        buf_fini(&out);
    }
    tokenizer_free(t);
}

/* ---- malformed vocabularies ---- */

static void assert_refused(const struct tokenizer_spec *spec, int code, const char *says)
{
    struct err e = {0};
    struct tokenizer *t = NULL;
    assert_int_equal(tokenizer_new(spec, &t, &e), -code);
    assert_null(t);
    if (!strstr(e.msg, says) || strchr(e.msg, '\n') || strncmp(e.msg, "tiny: ", 6) != 0)
        fail_msg("message '%s' does not say '%s'", e.msg, says);
}

/* Takes the vocabulary with one more token of this text and kind. */
static void assert_token_refused(const char *s, enum token_kind kind, int code, const char *says)
{
    tiny_init(&vocab, NULL);
    add_str(s, kind);
    struct tokenizer_spec spec = tiny_spec(&vocab);
    assert_refused(&spec, code, says);
}

static void assert_merge_refused(const char *merge, const char *says)
{
    tiny_init(&vocab, NULL);
    tiny_merge_str(&vocab, "a b");
    struct tokenizer_spec spec = tiny_spec(&vocab);
    struct token_text merges[] = {vocab.merges[0], {merge, strlen(merge)}};
    spec.merges = merges;
    spec.n_merges = 2;
    assert_refused(&spec, LLMD_EPARSE, says);
}

static void test_malformed_vocabularies(void **state)
{
    (void)state;
    tiny_init(&vocab, NULL);
    struct tokenizer_spec spec = tiny_spec(&vocab);
    spec.n_tokens = 0;
    assert_refused(&spec, LLMD_EPARSE, "the vocabulary is empty");
    spec.n_tokens = UINT32_MAX;
    assert_refused(&spec, LLMD_ELIMIT, "4294967295 tokens");
    spec.n_tokens = 'z'; /* the bytes end before 'z' */
    assert_refused(&spec, LLMD_EPARSE, "no token writes the byte 'z'");

    assert_token_refused("a", TOKEN_NORMAL, LLMD_EPARSE, "tokens 97 and 256 are both 'a'");
    assert_token_refused("", TOKEN_NORMAL, LLMD_EPARSE, "token 256 is empty");
    assert_token_refused("\xc3\n", TOKEN_NORMAL, LLMD_EPARSE, "token 256 '\\xc3\\n' is not valid");
    assert_token_refused("<0x0A>", TOKEN_BYTE, LLMD_EUNSUPPORTED, "SentencePiece");
    assert_token_refused("x1", (enum token_kind)17, LLMD_EPARSE, "unknown kind 17");
    char long_text[1100];
    memset(long_text, 'x', sizeof(long_text));
    long_text[1099] = '\0';
    assert_token_refused(long_text, TOKEN_CONTROL, LLMD_ELIMIT, "xxx...' takes 1099 bytes");

    assert_merge_refused("ab", "merge 1 'ab' is not of the form");
    assert_merge_refused("", "merge 1 '' is not of the form");
    assert_merge_refused(" a", "merge 1 ' a' joins what is no token");
    assert_merge_refused("a ", "merge 1 'a ' joins what is no token");
    assert_merge_refused("ab zz", "merge 1 'ab zz' joins what is no token");
    assert_merge_refused("b a", "merge 1 'b a' makes what is no token");
    assert_merge_refused("ab ab", "merge 1 'ab ab' makes what is no token");
    assert_merge_refused("a b c", "merge 1 'a b c' joins what is no token");
}

static void test_malformed_names_and_ids(void **state)
{
    (void)state;
    tiny_init(&vocab, NULL);
    struct tokenizer_spec spec = tiny_spec(&vocab);
    spec.pretokenizer = "de\x1b[31mfault";
    assert_refused(
        &spec, LLMD_EUNSUPPORTED,
        "unknown pretokenizer 'de\\x1b[31mfault'; known are 'gpt-2', 'smollm', 'llama-bpe'");
    spec.pretokenizer = NULL;
    assert_refused(&spec, LLMD_EUNSUPPORTED, "unknown pretokenizer ''");
    spec = tiny_spec(&vocab);
    spec.bos_id = 256;
    assert_refused(&spec, LLMD_EPARSE, "the bos id 256 is outside of the 256 tokens");
    spec.bos_id = -1;
    spec.eos_id = -2;
    assert_refused(&spec, LLMD_EPARSE, "the eos id -2 is outside");
    spec.eos_id = -1;
    spec.add_bos = true;
    assert_refused(&spec, LLMD_EPARSE, "no bos id is given");
}

/* ---- threads ---- */

static void *encode_often(void *arg)
{
    const struct tokenizer *t = arg;
    for (int i = 0; i < 200; i++) {
        struct token_list l = {0};
        struct err e = {0};
        char text[100];
        memset(text, "<a>b"[i % 4], sizeof(text)); /* a long piece */
        if (tokenizer_encode(t, text, sizeof(text), TOKENIZE_PARSE_SPECIAL, &l, &e) < 0 ||
            l.n != sizeof(text))
            return arg;
        token_list_fini(&l);
    }
    return NULL;
}

static void test_one_tokenizer_many_threads(void **state)
{
    (void)state;
    struct tokenizer *t = open_added();
    pthread_t threads[4];
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_often, t), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        void *failed;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpt2_pieces),
        cmocka_unit_test(test_smollm_pieces),
        cmocka_unit_test(test_merging_is_the_definition),
        cmocka_unit_test(test_rank_decides_then_position),
        cmocka_unit_test(test_missing_bytes_are_left_out),
        cmocka_unit_test(test_added_tokens),
        cmocka_unit_test(test_find_and_bytes),
        cmocka_unit_test(test_bos_and_eos),
        cmocka_unit_test(test_encode_appends_and_refuses),
        cmocka_unit_test(test_detok_holds_unfinished_characters),
        cmocka_unit_test(test_detok_control_and_strange_ids),
        cmocka_unit_test(test_malformed_vocabularies),
        cmocka_unit_test(test_malformed_names_and_ids),
        cmocka_unit_test(test_one_tokenizer_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

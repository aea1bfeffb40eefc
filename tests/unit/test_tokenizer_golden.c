/* The tokenizer against Hugging Face `tokenizers` (tests/golden/gen_tokenizer.py): megabytes of
 * drawn text by hashes, a readable set by ids. Needs the demo model's vocabulary. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/model/gguf.h"
#include "core/model/unicode_int.h"
#include "core/util/printable.h"
#include "tests/golden/tokenizer_text.h"
#include "tests/unit/tiny_vocab.h"

#define DATA  "tests/golden/data/"
#define MODEL "models/SmolLM2-135M-Instruct.Q4_1.gguf"

enum { SEED_CORPUS = 1, SEED_STRINGS = 2, SEED_DECODES = 3, SEED_LONG = 5 };
enum { N_LONG = 3, LONG_CHARS = 300000 };

/* data/tokenizer_hashes.bin, little endian; then the 32-bit hashes: parts by smollm, parts by
 * gpt-2, strings by smollm, every gpt2_every-th string by gpt-2, decodes in pairs, long pieces. */
struct hashes_header {
    char magic[8];
    uint32_t version, n_parts, n_strings, gpt2_every, n_decodes, corpus_bytes;
    uint64_t classes_hash, corpus_hash, smollm_hash, gpt2_hash;
    uint32_t smollm_n, gpt2_n;
};

static struct {
    struct tokenizer *smollm, *gpt2;
    json_t *text, *cases;
    struct file_map map;
    struct hashes_header head;
    const uint32_t *parts[2], *strings[2], *decodes, *longs;
} g;

static void need(int rc, const struct err *e)
{
    if (rc < 0)
        fail_msg("%s", e->msg);
}

/* ---- the demo model's vocabulary ---- */

static struct gguf_str *strings_of(const struct gguf *f, const char *key, uint32_t *out_n)
{
    struct err e = {0};
    struct gguf_array a;
    need(gguf_get_array(f, key, GGUF_STRING, &a, &e), &e);
    struct gguf_str *s = calloc(a.n + 1, sizeof(*s));
    assert_non_null(s);
    gguf_array_strings(&a, s);
    *out_n = (uint32_t)a.n;
    return s;
}

static struct token_text *texts_of(const struct gguf *f, const char *key, uint32_t *out_n)
{
    struct gguf_str *s = strings_of(f, key, out_n);
    struct token_text *t = calloc(*out_n + 1u, sizeof(*t));
    assert_non_null(t);
    for (uint32_t i = 0; i < *out_n; i++)
        t[i] = (struct token_text){s[i].s, s[i].n};
    free(s);
    return t;
}

static struct tokenizer *demo_tokenizer(const struct gguf *f, const char *pretokenizer)
{
    struct err e = {0};
    struct tokenizer *t = NULL;
    struct tokenizer_spec spec = {.source = MODEL, .pretokenizer = pretokenizer, .bos_id = 1};
    struct token_text *texts = texts_of(f, "tokenizer.ggml.tokens", &spec.n_tokens);
    struct token_text *merges = texts_of(f, "tokenizer.ggml.merges", &spec.n_merges);
    struct gguf_array a;
    need(gguf_get_array(f, "tokenizer.ggml.token_type", GGUF_I32, &a, &e), &e);
    assert_int_equal(a.n, spec.n_tokens);
    enum token_kind *kinds = calloc(spec.n_tokens, sizeof(*kinds));
    assert_non_null(kinds);
    for (uint32_t i = 0; i < spec.n_tokens; i++)
        kinds[i] = a.data[4 * i] == 3 ? TOKEN_CONTROL : TOKEN_NORMAL;
    spec.eos_id = 2;
    spec.texts = texts;
    spec.merges = merges;
    spec.kinds = kinds;
    need(tokenizer_new(&spec, &t, &e), &e);
    free(texts);
    free(merges);
    free(kinds);
    return t;
}

static void open_hashes(void)
{
    struct err e = {0};
    need(file_map_open(&g.map, DATA "tokenizer_hashes.bin", &e), &e);
    assert_true(g.map.size_bytes > sizeof(g.head));
    memcpy(&g.head, g.map.data, sizeof(g.head));
    assert_memory_equal(g.head.magic, "LLMDTOKN", 8);
    assert_int_equal(g.head.version, 1);
    size_t n_gpt2 = (g.head.n_strings + g.head.gpt2_every - 1) / g.head.gpt2_every;
    const uint32_t *p = (const uint32_t *)((const char *)g.map.data + sizeof(g.head));
    g.parts[0] = p;
    g.parts[1] = g.parts[0] + g.head.n_parts;
    g.strings[0] = g.parts[1] + g.head.n_parts;
    g.strings[1] = g.strings[0] + g.head.n_strings;
    g.decodes = g.strings[1] + n_gpt2;
    g.longs = g.decodes + 2 * (size_t)g.head.n_decodes;
    size_t n_words = (size_t)(g.longs - p) + N_LONG;
    assert_int_equal(g.map.size_bytes, sizeof(g.head) + n_words * sizeof(*p));
}

static int setup(void **state)
{
    (void)state;
    struct err e = {0};
    struct gguf *f;
    if (gguf_open(MODEL, &f, &e) < 0)
        fail_msg("%s (packaging/fetch-model.sh gets it; run from the root of the tree)", e.msg);
    g.smollm = demo_tokenizer(f, "smollm");
    g.gpt2 = demo_tokenizer(f, "gpt-2");
    gguf_close(f);
    need(text_json(DATA "tokenizer_text.json", &g.text, &e), &e);
    need(text_json(DATA "tokenizer_cases.json", &g.cases, &e), &e);
    open_hashes();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tokenizer_free(g.smollm);
    tokenizer_free(g.gpt2);
    json_decref(g.text);
    json_decref(g.cases);
    file_map_close(&g.map);
    return 0;
}

static struct text_source source(uint64_t seed)
{
    struct text_source t = {.tok = g.smollm, .state = seed};
    t.ranges = json_object_get(g.text, "ranges");
    t.words = json_object_get(g.text, "words");
    t.lines = json_object_get(g.text, "lines");
    return t;
}

/* ---- reports ---- */

static void add_shown(struct buf *b, const char *s, size_t n)
{
    char shown[PRINTABLE_ESCAPE_MAX];
    size_t len;
    for (size_t i = 0; i < n;) {
        i += printable_next(s + i, n - i, shown, &len);
        buf_add(b, shown, len);
    }
}

static void add_tokens(struct buf *b, const struct tokenizer *t, const uint32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct token_text text = tokenizer_bytes(t, ids[i]);
        buf_addf(b, " %u=", ids[i]);
        add_shown(b, text.s, text.n);
    }
}

/* Prints text and tokens, then fails. */
static void fail_hash(const char *kind, uint32_t n, const char *pretokenizer,
                      const struct buf *text, const struct token_list *l)
{
    struct buf b = {0};
    add_shown(&b, buf_str(text), text->len);
    buf_addstr(&b, "\ntokens:");
    add_tokens(&b, g.smollm, l->ids, l->n);
    print_error("%s %u by %s: %s\nexpected: python3 tests/golden/gen_tokenizer.py --show %s %u\n",
                kind, n, pretokenizer, buf_str(&b), kind, n);
    buf_fini(&b);
    fail();
}

static void encode(const struct tokenizer *t, const char *s, size_t n, bool special,
                   struct token_list *out)
{
    struct err e = {0};
    out->n = 0;
    need(tokenizer_encode(t, s ? s : "", n, special ? TOKENIZE_PARSE_SPECIAL : 0, out, &e), &e);
}

/* ---- tests ---- */

static void test_classes_of_all_code_points(void **state)
{
    (void)state;
    static struct char_classes classes;
    uint64_t hash = TEXT_HASH_BEGIN;
    char_classes_init(&classes);
    for (uint32_t cp = 0; cp < 0x110000; cp++)
        hash = text_hash_add(hash, char_class(&classes, cp));
    if (hash != g.head.classes_hash)
        fail_msg(
            "core/model/unicode_tables.c is not what tests/golden/gen_unicode_tables.py makes");
}

static void check_hash(const struct tokenizer *t, const struct buf *text, bool special,
                       uint32_t want, const char *kind, uint32_t n)
{
    struct token_list l = {0};
    encode(t, text->data, text->len, special, &l);
    if (text_hash_fold(text_hash_ids(l.ids, l.n)) != want)
        fail_hash(kind, n, t == g.gpt2 ? "gpt-2" : "smollm", text, &l);
    token_list_fini(&l);
}

static void check_whole(const struct tokenizer *t, const struct buf *corpus, uint32_t n,
                        uint64_t hash)
{
    struct token_list l = {0};
    encode(t, corpus->data, corpus->len, true, &l);
    assert_int_equal(l.n, n);
    assert_true(text_hash_ids(l.ids, l.n) == hash);
    token_list_fini(&l);
}

/* 1.1 MB of mixed text: every part by itself, then all of it in one call. */
static void test_corpus(void **state)
{
    (void)state;
    struct text_source s = source(SEED_CORPUS);
    struct buf corpus = {0}, part = {0};
    for (uint32_t i = 0; i < g.head.n_parts; i++) {
        buf_clear(&part);
        text_part(&s, &part);
        check_hash(g.smollm, &part, true, g.parts[0][i], "part", i);
        check_hash(g.gpt2, &part, true, g.parts[1][i], "part", i);
        buf_add(&corpus, part.data, part.len);
    }
    assert_false(corpus.failed);
    assert_int_equal(corpus.len, g.head.corpus_bytes);
    assert_true(corpus.len >= 1000000);
    assert_true(text_hash_bytes(corpus.data, corpus.len) == g.head.corpus_hash);
    check_whole(g.smollm, &corpus, g.head.smollm_n, g.head.smollm_hash);
    check_whole(g.gpt2, &corpus, g.head.gpt2_n, g.head.gpt2_hash);
    buf_fini(&part);
    buf_fini(&corpus);
}

static void test_strings(void **state)
{
    (void)state;
    struct text_source s = source(SEED_STRINGS);
    struct buf text = {0};
    assert_true(g.head.n_strings >= 20000);
    for (uint32_t i = 0; i < g.head.n_strings; i++) {
        buf_clear(&text);
        bool special = text_below(&s, 2) == 1;
        text_string(&s, &text);
        check_hash(g.smollm, &text, special, g.strings[0][i], "string", i);
        if (i % g.head.gpt2_every == 0)
            check_hash(g.gpt2, &text, special, g.strings[1][i / g.head.gpt2_every], "string", i);
    }
    buf_fini(&text);
}

/* Random ids through the streaming detokenizer; what comes out is valid after every token. */
static void test_decodes(void **state)
{
    (void)state;
    struct text_source s = source(SEED_DECODES);
    struct buf out = {0};
    for (uint32_t i = 0; i < g.head.n_decodes; i++) {
        uint32_t ids[40];
        size_t n = text_ids(&s, ids);
        for (uint32_t skip = 0; skip < 2; skip++) {
            struct detok d;
            buf_clear(&out);
            detok_init(&d, g.smollm, skip);
            for (size_t k = 0; k < n; k++) {
                size_t old = out.len;
                detok_push(&d, ids[k], &out);
                assert_true(utf8_valid(buf_str(&out) + old, out.len - old));
            }
            detok_flush(&d, &out);
            uint32_t hash = text_hash_fold(text_hash_bytes(out.data, out.len));
            if (hash != g.decodes[2 * i + skip]) {
                struct token_list l = {ids, n, n};
                fail_hash("decode", i, skip ? "skipping" : "all", &out, &l);
            }
        }
    }
    buf_fini(&out);
}

/* Pieces of 300,000 letters: every level of the tree of ranks. */
static void test_long_piece_ids(void **state)
{
    (void)state;
    static const char letters[N_LONG][2] = {{'a', 'z'}, {'a', 'c'}, {'-', '-'}};
    struct text_source s = source(SEED_LONG);
    for (uint32_t i = 0; i < N_LONG; i++) {
        struct buf text = {0};
        struct token_list l = {0};
        text_chars(&s, LONG_CHARS, (uint32_t)letters[i][0], (uint32_t)letters[i][1], &text);
        encode(g.smollm, text.data, text.len, true, &l);
        if (text_hash_fold(text_hash_ids(l.ids, l.n)) != g.longs[i])
            fail_msg("the piece of letters %c to %c is merged otherwise", letters[i][0],
                     letters[i][1]);
        token_list_fini(&l);
        buf_fini(&text);
    }
}

/* Compares with the ids of a readable case and shows the first difference. */
static void check_case(const struct tokenizer *t, const json_t *c)
{
    const json_t *text = json_object_get(c, "text"), *want = json_object_get(c, "ids");
    struct token_list l = {0};
    encode(t, json_string_value(text), json_string_length(text),
           json_is_true(json_object_get(c, "special")), &l);
    size_t n_want = json_array_size(want), same = 0;
    while (same < l.n && same < n_want &&
           l.ids[same] == json_integer_value(json_array_get(want, same)))
        same++;
    if (same < l.n || same < n_want) {
        struct buf b = {0};
        add_shown(&b, json_string_value(text), json_string_length(text));
        buf_addf(&b, "\nequal up to token %zu, then\n got:", same);
        add_tokens(&b, t, l.ids + same, l.n - same < 5 ? l.n - same : 5);
        buf_addstr(&b, "\nwant:");
        for (size_t i = same; i < n_want && i < same + 5; i++) {
            uint32_t id = (uint32_t)json_integer_value(json_array_get(want, i));
            add_tokens(&b, t, &id, 1);
        }
        print_error("%s\n", buf_str(&b));
        buf_fini(&b);
        fail();
    }
    token_list_fini(&l);
}

static void test_cases(void **state)
{
    (void)state;
    const json_t *cases = json_object_get(g.cases, "model");
    assert_true(json_array_size(cases) > 300);
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_case(g.smollm, json_array_get(cases, i));
}

static enum token_kind kind_of(const char *name)
{
    if (strcmp(name, "control") == 0)
        return TOKEN_CONTROL;
    return strcmp(name, "unknown") == 0 ? TOKEN_UNKNOWN : TOKEN_USER_DEFINED;
}

static struct tokenizer *made_up(const json_t *vocab)
{
    static struct tiny_vocab v;
    bool skip[256] = {false};
    struct err e = {0};
    const json_t *list = json_object_get(vocab, "skip_bytes");
    for (size_t i = 0; i < json_array_size(list); i++)
        skip[json_integer_value(json_array_get(list, i)) & 0xff] = true;
    tiny_init(&v, skip);
    list = json_object_get(vocab, "merges");
    for (size_t i = 0; i < json_array_size(list); i++)
        tiny_merge_str(&v, json_string_value(json_array_get(list, i)));
    list = json_object_get(vocab, "added");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *a = json_array_get(list, i);
        const char *s = json_string_value(json_array_get(a, 0));
        tiny_add(&v, s, strlen(s), kind_of(json_string_value(json_array_get(a, 1))));
    }
    struct tokenizer_spec spec = tiny_spec(&v);
    struct tokenizer *t = NULL;
    need(tokenizer_new(&spec, &t, &e), &e);
    return t;
}

static void test_made_up_vocabularies(void **state)
{
    (void)state;
    const json_t *vocabs = json_object_get(g.cases, "vocabs");
    assert_true(json_array_size(vocabs) > 20);
    for (size_t i = 0; i < json_array_size(vocabs); i++) {
        const json_t *vocab = json_array_get(vocabs, i), *cases = json_object_get(vocab, "cases");
        struct tokenizer *t = made_up(vocab);
        for (size_t k = 0; k < json_array_size(cases); k++)
            check_case(t, json_array_get(cases, k));
        tokenizer_free(t);
    }
}

/* Of this thread: other work on the machine does not count. */
static uint64_t cpu_time_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* One megabyte without a split point takes well under a second, whatever it holds. */
static void test_long_pieces_are_fast(void **state)
{
    (void)state;
    static const char *const units[] = {"a",  "-",    " ", "\n", "7", "\xf0\x9f\xa4\x96",
                                        "ab", "<|im_"};
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    const uint64_t limit_us = 20000000;
#else
    const uint64_t limit_us = 1000000;
#endif
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        struct buf text = {0};
        struct token_list l = {0};
        uint64_t best = UINT64_MAX;
        while (text.len < 1 << 20)
            buf_addstr(&text, units[i]);
        for (int run = 0; run < 3 && best > limit_us; run++) {
            uint64_t begin = cpu_time_us();
            encode(g.smollm, text.data, text.len, true, &l);
            best = u64_min(best, cpu_time_us() - begin);
        }
        if (best > limit_us)
            fail_msg("1 MiB of '%s' takes %llu us", units[i], (unsigned long long)best);
        token_list_fini(&l);
        buf_fini(&text);
    }
}

static void test_demo_facts(void **state)
{
    (void)state;
    uint32_t n;
    const uint32_t *eos = tokenizer_eos_ids(g.smollm, &n);
    assert_int_equal(n, 1); /* <|im_end|> is the eos; <|endoftext|> does not end a turn */
    assert_int_equal(eos[0], tokenizer_find(g.smollm, "<|im_end|>", 10));
    assert_int_equal(tokenizer_n_tokens(g.smollm), 49152);
    assert_true(tokenizer_is_control(g.smollm, 0));
    assert_false(tokenizer_is_control(g.smollm, 17));
    int64_t the = tokenizer_find(g.smollm, "\xc4\xa0the", 5);
    struct token_text text = tokenizer_bytes(g.smollm, (uint32_t)the);
    assert_int_equal(text.n, 4);
    assert_memory_equal(text.s, " the", 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_demo_facts),
        cmocka_unit_test(test_classes_of_all_code_points),
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_made_up_vocabularies),
        cmocka_unit_test(test_corpus),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_decodes),
        cmocka_unit_test(test_long_piece_ids),
        cmocka_unit_test(test_long_pieces_are_fast),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

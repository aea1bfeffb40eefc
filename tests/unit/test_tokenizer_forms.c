/* Vocabularies of every form against Hugging Face `tokenizers`: tests/golden/data/
 * tokenizer_forms.json, or the file named as the first argument (gen_tokenizer_forms.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/util/json.h"
#include "tests/golden/tokenizer_text.h"
#include "tests/unit/tiny_vocab.h"

static const char *file = "tests/golden/data/tokenizer_forms.json";

static struct token_text text_of(const json_t *s)
{
    return (struct token_text){json_string_value(s), json_string_length(s)};
}

static bool flag(const json_t *vocab, const char *name)
{
    return json_is_true(json_object_get(vocab, name));
}

/* What a spec borrows. */
struct arrays {
    struct token_text *texts;
    enum token_kind *kinds;
    struct merge_pair *merges;
    struct added_token *added;
    float *scores;
};

static void *array_of(size_t n, size_t size)
{
    void *p = calloc(n + 1, size);
    assert_non_null(p);
    return p;
}

static void read_texts(const json_t *list, struct arrays *a)
{
    size_t n = json_array_size(list);
    a->texts = array_of(n, sizeof(*a->texts));
    a->kinds = array_of(n, sizeof(*a->kinds));
    for (size_t i = 0; i < n; i++) {
        a->texts[i] = text_of(json_array_get(list, i));
        a->kinds[i] = a->texts[i].n == 0 ? TOKEN_UNUSED : TOKEN_NORMAL;
    }
}

static void read_merges(const json_t *list, struct arrays *a)
{
    size_t n = json_array_size(list);
    a->merges = array_of(n, sizeof(*a->merges));
    for (size_t i = 0; i < n; i++) {
        const json_t *m = json_array_get(list, i);
        a->merges[i].left = text_of(json_array_get(m, 0));
        a->merges[i].right = text_of(json_array_get(m, 1));
    }
}

static void read_added(const json_t *list, struct arrays *a)
{
    size_t n = json_array_size(list);
    a->added = array_of(n, sizeof(*a->added));
    for (size_t i = 0; i < n; i++) {
        const json_t *t = json_array_get(list, i);
        a->added[i] = (struct added_token){
            .text = text_of(json_array_get(t, 0)),
            .id = (uint32_t)json_integer_value(json_array_get(t, 1)),
            .special = json_is_true(json_array_get(t, 2)),
            .lstrip = json_is_true(json_array_get(t, 3)),
            .rstrip = json_is_true(json_array_get(t, 4)),
            .single_word = json_is_true(json_array_get(t, 5)),
            .normalized = json_is_true(json_array_get(t, 6)),
        };
    }
}

static void read_scores(const json_t *list, struct arrays *a)
{
    size_t n = json_array_size(list);
    a->scores = n > 0 ? array_of(n, sizeof(*a->scores)) : NULL;
    for (size_t i = 0; i < n; i++)
        a->scores[i] = (float)json_number_value(json_array_get(list, i));
}

static enum space_prefix prefix_of(const char *name)
{
    static const char *const names[] = {"none", "every", "absent", "first"};
    for (size_t i = 0; name && i < ARRAY_LEN(names); i++)
        if (strcmp(names[i], name) == 0)
            return (enum space_prefix)i;
    return SPACE_PREFIX_NONE;
}

static struct tokenizer_spec spec_of(const json_t *v, struct arrays *a)
{
    const json_t *unk = json_object_get(v, "unk"), *texts = json_object_get(v, "texts");
    bool spm = strcmp(json_string_value(json_object_get(v, "form")), "spm") == 0;
    read_texts(texts, a);
    read_merges(json_object_get(v, "merges"), a);
    read_added(json_object_get(v, "added"), a);
    read_scores(json_object_get(v, "scores"), a);
    return (struct tokenizer_spec){
        .source = "made-up",
        .pretokenizer = json_string_value(json_object_get(v, "pre")),
        .texts = a->texts,
        .kinds = a->kinds,
        .n_tokens = (uint32_t)json_array_size(texts),
        .merge_pairs = a->merges,
        .n_merges = (uint32_t)json_array_size(json_object_get(v, "merges")),
        .scores = a->scores,
        .bos_id = -1,
        .eos_id = -1,
        .form = spm ? TOKENIZER_SPM : TOKENIZER_BYTE_LEVEL,
        .ignore_merges = flag(v, "ignore_merges"),
        .has_unk = json_is_integer(unk),
        .unk_id = (uint32_t)json_integer_value(unk),
        .fuse_unk = flag(v, "fuse_unk"),
        .nfc = flag(v, "nfc"),
        .add_prefix_space = flag(v, "add_prefix_space"),
        .space_prefix = prefix_of(json_string_value(json_object_get(v, "space_prefix"))),
        .split_spaces = flag(v, "split_spaces"),
        .byte_fallback = flag(v, "byte_fallback"),
        .strip_first_space = flag(v, "strip"),
        .has_added = true,
        .added = a->added,
        .n_added = (uint32_t)json_array_size(json_object_get(v, "added")),
    };
}

static struct tokenizer *open_vocab(const json_t *v)
{
    struct arrays a = {0};
    struct tokenizer_spec spec = spec_of(v, &a);
    struct tokenizer *t = NULL;
    struct err e = {0};
    if (tokenizer_new(&spec, &t, &e) < 0)
        fail_msg("%s", e.msg);
    free(a.texts);
    free(a.kinds);
    free(a.merges);
    free(a.added);
    free(a.scores);
    return t;
}

static void fail_case(size_t vocab, const char *kind, const json_t *c, const char *got)
{
    char *shown = json_dumps(c, JSON_ENSURE_ASCII);
    fprintf(stderr, "vocabulary %zu, %s %s\ngot: %s\n", vocab, kind, shown, got);
    free(shown);
    fail();
}

static void check_case(const struct tokenizer *t, size_t vocab, const json_t *c)
{
    struct token_text text = text_of(json_array_get(c, 0));
    const json_t *want = json_array_get(c, 2);
    struct token_list l = {0};
    struct err e = {0};
    unsigned flags = json_is_true(json_array_get(c, 1)) ? TOKENIZE_PARSE_SPECIAL : 0;
    if (tokenizer_encode(t, text.s, text.n, flags, &l, &e) < 0)
        fail_msg("%s", e.msg);
    bool same = l.n == json_array_size(want);
    for (size_t i = 0; i < l.n && same; i++)
        same = l.ids[i] == json_integer_value(json_array_get(want, i));
    if (!same) {
        struct buf got = {0};
        for (size_t i = 0; i < l.n; i++)
            buf_addf(&got, " %u", l.ids[i]);
        fail_case(vocab, "text", c, buf_str(&got));
        buf_fini(&got);
    }
    token_list_fini(&l);
}

static void check_decode(const struct tokenizer *t, size_t vocab, const json_t *c)
{
    const json_t *ids = json_array_get(c, 0);
    for (size_t skip = 0; skip < 2; skip++) {
        struct token_text want = text_of(json_array_get(c, 1 + skip));
        struct buf got = {0};
        struct detok d;
        detok_init(&d, t, skip);
        for (size_t i = 0; i < json_array_size(ids); i++) {
            size_t old = got.len;
            detok_push(&d, (uint32_t)json_integer_value(json_array_get(ids, i)), &got);
            assert_true(utf8_valid(buf_str(&got) + old, got.len - old));
        }
        detok_flush(&d, &got);
        if (got.len != want.n || memcmp(buf_str(&got), want.s, want.n) != 0)
            fail_case(vocab, "decode", c, buf_str(&got));
        buf_fini(&got);
    }
}

static void test_forms(void **state)
{
    (void)state;
    json_t *vocabs = NULL;
    struct err e = {0};
    if (text_json(file, &vocabs, &e) < 0)
        fail_msg("%s", e.msg);
    assert_true(json_array_size(vocabs) > 0);
    for (size_t i = 0; i < json_array_size(vocabs); i++) {
        const json_t *v = json_array_get(vocabs, i), *cases = json_object_get(v, "cases");
        const json_t *decodes = json_object_get(v, "decodes");
        struct tokenizer *t = open_vocab(v);
        for (size_t k = 0; k < json_array_size(cases); k++)
            check_case(t, i, json_array_get(cases, k));
        for (size_t k = 0; k < json_array_size(decodes); k++)
            check_decode(t, i, json_array_get(decodes, k));
        tokenizer_free(t);
    }
    json_decref(vocabs);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms)};
    if (argc > 1)
        file = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}

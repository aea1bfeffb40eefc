/* The tokenizers of other models, from their tokenizer.json (tests/vocabs), against Hugging Face
 * `tokenizers` (tests/golden/gen_tokenizer_vocabs.py): drawn text by hashes of groups of texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/model/tokenizer_json.h"
#include "core/util/printable.h"
#include "tests/golden/tokenizer_text.h"

#define DATA   "tests/golden/data/"
#define VOCABS "tests/vocabs/"

enum { SEED_CORPUS = 1, SEED_STRINGS = 2, SEED_DECODES = 3, GROUP = 16, PARSE = 1, ADD = 2 };
/* A sanitizer makes encoding slow: of the groups every n-th. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { GROUP_STEP = 24 };
#else
enum { GROUP_STEP = 1 };
#endif

/* data/vocab_hashes.bin, little endian: after its header, for each vocabulary this record and a
 * hash of each group of parts, strings and decodes. */
struct record {
    char name[24];
    uint32_t n_parts, n_strings, n_random, n_decodes, n_whole, n_tokens;
    uint64_t json_bytes, corpus_hash, whole_hash;
};

struct form {
    const char *name; /* as the folder in tests/vocabs */
    struct record head;
    const char *parts, *strings, *decodes; /* hashes, not aligned */
    struct tokenizer *tok;
};

static struct form forms[] = {
    {.name = "qwen"},
    {.name = "qwen-plain"},
    {.name = "qwen-distill"},
    {.name = "qwen-odd"},
    {.name = "llama3"},
    {.name = "mistral1"},
    {.name = "mistral1-metaspace"},
    {.name = "mistral1-odd"},
    {.name = "mistral3"},
    {.name = "mistral3-metaspace"},
    {.name = "tekken"},
    {.name = "tekken-merged"},
};

static struct {
    json_t *text, *more;
    struct file_map hashes;
} g;

static void need(int rc, const struct err *e)
{
    if (rc < 0)
        fail_msg("%s", e->msg);
}

/* ---- the goldens ---- */

static size_t n_groups(uint32_t n)
{
    return (n + GROUP - 1) / GROUP;
}

static void read_records(void)
{
    const char *p = g.hashes.data, *end = p + g.hashes.size_bytes;
    uint32_t version_and_n[2];
    assert_true(g.hashes.size_bytes > 16 && memcmp(p, "LLMDVOCB", 8) == 0);
    memcpy(version_and_n, p + 8, sizeof(version_and_n));
    assert_int_equal(version_and_n[0], 1);
    assert_int_equal(version_and_n[1], ARRAY_LEN(forms));
    p += 16;
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        struct form *f = &forms[i];
        assert_true(end - p > (ptrdiff_t)sizeof(f->head));
        memcpy(&f->head, p, sizeof(f->head));
        assert_int_equal(strncmp(f->head.name, f->name, sizeof(f->head.name)), 0);
        f->parts = p + sizeof(f->head);
        f->strings = f->parts + 4 * n_groups(f->head.n_parts);
        f->decodes = f->strings + 4 * n_groups(f->head.n_strings);
        p = f->decodes + 4 * n_groups(f->head.n_decodes);
        assert_true(p <= end);
    }
    assert_true(p == end);
}

static uint32_t hash_at(const char *hashes, size_t group)
{
    uint32_t h;
    memcpy(&h, hashes + 4 * group, sizeof(h));
    return h;
}

static int setup(void **state)
{
    (void)state;
    static const char *const keys[] = {"ranges", "words", "lines"};
    struct err e = {0};
    need(text_json(DATA "tokenizer_text.json", &g.text, &e), &e);
    need(text_json(DATA "vocab_text.json", &g.more, &e), &e);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        assert_int_equal(
            json_array_extend(json_object_get(g.text, keys[i]), json_object_get(g.more, keys[i])),
            0);
    need(file_map_open(&g.hashes, DATA "vocab_hashes.bin", &e), &e);
    read_records();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    json_decref(g.text);
    json_decref(g.more);
    file_map_close(&g.hashes);
    return 0;
}

static void load(struct form *f)
{
    char path[96];
    struct err e = {0};
    struct file_map map = {0};
    snprintf(path, sizeof(path), VOCABS "%s/tokenizer.json", f->name);
    if (file_map_open(&map, path, &e) < 0)
        fail_msg("%s (packaging/fetch-vocabs.sh makes it; run from the root of the tree)", e.msg);
    if (map.size_bytes != f->head.json_bytes)
        fail_msg("%s is not the file that the goldens were made with: packaging/fetch-vocabs.sh, "
                 "or make golden",
                 path);
    need(tokenizer_json_parse(map.data, map.size_bytes, path, NULL, &f->tok, &e), &e);
    file_map_close(&map);
    assert_int_equal(tokenizer_n_tokens(f->tok), f->head.n_tokens);
}

static struct text_source source(const struct form *f, uint64_t seed)
{
    struct text_source t = {.tok = f->tok, .state = seed};
    t.ranges = json_object_get(g.text, "ranges");
    t.words = json_object_get(g.text, "words");
    t.lines = json_object_get(g.text, "lines");
    t.tokens = json_object_get(json_object_get(g.more, "tokens"), f->name);
    assert_true(json_array_size(t.tokens) > 100);
    return t;
}

/* ---- groups ---- */

/* A group of texts as it goes by: its hash, and what to show should it be wrong. */
struct group {
    const struct form *form;
    const char *kind, *hashes;
    bool decoding;
    uint32_t n; /* texts so far */
    uint64_t hash;
    struct buf texts, ids; /* of the group: bytes, and uint32_t */
    size_t n_members, text_ends[GROUP], ids_ends[GROUP];
};

static struct group group_begin(const struct form *f, const char *kind, const char *hashes)
{
    return (struct group){.form = f, .kind = kind, .hashes = hashes, .hash = TEXT_HASH_BEGIN};
}

static void group_fini(struct group *c)
{
    buf_fini(&c->texts);
    buf_fini(&c->ids);
}

static bool group_wanted(const struct group *c)
{
    return c->n / GROUP % GROUP_STEP == 0;
}

static void add_shown(struct buf *b, const char *s, size_t n)
{
    char shown[PRINTABLE_ESCAPE_MAX];
    size_t len;
    for (size_t i = 0; i < n;) {
        i += printable_next(s + i, n - i, shown, &len);
        buf_add(b, shown, len);
    }
    buf_addch(b, '\n');
}

/* Text and ids of each member, in the order in which the generator prints them. */
static void group_show(const struct group *c, uint32_t at)
{
    struct buf b = {0};
    for (size_t i = 0; i < c->n_members; i++) {
        size_t text = i ? c->text_ends[i - 1] : 0, id = i ? c->ids_ends[i - 1] : 0;
        if (!c->decoding)
            add_shown(&b, buf_str(&c->texts) + text, c->text_ends[i] - text);
        for (; id < c->ids_ends[i]; id += sizeof(uint32_t)) {
            uint32_t v;
            memcpy(&v, c->ids.data + id, sizeof(v));
            buf_addf(&b, " %u", v);
        }
        buf_addch(&b, '\n');
        if (c->decoding)
            add_shown(&b, buf_str(&c->texts) + text, c->text_ends[i] - text);
    }
    print_error("%s: group %u of %ss; expected: python3 tests/golden/gen_tokenizer_vocabs.py "
                "--show %s %s %u\n%s",
                c->form->name, at, c->kind, c->form->name, c->kind, at, buf_str(&b));
    buf_fini(&b);
}

/* Ends one text of the group; the last one ends the group. */
static void group_next(struct group *c, bool last)
{
    bool wanted = group_wanted(c);
    uint32_t at = c->n++ / GROUP;
    if (c->n % GROUP != 0 && !last)
        return;
    if (wanted && text_hash_fold(c->hash) != hash_at(c->hashes, at)) {
        group_show(c, at);
        fail();
    }
    c->hash = TEXT_HASH_BEGIN;
    c->n_members = 0;
    buf_clear(&c->texts);
    buf_clear(&c->ids);
}

/* Keeps a text and its ids, and hashes whichever is the result. */
static void group_add(struct group *c, const struct buf *text, const struct token_list *l)
{
    uint64_t h = text_hash_add(c->hash, (uint32_t)(c->decoding ? text->len : l->n));
    for (size_t i = 0; !c->decoding && i < l->n; i++)
        h = text_hash_add(h, l->ids[i]);
    for (size_t i = 0; c->decoding && i < text->len; i++)
        h = text_hash_add(h, (unsigned char)text->data[i]);
    c->hash = h;
    buf_add(&c->texts, buf_str(text), text->len);
    if (l->n > 0)
        buf_add(&c->ids, l->ids, l->n * sizeof(*l->ids));
    c->text_ends[c->n_members] = c->texts.len;
    c->ids_ends[c->n_members++] = c->ids.len;
}

static void encode(const struct form *f, const struct buf *text, size_t flags, struct token_list *l)
{
    struct err e = {0};
    unsigned f_tok =
        (flags & PARSE ? TOKENIZE_PARSE_SPECIAL : 0u) | (flags & ADD ? TOKENIZE_ADD_SPECIAL : 0u);
    l->n = 0;
    need(tokenizer_encode(f->tok, buf_str(text), text->len, f_tok, l, &e), &e);
}

/* ---- tests ---- */

static void check_corpus(const struct form *f)
{
    struct text_source s = source(f, SEED_CORPUS);
    struct group c = group_begin(f, "part", f->parts);
    struct token_list l = {0};
    struct buf corpus = {0}, part = {0};
    for (uint32_t i = 0; i < f->head.n_parts; i++) {
        buf_clear(&part);
        text_part(&s, &part);
        buf_add(&corpus, part.data, part.len);
        if (group_wanted(&c)) {
            encode(f, &part, PARSE, &l);
            group_add(&c, &part, &l);
        }
        group_next(&c, i + 1 == f->head.n_parts);
    }
    assert_false(corpus.failed);
    assert_true(text_hash_bytes(corpus.data, corpus.len) == f->head.corpus_hash);
    if (GROUP_STEP == 1) { /* all of it in one call */
        encode(f, &corpus, PARSE | ADD, &l);
        assert_int_equal(l.n, f->head.n_whole);
        assert_true(text_hash_ids(l.ids, l.n) == f->head.whole_hash);
    }
    token_list_fini(&l);
    buf_fini(&corpus);
    buf_fini(&part);
    group_fini(&c);
}

/* Token by token; what comes out is valid after each. */
static void decode(const struct form *f, const struct token_list *l, bool skip, struct buf *out)
{
    struct detok d;
    buf_clear(out);
    detok_init(&d, f->tok, skip);
    for (size_t i = 0; i < l->n; i++) {
        size_t old = out->len;
        detok_push(&d, l->ids[i], out);
        assert_true(utf8_valid(buf_str(out) + old, out->len - old));
    }
    detok_flush(&d, out);
}

static void check_decode(struct group *c, const struct token_list *l, bool skip, struct buf *out)
{
    if (group_wanted(c)) {
        decode(c->form, l, skip, out);
        group_add(c, out, l);
    }
    group_next(c, c->n + 1 == c->form->head.n_decodes);
}

/* Random ids, with and without control tokens. */
static void check_decodes(struct group *c)
{
    struct text_source s = source(c->form, SEED_DECODES);
    struct buf out = {0};
    for (uint32_t i = 0; i < c->form->head.n_random; i++) {
        uint32_t ids[40];
        struct token_list l = {ids, text_ids(&s, ids), 40};
        check_decode(c, &l, false, &out);
        check_decode(c, &l, true, &out);
    }
    buf_fini(&out);
}

/* Random strings to ids; the ids of every other one to text again. */
static void check_strings(const struct form *f)
{
    struct text_source s = source(f, SEED_STRINGS);
    struct group c = group_begin(f, "string", f->strings);
    struct group d = group_begin(f, "decode", f->decodes);
    struct token_list l = {0};
    struct buf text = {0}, out = {0};
    d.decoding = true;
    check_decodes(&d);
    for (uint32_t i = 0; i < f->head.n_strings; i++) {
        size_t flags = text_below(&s, 4);
        buf_clear(&text);
        text_string(&s, &text);
        if (group_wanted(&c) || (i % 2 == 0 && group_wanted(&d)))
            encode(f, &text, flags, &l);
        if (group_wanted(&c))
            group_add(&c, &text, &l);
        group_next(&c, i + 1 == f->head.n_strings);
        if (i % 2 == 0)
            check_decode(&d, &l, i % 4 == 0, &out);
    }
    assert_int_equal(d.n, f->head.n_decodes);
    token_list_fini(&l);
    buf_fini(&text);
    buf_fini(&out);
    group_fini(&c);
    group_fini(&d);
}

static void test_vocabulary(void **state)
{
    struct form *f = *state;
    load(f);
    check_corpus(f);
    check_strings(f);
    tokenizer_free(f->tok);
}

int main(void)
{
    struct CMUnitTest tests[ARRAY_LEN(forms)];
    for (size_t i = 0; i < ARRAY_LEN(forms); i++)
        tests[i] = (struct CMUnitTest){forms[i].name, test_vocabulary, NULL, NULL, &forms[i]};
    return cmocka_run_group_tests(tests, setup, teardown);
}

/* What a vocabulary can say besides tokens and merges: ids around a text, ends of generation, added
 * tokens, byte fallback, scores; and what of it is refused. And the GGUF keys that say it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/model/model_int.h"
#include "tests/unit/gguf_writer.h"
#include "tests/unit/tiny_vocab.h"

#define SPACE "\xe2\x96\x81"
#define FFFD  "\xef\xbf\xbd"

/* A SentencePiece-style vocabulary: <unk> <s> </s>, the bytes, then these with their scores. */
enum { FIRST_BYTE = 3, FIRST_OWN = FIRST_BYTE + 256, N_OWN = 9, N_SPM = FIRST_OWN + N_OWN };
static const char *const own_texts[N_OWN] = {SPACE, "a",   "b",       "c",       "ab",
                                             "bc",  "abc", SPACE "a", "\xc3\xa9"};
static const float own_scores[N_OWN] = {-20, -20, -20, -20, -3, -2, -1, -4, -20};

static struct {
    struct token_text texts[N_SPM];
    enum token_kind kinds[N_SPM];
    float scores[N_SPM];
    char bytes[256][8];
} spm;

static void spm_init(void)
{
    static const char *const control[] = {"<unk>", "<s>", "</s>"};
    for (uint32_t i = 0; i < N_SPM; i++) {
        const char *text;
        spm.kinds[i] = TOKEN_NORMAL;
        spm.scores[i] = 0;
        if (i < FIRST_BYTE) {
            text = control[i];
            spm.kinds[i] = i == 0 ? TOKEN_UNKNOWN : TOKEN_CONTROL;
        } else if (i < FIRST_OWN) {
            snprintf(spm.bytes[i - FIRST_BYTE], 8, "<0x%02X>", i - FIRST_BYTE);
            text = spm.bytes[i - FIRST_BYTE];
            spm.kinds[i] = TOKEN_BYTE;
        } else {
            text = own_texts[i - FIRST_OWN];
            spm.scores[i] = own_scores[i - FIRST_OWN];
        }
        spm.texts[i] = (struct token_text){text, strlen(text)};
    }
}

static struct tokenizer_spec spm_spec(void)
{
    spm_init();
    return (struct tokenizer_spec){.source = "spec",
                                   .texts = spm.texts,
                                   .kinds = spm.kinds,
                                   .n_tokens = N_SPM,
                                   .bos_id = 1,
                                   .eos_id = 2,
                                   .form = TOKENIZER_SPM,
                                   .scores = spm.scores,
                                   .has_unk = true,
                                   .fuse_unk = true,
                                   .byte_fallback = true,
                                   .space_prefix = SPACE_PREFIX_EVERY,
                                   .strip_first_space = true};
}

static struct tokenizer *open_spec(const struct tokenizer_spec *spec)
{
    struct err e = {0};
    struct tokenizer *t = NULL;
    if (tokenizer_new(spec, &t, &e) < 0)
        fail_msg("%s", e.msg);
    return t;
}

/* The written forms of the tokens of a text, joined by '|'. */
static void assert_tokens(const struct tokenizer *t, const struct token_text *texts,
                          const char *text, unsigned flags, const char *want)
{
    struct err e = {0};
    struct token_list l = {0};
    struct buf got = {0};
    assert_int_equal(tokenizer_encode(t, text, strlen(text), flags, &l, &e), 0);
    for (size_t i = 0; i < l.n; i++) {
        if (i > 0)
            buf_addch(&got, '|');
        buf_add(&got, texts[l.ids[i]].s, texts[l.ids[i]].n);
    }
    assert_string_equal(buf_str(&got), want);
    token_list_fini(&l);
    buf_fini(&got);
}

/* ---- scores, fallback ---- */

static void test_scores_decide(void **state)
{
    (void)state;
    struct tokenizer_spec spec = spm_spec();
    struct tokenizer *t = open_spec(&spec);
    assert_tokens(t, spm.texts, "abc", 0, SPACE "|abc"); /* bc, then abc; ab comes too late */
    assert_tokens(t, spm.texts, "ab", 0, SPACE "|ab");
    assert_tokens(t, spm.texts, "a", 0, SPACE "a");
    assert_tokens(t, spm.texts, " a", 0, SPACE "|" SPACE "a");
    assert_tokens(t, spm.texts, "", 0, "");
    assert_tokens(t, spm.texts, "a<s>a", TOKENIZE_PARSE_SPECIAL, SPACE "a|<s>|" SPACE "a");
    assert_tokens(t, spm.texts, "\xc3\xa9\n\xc3\xa8", 0, SPACE "|\xc3\xa9|<0x0A>|<0xC3>|<0xA8>");
    tokenizer_free(t);

    /* Of equal scores the leftmost pair counts. */
    spm.scores[FIRST_OWN + 4] = spm.scores[FIRST_OWN + 5] = -2;
    t = open_spec(&spec);
    assert_tokens(t, spm.texts, "abc", 0, SPACE "|abc");
    assert_tokens(t, spm.texts, "bcbcab", 0, SPACE "|bc|bc|ab");
    tokenizer_free(t);
}

static void test_unknown_characters(void **state)
{
    (void)state;
    struct tokenizer_spec spec = spm_spec();
    spec.byte_fallback = false;
    for (uint32_t i = FIRST_BYTE; i < FIRST_OWN; i++)
        spm.kinds[i] = TOKEN_UNUSED;
    struct tokenizer *t = open_spec(&spec);
    assert_tokens(t, spm.texts, "axxxa", 0, SPACE "a|<unk>|a");
    tokenizer_free(t);
    spec.fuse_unk = false;
    t = open_spec(&spec);
    assert_tokens(t, spm.texts, "axxa", 0, SPACE "a|<unk>|<unk>|a");
    tokenizer_free(t);
    spec.has_unk = false;
    t = open_spec(&spec);
    assert_tokens(t, spm.texts, "axxb xa", 0, SPACE "|ab|" SPACE "a"); /* what is left joins */
    tokenizer_free(t);
}

/* ---- decoding ---- */

static void assert_decoded(const struct tokenizer *t, const uint32_t *ids, size_t n, bool after,
                           const char *want)
{
    struct detok d;
    struct buf out = {0};
    detok_init(&d, t, true);
    if (after)
        detok_after_text(&d);
    for (size_t i = 0; i < n; i++)
        detok_push(&d, ids[i], &out);
    detok_flush(&d, &out);
    assert_string_equal(buf_str(&out), want);
    buf_fini(&out);
}

#define BYTE(b) (FIRST_BYTE + (b))

static void test_decode(void **state)
{
    (void)state;
    struct tokenizer_spec spec = spm_spec();
    struct tokenizer *t = open_spec(&spec);
    const uint32_t a = FIRST_OWN + 1, space = FIRST_OWN, space_a = FIRST_OWN + 7;
    assert_decoded(t, (uint32_t[]){1, space_a, space_a, 2}, 4, false, "a a");
    assert_decoded(t, (uint32_t[]){1, space_a, space_a, 2}, 4, true, " a a");
    assert_decoded(t, (uint32_t[]){space, space_a}, 2, false, " a"); /* one space only */
    assert_decoded(t, (uint32_t[]){a, space_a}, 2, false, "a a");
    assert_decoded(t, (uint32_t[]){BYTE(' '), a}, 2, false, "a");
    assert_decoded(t, (uint32_t[]){BYTE(0xc3), BYTE(0xa8), a}, 3, false,
                   "\xc3\xa8"
                   "a");
    /* One wrong byte makes the whole run wrong, byte for byte. */
    assert_decoded(t, (uint32_t[]){BYTE('x'), BYTE(0xc3), BYTE(0xa8), BYTE(0xff), a}, 5, false,
                   FFFD FFFD FFFD FFFD "a");
    assert_decoded(t, (uint32_t[]){BYTE(0xc3), a, BYTE(0xa8)}, 3, false, FFFD "a" FFFD);
    assert_decoded(t, (uint32_t[]){BYTE(0xc3), N_SPM, 1, BYTE(0xa8)}, 4, false, "\xc3\xa8");
    tokenizer_free(t);
}

/* A run that is too long to be held comes out in parts; nothing is lost. */
static void test_long_runs_of_bytes(void **state)
{
    (void)state;
    struct tokenizer_spec spec = spm_spec();
    struct tokenizer *t = open_spec(&spec);
    for (size_t n = DETOK_RUN_BYTES - 4; n < 3 * DETOK_RUN_BYTES; n += 7) {
        struct detok d;
        struct buf out = {0}, want = {0};
        detok_init(&d, t, false);
        for (size_t i = 0; i < n; i++) {
            detok_push(&d, BYTE(i % 3 == 0 ? 0xe4u : i % 3 == 1 ? 0xb8u : 0xadu), &out);
            if (i % 3 == 2)
                buf_addstr(&want, "\xe4\xb8\xad");
        }
        detok_push(&d, FIRST_OWN + 1, &out);
        assert_int_equal(n < DETOK_RUN_BYTES && n % 3 > 0, buf_str(&out)[0] == FFFD[0]);
        if (n % 3 == 0) {
            buf_addch(&want, 'a');
            assert_string_equal(buf_str(&out), buf_str(&want));
        }
        buf_fini(&out);
        buf_fini(&want);
    }
    tokenizer_free(t);
}

/* ---- ids around a text, ends ---- */

static void test_ids_around(void **state)
{
    (void)state;
    struct tokenizer_spec spec = spm_spec();
    const uint32_t front[] = {1, 1}, behind[] = {2}, ends[] = {2, 0, FIRST_OWN, 0};
    uint32_t n;
    spec.prefix_ids = front;
    spec.n_prefix_ids = 2;
    spec.suffix_ids = behind;
    spec.n_suffix_ids = 1;
    spec.eos_ids = ends;
    spec.n_eos_ids = ARRAY_LEN(ends);
    struct tokenizer *t = open_spec(&spec);
    assert_tokens(t, spm.texts, "a", TOKENIZE_ADD_SPECIAL, "<s>|<s>|" SPACE "a|</s>");
    assert_tokens(t, spm.texts, "", TOKENIZE_ADD_SPECIAL, "<s>|<s>|</s>");
    assert_tokens(t, spm.texts, "a", 0, SPACE "a");
    const uint32_t *eos = tokenizer_eos_ids(t, &n);
    assert_int_equal(n, 3); /* each once, the eos first */
    assert_memory_equal(eos, ((const uint32_t[]){2, 0, FIRST_OWN}), 3 * sizeof(*eos));
    tokenizer_free(t);
}

static void test_turn_ends_are_guessed_unless_known(void **state)
{
    (void)state;
    static struct tiny_vocab v;
    uint32_t n;
    tiny_init(&v, NULL);
    tiny_add(&v, "<|im_end|>", 10, TOKEN_CONTROL);
    struct tokenizer_spec spec = tiny_spec(&v);
    for (int complete = 0; complete < 2; complete++) {
        spec.eos_complete = complete;
        struct tokenizer *t = open_spec(&spec);
        tokenizer_eos_ids(t, &n);
        assert_int_equal(n, complete ? 0 : 1);
        tokenizer_free(t);
    }
}

/* ---- added tokens ---- */

static void test_added_tokens_decide_kinds(void **state)
{
    (void)state;
    static struct tiny_vocab v;
    tiny_init(&v, NULL);
    tiny_merge_str(&v, "a b"); /* 256 */
    tiny_add(&v, "", 0, TOKEN_UNUSED);
    tiny_add(&v, "", 0, TOKEN_UNUSED);
    tiny_add(&v, "", 0, TOKEN_UNUSED); /* a hole */
    const struct added_token added[] = {
        {.text = {"ab", 2}, .id = 256, .special = true},
        {.text = {"<x>", 3}, .id = 257, .lstrip = true, .rstrip = true},
        {.text = {"one", 3}, .id = 258, .single_word = true},
    };
    struct token_text shown[TINY_MAX_TOKENS];
    memcpy(shown, v.texts, v.n_tokens * sizeof(*shown));
    for (size_t i = 0; i < ARRAY_LEN(added); i++)
        shown[added[i].id] = added[i].text;
    struct tokenizer_spec spec = tiny_spec(&v);
    spec.has_added = true;
    spec.added = added;
    spec.n_added = ARRAY_LEN(added);
    struct tokenizer *t = open_spec(&spec);
    assert_true(tokenizer_is_control(t, 256) && !tokenizer_is_control(t, 257));
    assert_tokens(t, shown, "a \n<x>\t b", 0, "a|<x>|b");
    assert_tokens(t, shown, "one ones \xc3\xa9one one", 0,
                  "one|\xc4\xa0|o|n|e|s|\xc4\xa0|\xc3\x83|\xc2\xa9|o|n|e|\xc4\xa0|one");
    assert_tokens(t, shown, "ab", 0, "ab"); /* by its merge */
    assert_int_equal(tokenizer_find(t, "<x>", 3), 257);
    assert_int_equal(tokenizer_find(t, "", 0), -1);
    assert_int_equal(tokenizer_bytes(t, 259).n, 0);
    tokenizer_free(t);
}

/* ---- faults ---- */

static void assert_refused(const struct tokenizer_spec *spec, int code, const char *says)
{
    struct err e = {0};
    struct tokenizer *t = NULL;
    assert_int_equal(tokenizer_new(spec, &t, &e), -code);
    assert_null(t);
    if (!strstr(e.msg, says) || strchr(e.msg, '\n') || strncmp(e.msg, "spec: ", 6) != 0)
        fail_msg("message '%s' does not say '%s'", e.msg, says);
}

static void test_unfit_added_tokens(void **state)
{
    (void)state;
    static const struct {
        struct added_token a;
        const char *says;
    } rows[] = {
        {{.text = {"x", 1}, .id = N_SPM}, "added token 'x' has the id 268 of 268 tokens"},
        {{.text = {"", 0}, .id = 1}, "added token 1 is empty"},
        {{.text = {"x", 1}, .id = 1}, "added token 1 is 'x', but the vocabulary has '<s>'"},
        {{.text = {"\xff", 1}, .id = 1, .normalized = true}, "'\\xff' is not valid UTF-8"},
        {{.text = {"a", 1}, .id = FIRST_OWN + 8}, "is 'a', but the vocabulary has"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct tokenizer_spec spec = spm_spec();
        spec.has_added = true;
        spec.added = &rows[i].a;
        spec.n_added = 1;
        assert_refused(&spec, LLMD_EPARSE, rows[i].says);
    }
    struct tokenizer_spec spec = spm_spec(); /* the text of one token under another's id */
    const struct added_token twice = {.text = {"a", 1}, .id = FIRST_OWN + 8};
    spm.texts[FIRST_OWN + 8] = (struct token_text){"", 0};
    spm.kinds[FIRST_OWN + 8] = TOKEN_UNUSED;
    spec.has_added = true;
    spec.added = &twice;
    spec.n_added = 1;
    assert_refused(&spec, LLMD_EPARSE, "tokens 260 and 267 are both 'a'");
}

static void test_unfit_specs(void **state)
{
    (void)state;
    static const uint32_t beyond[] = {N_SPM};
    static char long_text[600];
    struct tokenizer_spec spec = spm_spec();
    spec.unk_id = N_SPM;
    assert_refused(&spec, LLMD_EPARSE, "the unknown token's id 268 is outside of the 268 tokens");
    spec = spm_spec();
    spec.eos_ids = beyond;
    spec.n_eos_ids = 1;
    assert_refused(&spec, LLMD_EPARSE, "the eos id 268 is outside");
    spec = spm_spec();
    spec.prefix_ids = beyond;
    spec.n_prefix_ids = 1;
    assert_refused(&spec, LLMD_EPARSE, "the leading id 268 is outside");
    spec = spm_spec();
    spec.suffix_ids = beyond;
    spec.n_suffix_ids = 1;
    assert_refused(&spec, LLMD_EPARSE, "the trailing id 268 is outside");
    spec = spm_spec();
    spm.scores[FIRST_OWN + 4] = NAN;
    assert_refused(&spec, LLMD_EPARSE, "the score of token 263 'ab' is not a number");
    spec = spm_spec();
    spm.kinds[FIRST_OWN] = TOKEN_BYTE;
    assert_refused(&spec, LLMD_EPARSE, "is not of the form '<0xNN>'");
    spec = spm_spec();
    memset(long_text, 'x', sizeof(long_text));
    spm.texts[FIRST_OWN] = (struct token_text){long_text, sizeof(long_text)};
    assert_refused(&spec, LLMD_ELIMIT, "takes 600 bytes; at most 512");
    spec = spm_spec();
    spec.form = TOKENIZER_BYTE_LEVEL;
    assert_refused(&spec, LLMD_EUNSUPPORTED, "scores in a byte-level vocabulary");
    spec = spm_spec();
    const struct merge_pair pair = {{"a", 1}, {"x", 1}};
    spec.scores = NULL;
    spec.merge_pairs = &pair;
    spec.n_merges = 1;
    assert_refused(&spec, LLMD_EPARSE, "merge 0 of 'a' and 'x' joins what is no token");
    static struct tiny_vocab v;
    tiny_init(&v, NULL);
    spec = tiny_spec(&v);
    spec.source = "spec";
    spec.pretokenizer = "smollm";
    spec.add_prefix_space = true;
    assert_refused(&spec, LLMD_EUNSUPPORTED, "a space put before the text is not supported with");
}

/* ---- GGUF ---- */

struct fault {
    const char *key; /* left out, and put in: */
    int kind;        /* 'b', 'u', 's' or 'r' (an array of one float); 0: nothing */
    uint32_t value;
    int code;
    const char *says; /* NULL: it is fine */
};

static int read_llama(const struct fault *f, struct model *m, struct err *e)
{
    struct gguf_writer w = {0};
    struct buf file = {0};
    struct gguf *g;
    const char *skip = f ? f->key : "";
    spm_init();
    if (strcmp(skip, "tokenizer.ggml.model") != 0)
        gw_str(&w, "tokenizer.ggml.model", "llama");
    gw_array(&w, "tokenizer.ggml.tokens", GGUF_STRING, N_SPM);
    for (uint32_t i = 0; i < N_SPM; i++) {
        char text[16] = {0};
        memcpy(text, spm.texts[i].s, spm.texts[i].n);
        gw_put_str(&w.kvs, text);
    }
    gw_array(&w, "tokenizer.ggml.token_type", GGUF_I32, N_SPM);
    for (uint32_t i = 0; i < N_SPM; i++)
        gw_put_u32(&w.kvs, (uint32_t)spm.kinds[i] + 1);
    if (strcmp(skip, "tokenizer.ggml.scores") != 0) {
        gw_array(&w, "tokenizer.ggml.scores", GGUF_F32, N_SPM);
        buf_add(&w.kvs, spm.scores, sizeof(spm.scores));
    }
    if (f && f->kind == 'b')
        gw_bool(&w, f->key, (uint8_t)f->value);
    if (f && f->kind == 'u')
        gw_u32(&w, f->key, f->value);
    if (f && f->kind == 's')
        gw_str(&w, f->key, "bert");
    if (f && f->kind == 'r') {
        gw_array(&w, f->key, GGUF_F32, 1);
        gw_put_u32(&w.kvs, f->value);
    }
    gw_finish(&w, &file);
    gw_fini(&w);
    int rc = gguf_open_memory(file.data, file.len, "mem", &g, e);
    if (rc == 0) {
        rc = model_read_tokenizer(g, m, e);
        gguf_close(g);
    }
    buf_fini(&file);
    return rc;
}

static void model_forget(struct model *m)
{
    tokenizer_free(m->tokenizer);
    free(m->bos_token);
    free(m->eos_token);
    memset(m, 0, sizeof(*m));
}

static void test_gguf_llama(void **state)
{
    (void)state;
    struct model m = {0};
    struct err e = {0};
    const struct fault plain = {.key = "tokenizer.ggml.add_space_prefix", .kind = 'b'};
    const struct fault eot = {.key = "tokenizer.ggml.eot_token_id", .kind = 'u', .value = 1};
    const struct fault no_bos = {.key = "tokenizer.ggml.add_bos_token", .kind = 'b'};
    uint32_t n;
    assert_int_equal(read_llama(NULL, &m, &e), 0);
    assert_string_equal(m.bos_token, "<s>");
    assert_string_equal(m.eos_token, "</s>");
    assert_tokens(m.tokenizer, spm.texts, "abc\n", TOKENIZE_ADD_SPECIAL,
                  "<s>|" SPACE "|abc|<0x0A>");
    assert_decoded(m.tokenizer, (uint32_t[]){FIRST_OWN + 7}, 1, false, "a");
    model_forget(&m);

    assert_int_equal(read_llama(&plain, &m, &e), 0);
    assert_tokens(m.tokenizer, spm.texts, "abc a", TOKENIZE_ADD_SPECIAL, "<s>|abc|" SPACE "a");
    assert_decoded(m.tokenizer, (uint32_t[]){FIRST_OWN + 7}, 1, false, " a");
    model_forget(&m);

    assert_int_equal(read_llama(&eot, &m, &e), 0);
    const uint32_t *eos = tokenizer_eos_ids(m.tokenizer, &n);
    assert_int_equal(n, 2);
    assert_true(eos[0] == 2 && eos[1] == 1);
    model_forget(&m);

    assert_int_equal(read_llama(&no_bos, &m, &e), 0);
    assert_tokens(m.tokenizer, spm.texts, "a", TOKENIZE_ADD_SPECIAL, SPACE "a");
    model_forget(&m);
}

static void test_gguf_llama_faults(void **state)
{
    (void)state;
#define KEY(k) "tokenizer.ggml." k
    static const struct fault faults[] = {
        {KEY("scores"), 0, 0, LLMD_EPARSE, "scores"},
        {KEY("scores"), 'r', 0, LLMD_EPARSE, "1 elements for 268 tokens"},
        {KEY("scores"), 'u', 0, LLMD_EPARSE, "expected an array"},
        {KEY("model"), 0, 0, LLMD_EPARSE, "model"},
        {KEY("model"), 's', 0, LLMD_EUNSUPPORTED, "only 'gpt2' (byte-level BPE) and 'llama'"},
        {KEY("add_eos_token"), 'b', 1, LLMD_EUNSUPPORTED, "true is not supported"},
        {KEY("remove_extra_whitespaces"), 'b', 1, LLMD_EUNSUPPORTED, "true is not supported"},
        {KEY("precompiled_charsmap"), 's', 0, LLMD_EUNSUPPORTED, "not supported"},
        {KEY("unknown_token_id"), 'u', N_SPM, LLMD_EPARSE, "there is no token 268"},
        {KEY("eot_token_id"), 'u', N_SPM, LLMD_EPARSE, "there is no token 268"},
        {KEY("eom_token_id"), 's', 0, LLMD_EPARSE, "expected an integer"},
        {KEY("add_space_prefix"), 'u', 1, LLMD_EPARSE, "expected a boolean"},
    };
#undef KEY
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        struct model m = {0};
        struct err e = {0};
        int rc = read_llama(&faults[i], &m, &e);
        if (rc != -faults[i].code || !strstr(e.msg, faults[i].says) ||
            !strstr(e.msg, faults[i].key))
            fail_msg("case %zu: %d '%s'", i, rc, e.msg);
        model_forget(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores_decide),
        cmocka_unit_test(test_unknown_characters),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_long_runs_of_bytes),
        cmocka_unit_test(test_ids_around),
        cmocka_unit_test(test_turn_ends_are_guessed_unless_known),
        cmocka_unit_test(test_added_tokens_decide_kinds),
        cmocka_unit_test(test_unfit_added_tokens),
        cmocka_unit_test(test_unfit_specs),
        cmocka_unit_test(test_gguf_llama),
        cmocka_unit_test(test_gguf_llama_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

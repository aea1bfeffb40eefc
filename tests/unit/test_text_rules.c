/* Split patterns and normalization over every code point, against Hugging Face `tokenizers`
 * (tests/golden/gen_text_rules.py), and by hand where a rule is worth reading. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/model/nfc_int.h"
#include "core/model/pretok_int.h"
#include "core/util/utf8.h"
#include "tests/golden/tokenizer_text.h"

#define DATA  "tests/golden/data/text_rules.json"
#define BLOCK (1u << 14)
/* A sanitizer makes it slow: of the rows every n-th. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { ROW_STEP = 5 };
#else
enum { ROW_STEP = 1 };
#endif

static struct char_classes classes;
static struct nfc nfc;

/* ---- every code point ---- */

/* The next block of code points from *cp on, each between two texts; empty at the end. */
static void next_block(uint32_t *cp, const char *before, const char *behind, struct buf *out)
{
    buf_clear(out);
    for (uint32_t n = 0; n < BLOCK && *cp < 0x110000; (*cp)++) {
        char text[4];
        if (*cp >= 0xd800 && *cp < 0xe000)
            continue;
        buf_addstr(out, before);
        buf_add(out, text, utf8_encode(*cp, text));
        buf_addstr(out, behind);
        n++;
    }
    assert_false(out->failed);
}

static uint64_t split_hash(const struct pretok *p, const struct buf *text, uint64_t hash)
{
    for (size_t i = 0; i < text->len;) {
        size_t len = p->piece(p, &classes, text->data + i, text->len - i);
        assert_true(len > 0 && len <= text->len - i);
        i += len;
        hash = text_hash_add(hash, i);
    }
    return hash;
}

static uint64_t nfc_hash(const struct buf *text, uint64_t hash)
{
    struct buf out = {0};
    nfc_add(&nfc, &out, text->data, text->len);
    assert_false(out.failed);
    for (size_t i = 0; i < out.len; i++)
        hash = text_hash_add(hash, (unsigned char)out.data[i]);
    buf_fini(&out);
    return hash;
}

static void test_every_code_point(void **state)
{
    (void)state;
    json_t *rows = NULL;
    struct err e = {0};
    struct buf text = {0};
    if (text_json(DATA, &rows, &e) < 0)
        fail_msg("%s", e.msg);
    assert_true(json_array_size(rows) >= 27);
    for (size_t i = 0; i < json_array_size(rows); i += ROW_STEP) {
        const char *cell[5];
        for (size_t k = 0; k < ARRAY_LEN(cell); k++)
            cell[k] = json_string_value(json_array_get(json_array_get(rows, i), k));
        bool split = strcmp(cell[0], "split") == 0;
        const struct pretok *p = split ? pretok_find(cell[1]) : NULL;
        uint64_t hash = TEXT_HASH_BEGIN;
        assert_true(!split || p);
        for (uint32_t cp = 0; next_block(&cp, cell[2], cell[3], &text), text.len > 0;)
            hash = split ? split_hash(p, &text, hash) : nfc_hash(&text, hash);
        if (hash != strtoull(cell[4], NULL, 16))
            fail_msg("row %zu of " DATA " (%s %s) differs", i, cell[0], cell[1]);
    }
    buf_fini(&text);
    json_decref(rows);
}

/* ---- patterns ---- */

static void assert_pieces(const char *name, const char *text, const char *want)
{
    const struct pretok *p = pretok_find(name);
    struct buf got = {0};
    assert_non_null(p);
    for (size_t i = 0, n = strlen(text); i < n;) {
        size_t len = p->piece(p, &classes, text + i, n - i);
        if (i > 0)
            buf_addch(&got, '|');
        buf_add(&got, text + i, len);
        i += len;
    }
    assert_string_equal(buf_str(&got), want);
    buf_fini(&got);
}

static void test_pieces(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"llama-bpe", "I'LL don'T 'x'", "I|'LL| don|'T| '|x|'"},
        {"llama-bpe", "it'\xc5\xbf me", "it|'\xc5\xbf| me"}, /* the long s */
        {"llama-bpe", "12345 a1", "123|45| a|1"},
        {"llama-bpe", "(hello) !!\r\n\r\n x", "(hello|)| !!\r\n\r\n| x"},
        {"llama-bpe", "a \n \n  b  ", "a| \n \n| | b|  "},
        {"llama-bpe", "\nword", "\n|word"},
        {"llama-bpe", "\tword", "\tword"},
        {"qwen2", "12345", "1|2|3|4|5"},
        {"deepseek-r1-qwen", "12", "1|2"},
        {"tekken", "helloWorld HELLOWorld", "hello|World| HELLOWorld"},
        {"tekken", "ABC abC aB1", "ABC| ab|C| a|B|1"},
        {"tekken",
         "\xe4\xb8\xad"
         "AB",
         "\xe4\xb8\xad|AB"}, /* a letter that is upper and lower */
        {"tekken", "//\n/x", "//\n/|x"},
        {"tekken",
         "\xcc\x81"
         "AB",
         "\xcc\x81|AB"}, /* a mark in front */
        {"deepseek-v3", "#include ~x 1234", "#include| ~|x| |123|4"},
        {"deepseek-v3", "a\xe4\xb8\xad\xe3\x81\x82 b", "a|\xe4\xb8\xad\xe3\x81\x82| b"},
        {"deepseek-v3", "\x01\x01z", "\x01|\x01z"},
        {"none", "a b\n1", "a b\n1"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_pieces(rows[i][0], rows[i][1], rows[i][2]);
}

static struct split_step regex(const char *s)
{
    return (struct split_step){SPLIT_REGEX, {s, strlen(s)}};
}

static void test_patterns_are_found(void **state)
{
    (void)state;
    const struct split_step digits = {SPLIT_DIGITS, {NULL, 0}};
    const struct split_step bytes = {SPLIT_BYTE_LEVEL, {NULL, 0}};
    const struct split_step qwen =
        regex("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
              "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
              "\\s+(?!\\S)|\\s+");
    struct split_step cut = qwen;
    cut.regex.n--;
    assert_string_equal(tokenizer_find_pretokenizer(NULL, 0), "none");
    assert_string_equal(tokenizer_find_pretokenizer(&bytes, 1), "gpt-2");
    assert_string_equal(tokenizer_find_pretokenizer((struct split_step[]){digits, bytes}, 2),
                        "smollm");
    assert_string_equal(tokenizer_find_pretokenizer(&qwen, 1), "qwen2");
    assert_null(tokenizer_find_pretokenizer(&cut, 1));
    assert_null(tokenizer_find_pretokenizer(&digits, 1));
    assert_null(tokenizer_find_pretokenizer((struct split_step[]){bytes, digits}, 2));
    assert_null(tokenizer_find_pretokenizer((struct split_step[]){qwen, qwen, qwen, qwen}, 4));
    assert_null(tokenizer_find_pretokenizer((struct split_step[]){regex("<Digits>"), bytes}, 2));
}

/* ---- normalization ---- */

static void assert_nfc(const char *text, const char *want)
{
    struct buf out = {0};
    nfc_add(&nfc, &out, text, strlen(text));
    assert_string_equal(buf_str(&out), want);
    size_t stable = nfc_stable_prefix(&nfc, text, strlen(text));
    assert_true(stable < strlen(text) || strcmp(text, want) == 0);
    buf_fini(&out);
}

static void test_nfc(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"", ""},
        {"plain ASCII, and \xc3\xa9t\xc3\xa9", "plain ASCII, and \xc3\xa9t\xc3\xa9"},
        {"xe\xcc\x81y", "x\xc3\xa9y"},
        {"\xe2\x84\xab", "\xc3\x85"},                             /* the Angstrom sign */
        {"q\xcc\x87\xcc\xa3", "q\xcc\xa3\xcc\x87"},               /* marks in order */
        {"a\xcc\xa3\xcc\x81", "\xe1\xba\xa1\xcc\x81"},            /* one joins */
        {"\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", "\xea\xb0\x81"}, /* Hangul */
        {"\xea\xb0\x80\xe1\x86\xa8", "\xea\xb0\x81"},             /* and in part */
        {"\xcc\x81", "\xcc\x81"},                                 /* nothing before */
        {"\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc"},             /* stays apart */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_nfc(rows[i][0], rows[i][1]);
}

/* Runs of marks, short and long, are put in order of their classes, and keep it within one. */
static void test_nfc_orders_marks(void **state)
{
    (void)state;
    for (uint32_t n = 2; n < 3000; n = n * 3 / 2 + 1) {
        struct buf text = {0}, want = {0}, out = {0};
        buf_addch(&text, 'q');
        buf_addch(&want, 'q');
        for (uint32_t i = 0; i < n; i++)
            buf_addstr(&text, i % 3 == 1 ? "\xcc\xa3" : "\xcc\x87"); /* 220 and 230 */
        for (uint32_t i = 0; i < n; i++)
            if (i % 3 == 1)
                buf_addstr(&want, "\xcc\xa3");
        for (uint32_t i = 0; i < n; i++)
            if (i % 3 != 1)
                buf_addstr(&want, "\xcc\x87");
        nfc_add(&nfc, &out, text.data, text.len);
        assert_string_equal(buf_str(&out), buf_str(&want));
        buf_fini(&text);
        buf_fini(&want);
        buf_fini(&out);
    }
}

static void test_words(void **state)
{
    (void)state;
    assert_true(unicode_is_word('a') && unicode_is_word('0') && unicode_is_word('_'));
    assert_true(unicode_is_word(0xe9) && unicode_is_word(0x4e2d) && unicode_is_word(0x301));
    assert_false(unicode_is_word(' ') || unicode_is_word('-') || unicode_is_word(0));
    assert_false(unicode_is_word(0x2581) || unicode_is_word(0x10ffff));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces), cmocka_unit_test(test_patterns_are_found),
        cmocka_unit_test(test_nfc),    cmocka_unit_test(test_nfc_orders_marks),
        cmocka_unit_test(test_words),  cmocka_unit_test(test_every_code_point),
    };
    char_classes_init(&classes);
    nfc_init(&nfc);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

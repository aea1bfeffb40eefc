/* fuzz_tokenizer.c - three modes, by the first byte.
 *
 * Multiples of 4: the rest is a text over a built-in byte-level vocabulary. Valid UTF-8 must come
 * back from its tokens byte for byte, with and without control tokens; a single piece must merge as
 * defined.
 * Other even bytes: the same over a SentencePiece-style vocabulary with byte fallback, where words
 * must merge as a whole text does by definition; and normalization form C of the text.
 * Odd: the rest describes a vocabulary (one item per line: t, c, u, n + token text, m + merge,
 * s + a byte to leave out, p + pretokenizer name, o + letters of options, a + flags + added token)
 * and, after an empty line, a text. Whatever it says, it is either refused with a one-line message
 * or it works. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/nfc_int.h"
#include "tests/unit/tiny_vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "broken: %s\n", what);
    abort();
}

static void decode(const struct tokenizer *t, const struct token_list *l, struct buf *out)
{
    struct detok d;
    detok_init(&d, t, false);
    for (size_t i = 0; i < l->n; i++) {
        size_t old = out->len;
        detok_push(&d, l->ids[i], out);
        check(utf8_valid(buf_str(out) + old, out->len - old), "half a character came out");
    }
    detok_flush(&d, out);
}

/* Encodes and decodes again; `same`: the vocabulary can write every text. */
static void round_trip(const struct tokenizer *t, const char *s, size_t n, unsigned flags,
                       bool same)
{
    struct token_list l = {0};
    struct buf text = {0};
    struct err e = {0};
    int rc = tokenizer_encode(t, s, n, flags, &l, &e);
    check((rc == 0) == utf8_valid(s, n), "exactly the valid UTF-8 is taken");
    check(rc == 0 || e.msg[0] != '\0', "a refusal without a message");
    if (rc == 0) {
        decode(t, &l, &text);
        check(!same || (text.len == n && memcmp(buf_str(&text), s, n) == 0), "text changed");
    }
    token_list_fini(&l);
    buf_fini(&text);
}

static struct tiny_vocab builtin;

static struct tokenizer *builtin_tokenizer(void)
{
    static struct tokenizer *t;
    static const char *const merges[] = {"a b",        "b c",
                                         "a a",        "aa aa",
                                         "\xc4\xa0 a", "ab c",
                                         "a bc",       "c c",
                                         "cc c",       "\xc3\x83 \xc2\xa9",
                                         "0 1",        "\xc4\xa0 \xc4\xa0",
                                         "b b",        "\xc4\x8a \xc4\x8a"};
    static const char *const control[] = {"<a>", "<a>b", "<a><a>c", "b<", "\xc3\xa9<"};
    if (t)
        return t;
    tiny_init(&builtin, NULL);
    for (size_t i = 0; i < ARRAY_LEN(merges); i++)
        tiny_merge_str(&builtin, merges[i]);
    for (size_t i = 0; i < ARRAY_LEN(control); i++)
        tiny_add(&builtin, control[i], strlen(control[i]), TOKEN_CONTROL);
    tiny_add(&builtin, "{u}", 3, TOKEN_USER_DEFINED);
    struct tokenizer_spec spec = tiny_spec(&builtin);
    struct err e = {0};
    check(tokenizer_new(&spec, &t, &e) == 0, "the built-in vocabulary is sound");
    return t;
}

/* The bytes read as letters a, b and c are one piece. */
static void fuzz_merging(const struct tokenizer *t, const uint8_t *data, size_t n)
{
    static char text[128];
    static uint32_t want[128];
    struct token_list l = {0};
    struct err e = {0};
    n = n < sizeof(text) ? n : sizeof(text);
    for (size_t i = 0; i < n; i++)
        text[i] = (char)('a' + data[i] % 3);
    size_t n_want = tiny_encode(&builtin, text, n, want);
    check(tokenizer_encode(t, text, n, 0, &l, &e) == 0, "letters are valid");
    check(l.n == n_want && (l.n == 0 || memcmp(l.ids, want, n_want * sizeof(*want)) == 0),
          "not merged as defined");
    token_list_fini(&l);
}

/* ---- SentencePiece-style ---- */

#define SPACE "\xe2\x96\x81"

static struct tiny_vocab spm_vocab;

/* Bytes as "<0xNN>", then characters and what the merges make. */
static struct tokenizer *spm_tokenizer(void)
{
    static struct tokenizer *t;
    static const char *const own[] = {SPACE, "a", "b", "c", "\xc3\xa9"};
    static const char *const merges[] = {"a b",       "b c",           SPACE " a",  "ab c", "a bc",
                                         SPACE "a b", SPACE " " SPACE, SPACE " ab", "c c"};
    if (t)
        return t;
    tiny_init(&spm_vocab, NULL);
    spm_vocab.n_tokens = 0;
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[8];
        snprintf(text, sizeof(text), "<0x%02X>", byte);
        tiny_add(&spm_vocab, text, 6, TOKEN_BYTE);
    }
    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        tiny_add(&spm_vocab, own[i], strlen(own[i]), TOKEN_NORMAL);
    for (size_t i = 0; i < ARRAY_LEN(merges); i++)
        tiny_merge_str(&spm_vocab, merges[i]);
    tiny_add(&spm_vocab, "<s>", 3, TOKEN_CONTROL);
    struct tokenizer_spec spec = tiny_spec(&spm_vocab);
    struct err e = {0};
    spec.form = TOKENIZER_SPM;
    spec.byte_fallback = true;
    spec.space_prefix = SPACE_PREFIX_EVERY;
    spec.strip_first_space = true;
    check(tokenizer_new(&spec, &t, &e) == 0, "the SentencePiece-style vocabulary is sound");
    return t;
}

/* Merges the letters a, b, c and spaces, behind U+2581, as one piece. */
static size_t spm_naive(const char *s, size_t n, uint32_t *ids)
{
    size_t k = 0;
    for (size_t i = 0; i <= n; i++) {
        struct token_text t = {SPACE, 3};
        if (i > 0 && s[i - 1] != ' ')
            t = (struct token_text){&s[i - 1], 1};
        ids[k++] = (uint32_t)tiny_find(&spm_vocab, t);
    }
    return tiny_merge_ids(&spm_vocab, ids, k);
}

static void fuzz_spm_merging(const struct tokenizer *t, const uint8_t *data, size_t n)
{
    static char text[96];
    static uint32_t want[97];
    struct token_list l = {0};
    struct err e = {0};
    n = n < sizeof(text) ? n : sizeof(text);
    for (size_t i = 0; i < n; i++)
        text[i] = "abc "[data[i] % 4];
    size_t n_want = n > 0 ? spm_naive(text, n, want) : 0;
    check(tokenizer_encode(t, text, n, 0, &l, &e) == 0, "letters are valid");
    check(l.n == n_want && (l.n == 0 || memcmp(l.ids, want, n_want * sizeof(*want)) == 0),
          "not merged as defined");
    token_list_fini(&l);
}

/* U+2581 comes back as a space. */
static void spm_round_trip(const struct tokenizer *t, const char *s, size_t n, unsigned flags)
{
    struct token_list l = {0};
    struct buf text = {0}, want = {0};
    struct err e = {0};
    if (tokenizer_encode(t, s, n, flags, &l, &e) == 0) {
        decode(t, &l, &text);
        for (size_t i = 0; i < n; i++) {
            bool space = n - i >= 3 && memcmp(s + i, SPACE, 3) == 0;
            buf_addch(&want, space ? ' ' : s[i]);
            i += space ? 2 : 0;
        }
        check(flags != 0 ||
                  (text.len == want.len && memcmp(buf_str(&text), buf_str(&want), text.len) == 0),
              "text changed");
    }
    token_list_fini(&l);
    buf_fini(&text);
    buf_fini(&want);
}

/* What is normalized stays as it is; what is stable is normalized. */
static void fuzz_nfc(const char *s, size_t n)
{
    static struct nfc f;
    static bool ready;
    struct buf once = {0}, twice = {0};
    if (!ready)
        nfc_init(&f);
    ready = true;
    if (!utf8_valid(s, n))
        return;
    nfc_add(&f, &once, s, n);
    nfc_add(&f, &twice, buf_str(&once), once.len);
    check(utf8_valid(buf_str(&once), once.len), "normalized text is not valid");
    check(once.len == twice.len && memcmp(buf_str(&once), buf_str(&twice), once.len) == 0,
          "normalizing twice is not normalizing once");
    size_t stable = nfc_stable_prefix(&f, s, n);
    check(stable < n || (once.len == n && memcmp(buf_str(&once), s, n) == 0),
          "stable text was changed");
    buf_fini(&once);
    buf_fini(&twice);
}

static void fuzz_spm(const uint8_t *data, size_t n)
{
    const struct tokenizer *t = spm_tokenizer();
    spm_round_trip(t, (const char *)data, n, 0);
    spm_round_trip(t, (const char *)data, n, TOKENIZE_PARSE_SPECIAL);
    fuzz_spm_merging(t, data, n);
    fuzz_nfc((const char *)data, n);
}

/* ---- described vocabularies ---- */

/* What is described besides the tokens. */
struct described {
    char pre[16], options[16];
    struct added_token added[16];
    uint32_t n_added;
};

static const char *next_line(const char **s, const char *end, size_t *out_n)
{
    const char *line = *s, *nl = memchr(line, '\n', (size_t)(end - line));
    *out_n = (size_t)((nl ? nl : end) - line);
    *s = nl ? nl + 1 : end;
    return line;
}

/* "a" + a letter whose bits are flags + text: a new token, or one that is there. */
static void read_added(struct tiny_vocab *v, struct described *d, const char *line, size_t n)
{
    if (n < 2 || d->n_added == ARRAY_LEN(d->added) || v->n_tokens == TINY_MAX_TOKENS)
        return;
    struct token_text text = tiny_copy(v, line + 2, n - 2);
    int64_t id = tiny_find(v, text);
    unsigned bits = (unsigned char)line[1];
    if (id < 0) {
        id = v->n_tokens;
        tiny_add(v, "", 0, TOKEN_UNUSED);
    }
    d->added[d->n_added++] = (struct added_token){.text = text,
                                                  .id = (uint32_t)id,
                                                  .special = bits & 1,
                                                  .lstrip = bits & 2,
                                                  .rstrip = bits & 4,
                                                  .single_word = bits & 8,
                                                  .normalized = bits & 16};
}

static void apply(const struct described *d, const float *scores, struct tokenizer_spec *spec)
{
    spec->pretokenizer = d->pre;
    spec->has_added = d->n_added > 0;
    spec->added = d->added;
    spec->n_added = d->n_added;
    for (const char *o = d->options; *o; o++) {
        spec->form = *o == 'S' ? TOKENIZER_SPM : spec->form;
        spec->scores = *o == 'r' ? scores : spec->scores;
        spec->nfc |= *o == 'n';
        spec->ignore_merges |= *o == 'i';
        spec->has_unk |= *o == 'u';
        spec->fuse_unk |= *o == 'f';
        spec->byte_fallback |= *o == 'b';
        spec->split_spaces |= *o == 'w';
        spec->add_prefix_space |= *o == 'a';
        spec->strip_first_space |= *o == 's';
        if (*o >= '0' && *o <= '3')
            spec->space_prefix = (enum space_prefix)(*o - '0');
    }
}

/* Copies a line without its letter, cut to 15 characters. */
static void copy_word(char out[16], const char *line, size_t n)
{
    memset(out, 0, 16);
    memcpy(out, line + 1, n - 1 < 15 ? n - 1 : 15);
}

/* Reads one line of a described vocabulary; returns what it means for `same`. */
static bool read_item(struct tiny_vocab *v, const char *line, size_t n, struct described *d)
{
    static const enum token_kind kinds[] = {['c'] = TOKEN_CONTROL,
                                            ['u'] = TOKEN_USER_DEFINED,
                                            ['n'] = TOKEN_UNUSED,
                                            ['t'] = TOKEN_NORMAL};
    switch (line[0]) {
    case 'm':
        tiny_merge(v, line + 1, n - 1);
        return true;
    case 'M': /* a merge that brings no token along */
        if (v->n_merges < TINY_MAX_MERGES)
            v->merges[v->n_merges++] = tiny_copy(v, line + 1, n - 1);
        return false;
    case 'p':
        copy_word(d->pre, line, n);
        return true;
    case 'o':
        copy_word(d->options, line, n);
        return false;
    case 'a':
        read_added(v, d, line, n);
        return false;
    case 's':
        for (uint32_t i = 0; n > 1 && i < v->n_tokens; i++)
            if (v->texts[i].n == 1 && v->texts[i].s[0] == line[1])
                v->texts[i].n = 0;
        return false;
    case 't':
    case 'c':
    case 'u':
    case 'n':
        tiny_add(v, line + 1, n - 1, kinds[(unsigned char)line[0]]);
        return line[0] != 't' && line[0] != 'c';
    }
    return true;
}

static void fuzz_vocabulary(const char *s, size_t n)
{
    static struct tiny_vocab v;
    static float scores[TINY_MAX_TOKENS];
    struct described d = {.pre = "gpt-2"};
    const char *end = s + n, *line;
    size_t len;
    bool same = true;
    tiny_init(&v, NULL);
    while (s < end && (line = next_line(&s, end, &len), len > 0))
        same &= read_item(&v, line, len, &d);
    struct tokenizer_spec spec = tiny_spec(&v);
    struct tokenizer *t = NULL;
    struct err e = {0};
    for (uint32_t i = 0; i < v.n_tokens; i++)
        scores[i] = (float)(i * 7919 % 31);
    apply(&d, scores, &spec);
    if (tokenizer_new(&spec, &t, &e) < 0) {
        check(e.code != 0 && e.msg[0] && !strchr(e.msg, '\n') && !t, "a refusal in one line");
        return;
    }
    round_trip(t, s, (size_t)(end - s), TOKENIZE_PARSE_SPECIAL, same);
    round_trip(t, s, (size_t)(end - s), TOKENIZE_ADD_SPECIAL, same);
    tokenizer_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0)
        return 0;
    if (data[0] & 1) {
        fuzz_vocabulary((const char *)data + 1, n - 1);
        return 0;
    }
    if (data[0] & 2) {
        fuzz_spm(data + 1, n - 1);
        return 0;
    }
    const struct tokenizer *t = builtin_tokenizer();
    round_trip(t, (const char *)data + 1, n - 1, 0, true);
    round_trip(t, (const char *)data + 1, n - 1, TOKENIZE_PARSE_SPECIAL, true);
    fuzz_merging(t, data + 1, n - 1);
    return 0;
}

/* fuzz_tokenizer.c - two modes, by the first byte.
 *
 * Even: the rest is a text over a built-in vocabulary. Valid UTF-8 must come back from its tokens
 * byte for byte, with and without control tokens; a single piece must merge as defined.
 * Odd: the rest describes a vocabulary (one item per line: t, c, u, n + token text, m + merge,
 * s + a byte to leave out, p + pretokenizer name) and, after an empty line, a text. Whatever it
 * says, it is either refused with a one-line message or it works. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static const char *next_line(const char **s, const char *end, size_t *out_n)
{
    const char *line = *s, *nl = memchr(line, '\n', (size_t)(end - line));
    *out_n = (size_t)((nl ? nl : end) - line);
    *s = nl ? nl + 1 : end;
    return line;
}

/* Reads one line of a described vocabulary; returns what it means for `same`. */
static bool read_item(struct tiny_vocab *v, const char *line, size_t n, char pre[16])
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
        memset(pre, 0, 16);
        memcpy(pre, line + 1, n - 1 < 15 ? n - 1 : 15);
        return true;
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
    const char *end = s + n, *line;
    char pre[16] = "gpt-2";
    size_t len;
    bool same = true;
    tiny_init(&v, NULL);
    while (s < end && (line = next_line(&s, end, &len), len > 0))
        same &= read_item(&v, line, len, pre);
    struct tokenizer_spec spec = tiny_spec(&v);
    struct tokenizer *t = NULL;
    struct err e = {0};
    spec.pretokenizer = pre;
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
    const struct tokenizer *t = builtin_tokenizer();
    round_trip(t, (const char *)data + 1, n - 1, 0, true);
    round_trip(t, (const char *)data + 1, n - 1, TOKENIZE_PARSE_SPECIAL, true);
    fuzz_merging(t, data + 1, n - 1);
    return 0;
}

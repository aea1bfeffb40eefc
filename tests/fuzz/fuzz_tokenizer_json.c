/* fuzz_tokenizer_json.c - a tokenizer.json, a NUL byte and a text. The file is either refused with
 * a one-line message, or the text becomes ids of the vocabulary and valid text again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/tokenizer_json.h"
#include "core/util/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "broken: %s\n", what);
    abort();
}

static void decode(const struct tokenizer *t, const struct token_list *l, bool skip)
{
    struct buf text = {0};
    struct detok d;
    detok_init(&d, t, skip);
    for (size_t i = 0; i < l->n; i++)
        detok_push(&d, l->ids[i], &text);
    detok_flush(&d, &text);
    check(!text.failed && utf8_valid(buf_str(&text), text.len), "the decoded text is valid");
    buf_fini(&text);
}

static void encode(const struct tokenizer *t, const char *s, size_t n, unsigned flags)
{
    struct token_list l = {0};
    struct err e = {0};
    int rc = tokenizer_encode(t, s, n, flags, &l, &e);
    check(rc == 0 || e.msg[0], "a refusal has a message");
    check((rc == 0) == utf8_valid(s, n), "exactly the valid UTF-8 is taken");
    for (size_t i = 0; i < l.n; i++)
        check(l.ids[i] < tokenizer_n_tokens(t), "ids are those of tokens");
    if (rc == 0) {
        decode(t, &l, false);
        decode(t, &l, true);
    }
    token_list_fini(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const uint32_t eos[] = {1};
    const struct tokenizer_json_opts o = {
        .n_vocab = 4096, .eos_ids = eos, .n_eos_ids = 1, .bos_token = "<s>", .eos_token = "</s>"};
    const char *file = (const char *)data, *nul = n ? memchr(file, 0, n) : NULL;
    size_t n_file = nul ? (size_t)(nul - file) : n;
    struct tokenizer *t = NULL;
    struct err e = {0};
    if (tokenizer_json_parse(n ? file : "", n_file, "file", &o, &t, &e) < 0) {
        check(e.code && e.msg[0] && !strchr(e.msg, '\n') && !t, "a refusal in one line");
        check(strncmp(e.msg, "file: ", 6) == 0, "a refusal names the file");
        return 0;
    }
    if (nul) {
        size_t n_text = n - n_file - 1;
        encode(t, nul + 1, n_text, 0);
        encode(t, nul + 1, n_text, TOKENIZE_ADD_SPECIAL | TOKENIZE_PARSE_SPECIAL);
    }
    tokenizer_free(t);
    return 0;
}

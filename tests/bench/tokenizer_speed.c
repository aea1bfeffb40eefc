/* tokenizer_speed.c - how fast the tokenizer is, on one thread.
 *
 *     tokenizer_speed MODEL.gguf          (from the root of the tree)
 *
 * The text is the corpus of the goldens; `python3 tests/golden/gen_tokenizer.py --time` times
 * Hugging Face `tokenizers` on the same. Then pieces of one megabyte without a split point. Each
 * figure is the median of 9 runs. */
#include <stdio.h>
#include <stdlib.h>

#include "core/model/model.h"
#include "core/util/clock.h"
#include "tests/golden/tokenizer_text.h"

enum { N_RUNS = 9, CORPUS_BYTES = 1100000, SEED_CORPUS = 1 };

static int fail(const struct err *e)
{
    fprintf(stderr, "tokenizer_speed: %s\n", e->msg);
    return 1;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Encodes text N_RUNS times and prints the median. */
static int measure(const struct tokenizer *t, const char *what, const struct buf *text,
                   struct err *e)
{
    struct token_list l = {0};
    uint64_t us[N_RUNS];
    int rc = 0;
    for (int i = 0; i < N_RUNS && rc == 0; i++) {
        l.n = 0;
        us[i] = clock_now_us();
        rc = tokenizer_encode(t, text->data, text->len, TOKENIZE_PARSE_SPECIAL, &l, e);
        us[i] = clock_now_us() - us[i];
    }
    if (rc == 0) {
        qsort(us, N_RUNS, sizeof(us[0]), by_value);
        double median = (double)us[(N_RUNS - 1) / 2];
        printf("%-16s %8zu bytes %8zu ids %9.1f ms %7.1f MB/s\n", what, text->len, l.n,
               median / 1e3, (double)text->len / median);
    }
    token_list_fini(&l);
    return rc;
}

static int measure_corpus(const struct tokenizer *t, struct err *e)
{
    json_t *raw = NULL;
    struct buf text = {0};
    int rc = text_json("tests/golden/data/tokenizer_text.json", &raw, e);
    if (rc < 0)
        return rc;
    struct text_source s = {.tok = t, .state = SEED_CORPUS};
    s.ranges = json_object_get(raw, "ranges");
    s.words = json_object_get(raw, "words");
    s.lines = json_object_get(raw, "lines");
    while (text.len < CORPUS_BYTES && !text.failed)
        text_part(&s, &text);
    rc = measure(t, "corpus", &text, e);
    buf_fini(&text);
    json_decref(raw);
    return rc;
}

static int measure_pieces(const struct tokenizer *t, struct err *e)
{
    static const char *const units[] = {"a", "-", " ", "7", "\xf0\x9f\xa4\x96"};
    static const char *const names[] = {"1 MB of 'a'", "of '-'", "of blanks", "of digits",
                                        "of emoji"};
    int rc = 0;
    for (size_t i = 0; i < ARRAY_LEN(units) && rc == 0; i++) {
        struct buf text = {0};
        while (text.len < 1000000 && !text.failed)
            buf_addstr(&text, units[i]);
        rc = measure(t, names[i], &text, e);
        buf_fini(&text);
    }
    struct text_source s = {.state = 1};
    struct buf text = {0};
    text_chars(&s, 1000000, 'a', 'z', &text);
    if (rc == 0)
        rc = measure(t, "of letters", &text, e);
    buf_fini(&text);
    return rc;
}

int main(int argc, char **argv)
{
    struct err e = {0};
    struct model *m;
    if (argc != 2) {
        fprintf(stderr, "usage: tokenizer_speed MODEL.gguf\n");
        return 2;
    }
    uint64_t begin = clock_now_us();
    if (model_open(argv[1], &m, &e) < 0)
        return fail(&e);
    printf("model opened in %.1f ms\n", (double)(clock_now_us() - begin) / 1e3);
    int rc = measure_corpus(m->tokenizer, &e);
    if (rc == 0)
        rc = measure_pieces(m->tokenizer, &e);
    model_free(m);
    return rc < 0 ? fail(&e) : 0;
}

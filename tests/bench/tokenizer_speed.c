/* tokenizer_speed.c - how fast the tokenizer is, on one thread.
 *
 *     tokenizer_speed MODEL.gguf          (from the root of the tree)
 *     tokenizer_speed tokenizer.json TEXT
 *
 * In the first form the text is the corpus of the goldens; `python3 tests/golden/gen_tokenizer.py
 * --time` times Hugging Face `tokenizers` on the same. Then pieces of one megabyte without a split
 * point. The second form prints bytes, ids, microseconds to encode the file TEXT and to load the
 * vocabulary, for tokenizer_peer.py. Each figure is the median of 9 runs. */
#include <stdio.h>
#include <stdlib.h>

#include "core/model/model.h"
#include "core/model/tokenizer_json.h"
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

static uint64_t median(uint64_t us[N_RUNS])
{
    qsort(us, N_RUNS, sizeof(us[0]), by_value);
    return us[(N_RUNS - 1) / 2];
}

/* Encodes text N_RUNS times: the median, and the number of ids. */
static int time_encoding(const struct tokenizer *t, const struct buf *text, uint64_t *out_us,
                         size_t *out_ids, struct err *e)
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
        *out_us = median(us);
        *out_ids = l.n;
    }
    token_list_fini(&l);
    return rc;
}

static int measure(const struct tokenizer *t, const char *what, const struct buf *text,
                   struct err *e)
{
    uint64_t us = 0;
    size_t n_ids = 0;
    int rc = time_encoding(t, text, &us, &n_ids, e);
    if (rc == 0)
        printf("%-16s %8zu bytes %8zu ids %9.1f ms %7.1f MB/s\n", what, text->len, n_ids,
               (double)us / 1e3, (double)text->len / (double)us);
    return rc;
}

/* The second form. */
static int measure_vocabulary(const char *json_path, const char *text_path, struct err *e)
{
    struct tokenizer *t = NULL;
    struct buf text = {0};
    uint64_t loads[N_RUNS] = {0}, us = 0;
    size_t n_ids = 0;
    int rc = file_read(text_path, (size_t)1 << 30, &text, e);
    for (int i = 0; i < N_RUNS && rc == 0; i++) {
        tokenizer_free(t);
        t = NULL;
        loads[i] = clock_now_us();
        rc = tokenizer_json_load(json_path, NULL, &t, e);
        loads[i] = clock_now_us() - loads[i];
    }
    if (rc == 0)
        rc = time_encoding(t, &text, &us, &n_ids, e);
    if (rc == 0)
        printf("%zu %zu %llu %llu\n", text.len, n_ids, (unsigned long long)us,
               (unsigned long long)median(loads));
    tokenizer_free(t);
    buf_fini(&text);
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
    if (argc == 3)
        return measure_vocabulary(argv[1], argv[2], &e) < 0 ? fail(&e) : 0;
    if (argc != 2) {
        fprintf(stderr, "usage: tokenizer_speed MODEL.gguf | tokenizer.json TEXT\n");
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

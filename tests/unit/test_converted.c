/* The demo model's GGUF file against its conversion to a folder in Hugging Face form by
 * tests/golden/gguf_to_hf.py: the same logits in F32 arithmetic, the same text side. One layer of it,
 * to be quick; `test_converted FOLDER` compares a folder that has been converted before, with as
 * many layers as it holds.
 *
 * What differs is the order of a dot product of Q and K: GGUF has the two elements that rotate
 * together side by side, the folder has them half a head apart. */
#include <ftw.h>
#include <math.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/model/model.h"
#include "tests/unit/forward_rig.h"

#define MODEL_PATH "models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define SCRIPT     "tests/golden/gguf_to_hf.py"

extern char **environ;

static const char *given_folder;
static char folder[64] = "";
static struct model *from_file, *from_folder;

/* A sanitizer has nothing to find here that test_architectures does not reach. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static int convert(void)
{
    char *argv[] = {(char[]){"python3"},
                    (char[]){SCRIPT},
                    (char[]){MODEL_PATH},
                    folder,
                    (char[]){"--layers"},
                    (char[]){"1"},
                    NULL};
    pid_t pid;
    int status = 0;
    snprintf(folder, sizeof(folder), "/tmp/llmd-converted-XXXXXX");
    if (!mkdtemp(folder) || posix_spawnp(&pid, "python3", NULL, NULL, argv, environ) != 0)
        return -1;
    return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : -1;
}

static int open_both(void **state)
{
    struct err e = {0};
    (void)state;
    if (SANITIZED)
        return 0;
    if (!given_folder && convert() != 0) {
        print_error("python3 %s %s failed\n", SCRIPT, MODEL_PATH);
        return -1;
    }
    if (model_open(MODEL_PATH, &from_file, &e) ||
        model_open(given_folder ? given_folder : folder, &from_folder, &e)) {
        print_error("%s (run from the repository's root; `make model` fetches the model)\n", e.msg);
        return -1;
    }
    assert_in_range(from_folder->hparams.n_layers, 1, from_file->hparams.n_layers);
    from_file->hparams.n_layers = from_folder->hparams.n_layers;
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int close_both(void **state)
{
    (void)state;
    model_free(from_file);
    model_free(from_folder);
    if (folder[0])
        nftw(folder, remove_entry, 4, FTW_DEPTH | FTW_PHYS);
    return 0;
}

static void encode(const struct model *m, const char *text, struct token_list *out)
{
    struct err e = {0};
    must(tokenizer_encode(m->tokenizer, text, strlen(text),
                          TOKENIZE_ADD_SPECIAL | TOKENIZE_PARSE_SPECIAL, out, &e),
         &e);
}

static void logits_of(const struct model *m, const struct token_list *prompt, float *out)
{
    static struct step st;
    struct sequence seq = {0};
    struct rig rig;
    st = (struct step){0};
    assert_true(rig_try(&rig, m, COMPUTE_F32, 0, "auto", NULL));
    step_add(&rig, &st, &seq, prompt->ids, (uint32_t)prompt->n);
    for (uint32_t i = 0; i < prompt->n; i++)
        step_want(&st, i);
    step_run(&rig, &st);
    for (uint32_t i = 0; i < prompt->n; i++)
        memcpy(out + (size_t)i * m->hparams.vocab_size, forward_logits(rig.forward, i),
               m->hparams.vocab_size * sizeof(float));
    rig_close(&rig);
}

static void test_same_logits(void **state)
{
    (void)state;
    struct token_list prompt = {0};
    if (SANITIZED)
        skip();
    encode(from_file,
           "<|im_start|>user\nWhat is the capital of France? Answer in one sentence.<|im_end|>\n"
           "<|im_start|>assistant\nThe capital of France is",
           &prompt);
    size_t n = prompt.n * from_file->hparams.vocab_size;
    float *a = calloc(n, sizeof(*a)), *b = calloc(n, sizeof(*b));
    assert_true(prompt.n > 20 && prompt.n <= MAX_OUT && a && b);
    logits_of(from_file, &prompt, a);
    logits_of(from_folder, &prompt, b);
    double worst = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        largest = fmax(largest, fabs((double)a[i]));
    }
    print_message("%u layers: largest difference %.2e, of logits up to %.1f\n",
                  from_folder->hparams.n_layers, worst, largest);
    assert_true(largest > 1 && worst <= 1e-4);
    free(a);
    free(b);
    token_list_fini(&prompt);
}

static void test_same_text_side(void **state)
{
    static const char *const texts[] = {
        "Hello, world! 12345 <|im_start|>x<|im_end|>",
        "na\xc3\xafve \xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e  \n\n\tif (x) { return 0; }",
        " leading and trailing ",
    };
    (void)state;
    if (SANITIZED)
        skip();
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct token_list a = {0}, b = {0};
        encode(from_file, texts[i], &a);
        encode(from_folder, texts[i], &b);
        assert_int_equal(a.n, b.n);
        assert_memory_equal(a.ids, b.ids, a.n * sizeof(*a.ids));
        token_list_fini(&a);
        token_list_fini(&b);
    }
    assert_string_equal(from_file->bos_token, from_folder->bos_token);
    assert_string_equal(from_file->eos_token, from_folder->eos_token);
    assert_string_equal(from_file->chat_template_source, from_folder->chat_template_source);
    uint32_t n, m;
    const uint32_t *x = tokenizer_eos_ids(from_file->tokenizer, &n);
    const uint32_t *y = tokenizer_eos_ids(from_folder->tokenizer, &m);
    assert_int_equal(x[0], y[0]);
    assert_true(n >= 1 && m >= 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_logits),
        cmocka_unit_test(test_same_text_side),
    };
    given_folder = argc > 1 ? argv[1] : NULL;
    return cmocka_run_group_tests(tests, open_both, close_both);
}

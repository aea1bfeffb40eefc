/* Real text from a quantized GGUF file on the CUDA backend: SmolLM2 gives the CPU's greedy tokens, up to
 * ties of the arithmetic. The device makes BF16 of the file's weights when it loads them; the CPU is
 * given the same numbers in BF16. The device is led along the CPU's tokens, so that one tie does not hide
 * what comes after it.
 *
 *   test_cuda_gguf        two layers of it: a few rows of real weights
 *   test_cuda_gguf all    all layers, and what the text says (a part of `make soak`)
 *   test_cuda_gguf write FILE    the CPU's choices alone, for tests/gpu/run.sh numerics on a device */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/backend/dequant.h"
#include "core/util/half.h"
#include "gpu/cuda.h"
#include "tests/gpu/host/control.h"
#include "tests/unit/forward_rig.h"

#define MODEL_PATH "models/SmolLM2-135M-Instruct.Q4_1.gguf"

enum { FEW_LAYERS = 2, MAX_TOKENS = 32, MAX_COPIES = 1024 };

/* A choice is a tie when the CPU's logits of both tokens are closer than this times the backends'
 * root mean square difference: what rounding activations to BF16 can turn around. That is 0.06 at most. */
static const double TIE = 4, MOST_RMS = 0.1;

static bool everything;
static struct model *model;
static uint16_t *copies[MAX_COPIES];
static uint32_t n_copies;

/* --- the model, in BF16 --- */

static void to_bf16(struct host_tensor *t)
{
    if (!t->data || t->dtype == DTYPE_F32)
        return;
    float *row = malloc(t->cols * sizeof(*row));
    uint16_t *all = malloc(t->rows * t->cols * sizeof(*all));
    assert_true(row && all && n_copies < MAX_COPIES);
    for (uint64_t r = 0; r < t->rows; r++) {
        const uint8_t *from = (const uint8_t *)t->data + r * (host_tensor_bytes(t) / t->rows);
        dequantize_row(t->dtype, from, (uint32_t)t->cols, row);
        for (uint64_t c = 0; c < t->cols; c++)
            all[r * t->cols + c] = bf16_from_f32(row[c]);
    }
    free(row);
    copies[n_copies++] = all;
    t->data = all;
    t->dtype = DTYPE_BF16;
}

static int open_model(void **state)
{
    struct err e = {0};
    (void)state;
    if (access(MODEL_PATH, R_OK) != 0)
        return 0; /* the tests are skipped */
    must(model_open(MODEL_PATH, &model, &e), &e);
    if (!everything)
        model->hparams.n_layers = FEW_LAYERS;
    return 0;
}

static void dequantize_model(void)
{
    struct model_weights *w = &model->weights;
    for (uint32_t i = 0; i < model->hparams.n_layers; i++) {
        struct layer_weights *l = &w->layers[i];
        struct host_tensor *all[] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};
        for (size_t k = 0; k < ARRAY_LEN(all); k++)
            to_bf16(all[k]);
    }
    to_bf16(&w->embed);
    if (model->hparams.tied_embedding)
        w->lm_head = w->embed;
    else
        to_bf16(&w->lm_head);
}

static int close_model(void **state)
{
    (void)state;
    model_free(model);
    for (uint32_t i = 0; i < n_copies; i++)
        free(copies[i]);
    return 0;
}

/* --- text --- */

struct answer {
    struct token_list prompt;
    uint32_t tokens[MAX_TOKENS];
    float *logits; /* [n_tokens][vocab]: each token's */
    uint32_t n_tokens;
};

static uint32_t best_of(const float *l, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        best = l[i] > l[best] ? i : best;
    return best;
}

/* n tokens after the prompt, `led` by given ones (NULL: by its own). */
static void generate(struct rig *rig, const struct token_list *prompt, const uint32_t *led,
                     uint32_t n, struct answer *out)
{
    static struct step st;
    struct sequence seq = {0};
    const size_t vocab = model->hparams.vocab_size;
    rig->next_block = 0;
    assert_true(n <= MAX_TOKENS);
    *out = (struct answer){.n_tokens = n};
    out->logits = malloc(n * vocab * sizeof(float));
    assert_non_null(out->logits);
    for (uint32_t i = 0; i < n; i++) {
        st.batch = (struct batch){0};
        if (i == 0)
            step_add(rig, &st, &seq, prompt->ids, (uint32_t)prompt->n);
        else
            step_add(rig, &st, &seq, &(led ? led : out->tokens)[i - 1], 1);
        step_want(&st, st.batch.n_rows - 1);
        step_run(rig, &st);
        memcpy(out->logits + i * vocab, forward_logits(rig->forward, 0), vocab * sizeof(float));
        out->tokens[i] = best_of(out->logits + i * vocab, (uint32_t)vocab);
    }
}

static double rms_apart(const struct answer *a, const struct answer *b)
{
    const size_t n = (size_t)a->n_tokens * model->hparams.vocab_size;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)a->logits[i] - (double)b->logits[i]) *
               ((double)a->logits[i] - (double)b->logits[i]);
    return sqrt(sum / (double)n);
}

/* The device's tokens are the CPU's, or tie with them. */
static void assert_same_choices(const struct answer *cpu, const struct answer *gpu)
{
    const double rms = rms_apart(cpu, gpu);
    uint32_t n_ties = 0;
    if (!(rms <= MOST_RMS))
        fail_msg("logits differ by %.4f", rms);
    for (uint32_t i = 0; i < cpu->n_tokens; i++) {
        const float *l = cpu->logits + (size_t)i * model->hparams.vocab_size;
        const double gap = (double)l[cpu->tokens[i]] - (double)l[gpu->tokens[i]];
        n_ties += gpu->tokens[i] != cpu->tokens[i];
        if (gap > TIE * rms)
            fail_msg("token %u: %u, not %u, whose logit is %.3f larger (rms %.4f)", i,
                     gpu->tokens[i], cpu->tokens[i], gap, rms);
    }
    print_message("logits apart: rms %.4f; %u of %u tokens tie\n", rms, n_ties, cpu->n_tokens);
}

static void assert_says(const struct answer *a, const char *word)
{
    char text[256] = "";
    for (uint32_t i = 0; i < a->n_tokens; i++) {
        const struct token_text t = tokenizer_bytes(model->tokenizer, a->tokens[i]);
        strncat(text, t.s, t.n < 8 ? t.n : 8);
    }
    print_message("\"%s\"\n", text);
    if (!strstr(text, word))
        fail_msg("\"%s\" does not say \"%s\"", text, word);
}

static void check(struct rig *cpu, struct rig *gpu, const char *prompt, const char *word,
                  uint32_t n)
{
    struct token_list ids = {0};
    struct answer want, got;
    struct err e = {0};
    must(tokenizer_encode(model->tokenizer, prompt, strlen(prompt), 0, &ids, &e), &e);
    generate(cpu, &ids, NULL, n, &want);
    generate(gpu, &ids, want.tokens, n, &got);
    assert_same_choices(&want, &got);
    if (everything)
        assert_says(&want, word);
    free(want.logits);
    free(got.logits);
    token_list_fini(&ids);
}

static void test_text(void **state)
{
    const struct cuda_opts o = {.host_logits = true};
    struct backend *be;
    struct rig cpu, gpu;
    struct err e = {0};
    (void)state;
    if (!model) {
        print_message("%s is not there\n", MODEL_PATH);
        skip();
    }
    stand_in_set_capability(90);
    stand_in_set_memory(1u << 30);
    must(cuda_backend_new(&o, &be, &e), &e);
    rig_init(&gpu, be, model, NULL);
    dequantize_model();
    assert_true(rig_try(&cpu, model, COMPUTE_F32, 2, "auto", NULL));
    check(&cpu, &gpu, "The capital of France is", "Paris", everything ? 4 : 2);
    if (everything)
        check(&cpu, &gpu, "One, two, three, four,", "five", 3);
    rig_close(&gpu);
    rig_close(&cpu);
}

/* --- for a device: tests/gpu/device/text.c reads it --- */

enum { CHOICES = 4 };

/* The best choices of a row of logits, and how far they are from the first. */
static void write_choices(FILE *f, float *l)
{
    float first = 0;
    for (uint32_t i = 0; i < CHOICES; i++) {
        const uint32_t id = best_of(l, model->hparams.vocab_size);
        first = i == 0 ? l[id] : first;
        fprintf(f, "%s%u %.4f", i > 0 ? " " : "", id, (double)(first - l[id]));
        l[id] = -INFINITY;
    }
    fprintf(f, "\n");
}

static int write_file(const char *path)
{
    static const char *const prompts[] = {
        "The capital of France is", "Once upon a time, in a small village by the sea,",
        "Water boils at a temperature of", "def add(a, b):\n    return"};
    struct err e = {0};
    struct rig cpu;
    FILE *f = fopen(path, "w");
    if (!f)
        return 2;
    (void)open_model(NULL);
    dequantize_model();
    assert_true(rig_try(&cpu, model, COMPUTE_F32, 2, "auto", NULL));
    for (size_t k = 0; k < ARRAY_LEN(prompts); k++) {
        struct token_list ids = {0};
        struct answer a;
        must(tokenizer_encode(model->tokenizer, prompts[k], strlen(prompts[k]), 0, &ids, &e), &e);
        generate(&cpu, &ids, NULL, MAX_TOKENS, &a);
        fprintf(f, "%zu %d\n", ids.n, MAX_TOKENS);
        for (size_t i = 0; i < ids.n; i++)
            fprintf(f, "%u%c", ids.ids[i], i + 1 < ids.n ? ' ' : '\n');
        for (uint32_t i = 0; i < MAX_TOKENS; i++)
            write_choices(f, a.logits + (size_t)i * model->hparams.vocab_size);
        free(a.logits);
        token_list_fini(&ids);
    }
    rig_close(&cpu);
    (void)close_model(NULL);
    return fclose(f) == 0 ? 0 : 2;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_text)};
    everything = argc > 1; /* all, write */
    if (argc > 2 && strcmp(argv[1], "write") == 0)
        return write_file(argv[2]);
    return cmocka_run_group_tests(tests, open_model, close_model);
}

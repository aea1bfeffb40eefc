/* text.c - real text from a quantized GGUF file: the device makes BF16 of its weights, and is led along
 * the CPU backend's greedy tokens, which a file has (`test_cuda_gguf write` writes it): prompts, and for
 * each token the next best ones and how much less the CPU thinks of them. Steps of decodes are graphs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/model_int.h"
#include "tests/gpu/device/rig.h"

enum { PROMPT_MAX = 64, CHOICES = 4, CONTEXT = 256, BLOCKS = 67 };

/* Twice what rounding activations to BF16 was seen to turn around on the stand-in. */
static const float TIE = 0.25f;

struct wanted {
    uint32_t ids[CHOICES]; /* the best first */
    float gaps[CHOICES];   /* to it */
};

static bool read_wanted(FILE *f, struct wanted *out)
{
    for (uint32_t i = 0; i < CHOICES; i++)
        if (fscanf(f, "%u %f", &out->ids[i], &out->gaps[i]) != 2)
            return false;
    return true;
}

/* How much worse than the best token the CPU finds this one; negative: it is not among its choices. */
static float gap_of(const struct wanted *w, uint32_t id)
{
    for (uint32_t i = 0; i < CHOICES; i++)
        if (w->ids[i] == id)
            return w->gaps[i];
    return -1;
}

struct counts {
    uint32_t n_prompts, n_tokens, n_ties, n_wrong;
};

static uint32_t greedy(struct rig *r, struct step *s, const uint32_t *tokens, uint32_t n,
                       uint32_t first)
{
    step_clear(s);
    step_add(s, r, 0, tokens, n, first, 1);
    s->samples[0].how.temperature = 0;
    step_run(s, r);
    return s->ids[0];
}

/* "n_prompt n_tokens", the prompt's ids, a line for each token. */
static bool one_prompt(struct rig *r, struct step *s, FILE *f, struct counts *c)
{
    uint32_t prompt[PROMPT_MAX], n_prompt, n_tokens;
    if (fscanf(f, "%u %u", &n_prompt, &n_tokens) != 2 || n_prompt == 0 || n_prompt > PROMPT_MAX ||
        n_prompt + n_tokens > CONTEXT)
        return false;
    for (uint32_t i = 0; i < n_prompt; i++)
        if (fscanf(f, "%u", &prompt[i]) != 1 || prompt[i] >= r->model.hparams.vocab_size)
            return false;
    uint32_t got = greedy(r, s, prompt, n_prompt, 0);
    for (uint32_t i = 0; i < n_tokens; i++) {
        struct wanted w;
        if (!read_wanted(f, &w) || w.ids[0] >= r->model.hparams.vocab_size)
            return false;
        const float gap = gap_of(&w, got);
        c->n_tokens++;
        c->n_ties += got != w.ids[0] && gap >= 0 && gap <= TIE;
        c->n_wrong += gap < 0 || gap > TIE;
        got = greedy(r, s, &w.ids[0], 1, n_prompt + i);
    }
    c->n_prompts++;
    return true;
}

static void open_file(struct rig *r, const char *path)
{
    const struct backend_limits limits = {.max_rows = PROMPT_MAX, .max_seqs = 1, .max_out = 1};
    const struct cuda_opts o = {0};
    const float *divisors = NULL;
    struct attn_shape shape;
    struct gguf *g = NULL;
    struct engine_weights *w = NULL;
    struct err e = {0};
    must(gguf_open(path, &g, &e), "model", &e); /* stays open: the process ends soon */
    must(model_read_hparams(g, &r->model.hparams, &r->model.layer_windows, &e), "model", &e);
    must(model_read_weights(g, &r->model.hparams, &r->model.weights, &divisors, &e), "model", &e);
    must(model_set_rope(&r->model, divisors, &e), "model", &e);
    must(cuda_backend_new(&o, &r->be, &e), "device", &e);
    must(engine_weights_new(r->be, &r->model, NULL, NULL, &w, &e), "weights", &e);
    forward_attn_shape(&r->model, CONTEXT, &shape);
    must(r->be->ops->reserve(r->be, &shape, &limits, BLOCKS, &e), "reserve", &e);
    must(forward_new(r->be, &r->model, w, &shape, &limits, &r->forward, &e), "forward", &e);
    r->cuda = cuda_backend(r->be);
    r->n_blocks = BLOCKS;
}

int text(const char *model, const char *expected)
{
    const struct rig_opts o = {
        .max_rows = PROMPT_MAX, .max_seqs = 1, .max_context = CONTEXT, .n_blocks = BLOCKS};
    static struct rig r;
    struct counts c = {0};
    struct step s;
    FILE *f = fopen(expected, "r");
    if (!f) {
        fprintf(stderr, "%s cannot be read\n", expected);
        return 2;
    }
    open_file(&r, model);
    step_init(&s, &o);
    while (one_prompt(&r, &s, f, &c))
        ;
    const bool ok = feof(f) && c.n_prompts > 0 && c.n_wrong == 0;
    printf("{\"prompts\": %u, \"tokens\": %u, \"ties\": %u, \"wrong\": %u, \"ok\": %s}\n",
           c.n_prompts, c.n_tokens, c.n_ties, c.n_wrong, ok ? "true" : "false");
    (void)fclose(f);
    return ok ? 0 : 1;
}

/* numerics.c - the gates of the backend's arithmetic: logits against F32, where computing in elements
 * is the yardstick; graphs against single launches; pinned kernels against themselves. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gpu/device/rig.h"

enum { MAX_PROMPT = 64, COMPANY = 9, MANY = 32, BLOCKS = 2053 };
enum { LONG_PROMPT = 160, SHOWN = 32 /* of its positions, the last ones */ };

static const double RMS_GATE = 1.3, KL_GATE = 2.0, CLEAR = 4.0;

static struct rig_opts opts_of(uint32_t n_prompt, struct cuda_opts cuda)
{
    return (struct rig_opts){.cuda = cuda,
                             .max_rows = 2 * n_prompt,
                             .max_seqs = 2 * n_prompt,
                             .max_context = 4 * MAX_PROMPT,
                             .n_blocks = BLOCKS};
}

static void make_prompt(uint32_t *tokens, uint32_t n, uint32_t vocab)
{
    uint64_t x = 12345;
    for (uint32_t i = 0; i < n; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        tokens[i] = (uint32_t)((x >> 33) % vocab);
    }
}

static float *floats(size_t n)
{
    float *p = malloc(n * sizeof(*p));
    if (!p)
        exit(2);
    return p;
}

/* --- the reference --- */

static void *take(struct rig *r, size_t n_floats)
{
    return device_new(r, n_floats * sizeof(float));
}

static struct gpu_linear linear_of(const struct weight *w, uint32_t n_rows)
{
    return (struct gpu_linear){.w = w->data,
                               .bias = w->bias,
                               .in_stride = w->cols,
                               .n_rows = n_rows,
                               .n_out = w->rows,
                               .k = gpu_stride(w->cols),
                               .gate_up = w->role == WEIGHT_GATE_UP};
}

static void ref_product(const struct ref *ref, const float *in, const struct weight *w, uint32_t n,
                        float *out)
{
    const struct gpu_linear a = linear_of(w, n);
    must(ref_linear(ref, in, &a, out), "reference", NULL);
}

/* Logits of all n positions, [n][vocab]. */
static void reference(struct rig *r, const uint32_t *tokens, uint32_t n, bool rounded, float *out)
{
    const struct shape *s = r->shape;
    const uint32_t q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
    struct ref ref = r->ref;
    struct err e = {0};
    ref.rounded = rounded;
    float *x = take(r, (size_t)n * s->hidden), *normed = take(r, (size_t)n * s->hidden);
    float *delta = take(r, (size_t)n * s->hidden), *qkv = take(r, (size_t)n * (q + 2 * kv));
    float *attn = take(r, (size_t)n * q), *ffn = take(r, (size_t)n * s->ffn);
    float *logits = take(r, (size_t)n * s->vocab), *pending = NULL;
    uint32_t *ids = device_new(r, n * sizeof(*ids));
    double *freqs = device_new(r, s->head_dim / 2 * sizeof(*freqs));
    must(cuda_upload(r->cuda, ids, tokens, n * sizeof(*ids), &e), "upload", &e);
    must(cuda_upload(r->cuda, freqs, r->model.inv_freq, s->head_dim / 2 * sizeof(*freqs), &e),
         "upload", &e);
    must(ref_embed(&ref, r->weights.embed->data, gpu_stride(s->hidden), ids, n, s->hidden, x),
         "reference", NULL);
    for (uint32_t i = 0; i < s->n_layers; i++) {
        const struct engine_layer *l = &r->weights.layers[i];
        const struct ref_heads rope = {.qkv = qkv,
                                       .inv_freq = freqs,
                                       .q_norm = l->q_norm ? l->q_norm->vector : NULL,
                                       .k_norm = l->k_norm ? l->k_norm->vector : NULL,
                                       .n = n,
                                       .n_heads = s->n_heads,
                                       .n_kv_heads = s->n_kv_heads,
                                       .head_dim = s->head_dim,
                                       .eps = s->eps,
                                       .scale = r->model.rope_scale};
        must(ref_norm(&ref, x, pending, l->attn_norm->vector, n, s->hidden, s->eps, normed),
             "reference", NULL);
        ref_product(&ref, normed, l->qkv, n, qkv);
        must(ref_rope(&ref, &rope), "reference", NULL);
        must(ref_attention(&ref, &rope, attn), "reference", NULL);
        ref_product(&ref, attn, l->o, n, delta);
        must(ref_norm(&ref, x, delta, l->ffn_norm->vector, n, s->hidden, s->eps, normed),
             "reference", NULL);
        ref_product(&ref, normed, l->gate_up, n, ffn);
        ref_product(&ref, ffn, l->down, n, delta);
        pending = delta;
    }
    must(ref_norm(&ref, x, pending, r->weights.final_norm->vector, n, s->hidden, s->eps, normed),
         "reference", NULL);
    ref_product(&ref, normed, r->weights.lm_head, n, logits);
    void *pinned = NULL;
    const size_t bytes = (size_t)n * s->vocab * sizeof(float);
    must(gpu_pinned_alloc(r->cuda->gpu, bytes, &pinned, &e), "pinned", &e);
    must(gpu_copy_out(r->cuda->stream, pinned, logits, bytes), "copy", NULL);
    wait_device(r);
    memcpy(out, pinned, bytes);
    gpu_pinned_free(r->cuda->gpu, pinned);
    void *all[] = {x, normed, delta, qkv, attn, ffn, logits, ids, freqs};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        gpu_free(r->cuda->gpu, all[i]);
}

/* --- the backend's --- */

/* Logits of all positions of a prompt in chunks; beside it, with company, a second one. */
static void run_prompt(struct rig *r, const struct rig_opts *o, const uint32_t *tokens, uint32_t n,
                       uint32_t chunk, bool company, float *out)
{
    const size_t vocab = r->shape->vocab;
    uint32_t other[MAX_PROMPT];
    struct step s;
    step_init(&s, o);
    for (uint32_t i = 0; i < n; i++)
        other[i] = tokens[n - 1 - i];
    for (uint32_t at = 0, k; at < n; at += k) {
        k = n - at < chunk ? n - at : chunk;
        step_clear(&s);
        if (company)
            step_add(&s, r, 1, other + at, k, at, 0);
        step_add(&s, r, 0, tokens + at, k, at, k);
        step_run(&s, r);
        for (uint32_t i = 0; i < k; i++)
            memcpy(out + (at + i) * vocab, forward_logits(r->forward, i), vocab * sizeof(*out));
    }
    step_fini(&s);
}

/* The last position's logits of so many copies of the prompt at once, the first rows of out. */
static void run_batch(struct rig *r, const struct rig_opts *o, const uint32_t *tokens, uint32_t n,
                      uint32_t copies, float *out)
{
    const size_t vocab = r->shape->vocab;
    struct step s;
    step_init(&s, o);
    for (uint32_t i = 0; i < copies; i++) {
        step_clear(&s);
        step_add(&s, r, i, tokens, n - 1, 0, 0);
        step_run(&s, r);
    }
    step_clear(&s);
    for (uint32_t i = 0; i < copies; i++)
        step_add(&s, r, i, tokens + n - 1, 1, n - 1, 1);
    step_run(&s, r);
    for (uint32_t i = 0; i < copies; i++)
        memcpy(out + i * vocab, forward_logits(r->forward, i), vocab * sizeof(*out));
    step_fini(&s);
}

/* --- the gates --- */

struct apart {
    double rms, kl;
    uint32_t n_clear, n_agree; /* positions whose best token F32 tells clearly */
};

static double log_sum_exp(const float *l, uint32_t n)
{
    double max = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++)
        max = fmax(max, (double)l[i]);
    for (uint32_t i = 0; i < n; i++)
        sum += exp((double)l[i] - max);
    return max + log(sum);
}

/* The best token, and how far the second is. */
static uint32_t best_of(const float *l, uint32_t n, double *out_gap)
{
    uint32_t best = 0;
    double second = -INFINITY;
    for (uint32_t i = 1; i < n; i++)
        if (l[i] > l[best]) {
            second = (double)l[best];
            best = i;
        } else if ((double)l[i] > second) {
            second = (double)l[i];
        }
    *out_gap = (double)l[best] - second;
    return best;
}

/* got[step i] against want[i], n rows. clear: the gap of logits from which a token must agree. */
static struct apart compare(const float *got, const float *want, uint32_t n, uint32_t vocab,
                            double clear)
{
    struct apart a = {0};
    for (uint32_t i = 0; i < n; i++) {
        const float *g = got + (size_t)i * vocab, *w = want + (size_t)i * vocab;
        const double lg = log_sum_exp(g, vocab), lw = log_sum_exp(w, vocab);
        double gap, other;
        for (uint32_t t = 0; t < vocab; t++) {
            const double d = (double)g[t] - (double)w[t];
            a.rms += d * d;
            a.kl += exp((double)w[t] - lw) * (((double)w[t] - lw) - ((double)g[t] - lg));
        }
        const uint32_t best = best_of(w, vocab, &gap);
        if (gap > clear) {
            a.n_clear++;
            a.n_agree += best_of(g, vocab, &other) == best;
        }
    }
    a.rms = sqrt(a.rms / ((double)n * vocab));
    a.kl /= n;
    return a;
}

/* Prints one comparison and tells whether its gates hold. */
static bool gate(const char *name, const float *got, const float *exact, const float *rounded,
                 uint32_t n, uint32_t vocab)
{
    const struct apart noise = compare(rounded, exact, n, vocab, INFINITY);
    const struct apart a = compare(got, exact, n, vocab, CLEAR * noise.rms);
    const bool ok =
        a.rms <= RMS_GATE * noise.rms && a.kl <= KL_GATE * noise.kl && a.n_agree == a.n_clear;
    printf("\"%s\": {\"rms\": %.6g, \"rms_yardstick\": %.6g, \"kl\": %.4g, \"kl_yardstick\": %.4g, "
           "\"clear\": %u, \"agree\": %u, \"ok\": %s}, ",
           name, a.rms, noise.rms, a.kl, noise.kl, a.n_clear, a.n_agree, ok ? "true" : "false");
    return ok;
}

static bool say(const char *name, bool ok)
{
    printf("\"%s\": %s, ", name, ok ? "true" : "false");
    return ok;
}

/* Logits of the kernels that the backend chooses: prefill, single rows, batches of rows. */
static bool check_logits(const struct shape *s, uint32_t n, uint32_t capability)
{
    const struct cuda_opts cuda = {.host_logits = true, .force_capability = capability};
    const struct rig_opts o = opts_of(n, cuda);
    const size_t all = (size_t)n * s->vocab;
    uint32_t tokens[MAX_PROMPT];
    float *exact = floats(all), *rounded = floats(all), *got = floats(all);
    struct rig r;
    bool ok;
    make_prompt(tokens, n, s->vocab);
    rig_open(&r, s, &o);
    reference(&r, tokens, n, false, exact);
    reference(&r, tokens, n, true, rounded);
    printf("\"%s\": {", capability == 75 ? "forced_sm75_f16" : "own");
    run_prompt(&r, &o, tokens, n, n, false, got);
    ok = gate("prefill", got, exact, rounded, n, s->vocab);
    run_prompt(&r, &o, tokens, n, 1, false, got);
    ok &= gate("one_row", got, exact, rounded, n, s->vocab);
    run_prompt(&r, &o, tokens, n, 5, true, got);
    ok &= gate("chunks_in_company", got, exact, rounded, n, s->vocab);
    run_batch(&r, &o, tokens, n, COMPANY, got);
    bool same = true;
    for (uint32_t i = 1; i < COMPANY; i++)
        same &= memcmp(got, got + (size_t)i * s->vocab, s->vocab * sizeof(*got)) == 0;
    ok &= say("batch_rows_equal", same);
    const size_t last = (size_t)(n - 1) * s->vocab;
    const struct apart noise = compare(rounded, exact, n, s->vocab, INFINITY);
    const struct apart a = compare(got, exact + last, 1, s->vocab, INFINITY);
    ok &= say("batch", a.rms <= 1.5 * RMS_GATE * noise.rms); /* one position: it scatters more */
    printf("\"ok\": %s}, ", ok ? "true" : "false");
    rig_close(&r);
    free(exact);
    free(rounded);
    free(got);
    return ok;
}

/* Prompts of more rows than the kernels that stream weights take: tiles, or cuBLASLt where that is
 * faster. */
static bool check_many_rows(const struct shape *s, const char *name, uint32_t n, uint32_t n_shown,
                            struct cuda_opts cuda)
{
    cuda.host_logits = true;
    const struct rig_opts o = opts_of(n, cuda);
    const size_t skipped = (size_t)(n - n_shown) * s->vocab;
    uint32_t tokens[LONG_PROMPT];
    float *exact = floats((size_t)n * s->vocab), *rounded = floats((size_t)n * s->vocab);
    float *got = floats((size_t)n_shown * s->vocab);
    struct rig r;
    struct step st;
    make_prompt(tokens, n, s->vocab);
    rig_open(&r, s, &o);
    reference(&r, tokens, n, false, exact);
    reference(&r, tokens, n, true, rounded);
    step_init(&st, &o);
    step_add(&st, &r, 0, tokens, n, 0, n_shown);
    step_run(&st, &r);
    for (uint32_t i = 0; i < n_shown; i++)
        memcpy(got + (size_t)i * s->vocab, forward_logits(r.forward, i), s->vocab * sizeof(*got));
    const bool ok = gate(name, got, exact + skipped, rounded + skipped, n_shown, s->vocab);
    step_fini(&st);
    rig_close(&r);
    free(exact);
    free(rounded);
    free(got);
    return ok;
}

static bool check_prompts(const struct shape *s, uint32_t n, uint32_t n_shown)
{
    const struct cuda_opts older = {.force_capability = 75}, library = {.blas = rig_library()};
    bool ok = check_many_rows(s, "many_rows", n, n_shown, (struct cuda_opts){0});
    ok &= check_many_rows(s, "many_rows_forced_sm75_f16", n, n_shown, older);
    return !library.blas ? ok : check_many_rows(s, "many_rows_cublaslt", n, n_shown, library) && ok;
}

/* With pinned kernels a row has the same bits in any chunk and company. */
static bool check_pinned(const struct shape *s, uint32_t n, uint32_t capability)
{
    const struct cuda_opts cuda = {
        .host_logits = true, .pin_kernels = true, .force_capability = capability};
    const struct rig_opts o = opts_of(n, cuda);
    const size_t bytes = (size_t)n * s->vocab * sizeof(float);
    uint32_t tokens[MAX_PROMPT];
    float *whole = floats(bytes / sizeof(float)), *other = floats(bytes / sizeof(float));
    struct rig r;
    bool ok;
    make_prompt(tokens, n, s->vocab);
    rig_open(&r, s, &o);
    run_prompt(&r, &o, tokens, n, n, false, whole);
    run_prompt(&r, &o, tokens, n, 7, false, other);
    ok = say("chunked_equals_whole", memcmp(whole, other, bytes) == 0);
    run_prompt(&r, &o, tokens, n, n, true, other);
    ok &= say("company_equals_alone", memcmp(whole, other, bytes) == 0);
    const size_t row = s->vocab;
    const uint32_t copies = n < MANY ? n : MANY;
    run_batch(&r, &o, tokens, n, copies, other);
    bool same = true;
    for (uint32_t i = 0; i < copies; i++)
        same &= memcmp(whole + (n - 1) * row, other + i * row, row * sizeof(*other)) == 0;
    ok &= say("many_decodes_equal_prefill", same);
    rig_close(&r);
    free(whole);
    free(other);
    return ok;
}

enum { DECODES = 4 };

struct trace {
    uint32_t ids[DECODES][COMPANY];
    struct sample_logprobs logprobs[DECODES][COMPANY];
};

/* The same sequences in each step, which is enqueued before the one in front of it is read, or after. */
static void decode_on(const struct shape *s, bool ahead, struct trace *t)
{
    const struct rig_opts o = opts_of(MAX_PROMPT, (struct cuda_opts){0});
    uint32_t token[COMPANY];
    struct step steps[STEPS_IN_FLIGHT];
    struct rig r;
    memset(t, 0, sizeof(*t));
    make_prompt(token, COMPANY, s->vocab);
    rig_open(&r, s, &o);
    for (uint32_t i = 0; i < STEPS_IN_FLIGHT; i++)
        step_init(&steps[i], &o);
    for (uint32_t k = 0; k <= DECODES; k++) {
        struct step *now = &steps[k % STEPS_IN_FLIGHT], *before = &steps[1 - k % STEPS_IN_FLIGHT];
        step_clear(now);
        for (uint32_t i = 0; i < COMPANY && k < DECODES; i++) {
            step_add(now, &r, i, k > 0 && !ahead ? &before->ids[i] : &token[i], 1, k, 1);
            now->samples[i].logprobs = &t->logprobs[k][i];
        }
        if (k < DECODES && ahead)
            step_post(now, &r, k > 0);
        else if (k < DECODES)
            step_run(now, &r);
        if (k > 0 && ahead)
            step_collect(&r);
        if (k > 0)
            memcpy(t->ids[k - 1], before->ids, sizeof(t->ids[0]));
    }
    for (uint32_t i = 0; i < STEPS_IN_FLIGHT; i++)
        step_fini(&steps[i]);
    rig_close(&r);
}

/* Tokens and their log probabilities of sequences that go on by what was drawn. */
static void decode(const struct shape *s, struct cuda_opts cuda, struct trace *t)
{
    static const uint32_t sizes[DECODES] = {3, 1, COMPANY, 3};
    const struct rig_opts o = opts_of(MAX_PROMPT, cuda);
    uint32_t token[COMPANY], length[COMPANY] = {0};
    struct rig r;
    struct step st;
    memset(t, 0, sizeof(*t));
    make_prompt(token, COMPANY, s->vocab);
    rig_open(&r, s, &o);
    step_init(&st, &o);
    for (uint32_t k = 0; k < DECODES; k++) {
        step_clear(&st);
        for (uint32_t i = 0; i < sizes[k]; i++) {
            step_add(&st, &r, i, &token[i], 1, length[i]++, 1);
            st.samples[i].logprobs = &t->logprobs[k][i];
        }
        step_run(&st, &r);
        memcpy(t->ids[k], st.ids, sizes[k] * sizeof(st.ids[0]));
        memcpy(token, st.ids, sizes[k] * sizeof(st.ids[0]));
    }
    step_fini(&st);
    rig_close(&r);
}

static bool check_graphs(const struct shape *s)
{
    static struct trace plain, other;
    bool ok;
    decode(s, (struct cuda_opts){.no_graphs = true, .no_chains = true}, &plain);
    decode(s, (struct cuda_opts){.no_chains = true}, &other);
    ok = say("graph_equals_eager", memcmp(&plain, &other, sizeof(plain)) == 0);
    decode(s, (struct cuda_opts){.no_graphs = true}, &other);
    ok &= say("chained_equals_eager", memcmp(&plain, &other, sizeof(plain)) == 0);
    decode(s, (struct cuda_opts){0}, &other);
    ok &= say("chained_graph_equals_eager", memcmp(&plain, &other, sizeof(plain)) == 0);
    return ok;
}

static bool check_ahead(const struct shape *s)
{
    static struct trace read_first, ahead;
    decode_on(s, false, &read_first);
    decode_on(s, true, &ahead);
    return say("ahead_equals_read_first", memcmp(&read_first, &ahead, sizeof(ahead)) == 0);
}

int numerics(bool tiny)
{
    const struct shape *list;
    const uint32_t n = shapes(tiny, &list), n_prompt = tiny ? 10 : MAX_PROMPT;
    const uint32_t n_long = tiny ? GPU_SKINNY + 2 : LONG_PROMPT, n_shown = tiny ? 4 : SHOWN;
    bool all = true;
    printf("{\"models\": {");
    for (uint32_t i = 0; i < n; i++) {
        bool ok = true;
        printf("%s\"%s\": {", i > 0 ? ", " : "", list[i].name);
        ok &= check_logits(&list[i], n_prompt, 0);
        ok &= check_logits(&list[i], n_prompt, 75);
        ok &= check_pinned(&list[i], n_prompt, 0);
        ok &= check_graphs(&list[i]);
        ok &= check_ahead(&list[i]);
        if (!tiny || i == 0) { /* on the host it takes its time */
            ok &= check_prompts(&list[i], n_long, n_shown);
            ok &= check_sampling(&list[i], tiny);
        }
        printf("\"ok\": %s}", ok ? "true" : "false");
        fflush(stdout);
        all &= ok;
    }
    printf("}, \"ok\": %s}\n", all ? "true" : "false");
    return all ? 0 : 1;
}

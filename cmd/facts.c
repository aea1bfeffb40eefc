/* facts.c - see facts.h. */
#include "cmd/facts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/engine/forward.h"
#include "core/util/json.h"
#include "core/util/printable.h"

static const double MIB = 1 << 20;

/* --- numbers --- */

static void count_tensor(const struct host_tensor *t, struct facts *f)
{
    if (!t->data)
        return;
    f->bytes_of[t->dtype] += host_tensor_bytes(t);
    f->n_params += t->rows * t->cols;
}

static void count_weights(const struct model *m, struct facts *f)
{
    const struct model_weights *w = &m->weights;
    count_tensor(&w->embed, f);
    count_tensor(&w->final_norm, f);
    if (!m->hparams.tied_embedding)
        count_tensor(&w->lm_head, f);
    for (uint32_t i = 0; i < m->hparams.n_layers; i++) {
        const struct host_tensor *all[LAYER_TENSORS_MAX];
        uint32_t n = layer_tensors(&w->layers[i], all);
        for (uint32_t k = 0; k < n; k++)
            count_tensor(all[k], f);
    }
}

/* Asks the CPU backend: bytes of the cache, and whether it takes heads of this shape at all. */
static void probe_backend(const struct model *m, enum compute_type compute, struct facts *f)
{
    const struct cpu_opts o = {.n_threads = 1, .compute = compute, .isa = "auto"};
    const struct backend_limits one = {.max_rows = 1, .max_seqs = 1, .max_out = 1};
    struct attn_shape shape;
    struct backend *be;
    struct err e = {0};
    forward_attn_shape(m, 1, &shape);
    if (cpu_backend_new(&o, &be, &e) == 0) {
        f->kv_token_bytes = be->ops->kv_block_bytes(be, &shape) / KV_BLOCK_TOKENS;
        (void)!be->ops->reserve(be, &shape, &one, 1, &e);
        be->ops->free(be);
    }
    snprintf(f->fault, sizeof(f->fault), "%s", e.msg);
}

void facts_of(const struct model *m, enum compute_type compute, struct facts *out)
{
    *out = (struct facts){0};
    count_weights(m, out);
    probe_backend(m, compute, out);
}

void facts_add_dtypes(const struct facts *f, struct buf *out)
{
    size_t left[DTYPE_COUNT];
    memcpy(left, f->bytes_of, sizeof(left));
    for (bool first = true;; first = false) {
        int best = 0;
        for (int i = 1; i < DTYPE_COUNT; i++)
            if (left[i] > left[best])
                best = i;
        if (left[best] == 0)
            return;
        buf_addf(out, "%s%s", first ? "" : " + ", dtype_name((enum dtype)best));
        left[best] = 0;
    }
}

static const char *scaling_name(enum rope_scaling s)
{
    static const char *const names[] = {
        [ROPE_SCALING_NONE] = "none",
        [ROPE_SCALING_LINEAR] = "linear",
        [ROPE_SCALING_LLAMA3] = "llama3",
        [ROPE_SCALING_YARN] = "yarn",
    };
    return names[s];
}

/* The window of those layers that have one, and how many these are. */
static uint32_t window_of(const struct model *m, uint32_t *out_layers)
{
    uint32_t window = 0;
    *out_layers = 0;
    for (uint32_t i = 0; m->layer_windows && i < m->hparams.n_layers; i++)
        if (m->layer_windows[i] > 0) {
            window = m->layer_windows[i];
            ++*out_layers;
        }
    return window;
}

/* --- as text --- */

/* Text of the model, made fit for a terminal, in single quotes. */
static void add_quoted(struct buf *out, const char *s, size_t n)
{
    char shown[128];
    printable_text(s, n, "", shown, sizeof(shown));
    buf_addf(out, "'%s'", shown);
}

static void print_shape(const struct model *m, const struct facts *f, struct buf *out)
{
    const struct hparams *h = &m->hparams;
    buf_addf(out, "  architecture   %s: %u layers of %u, feed-forward %u\n", arch_name(h->arch),
             h->n_layers, h->hidden_size, h->ffn_size);
    buf_addf(out, "  attention      %u heads of %u, %u of keys and values\n", h->n_heads,
             h->head_dim, h->n_kv_heads);
    buf_addf(out, "  parameters     %.1f million%s\n", (double)f->n_params / 1e6,
             h->tied_embedding ? " (head and embedding are one)" : "");
    buf_addf(out, "  weights        %.1f MiB, ", (double)m->weights.total_bytes / MIB);
    facts_add_dtypes(f, out);
    buf_addch(out, '\n');
}

static void print_context(const struct model *m, const struct facts *f, struct buf *out)
{
    const struct hparams *h = &m->hparams;
    uint32_t n_layers, window = window_of(m, &n_layers);
    buf_addf(out, "  context        %u tokens, RoPE theta %.9g", h->context_length,
             (double)h->rope_theta);
    if (h->rope_scaling != ROPE_SCALING_NONE)
        buf_addf(out, ", %s scaling by %g", scaling_name(h->rope_scaling),
                 (double)h->scaling.factor);
    if (h->rope_scaling == ROPE_SCALING_LLAMA3 || h->rope_scaling == ROPE_SCALING_YARN)
        buf_addf(out, " from %u tokens", h->scaling.original_context);
    if (m->rope_divided)
        buf_addstr(out, ", scaled by the tensor rope_freqs");
    if (window > 0)
        buf_addf(out, "; a window of %u tokens in %u layers", window, n_layers);
    buf_addf(out, "\n  KV cache       %.1f KiB per token, %.1f MiB for the whole context\n",
             (double)f->kv_token_bytes / 1024, (double)f->kv_token_bytes * h->context_length / MIB);
}

static void print_text_side(const struct model *m, struct buf *out)
{
    uint32_t n_eos = 0;
    const uint32_t *eos = tokenizer_eos_ids(m->tokenizer, &n_eos);
    const char *split = tokenizer_pretokenizer(m->tokenizer);
    buf_addf(out, "  tokenizer      %u tokens, %s%s", tokenizer_n_tokens(m->tokenizer),
             split ? "byte-level BPE split as " : "SentencePiece-style BPE", split ? split : "");
    if (m->bos_token[0]) {
        buf_addstr(out, ", bos ");
        add_quoted(out, m->bos_token, strlen(m->bos_token));
    }
    for (uint32_t i = 0; i < n_eos; i++) {
        struct token_text t = tokenizer_bytes(m->tokenizer, eos[i]);
        buf_addf(out, "%s %u ", i ? "," : ", ends at", eos[i]);
        add_quoted(out, t.s, t.n);
    }
    buf_addstr(out, "\n  chat template  ");
    if (m->chat_template_fault)
        buf_addf(out, "%s, cannot be used: %s\n", m->chat_template_origin, m->chat_template_fault);
    else if (m->chat_template)
        buf_addf(out, "%s (%zu bytes)\n", m->chat_template_origin, strlen(m->chat_template_source));
    else
        buf_addstr(out, "none: only /v1/completions will answer\n");
}

/* Settings of generation that the model's makers ship. */
static void list_defaults(const struct model *m, struct buf *out, bool json)
{
    const struct generation_defaults *d = &m->defaults;
    const struct {
        const char *name;
        double v;
    } all[] = {
        {"temperature", (double)d->temperature},
        {"top_p", (double)d->top_p},
        {"top_k", d->top_k >= 0 ? d->top_k : (double)NAN},
        {"min_p", (double)d->min_p},
        {"repetition_penalty", (double)d->repetition_penalty},
    };
    bool any = false;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (json) {
            buf_addf(out, "%s\"%s\":", i ? "," : "", all[i].name);
            if (isnan(all[i].v))
                buf_addstr(out, "null");
            else
                buf_addf(out, "%g", all[i].v);
        } else if (!isnan(all[i].v)) {
            buf_addf(out, "%s%s %g", any ? ", " : "", all[i].name, all[i].v);
            any = true;
        }
    }
    if (!json && !any)
        buf_addstr(out, "no settings of its own");
}

void facts_print(const struct model *m, const struct facts *f, struct buf *out)
{
    buf_addf(out, "%s (%s)\n", m->display_name, m->path);
    print_shape(m, f, out);
    print_context(m, f, out);
    print_text_side(m, out);
    buf_addstr(out, "  generation     ");
    list_defaults(m, out, false);
    buf_addf(out, "\n  runs on        %s%s\n", f->fault[0] ? "nothing here: " : "cpu", f->fault);
}

/* --- as JSON --- */

static void json_shape(const struct model *m, const struct facts *f, struct buf *out)
{
    const struct hparams *h = &m->hparams;
    struct buf types = {0};
    facts_add_dtypes(f, &types);
    buf_addf(out, "\"architecture\":\"%s\",\"layers\":%u,\"hidden_size\":%u,\"ffn_size\":%u,",
             arch_name(h->arch), h->n_layers, h->hidden_size, h->ffn_size);
    buf_addf(out, "\"heads\":%u,\"kv_heads\":%u,\"head_dim\":%u,\"vocabulary\":%u,", h->n_heads,
             h->n_kv_heads, h->head_dim, h->vocab_size);
    buf_addf(out, "\"parameters\":%llu,\"tied_embedding\":%s,\"dtype\":\"%s\",",
             (unsigned long long)f->n_params, h->tied_embedding ? "true" : "false",
             buf_str(&types));
    buf_addf(out, "\"weight_bytes\":%zu,\"bytes_by_dtype\":{", m->weights.total_bytes);
    for (int i = 0, n = 0; i < DTYPE_COUNT; i++)
        if (f->bytes_of[i] > 0)
            buf_addf(out, "%s\"%s\":%zu", n++ ? "," : "", dtype_name((enum dtype)i),
                     f->bytes_of[i]);
    buf_addstr(out, "},");
    out->failed |= types.failed;
    buf_fini(&types);
}

static void json_context(const struct model *m, const struct facts *f, struct buf *out)
{
    const struct hparams *h = &m->hparams;
    uint32_t n_layers, window = window_of(m, &n_layers);
    buf_addf(out, "\"context_length\":%u,\"rope_theta\":%.9g,\"rope_scaling\":", h->context_length,
             (double)h->rope_theta);
    if (h->rope_scaling == ROPE_SCALING_NONE)
        buf_addstr(out, "null,");
    else
        buf_addf(out, "{\"type\":\"%s\",\"factor\":%g,\"original_context\":%u},",
                 scaling_name(h->rope_scaling), (double)h->scaling.factor,
                 h->scaling.original_context);
    buf_addf(out, "\"rope_freqs\":%s,", m->rope_divided ? "true" : "false");
    buf_addf(out, "\"sliding_window\":%u,\"sliding_layers\":%u,", window, n_layers);
    buf_addf(out, "\"kv_bytes_per_token\":%llu,\"kv_bytes_whole_context\":%llu,",
             (unsigned long long)f->kv_token_bytes,
             (unsigned long long)f->kv_token_bytes * h->context_length);
}

static void json_text_side(const struct model *m, struct buf *out)
{
    uint32_t n_eos = 0;
    const uint32_t *eos = tokenizer_eos_ids(m->tokenizer, &n_eos);
    const char *split = tokenizer_pretokenizer(m->tokenizer);
    buf_addf(out, "\"tokenizer\":{\"kind\":\"%s\",\"pretokenizer\":",
             split ? "byte-level" : "sentencepiece");
    json_add_cstr(out, split);
    buf_addf(out, ",\"tokens\":%u,\"bos_token\":", tokenizer_n_tokens(m->tokenizer));
    json_add_cstr(out, m->bos_token[0] ? m->bos_token : NULL);
    buf_addstr(out, ",\"eos_token\":");
    json_add_cstr(out, m->eos_token[0] ? m->eos_token : NULL);
    buf_addstr(out, ",\"eos_ids\":[");
    for (uint32_t i = 0; i < n_eos; i++)
        buf_addf(out, "%s%u", i ? "," : "", eos[i]);
    buf_addf(out, "]},\"chat_template\":%s,\"chat_template_origin\":",
             m->chat_template ? "true" : "false");
    json_add_cstr(out, m->chat_template_origin);
    buf_addstr(out, ",\"chat_template_fault\":");
    json_add_cstr(out, m->chat_template_fault);
    buf_addstr(out, ",\"generation\":{");
    list_defaults(m, out, true);
    buf_addch(out, '}');
}

void facts_print_json(const struct model *m, const struct facts *f, struct buf *out)
{
    buf_addstr(out, "{\"path\":");
    json_add_cstr(out, m->path);
    buf_addstr(out, ",\"display_name\":");
    json_add_cstr(out, m->display_name);
    buf_addch(out, ',');
    json_shape(m, f, out);
    json_context(m, f, out);
    json_text_side(m, out);
    buf_addf(out, ",\"supported\":%s,\"fault\":", f->fault[0] ? "false" : "true");
    json_add_cstr(out, f->fault[0] ? f->fault : NULL);
    buf_addch(out, '}');
}

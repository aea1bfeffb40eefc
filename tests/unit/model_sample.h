/* model_sample.h - a llama of two layers in a GGUF file of 28 KB, less what a test wants left out. */
#pragma once
#include <stdio.h>

#include "core/model/model_int.h"
#include "tests/unit/gguf_writer.h"

enum {
    SAMPLE_LAYERS = 2,
    SAMPLE_HIDDEN = 12,
    SAMPLE_HEADS = 2,
    SAMPLE_KV_HEADS = 1,
    SAMPLE_HEAD_DIM = 6,
    SAMPLE_FFN = 20,
    SAMPLE_VOCAB = 260,
};

static const char sample_template[] =
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] }}{% endfor %}";

/* The 256 bytes in the byte-level alphabet, one merge, three control tokens. */
static inline void sample_vocab(struct gguf_writer *w, const char *without)
{
    static const char *const control[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    if (strcmp(without, "tokenizer.ggml.tokens") != 0) {
        gw_array(w, "tokenizer.ggml.tokens", GGUF_STRING, SAMPLE_VOCAB);
        for (size_t i = 0; i < ARRAY_LEN(control); i++)
            gw_put_str(&w->kvs, control[i]);
        for (unsigned b = 0, other = 256; b < 256; b++) {
            bool plain = (b > 0x20 && b < 0x7f) || (b > 0xa0 && b != 0xad);
            unsigned cp = plain ? b : other++;
            char text[3] = {(char)cp, 0, 0};
            if (cp >= 0x80) {
                text[0] = (char)(0xc0 | cp >> 6);
                text[1] = (char)(0x80 | (cp & 0x3f));
            }
            gw_put_str(&w->kvs, text);
        }
        gw_put_str(&w->kvs, "ab");
    }
    if (strcmp(without, "tokenizer.ggml.token_type") != 0) {
        gw_array(w, "tokenizer.ggml.token_type", GGUF_I32, SAMPLE_VOCAB);
        for (uint32_t i = 0; i < SAMPLE_VOCAB; i++)
            gw_put_u32(&w->kvs, i < ARRAY_LEN(control) ? 3 : 1);
    }
    if (strcmp(without, "tokenizer.ggml.merges") != 0)
        gw_strings(w, "tokenizer.ggml.merges", (const char *const[]){"a b"}, 1);
}

static inline void sample_keys(struct gguf_writer *w, const char *without)
{
    static const struct {
        const char *key;
        uint32_t v;
    } numbers[] = {
        {"llama.block_count", SAMPLE_LAYERS},
        {"llama.context_length", 512},
        {"llama.embedding_length", SAMPLE_HIDDEN},
        {"llama.feed_forward_length", SAMPLE_FFN},
        {"llama.attention.head_count", SAMPLE_HEADS},
        {"llama.attention.head_count_kv", SAMPLE_KV_HEADS},
        {"llama.rope.dimension_count", SAMPLE_HEAD_DIM},
        {"llama.vocab_size", SAMPLE_VOCAB},
        {"tokenizer.ggml.bos_token_id", 1},
        {"tokenizer.ggml.eos_token_id", 2},
    };
    static const struct {
        const char *key, *v;
    } texts[] = {
        {"general.architecture", "llama"},
        {"general.name", "Tiny llama"},
        {"tokenizer.ggml.model", "gpt2"},
        {"tokenizer.ggml.pre", "smollm"},
        {"tokenizer.chat_template", sample_template},
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (strcmp(texts[i].key, without) != 0)
            gw_str(w, texts[i].key, texts[i].v);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (strcmp(numbers[i].key, without) != 0)
            gw_u32(w, numbers[i].key, numbers[i].v);
    if (strcmp(without, "llama.rope.freq_base") != 0)
        gw_f32(w, "llama.rope.freq_base", 100000.0f);
    if (strcmp(without, "llama.attention.layer_norm_rms_epsilon") != 0)
        gw_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    if (strcmp(without, "tokenizer.ggml.add_bos_token") != 0)
        gw_bool(w, "tokenizer.ggml.add_bos_token", 0);
    sample_vocab(w, without);
}

static inline void sample_matrix(struct gguf_writer *w, const char *name, uint64_t rows,
                                 uint64_t cols, const char *without)
{
    if (strcmp(name, without) != 0)
        gw_tensor(w, name, rows == 1 ? 1 : 2, (uint64_t[]){cols, rows}, GW_F32,
                  (size_t)(rows * cols) * 4);
}

static inline void sample_tensors(struct gguf_writer *w, const char *without)
{
    static const struct {
        const char *name;
        uint64_t rows, cols;
    } layer[] = {
        {"attn_norm", 1, SAMPLE_HIDDEN},
        {"attn_q", SAMPLE_HEADS * SAMPLE_HEAD_DIM, SAMPLE_HIDDEN},
        {"attn_k", SAMPLE_KV_HEADS * SAMPLE_HEAD_DIM, SAMPLE_HIDDEN},
        {"attn_v", SAMPLE_KV_HEADS * SAMPLE_HEAD_DIM, SAMPLE_HIDDEN},
        {"attn_output", SAMPLE_HIDDEN, SAMPLE_HEADS * SAMPLE_HEAD_DIM},
        {"ffn_norm", 1, SAMPLE_HIDDEN},
        {"ffn_gate", SAMPLE_FFN, SAMPLE_HIDDEN},
        {"ffn_up", SAMPLE_FFN, SAMPLE_HIDDEN},
        {"ffn_down", SAMPLE_HIDDEN, SAMPLE_FFN},
    };
    char name[64];
    sample_matrix(w, "token_embd.weight", SAMPLE_VOCAB, SAMPLE_HIDDEN, without);
    for (unsigned i = 0; i < SAMPLE_LAYERS; i++)
        for (size_t j = 0; j < ARRAY_LEN(layer); j++) {
            snprintf(name, sizeof(name), "blk.%u.%s.weight", i, layer[j].name);
            sample_matrix(w, name, layer[j].rows, layer[j].cols, without);
        }
    sample_matrix(w, "output_norm.weight", 1, SAMPLE_HIDDEN, without);
}

/* Everything but the one key or tensor named (NULL: everything); the head is tied. */
static inline void sample_model(struct gguf_writer *w, const char *without)
{
    sample_keys(w, without ? without : "");
    sample_tensors(w, without ? without : "");
}

/* Opens what the writer holds; frees everything but the model. */
static inline int open_model(struct gguf_writer *w, struct buf *file, struct model **out,
                             struct err *e)
{
    struct gguf *g;
    gw_finish(w, file);
    gw_fini(w);
    int rc = gguf_open_memory(file->data, file->len, "mem", &g, e);
    if (rc)
        return rc;
    rc = model_from_gguf(g, out, e);
    if (rc)
        gguf_close(g);
    return rc;
}

/* logits_golden.h - reads the golden logits that gen_logits.py wrote.
 *
 * The format is described in tests/golden/README.md. Every count is checked against the file, so
 * a damaged golden is an error, not a crash. Everything points into the mapping.
 *
 *     struct logits_golden g;
 *     int rc = logits_golden_open(&g, path, &e);
 *     for (uint32_t i = 0; i < g.n_prompts; i++)
 *         for (uint32_t j = 0; j < g.prompts[i].n_positions; j++) {
 *             struct logits_position p = logits_golden_position(&g, i, j);
 *             ... p.position, p.lse, p.top_ids[g.top_k], p.top_logits[g.top_k]
 *         }
 *     logits_golden_close(&g); */
#pragma once
#include <stdlib.h>
#include <string.h>

#include "core/util/base.h"
#include "core/util/err.h"
#include "core/util/fsio.h"

#define LOGITS_GOLDEN_MAGIC "LLMDLOGI"
enum { LOGITS_GOLDEN_VERSION = 1, LOGITS_GOLDEN_MAX_PROMPTS = 4096 };

/* As they stand in the file: little endian, every member 4-byte aligned. */
struct logits_golden_header {
    char magic[8];
    uint32_t version, n_prompts, vocab_size, top_k, n_greedy, reserved;
    uint8_t model_sha256[32]; /* of the GGUF file that the goldens were made from */
};

struct logits_golden_prompt_header {
    char label[16]; /* NUL padded */
    uint32_t n_tokens, n_positions;
};

struct logits_prompt {
    char label[17];
    uint32_t n_tokens, n_positions;
    const uint32_t *ids;        /* [n_tokens] */
    const uint32_t *positions;  /* n_positions records of 2 + 2 top_k words */
    const uint32_t *greedy_ids; /* [n_greedy] what follows the prompt at temperature 0 */
    const float *greedy_margin; /* [n_greedy] best minus second best logit of that step */
};

struct logits_position {
    uint32_t position; /* index of the prompt token after which these logits stand */
    float lse;         /* log of the sum of exp(logit) over the vocabulary */
    const uint32_t *top_ids;
    const float *top_logits; /* [top_k], largest first */
};

struct logits_golden {
    struct file_map map;
    uint32_t n_prompts, vocab_size, top_k, n_greedy;
    uint8_t model_sha256[32];
    struct logits_prompt *prompts; /* [n_prompts] */
};

static inline void logits_golden_close(struct logits_golden *g)
{
    free(g->prompts);
    file_map_close(&g->map);
    *g = (struct logits_golden){0};
}

/* Takes n words from the file; NULL when fewer are left. */
static inline const uint32_t *logits_golden_words(const struct logits_golden *g, size_t *at,
                                                  uint64_t n)
{
    if (n > (g->map.size_bytes - *at) / sizeof(uint32_t))
        return NULL;
    const uint32_t *p = (const uint32_t *)(const void *)((const char *)g->map.data + *at);
    *at += (size_t)n * sizeof(uint32_t);
    return p;
}

static inline bool logits_golden_read_prompt(const struct logits_golden *g, size_t *at,
                                             struct logits_prompt *out)
{
    struct logits_golden_prompt_header h;
    const uint32_t *p = logits_golden_words(g, at, sizeof(h) / sizeof(uint32_t));
    if (!p)
        return false;
    memcpy(&h, p, sizeof(h));
    *out = (struct logits_prompt){.n_tokens = h.n_tokens, .n_positions = h.n_positions};
    memcpy(out->label, h.label, sizeof(h.label));
    out->ids = logits_golden_words(g, at, h.n_tokens);
    out->positions = logits_golden_words(g, at, h.n_positions * (2 + 2 * (uint64_t)g->top_k));
    out->greedy_ids = logits_golden_words(g, at, g->n_greedy);
    out->greedy_margin = (const float *)(const void *)logits_golden_words(g, at, g->n_greedy);
    if (!out->ids || !out->positions || !out->greedy_ids || !out->greedy_margin)
        return false;
    for (uint32_t i = 0; i < h.n_tokens; i++)
        if (out->ids[i] >= g->vocab_size)
            return false;
    return h.n_tokens > 0;
}

/* EPARSE for what is no golden file of this version. */
MUST_CHECK static inline int logits_golden_open(struct logits_golden *out, const char *path,
                                                struct err *e)
{
    struct logits_golden g = {0};
    struct logits_golden_header h;
    int rc = file_map_open(&g.map, path, e);
    if (rc)
        return rc;
    rc = err_set(NULL, LLMD_EPARSE, "%s", path);
    size_t at = sizeof(h);
    if (g.map.size_bytes < sizeof(h))
        goto out;
    memcpy(&h, g.map.data, sizeof(h));
    if (memcmp(h.magic, LOGITS_GOLDEN_MAGIC, sizeof(h.magic)) != 0 ||
        h.version != LOGITS_GOLDEN_VERSION || h.n_prompts > LOGITS_GOLDEN_MAX_PROMPTS)
        goto out;
    g.vocab_size = h.vocab_size;
    g.top_k = h.top_k;
    g.n_greedy = h.n_greedy;
    memcpy(g.model_sha256, h.model_sha256, sizeof(g.model_sha256));
    g.prompts = calloc(h.n_prompts + 1u, sizeof(*g.prompts));
    if (!g.prompts)
        goto out;
    while (g.n_prompts < h.n_prompts && logits_golden_read_prompt(&g, &at, &g.prompts[g.n_prompts]))
        g.n_prompts++;
    if (g.n_prompts == h.n_prompts && at == g.map.size_bytes)
        rc = 0;
out:
    if (rc) {
        logits_golden_close(&g);
        return err_set(e, LLMD_EPARSE, "%s: no golden file of version %d, or a damaged one", path,
                       LOGITS_GOLDEN_VERSION);
    }
    *out = g;
    return 0;
}

static inline struct logits_position logits_golden_position(const struct logits_golden *g,
                                                            uint32_t prompt, uint32_t i)
{
    BUG_ON(prompt >= g->n_prompts || i >= g->prompts[prompt].n_positions);
    const uint32_t *w = g->prompts[prompt].positions + (size_t)i * (2 + 2 * (size_t)g->top_k);
    struct logits_position p = {.position = w[0], .top_ids = w + 2};
    memcpy(&p.lse, &w[1], sizeof(p.lse));
    p.top_logits = (const float *)(const void *)(w + 2 + g->top_k);
    return p;
}

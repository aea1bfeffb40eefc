/* tiny_golden.h - reads the logits of the tiny models that gen_tiny_models.py wrote.
 *
 * The format is described in tests/golden/README.md. Every count is checked against the file, so
 * a damaged golden is an error, not a crash. Everything points into the mapping. */
#pragma once
#include <string.h>

#include "core/util/base.h"
#include "core/util/err.h"
#include "core/util/fsio.h"

enum { TINY_GOLDEN_VERSION = 1, TINY_GOLDEN_NAME = 32, TINY_GOLDEN_MAX = 1024 };

struct tiny_golden {
    struct file_map map;
    uint32_t n_models, vocab_size, n_prompt, n_positions;
    const uint32_t *positions; /* [n_positions], ascending, below n_prompt */
    const unsigned char *models;
    size_t model_bytes;
};

struct tiny_golden_model {
    const char *name;    /* of its folder */
    const uint32_t *ids; /* [n_prompt] */
    const float *logits; /* [n_positions][vocab_size] */
};

/* EPARSE for what is no golden file of this version. */
MUST_CHECK static inline int tiny_golden_open(struct tiny_golden *out, const char *path,
                                              struct err *e)
{
    struct tiny_golden g = {0};
    uint32_t h[5];
    int rc = file_map_open(&g.map, path, e);
    if (rc)
        return rc;
    const unsigned char *p = g.map.data;
    if (g.map.size_bytes < 28 || memcmp(p, "LLMDTINY", 8) != 0)
        goto damaged;
    memcpy(h, p + 8, sizeof(h));
    for (int i = 1; i < 5; i++)
        if (h[i] == 0 || h[i] > TINY_GOLDEN_MAX)
            goto damaged;
    g.n_models = h[1];
    g.vocab_size = h[2];
    g.n_prompt = h[3];
    g.n_positions = h[4];
    g.positions = (const uint32_t *)(const void *)(p + 28);
    g.models = p + 28 + (size_t)4 * g.n_positions;
    g.model_bytes = TINY_GOLDEN_NAME + 4 * (g.n_prompt + (size_t)g.n_positions * g.vocab_size);
    if (h[0] != TINY_GOLDEN_VERSION ||
        g.map.size_bytes != 28 + (size_t)4 * g.n_positions + g.n_models * g.model_bytes)
        goto damaged;
    for (uint32_t i = 0; i < g.n_positions; i++)
        if (g.positions[i] >= g.n_prompt)
            goto damaged;
    *out = g;
    return 0;
damaged:
    file_map_close(&g.map);
    return err_set(e, LLMD_EPARSE, "%s: no golden file of version %d, or a damaged one", path,
                   TINY_GOLDEN_VERSION);
}

static inline struct tiny_golden_model tiny_golden_model(const struct tiny_golden *g, uint32_t i)
{
    BUG_ON(i >= g->n_models);
    const unsigned char *p = g->models + i * g->model_bytes;
    BUG_ON(p[TINY_GOLDEN_NAME - 1] != 0);
    return (struct tiny_golden_model){
        .name = (const char *)p,
        .ids = (const uint32_t *)(const void *)(p + TINY_GOLDEN_NAME),
        .logits = (const float *)(const void *)(p + TINY_GOLDEN_NAME + (size_t)4 * g->n_prompt)};
}

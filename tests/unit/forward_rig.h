/* forward_rig.h - the layer loop on a backend without scheduler or sampler: a model, a KV cache
 * dealt out per sequence, steps put together by hand. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "core/backend/backend.h"
#include "core/engine/engine_weights.h"
#include "core/engine/forward.h"
#include "core/model/model.h"

enum { MAX_ROWS = 512, MAX_OUT = 96, MAX_CONTEXT = 1024 };

/* --- a backend with the model on it, and a KV cache that is dealt out per sequence --- */

struct rig {
    struct backend *be;
    struct engine_weights *weights;
    struct forward *forward;
    uint32_t n_blocks, next_block;
};

struct sequence {
    uint32_t blocks[MAX_CONTEXT / KV_BLOCK_TOKENS];
    uint32_t n_blocks;
    uint32_t n_tokens; /* in the cache */
};

static inline void must(int rc, const struct err *e)
{
    if (rc)
        fail_msg("%s", e->msg);
}

/* On a backend that is the rig's from now on, with the weights of another rig of the same kind, or
 * NULL: loads them. */
static inline void rig_init(struct rig *rig, struct backend *be, const struct model *m,
                            struct engine_weights *shared)
{
    const struct backend_limits limits = {
        .max_rows = MAX_ROWS, .max_seqs = MAX_OUT, .max_out = MAX_OUT};
    struct attn_shape shape;
    struct err e = {0};
    *rig = (struct rig){.be = be, .n_blocks = 367}; /* prime, see sequence_grow */
    forward_attn_shape(m, MAX_CONTEXT, &shape);
    if (shared)
        rig->weights = engine_weights_ref(shared);
    else
        must(engine_weights_new(be, m, NULL, NULL, &rig->weights, &e), &e);
    must(be->ops->reserve(be, &shape, &limits, rig->n_blocks, &e), &e);
    must(forward_new(be, m, rig->weights, &shape, &limits, &rig->forward, &e), &e);
}

/* On the CPU. False when this machine lacks the instruction set. */
static inline bool rig_try(struct rig *rig, const struct model *m, enum compute_type compute,
                           uint32_t n_threads, const char *isa, struct engine_weights *shared)
{
    const struct cpu_opts opts = {.n_threads = n_threads, .compute = compute, .isa = isa};
    struct backend *be;
    struct err e = {0};
    int rc = cpu_backend_new(&opts, &be, &e);
    if (rc == -LLMD_EUNSUPPORTED)
        return false;
    must(rc, &e);
    rig_init(rig, be, m, shared);
    return true;
}

static inline void rig_close(struct rig *rig)
{
    forward_free(rig->forward);
    engine_weights_unref(rig->weights);
    rig->be->ops->free(rig->be);
}

/* Gives the sequence blocks for n more tokens. They lie scattered: neighbours are never adjacent. */
static inline void sequence_grow(struct rig *rig, struct sequence *s, uint32_t n)
{
    uint32_t need = (s->n_tokens + n + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    assert_true(need <= ARRAY_LEN(s->blocks));
    while (s->n_blocks < need) {
        assert_true(rig->next_block < rig->n_blocks);
        s->blocks[s->n_blocks++] = (uint32_t)((uint64_t)rig->next_block++ * 97 % rig->n_blocks);
    }
}

/* A step under construction. */
struct step {
    struct batch batch;
    uint32_t tokens[MAX_ROWS], positions[MAX_ROWS], slots[MAX_ROWS], out_rows[MAX_OUT];
    struct batch_seq seqs[MAX_OUT];
};

static inline void step_add(struct rig *rig, struct step *st, struct sequence *s,
                            const uint32_t *tokens, uint32_t n)
{
    struct batch *b = &st->batch;
    sequence_grow(rig, s, n);
    assert_true(b->n_rows + n <= MAX_ROWS && b->n_seqs < MAX_OUT);
    st->seqs[b->n_seqs++] = (struct batch_seq){
        .first_row = b->n_rows, .n_rows = n, .first_pos = s->n_tokens, .block_table = s->blocks};
    for (uint32_t i = 0; i < n; i++) {
        uint32_t row = b->n_rows++, pos = s->n_tokens++;
        st->tokens[row] = tokens[i];
        st->positions[row] = pos;
        st->slots[row] = s->blocks[pos / KV_BLOCK_TOKENS] * KV_BLOCK_TOKENS + pos % KV_BLOCK_TOKENS;
    }
}

static inline void step_want(struct step *st, uint32_t row)
{
    assert_true(st->batch.n_out < MAX_OUT);
    st->out_rows[st->batch.n_out++] = row;
}

static inline void step_run(struct rig *rig, struct step *st)
{
    struct err e = {0};
    st->batch.tokens = st->tokens;
    st->batch.positions = st->positions;
    st->batch.slots = st->slots;
    st->batch.seqs = st->seqs;
    st->batch.out_rows = st->out_rows;
    must(forward_step(rig->forward, &st->batch, &e), &e);
}

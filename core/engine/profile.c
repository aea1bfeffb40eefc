#include "core/engine/profile.h"

#include <stdlib.h>

#include "core/engine/forward.h"

/* A batch under construction. */
struct trial {
    struct batch batch;
    uint32_t *tokens, *positions, *slots; /* [max_rows] */
    struct batch_seq *seqs;               /* [max_seqs] */
    uint32_t *out_rows;                   /* [max_seqs] */
    struct sample_row *samples;           /* [max_seqs] */
    uint32_t *ids;                        /* [max_seqs] */
    uint32_t *table;                      /* [blocks of the longest context] all 0 */
};

static void trial_fini(struct trial *t)
{
    free(t->tokens);
    free(t->positions);
    free(t->slots);
    free(t->seqs);
    free(t->out_rows);
    free(t->samples);
    free(t->ids);
    free(t->table);
}

static int trial_init(struct trial *t, const struct attn_shape *s, const struct backend_limits *l,
                      struct err *e)
{
    const size_t n_blocks = ((size_t)s->max_context + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    *t = (struct trial){
        .tokens = calloc(l->max_rows, sizeof(*t->tokens)),
        .positions = calloc(l->max_rows, sizeof(*t->positions)),
        .slots = calloc(l->max_rows, sizeof(*t->slots)),
        .seqs = calloc(l->max_seqs, sizeof(*t->seqs)),
        .out_rows = calloc(l->max_seqs, sizeof(*t->out_rows)),
        .samples = calloc(l->max_seqs, sizeof(*t->samples)),
        .ids = calloc(l->max_seqs, sizeof(*t->ids)),
        .table = calloc(n_blocks, sizeof(*t->table)),
    };
    if (t->tokens && t->positions && t->slots && t->seqs && t->out_rows && t->samples && t->ids &&
        t->table)
        return 0;
    trial_fini(t);
    return err_set(e, LLMD_ENOMEM, "out of memory for a trial of %u rows", l->max_rows);
}

/* Nothing is cut: what costs most. */
static struct sample_row any_token(uint32_t row, uint32_t position)
{
    return (struct sample_row){
        .row = row,
        .position = position,
        .how = {.temperature = 1, .top_p = 1, .repetition_penalty = 1},
    };
}

/* A sequence of n rows from a position on, whose last row's logits are wanted. */
static void add(struct trial *t, uint32_t n, uint32_t first_pos)
{
    struct batch *b = &t->batch;
    t->seqs[b->n_seqs++] = (struct batch_seq){
        .first_row = b->n_rows, .n_rows = n, .first_pos = first_pos, .block_table = t->table};
    for (uint32_t i = 0; i < n; i++, b->n_rows++) {
        t->positions[b->n_rows] = first_pos + i;
        t->slots[b->n_rows] = (first_pos + i) % KV_BLOCK_TOKENS;
    }
    t->samples[b->n_out] = any_token(b->n_out, first_pos + n);
    t->out_rows[b->n_out++] = b->n_rows - 1;
}

static int run(struct trial *t, struct forward *f, struct err *e)
{
    t->batch.tokens = t->tokens;
    t->batch.positions = t->positions;
    t->batch.slots = t->slots;
    t->batch.seqs = t->seqs;
    t->batch.out_rows = t->out_rows;
    int rc = forward_step(f, &t->batch, e);
    if (!rc && forward_has_sampler(f))
        rc = forward_sample(f, t->samples, t->batch.n_out, t->ids, e);
    t->batch = (struct batch){0};
    return rc;
}

int profile_device(struct forward *f, const struct attn_shape *shape,
                   const struct backend_limits *limits, struct err *e)
{
    struct trial t;
    int rc = trial_init(&t, shape, limits, e);
    if (rc)
        return rc;
    for (uint32_t left = limits->max_rows; left > 0 && t.batch.n_seqs < limits->max_seqs;) {
        const uint32_t n = left < shape->max_context ? left : shape->max_context;
        add(&t, n, 0);
        left -= n;
    }
    rc = run(&t, f, e);
    if (!rc) {
        while (t.batch.n_seqs < limits->max_seqs)
            add(&t, 1, shape->max_context - 1);
        rc = run(&t, f, e);
    }
    if (!rc) {
        add(&t, 1, 0);
        rc = run(&t, f, e);
    }
    trial_fini(&t);
    if (rc)
        err_prefix(e, "the largest step: ");
    return rc;
}

int profile_decodes(struct forward *f, struct backend *be, const struct attn_shape *shape,
                    const struct backend_limits *limits, struct err *e)
{
    struct trial t;
    const uint32_t most = (uint32_t)u64_min(limits->max_rows, limits->max_seqs);
    int rc = be->ops->decode_size ? trial_init(&t, shape, limits, e) : 0;
    if (rc || !be->ops->decode_size)
        return rc;
    for (uint32_t n = 1; n <= most && !rc; n++) {
        const uint32_t size = be->ops->decode_size(be, n);
        if (size == 0)
            break;
        BUG_ON(size < n);
        n = size < most ? size : most;
        while (t.batch.n_seqs < n)
            add(&t, 1, 0);
        rc = run(&t, f, e);
    }
    trial_fini(&t);
    if (rc)
        err_prefix(e, "a step of decodes: ");
    return rc;
}

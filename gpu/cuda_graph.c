/* cuda_graph.c - steps of decodes as graphs: recorded once for each of a few numbers of rows, replayed
 * with other data.
 *
 * A step fits when each sequence has one row, all rows' tokens are wanted, and the device samples.
 * Its operations are then recorded instead of run, with the next larger number of rows; when they are
 * all there, the step's data is copied and the graph launched. In later steps of that size the
 * operations do nothing: the graph holds them. Rows that fill up have no slot, no work of attention
 * and nothing to sample.
 *
 * A graph holds addresses: what it reads lies at the same place in every step (struct cuda_fixed), and
 * cuda_graphs_drop() comes before memory moves. The numbers of rows keep the kernels that the step
 * would have taken without a graph, so that its bits are the same. */
#include <string.h>

#include "gpu/cuda_int.h"

static const uint32_t SIZES[CUDA_GRAPHS] = {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256};

uint32_t cuda_graph_rows(const struct cuda_backend *c)
{
    return (uint32_t)u64_min(SIZES[CUDA_GRAPHS - 1],
                             u64_min(c->limits.max_seqs, c->limits.max_out));
}

static uint32_t size_index(const struct cuda_backend *c, uint32_t n_rows)
{
    uint32_t i = 0;
    if (n_rows > cuda_graph_rows(c))
        return CUDA_GRAPHS;
    while (SIZES[i] < n_rows)
        i++;
    return SIZES[i] <= c->limits.max_rows && SIZES[i] <= c->limits.max_out ? i : CUDA_GRAPHS;
}

uint32_t cuda_decode_size(struct backend *be, uint32_t n_rows)
{
    const struct cuda_backend *c = cuda_backend(be);
    const uint32_t i = c->graphs.on ? size_index(c, n_rows) : CUDA_GRAPHS;
    return i < CUDA_GRAPHS ? SIZES[i] : 0;
}

static bool fits(const struct cuda_backend *c, const struct batch *b, uint32_t n_parts)
{
    if (!c->graphs.on || c->pinned || !c->ops.sample || b->n_out != b->n_rows ||
        b->n_seqs != b->n_rows || n_parts > c->max_parts)
        return false;
    if (c->blas && !c->resized)
        return false; /* while products are measured nothing is recorded */
    for (uint32_t i = 0; i < b->n_rows; i++)
        if (b->out_rows[i] != i)
            return false;
    return size_index(c, b->n_rows) < CUDA_GRAPHS;
}

int cuda_graph_begin(struct cuda_backend *c, const struct batch *b, uint32_t n_parts)
{
    struct cuda_graphs *g = &c->graphs;
    g->mode = CUDA_EAGER;
    g->launched = false;
    if (!fits(c, b, n_parts))
        return 0;
    g->index = size_index(c, b->n_rows);
    g->mode = g->of[g->index] ? CUDA_REPLAY : CUDA_RECORD;
    c->step.n_rows = c->step.n_out = SIZES[g->index];
    return g->mode == CUDA_RECORD ? gpu_capture_begin(c->stream) : 0;
}

int cuda_graph_end(struct cuda_backend *c)
{
    struct cuda_graphs *g = &c->graphs;
    return g->mode == CUDA_RECORD ? gpu_capture_end(c->stream, &g->of[g->index], NULL) : 0;
}

int cuda_graph_run(struct cuda_backend *c)
{
    c->graphs.launched = true;
    return gpu_graph_launch(c->graphs.of[c->graphs.index], c->stream);
}

void cuda_graphs_drop(struct cuda_backend *c)
{
    for (uint32_t i = 0; i < CUDA_GRAPHS; i++) {
        gpu_graph_free(c->graphs.of[i]);
        c->graphs.of[i] = NULL;
    }
}

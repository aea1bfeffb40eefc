/* cuda_sample.c - the operation `sample`: rows, their lists and masks go to the device in one piece of
 * pinned memory, the tokens come back by pinned memory that the kernel writes to.
 *
 * What a step in flight reads or writes of the host's is its slot's: of two, since two may be in flight.
 *
 * In a step that is a graph, the kernels are part of it; the data is copied before it is launched.
 *
 * Waves  when the lists of all rows do not fit that piece (long outputs with penalties), rows are
 *   sampled in several launches, and all but the last are waited for. */
#include <string.h>

#include "gpu/cuda_int.h"

enum { PIECE_AT_LEAST = 64 << 10, ALIGN = 48 /* of each element */ };

static uint32_t mask_words(const struct cuda_sampler *s)
{
    return (s->vocab + 31) / 32;
}

/* Entries of `seen`: in a step that follows, one more where penalties count the token that is fed. */
static uint32_t n_seen(const struct cuda_backend *c, const struct sample_how *h)
{
    const bool penalties = h->presence_penalty != 0.0f || h->frequency_penalty != 0.0f ||
                           h->repetition_penalty != 1.0f;
    return h->n_seen + (c->step.batch->follows && penalties);
}

/* Bytes of one row with its lists. */
static size_t row_bytes(const struct cuda_backend *c, const struct sample_how *h)
{
    return sizeof(struct gpu_sample_row) + h->n_bias * sizeof(struct sample_bias) +
           n_seen(c, h) * sizeof(struct sample_seen) +
           (h->mask ? mask_words(&c->sampler) * sizeof(uint32_t) : 0);
}

static int take(struct cuda_backend *c, size_t bytes, void *out, struct err *e)
{
    void *p = NULL;
    int rc = cuda_alloc(c, bytes, &p, e);
    if (!rc)
        memcpy(out, &p, sizeof(p));
    return rc;
}

static int take_pinned(struct cuda_backend *c, size_t bytes, void *out, struct err *e)
{
    void *p = NULL;
    int rc = gpu_pinned_alloc(c->gpu, bytes, &p, e);
    if (!rc)
        memcpy(out, &p, sizeof(p));
    return rc;
}

int cuda_sample_reserve(struct backend *be, const struct tensor *logits, struct err *e)
{
    struct cuda_backend *c = cuda_backend(be);
    struct cuda_sampler *s = &c->sampler;
    const uint32_t rows = logits->max_rows, vocab = logits->cols;
    const size_t maxima = (size_t)rows * gpu_sample_blocks(vocab) * sizeof(float);
    BUG_ON(s->rows_max > 0);
    if (vocab > GPU_MAX_VOCAB)
        return err_set(e, LLMD_EUNSUPPORTED, "a vocabulary of %u: the GPU takes up to %d", vocab,
                       GPU_MAX_VOCAB);
    s->vocab = vocab;
    /* A row that has seen every token, with a bias for many, always fits. */
    s->bytes = rows * sizeof(struct gpu_sample_row) + (size_t)4 * ALIGN +
               (size_t)u64_max(PIECE_AT_LEAST, (uint64_t)vocab * (sizeof(struct sample_seen) +
                                                                  2 * sizeof(struct sample_bias)));
    const size_t raw = s->bytes / sizeof(struct sample_bias) * sizeof(float);
    int rc = take_pinned(c, STEPS_IN_FLIGHT * s->bytes, &s->pinned, e);
    if (!rc)
        rc = take_pinned(c, STEPS_IN_FLIGHT * rows * sizeof(*s->ids), &s->ids, e);
    if (!rc)
        rc = take_pinned(c, STEPS_IN_FLIGHT * rows * sizeof(*s->logprobs), &s->host_logprobs, e);
    if (!rc)
        rc = take(c, s->bytes, &s->device, e);
    if (!rc)
        rc = take(c, raw, &s->raw_bias, e);
    if (!rc)
        rc = take(c, raw, &s->raw_seen, e);
    if (!rc)
        rc = take(c, maxima, &s->block_max, e);
    if (!rc)
        rc = take(c, maxima, &s->block_sum, e);
    if (!rc)
        rc = take(c, rows * sizeof(*s->sampled), &s->sampled, e);
    if (!rc)
        rc = take(c, rows * sizeof(struct sample_logprobs), &s->logprobs, e);
    if (rc) {
        err_prefix(e, "the sampler's memory: ");
        return rc;
    }
    s->rows_max = rows;
    return 0;
}

void cuda_sample_release(struct cuda_backend *c)
{
    struct cuda_sampler *s = &c->sampler;
    void *const device[] = {s->device,    s->raw_bias, s->raw_seen, s->block_max,
                            s->block_sum, s->sampled,  s->logprobs};
    for (size_t i = 0; i < ARRAY_LEN(device); i++)
        gpu_free(c->gpu, device[i]);
    gpu_pinned_free(c->gpu, s->pinned);
    gpu_pinned_free(c->gpu, s->ids);
    gpu_pinned_free(c->gpu, s->host_logprobs);
}

/* --- a launch --- */

/* Where things lie in the piece. */
struct layout {
    size_t bias, seen, masks, end; /* after the rows */
};

/* Kernels are told lists by the number of their first element, from the beginning of the piece. */
static size_t aligned(size_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

/* Of n rows, in room for n_rows. */
static struct layout lay_out(const struct cuda_backend *c, const struct sample_row *rows,
                             uint32_t n, uint32_t n_rows)
{
    struct layout l;
    size_t n_bias = 0, all_seen = 0, n_masks = 0;
    for (uint32_t i = 0; i < n; i++) {
        n_bias += rows[i].how.n_bias;
        all_seen += n_seen(c, &rows[i].how);
        n_masks += rows[i].how.mask != NULL;
    }
    l.bias = aligned(n_rows * sizeof(struct gpu_sample_row));
    l.seen = aligned(l.bias + n_bias * sizeof(struct sample_bias));
    l.masks = aligned(l.seen + all_seen * sizeof(struct sample_seen));
    l.end = l.masks + n_masks * mask_words(&c->sampler) * sizeof(uint32_t);
    return l;
}

static void *copy_list(uint8_t *to, const void *from, size_t bytes)
{
    if (bytes > 0)
        memcpy(to, from, bytes);
    return to + bytes;
}

static struct gpu_sample_row packed(const struct sample_row *r, uint32_t to)
{
    const struct sample_how *h = &r->how;
    return (struct gpu_sample_row){
        .row = r->row,
        .inv_temperature = h->temperature > 0 ? 1.0f / h->temperature : 0.0f,
        .top_p = h->top_p,
        .min_p = h->min_p,
        .top_k = h->top_k,
        .presence_penalty = h->presence_penalty,
        .frequency_penalty = h->frequency_penalty,
        .repetition_penalty = h->repetition_penalty,
        .choice = h->choice,
        .n_generated = h->n_generated,
        .seed = {(uint32_t)h->seed, (uint32_t)(h->seed >> 32)},
        .n_bias = h->n_bias,
        .first_mask = GPU_NO_MASK,
        .logprobs = r->logprobs ? 1 + r->logprobs->n_top : 0,
        .to = to,
    };
}

/* rows: n of the step's, from `first` on. */
static void pack(const struct cuda_backend *c, uint32_t first, uint32_t n, uint32_t n_rows,
                 const struct layout *l)
{
    static const struct gpu_sample_row none = {.row = GPU_NO_ROW};
    static const struct sample_seen fed = {.id = GPU_FED};
    const struct cuda_sampler *s = &c->sampler;
    const struct sample_row *rows = s->now.rows + first;
    uint8_t *bias = s->host + l->bias, *seen = s->host + l->seen, *masks = s->host + l->masks;
    for (uint32_t i = 0; i < n; i++) {
        const struct sample_how *h = &rows[i].how;
        struct gpu_sample_row r = packed(&rows[i], c->slot * s->rows_max + first + i);
        r.n_seen = n_seen(c, h);
        r.first_bias = (uint32_t)((size_t)(bias - s->host) / sizeof(*h->bias));
        r.first_seen = (uint32_t)((size_t)(seen - s->host) / sizeof(*h->seen));
        if (h->mask)
            r.first_mask = (uint32_t)((size_t)(masks - s->host) / sizeof(*h->mask));
        bias = copy_list(bias, h->bias, h->n_bias * sizeof(*h->bias));
        seen = copy_list(seen, h->seen, h->n_seen * sizeof(*h->seen));
        seen = copy_list(seen, &fed, (r.n_seen - h->n_seen) * sizeof(fed));
        masks = copy_list(masks, h->mask, h->mask ? mask_words(s) * sizeof(*h->mask) : 0);
        memcpy(s->host + i * sizeof(r), &r, sizeof(r));
    }
    for (uint32_t i = n; i < n_rows; i++)
        memcpy(s->host + i * sizeof(none), &none, sizeof(none));
}

static struct gpu_sample launch_of(const struct cuda_backend *c, float *logits, uint32_t first,
                                   uint32_t n_rows)
{
    const struct cuda_sampler *s = &c->sampler;
    return (struct gpu_sample){
        .logits = logits,
        .vocab = s->vocab,
        .n_rows = n_rows,
        .rows = (const void *)s->device,
        .bias = (const void *)s->device,
        .seen = (void *)s->device,
        .masks = (const void *)s->device,
        .tokens = c->step.tokens,
        .raw_bias = s->raw_bias,
        .raw_seen = s->raw_seen,
        .block_max = s->block_max,
        .block_sum = s->block_sum,
        .ids = s->ids,
        .sampled = s->sampled,
        .logprobs = s->logprobs + first,
    };
}

static int launch(struct cuda_backend *c, const struct gpu_sample *a, bool lists, bool logprobs)
{
    int rc = 0;
    if (logprobs)
        rc = gpu_sample_logprobs(c->stream, a);
    if (!rc && lists)
        rc = gpu_sample_adjust(c->stream, a);
    if (!rc)
        rc = gpu_sample_pick(c->stream, a);
    return rc;
}

static bool want_logprobs(const struct sample_row *rows, uint32_t n)
{
    bool any = false;
    for (uint32_t i = 0; i < n; i++)
        any |= rows[i].logprobs != NULL;
    return any;
}

static int copy_logprobs(struct cuda_backend *c, uint32_t first, uint32_t n)
{
    struct cuda_sampler *s = &c->sampler;
    return want_logprobs(s->now.rows + first, n)
               ? gpu_copy_out(c->stream, s->host_logprobs + (size_t)c->slot * s->rows_max + first,
                              s->logprobs + first, n * sizeof(*s->logprobs))
               : 0;
}

/* n rows of the step's from `first` on, which fit the piece. */
static int sample_wave(struct cuda_backend *c, float *logits, uint32_t first, uint32_t n)
{
    struct cuda_sampler *s = &c->sampler;
    const struct sample_row *rows = s->now.rows + first;
    const struct layout l = lay_out(c, rows, n, n);
    const struct gpu_sample a = launch_of(c, logits, first, n);
    BUG_ON(l.end > s->bytes);
    pack(c, first, n, n, &l);
    int rc = gpu_copy_in(c->stream, s->device, s->host, l.end);
    if (!rc)
        rc = launch(c, &a, l.masks > l.bias, want_logprobs(rows, n));
    return rc ? rc : copy_logprobs(c, first, n);
}

static int sample_waves(struct cuda_backend *c, float *logits)
{
    struct cuda_sampler *s = &c->sampler;
    int rc = 0;
    for (uint32_t first = 0, end; first < s->now.n_rows && !rc; first = end) {
        size_t bytes = (size_t)4 * ALIGN;
        for (end = first; end < s->now.n_rows; end++) {
            bytes += row_bytes(c, &s->now.rows[end].how);
            if (end > first && bytes > s->bytes)
                break;
        }
        if (first > 0)
            rc = gpu_stream_wait(c->stream, c->timeout_us, NULL);
        if (!rc)
            rc = sample_wave(c, logits, first, end - first);
    }
    return rc;
}

/* Ends the recording, if there is one, sends the step's data and launches its graph. When the rows'
 * lists do not fit, the graph samples nothing. */
static int sample_graph(struct cuda_backend *c, float *logits)
{
    struct cuda_sampler *s = &c->sampler;
    const struct layout l = lay_out(c, s->now.rows, s->now.n_rows, c->step.n_out);
    const bool whole = l.end <= s->bytes;
    const struct gpu_sample a = launch_of(c, logits, 0, c->step.n_out);
    int rc = cuda_replays(c) ? 0 : launch(c, &a, true, true);
    if (!rc)
        rc = cuda_graph_end(c);
    pack(c, 0, whole ? s->now.n_rows : 0, c->step.n_out, &l);
    if (!rc)
        rc = cuda_step_send(c);
    if (!rc)
        rc = gpu_copy_in(c->stream, s->device, s->host, whole ? l.end : l.bias);
    if (!rc)
        rc = cuda_graph_run(c);
    if (rc)
        return rc;
    if (whole)
        return copy_logprobs(c, 0, s->now.n_rows);
    rc = gpu_stream_wait(c->stream, c->timeout_us, NULL); /* the piece is read */
    return rc ? rc : sample_waves(c, logits);
}

int cuda_sample(struct backend *be, const struct tensor *logits, const struct sample_row *rows,
                uint32_t n, uint32_t *out_ids)
{
    struct cuda_backend *c = cuda_backend(be);
    struct cuda_sampler *s = &c->sampler;
    BUG_ON(s->now.rows || n > s->rows_max || logits->cols != s->vocab);
    s->now = (struct cuda_sampled){.rows = rows, .n_rows = n, .out_ids = out_ids};
    return c->graphs.mode == CUDA_EAGER ? sample_waves(c, logits->data)
                                        : sample_graph(c, logits->data);
}

void cuda_sample_collect(struct cuda_backend *c, uint32_t slot)
{
    const struct cuda_sampled *told = &c->posted[slot].sampled;
    const uint32_t *ids = c->sampler.ids + (size_t)slot * c->sampler.rows_max;
    const struct sample_logprobs *logprobs =
        c->sampler.host_logprobs + (size_t)slot * c->sampler.rows_max;
    for (uint32_t i = 0; i < told->n_rows; i++) {
        told->out_ids[i] = ids[i];
        if (told->rows[i].logprobs)
            *told->rows[i].logprobs = logprobs[i];
    }
}

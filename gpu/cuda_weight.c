/* cuda_weight.c - tensors of a model file as elements on the device.
 *
 * Rows are converted into pieces of pinned memory and copied from there (loader.h), so that neither the
 * file nor a converted copy of it is ever held in memory as a whole. */
#include <stdlib.h>
#include <string.h>

#include "core/backend/dequant.h"
#include "core/util/half.h"
#include "gpu/cuda_int.h"

/* Keeps every index into a row, and the rows of an interleaved pair, within 32 bits. */
enum { MAX_ROWS = 1 << 27, MAX_COLS = 1 << 24, MAX_PARTS = 8, HALF_SIXTEEN = GPU_ROWS / 2 };

/* Rows of 4 x 16 bytes and more: then their elements, padded, fit half of them (see head()). */
enum { HIDDEN_STEP = 16 };

static int check_part(enum weight_role role, const struct host_tensor *p, struct err *e)
{
    size_t row_bytes;
    if (p->rows == 0 || p->cols == 0 || p->rows > MAX_ROWS || p->cols > MAX_COLS ||
        !dtype_row_bytes(p->dtype, p->cols, &row_bytes))
        return err_set(e, LLMD_EUNSUPPORTED, "%s: %llu x %llu of %s is not supported", p->name,
                       (unsigned long long)p->rows, (unsigned long long)p->cols,
                       dtype_name(p->dtype));
    if (role == WEIGHT_EMBED && (p->cols % HIDDEN_STEP != 0 || p->cols > GPU_MAX_COLS))
        return err_set(e, LLMD_EUNSUPPORTED,
                       "%s: hidden size %llu: the GPU takes multiples of %d up to %d", p->name,
                       (unsigned long long)p->cols, HIDDEN_STEP, GPU_MAX_COLS);
    if (role == WEIGHT_VECTOR && p->rows != 1)
        return err_set(e, LLMD_EUNSUPPORTED, "%s has %llu rows: a vector has one", p->name,
                       (unsigned long long)p->rows);
    return 0;
}

static int check_parts(enum weight_role role, const struct host_tensor *parts, uint32_t n,
                       const struct host_tensor *biases, struct err *e)
{
    uint64_t rows = 0;
    for (uint32_t i = 0; i < n; i++) {
        int rc = check_part(role, &parts[i], e);
        if (rc)
            return rc;
        rows += parts[i].rows;
        if (parts[i].cols != parts[0].cols ||
            (role == WEIGHT_GATE_UP && parts[i].rows != parts[0].rows))
            return err_set(e, LLMD_EUNSUPPORTED, "%s does not have the shape of %s", parts[i].name,
                           parts[0].name);
        if (!biases || !biases[i].data)
            continue;
        if (role != WEIGHT_LINEAR || biases[i].rows != 1 || biases[i].cols != parts[i].rows)
            return err_set(e, LLMD_EUNSUPPORTED, "%s does not fit %s", biases[i].name,
                           parts[i].name);
    }
    if (rows > MAX_ROWS)
        return err_set(e, LLMD_EUNSUPPORTED, "%s: more than %d rows with its neighbours",
                       parts[0].name, MAX_ROWS);
    return 0;
}

/* --- conversion --- */

static uint16_t element(enum gpu_flavour f, float x)
{
    return f == GPU_FLAVOUR_SM75 ? f16_from_f32(x) : bf16_from_f32(x);
}

static const uint8_t *row_of(const struct host_tensor *t, uint64_t row)
{
    size_t row_bytes = 0;
    if (!dtype_row_bytes(t->dtype, t->cols, &row_bytes))
        return NULL; /* checked before */
    return (const uint8_t *)t->data + row * row_bytes;
}

static void convert_row(enum gpu_flavour f, const struct host_tensor *t, uint64_t row,
                        float *scratch, uint16_t *out)
{
    const uint8_t *from = row_of(t, row);
    if (t->dtype == (f == GPU_FLAVOUR_SM75 ? DTYPE_F16 : DTYPE_BF16)) {
        memcpy(out, from, t->cols * sizeof(*out));
        return;
    }
    dequantize_row(t->dtype, from, (uint32_t)t->cols, scratch);
    for (uint64_t i = 0; i < t->cols; i++)
        out[i] = element(f, scratch[i]);
}

/* Where row r of the weight on the device comes from; false: it is padding. */
static bool source_of(enum weight_role role, const struct host_tensor *parts, uint32_t n_parts,
                      uint64_t r, uint32_t *out_part, uint64_t *out_row)
{
    if (role == WEIGHT_GATE_UP) {
        *out_part = r % GPU_ROWS >= HALF_SIXTEEN;
        *out_row = r / GPU_ROWS * HALF_SIXTEEN + r % HALF_SIXTEEN;
        return *out_row < parts[0].rows;
    }
    for (*out_part = 0; *out_part < n_parts; r -= parts[(*out_part)++].rows)
        if (r < parts[*out_part].rows) {
            *out_row = r;
            return true;
        }
    return false;
}

/* --- the way to the device --- */

int cuda_upload(struct cuda_backend *c, void *device, const void *from, size_t n, struct err *e)
{
    for (size_t at = 0; at < n;) {
        const size_t part = (size_t)u64_min(CUDA_STAGING_BYTES, n - at);
        memcpy(c->staging, (const uint8_t *)from + at, part);
        if (gpu_copy_in(c->stream, (uint8_t *)device + at, c->staging, part))
            return err_set(e, LLMD_EPOISONED, "%s", gpu_fault(c->gpu));
        int rc = gpu_stream_wait(c->stream, c->timeout_us, e);
        if (rc)
            return rc;
        at += part;
    }
    return 0;
}

/* A weight on its way, for the loader's readers. */
struct passage {
    const struct weight *weight;
    const struct host_tensor *parts;
    uint32_t n_parts;
    enum gpu_flavour flavour;
};

static void fill_rows(const void *ctx, uint64_t first, uint64_t end, float *scratch, void *out)
{
    const struct passage *p = ctx;
    const size_t stride = gpu_stride(p->weight->cols);
    memset(out, 0, (end - first) * stride * sizeof(uint16_t));
    for (uint64_t r = first; r < end; r++) {
        uint32_t part;
        uint64_t row;
        if (source_of(p->weight->role, p->parts, p->n_parts, r, &part, &row))
            convert_row(p->flavour, &p->parts[part], row, scratch,
                        (uint16_t *)out + (r - first) * stride);
    }
}

static int make_matrix(struct cuda_backend *c, struct weight *w, const struct host_tensor *parts,
                       uint32_t n_parts, struct err *e)
{
    const size_t row_bytes = (size_t)gpu_stride(w->cols) * sizeof(uint16_t);
    const uint32_t wanted = w->role == WEIGHT_GATE_UP
                                ? 2 * ((w->rows + HALF_SIXTEEN - 1) / HALF_SIXTEEN * HALF_SIXTEEN)
                                : w->rows;
    const uint32_t rows = (wanted + GPU_ROWS - 1) / GPU_ROWS * GPU_ROWS;
    if (row_bytes > GPU_SLOT_BYTES)
        return err_set(e, LLMD_EUNSUPPORTED, "%u columns are too many", w->cols);
    int rc = c->loader ? 0 : gpu_loader_new(c->gpu, 0, &c->loader, e);
    if (!rc)
        rc = cuda_alloc(c, rows * row_bytes, &w->data, e);
    if (rc)
        return rc;
    w->bytes += rows * row_bytes;
    if (w->role == WEIGHT_GATE_UP && rows > c->widest_pairs)
        c->widest_pairs = rows;
    const struct passage way = {
        .weight = w, .parts = parts, .n_parts = n_parts, .flavour = c->flavour};
    const struct gpu_rows all = {.device = w->data,
                                 .n_rows = rows,
                                 .row_bytes = row_bytes,
                                 .n_scratch = w->cols,
                                 .fill = fill_rows,
                                 .ctx = &way};
    return gpu_loader_rows(c->loader, &all, c->timeout_us, e);
}

/* Floats of n vectors side by side; those without data are zero. */
static int make_floats(struct cuda_backend *c, const struct host_tensor *vectors,
                       const struct host_tensor *parts, uint32_t n, uint32_t total, float **out,
                       struct err *e)
{
    void *device;
    int rc = cuda_alloc(c, total * sizeof(float), &device, e);
    if (rc)
        return rc;
    *out = device;
    float *floats = calloc(total, sizeof(*floats)), *to = floats;
    if (!floats)
        return err_set(e, LLMD_ENOMEM, "out of memory for %u floats", total);
    for (uint32_t i = 0; i < n; i++) {
        if (vectors[i].data)
            dequantize_row(vectors[i].dtype, vectors[i].data, (uint32_t)vectors[i].cols, to);
        to += parts ? parts[i].rows : vectors[i].cols;
    }
    rc = cuda_upload(c, device, floats, total * sizeof(*floats), e);
    free(floats);
    return rc;
}

static bool any_bias(const struct host_tensor *biases, uint32_t n)
{
    for (uint32_t i = 0; biases && i < n; i++)
        if (biases[i].data)
            return true;
    return false;
}

static int fill(struct cuda_backend *c, struct weight *w, const struct host_tensor *parts,
                uint32_t n_parts, const struct host_tensor *biases, struct err *e)
{
    if (w->role == WEIGHT_VECTOR) {
        w->bytes = w->cols * sizeof(float);
        return make_floats(c, parts, NULL, 1, w->cols, &w->vector, e);
    }
    int rc = make_matrix(c, w, parts, n_parts, e);
    if (rc || !any_bias(biases, n_parts))
        return rc;
    w->bytes += w->rows * sizeof(float);
    return make_floats(c, biases, parts, n_parts, w->rows, &w->bias, e);
}

int cuda_weight_new(struct backend *be, enum weight_role role, const struct host_tensor *parts,
                    uint32_t n_parts, const struct host_tensor *biases, struct weight **out,
                    struct err *e)
{
    struct cuda_backend *c = cuda_backend(be);
    BUG_ON(n_parts == 0 || n_parts > MAX_PARTS);
    BUG_ON(role == WEIGHT_GATE_UP && n_parts != 2);
    BUG_ON((role == WEIGHT_EMBED || role == WEIGHT_VECTOR) && n_parts != 1);
    int rc = check_parts(role, parts, n_parts, biases, e);
    if (rc)
        return rc;
    struct weight *w = calloc(1, sizeof(*w));
    if (!w)
        return err_set(e, LLMD_ENOMEM, "%s: out of memory", parts[0].name);
    w->gpu = c->gpu;
    w->role = role;
    w->cols = (uint32_t)parts[0].cols;
    for (uint32_t i = 0; i < n_parts; i++)
        w->rows += (uint32_t)parts[i].rows;
    if (role == WEIGHT_GATE_UP)
        w->rows /= 2;
    rc = fill(c, w, parts, n_parts, biases, e);
    if (rc) {
        err_prefix(e, "%s: ", parts[0].name);
        cuda_weight_free(w);
        return rc;
    }
    *out = w;
    return 0;
}

void cuda_weight_free(struct weight *w)
{
    if (!w)
        return;
    gpu_free(w->gpu, w->data);
    gpu_free(w->gpu, w->vector);
    gpu_free(w->gpu, w->bias);
    free(w);
}

size_t cuda_weight_bytes(const struct weight *w)
{
    return w->bytes;
}

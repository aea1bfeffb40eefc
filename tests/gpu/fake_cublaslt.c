/* fake_cublaslt.c - see fake_cublaslt.h. */
#include "tests/gpu/fake_cublaslt.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/half.h"

enum {
    SUCCESS = 0,
    INVALID_VALUE = 7,
    NOT_SUPPORTED = 15,
    F32 = 0,
    F16 = 2,
    BF16 = 14,
    COMPUTE_F32 = 68,
    EPILOGUE_BIAS = 4,
    N_ALGOS = 3
};

struct desc {
    int transposed, epilogue;
    const float *bias;
};

struct layout {
    int type;
    uint64_t rows, cols;
    int64_t ld;
};

struct preference {
    uint64_t workspace;
};

struct algo {
    uint64_t number, rest[7];
};

struct candidate {
    struct algo algo;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

/* A product that has been enqueued; replayed by graphs, so it stays until the library ends. */
struct product {
    struct product *next;
    struct desc desc;
    struct layout a, b, d;
    const uint16_t *w, *in;
    void *out;
};

static struct fake_cublaslt control;
static struct product *products;

fake_cublaslt_fn fake_cublaslt_control;
int cublasLtCreate(void **out);
int cublasLtDestroy(void *handle);
size_t cublasLtGetVersion(void);
const char *cublasLtGetStatusName(int status);
int cublasLtMatmulDescCreate(struct desc **out, int compute, int scale);
int cublasLtMatmulDescSetAttribute(struct desc *d, int what, const void *value, size_t bytes);
int cublasLtMatmulDescDestroy(struct desc *d);
int cublasLtMatrixLayoutCreate(struct layout **out, int type, uint64_t rows, uint64_t cols,
                               int64_t ld);
int cublasLtMatrixLayoutSetAttribute(struct layout *l, int what, const void *value, size_t bytes);
int cublasLtMatrixLayoutDestroy(struct layout *l);
int cublasLtMatmulPreferenceCreate(struct preference **out);
int cublasLtMatmulPreferenceSetAttribute(struct preference *p, int what, const void *value,
                                         size_t bytes);
int cublasLtMatmulPreferenceDestroy(struct preference *p);
int cublasLtMatmulAlgoGetHeuristic(void *handle, const struct desc *desc, const struct layout *a,
                                   const struct layout *b, const struct layout *c,
                                   const struct layout *d, const struct preference *p, int wanted,
                                   struct candidate *out, int *out_n);
int cublasLtMatmulAlgoCheck(void *handle, const struct desc *desc, const struct layout *a,
                            const struct layout *b, const struct layout *c, const struct layout *d,
                            const struct algo *algo, struct candidate *out);
int cublasLtMatmul(void *handle, const struct desc *desc, const float *alpha, const void *w,
                   const struct layout *a, const void *in, const struct layout *b,
                   const float *beta, const void *c_data, const struct layout *c, void *out,
                   const struct layout *d, const struct algo *algo, void *workspace,
                   size_t workspace_bytes, void *stream);

struct fake_cublaslt *fake_cublaslt_control(void)
{
    return &control;
}

/* --- objects --- */

int cublasLtCreate(void **out)
{
    if (control.refuse_create)
        return control.refuse_create;
    *out = &control;
    return SUCCESS;
}

int cublasLtDestroy(void *handle)
{
    if (handle != &control)
        return INVALID_VALUE;
    for (struct product *p = products, *next; p; p = next) {
        next = p->next;
        free(p);
    }
    products = NULL;
    return SUCCESS;
}

size_t cublasLtGetVersion(void)
{
    return 130100;
}

const char *cublasLtGetStatusName(int status)
{
    return status == INVALID_VALUE ? "CUBLAS_STATUS_INVALID_VALUE" : "CUBLAS_STATUS_NOT_SUPPORTED";
}

static int made(void *object, void **out)
{
    *out = object;
    control.n_objects++;
    return SUCCESS;
}

static int dropped(void *object)
{
    free(object);
    control.n_objects--;
    return SUCCESS;
}

static int set(void *field, size_t size, const void *value, size_t bytes)
{
    if (size != bytes)
        return INVALID_VALUE;
    memcpy(field, value, bytes);
    return SUCCESS;
}

int cublasLtMatmulDescCreate(struct desc **out, int compute, int scale)
{
    if (compute != COMPUTE_F32 || scale != F32)
        return NOT_SUPPORTED;
    return made(calloc(1, sizeof(**out)), (void **)out);
}

int cublasLtMatmulDescSetAttribute(struct desc *d, int what, const void *value, size_t bytes)
{
    switch (what) {
    case 3:
        return set(&d->transposed, sizeof(d->transposed), value, bytes);
    case 7:
        return set(&d->epilogue, sizeof(d->epilogue), value, bytes);
    case 8:
        return set(&d->bias, sizeof(d->bias), value, bytes);
    default:
        return INVALID_VALUE;
    }
}

int cublasLtMatmulDescDestroy(struct desc *d)
{
    return dropped(d);
}

int cublasLtMatrixLayoutCreate(struct layout **out, int type, uint64_t rows, uint64_t cols,
                               int64_t ld)
{
    const struct layout l = {type, rows, cols, ld};
    made(calloc(1, sizeof(l)), (void **)out);
    **out = l;
    return SUCCESS;
}

int cublasLtMatrixLayoutSetAttribute(struct layout *l, int what, const void *value, size_t bytes)
{
    return what == 3 ? set(&l->cols, sizeof(l->cols), value, bytes) : INVALID_VALUE;
}

int cublasLtMatrixLayoutDestroy(struct layout *l)
{
    return dropped(l);
}

int cublasLtMatmulPreferenceCreate(struct preference **out)
{
    return made(calloc(1, sizeof(**out)), (void **)out);
}

int cublasLtMatmulPreferenceSetAttribute(struct preference *p, int what, const void *value,
                                         size_t bytes)
{
    return what == 1 ? set(&p->workspace, sizeof(p->workspace), value, bytes) : INVALID_VALUE;
}

int cublasLtMatmulPreferenceDestroy(struct preference *p)
{
    return dropped(p);
}

/* --- products --- */

static int fits(const struct desc *desc, const struct layout *a, const struct layout *b,
                const struct layout *c, const struct layout *d)
{
    if ((a->type != BF16 && a->type != F16) || b->type != a->type || c != d ||
        (d->type != F32 && d->type != a->type))
        return NOT_SUPPORTED;
    if (!desc->transposed || a->rows != b->rows || a->cols != d->rows || b->cols != d->cols ||
        a->ld < (int64_t)a->rows || b->ld < (int64_t)b->rows || d->ld < (int64_t)d->rows)
        return INVALID_VALUE;
    return desc->epilogue == 0 || (desc->epilogue == EPILOGUE_BIAS && desc->bias) ? SUCCESS
                                                                                  : INVALID_VALUE;
}

int cublasLtMatmulAlgoGetHeuristic(void *handle, const struct desc *desc, const struct layout *a,
                                   const struct layout *b, const struct layout *c,
                                   const struct layout *d, const struct preference *p, int wanted,
                                   struct candidate *out, int *out_n)
{
    if (control.refuse_candidates || handle != &control || p->workspace == 0)
        return control.refuse_candidates ? control.refuse_candidates : INVALID_VALUE;
    *out_n = wanted < N_ALGOS ? wanted : N_ALGOS;
    for (int i = 0; i < *out_n; i++)
        out[i] = (struct candidate){.algo = {.number = (uint64_t)i},
                                    .state = i == 1 ? NOT_SUPPORTED : SUCCESS};
    return fits(desc, a, b, c, d);
}

int cublasLtMatmulAlgoCheck(void *handle, const struct desc *desc, const struct layout *a,
                            const struct layout *b, const struct layout *c, const struct layout *d,
                            const struct algo *algo, struct candidate *out)
{
    control.n_check++;
    *out = (struct candidate){.algo = *algo};
    if (handle != &control || algo->number == 1 || algo->number >= N_ALGOS)
        return INVALID_VALUE;
    if (algo->number == 2 && b->cols % 2 != 0)
        return NOT_SUPPORTED;
    return fits(desc, a, b, c, d);
}

static float number_of(int type, uint16_t bits)
{
    return type == BF16 ? f32_from_bf16(bits) : f32_from_f16(bits);
}

static uint16_t bits_of(int type, float f)
{
    return type == BF16 ? bf16_from_f32(f) : f16_from_f32(f);
}

static void compute(void *arg)
{
    const struct product *p = arg;
    for (uint64_t r = 0; r < p->d.cols; r++)
        for (uint64_t o = 0; o < p->d.rows; o++) {
            const size_t at = r * (size_t)p->d.ld + o;
            float sum = 0;
            for (uint64_t i = 0; i < p->a.rows; i++)
                sum += number_of(p->a.type, p->w[o * (size_t)p->a.ld + i]) *
                       number_of(p->b.type, p->in[r * (size_t)p->b.ld + i]);
            if (p->desc.epilogue == EPILOGUE_BIAS)
                sum += p->desc.bias[o];
            if (p->d.type == F32)
                ((float *)p->out)[at] = sum;
            else
                ((uint16_t *)p->out)[at] = bits_of(p->d.type, sum);
        }
}

typedef void call_fn(void *stream, void (*fn)(void *), void *arg);

/* The test's, or that of a program that shows its own (device_run). */
static call_fn *how_to_call(void)
{
    call_fn *fn = control.call;
    void *at = fn ? NULL : dlsym(RTLD_DEFAULT, "stand_in_call");
    if (at)
        memcpy(&fn, &at, sizeof(at));
    return fn;
}

int cublasLtMatmul(void *handle, const struct desc *desc, const float *alpha, const void *w,
                   const struct layout *a, const void *in, const struct layout *b,
                   const float *beta, const void *c_data, const struct layout *c, void *out,
                   const struct layout *d, const struct algo *algo, void *workspace,
                   size_t workspace_bytes, void *stream)
{
    struct candidate unused;
    if (control.refuse_matmul)
        return control.refuse_matmul;
    if (*alpha != 1 || *beta != 0 || c_data != out || !workspace || workspace_bytes == 0)
        return INVALID_VALUE;
    const int status = cublasLtMatmulAlgoCheck(handle, desc, a, b, c, d, algo, &unused);
    control.n_check--;
    if (status)
        return status;
    struct product *p = malloc(sizeof(*p));
    if (!p)
        return NOT_SUPPORTED;
    *p = (struct product){
        .next = products, .desc = *desc, .a = *a, .b = *b, .d = *d, .w = w, .in = in, .out = out};
    products = p;
    control.n_matmul++;
    how_to_call()(stream, compute, p);
    return SUCCESS;
}

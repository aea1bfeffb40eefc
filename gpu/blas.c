/* blas.c - the few functions of libcublasLt that we call, by their names and types in its manual.
 *
 * To the library, which counts columns first, a weight [n][k] is a matrix of k x n that is transposed,
 * rows of the input [m][k] are k x m, and the result [m][n] is n x m. */
#include "gpu/blas.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/clock.h"

enum {
    COMPUTE_F32 = 68,
    TYPE_F32 = 0,
    TYPE_F16 = 2,
    TYPE_BF16 = 14,
    DESC_TRANSA = 3,
    DESC_EPILOGUE = 7,
    DESC_BIAS_POINTER = 8,
    LAYOUT_COLS = 3,
    PREF_WORKSPACE = 1,
    OP_TRANSPOSE = 1,
    EPILOGUE_BIAS = 4,

    SHAPES_MAX = 16,
    CANDIDATES = 16, /* that are measured, as many as the library has */
    RUNS = 3,
    FIRST_STEP = 128, /* rows: of the first step of sizes; each next one is twice as large */
    STEPS = 8,
};

/* cublasLtMatmulAlgo_t */
struct algo {
    uint64_t data[8];
};

/* cublasLtMatmulHeuristicResult_t */
struct candidate {
    struct algo algo;
    size_t workspace_bytes;
    int state; /* 0: can be used */
    float waves;
    int reserved[4];
};

struct api {
    int (*create)(void **);
    int (*destroy)(void *);
    size_t (*version)(void);
    const char *(*status_name)(int);
    int (*desc_new)(void **, int, int);
    int (*desc_set)(void *, int, const void *, size_t);
    int (*desc_free)(void *);
    int (*layout_new)(void **, int, uint64_t, uint64_t, int64_t);
    int (*layout_set)(void *, int, const void *, size_t);
    int (*layout_free)(void *);
    int (*pref_new)(void **);
    int (*pref_set)(void *, int, const void *, size_t);
    int (*pref_free)(void *);
    int (*candidates)(void *, void *, void *, void *, void *, void *, void *, int,
                      struct candidate *, int *);
    int (*check)(void *, void *, void *, void *, void *, void *, const struct algo *,
                 struct candidate *);
    int (*matmul)(void *, void *, const void *, const void *, void *, const void *, void *,
                  const void *, const void *, void *, void *, void *, const struct algo *, void *,
                  size_t, void *);
};

struct blas_library {
    void *so;
    struct api api;
};

/* What products of a step of sizes take. */
struct choice {
    bool measured;
    bool theirs; /* else our kernel */
    struct algo algo;
    uint32_t checked_rows; /* for so many rows ... */
    bool fits;             /* ... the algorithm can be used */
};

struct shape {
    uint32_t n_out, k, in_stride, out_stride;
    bool gate_up, biased;
    uint32_t n;                /* rows of the weight */
    void *desc, *w, *in, *out; /* as the library describes them */
    struct choice steps[STEPS];
};

struct blas {
    struct blas_opts o;
    const struct api *api;
    void *handle, *preference;
    struct shape shapes[SHAPES_MAX];
    uint32_t n_shapes;
};

/* --- the library --- */

static int resolve_all(struct blas_library *l, struct err *e)
{
    struct api *a = &l->api;
    const struct {
        const char *name;
        void *out; /* a function pointer */
    } functions[] = {
        {"cublasLtCreate", &a->create},
        {"cublasLtDestroy", &a->destroy},
        {"cublasLtGetVersion", &a->version},
        {"cublasLtGetStatusName", &a->status_name},
        {"cublasLtMatmulDescCreate", &a->desc_new},
        {"cublasLtMatmulDescSetAttribute", &a->desc_set},
        {"cublasLtMatmulDescDestroy", &a->desc_free},
        {"cublasLtMatrixLayoutCreate", &a->layout_new},
        {"cublasLtMatrixLayoutSetAttribute", &a->layout_set},
        {"cublasLtMatrixLayoutDestroy", &a->layout_free},
        {"cublasLtMatmulPreferenceCreate", &a->pref_new},
        {"cublasLtMatmulPreferenceSetAttribute", &a->pref_set},
        {"cublasLtMatmulPreferenceDestroy", &a->pref_free},
        {"cublasLtMatmulAlgoGetHeuristic", &a->candidates},
        {"cublasLtMatmulAlgoCheck", &a->check},
        {"cublasLtMatmul", &a->matmul},
    };
    for (size_t i = 0; i < ARRAY_LEN(functions); i++) {
        void *p = dlsym(l->so, functions[i].name);
        if (!p)
            return err_set(e, LLMD_EUNSUPPORTED, "cuBLASLt has no %s", functions[i].name);
        memcpy(functions[i].out, &p, sizeof(p)); /* C does not let it be cast */
    }
    return 0;
}

int blas_library_open(const char *file, struct blas_library **out, struct err *e)
{
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
    struct blas_library *l = calloc(1, sizeof(*l));
    if (!l)
        return err_set(e, LLMD_ENOMEM, "out of memory for cuBLASLt");
    for (size_t i = 0; i < (file ? 1 : ARRAY_LEN(names)) && !l->so; i++)
        l->so = dlopen(file ? file : names[i], RTLD_NOW | RTLD_LOCAL);
    int rc = l->so ? resolve_all(l, e)
                   : err_set(e, LLMD_EUNSUPPORTED, "cuBLASLt cannot be opened: %s", dlerror());
    if (rc) {
        blas_library_close(l);
        return rc;
    }
    *out = l;
    return 0;
}

void blas_library_close(struct blas_library *l)
{
    if (l && l->so)
        (void)dlclose(l->so);
    free(l);
}

size_t blas_library_version(const struct blas_library *l)
{
    return l->api.version();
}

int blas_new(const struct blas_opts *o, struct blas **out, struct err *e)
{
    struct blas *b = calloc(1, sizeof(*b));
    if (!b)
        return err_set(e, LLMD_ENOMEM, "out of memory for cuBLASLt");
    b->o = *o;
    b->api = &o->library->api;
    int status = b->api->create(&b->handle);
    if (!status)
        status = b->api->pref_new(&b->preference);
    if (!status)
        status = b->api->pref_set(b->preference, PREF_WORKSPACE, &o->workspace_bytes,
                                  sizeof(o->workspace_bytes));
    if (status) {
        int rc = err_set(e, LLMD_EUNSUPPORTED,
                         "cuBLASLt does not start on this GPU: %s; cublaslt = false does "
                         "without it",
                         b->api->status_name(status));
        blas_free(b);
        return rc;
    }
    *out = b;
    return 0;
}

static void shape_free(const struct api *a, struct shape *s)
{
    void *layouts[] = {s->w, s->in, s->out};
    for (size_t i = 0; i < ARRAY_LEN(layouts); i++)
        if (layouts[i])
            (void)a->layout_free(layouts[i]);
    if (s->desc)
        (void)a->desc_free(s->desc);
}

void blas_free(struct blas *b)
{
    if (!b)
        return;
    for (uint32_t i = 0; i < b->n_shapes; i++)
        shape_free(b->api, &b->shapes[i]);
    if (b->preference)
        (void)b->api->pref_free(b->preference);
    if (b->handle)
        (void)b->api->destroy(b->handle);
    free(b);
}

/* --- shapes --- */

static struct shape *find(struct blas *b, const struct gpu_linear *a)
{
    for (uint32_t i = 0; i < b->n_shapes; i++) {
        struct shape *s = &b->shapes[i];
        if (s->n_out == a->n_out && s->k == a->k && s->in_stride == a->in_stride &&
            s->out_stride == a->out_stride && s->gate_up == a->gate_up &&
            s->biased == (a->bias != NULL))
            return s;
    }
    return NULL;
}

/* NULL when there are too many, or the library cannot describe it. */
static struct shape *add(struct blas *b, const struct gpu_linear *a)
{
    const struct api *api = b->api;
    const int element = b->o.flavour == GPU_FLAVOUR_SM75 ? TYPE_F16 : TYPE_BF16;
    const int transposed = OP_TRANSPOSE, epilogue = EPILOGUE_BIAS;
    if (b->n_shapes == SHAPES_MAX || (a->gate_up && !b->o.pairs))
        return NULL;
    struct shape s = {.n_out = a->n_out,
                      .k = a->k,
                      .in_stride = a->in_stride,
                      .out_stride = a->out_stride,
                      .gate_up = a->gate_up,
                      .biased = a->bias != NULL,
                      .n = a->gate_up ? gpu_pairs_stride(a->n_out) : a->n_out};
    int status = api->desc_new(&s.desc, COMPUTE_F32, TYPE_F32);
    if (!status)
        status = api->desc_set(s.desc, DESC_TRANSA, &transposed, sizeof(transposed));
    if (!status && s.biased)
        status = api->desc_set(s.desc, DESC_EPILOGUE, &epilogue, sizeof(epilogue));
    if (!status)
        status = api->layout_new(&s.w, element, s.k, s.n, s.k);
    if (!status)
        status = api->layout_new(&s.in, element, s.k, a->n_rows, s.in_stride);
    if (!status)
        status = api->layout_new(&s.out, s.gate_up ? element : TYPE_F32, s.n, a->n_rows,
                                 s.gate_up ? s.n : s.out_stride);
    if (status) {
        shape_free(api, &s);
        return NULL;
    }
    b->shapes[b->n_shapes] = s;
    return &b->shapes[b->n_shapes++];
}

static uint32_t step_of(uint32_t n_rows)
{
    uint32_t i = 0;
    while (i + 1 < STEPS && n_rows > (uint32_t)FIRST_STEP << i)
        i++;
    return i;
}

/* Rows that go at once. */
static uint32_t piece_of(const struct blas *b, const struct gpu_linear *a)
{
    return a->gate_up && a->n_rows > b->o.pairs_rows ? b->o.pairs_rows : a->n_rows;
}

/* --- one product --- */

/* Tells the library of a's rows and bias; its status. */
static int describe(const struct blas *b, const struct shape *s, const struct gpu_linear *a)
{
    const uint64_t rows = a->n_rows;
    int status = b->api->layout_set(s->in, LAYOUT_COLS, &rows, sizeof(rows));
    if (!status)
        status = b->api->layout_set(s->out, LAYOUT_COLS, &rows, sizeof(rows));
    if (!status && s->biased)
        status = b->api->desc_set(s->desc, DESC_BIAS_POINTER, &a->bias, sizeof(a->bias));
    return status;
}

/* A product that is described: 0, a status of the library, or -LLMD_E*. */
static int issue(const struct blas *b, const struct shape *s, const struct algo *algo,
                 const struct gpu_linear *a)
{
    const float one = 1, zero = 0;
    void *out = s->gate_up ? b->o.pairs : a->out;
    const struct gpu_pairs pairs = {.in = out,
                                    .out = a->out,
                                    .in_stride = s->n,
                                    .out_stride = a->out_stride,
                                    .n_rows = a->n_rows,
                                    .n = a->n_out};
    const int status = b->api->matmul(b->handle, s->desc, &one, a->w, s->w, a->in, s->in, &zero,
                                      out, s->out, out, s->out, algo, b->o.workspace,
                                      b->o.workspace_bytes, gpu_stream_handle(b->o.stream));
    if (status)
        return status;
    return s->gate_up ? gpu_silu_pairs(b->o.stream, b->o.flavour, &pairs) : 0;
}

/* --- measuring --- */

/* How long a product takes, by an algorithm or (NULL) our kernel. */
static int measure(const struct blas *b, const struct shape *s, const struct algo *algo,
                   const struct gpu_linear *a, uint64_t *out_us)
{
    uint64_t began_us = 0;
    for (int i = -1; i < RUNS; i++) { /* once to get ready */
        if (i == 0) {
            int rc = gpu_stream_wait(b->o.stream, b->o.timeout_us, NULL);
            if (rc)
                return rc;
            began_us = clock_now_us();
        }
        int rc = algo ? issue(b, s, algo, a) : gpu_linear_tile(b->o.stream, b->o.flavour, a);
        if (rc)
            return rc;
    }
    int rc = gpu_stream_wait(b->o.stream, b->o.timeout_us, NULL);
    *out_us = clock_now_us() - began_us;
    return rc;
}

static int choose(const struct blas *b, const struct shape *s, const struct gpu_linear *a,
                  struct choice *c)
{
    struct candidate offered[CANDIDATES];
    int n = 0;
    uint64_t best_us = UINT64_MAX, us = UINT64_MAX;
    *c = (struct choice){.measured = true};
    if (describe(b, s, a) || b->api->candidates(b->handle, s->desc, s->w, s->in, s->out, s->out,
                                                b->preference, CANDIDATES, offered, &n))
        return 0;
    int rc = measure(b, s, NULL, a, &best_us);
    for (int i = 0; i < n && rc >= 0; i++) {
        if (offered[i].state || offered[i].workspace_bytes > b->o.workspace_bytes)
            continue;
        rc = measure(b, s, &offered[i].algo, a, &us);
        if (rc || us >= best_us)
            continue; /* a status: it is not for this product */
        best_us = us;
        *c = (struct choice){.measured = true,
                             .theirs = true,
                             .algo = offered[i].algo,
                             .checked_rows = a->n_rows,
                             .fits = true};
    }
    return rc < 0 ? rc : 0;
}

int blas_measure(struct blas *b, const struct gpu_linear *a)
{
    const uint32_t most = piece_of(b, a);
    struct shape *s = find(b, a);
    if (!s)
        s = add(b, a);
    if (!s || most <= GPU_SKINNY)
        return 0;
    struct gpu_linear part = *a;
    int rc = 0;
    for (uint32_t i = 0; i <= step_of(most) && !rc; i++) {
        const uint32_t largest = (uint32_t)FIRST_STEP << i;
        part.n_rows = i < step_of(most) ? largest : most;
        if (!s->steps[i].measured)
            rc = choose(b, s, &part, &s->steps[i]);
    }
    return rc;
}

/* --- products --- */

/* Whether a is to be the library's, whose algorithms are not for every number of rows. */
static bool takes(const struct blas *b, const struct shape *s, struct choice *c,
                  const struct gpu_linear *a)
{
    struct candidate unused;
    if (!c->theirs || describe(b, s, a))
        return false;
    if (c->checked_rows != a->n_rows) {
        c->checked_rows = a->n_rows;
        c->fits = b->api->check(b->handle, s->desc, s->w, s->in, s->out, s->out, &c->algo,
                                &unused) == 0 &&
                  unused.workspace_bytes <= b->o.workspace_bytes;
    }
    return c->fits;
}

static int linear_piece(struct blas *b, struct shape *s, const struct gpu_linear *a)
{
    struct choice *c = s ? &s->steps[step_of(a->n_rows)] : NULL;
    if (a->n_rows <= GPU_SKINNY || !c || !takes(b, s, c, a))
        return gpu_linear_rows(b->o.stream, b->o.flavour, false, a);
    const int status = issue(b, s, &c->algo, a);
    if (status <= 0)
        return status;
    char why[128];
    snprintf(why, sizeof(why), "%s; cublaslt = false does without it", b->api->status_name(status));
    gpu_stream_fault(b->o.stream, "cuBLASLt", why);
    return -LLMD_EPOISONED;
}

int blas_linear_rows(struct blas *b, const struct gpu_linear *a)
{
    struct shape *s = find(b, a);
    struct gpu_linear part = *a;
    int rc = 0;
    for (uint32_t done = 0; done < a->n_rows && !rc; done += part.n_rows) {
        const size_t out_bytes = a->gate_up ? sizeof(uint16_t) : sizeof(float);
        part.n_rows = a->n_rows - done;
        part.n_rows = piece_of(b, &part);
        part.in = (const uint16_t *)a->in + (size_t)done * a->in_stride;
        part.out = (uint8_t *)a->out + (size_t)done * a->out_stride * out_bytes;
        rc = linear_piece(b, s, &part);
    }
    return rc;
}

/* gemm_peer.c - cuBLASLt, opened at run time, as the ceiling that products are measured against. The
 * declarations are its documented interface (cublasLt.h of CUDA 12 and 13). */
#include <dlfcn.h>
#include <string.h>

#include "core/util/clock.h"
#include "tests/gpu/device/rig.h"

enum {
    COMPUTE_F32_SUMS = 68,
    TYPE_F32 = 0,
    TYPE_BF16 = 14,
    DESC_TRANSA = 3,
    WORKSPACE_MAX = 1,
    OP_T = 1,
    CHOICES = 16
};

struct choice { /* cublasLtMatmulHeuristicResult_t */
    uint64_t algo[8];
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

struct lt {
    int (*create)(void **);
    int (*desc_create)(void **, int, int);
    int (*desc_set)(void *, int, const void *, size_t);
    int (*layout_create)(void **, int, uint64_t, uint64_t, int64_t);
    int (*pref_create)(void **);
    int (*pref_set)(void *, int, const void *, size_t);
    int (*choose)(void *, void *, void *, void *, void *, void *, void *, int, struct choice *,
                  int *);
    int (*matmul)(void *, void *, const void *, const void *, void *, const void *, void *,
                  const void *, const void *, void *, void *, void *, const void *, void *, size_t,
                  void *);
    void *handle;
};

static bool lt_open(struct lt *lt)
{
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
    const struct {
        void *fn;
        const char *name;
    } wanted[] = {{&lt->create, "cublasLtCreate"},
                  {&lt->desc_create, "cublasLtMatmulDescCreate"},
                  {&lt->desc_set, "cublasLtMatmulDescSetAttribute"},
                  {&lt->layout_create, "cublasLtMatrixLayoutCreate"},
                  {&lt->pref_create, "cublasLtMatmulPreferenceCreate"},
                  {&lt->pref_set, "cublasLtMatmulPreferenceSetAttribute"},
                  {&lt->choose, "cublasLtMatmulAlgoGetHeuristic"},
                  {&lt->matmul, "cublasLtMatmul"}};
    void *so = NULL;
    for (size_t i = 0; i < (cublaslt_file ? 1 : ARRAY_LEN(names)) && !so; i++)
        so = dlopen(cublaslt_file ? cublaslt_file : names[i], RTLD_NOW | RTLD_LOCAL);
    if (!so)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        void *fn = dlsym(so, wanted[i].name);
        if (!fn)
            return false;
        *(void **)wanted[i].fn = fn;
    }
    return lt->create(&lt->handle) == 0;
}

/* One product's operands, and how it is described to the library. */
struct product {
    void *desc, *a, *b, *d;
    void *w, *in, *out, *workspace;
    size_t workspace_bytes;
};

static double seconds_of(struct rig *r, struct lt *lt, struct product *p, struct choice *c)
{
    enum { RUNS = 10 };
    const float one = 1, zero = 0;
    uint64_t began_us = 0;
    for (int i = -2; i < RUNS; i++) {
        if (i == 0) {
            wait_device(r);
            began_us = clock_now_us();
        }
        if (lt->matmul(lt->handle, p->desc, &one, p->w, p->a, p->in, p->b, &zero, p->out, p->d,
                       p->out, p->d, c->algo, p->workspace, p->workspace_bytes,
                       gpu_stream_handle(r->cuda->stream)))
            return -1;
    }
    wait_device(r);
    return (double)(clock_now_us() - began_us) * 1e-6 / RUNS;
}

double gemm_peer_seconds(struct rig *r, uint32_t m, uint32_t n, uint32_t k)
{
    static struct lt lt;
    static int state; /* 0: not tried, 1: there, -1: not there */
    const int transposed = OP_T;
    struct product p = {.workspace_bytes = 32u << 20};
    struct choice choices[CHOICES];
    void *pref;
    double best = -1;
    int n_choices = 0;
    if (state == 0)
        state = rig_library() && lt_open(&lt) ? 1 : -1;
    if (state < 0)
        return -1;
    p.w = device_new(r, (size_t)n * k * 2);
    p.in = device_new(r, (size_t)m * k * 2);
    p.out = device_new(r, (size_t)m * n * 2);
    p.workspace = device_new(r, p.workspace_bytes);
    if (!lt.desc_create(&p.desc, COMPUTE_F32_SUMS, TYPE_F32) &&
        !lt.desc_set(p.desc, DESC_TRANSA, &transposed, sizeof(transposed)) &&
        !lt.layout_create(&p.a, TYPE_BF16, k, n, k) &&
        !lt.layout_create(&p.b, TYPE_BF16, k, m, k) &&
        !lt.layout_create(&p.d, TYPE_BF16, n, m, n) && !lt.pref_create(&pref) &&
        !lt.pref_set(pref, WORKSPACE_MAX, &p.workspace_bytes, sizeof(p.workspace_bytes)) &&
        !lt.choose(lt.handle, p.desc, p.a, p.b, p.d, p.d, pref, CHOICES, choices, &n_choices))
        for (int i = 0; i < n_choices; i++) {
            const double s = seconds_of(r, &lt, &p, &choices[i]);
            best = s > 0 && (best < 0 || s < best) ? s : best;
        }
    void *all[] = {p.w, p.in, p.out, p.workspace};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        gpu_free(r->cuda->gpu, all[i]);
    return best;
}

#include "cmd/gpus.h"

#include "core/config/config.h"

#ifdef LLMD_CUDA
#include <pthread.h>

#include "core/observe/log.h"
#include "gpu/cuda.h"

/* Opened once, by the first worker that may use it, and never closed: 500 MB. */
static struct blas_library *blas;

static void find_blas(void)
{
    struct err e = {0};
    if (blas_library_open(NULL, &blas, &e)) {
        log_info("gpu", "all products are computed by llmd's own kernels: %s", e.msg);
        return;
    }
    const size_t v = blas_library_version(blas);
    log_info("gpu", "cuBLASLt %zu.%zu.%zu computes products of many rows, where it is faster",
             v / 10000, v / 100 % 100, v % 100);
}

static int count(uint32_t *out, struct err *e)
{
    return cuda_count(out, e);
}

int gpus_open(uint32_t gpu, struct backend **out, struct err *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, find_blas);
    const struct cuda_opts o = {.device = gpu, .blas = blas};
    return cuda_backend_new(&o, out, e);
}

int gpus_open_own(uint32_t gpu, struct backend **out, struct err *e)
{
    const struct cuda_opts o = {.device = gpu};
    return cuda_backend_new(&o, out, e);
}

bool gpus_built_in(void)
{
    return true;
}
#else
static int count(uint32_t *out, struct err *e)
{
    (void)out;
    return err_set(e, LLMD_EUNSUPPORTED,
                   "this llmd was built without CUDA; build it with `make CUDA=1` (needs nvcc), or "
                   "use device \"cpu\"");
}

int gpus_open(uint32_t gpu, struct backend **out, struct err *e)
{
    (void)gpu;
    (void)out;
    return count(NULL, e);
}

int gpus_open_own(uint32_t gpu, struct backend **out, struct err *e)
{
    return gpus_open(gpu, out, e);
}

bool gpus_built_in(void)
{
    return false;
}
#endif

int gpus_named(const char *device, uint32_t *out_first, uint32_t *out_n, struct err *e)
{
    uint32_t index = 0, n = 0;
    *out_first = *out_n = 0;
    if (!config_names_gpu(device, &index))
        return 0;
    int rc = count(&n, e);
    if (!rc && index != CONFIG_ALL_GPUS && index >= n)
        rc = err_set(e, LLMD_EUNSUPPORTED, "there is no such GPU; the machine has %u", n);
    if (rc) {
        err_prefix(e, "device \"%s\": ", device);
        return rc;
    }
    *out_first = index == CONFIG_ALL_GPUS ? 0 : index;
    *out_n = index == CONFIG_ALL_GPUS ? n : 1;
    return 0;
}

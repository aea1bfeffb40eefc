#include "cmd/gpus.h"

#include "core/config/config.h"

#ifdef LLMD_CUDA
#include "gpu/cuda.h"

static int count(uint32_t *out, struct err *e)
{
    return cuda_count(out, e);
}

int gpus_open(uint32_t gpu, struct backend **out, struct err *e)
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

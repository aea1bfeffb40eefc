/* cpu_isa.c - see cpu_isa_int.h. */
#include "core/backend/cpu_isa_int.h"

#include <string.h>

#if defined(__x86_64__)

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

#endif

static bool has_portable(void)
{
    return true;
}

/* Best first. */
static const struct {
    const char *name;
    const struct cpu_kernels *kernels;
    bool (*present)(void);
} isas[] = {
#if defined(__x86_64__)
    {"avx512", &cpu_kernels_avx512, has_avx512},
    {"avx2", &cpu_kernels_avx2, has_avx2},
#endif
    {"portable", &cpu_kernels_portable, has_portable},
};

int cpu_isa_choose(const char *name, const struct cpu_kernels **out, struct err *e)
{
    const bool any = !name || strcmp(name, "auto") == 0;
    for (size_t i = 0; i < ARRAY_LEN(isas); i++) {
        if (!any && strcmp(name, isas[i].name) != 0)
            continue;
        if (isas[i].present()) {
            *out = isas[i].kernels;
            return 0;
        }
        if (!any)
            return err_set(e, LLMD_EUNSUPPORTED, "this machine lacks instruction set \"%s\"", name);
    }
    return err_set(e, LLMD_EINVAL, "unknown instruction set \"%s\": auto, avx512, avx2 or portable",
                   name);
}

/* cpu_isa.c - see cpu_isa_int.h. */
#include "core/backend/cpu_isa_int.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* clang's __builtin_cpu_supports does not know the name. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

/* Tiles are 8 KiB of state per thread, which Linux grants to a process on request. */
static bool has_amx(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    enum { AMX_TILE = 1 << 24, AMX_INT8 = 1 << 25 };
    unsigned a, b, c, d;
    if (!has_avx512() || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return false;
    return (d & AMX_TILE) != 0 && (d & AMX_INT8) != 0 &&
           syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

static struct cpu_kernels amx_kernels(void)
{
    struct cpu_kernels k = cpu_kernels_avx512;
    k.name = "avx512-vnni+amx-int8";
    k.linear = amx_linear;
    k.linear_scratch = amx_scratch_bytes;
    return k;
}

static struct cpu_kernels avx512_kernels(void)
{
    return cpu_kernels_avx512;
}

static struct cpu_kernels avx2_kernels(void)
{
    return cpu_kernels_avx2;
}

#endif

static bool has_portable(void)
{
    return true;
}

static struct cpu_kernels portable_kernels(void)
{
    return cpu_kernels_portable;
}

/* Best first. */
static const struct {
    const char *name;
    bool (*present)(void);
    struct cpu_kernels (*kernels)(void);
} isas[] = {
#if defined(__x86_64__)
    {"amx", has_amx, amx_kernels},
    {"avx512", has_avx512, avx512_kernels},
    {"avx2", has_avx2, avx2_kernels},
#endif
    {"portable", has_portable, portable_kernels},
};

int cpu_isa_choose(const char *name, struct cpu_kernels *out, struct err *e)
{
    const bool any = !name || strcmp(name, "auto") == 0;
    for (size_t i = 0; i < ARRAY_LEN(isas); i++) {
        if (!any && strcmp(name, isas[i].name) != 0)
            continue;
        if (isas[i].present()) {
            *out = isas[i].kernels();
            return 0;
        }
        if (!any)
            return err_set(e, LLMD_EUNSUPPORTED, "this machine lacks instruction set \"%s\"", name);
    }
    return err_set(e, LLMD_EINVAL,
                   "unknown instruction set \"%s\": auto, amx, avx512, avx2 or portable", name);
}

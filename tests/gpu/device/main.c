/* The program behind tests/gpu/run.sh:
 *
 *   device_run describe | numerics | perf | load | soak SECONDS | fault | endless   [--tiny]
 *              [--cublaslt FILE]
 *   device_run text MODEL EXPECTED
 *
 * Prints one JSON object. Exit 0: every gate holds; 1: one does not; 2: it could not be run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/clock.h"
#include "tests/gpu/device/rig.h"

static int describe(void)
{
    struct gpu *g;
    struct err e = {0};
    must(gpu_open(0, &g, &e), "device", &e);
    const struct gpu_info *i = gpu_describe(g);
    printf("{\"gpu\": \"%s\", \"capability\": %u, \"processors\": %u, \"memory_bytes\": %llu}\n",
           i->name, i->capability, i->n_processors, (unsigned long long)i->memory_bytes);
    gpu_close(g);
    return 0;
}

/* A step beside a kernel that harms the device: it must end, in time, and say so. */
static int contained(bool endless)
{
    const struct shape *list;
    (void)shapes(true, &list);
    const uint64_t limit_us = 1000000;
    const struct rig_opts o = {.cuda = {.step_timeout_us = limit_us},
                               .max_rows = 8,
                               .max_seqs = 8,
                               .max_context = 64,
                               .n_blocks = 1031};
    const uint32_t token = 1;
    struct rig r;
    struct step s;
    struct err e = {0};
    void *go = NULL;
    rig_open(&r, &list[0], &o);
    step_init(&s, &o);
    step_add(&s, &r, 0, &token, 1, 0, 1);
    step_run(&s, &r);
    must(gpu_pinned_alloc(r.cuda->gpu, sizeof(uint32_t), &go, &e), "pinned", &e);
    must(endless ? ref_endless(&r.ref, go) : ref_fault(&r.ref), "launch", NULL);
    const uint64_t began_us = clock_now_us();
    int rc = forward_step(r.forward, &s.batch, &e);
    if (!rc)
        rc = forward_sample(r.forward, s.samples, 1, s.ids, &e);
    const uint64_t took_us = clock_now_us() - began_us;
    const char *fault = cuda_backend_fault(r.be);
    const bool ok = rc == -LLMD_EPOISONED && fault && took_us < 3 * limit_us;
    printf("{\"rc\": %d, \"fault\": \"%s\", \"took_ms\": %.1f, \"ok\": %s}\n", rc,
           fault ? fault : "", (double)took_us / 1000, ok ? "true" : "false");
    fflush(stdout);
    _Exit(ok ? 0 : 1); /* CUDA cannot go on */
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    bool tiny = false;
    for (int i = 2; i < argc; i++) {
        tiny |= strcmp(argv[i], "--tiny") == 0;
        if (strcmp(argv[i], "--cublaslt") == 0 && i + 1 < argc)
            cublaslt_file = argv[i + 1];
    }
    if (strcmp(what, "describe") == 0)
        return describe();
    if (strcmp(what, "numerics") == 0)
        return numerics(tiny);
    if (strcmp(what, "perf") == 0)
        return perf(tiny);
    if (strcmp(what, "text") == 0 && argc > 3)
        return text(argv[2], argv[3]);
    if (strcmp(what, "load") == 0)
        return load(tiny);
    if (strcmp(what, "soak") == 0 && argc > 2)
        return soak(tiny, (uint32_t)strtoul(argv[2], NULL, 10));
    if (strcmp(what, "fault") == 0 || strcmp(what, "endless") == 0)
        return contained(what[0] == 'e');
    fprintf(stderr,
            "device_run: describe | numerics | perf | load | soak SECONDS | fault | endless "
            "[--tiny] [--cublaslt FILE]\n");
    return 2;
}

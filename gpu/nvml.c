/* nvml.c - the few functions of libnvidia-ml that we call, by their names and types in its manual. */
#include "gpu/nvml.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/clock.h"

enum {
    GPUS_MAX = 64,
    OK = 0,
    NOT_FOUND = 6,
    TEMPERATURE_OF_GPU = 0,
    CLOCK_SM = 1,
    CLOCK_MEMORY = 2,
    ECC_CORRECTED = 0,
    ECC_DAMAGED = 1,
    ECC_SINCE_LOAD = 0,
    EVENT_XID = 8,
};

typedef void *device;
typedef void *event_set;

struct utilization {
    unsigned gpu, memory;
};

struct memory {
    unsigned long long total, free, used;
};

struct event {
    device device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
};

struct api {
    int (*init)(void);
    int (*shutdown)(void);
    const char *(*error_text)(int);
    int (*by_pci)(const char *, device *);
    int (*name)(device, char *, unsigned);
    int (*uuid)(device, char *, unsigned);
    int (*utilization)(device, struct utilization *);
    int (*memory)(device, struct memory *);
    int (*temperature)(device, int, unsigned *);
    int (*power)(device, unsigned *);            /* mW */
    int (*energy)(device, unsigned long long *); /* mJ */
    int (*clock)(device, int, unsigned *);       /* MHz */
    int (*throttle)(device, unsigned long long *);
    int (*ecc)(device, int, int, unsigned long long *);
    int (*events_new)(event_set *);
    int (*events_add)(device, unsigned long long, event_set);
    int (*events_wait)(event_set, struct event *, unsigned);
    int (*events_free)(event_set);
};

struct nvml_gpu {
    struct nvml *nvml;
    device device;
    char name[96], uuid[96];
};

struct nvml {
    void *library;
    bool running; /* to be shut down */
    struct api api;
    event_set events; /* NULL: nothing to listen for */
    struct nvml_gpu *gpus[GPUS_MAX];
    uint32_t n_gpus;
};

/* --- the library --- */

/* A function pointer from a data pointer, which C does not let be cast. */
static bool resolve(void *library, const char *name, void *out_function)
{
    void *p = dlsym(library, name);
    memcpy(out_function, &p, sizeof(p));
    return p != NULL;
}

static int resolve_all(struct nvml *n, struct err *e)
{
    struct api *a = &n->api;
    enum { REQUIRED = 5 }; /* the first ones; what else is missing is not known of the GPUs */
    const struct {
        const char *name;
        void *out;
    } functions[] = {
        {"nvmlInit_v2", &a->init},
        {"nvmlShutdown", &a->shutdown},
        {"nvmlErrorString", &a->error_text},
        {"nvmlDeviceGetHandleByPciBusId_v2", &a->by_pci},
        {"nvmlDeviceGetName", &a->name},
        {"nvmlDeviceGetUUID", &a->uuid},
        {"nvmlDeviceGetUtilizationRates", &a->utilization},
        {"nvmlDeviceGetMemoryInfo", &a->memory},
        {"nvmlDeviceGetTemperature", &a->temperature},
        {"nvmlDeviceGetPowerUsage", &a->power},
        {"nvmlDeviceGetTotalEnergyConsumption", &a->energy},
        {"nvmlDeviceGetClockInfo", &a->clock},
        {"nvmlDeviceGetCurrentClocksThrottleReasons", &a->throttle},
        {"nvmlDeviceGetTotalEccErrors", &a->ecc},
        {"nvmlEventSetCreate", &a->events_new},
        {"nvmlDeviceRegisterEvents", &a->events_add},
        {"nvmlEventSetWait_v2", &a->events_wait},
        {"nvmlEventSetFree", &a->events_free},
    };
    for (size_t i = 0; i < ARRAY_LEN(functions); i++)
        if (!resolve(n->library, functions[i].name, functions[i].out) && i < REQUIRED)
            return err_set(e, LLMD_EUNSUPPORTED, "NVML has no %s", functions[i].name);
    return 0;
}

static int failed(const struct nvml *n, int code, const char *what, struct err *e)
{
    const char *text = n->api.error_text(code);
    return err_set(e, code == NOT_FOUND ? LLMD_ENOTFOUND : LLMD_EGPU, "NVML: %s: %s", what,
                   text ? text : "unknown error");
}

static bool has_events(const struct api *a)
{
    return a->events_new && a->events_add && a->events_wait && a->events_free;
}

int nvml_open(const char *library, struct nvml **out, struct err *e)
{
    struct nvml *n = calloc(1, sizeof(*n));
    if (!n)
        return err_set(e, LLMD_ENOMEM, "out of memory for NVML");
    int rc = 0, code = 0;
    n->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!n->library)
        rc = err_set(e, LLMD_EUNSUPPORTED, "NVML cannot be opened: %s", dlerror());
    if (!rc)
        rc = resolve_all(n, e);
    if (!rc && (code = n->api.init()) != OK)
        rc = failed(n, code, "init", e);
    n->running = !rc;
    if (!rc && has_events(&n->api) && n->api.events_new(&n->events) != OK)
        n->events = NULL;
    if (rc) {
        nvml_close(n);
        return rc;
    }
    *out = n;
    return 0;
}

void nvml_close(struct nvml *n)
{
    if (!n)
        return;
    if (n->events)
        (void)n->api.events_free(n->events);
    if (n->running)
        (void)n->api.shutdown();
    for (uint32_t i = 0; i < n->n_gpus; i++)
        free(n->gpus[i]);
    if (n->library)
        (void)dlclose(n->library);
    free(n);
}

/* --- its GPUs --- */

int nvml_find(struct nvml *n, const char *pci, struct nvml_gpu **out, struct err *e)
{
    device d = NULL;
    if (n->n_gpus == GPUS_MAX)
        return err_set(e, LLMD_EFULL, "more than %d GPUs", GPUS_MAX);
    const int code = n->api.by_pci(pci, &d);
    if (code != OK)
        return failed(n, code, pci, e);
    struct nvml_gpu *g = calloc(1, sizeof(*g));
    if (!g)
        return err_set(e, LLMD_ENOMEM, "out of memory for a GPU's telemetry");
    g->nvml = n;
    g->device = d;
    if (n->api.name(d, g->name, sizeof(g->name)) != OK)
        g->name[0] = '\0';
    if (!n->api.uuid || n->api.uuid(d, g->uuid, sizeof(g->uuid)) != OK)
        g->uuid[0] = '\0';
    if (n->events)
        (void)n->api.events_add(d, EVENT_XID, n->events); /* where it cannot be, none will come */
    n->gpus[n->n_gpus++] = g;
    *out = g;
    return 0;
}

const char *nvml_name(const struct nvml_gpu *g)
{
    return g->name;
}

const char *nvml_uuid(const struct nvml_gpu *g)
{
    return g->uuid;
}

static void read_load(const struct nvml_gpu *g, struct nvml_reading *r)
{
    const struct api *a = &g->nvml->api;
    struct utilization u = {0};
    struct memory m = {0};
    if (a->utilization && a->utilization(g->device, &u) == OK) {
        r->known |= NVML_UTILIZATION;
        r->busy_percent = u.gpu;
        r->memory_percent = u.memory;
    }
    if (a->memory && a->memory(g->device, &m) == OK) {
        r->known |= NVML_MEMORY;
        r->memory_used_bytes = m.used;
        r->memory_total_bytes = m.total;
    }
    if (a->clock && a->clock(g->device, CLOCK_SM, &r->sm_mhz) == OK &&
        a->clock(g->device, CLOCK_MEMORY, &r->memory_mhz) == OK)
        r->known |= NVML_CLOCKS;
}

static void read_health(const struct nvml_gpu *g, struct nvml_reading *r)
{
    const struct api *a = &g->nvml->api;
    unsigned mw = 0;
    unsigned long long mj = 0, reasons = 0, corrected = 0, damaged = 0;
    if (a->temperature && a->temperature(g->device, TEMPERATURE_OF_GPU, &r->temperature_c) == OK)
        r->known |= NVML_TEMPERATURE;
    if (a->power && a->power(g->device, &mw) == OK)
        r->known |= NVML_POWER;
    if (a->energy && a->energy(g->device, &mj) == OK)
        r->known |= NVML_ENERGY;
    if (a->throttle && a->throttle(g->device, &reasons) == OK)
        r->known |= NVML_THROTTLE;
    if (a->ecc && a->ecc(g->device, ECC_CORRECTED, ECC_SINCE_LOAD, &corrected) == OK &&
        a->ecc(g->device, ECC_DAMAGED, ECC_SINCE_LOAD, &damaged) == OK)
        r->known |= NVML_ECC;
    r->power_w = mw / 1e3;
    r->energy_j = (double)mj / 1e3;
    r->throttle = reasons;
    r->ecc_corrected = corrected;
    r->ecc_damaged = damaged;
}

void nvml_read(struct nvml_gpu *g, struct nvml_reading *out)
{
    *out = (struct nvml_reading){.known = 0};
    read_load(g, out);
    read_health(g, out);
}

bool nvml_wait_xid(struct nvml *n, uint32_t timeout_ms, struct nvml_gpu **out, uint32_t *out_xid)
{
    const uint64_t until_us = clock_now_us() + (uint64_t)timeout_ms * 1000;
    struct event ev = {0};
    if (n->events && n->api.events_wait(n->events, &ev, timeout_ms) == OK && ev.type == EVENT_XID)
        for (uint32_t i = 0; i < n->n_gpus; i++)
            if (n->gpus[i]->device == ev.device) {
                *out = n->gpus[i];
                *out_xid = (uint32_t)ev.data;
                return true;
            }
    const uint64_t now_us = clock_now_us(); /* it may fail at once */
    if (now_us < until_us)
        clock_sleep_us(until_us - now_us);
    return false;
}

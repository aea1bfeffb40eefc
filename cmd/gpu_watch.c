#include "cmd/gpu_watch.h"

#include "cmd/gpus.h"

#ifdef LLMD_CUDA
#include <limits.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/observe/events.h"
#include "core/observe/metrics.h"
#include "core/util/json.h"
#include "core/util/lock.h"
#include "gpu/cuda.h"
#include "gpu/nvml.h"

enum { GPUS_MAX = 64, PCI_SIZE = 32, THROTTLES = 9 };

enum series_id {
    BUSY,
    MEMORY_BUSY,
    MEMORY_USED,
    MEMORY_FREE,
    MEMORY_ALL,
    TEMPERATURE,
    POWER,
    ENERGY,
    SM_CLOCK,
    MEMORY_CLOCK,
    THROTTLE,
    ECC_CORRECTED,
    ECC_DAMAGED,
    N_SERIES,
};

/* A quantity and its two names. Values are in base units; DCGM's are multiples of them. */
struct series {
    uint32_t quantity; /* enum nvml_quantity */
    const char *name, *help, *dcgm;
    double dcgm_factor;
};

struct watched_gpu {
    struct nvml_gpu *nvml; /* NULL: NVML does not know it */
    struct nvml_reading last;
    uint64_t n_xids;
    uint32_t last_xid;
    struct metric_gauge *own[N_SERIES], *dcgm[N_SERIES], *throttled[THROTTLES], *xid;
    struct metric_counter *xids;
};

struct gpu_watch {
    struct nvml *nvml;
    pthread_t thread;
    atomic_bool stop;
    uint32_t n;
    struct lock mu; /* rank LEAF: last, n_xids, last_xid of all */
    struct watched_gpu gpus[GPUS_MAX];
};

/* --- quantities --- */

static const double MIB = 1 << 20;

static void values_of(const struct nvml_reading *r, double out[N_SERIES])
{
    out[BUSY] = r->busy_percent / 100.0;
    out[MEMORY_BUSY] = r->memory_percent / 100.0;
    out[MEMORY_USED] = (double)r->memory_used_bytes;
    out[MEMORY_FREE] = (double)(r->memory_total_bytes - r->memory_used_bytes);
    out[MEMORY_ALL] = (double)r->memory_total_bytes;
    out[TEMPERATURE] = r->temperature_c;
    out[POWER] = r->power_w;
    out[ENERGY] = r->energy_j;
    out[SM_CLOCK] = r->sm_mhz * 1e6;
    out[MEMORY_CLOCK] = r->memory_mhz * 1e6;
    out[THROTTLE] = (double)r->throttle;
    out[ECC_CORRECTED] = (double)r->ecc_corrected;
    out[ECC_DAMAGED] = (double)r->ecc_damaged;
}

static const struct series all_series[N_SERIES] = {
    [BUSY] = {NVML_UTILIZATION, "llmd_gpu_busy_ratio",
              "Share of the last second in which kernels ran.", "DCGM_FI_DEV_GPU_UTIL", 100},
    [MEMORY_BUSY] = {NVML_UTILIZATION, "llmd_gpu_memory_busy_ratio",
                     "Share of the last second in which memory was read or written.",
                     "DCGM_FI_DEV_MEM_COPY_UTIL", 100},
    [MEMORY_USED] = {NVML_MEMORY, "llmd_gpu_memory_used_bytes", "Memory in use, by all processes.",
                     "DCGM_FI_DEV_FB_USED", 1 / (double)(1 << 20)},
    [MEMORY_FREE] = {NVML_MEMORY, "llmd_gpu_memory_free_bytes", "Memory that nobody uses.",
                     "DCGM_FI_DEV_FB_FREE", 1 / (double)(1 << 20)},
    [MEMORY_ALL] = {NVML_MEMORY, "llmd_gpu_memory_bytes", "Memory that the GPU has.",
                    "DCGM_FI_DEV_FB_TOTAL", 1 / (double)(1 << 20)},
    [TEMPERATURE] = {NVML_TEMPERATURE, "llmd_gpu_temperature_celsius", "Temperature of the GPU.",
                     "DCGM_FI_DEV_GPU_TEMP", 1},
    [POWER] = {NVML_POWER, "llmd_gpu_power_watts", "Power that the GPU takes.",
               "DCGM_FI_DEV_POWER_USAGE", 1},
    [ENERGY] = {NVML_ENERGY, "llmd_gpu_energy_joules", "Energy since the driver was loaded.",
                "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", 1000},
    [SM_CLOCK] = {NVML_CLOCKS, "llmd_gpu_sm_clock_hertz", "Clock of the processors.",
                  "DCGM_FI_DEV_SM_CLOCK", 1e-6},
    [MEMORY_CLOCK] = {NVML_CLOCKS, "llmd_gpu_memory_clock_hertz", "Clock of the memory.",
                      "DCGM_FI_DEV_MEM_CLOCK", 1e-6},
    [THROTTLE] = {NVML_THROTTLE, "llmd_gpu_throttle_bits",
                  "Why the clocks are lowered, as NVML's bits.",
                  "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", 1},
    [ECC_CORRECTED] = {NVML_ECC, "llmd_gpu_ecc_corrected", "Memory errors that were corrected.",
                       "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", 1},
    [ECC_DAMAGED] = {NVML_ECC, "llmd_gpu_ecc_damaged", "Memory errors that could not be corrected.",
                     "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", 1},
};

/* By the bits of enum nvml_throttle. */
static const char *const throttle_names[THROTTLES] = {
    "idle",       "setting",    "power_cap",      "hw_slowdown", "sync_boost",
    "sw_thermal", "hw_thermal", "hw_power_brake", "display",
};

/* --- series --- */

static void register_series(struct metrics *m, struct watched_gpu *g, uint32_t index,
                            const char *pci)
{
    struct buf labels = {0}, number = {0}, reason = {0}, exporter = {0};
    char host[HOST_NAME_MAX + 1] = "";
    buf_addf(&number, "%u", index);
    metrics_label(&labels, "gpu", buf_str(&number));
    metrics_label(&labels, "UUID", nvml_uuid(g->nvml));
    metrics_label(&labels, "modelName", nvml_name(g->nvml));
    metrics_label(&labels, "pci_bus_id", pci);
    const char *l = buf_str(&labels);
    (void)gethostname(host, HOST_NAME_MAX);
    buf_addstr(&exporter, l);
    metrics_label(&exporter, "Hostname", host); /* as DCGM's exporter has it */
    for (size_t i = 0; i < N_SERIES; i++) {
        const struct series *s = &all_series[i];
        if (!(g->last.known & s->quantity))
            continue;
        g->own[i] = metrics_gauge(m, s->name, s->help, l);
        g->dcgm[i] = metrics_gauge(m, s->dcgm, s->help, buf_str(&exporter));
    }
    for (size_t i = 0; i < THROTTLES && (g->last.known & NVML_THROTTLE); i++) {
        buf_clear(&reason);
        buf_addstr(&reason, l);
        metrics_label(&reason, "reason", throttle_names[i]);
        g->throttled[i] =
            metrics_gauge(m, "llmd_gpu_throttled",
                          "1 while the clocks are lowered for that reason.", buf_str(&reason));
    }
    g->xids = metrics_counter(m, "llmd_gpu_xid_errors_total", "Xid errors since the start.", l);
    g->xid = metrics_gauge(m, "DCGM_FI_DEV_XID_ERRORS", "The last Xid error; 0: none.",
                           buf_str(&exporter));
    buf_fini(&labels);
    buf_fini(&number);
    buf_fini(&reason);
    buf_fini(&exporter);
}

static void show(const struct watched_gpu *g)
{
    double v[N_SERIES];
    values_of(&g->last, v);
    for (size_t i = 0; i < N_SERIES; i++) {
        metric_set(g->own[i], v[i]);
        metric_set(g->dcgm[i], round(v[i] * all_series[i].dcgm_factor * 1e3) / 1e3);
    }
    for (uint32_t i = 0; i < THROTTLES; i++)
        metric_set(g->throttled[i], (double)(g->last.throttle >> i & 1));
    metric_set(g->xid, g->last_xid);
}

/* --- the thread --- */

static void read_all(struct gpu_watch *w)
{
    for (uint32_t i = 0; i < w->n; i++) {
        struct watched_gpu *g = &w->gpus[i];
        struct nvml_reading r;
        if (!g->nvml)
            continue;
        nvml_read(g->nvml, &r);
        lock_take(&w->mu);
        g->last = r;
        lock_drop(&w->mu);
        show(g);
    }
}

static void note_xid(struct gpu_watch *w, const struct nvml_gpu *nvml, uint32_t xid)
{
    for (uint32_t i = 0; i < w->n; i++) {
        struct watched_gpu *g = &w->gpus[i];
        if (g->nvml != nvml)
            continue;
        event_note(LOG_ERROR, "gpu", "xid=%u gpu=cuda:%u name=\"%s\"", xid, i, nvml_name(nvml));
        lock_take(&w->mu);
        g->n_xids++;
        g->last_xid = xid;
        lock_drop(&w->mu);
        metric_add(g->xids, 1);
    }
}

static void *watch_main(void *arg)
{
    enum { SLICE_MS = 200, SLICES = 5 }; /* so that the end is seen soon */
    struct gpu_watch *w = arg;
    struct nvml_gpu *which;
    uint32_t xid;
    (void)pthread_setname_np(pthread_self(), "llmd-gpus");
    for (uint32_t slice = 1; !atomic_load(&w->stop); slice++) {
        if (nvml_wait_xid(w->nvml, SLICE_MS, &which, &xid))
            note_xid(w, which, xid);
        else if (slice % SLICES == 0)
            read_all(w);
    }
    return NULL;
}

/* --- start and end --- */

static int find_gpus(struct gpu_watch *w, struct metrics *m, struct err *e)
{
    uint32_t n = 0, n_found = 0;
    int rc = cuda_count(&n, e);
    if (rc)
        return rc;
    w->n = (uint32_t)u64_min(n, GPUS_MAX);
    for (uint32_t i = 0; i < w->n; i++) {
        struct watched_gpu *g = &w->gpus[i];
        char pci[PCI_SIZE];
        err_clear(e);
        if (cuda_pci(i, pci, sizeof(pci), e) || nvml_find(w->nvml, pci, &g->nvml, e)) {
            g->nvml = NULL;
            continue;
        }
        n_found++;
        nvml_read(g->nvml, &g->last);
        register_series(m, g, i, pci);
        show(g);
    }
    if (n_found > 0)
        err_clear(e);
    return n_found > 0 ? 0 : -LLMD_EUNSUPPORTED;
}

int gpu_watch_start(struct metrics *m, struct gpu_watch **out, struct err *e)
{
    struct gpu_watch *w = calloc(1, sizeof(*w));
    if (!w)
        return err_set(e, LLMD_ENOMEM, "out of memory for the GPUs' telemetry");
    lock_init(&w->mu, LOCK_RANK_LEAF);
    int rc = nvml_open("libnvidia-ml.so.1", &w->nvml, e);
    if (!rc)
        rc = find_gpus(w, m, e);
    if (!rc && (rc = pthread_create(&w->thread, NULL, watch_main, w)) != 0)
        rc = err_set(e, LLMD_EIO, "cannot start a thread: %s", strerror(rc));
    if (rc) {
        nvml_close(w->nvml);
        lock_fini(&w->mu);
        free(w);
        return rc;
    }
    *out = w;
    return 0;
}

void gpu_watch_stop(struct gpu_watch *w)
{
    if (!w)
        return;
    atomic_store(&w->stop, true);
    BUG_ON(pthread_join(w->thread, NULL) != 0);
    nvml_close(w->nvml);
    lock_fini(&w->mu);
    free(w);
}

/* --- for operators --- */

static void add(struct buf *json, const char *name, bool known, double v)
{
    buf_addf(json, ",\"%s\":", name);
    json_add_double(json, known ? v : NAN);
}

static void add_throttle(const struct nvml_reading *r, struct buf *json)
{
    bool first = true;
    buf_addstr(json, ",\"throttled\":");
    if (!(r->known & NVML_THROTTLE)) {
        buf_addstr(json, "null");
        return;
    }
    buf_addch(json, '[');
    for (uint32_t i = 0; i < THROTTLES; i++)
        if (r->throttle >> i & 1) {
            buf_addf(json, "%s\"%s\"", first ? "" : ",", throttle_names[i]);
            first = false;
        }
    buf_addch(json, ']');
}

void gpu_watch_add_json(struct gpu_watch *w, uint32_t gpu, struct buf *json)
{
    if (!w || gpu >= w->n || !w->gpus[gpu].nvml) {
        buf_addstr(json, "null");
        return;
    }
    lock_take(&w->mu);
    const struct watched_gpu g = w->gpus[gpu];
    lock_drop(&w->mu);
    const struct nvml_reading *r = &g.last;
    buf_addstr(json, "{\"name\":");
    json_add_cstr(json, nvml_name(g.nvml));
    buf_addstr(json, ",\"uuid\":");
    json_add_cstr(json, nvml_uuid(g.nvml));
    add(json, "busy_percent", r->known & NVML_UTILIZATION, r->busy_percent);
    add(json, "memory_busy_percent", r->known & NVML_UTILIZATION, r->memory_percent);
    add(json, "memory_used_mib", r->known & NVML_MEMORY, floor((double)r->memory_used_bytes / MIB));
    add(json, "memory_mib", r->known & NVML_MEMORY, floor((double)r->memory_total_bytes / MIB));
    add(json, "temperature_c", r->known & NVML_TEMPERATURE, r->temperature_c);
    add(json, "power_w", r->known & NVML_POWER, r->power_w);
    add(json, "sm_mhz", r->known & NVML_CLOCKS, r->sm_mhz);
    add(json, "memory_mhz", r->known & NVML_CLOCKS, r->memory_mhz);
    add_throttle(r, json);
    add(json, "ecc_corrected", r->known & NVML_ECC, (double)r->ecc_corrected);
    add(json, "ecc_damaged", r->known & NVML_ECC, (double)r->ecc_damaged);
    buf_addf(json, ",\"xid_errors\":%llu,\"last_xid\":%u}", (unsigned long long)g.n_xids,
             g.last_xid);
}
#else
int gpu_watch_start(struct metrics *m, struct gpu_watch **out, struct err *e)
{
    (void)m;
    *out = NULL;
    return err_set(e, LLMD_EUNSUPPORTED, "this llmd was built without CUDA");
}

void gpu_watch_stop(struct gpu_watch *w)
{
    (void)w;
}

void gpu_watch_add_json(struct gpu_watch *w, uint32_t gpu, struct buf *json)
{
    (void)w;
    (void)gpu;
    buf_addstr(json, "null");
}
#endif

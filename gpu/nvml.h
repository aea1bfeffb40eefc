/* nvml.h - how the GPUs do, by NVIDIA's management library, which is opened at run time: a machine
 * without it serves, and knows less.
 *
 * A quantity that a GPU does not tell (a T4 has no ECC counters in some modes, a slice of a GPU no
 * power) is absent: its bit in `known` is not set.
 *
 * Thread  one at a time: a poller's.
 * Errors  EUNSUPPORTED: no library, or not one that we know; EGPU: it fails, with its own words. */
#pragma once
#include "core/util/base.h"
#include "core/util/err.h"

struct nvml;
struct nvml_gpu; /* as long as its nvml */

enum nvml_quantity {
    NVML_UTILIZATION = 1 << 0, /* both */
    NVML_MEMORY = 1 << 1,
    NVML_TEMPERATURE = 1 << 2,
    NVML_POWER = 1 << 3,
    NVML_ENERGY = 1 << 4,
    NVML_CLOCKS = 1 << 5, /* both */
    NVML_THROTTLE = 1 << 6,
    NVML_ECC = 1 << 7, /* both */
};

/* Why the clocks are lower than they could be; bits of `throttle`. */
enum nvml_throttle {
    NVML_THROTTLE_IDLE = 1 << 0,
    NVML_THROTTLE_SETTING = 1 << 1, /* somebody asked for these clocks */
    NVML_THROTTLE_POWER_CAP = 1 << 2,
    NVML_THROTTLE_HW_SLOWDOWN = 1 << 3,
    NVML_THROTTLE_SYNC_BOOST = 1 << 4,
    NVML_THROTTLE_SW_THERMAL = 1 << 5,
    NVML_THROTTLE_HW_THERMAL = 1 << 6,
    NVML_THROTTLE_HW_POWER_BRAKE = 1 << 7,
    NVML_THROTTLE_DISPLAY = 1 << 8,
};

struct nvml_reading {
    uint32_t known;                        /* enum nvml_quantity */
    uint32_t busy_percent, memory_percent; /* of the last second: kernels ran, memory was read */
    uint64_t memory_used_bytes, memory_total_bytes;
    uint32_t temperature_c;
    double power_w, energy_j; /* energy: since the driver was loaded */
    uint32_t sm_mhz, memory_mhz;
    uint64_t throttle;                   /* enum nvml_throttle */
    uint64_t ecc_corrected, ecc_damaged; /* since the driver was loaded */
};

/* library: "libnvidia-ml.so.1". */
MUST_CHECK int nvml_open(const char *library, struct nvml **out, struct err *e);
void nvml_close(struct nvml *n); /* NULL is fine */
/* The GPU at a PCI address ("00000000:01:00.0"); its Xid errors are listened for from now on, where
 * that can be done. ENOTFOUND: none there. */
MUST_CHECK int nvml_find(struct nvml *n, const char *pci, struct nvml_gpu **out, struct err *e);
const char *nvml_name(const struct nvml_gpu *g);
const char *nvml_uuid(const struct nvml_gpu *g);
void nvml_read(struct nvml_gpu *g, struct nvml_reading *out);
/* Waits so long for an Xid error of one of the GPUs. True: *out and *out_xid say which. */
bool nvml_wait_xid(struct nvml *n, uint32_t timeout_ms, struct nvml_gpu **out, uint32_t *out_xid);

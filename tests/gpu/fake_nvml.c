/* fake_nvml.c - a libnvidia-ml.so.1 for tests: two GPUs, at 00000000:01:00.0 and :02:00.0, whose figures
 * are made up from their number. The second one has no ECC memory and tells no power.
 *
 * The file that FAKE_NVML_XID names is looked at with each wait for events: a number in it is an Xid error
 * of the first GPU, once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, TIMEOUT = 10, N_GPUS = 2 };

struct fake_gpu {
    int number;
};

struct utilization {
    unsigned gpu, memory;
};

struct memory {
    unsigned long long total, free, used;
};

struct event {
    void *device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
};

static struct fake_gpu gpus[N_GPUS] = {{0}, {1}};

int nvmlInit_v2(void);
int nvmlShutdown(void);
const char *nvmlErrorString(int code);
int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, void **out);
int nvmlDeviceGetName(struct fake_gpu *g, char *out, unsigned n);
int nvmlDeviceGetUUID(struct fake_gpu *g, char *out, unsigned n);
int nvmlDeviceGetUtilizationRates(struct fake_gpu *g, struct utilization *out);
int nvmlDeviceGetMemoryInfo(struct fake_gpu *g, struct memory *out);
int nvmlDeviceGetTemperature(struct fake_gpu *g, int sensor, unsigned *out);
int nvmlDeviceGetPowerUsage(struct fake_gpu *g, unsigned *out);
int nvmlDeviceGetTotalEnergyConsumption(struct fake_gpu *g, unsigned long long *out);
int nvmlDeviceGetClockInfo(struct fake_gpu *g, int clock, unsigned *out);
int nvmlDeviceGetCurrentClocksThrottleReasons(struct fake_gpu *g, unsigned long long *out);
int nvmlDeviceGetTotalEccErrors(struct fake_gpu *g, int kind, int counter, unsigned long long *out);
int nvmlEventSetCreate(void **out);
int nvmlDeviceRegisterEvents(struct fake_gpu *g, unsigned long long types, void *set);
int nvmlEventSetWait_v2(void *set, struct event *out, unsigned ms);
int nvmlEventSetFree(void *set);

int nvmlInit_v2(void)
{
    return SUCCESS;
}

int nvmlShutdown(void)
{
    return SUCCESS;
}

const char *nvmlErrorString(int code)
{
    return code == NOT_FOUND ? "Not Found" : "Unknown Error";
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, void **out)
{
    unsigned bus;
    if (sscanf(pci, "00000000:%2x:00.0", &bus) != 1 || bus < 1 || bus > N_GPUS)
        return NOT_FOUND;
    *out = &gpus[bus - 1];
    return SUCCESS;
}

int nvmlDeviceGetName(struct fake_gpu *g, char *out, unsigned n)
{
    snprintf(out, n, "Fake GPU %d", g->number);
    return SUCCESS;
}

int nvmlDeviceGetUUID(struct fake_gpu *g, char *out, unsigned n)
{
    snprintf(out, n, "GPU-0000-%d", g->number);
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(struct fake_gpu *g, struct utilization *out)
{
    *out = (struct utilization){.gpu = 75, .memory = 20u + (unsigned)g->number};
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(struct fake_gpu *g, struct memory *out)
{
    (void)g;
    *out = (struct memory){.total = 16ull << 30, .free = 6ull << 30, .used = 10ull << 30};
    return SUCCESS;
}

int nvmlDeviceGetTemperature(struct fake_gpu *g, int sensor, unsigned *out)
{
    *out = 50u + (unsigned)g->number;
    return sensor == 0 ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetPowerUsage(struct fake_gpu *g, unsigned *out)
{
    *out = 123456;
    return g->number == 0 ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetTotalEnergyConsumption(struct fake_gpu *g, unsigned long long *out)
{
    *out = 5000;
    return g->number == 0 ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetClockInfo(struct fake_gpu *g, int clock, unsigned *out)
{
    (void)g;
    *out = clock == 1 ? 1980 : 2619;
    return SUCCESS;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(struct fake_gpu *g, unsigned long long *out)
{
    *out = g->number == 0 ? 0x4 | 0x20 : 0;
    return SUCCESS;
}

int nvmlDeviceGetTotalEccErrors(struct fake_gpu *g, int kind, int counter, unsigned long long *out)
{
    *out = kind == 0 ? 7 : 1;
    return g->number == 0 && counter == 0 ? SUCCESS : NOT_SUPPORTED;
}

int nvmlEventSetCreate(void **out)
{
    *out = gpus;
    return SUCCESS;
}

int nvmlDeviceRegisterEvents(struct fake_gpu *g, unsigned long long types, void *set)
{
    (void)g;
    return types == 8 && set == gpus ? SUCCESS : NOT_SUPPORTED;
}

int nvmlEventSetWait_v2(void *set, struct event *out, unsigned ms)
{
    const char *path = getenv("FAKE_NVML_XID");
    FILE *f = path ? fopen(path, "r") : NULL;
    unsigned xid = 0;
    if (f) {
        if (fscanf(f, "%u", &xid) != 1)
            xid = 0;
        fclose(f);
    }
    if (xid == 0) {
        usleep(ms * 1000);
        return set ? TIMEOUT : NOT_FOUND;
    }
    (void)unlink(path);
    memset(out, 0, sizeof(*out));
    out->device = &gpus[0];
    out->type = 8;
    out->data = xid;
    return SUCCESS;
}

int nvmlEventSetFree(void *set)
{
    return set ? SUCCESS : NOT_FOUND;
}

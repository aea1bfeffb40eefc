#include "core/edge/process_metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "core/observe/log.h"
#include "core/observe/metrics.h"

struct process_memory {
    double virtual_bytes, resident_bytes;
};

/* The first two numbers of /proc/self/statm, in pages. */
static bool read_memory(struct process_memory *out)
{
    char text[256], *end;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return false;
    const bool read = fgets(text, sizeof(text), f) != NULL;
    fclose(f);
    if (!read)
        return false;
    const double page = (double)sysconf(_SC_PAGESIZE);
    out->virtual_bytes = (double)strtoull(text, &end, 10) * page;
    if (*end != ' ')
        return false;
    out->resident_bytes = (double)strtoull(end, NULL, 10) * page;
    return true;
}

static double seconds_of(const struct timeval *t)
{
    return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

static void add(uint32_t style, const char *name, const char *help, enum metric_type type, double v,
                struct buf *out)
{
    metrics_write_head(style, name, help, type, out);
    metrics_write_value(name, "", v, out);
}

/* In percent, of the whole machine: names that production-stack's dashboards show of its router. */
static void add_machine(uint32_t style, struct buf *out)
{
    struct sysinfo memory;
    struct statvfs disk;
    double load;
    if (getloadavg(&load, 1) == 1)
        add(style, "router_cpu_usage_percent",
            "Threads of the machine that run or want to, over the last minute, per processor.",
            METRIC_GAUGE, load * 100 / (double)sysconf(_SC_NPROCESSORS_ONLN), out);
    if (sysinfo(&memory) == 0 && memory.totalram > 0)
        add(style, "router_memory_usage_percent", "Memory of the machine that is not free.",
            METRIC_GAUGE,
            100 - 100 * (double)(memory.freeram + memory.bufferram) / (double)memory.totalram, out);
    if (statvfs("/", &disk) == 0 && disk.f_blocks > 0)
        add(style, "router_disk_usage_percent", "Share of the root file system that is used.",
            METRIC_GAUGE, 100 - 100 * (double)disk.f_bavail / (double)disk.f_blocks, out);
}

void process_metrics_write(uint32_t style, struct buf *out)
{
    struct process_memory memory;
    struct rusage use;
    add(style, "llmd_log_lines_dropped_total", "Log lines that nobody read in time.",
        METRIC_COUNTER, (double)log_dropped(), out);
    add_machine(style, out);
    if (getrusage(RUSAGE_SELF, &use) == 0)
        add(style, "process_cpu_seconds_total", "Processor time of the process.", METRIC_COUNTER,
            seconds_of(&use.ru_utime) + seconds_of(&use.ru_stime), out);
    if (!read_memory(&memory))
        return;
    add(style, "process_virtual_memory_bytes", "Address space of the process.", METRIC_GAUGE,
        memory.virtual_bytes, out);
    add(style, "process_resident_memory_bytes", "Memory of the process.", METRIC_GAUGE,
        memory.resident_bytes, out);
}

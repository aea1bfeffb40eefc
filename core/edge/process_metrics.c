#include "core/edge/process_metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "core/observe/log.h"
#include "core/observe/metrics.h"

struct process_state {
    double cpu_s, start_s; /* start: since 1970 */
    double virtual_bytes, resident_bytes;
};

/* Fields of /proc/self/stat after the name, which may hold anything but ends with the last ')'. */
static bool read_stat(struct process_state *out)
{
    char text[1024];
    FILE *f = fopen("/proc/self/stat", "re");
    if (!f)
        return false;
    const size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    unsigned long long user, system, start, size;
    long long pages;
    const char *fields = strrchr(text, ')');
    if (!fields ||
        sscanf(fields + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d "
               "%*d %llu %llu %lld",
               &user, &system, &start, &size, &pages) != 5)
        return false;
    const double ticks = (double)sysconf(_SC_CLK_TCK);
    out->cpu_s = (double)(user + system) / ticks;
    out->start_s = (double)start / ticks; /* since the machine's start */
    out->virtual_bytes = (double)size;
    out->resident_bytes = (double)pages * (double)sysconf(_SC_PAGESIZE);
    return true;
}

/* When the machine was started, in seconds since 1970; false: unknown. */
static bool read_boot(double *out_s)
{
    char line[256];
    unsigned long long s;
    FILE *f = fopen("/proc/stat", "re");
    bool found = false;
    while (f && !found && fgets(line, sizeof(line), f))
        found = sscanf(line, "btime %llu", &s) == 1;
    if (f)
        fclose(f);
    if (found)
        *out_s = (double)s;
    return found;
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
    struct process_state s;
    double boot_s;
    add(style, "llmd_log_lines_dropped_total", "Log lines that nobody read in time.",
        METRIC_COUNTER, (double)log_dropped(), out);
    add_machine(style, out);
    if (!read_stat(&s))
        return;
    add(style, "process_cpu_seconds_total", "Processor time of the process.", METRIC_COUNTER,
        s.cpu_s, out);
    add(style, "process_virtual_memory_bytes", "Address space of the process.", METRIC_GAUGE,
        s.virtual_bytes, out);
    add(style, "process_resident_memory_bytes", "Memory of the process.", METRIC_GAUGE,
        s.resident_bytes, out);
    if (read_boot(&boot_s))
        add(style, "process_start_time_seconds", "When the process started, in seconds since 1970.",
            METRIC_GAUGE, boot_s + s.start_s, out);
}

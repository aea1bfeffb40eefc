#include "core/util/cpuinfo.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/buf.h"
#include "core/util/fsio.h"

enum { FILE_MAX = 64 * 1024, PATH_CHARS = 4096 };

/* The lowest-numbered processor that shares cpu's core; cpu itself when unknown. */
static int first_sibling(int cpu)
{
    char path[96], *end;
    struct buf text = {0};
    int first = cpu;
    (void)snprintf(path, sizeof(path),
                   "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    if (file_read(path, FILE_MAX, &text, NULL) == 0) {
        const long n = strtol(buf_str(&text), &end, 10);
        if (end != buf_str(&text) && n >= 0 && n < CPU_SETSIZE)
            first = (int)n;
    }
    buf_fini(&text);
    return first;
}

static uint32_t physical_cores(void)
{
    cpu_set_t ours, cores;
    CPU_ZERO(&ours);
    CPU_ZERO(&cores);
    if (sched_getaffinity(0, sizeof(ours), &ours) != 0)
        return 1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &ours))
            CPU_SET(first_sibling(cpu), &cores);
    return (uint32_t)CPU_COUNT(&cores);
}

/* What one group's cpu.max, "QUOTA PERIOD" in microseconds or "max PERIOD", is worth. */
static uint32_t group_quota(const char *folder)
{
    char path[PATH_CHARS], *end;
    struct buf text = {0};
    uint32_t cores = UINT32_MAX;
    const int n = snprintf(path, sizeof(path), "%s/cpu.max", folder);
    if (n > 0 && (size_t)n < sizeof(path) && file_read(path, FILE_MAX, &text, NULL) == 0) {
        const unsigned long long quota = strtoull(buf_str(&text), &end, 10);
        const bool given = end != buf_str(&text);
        const unsigned long long period = strtoull(end, NULL, 10);
        if (given && period > 0)
            cores = (uint32_t)u64_max(1, u64_min(quota / period, UINT32_MAX));
    }
    buf_fini(&text);
    return cores;
}

uint32_t cpu_quota_cores(const char *self, const char *root)
{
    char folder[PATH_CHARS];
    struct buf groups = {0};
    uint32_t cores = UINT32_MAX;
    const size_t n_root = strlen(root);
    /* The line of the version 2 hierarchy is "0::/path". */
    const char *own = file_read(self, FILE_MAX, &groups, NULL) == 0 ? buf_str(&groups) : "";
    while (*own && strncmp(own, "0::/", 4) != 0)
        own += strcspn(own, "\n") + (strchr(own, '\n') != NULL);
    const int n = snprintf(folder, sizeof(folder), "%s%.*s", root,
                           *own ? (int)strcspn(own + 3, "\n") : 0, *own ? own + 3 : "");
    buf_fini(&groups);
    if (n < 0 || (size_t)n >= sizeof(folder))
        return UINT32_MAX;
    for (;;) { /* the group itself, then its parents up to the root */
        cores = (uint32_t)u64_min(cores, group_quota(folder));
        char *slash = strrchr(folder, '/');
        if (!slash || strlen(folder) <= n_root)
            return cores;
        *slash = '\0';
    }
}

uint32_t cpu_usable_cores(void)
{
    const uint32_t quota = cpu_quota_cores("/proc/self/cgroup", "/sys/fs/cgroup");
    return (uint32_t)u64_max(1, u64_min(physical_cores(), quota));
}

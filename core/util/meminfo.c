#include "core/util/meminfo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/buf.h"
#include "core/util/fsio.h"

enum { FILE_MAX = 64 * 1024 };

/* The number that follows `key` in a small text file; false when there is none. */
static bool read_number(const char *path, const char *key, uint64_t *out)
{
    struct buf text = {0};
    bool found = false;
    if (file_read(path, FILE_MAX, &text, NULL) == 0) {
        const char *at = strstr(buf_str(&text), key);
        if (at) {
            const char *digits = at + strlen(key);
            char *end;
            errno = 0;
            unsigned long long v = strtoull(digits, &end, 10);
            found = end != digits && errno == 0;
            if (found)
                *out = v;
        }
    }
    buf_fini(&text);
    return found;
}

uint64_t mem_available_bytes(void)
{
    uint64_t kib = 0, limit, used, n = 0;
    if (read_number("/proc/meminfo", "MemAvailable:", &kib))
        n = kib * 1024;
    /* Inside a container this is its own group; the root group has neither file. */
    if (read_number("/sys/fs/cgroup/memory.max", "", &limit) &&
        read_number("/sys/fs/cgroup/memory.current", "", &used)) {
        uint64_t left = limit > used ? limit - used : 1;
        n = n == 0 ? left : u64_min(n, left);
    }
    return n;
}

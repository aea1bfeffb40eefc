#include "core/store/day.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char prefix[] = "requests-", suffix[] = ".db";
static const char *const companions[] = {"", "-wal", "-shm"};
enum { SECONDS_PER_DAY = 86400, DATE_CHARS = 10, CORRUPT_MAX = 1000 };

int64_t day_of(int64_t time_us)
{
    return time_us / 1000000 / SECONDS_PER_DAY;
}

bool day_path(const char *directory, int64_t day, char out[DAY_PATH_MAX])
{
    time_t seconds = (time_t)(day * SECONDS_PER_DAY);
    struct tm t;
    char date[16];
    gmtime_r(&seconds, &t);
    strftime(date, sizeof(date), "%Y-%m-%d", &t);
    int n = snprintf(out, DAY_PATH_MAX, "%s/%s%s%s", directory, prefix, date, suffix);
    return n > 0 && n < DAY_PATH_MAX - 64; /* room for what is put behind it */
}

bool day_parse(const char *name, int64_t *out_day, bool *out_main)
{
    struct tm t = {0};
    size_t n = sizeof(prefix) - 1;
    if (strncmp(name, prefix, n) != 0 || strlen(name) < n + DATE_CHARS + sizeof(suffix) - 1)
        return false;
    const char *end = strptime(name + n, "%Y-%m-%d", &t);
    if (end != name + n + DATE_CHARS || strncmp(end, suffix, sizeof(suffix) - 1) != 0)
        return false;
    end += sizeof(suffix) - 1;
    *out_main = *end == '\0';
    if (!*out_main && strcmp(end, "-wal") != 0 && strcmp(end, "-shm") != 0 &&
        strncmp(end, ".corrupt-", 9) != 0)
        return false;
    *out_day = (int64_t)timegm(&t) / SECONDS_PER_DAY;
    return true;
}

static int compare_days(const void *a, const void *b)
{
    int64_t x = ((const struct day_size *)a)->day, y = ((const struct day_size *)b)->day;
    return (x > y) - (x < y);
}

/* The entry of that day, made when there is none yet. NULL: out of memory. */
static struct day_size *entry(struct day_size **days, uint32_t *n, uint32_t *cap, int64_t day)
{
    for (uint32_t i = 0; i < *n; i++)
        if ((*days)[i].day == day)
            return &(*days)[i];
    if (*n == *cap) {
        uint32_t want = *cap ? *cap * 2 : 64;
        struct day_size *grown = realloc(*days, want * sizeof(**days));
        if (!grown)
            return NULL;
        *days = grown;
        *cap = want;
    }
    (*days)[*n] = (struct day_size){.day = day};
    return &(*days)[(*n)++];
}

static int scan(DIR *dir, const char *directory, struct day_size **days, uint32_t *n, struct err *e)
{
    uint32_t cap = 0;
    for (const struct dirent *d; (d = readdir(dir)) != NULL;) {
        int64_t day;
        bool is_main;
        struct stat st;
        if (!day_parse(d->d_name, &day, &is_main) ||
            fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
            continue;
        struct day_size *s = entry(days, n, &cap, day);
        if (!s)
            return err_set(e, LLMD_ENOMEM, "%s: out of memory", directory);
        s->n_bytes += (uint64_t)st.st_size;
        s->main |= is_main;
    }
    return 0;
}

static DIR *open_directory(const char *directory, int *out_rc, struct err *e)
{
    DIR *dir = opendir(directory);
    if (!dir)
        *out_rc = err_set(e, errno == ENOENT ? LLMD_ENOTFOUND : LLMD_EIO, "%s: %s", directory,
                          strerror(errno));
    return dir;
}

int day_list(const char *directory, struct day_size **out, uint32_t *out_n, struct err *e)
{
    struct day_size *days = NULL;
    uint32_t n = 0;
    int rc = 0;
    DIR *dir = open_directory(directory, &rc, e);
    if (!dir)
        return rc;
    rc = scan(dir, directory, &days, &n, e);
    closedir(dir);
    if (rc != 0) {
        free(days);
        return rc;
    }
    if (n > 0)
        qsort(days, n, sizeof(*days), compare_days);
    *out = days;
    *out_n = n;
    return 0;
}

static int unlink_day(const char *directory, int64_t day, struct err *e)
{
    int rc = 0;
    DIR *dir = open_directory(directory, &rc, e);
    if (!dir)
        return rc;
    for (const struct dirent *d; (d = readdir(dir)) != NULL;) {
        int64_t of;
        bool is_main;
        if (!day_parse(d->d_name, &of, &is_main) || of != day)
            continue;
        if (unlinkat(dirfd(dir), d->d_name, 0) != 0 && errno != ENOENT && rc == 0)
            rc = err_set(e, LLMD_EIO, "%s/%s: cannot remove: %s", directory, d->d_name,
                         strerror(errno));
    }
    closedir(dir);
    return rc;
}

int day_retain(const char *directory, int64_t today, int64_t keep_from, uint64_t max_bytes,
               uint64_t *out_bytes, struct err *e)
{
    struct day_size *days;
    uint32_t n;
    uint64_t total = 0;
    int rc = day_list(directory, &days, &n, e);
    if (rc != 0)
        return rc;
    for (uint32_t i = 0; i < n; i++)
        total += days[i].n_bytes;
    for (uint32_t i = 0; rc == 0 && i < n && days[i].day < today; i++) {
        bool too_old = days[i].day<keep_from, too_much = max_bytes> 0 && total > max_bytes;
        if (!too_old && !too_much)
            break;
        rc = unlink_day(directory, days[i].day, e);
        if (rc == 0)
            total -= days[i].n_bytes;
    }
    free(days);
    *out_bytes = total;
    return rc;
}

int day_set_aside(const char *directory, int64_t day, struct err *e)
{
    char path[DAY_PATH_MAX], from[DAY_PATH_MAX + 64], to[DAY_PATH_MAX + 64];
    if (!day_path(directory, day, path))
        return err_set(e, LLMD_EINVAL, "%s: the path is too long", directory);
    uint32_t number = 1;
    do
        snprintf(to, sizeof(to), "%s.corrupt-%u", path, number);
    while (access(to, F_OK) == 0 && ++number < CORRUPT_MAX);
    for (size_t i = 0; i < ARRAY_LEN(companions); i++) {
        snprintf(from, sizeof(from), "%s%s", path, companions[i]);
        snprintf(to, sizeof(to), "%s.corrupt-%u%s", path, number, companions[i]);
        if (rename(from, to) != 0 && errno != ENOENT)
            return err_set(e, LLMD_EIO, "%s: cannot be set aside: %s", from, strerror(errno));
    }
    return 0;
}

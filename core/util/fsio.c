#include "core/util/fsio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/util/buf.h"

static int open_regular(const char *path, struct stat *st, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        int code = errno == ENOENT || errno == ENOTDIR ? LLMD_ENOTFOUND : LLMD_EIO;
        return err_set(e, code, "%s: %s", path, strerror(errno));
    }
    if (fstat(fd, st) != 0) {
        int saved = errno;
        close(fd);
        return err_set(e, LLMD_EIO, "%s: %s", path, strerror(saved));
    }
    if (!S_ISREG(st->st_mode)) {
        close(fd);
        return err_set(e, LLMD_EINVAL, "%s: not a regular file", path);
    }
    return fd;
}

int file_map_open(struct file_map *m, const char *path, struct err *e)
{
    struct stat st;
    int fd = open_regular(path, &st, e);
    if (fd < 0)
        return fd;
    void *p = NULL;
    if (st.st_size > 0) {
        p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            int saved = errno;
            close(fd);
            return err_set(e, LLMD_EIO, "%s: cannot map: %s", path, strerror(saved));
        }
    }
    close(fd);
    char *copy = strdup(path);
    if (!copy) {
        if (p)
            munmap(p, (size_t)st.st_size);
        return err_set(e, LLMD_ENOMEM, "%s: out of memory", path);
    }
    *m = (struct file_map){.data = p, .size_bytes = (size_t)st.st_size, .path = copy};
    return 0;
}

void file_map_close(struct file_map *m)
{
    if (m->data)
        munmap((void *)(uintptr_t)m->data, m->size_bytes);
    free(m->path);
    *m = (struct file_map){0};
}

void file_map_drop(const struct file_map *m, const void *from, size_t n_bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t lo = ((uintptr_t)from + page - 1) & ~(page - 1);
    uintptr_t hi = ((uintptr_t)from + n_bytes) & ~(page - 1);
    BUG_ON((const char *)from < (const char *)m->data ||
           (const char *)from + n_bytes > (const char *)m->data + m->size_bytes);
    if (hi > lo)
        (void)madvise((void *)lo, hi - lo, MADV_DONTNEED);
}

void file_map_read_ahead(const void *from, size_t n_bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t lo = (uintptr_t)from & ~(page - 1);
    if (n_bytes > 0)
        (void)madvise((void *)lo, (uintptr_t)from + n_bytes - lo, MADV_WILLNEED);
}

int file_read(const char *path, size_t max_bytes, struct buf *b, struct err *e)
{
    struct stat st;
    int fd = open_regular(path, &st, e);
    if (fd < 0)
        return fd;
    int rc = 0;
    size_t start = b->len;
    for (;;) {
        if (b->len - start > max_bytes) {
            rc = err_set(e, LLMD_ETOOBIG, "%s: larger than %zu bytes", path, max_bytes);
            break;
        }
        if (!buf_reserve(b, 65536)) {
            rc = err_set(e, LLMD_ENOMEM, "%s: out of memory", path);
            break;
        }
        ssize_t n = read(fd, b->data + b->len, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = err_set(e, LLMD_EIO, "%s: %s", path, strerror(errno));
        if (n <= 0)
            break;
        b->len += (size_t)n;
        b->data[b->len] = '\0';
    }
    close(fd);
    if (rc)
        buf_truncate(b, start);
    return rc;
}

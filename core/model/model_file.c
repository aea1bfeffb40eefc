#include "core/model/model_file_int.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "core/util/buf.h"

int model_file_map(struct file_map *m, const char *path, struct err *e)
{
    static const char pointer[] = "version https://git-lfs.github.com/spec/";
    const size_t n = sizeof(pointer) - 1;
    int rc = file_map_open(m, path, e);
    if (rc != 0 || m->size_bytes < n || memcmp(m->data, pointer, n) != 0)
        return rc;
    file_map_close(m);
    return err_set(
        e, LLMD_EPARSE,
        "%s: a pointer of Git LFS, not the file itself: run 'git lfs pull' in its folder", path);
}

bool model_file_listed(const char *folder, const char *name)
{
    struct stat st;
    struct buf path = {0};
    buf_addf(&path, "%s/%s", folder, name);
    bool listed = path.failed || lstat(buf_str(&path), &st) == 0 || errno != ENOENT;
    buf_fini(&path);
    return listed;
}

#include "core/model/model_file_int.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
    const int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return true; /* who asks knows that it is there: the folder is at fault */
    const bool listed = fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
    close(fd);
    return listed;
}

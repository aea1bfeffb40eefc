#include "core/edge/unix_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SOCKET_MODE = 0660, LOCK_MODE = 0600, BACKLOG = 4096 };

struct lock_path {
    char s[sizeof(((struct unix_socket *)0)->path) + sizeof(".lock")];
};

static struct lock_path lock_path(const struct unix_socket *s)
{
    struct lock_path p;
    snprintf(p.s, sizeof(p.s), "%s.lock", s->path);
    return p;
}

static int fault(const struct unix_socket *s, int number, struct err *e)
{
    const char *mend = NULL;
    if (number == ENOENT)
        mend = "create its folder for this user";
    else if (number == EACCES || number == EPERM || number == EROFS)
        mend = "let this user write to its folder and to what lies there";
    if (!mend)
        return err_set_param(e, LLMD_EIO, s->option, "cannot make the socket \"%s\": %s", s->path,
                             strerror(number));
    return err_set_param(e, LLMD_EIO, s->option,
                         "cannot make the socket \"%s\": %s; %s, or name another with %s", s->path,
                         strerror(number), mend, s->option);
}

/* Whether fd is still what the path names: its last owner may have removed it meanwhile. */
static bool names(const char *path, int fd)
{
    struct stat there, ours;
    return fstat(fd, &ours) == 0 && lstat(path, &there) == 0 && ours.st_dev == there.st_dev &&
           ours.st_ino == there.st_ino;
}

static int take_lock(struct unix_socket *s, struct err *e)
{
    const struct lock_path path = lock_path(s);
    for (;;) {
        int fd = open(path.s, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, LOCK_MODE);
        if (fd < 0)
            return fault(s, errno, e);
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            int number = errno;
            close(fd);
            if (number != EWOULDBLOCK)
                return fault(s, number, e);
            return err_set_param(e, LLMD_EIO, s->option,
                                 "another server has the socket \"%s\"; stop it, or name another "
                                 "with %s",
                                 s->path, s->option);
        }
        if (names(path.s, fd)) {
            s->lock_fd = fd;
            return 0;
        }
        close(fd);
    }
}

/* What a dead server left. The lock is held. */
static int remove_stale(const struct unix_socket *s, struct err *e)
{
    struct stat st;
    if (lstat(s->path, &st) != 0)
        return errno == ENOENT ? 0 : fault(s, errno, e);
    if (!S_ISSOCK(st.st_mode))
        return err_set_param(e, LLMD_EINVAL, s->option,
                             "\"%s\" exists and is no socket; remove it, or name another with %s",
                             s->path, s->option);
    return unlink(s->path) == 0 || errno == ENOENT ? 0 : fault(s, errno, e);
}

static int bind_and_listen(struct unix_socket *s, struct err *e)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    memcpy(a.sun_path, s->path, sizeof(a.sun_path));
    s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* The file is made with the mode of the socket: no moment in which others may connect, and no
     * umask of the process to change under its other threads. */
    if (s->fd < 0 || fchmod(s->fd, SOCKET_MODE) != 0 ||
        bind(s->fd, (const struct sockaddr *)&a, sizeof(a)) != 0)
        return fault(s, errno, e);
    if (s->rule.has_group)
        (void)!lchown(s->path, (uid_t)-1,
                      s->rule.group); /* if we may: else the peer rule decides */
    /* The umask took the group's right to connect. */
    if (chmod(s->path, SOCKET_MODE) != 0 || listen(s->fd, BACKLOG) != 0)
        return fault(s, errno, e);
    return 0;
}

int unix_socket_open(struct unix_socket *s, const char *option, const char *path, struct err *e)
{
    *s = (struct unix_socket){.fd = -1, .lock_fd = -1, .option = option};
    if (strlen(path) >= sizeof(s->path))
        return err_set_param(e, LLMD_EINVAL, option,
                             "the socket's path \"%s\" has more than %zu bytes", path,
                             sizeof(s->path) - 1);
    memcpy(s->path, path, strlen(path));
    peer_rule_init(&s->rule, SOCKET_GROUP);
    int rc = take_lock(s, e);
    if (rc == 0)
        rc = remove_stale(s, e);
    if (rc == 0)
        rc = bind_and_listen(s, e);
    if (rc != 0)
        unix_socket_close(s);
    return rc;
}

void unix_socket_close(struct unix_socket *s)
{
    if (s->lock_fd < 0)
        return;
    struct stat st;
    if (s->fd >= 0)
        close(s->fd);
    /* The path is ours as long as the lock is. */
    if (lstat(s->path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(s->path);
    unlink(lock_path(s).s);
    close(s->lock_fd);
    s->fd = s->lock_fd = -1;
}

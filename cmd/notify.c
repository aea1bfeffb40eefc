#include "cmd/notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MESSAGE_MAX = 4000 };

/* A path, or with '@' in front a name of the abstract namespace. Returns the address' size, 0: neither. */
static socklen_t socket_address(const char *name, struct sockaddr_un *out)
{
    const size_t n = name ? strlen(name) : 0;
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (n < 2 || n >= sizeof(out->sun_path) || (name[0] != '/' && name[0] != '@'))
        return 0;
    memcpy(out->sun_path, name, n);
    if (name[0] == '@')
        out->sun_path[0] = '\0';
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
}

/* 0: not asked for, or asked of another process. */
static uint64_t watchdog_us(void)
{
    const char *pid = getenv("WATCHDOG_PID"), *text = getenv("WATCHDOG_USEC");
    if (!text || strspn(text, "0123456789") != strlen(text))
        return 0;
    if (pid && strtol(pid, NULL, 10) != (long)getpid())
        return 0;
    return strtoull(text, NULL, 10);
}

void notify_open(struct notify *n)
{
    struct sockaddr_un at;
    const socklen_t n_at = socket_address(getenv("NOTIFY_SOCKET"), &at);
    *n = (struct notify){.fd = -1};
    if (n_at > 0)
        n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (n->fd >= 0 && connect(n->fd, (const struct sockaddr *)&at, n_at) != 0)
        notify_close(n);
    if (n->fd >= 0)
        n->watchdog_us = watchdog_us();
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

bool notify_send(const struct notify *n, const char *fmt, ...)
{
    char message[MESSAGE_MAX];
    va_list ap;
    if (n->fd < 0)
        return true;
    va_start(ap, fmt);
    const int len = vsnprintf(message, sizeof(message), fmt, ap);
    va_end(ap);
    return len > 0 &&
           send(n->fd, message, u64_min((uint64_t)len, sizeof(message) - 1), MSG_NOSIGNAL) >= 0;
}

void notify_close(struct notify *n)
{
    if (n->fd >= 0)
        close(n->fd);
    n->fd = -1;
}

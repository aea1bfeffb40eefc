/* notify.h - what a service tells the manager that started it, as sd_notify(3) describes it: datagrams of
 * NAME=VALUE lines to the socket that NOTIFY_SOCKET names. Without one everything here does nothing.
 *
 * Written by hand because it is forty lines, and the library they would come from is no part of a minimal
 * system.
 *
 * Thread  notify_open: main, before any other thread exists (it reads and clears the environment).
 *         notify_send: any; it never blocks. */
#pragma once
#include "core/util/base.h"

struct notify {
    int fd;               /* -1: nobody wants to know */
    uint64_t watchdog_us; /* WATCHDOG=1 is expected at least so often; 0: never */
};

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID. A socket that cannot be reached counts as none. */
void notify_open(struct notify *n);
/* Lines, separated by '\n': "READY=1\nSTATUS=Serving". At most 4,000 bytes; more are cut. False: they could not be
 * sent, as when the manager has more to read than it may; it will not ask for them. */
bool notify_send(const struct notify *n, const char *fmt, ...) PRINTF_LIKE(2, 3);
void notify_close(struct notify *n);

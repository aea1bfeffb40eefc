/* service.h - what the service manager learns of the server while it runs (notify.h): when it is ready, a
 * line for `systemctl status`, that it still lives, how long it may yet need.
 *
 *   loading ── every model generated a token, or there is none ──> serving <──> reloading ──> draining
 *   STATUS, EXTEND_TIMEOUT_USEC                       READY=1, STATUS    RELOADING=1      STOPPING=1
 *
 * WATCHDOG=1 says that main thread and edge go round and that, if requests run, a worker makes steps: sent by
 * service_tick while that holds, so a process that hangs is killed and started again.
 *
 * Thread  the main thread alone. */
#pragma once
#include "cmd/fleet.h"
#include "cmd/notify.h"

enum service_phase { SERVICE_LOADING, SERVICE_SERVING, SERVICE_RELOADING, SERVICE_DRAINING };

struct service {
    struct notify notify;
    enum service_phase phase; /* as it was told last */
    bool told;                /* anything at all */
    uint64_t told_us, alive_us;
    char status[512];
};

/* At the start, before other threads exist. */
void service_init(struct service *s);
void service_fini(struct service *s);
/* Tells what has changed; call it every second or more often. left_us: in SERVICE_DRAINING, what running
 * answers may still take. */
void service_tick(struct service *s, const struct fleet *f, enum service_phase phase,
                  uint64_t left_us);

/* load_log.h - lines of the log about weights that are being loaded. */
#pragma once
#include "core/router/router.h"
#include "core/util/base.h"

enum { LOAD_LOG_WORKERS = 64 };

/* A zeroed struct has said nothing yet. */
struct load_log {
    struct {
        uint64_t last_us; /* time of the last line */
        uint32_t percent; /* what it said */
        bool done;
    } workers[LOAD_LOG_WORKERS];
};

/* Logs what is worth a line since the last call: 10 % more after 2 s at least, anything after 10 s,
 * and the end. started_us: when loading began. */
void load_log_update(struct load_log *l, const struct router_worker_view *views, uint32_t n,
                     uint64_t started_us, uint64_t now_us);

#include "cmd/serve_log.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/config/config.h"
#include "core/observe/log.h"
#include "core/store/store.h"

/* Nobody asked for a log at the default place, and what a package makes there is not there. */
static bool not_installed(const char *directory)
{
    char parent[4096];
    struct stat st;
    if (!config_store_directory_is_default(directory))
        return false;
    snprintf(parent, sizeof(parent), "%s", directory);
    *strrchr(parent, '/') = '\0';
    return stat(parent, &st) != 0;
}

int serve_open_log(const struct config *c, struct metrics *m, struct store **out, struct err *e)
{
    const struct config_store *s = &c->store;
    const bool access = strcmp(c->access_log, "stdout") == 0;
    struct store_opts o = {
        .directory = not_installed(s->directory) ? "" : s->directory,
        .access_fd = access ? STDOUT_FILENO : 0,
        .keep_days = s->keep_days,
        .max_bytes = (uint64_t)s->max_size_mb << 20,
        .prompt_keep_us = (uint64_t)s->prompt_keep_hours * 3600u * 1000000u,
        .metrics = m,
    };
    *out = NULL;
    if (!o.directory[0] && !access)
        return 0;
    int rc = store_open(&o, out, e);
    if (rc == 0 && o.directory[0])
        log_info("serve", "request log directory=%s keep_days=%u max_size_mb=%u", o.directory,
                 s->keep_days, s->max_size_mb);
    return rc;
}

#include "cmd/log_place.h"

#include <unistd.h>

#include "core/config/config.h"
#include "core/config/options.h"

int log_place_find(const char *directory, const char *config, struct buf *out, struct err *e)
{
    static const char default_config[] = "/etc/llmd.conf";
    int rc = 0;
    if (directory)
        buf_addstr(out, directory);
    else if (config || access(default_config, R_OK) == 0)
        rc = config_store_directory(config ? config : default_config, out, e);
    else
        buf_addstr(out, config_option_find(CONFIG_STORE, "directory")->default_text);
    if (rc == 0 && out->len == 0)
        rc = err_set(e, LLMD_EINVAL, "%s: store.directory is empty: there is no request log",
                     config ? config : default_config);
    return rc == 0 && out->failed ? err_set(e, LLMD_ENOMEM, "out of memory") : rc;
}

#include "cmd/certificate.h"

#include <string.h>

#include "core/observe/log.h"

int certificate_load(const struct config *c, struct tls **out, struct buf *warnings, struct err *e)
{
    const struct tls_files files = {
        .certificate = c->tls.certificate,
        .key = c->tls.key,
        .only_1_3 = c->tls.min_version && strcmp(c->tls.min_version, "1.3") == 0,
    };
    struct buf lines = {0};
    struct err why = {0};
    *out = NULL;
    if (!config_has_tls(c))
        return 0;
    int rc = tls_load(&files, out, &lines, &why);
    for (const char *at = buf_str(&lines), *end; (end = strchr(at, '\n')) != NULL; at = end + 1)
        buf_addf(warnings, "%s:%d: %.*s\n", c->path, c->tls.line, (int)(end - at), at);
    buf_fini(&lines);
    if (rc == 0)
        return 0;
    return err_set(e, -rc, "%s:%d: %s%s%s%s", c->path, c->tls.line, why.param[0] ? "option '" : "",
                   why.param, why.param[0] ? "': " : "", why.msg);
}

int certificate_load_logged(const struct config *c, struct tls **out, struct err *e)
{
    struct buf lines = {0};
    int rc = certificate_load(c, out, &lines, e);
    for (const char *at = buf_str(&lines), *end; (end = strchr(at, '\n')) != NULL; at = end + 1)
        log_warn("config", "%.*s", (int)(end - at), at);
    buf_fini(&lines);
    return rc;
}

#include "cmd/control_client.h"

#include <errno.h>
#include <string.h>

#include "core/config/config.h"
#include "core/config/options.h"
#include "core/util/http.h"
#include "core/util/json.h"
#include "core/util/printable.h"

enum { SHOWN_MAX = 400, TIMEOUT_MS = 10000 };

static const char default_config[] = "/etc/llmd.conf";

int control_client_open(struct control_client *c, struct err *e)
{
    int rc = 0;
    if (c->socket)
        buf_addstr(&c->path, c->socket);
    else if (c->config)
        rc = config_control_socket(c->config, &c->path, e);
    else if (config_control_socket(default_config, &c->path, NULL) != 0)
        buf_addstr(&c->path, config_option_find(CONFIG_TOP, "control_socket")->default_text);
    if (rc != 0)
        return rc;
    if (c->path.failed)
        return err_set(e, LLMD_ENOMEM, "out of memory");
    if (c->path.len == 0)
        return err_set(
            e, LLMD_EINVAL,
            "there is no control socket: control_socket = \"\" in %s; name one there and "
            "start the server again",
            c->config ? c->config : default_config);
    return http_global_init(e);
}

void control_client_close(struct control_client *c)
{
    buf_fini(&c->path);
}

static int connect_fault(const struct control_client *c, const struct http_response *r,
                         const struct err *why, struct err *e)
{
    char path[SHOWN_MAX];
    printable_text(buf_str(&c->path), c->path.len, "", path, sizeof(path));
    if (r->connected)
        return err_set(e, LLMD_EIO, "%s: the server went away (%s)", path, why->msg);
    if (r->os_errno == EACCES || r->os_errno == EPERM)
        return err_set(e, LLMD_EAUTH,
                       "%s: permission denied; it answers root, the server's user and members of "
                       "the group llmd",
                       path);
    return err_set(
        e, LLMD_ENOTFOUND,
        "no server listens on %s (%s); start one with llmd serve, or name its socket with "
        "--socket PATH or --config FILE",
        path, r->os_errno ? strerror(r->os_errno) : why->msg);
}

/* What the server says about a request that it did not take. */
static int status_fault(const struct http_response *r, struct err *e)
{
    char shown[SHOWN_MAX];
    json_t *v = NULL;
    if (json_parse(buf_str(&r->body), r->body.len, &v, NULL) != 0)
        v = NULL;
    control_text(json_object_get(json_object_get(v, "error"), "message"), shown, sizeof(shown));
    json_decref(v);
    if (!shown[0])
        return err_set(e, LLMD_EIO, "the server answered %d", r->status);
    return err_set(e, r->status == 403 ? LLMD_EAUTH : LLMD_EINVAL, "%s", shown);
}

int control_ask(const struct control_client *c, const char *method, const char *route,
                const char *body, json_t **out, struct err *e)
{
    static const char *const headers[] = {"Content-Type: application/json"};
    struct buf url = {0};
    struct err why = {0};
    struct http_response answer;
    buf_addf(&url, "http://llmd/admin/v1/%s", route);
    const struct http_request r = {
        .method = method,
        .url = buf_str(&url),
        .unix_socket = buf_str(&c->path),
        .headers = headers,
        .n_headers = ARRAY_LEN(headers),
        .body = body                          ? body
                : strcmp(method, "POST") == 0 ? ""
                                              : NULL,
        .n_body = body ? strlen(body) : 0,
        .timeout_ms = TIMEOUT_MS,
    };
    int rc = http_perform(&r, &answer, &why);
    if (rc == -LLMD_EIO)
        rc = connect_fault(c, &answer, &why, e);
    else if (rc != 0)
        err_set(e, -rc, "%s", why.msg);
    else if (answer.status / 100 != 2)
        rc = status_fault(&answer, e);
    else if ((rc = json_parse(buf_str(&answer.body), answer.body.len, out, e)) != 0)
        err_prefix(e, "the server's answer cannot be read: ");
    http_response_fini(&answer);
    buf_fini(&url);
    return rc;
}

const char *control_text(const json_t *v, char *out, size_t n_out)
{
    const char *s = json_string_value(v);
    printable_text(s ? s : "", json_string_length(v), "", out, n_out);
    return out;
}

double control_number(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

#include "cmd/collector.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/observe/otlp.h"
#include "core/util/fsio.h"

enum { HEADERS_MAX = 64, HEADERS_MAX_BYTES = 64 << 10 };

void collector_instance(char out[COLLECTOR_INSTANCE_BYTES])
{
    uint8_t r[16];
    if (RAND_bytes(r, sizeof(r)) != 1)
        memset(r, 0, sizeof(r));
    r[6] = (uint8_t)((r[6] & 0x0f) | 0x40); /* version 4 */
    r[8] = (uint8_t)((r[8] & 0x3f) | 0x80);
    snprintf(out, COLLECTOR_INSTANCE_BYTES,
             "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", r[0], r[1],
             r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], r[11], r[12], r[13], r[14],
             r[15]);
}

/* ---- where ---- */

/* A URL without a path is the collector's port, as in OTEL_EXPORTER_OTLP_ENDPOINT. */
static void make_url(const char *endpoint, struct buf *out)
{
    const char *host = strstr(endpoint, "://") + 3, *slash = strchr(host, '/');
    buf_addstr(out, endpoint);
    if (!slash)
        buf_addstr(out, "/v1/traces");
    else if (slash[1] == '\0')
        buf_addstr(out, "v1/traces");
}

/* ---- who ---- */

static bool has_attribute(const struct config_traces *t, const char *name)
{
    const size_t n = strlen(name);
    for (uint32_t i = 0; i < t->n_attributes; i++)
        if (strncmp(t->attributes[i], name, n) == 0 && t->attributes[i][n] == '=')
            return true;
    return false;
}

static void add_standard(const struct config_traces *t, enum otlp_name name, const char *value,
                         struct buf *out)
{
    if (!has_attribute(t, otlp_name(name)))
        otlp_text(out, OTLP_OF_RESOURCE, name, value);
}

static void make_resource(const struct config_traces *t, const char *instance, struct buf *out)
{
    char host[256] = "";
    for (uint32_t i = 0; i < t->n_attributes; i++) {
        const char *equals = strchr(t->attributes[i], '=');
        struct buf name = {0};
        buf_add(&name, t->attributes[i], (size_t)(equals - t->attributes[i]));
        otlp_named(out, OTLP_OF_RESOURCE, buf_str(&name), equals + 1);
        buf_fini(&name);
    }
    if (gethostname(host, sizeof(host) - 1) != 0)
        host[0] = '\0';
    add_standard(t, OTLP_SERVICE_NAME, "llmd", out);
    add_standard(t, OTLP_SERVICE_VERSION, LLMD_VERSION, out);
    add_standard(t, OTLP_SERVICE_INSTANCE, instance, out);
    add_standard(t, OTLP_HOST_NAME, host, out);
    if (!has_attribute(t, otlp_name(OTLP_PROCESS_ID)))
        otlp_int(out, OTLP_OF_RESOURCE, OTLP_PROCESS_ID, getpid());
}

/* ---- headers ---- */

/* "Name: value" without anything that would end the line. */
static bool is_header(const char *line)
{
    static const char token[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "!#$%&'*+-.^_`|~";
    const size_t n = strspn(line, token);
    if (n == 0 || line[n] != ':')
        return false;
    for (const char *p = line; *p; p++)
        if ((*p < ' ' && *p != '\t') || *p == 0x7f)
            return false;
    return true;
}

/* The lines of the file, in place; what is wrong with it is in e. */
static int take_headers(struct collector *c, const char *file, struct err *e)
{
    char *at = c->lines.data, *rest = NULL;
    if (c->lines.len != strlen(buf_str(&c->lines)))
        return err_set(e, LLMD_EINVAL, "%s is no text", file);
    for (char *line = at ? strtok_r(at, "\n", &rest) : NULL; line;
         line = strtok_r(NULL, "\n", &rest)) {
        line[strcspn(line, "\r")] = '\0';
        if (line[strspn(line, " \t")] == '\0' || line[0] == '#')
            continue;
        if (!is_header(line)) /* which may be a secret: it is not repeated */
            return err_set(e, LLMD_EINVAL,
                           "%s: a line is no header; write `Name: value`, a line each", file);
        if (c->opts.n_headers == HEADERS_MAX)
            return err_set(e, LLMD_EINVAL, "%s: more than %d headers", file, HEADERS_MAX);
        c->headers[c->opts.n_headers++] = line;
    }
    return 0;
}

static int load_headers(struct collector *c, const char *file, struct err *e)
{
    c->headers = calloc(HEADERS_MAX, sizeof(*c->headers));
    if (!c->headers)
        return err_set(e, LLMD_ENOMEM, "out of memory");
    c->opts.headers = c->headers;
    c->headers[c->opts.n_headers++] = "Content-Type: application/x-protobuf";
    int rc = file[0] ? file_read(file, HEADERS_MAX_BYTES, &c->lines, e) : 0;
    return rc == 0 ? take_headers(c, file, e) : rc;
}

/* ---- all ---- */

/* So that a missing file is known now, not with the first trace. */
static int check_ca(const char *file, struct err *e)
{
    if (!file[0] || access(file, R_OK) == 0)
        return 0;
    return err_set(e, LLMD_EINVAL,
                   "%s cannot be read; name a PEM file that the server's user can read", file);
}

void collector_fini(struct collector *c)
{
    buf_fini(&c->url);
    buf_fini(&c->resource);
    buf_fini(&c->lines);
    free(c->headers);
    *c = (struct collector){.headers = NULL};
}

int collector_load(const struct config *c, const char *instance, struct collector *out,
                   struct err *e)
{
    const struct config_traces *t = &c->traces;
    const char *option = "headers_file";
    struct err why = {0};
    *out = (struct collector){.opts = {.url = "",
                                       .ca_file = t->ca_file,
                                       .sample_one_in = t->sample_one_in,
                                       .timeout_ms = t->timeout_s * 1000,
                                       .queue_bytes = (size_t)t->queue_kb << 10}};
    if (!t->endpoint[0])
        return 0;
    make_url(t->endpoint, &out->url);
    make_resource(t, instance, &out->resource);
    int rc = load_headers(out, t->headers_file, &why);
    if (rc == 0) {
        option = "ca_file";
        rc = check_ca(t->ca_file, &why);
    }
    if (rc == 0 && (out->url.failed || out->resource.failed))
        rc = err_set(&why, LLMD_ENOMEM, "out of memory");
    out->opts.url = buf_str(&out->url);
    out->opts.resource = &out->resource;
    if (rc == 0)
        return 0;
    collector_fini(out);
    return err_set(e, -rc, "%s:%d: option '%s': %s", c->path, t->line, option, why.msg);
}

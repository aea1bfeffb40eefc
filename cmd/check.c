/* check.c - `llmd check`: names every fault of a configuration, else shows what it means. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/certificate.h"
#include "cmd/collector.h"
#include "cmd/commands.h"
#include "cmd/facts.h"
#include "cmd/socket_unit.h"
#include "cmd/gpus.h"
#include "core/config/config.h"
#include "core/model/model.h"
#include "core/util/json.h"

struct check {
    const char *path;
    bool json;
    struct config *config;
    struct buf faults, warnings; /* a line each */
    struct buf certificate;      /* text line or JSON string */
    struct buf models;           /* text lines or JSON objects, one per model */
};

static void describe(struct check *c, const struct config_model *cm, const struct model *m,
                     const struct facts *f)
{
    struct buf *out = &c->models;
    if (c->json) {
        buf_addstr(out, out->len ? ",{\"name\":" : "{\"name\":");
        json_add_cstr(out, cm->name);
        buf_addstr(out, ",\"model\":");
        facts_print_json(m, f, out);
        buf_addch(out, '}');
    } else {
        buf_addf(out, "model \"%s\": ", cm->name);
        facts_print(m, f, out);
    }
}

static bool runs_on_cpu(const struct config_model *cm)
{
    for (uint32_t i = 0; i < cm->n_devices; i++)
        if (strcmp(cm->devices[i], "cpu") == 0)
            return true;
    return false;
}

/* What a worker on the CPU would fail at when it starts. */
static void check_cpu(struct check *c, const struct config_model *cm, const struct model *m,
                      const struct facts *f)
{
    if (f->fault[0]) {
        buf_addf(&c->faults, "%s:%d: model \"%s\": %s\n", c->path, cm->line, cm->name, f->fault);
        return;
    }
    uint32_t longest = cm->max_model_len ? cm->max_model_len : m->hparams.context_length;
    uint64_t blocks = ((uint64_t)longest + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    uint64_t block_bytes = f->kv_token_bytes * KV_BLOCK_TOKENS, bytes = cm->kv_cache_mb << 20;
    if (bytes > 0 && bytes / block_bytes < blocks)
        buf_addf(
            &c->faults,
            "%s:%d: option 'kv_cache_mb': %llu is less than the %llu MiB that the %u tokens of "
            "max_model_len take; raise it or lower max_model_len\n",
            c->path, cm->line, (unsigned long long)cm->kv_cache_mb,
            (unsigned long long)((blocks * block_bytes + (1u << 20) - 1) >> 20), longest);
}

static void check_gpus(struct check *c, const struct config_model *cm)
{
    for (uint32_t i = 0; i < cm->n_devices; i++) {
        uint32_t first, n;
        struct err e = {0};
        if (gpus_named(cm->devices[i], &first, &n, &e) != 0)
            buf_addf(&c->faults, "%s:%d: model \"%s\": %s\n", c->path, cm->line, cm->name, e.msg);
    }
}

static void check_model(struct check *c, const struct config_model *cm)
{
    struct model *m = NULL;
    struct facts f;
    struct err e = {0};
    if (model_open(cm->path, &m, &e) != 0) {
        buf_addf(&c->faults, "%s:%d: model \"%s\": %s\n", c->path, cm->line, cm->name, e.msg);
        return;
    }
    if (cm->max_model_len > m->hparams.context_length)
        buf_addf(&c->faults,
                 "%s:%d: option 'max_model_len': %u is more than the %u tokens that model \"%s\" "
                 "was trained for; lower it\n",
                 c->path, cm->line, cm->max_model_len, m->hparams.context_length, cm->name);
    facts_of(m, strcmp(cm->dtype, "float32") == 0 ? COMPUTE_F32 : COMPUTE_AUTO, &f);
    if (runs_on_cpu(cm))
        check_cpu(c, cm, m, &f);
    check_gpus(c, cm);
    describe(c, cm, m, &f);
    model_free(m);
}

static void check_certificate(struct check *c)
{
    struct tls *tls = NULL;
    struct buf what = {0};
    struct err e = {0};
    if (certificate_load(c->config, &tls, &c->warnings, &e) != 0)
        buf_addf(&c->faults, "%s\n", e.msg);
    if (tls) {
        tls_describe(tls, &what);
        if (c->json)
            json_add_cstr(&c->certificate, buf_str(&what));
        else
            buf_addf(&c->certificate, "tls certificate %s\n", buf_str(&what));
    }
    buf_fini(&what);
    tls_free(tls);
}

static void check_collector(struct check *c)
{
    struct collector to;
    struct err e = {0};
    if (collector_load(c->config, "", &to, &e) != 0)
        buf_addf(&c->faults, "%s\n", e.msg);
    else
        collector_fini(&to);
}

/* "one\ntwo\n" as ["one","two"]. */
static void add_json_lines(struct buf *out, const char *lines)
{
    buf_addch(out, '[');
    for (const char *p = lines, *end; (end = strchr(p, '\n')) != NULL; p = end + 1) {
        buf_addstr(out, p == lines ? "" : ",");
        json_add_str(out, p, (size_t)(end - p));
    }
    buf_addch(out, ']');
}

static void report_json(const struct check *c, struct buf *out)
{
    buf_addf(out, "{\"valid\":%s,\"file\":", c->faults.len ? "false" : "true");
    json_add_cstr(out, c->path);
    buf_addstr(out, ",\"faults\":");
    add_json_lines(out, buf_str(&c->faults));
    buf_addstr(out, ",\"warnings\":");
    add_json_lines(out, buf_str(&c->warnings));
    buf_addf(out, ",\"certificate\":%s,\"models\":[%s],\"config\":",
             c->certificate.len ? buf_str(&c->certificate) : "null", buf_str(&c->models));
    if (c->config)
        config_print_json(c->config, out);
    else
        buf_addstr(out, "null");
    buf_addstr(out, "}\n");
}

/* Faults and warnings go to standard error, what is shown to `out`. */
static void report_text(const struct check *c, struct buf *out)
{
    for (const char *at = buf_str(&c->warnings), *end; (end = strchr(at, '\n')) != NULL;
         at = end + 1)
        fprintf(stderr, "warning: %.*s\n", (int)(end - at), at);
    fputs(buf_str(&c->faults), stderr);
    if (c->faults.len) {
        fprintf(stderr, "configuration %s is not valid\n", c->path);
        return;
    }
    config_print(c->config, out);
    buf_addf(out, "\n%s%sconfiguration %s is valid\n", buf_str(&c->certificate),
             buf_str(&c->models), c->path);
}

static int check(struct check *c)
{
    struct buf out = {0};
    struct err e = {0};
    if (config_load(c->path, &c->config, &c->faults, &e) != 0) {
        if (c->faults.len == 0)
            buf_addf(&c->faults, "%s\n", e.msg);
    } else {
        for (uint32_t i = 0; i < c->config->n_warnings; i++)
            buf_addf(&c->warnings, "%s\n", c->config->warnings[i]);
        check_certificate(c);
        check_collector(c);
        for (uint32_t i = 0; i < c->config->n_models; i++)
            check_model(c, &c->config->models[i]);
    }
    if (c->json)
        report_json(c, &out);
    else
        report_text(c, &out);
    fputs(buf_str(&out), stdout);
    bool failed = c->faults.len > 0 || c->faults.failed || c->models.failed || out.failed;
    buf_fini(&out);
    buf_fini(&c->faults);
    buf_fini(&c->warnings);
    buf_fini(&c->certificate);
    buf_fini(&c->models);
    config_free(c->config);
    return failed ? EXIT_FAILED : EXIT_SUCCESS;
}

static int print(void (*make)(struct buf *))
{
    struct buf out = {0};
    make(&out);
    fputs(buf_str(&out), stdout);
    bool failed = out.failed;
    buf_fini(&out);
    return failed ? EXIT_FAILED : EXIT_SUCCESS;
}

static int print_sockets_of(const char *path)
{
    struct config *c = NULL;
    struct err e = {0};
    struct buf out = {0};
    if (config_load(path, &c, NULL, &e) != 0) {
        fprintf(stderr, "llmd check: %s\n", e.msg);
        return EXIT_FAILED;
    }
    socket_unit_add(c, &out);
    fputs(buf_str(&out), stdout);
    const bool failed = out.failed;
    buf_fini(&out);
    config_free(c);
    return failed ? EXIT_FAILED : EXIT_SUCCESS;
}

/* `llmd check --model PATH`: describes one model, whatever the configuration says. */
static int check_model_at(const char *path, bool json)
{
    struct model *m = NULL;
    struct buf out = {0};
    struct err e = {0};
    struct facts f = {0};
    int rc = model_open(path, &m, &e);
    if (rc == 0) {
        facts_of(m, COMPUTE_AUTO, &f);
        (json ? facts_print_json : facts_print)(m, &f, &out);
    } else if (json) {
        buf_addstr(&out, "{\"path\":");
        json_add_cstr(&out, path);
        buf_addstr(&out, ",\"supported\":false,\"fault\":");
        json_add_cstr(&out, e.msg);
        buf_addch(&out, '}');
    } else
        fprintf(stderr, "llmd check: %s\n", e.msg);
    if (json)
        buf_addch(&out, '\n');
    fputs(buf_str(&out), stdout);
    bool failed = rc != 0 || f.fault[0] || out.failed;
    buf_fini(&out);
    model_free(m);
    return failed ? EXIT_FAILED : EXIT_SUCCESS;
}

int cmd_check(int argc, char **argv)
{
    struct check c = {.path = "/etc/llmd.conf"};
    const char *model = NULL;
    bool print_defaults = false, print_options = false, print_sockets = false;
    const struct arg_option options[] = {
        {.name = "config",
         .letter = 'c',
         .type = ARG_STRING,
         .value = "FILE",
         .help = "the file to check (default /etc/llmd.conf)",
         .out = &c.path},
        {.name = "model",
         .letter = 'm',
         .type = ARG_STRING,
         .value = "PATH",
         .help = "describe this model (GGUF file or folder) instead of a configuration",
         .out = &model},
        {.name = "json", .type = ARG_FLAG, .help = "the result as one JSON object", .out = &c.json},
        {.name = "print-defaults",
         .type = ARG_FLAG,
         .help = "print a configuration file with every option and its default, commented out",
         .out = &print_defaults},
        {.name = "print-options",
         .type = ARG_FLAG,
         .help = "print the reference of all options (Markdown)",
         .out = &print_options},
        {.name = "print-sockets",
         .type = ARG_FLAG,
         .help = "print the addresses as a section of a systemd socket unit",
         .out = &print_sockets},
    };
    const struct arg_spec spec = {
        .command = "llmd check",
        .operands = "",
        .about = "Checks a configuration file and opens what it names: models, certificates. Every "
                 "fault is\n"
                 "named with file, line and option; a valid file is shown with all its values.\n"
                 "With --model, describes one model: architecture, weights, memory, tokenizer,\n"
                 "chat template, or what of it is not supported.",
        .options = options,
        .n_options = ARRAY_LEN(options),
        .footer = "Exit codes: 0 valid, 1 faults were found or the model cannot run, 2 usage.",
    };
    int first, rc = args_or_exit(&spec, argc, argv, &first);
    if (rc >= 0)
        return rc;
    if (print_defaults)
        return print(config_print_example);
    if (print_options)
        return print(config_print_reference);
    if (print_sockets)
        return print_sockets_of(c.path);
    return model ? check_model_at(model, c.json) : check(&c);
}

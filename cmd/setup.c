/* setup.c - `llmd setup`: asks for what is needed, writes the configuration, starts the service.
 *
 * What options give is not asked for; without a terminal, or with --yes, the rest takes its default. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/ask.h"
#include "cmd/commands.h"
#include "cmd/facts.h"
#include "cmd/gpus.h"
#include "cmd/new_key.h"
#include "cmd/setup_start.h"
#include "cmd/setup_write.h"
#include "core/config/config.h"
#include "core/util/endpoint.h"

struct setup {
    const char *config_path;
    const char *model, *name, *listen, *device, *certificate, *certificate_key, *key_name;
    bool yes, replace, no_start;
    /* What came of it: */
    char model_text[ANSWER_MAX], name_text[ANSWER_MAX], listen_text[ANSWER_MAX];
    char certificate_text[ANSWER_MAX], certificate_key_text[ANSWER_MAX];
    bool tls, open; /* not of this host alone */
    struct new_key key;
};

static int failed(const struct err *e)
{
    fprintf(stderr, "llmd setup: %s\n", e->msg);
    return EXIT_FAILED;
}

/* --- the model --- */

static int describe_model(const char *path, struct err *e)
{
    struct model *m = NULL;
    struct facts f;
    struct buf out = {0};
    int rc = model_open(path, &m, e);
    if (rc != 0)
        return rc;
    facts_of(m, COMPUTE_AUTO, &f);
    if (f.fault[0])
        rc = err_set(e, LLMD_EUNSUPPORTED, "%s: %s", path, f.fault);
    else
        facts_print(m, &f, &out);
    fputs(buf_str(&out), stdout);
    buf_fini(&out);
    model_free(m);
    return rc;
}

/* The service starts in another folder. */
static int make_absolute(char path[ANSWER_MAX], struct err *e)
{
    char here[ANSWER_MAX], given[ANSWER_MAX];
    snprintf(given, sizeof(given), "%s", path);
    if (given[0] == '/')
        return 0;
    if (!getcwd(here, sizeof(here)) ||
        (size_t)snprintf(path, ANSWER_MAX, "%s/%s", here, given) >= ANSWER_MAX)
        return err_set(e, LLMD_EINVAL, "%s: give the whole path", given);
    return 0;
}

static int check_model(char path[ANSWER_MAX], struct err *e)
{
    int rc = make_absolute(path, e);
    if (rc != 0)
        return rc;
    rc = describe_model(path, e);
    if (rc == 0 && !setup_service_reads(path))
        rc = err_set(e, LLMD_EINVAL,
                     "the service runs as the user llmd, which cannot read %s; put it into "
                     "/var/lib/llmd/models, for example",
                     path);
    return rc;
}

static int choose_model(struct setup *s)
{
    struct err e = {0};
    if (s->model) {
        snprintf(s->model_text, sizeof(s->model_text), "%s", s->model);
        return check_model(s->model_text, &e) == 0 ? 0 : failed(&e);
    }
    if (s->yes) {
        fputs("llmd setup: which model? --model names a GGUF file or a folder\n", stderr);
        return EXIT_USAGE;
    }
    for (;;) {
        if (!ask_text("Model (a GGUF file, or a folder of Hugging Face)", NULL, s->model_text))
            return EXIT_FAILED;
        e = (struct err){0};
        if (check_model(s->model_text, &e) == 0)
            return 0;
        printf("  %s\n", e.msg);
    }
}

/* "/x/Qwen2.5-7B-Instruct.Q4.gguf": "qwen2.5-7b-instruct.q4"; of a folder "/x/Qwen/": "qwen". */
static void name_from_path(const char *path, char out[ANSWER_MAX])
{
    size_t end = strlen(path), from;
    while (end > 0 && path[end - 1] == '/')
        end--;
    for (from = end; from > 0 && path[from - 1] != '/';)
        from--;
    size_t n = (size_t)snprintf(out, ANSWER_MAX, "%.*s", (int)(end - from), path + from);
    if (n > 5 && n < ANSWER_MAX && strcmp(out + n - 5, ".gguf") == 0)
        out[n - 5] = '\0';
    for (char *p = out; *p; p++)
        *p = isalnum((unsigned char)*p) || strchr("-_.", *p) ? (char)tolower((unsigned char)*p)
                                                             : '-';
}

static int choose_name(struct setup *s)
{
    char standard[ANSWER_MAX];
    name_from_path(s->model_text, standard);
    snprintf(s->name_text, ANSWER_MAX, "%s", s->name ? s->name : standard);
    while (!config_name_valid(s->name_text) || (!s->name && !s->yes)) {
        if (!config_name_valid(s->name_text) && (s->name || s->yes)) {
            fprintf(stderr, "llmd setup: '%s' can be no name; give --name\n", s->name_text);
            return EXIT_USAGE;
        }
        if (!ask_text("Name that clients call it by", standard, s->name_text))
            return EXIT_FAILED;
        if (config_name_valid(s->name_text))
            return 0;
        printf("  a name has 1 to 128 letters, digits and - _ . : / @ +\n");
    }
    return 0;
}

static int choose_device(struct setup *s)
{
    struct err e = {0};
    uint32_t first, n = 0;
    const int rc = gpus_named("cuda", &first, &n, &e);
    if (s->device) {
        if (strncmp(s->device, "cuda", 4) == 0 && rc != 0)
            return failed(&e);
        return 0;
    }
    if (n > 0)
        printf("GPUs: %u, all of them are used (--device)\n", n);
    else
        printf("GPUs: none that can be used (%s); the CPU is used\n",
               rc != 0 ? e.msg : "none found");
    s->device = n > 0 ? "cuda" : "cpu";
    return 0;
}

/* --- who may connect --- */

static int choose_certificate(struct setup *s)
{
    s->tls = s->certificate != NULL;
    if (s->tls && !s->certificate_key) {
        fputs("llmd setup: --tls-certificate wants --tls-key as well\n", stderr);
        return EXIT_USAGE;
    }
    if (s->tls) {
        snprintf(s->certificate_text, ANSWER_MAX, "%s", s->certificate);
        snprintf(s->certificate_key_text, ANSWER_MAX, "%s", s->certificate_key);
    } else if (s->open && !s->yes && ask_yes("Is there a TLS certificate to use (HTTPS)", true)) {
        s->tls = true;
        if (!ask_text("Certificate file (PEM, with its chain)", "/etc/llmd/tls.crt",
                      s->certificate_text) ||
            !ask_text("Its private key", "/etc/llmd/tls.key", s->certificate_key_text))
            return EXIT_FAILED;
    }
    if (s->tls && !setup_service_reads(s->certificate_key_text)) {
        fprintf(
            stderr,
            "llmd setup: the service runs as the user llmd, which cannot read %s: chgrp llmd and "
            "chmod 640 it, or see /usr/share/doc/llmd/examples/tls-credentials.conf\n",
            s->certificate_key_text);
        return EXIT_FAILED;
    }
    if (s->open && !s->tls)
        printf("Without TLS, keys and prompts cross the network in clear: only behind something\n"
               "that encrypts (a VPN, a load balancer).\n");
    return 0;
}

static int choose_listen(struct setup *s)
{
    struct endpoint at;
    struct err e = {0};
    const char *standard = "127.0.0.1:8080";
    snprintf(s->listen_text, ANSWER_MAX, "%s", s->listen ? s->listen : standard);
    if (!s->listen && !s->yes && ask_yes("May other hosts connect", false))
        if (!ask_text("Address to listen on", "0.0.0.0:8443", s->listen_text))
            return EXIT_FAILED;
    while (endpoint_parse(s->listen_text, &at, &e) != 0) {
        if (s->listen || s->yes)
            return failed(&e);
        printf("  %s\n", e.msg);
        e = (struct err){0};
        if (!ask_text("Address to listen on", standard, s->listen_text))
            return EXIT_FAILED;
    }
    s->open = !endpoint_is_local(&at);
    return choose_certificate(s);
}

static int choose_key(struct setup *s)
{
    if (!s->key_name && s->open)
        s->key_name = "admin";
    if (!s->key_name && !s->yes &&
        ask_yes("Make a key, so that not every program here may ask", true))
        s->key_name = "admin";
    if (!s->key_name)
        return 0;
    if (!config_name_valid(s->key_name)) {
        fprintf(stderr, "llmd setup: '%s' can be no key's name\n", s->key_name);
        return EXIT_USAGE;
    }
    if (new_key_make(&s->key))
        return 0;
    fputs("llmd setup: no random numbers from the system\n", stderr);
    return EXIT_FAILED;
}

/* --- the end --- */

/* As soon as its digest is written: whatever comes next, it can be had nowhere else. */
static void print_key(const struct setup *s)
{
    if (s->key_name)
        printf("\nThe key, shown this once (llmd keeps nothing but its digest):\n\n  %s\n\n",
               s->key.text);
}

static void print_example(const struct setup *s)
{
    struct endpoint at;
    const bool known = endpoint_parse(s->listen_text, &at, NULL) == 0 && !at.path;
    const unsigned port = known ? endpoint_port(&at) : 8080;
    printf("\nTry it:\n\n  curl %s://localhost:%u/v1/chat/completions \\\n",
           s->tls ? "https" : "http", port);
    if (s->key_name)
        printf("    -H 'Authorization: Bearer %s' \\\n", s->key.text);
    printf("    -H 'Content-Type: application/json' \\\n"
           "    -d '{\"model\": \"%s\", \"messages\": [{\"role\": \"user\", \"content\": "
           "\"Hello!\"}]}'\n\n"
           "Status page: %s://localhost:%u/\n",
           s->name_text, s->tls ? "https" : "http", port);
}

static int write_and_start(const struct setup *s)
{
    struct buf text = {0};
    struct err e = {0};
    const struct setup_plan plan = {
        .listen = s->listen_text,
        .tls_certificate = s->tls ? s->certificate_text : NULL,
        .tls_key = s->tls ? s->certificate_key_text : NULL,
        .key_name = s->key_name,
        .key_sha256 = s->key.sha256,
        .model_name = s->name_text,
        .model_path = s->model_text,
        .device = s->device,
    };
    setup_text(&plan, &text);
    int rc = setup_write(s->config_path, &text, &e);
    buf_fini(&text);
    if (rc != 0)
        return failed(&e);
    printf("\n%s is written.\n", s->config_path);
    print_key(s);
    if (s->no_start || !setup_can_start()) {
        printf("Next: llmd serve --config %s\n", s->config_path);
        print_example(s);
        return EXIT_SUCCESS;
    }
    printf("Starting the service: it is ready when it has generated a token.\n");
    fflush(stdout);
    if (setup_start(&e) != 0)
        return failed(&e);
    print_example(s);
    return EXIT_SUCCESS;
}

static int run(struct setup *s)
{
    int (*const steps[])(struct setup *) = {choose_model, choose_name, choose_device, choose_listen,
                                            choose_key};
    s->yes |= !isatty(STDIN_FILENO);
    if (setup_is_in_use(s->config_path) && !s->replace) {
        printf("%s is in use.\n", s->config_path);
        if (s->yes || !ask_yes("Replace it (the old one is kept as *.before-setup)", false)) {
            fprintf(stderr, "llmd setup: nothing was changed; --replace replaces it\n");
            return EXIT_FAILED;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        const int rc = steps[i](s);
        if (rc != 0)
            return rc;
    }
    return write_and_start(s);
}

int cmd_setup(int argc, char **argv)
{
    struct setup s = {.config_path = "/etc/llmd.conf"};
    const struct arg_option options[] = {
        {"config", 'c', ARG_STRING, "FILE", "configuration to write (default /etc/llmd.conf)",
         &s.config_path, 0, 0},
        {"model", 'm', ARG_STRING, "PATH", "GGUF file, or folder of Hugging Face", &s.model, 0, 0},
        {"name", 'n', ARG_STRING, "NAME", "what clients call it (default: from the path)", &s.name,
         0, 0},
        {"device", 'd', ARG_STRING, "DEVICE",
         "cpu, cuda or cuda:N (default: all GPUs, else the CPU)", &s.device, 0, 0},
        {"listen", 'l', ARG_STRING, "ADDRESS:PORT", "default 127.0.0.1:8080", &s.listen, 0, 0},
        {"tls-certificate", 0, ARG_STRING, "FILE", "certificate with its chain (PEM): HTTPS",
         &s.certificate, 0, 0},
        {"tls-key", 0, ARG_STRING, "FILE", "its private key (PEM)", &s.certificate_key, 0, 0},
        {"key", 'k', ARG_STRING, "NAME",
         "make a key of this name (default: admin, when other hosts may connect)", &s.key_name, 0,
         0},
        {"replace", 0, ARG_FLAG, NULL, "replace a configuration that is in use", &s.replace, 0, 0},
        {"no-start", 0, ARG_FLAG, NULL, "write only", &s.no_start, 0, 0},
        {"yes", 'y', ARG_FLAG, NULL, "ask nothing: defaults for what no option gives", &s.yes, 0,
         0},
    };
    const struct arg_spec spec = {
        .command = "llmd setup",
        .operands = "",
        .about = "Asks for a model and who may connect, makes a key, writes the configuration and "
                 "starts\n"
                 "the service. What is wrong is said before anything is written.",
        .options = options,
        .n_options = ARRAY_LEN(options),
        .footer = ARGS_EXIT_CODES,
    };
    int first, rc = args_or_exit(&spec, argc, argv, &first);
    if (rc >= 0)
        return rc;
    rc = run(&s);
    new_key_forget(&s.key);
    return rc;
}

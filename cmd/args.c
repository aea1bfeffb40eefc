#include "cmd/args.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int args_usage_error(const struct arg_spec *spec, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "%s: ", spec->command);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\nTry '%s --help'.\n", spec->command);
    va_end(ap);
    return EXIT_USAGE;
}

static void (*describe)(const struct arg_spec *spec, void *ctx); /* NULL: commands run */
static void *describe_ctx;

void args_describe(int (*command)(int argc, char **argv), const char *name,
                   void (*tell)(const struct arg_spec *spec, void *ctx), void *ctx)
{
    char word[64];
    char *argv[] = {word, NULL};
    snprintf(word, sizeof(word), "%s", name);
    describe = tell;
    describe_ctx = ctx;
    (void)!command(1, argv);
    describe = NULL;
}

int args_or_exit(const struct arg_spec *spec, int argc, char **argv, int *out_first)
{
    if (describe) {
        describe(spec, describe_ctx);
        return EXIT_SUCCESS;
    }
    struct err e = {0};
    int rc = args_parse(spec, argc, argv, out_first, &e);
    if (rc == ARGS_HELP) {
        struct buf text = {0};
        args_usage(spec, &text);
        fputs(buf_str(&text), stdout);
        buf_fini(&text);
        return EXIT_SUCCESS;
    }
    return rc == 0 ? -1 : args_usage_error(spec, "%s", e.msg);
}

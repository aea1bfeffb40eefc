/* args.h - what all commands share: exit codes, options with `--help`, exits of usage errors. */
#pragma once
#include "core/util/args.h"

enum {
    EXIT_FAILED = 1,   /* the command could not do what it was asked for */
    EXIT_USAGE = 2,    /* unknown command, option or argument */
    EXIT_CONFIG = 3,   /* serve: the configuration is at fault */
    EXIT_RESTART = 75, /* serve: a new process is needed (EX_TEMPFAIL of sysexits) */
    EXIT_INTERRUPTED = 130,
};

/* Behind every command's options. */
#define ARGS_EXIT_CODES "Exit codes: 0 done, 1 failed, 2 usage."

/* Reads the options. Returns -1 when the command is to go on (*out_first: index of the first
 * operand), else its exit code: help has been printed, or what is wrong. */
int args_or_exit(const struct arg_spec *spec, int argc, char **argv, int *out_first);
/* Tells what a command's options are, instead of running it: it ends at its args_or_exit, which every
 * command calls first. Not from several threads. */
void args_describe(int (*command)(int argc, char **argv), const char *name,
                   void (*tell)(const struct arg_spec *spec, void *ctx), void *ctx);
/* "Try 'llmd chat --help'." behind a message of the command's own; returns EXIT_USAGE. */
int args_usage_error(const struct arg_spec *spec, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* args.h - command line options from a table: GNU long options (getopt_long) and `--help`.
 *
 * Nothing is printed here; texts go to the caller. Not thread safe (getopt's state is global). */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

enum arg_type {
    ARG_FLAG,    /* bool *: set to true */
    ARG_STRING,  /* const char **: borrowed from argv */
    ARG_UINT,    /* uint32_t *: a decimal number within min and max */
    ARG_NUMBER,  /* double *: within min and max */
    ARG_LIST,    /* struct arg_list *: may be given several times */
    ARG_HEADING, /* no option: help is a line above those that follow */
};

enum { ARG_LIST_MAX = 16 };

struct arg_list {
    const char *values[ARG_LIST_MAX]; /* borrowed from argv */
    uint32_t n;
};

struct arg_option {
    const char *name; /* long name, without dashes; NULL for a heading */
    char letter;      /* short name, 0 for none */
    enum arg_type type;
    const char *value; /* what help calls the value: "FILE"; NULL for a flag */
    const char *help;  /* one sentence, no full stop needed */
    void *out;         /* untouched when the option is not given */
    double min, max;
};

struct arg_spec {
    const char *command;  /* "llmd chat" */
    const char *operands; /* behind the options in the usage line: "[PROMPT]...", or "" */
    const char *about;    /* paragraphs in front of the options */
    const struct arg_option *options;
    uint32_t n_options; /* `-h, --help` is added to them */
    int max_operands;   /* -1: any number */
    const char *footer; /* behind the options: exit codes, examples; "" for none */
};

enum { ARGS_HELP = 1 };

/* Reads argv[1..]. 0: *out_first is the index of the first operand in the (reordered) argv;
 * ARGS_HELP: `--help` was given; -LLMD_EINVAL: the message names the option. */
MUST_CHECK int args_parse(const struct arg_spec *spec, int argc, char **argv, int *out_first,
                          struct err *e);
/* The text of `--help`. */
void args_usage(const struct arg_spec *spec, struct buf *out);

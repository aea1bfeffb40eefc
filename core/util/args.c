#include "core/util/args.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPTIONS = 60, LONG_VALUE = 256, HELP_COLUMN = 26, HELP_WIDTH = 80 };

static const struct arg_option help_option = {
    .name = "help", .letter = 'h', .type = ARG_FLAG, .help = "show this text"};

/* Option i of the table; the one behind the last is --help. */
static const struct arg_option *option_at(const struct arg_spec *spec, uint32_t i)
{
    return i < spec->n_options ? &spec->options[i] : &help_option;
}

static int set_uint(const struct arg_option *o, const char *text, struct err *e)
{
    size_t n = strspn(text, "0123456789");
    errno = 0;
    unsigned long long v = strtoull(text, NULL, 10);
    if (n == 0 || text[n] != '\0' || errno != 0 || (double)v < o->min || (double)v > o->max)
        return err_set_param(e, LLMD_EINVAL, o->name,
                             "option '--%s': '%s' is not a whole number from %.0f to %.0f", o->name,
                             text, o->min, o->max);
    *(uint32_t *)o->out = (uint32_t)v;
    return 0;
}

static int set_number(const struct arg_option *o, const char *text, struct err *e)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || !(v >= o->min && v <= o->max))
        return err_set_param(e, LLMD_EINVAL, o->name,
                             "option '--%s': '%s' is not a number from %g to %g", o->name, text,
                             o->min, o->max);
    *(double *)o->out = v;
    return 0;
}

static int add_to_list(const struct arg_option *o, const char *text, struct err *e)
{
    struct arg_list *list = o->out;
    if (list->n == ARG_LIST_MAX)
        return err_set_param(e, LLMD_EINVAL, o->name, "option '--%s' may be given at most %d times",
                             o->name, ARG_LIST_MAX);
    list->values[list->n++] = text;
    return 0;
}

static int set_option(const struct arg_option *o, const char *text, struct err *e)
{
    switch (o->type) {
    case ARG_FLAG:
        *(bool *)o->out = true;
        return 0;
    case ARG_STRING:
        *(const char **)o->out = text;
        return 0;
    case ARG_UINT:
        return set_uint(o, text, e);
    case ARG_NUMBER:
        return set_number(o, text, e);
    case ARG_LIST:
        return add_to_list(o, text, e);
    case ARG_HEADING:
        break;
    }
    return 0;
}

/* What getopt_long refused; c is its answer, word the argument that it looked at. */
static int fault(const struct arg_spec *spec, int c, const char *word, struct err *e)
{
    if (c == ':')
        return err_set(e, LLMD_EINVAL, "option '%s' needs a value", word);
    if (optopt == 0)
        return err_set(e, LLMD_EINVAL, "unknown or ambiguous option '%s'", word);
    for (uint32_t i = 0; i <= spec->n_options; i++)
        if (optopt == (int)(LONG_VALUE + i) || optopt == option_at(spec, i)->letter)
            return err_set(e, LLMD_EINVAL, "option '--%s' takes no value",
                           option_at(spec, i)->name);
    return err_set(e, LLMD_EINVAL, "unknown option '-%c'", optopt);
}

/* getopt's two tables: ":ab:" and the long options, whose val is LONG_VALUE + index. */
static void build_tables(const struct arg_spec *spec, char *letters, struct option *longs)
{
    BUG_ON(spec->n_options > MAX_OPTIONS);
    *letters++ = ':';
    for (uint32_t i = 0; i <= spec->n_options; i++) {
        const struct arg_option *o = option_at(spec, i);
        bool value = o->type != ARG_FLAG;
        if (o->type == ARG_HEADING)
            continue;
        *longs++ = (struct option){.name = o->name,
                                   .has_arg = value ? required_argument : no_argument,
                                   .val = (int)(LONG_VALUE + i)};
        if (!o->letter)
            continue;
        *letters++ = o->letter;
        if (value)
            *letters++ = ':';
    }
    *letters = '\0';
    *longs = (struct option){0};
}

static uint32_t find(const struct arg_spec *spec, int c)
{
    if (c >= LONG_VALUE)
        return (uint32_t)(c - LONG_VALUE);
    uint32_t i = 0;
    while (option_at(spec, i)->letter != c)
        i++;
    return i;
}

int args_parse(const struct arg_spec *spec, int argc, char **argv, int *out_first, struct err *e)
{
    char letters[2 * MAX_OPTIONS + 4];
    struct option longs[MAX_OPTIONS + 2];
    int c;
    build_tables(spec, letters, longs);
    opterr = 0;
    optind = 0; /* GNU: start anew */
    while ((c = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
        if (c == ':' || c == '?')
            return fault(spec, c, argv[optind - 1], e);
        uint32_t i = find(spec, c);
        if (i == spec->n_options)
            return ARGS_HELP;
        int rc = set_option(&spec->options[i], optarg, e);
        if (rc != 0)
            return rc;
    }
    if (spec->max_operands >= 0 && argc - optind > spec->max_operands)
        return err_set(e, LLMD_EINVAL, "unexpected argument '%s'",
                       argv[optind + spec->max_operands]);
    *out_first = optind;
    return 0;
}

/* Help text from HELP_COLUMN on, broken at blanks. `column` is where the line stands. */
static void add_help(struct buf *b, size_t column, const char *help)
{
    if (column + 2 > HELP_COLUMN) {
        buf_addch(b, '\n');
        column = 0;
    }
    bool first = true;
    while (*help) {
        size_t n = strcspn(help, " ");
        if (!first && column + 1 + n > HELP_WIDTH) {
            buf_addch(b, '\n');
            column = 0;
            first = true;
        }
        if (first)
            buf_addf(b, "%*s", (int)(HELP_COLUMN - column), "");
        else
            buf_addch(b, ' ');
        column = first ? HELP_COLUMN + n : column + 1 + n;
        first = false;
        buf_add(b, help, n);
        help += n;
        help += *help == ' ';
    }
    buf_addch(b, '\n');
}

void args_usage(const struct arg_spec *spec, struct buf *out)
{
    buf_addf(out, "Usage: %s [OPTION]...%s%s\n\n%s\n\n", spec->command,
             spec->operands[0] ? " " : "", spec->operands, spec->about);
    for (uint32_t i = 0; i <= spec->n_options; i++) {
        const struct arg_option *o = option_at(spec, i);
        size_t start = out->len;
        if (o->type == ARG_HEADING) {
            buf_addf(out, "%s%s\n", i > 0 ? "\n" : "", o->help);
            continue;
        }
        if (o->letter)
            buf_addf(out, "  -%c, ", o->letter);
        else
            buf_addstr(out, "      ");
        buf_addf(out, "--%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
        add_help(out, out->len - start, o->help);
    }
    if (spec->footer[0])
        buf_addf(out, "\n%s\n", spec->footer);
}

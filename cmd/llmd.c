/* llmd.c - main: finds the subcommand (commands.c) and runs it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/commands.h"
#include "core/util/fault.h"

static void print_usage(FILE *to)
{
    fputs("Usage: llmd COMMAND [OPTION]...\n"
          "       llmd --help | --version\n"
          "\n"
          "Serves large language models from one process, over an OpenAI-compatible interface.\n"
          "\n"
          "Commands:\n",
          to);
    for (uint32_t i = 0; i < n_commands; i++)
        fprintf(to, "  %-12s%s\n", commands[i].name, commands[i].summary);
    fputs("\n'llmd COMMAND --help' shows the options of a command.\n"
          "\n"
          "Exit codes: 0 done, 1 failed, 2 usage, 3 configuration at fault (serve),\n"
          "75 start it again (serve), 130 interrupted (chat, bench).\n",
          to);
}

static int unknown_command(const char *name)
{
    fprintf(stderr, "llmd: unknown command '%s'. Try 'llmd --help'.\n", name);
    return EXIT_USAGE;
}

int cmd_help(int argc, char **argv)
{
    if (argc < 2 || argv[1][0] == '-') {
        print_usage(stdout);
        return EXIT_SUCCESS;
    }
    const struct command *c = command_find(argv[1]);
    if (!c)
        return unknown_command(argv[1]);
    char help[] = "--help";
    char *help_argv[] = {argv[1], help, NULL};
    return c->run(2, help_argv);
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    else if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
        name = "version";
    else if (name[0] == '-') {
        fprintf(stderr, "llmd: unknown option '%s'. Try 'llmd --help'.\n", name);
        return EXIT_USAGE;
    }
    const struct command *c = command_find(name);
    return c ? c->run(argc - 1, argv + 1) : unknown_command(name);
}

#ifdef LLMD_FAULTS
/* What LLMD_FAULTS asks for: core/util/fault.h. */
static bool ask_for_faults(void)
{
    struct err e = {0};
    const char *text = getenv("LLMD_FAULTS");
    if (!text || fault_parse(text, &e) == 0)
        return true;
    fprintf(stderr, "llmd: LLMD_FAULTS: %s\n", e.msg);
    return false;
}

static void tell_faults(void)
{
    if (getenv("LLMD_FAULTS"))
        fprintf(stderr, "llmd: allocations=%llu\n", (unsigned long long)fault_n_allocations());
}
#else
static bool ask_for_faults(void)
{
    return true;
}

static void tell_faults(void)
{
}
#endif

int main(int argc, char **argv)
{
    if (!ask_for_faults())
        return EXIT_USAGE;
    int rc = run(argc, argv);
    if ((fflush(stdout) != 0 || ferror(stdout)) && rc == EXIT_SUCCESS) {
        fputs("llmd: cannot write to standard output\n", stderr);
        rc = EXIT_FAILED;
    }
    tell_faults();
    return rc;
}

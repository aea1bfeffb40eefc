/* commands.h - the subcommands of llmd. argv[0] is the command's name; each returns the exit code
 * of the process. */
#pragma once
#include "core/util/base.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary; /* what it does, without a full stop */
};

extern const struct command commands[];
extern const uint32_t n_commands;
/* NULL: there is none of that name. */
const struct command *command_find(const char *name);

struct arg_spec;
/* Tells the options of every command but help, which has none (args_describe). */
void commands_describe(void (*tell)(const struct arg_spec *spec, void *ctx), void *ctx);

int cmd_bench(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_completion(int argc, char **argv);
int cmd_drain(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_help(int argc, char **argv);
int cmd_key(int argc, char **argv);
int cmd_logs(int argc, char **argv);
int cmd_man(int argc, char **argv);
int cmd_reload(int argc, char **argv);
int cmd_setup(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_template(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_version(int argc, char **argv);

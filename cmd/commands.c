#include "cmd/commands.h"

#include <string.h>

#include "cmd/args.h"
#include "cmd/serve.h"

const struct command commands[] = {
    {"serve", cmd_serve, "serve the configured models over HTTP"},
    {"setup", cmd_setup, "ask for what is needed, write the configuration, start the service"},
    {"check", cmd_check, "check a configuration file, describe models"},
    {"status", cmd_status, "show what a running server does"},
    {"top", cmd_top, "watch a running server in the terminal"},
    {"drain", cmd_drain, "end a running server, or one of its workers, without losing answers"},
    {"reload", cmd_reload, "have a running server read its configuration again"},
    {"key", cmd_key, "make a key for clients"},
    {"logs", cmd_logs, "show the request log"},
    {"explain", cmd_explain, "tell the story of one request"},
    {"chat", cmd_chat, "talk to a running server in the terminal"},
    {"bench", cmd_bench, "put a server under load and measure it"},
    {"template", cmd_template, "render a chat template"},
    {"tokenize", cmd_tokenize, "show the token ids of a text"},
    {"completion", cmd_completion, "print the completions of a shell"},
    {"man", cmd_man, "print the manual pages"},
    {"version", cmd_version, "show the version, the compiler and the libraries"},
    {"help", cmd_help, "show this text, or that of a command"},
};
const uint32_t n_commands = ARRAY_LEN(commands);

const struct command *command_find(const char *name)
{
    for (uint32_t i = 0; i < n_commands; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

void commands_describe(void (*tell)(const struct arg_spec *spec, void *ctx), void *ctx)
{
    for (uint32_t i = 0; i < n_commands; i++)
        if (commands[i].run != cmd_help)
            args_describe(commands[i].run, commands[i].name, tell, ctx);
}

/* completion.c - `llmd completion SHELL`: what a shell offers behind `llmd`, made from the commands' own
 * tables of options.
 *
 * An option whose value is a FILE or PATH is completed with files, choices ("a|b|c") with their words. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/commands.h"

/* "inference|admin": words; "FILE": files; others: whatever the user types. */
static bool is_choice(const struct arg_option *o)
{
    return o->value && strchr(o->value, '|') != NULL;
}

static bool is_file(const struct arg_option *o)
{
    return o->value && (strcmp(o->value, "FILE") == 0 || strcmp(o->value, "PATH") == 0);
}

static void add_words(const char *choices, struct buf *out)
{
    for (const char *p = choices; *p; p++)
        buf_addch(out, *p == '|' ? ' ' : *p);
}

/* In single quotes for a shell. */
static void add_quoted(const char *text, struct buf *out)
{
    buf_addch(out, '\'');
    for (; *text; text++)
        if (*text == '\'')
            buf_addstr(out, "'\\''");
        else
            buf_addch(out, *text);
    buf_addch(out, '\'');
}

/* The last word of "llmd chat". */
static const char *name_of(const struct arg_spec *spec)
{
    return strchr(spec->command, ' ') + 1;
}

static void add_names(struct buf *out)
{
    for (uint32_t i = 0; i < n_commands; i++)
        buf_addf(out, "%s%s", i ? " " : "", commands[i].name);
}

/* --- bash --- */

static void bash_command(const struct arg_spec *spec, void *ctx)
{
    struct buf *out = ctx;
    buf_addf(out, "    %s)\n", name_of(spec));
    buf_addstr(out, "        case $previous in\n");
    for (uint32_t i = 0; i < spec->n_options; i++) {
        const struct arg_option *o = &spec->options[i];
        if (!is_choice(o) && !is_file(o))
            continue;
        buf_addf(out, "        --%s", o->name);
        if (o->letter)
            buf_addf(out, " | -%c", o->letter);
        if (is_file(o))
            buf_addstr(out, ") COMPREPLY=($(compgen -f -- \"$word\")); return ;;\n");
        else {
            buf_addstr(out, ") COMPREPLY=($(compgen -W '");
            add_words(o->value, out);
            buf_addstr(out, "' -- \"$word\")); return ;;\n");
        }
    }
    buf_addstr(out, "        esac\n        options='--help");
    for (uint32_t i = 0; i < spec->n_options; i++)
        if (spec->options[i].type != ARG_HEADING)
            buf_addf(out, " --%s", spec->options[i].name);
    buf_addstr(out, "'\n        ;;\n");
}

static void bash(struct buf *out)
{
    buf_addstr(
        out,
        "# bash completion of llmd, made by `llmd completion bash`\n"
        "_llmd() {\n"
        "    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} options=\n"
        "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W '--help "
        "--version ");
    add_names(out);
    buf_addstr(out, "' -- \"$word\"))\n        return\n    fi\n"
                    "    case ${COMP_WORDS[1]} in\n    help) options='");
    add_names(out);
    buf_addstr(out, "' ;;\n");
    commands_describe(bash_command, out);
    buf_addstr(out,
               "    esac\n"
               "    if [ -n \"$options\" ] && [[ $word == -* || ${COMP_WORDS[1]} == help ]]; then\n"
               "        COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
               "    else\n        COMPREPLY=($(compgen -f -- \"$word\"))\n    fi\n"
               "}\ncomplete -o filenames -F _llmd llmd\n");
}

/* --- zsh --- */

/* Within what _arguments is given. */
static void add_zsh_text(const char *text, struct buf *out)
{
    for (const char *p = text; *p; p++) {
        if (*p == '[' || *p == ']' || *p == ':' || *p == '\\')
            buf_addch(out, '\\');
        buf_addch(out, *p);
    }
}

static void zsh_option(const struct arg_option *o, struct buf *out)
{
    struct buf text = {0};
    buf_addf(&text, "--%s[", o->name);
    add_zsh_text(o->help, &text);
    buf_addch(&text, ']');
    if (is_file(o))
        buf_addf(&text, ":%s:_files", o->value);
    else if (is_choice(o)) {
        buf_addstr(&text, ":value:(");
        add_words(o->value, &text);
        buf_addch(&text, ')');
    } else if (o->value) {
        buf_addch(&text, ':');
        add_zsh_text(o->value, &text);
        buf_addch(&text, ':');
    }
    buf_addstr(out, " \\\n            ");
    add_quoted(buf_str(&text), out);
    out->failed |= text.failed;
    buf_fini(&text);
}

static void zsh_command(const struct arg_spec *spec, void *ctx)
{
    struct buf *out = ctx;
    buf_addf(out, "    %s)\n        _arguments '--help[show this text]'", name_of(spec));
    for (uint32_t i = 0; i < spec->n_options; i++)
        if (spec->options[i].type != ARG_HEADING)
            zsh_option(&spec->options[i], out);
    buf_addstr(out, " \\\n            '*:file:_files'\n        ;;\n");
}

static void zsh(struct buf *out)
{
    buf_addstr(out, "#compdef llmd\n# zsh completion of llmd, made by `llmd completion zsh`\n"
                    "_llmd() {\n    local -a commands=(");
    for (uint32_t i = 0; i < n_commands; i++) {
        struct buf text = {0};
        buf_addf(&text, "%s:%s", commands[i].name, commands[i].summary);
        buf_addstr(out, "\n        ");
        add_quoted(buf_str(&text), out);
        out->failed |= text.failed;
        buf_fini(&text);
    }
    buf_addstr(out, ")\n    if ((CURRENT == 2)); then\n        _describe command commands\n        "
                    "return\n    fi\n"
                    "    local command=$words[2]\n    shift words\n    ((CURRENT--))\n"
                    "    case $command in\n    help) _describe command commands ;;\n");
    commands_describe(zsh_command, out);
    buf_addstr(out, "    esac\n}\n_llmd \"$@\"\n");
}

/* --- fish --- */

static void fish_command(const struct arg_spec *spec, void *ctx)
{
    struct buf *out = ctx;
    for (uint32_t i = 0; i < spec->n_options; i++) {
        const struct arg_option *o = &spec->options[i];
        if (o->type == ARG_HEADING)
            continue;
        buf_addf(out, "complete -c llmd -n '__fish_seen_subcommand_from %s' -l %s", name_of(spec),
                 o->name);
        if (o->letter)
            buf_addf(out, " -s %c", o->letter);
        if (is_choice(o)) {
            buf_addstr(out, " -x -a '");
            add_words(o->value, out);
            buf_addch(out, '\'');
        } else if (o->value)
            buf_addstr(out, is_file(o) ? " -r -F" : " -x");
        buf_addstr(out, " -d ");
        add_quoted(o->help, out);
        buf_addch(out, '\n');
    }
}

static void fish(struct buf *out)
{
    buf_addstr(out, "# fish completion of llmd, made by `llmd completion fish`\n");
    for (uint32_t i = 0; i < n_commands; i++) {
        buf_addf(out, "complete -c llmd -n __fish_use_subcommand -f -a %s -d ", commands[i].name);
        add_quoted(commands[i].summary, out);
        buf_addch(out, '\n');
    }
    commands_describe(fish_command, out);
}

int cmd_completion(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*print)(struct buf *out);
    } shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};
    const struct arg_spec spec = {
        .command = "llmd completion",
        .operands = "bash | zsh | fish",
        .about = "Prints what a shell completes behind llmd. The packages install it; by hand:\n"
                 "source <(llmd completion bash)",
        .max_operands = 1,
        .footer = ARGS_EXIT_CODES,
    };
    int first, rc = args_or_exit(&spec, argc, argv, &first);
    if (rc >= 0)
        return rc;
    for (size_t i = 0; first < argc && i < ARRAY_LEN(shells); i++) {
        if (strcmp(argv[first], shells[i].name) != 0)
            continue;
        struct buf out = {0};
        shells[i].print(&out);
        fputs(buf_str(&out), stdout);
        rc = out.failed ? EXIT_FAILED : EXIT_SUCCESS;
        buf_fini(&out);
        return rc;
    }
    return first < argc ? args_usage_error(&spec, "there are no completions for '%s'", argv[first])
                        : args_usage_error(&spec, "which shell? bash, zsh or fish");
}

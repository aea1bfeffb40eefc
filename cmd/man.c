/* man.c - `llmd man PAGE`: the manual pages llmd(8) and llmd.conf(5), made from the tables that the commands
 * and the configuration are read by. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/commands.h"
#include "cmd/roff.h"
#include "core/config/options.h"

static void begin(struct buf *out, const char *name, const char *section, const char *summary)
{
    buf_addf(out, ".TH %s %s \"\" \"llmd " LLMD_VERSION "\"\n.SH NAME\n%s \\- %s\n", name, section,
             name, summary);
}

/* --- llmd(8) --- */

static void add_option(const struct arg_option *o, struct buf *out)
{
    if (o->type == ARG_HEADING) {
        buf_addstr(out, ".PP\n");
        roff_text(out, o->help);
        return;
    }
    buf_addstr(out, ".TP\n.B ");
    if (o->letter)
        buf_addf(out, "\\-%c, ", o->letter);
    buf_addstr(out, "\\-\\-");
    for (const char *p = o->name; *p; p++)
        buf_addstr(out, *p == '-' ? "\\-" : (char[]){*p, '\0'});
    if (o->value)
        buf_addf(out, " \\fI%s\\fR", o->value);
    buf_addch(out, '\n');
    roff_text(out, o->help);
}

static void add_command(const struct arg_spec *spec, void *ctx)
{
    struct buf *out = ctx, usage = {0};
    roff_heading(out, "SS", spec->command);
    buf_addf(&usage, "%s [OPTION]...%s%s", spec->command, spec->operands[0] ? " " : "",
             spec->operands);
    buf_addstr(out, ".B ");
    roff_text(out, buf_str(&usage));
    buf_addstr(out, ".PP\n");
    roff_paragraphs(out, spec->about);
    for (uint32_t i = 0; i < spec->n_options; i++)
        add_option(&spec->options[i], out);
    if (spec->footer[0]) {
        buf_addstr(out, ".PP\n");
        roff_paragraphs(out, spec->footer);
    }
    out->failed |= usage.failed;
    buf_fini(&usage);
}

static void page_8(struct buf *out)
{
    begin(out, "llmd", "8", "serves large language models over an OpenAI\\-compatible interface");
    buf_addstr(
        out, ".SH SYNOPSIS\n.B llmd\n.I COMMAND\n[\\fIOPTION\\fR]...\n.PP\n.B llmd\n"
             "\\-\\-help | \\-\\-version\n.SH DESCRIPTION\n"
             "One process that does the work of a TLS load balancer, an authenticating gateway, a\n"
             "router that knows what every worker has cached, and one inference engine per GPU.\n"
             ".B llmd serve\nis the server, configured by\n.BR llmd.conf (5);\n"
             "the other commands look after it.\n.SH COMMANDS\n"
             "Each takes\n.B \\-h, \\-\\-help\nas well.\n");
    commands_describe(add_command, out);
    buf_addstr(
        out,
        ".SH EXIT STATUS\n.TP\n.B 0\ndone: drained, valid, answered\n.TP\n.B 1\nfailed\n.TP\n.B 2\n"
        "usage\n.TP\n.B 3\nserve: the configuration is at fault\n.TP\n.B 75\n"
        "serve: a new process is needed (a device or threads that hang); the unit starts one\n.TP\n"
        ".B 130\nchat, bench: interrupted\n"
        ".SH ENVIRONMENT\n.TP\n.B LLMD_API_KEY\nthe key that chat and bench send\n"
        ".SH FILES\n.TP\n.I /etc/llmd.conf\nthe configuration\n.TP\n.I /var/lib/llmd\n"
        "the request log, and a place for models\n.TP\n.I /run/llmd/llmd.sock\n"
        "the control socket, for root and the group llmd\n"
        ".SH SEE ALSO\n.BR llmd.conf (5),\n.BR systemctl (1),\n.BR journalctl (1)\n");
}

/* --- llmd.conf(5) --- */

static const char *const when[CONFIG_N_RELOADS] = {
    [CONFIG_RESTART] = "Takes effect at the next start.",
    [CONFIG_LIVE] = "Takes effect at a reload.",
    [CONFIG_ROLL] = "A reload replaces the workers of the model one by one.",
};

static void add_config_option(const struct config_option *o, struct buf *out)
{
    struct buf line = {0};
    buf_addstr(out, ".TP\n.B ");
    roff_text(out, o->name);
    roff_text(out, o->help);
    buf_addstr(&line, "Value: ");
    config_option_range(o, &line);
    if (o->default_text) {
        buf_addstr(&line, "; default: ");
        config_option_default(o, &line);
    } else
        buf_addstr(&line, "; must be set");
    buf_addf(&line, ". %s", when[o->reload]);
    buf_addstr(out, ".br\n");
    roff_text(out, buf_str(&line));
    out->failed |= line.failed;
    buf_fini(&line);
}

static void page_5(struct buf *out)
{
    begin(out, "llmd.conf", "5", "configuration of llmd");
    buf_addstr(
        out, ".SH SYNOPSIS\n.I /etc/llmd.conf\n.SH DESCRIPTION\n"
             "Options are written\n.BR \"name = value\" ,\n"
             "texts in double quotes, lists in braces, comments behind #. Sections group options.\n"
             ".B llmd check\nnames every fault with file, line and option;\n.B llmd reload\n"
             "has a running server read the file again: a file with a fault changes nothing.\n");
    for (int scope = 0; scope < CONFIG_N_SCOPES; scope++) {
        const char *section = config_scope_example((enum config_scope)scope);
        struct buf title = {0};
        buf_addf(&title, section ? "OPTIONS IN %s { }" : "OPTIONS", section ? section : "");
        roff_heading(out, "SH", buf_str(&title));
        out->failed |= title.failed;
        buf_fini(&title);
        for (uint32_t i = 0; i < config_n_options; i++)
            if (config_options[i].scope == (enum config_scope)scope)
                add_config_option(&config_options[i], out);
    }
    buf_addstr(
        out,
        ".SH EXAMPLE\n.nf\n"
        "listen = { \\(dq0.0.0.0:8443\\(dq }\n"
        "tls { certificate = \\(dq/etc/llmd/tls.crt\\(dq  key = \\(dq/etc/llmd/tls.key\\(dq }\n"
        "key \\(dqsearch\\(dq { sha256 = \\(dq...\\(dq  requests_per_minute = 600 }\n"
        "model \\(dqqwen2.5\\-7b\\-instruct\\(dq {\n"
        "    path = \\(dq/var/lib/llmd/models/Qwen2.5\\-7B\\-Instruct\\(dq\n"
        "    devices = { \\(dqcuda:0\\(dq, \\(dqcuda:1\\(dq }\n}\n.fi\n"
        ".SH SEE ALSO\n.BR llmd (8)\n");
}

int cmd_man(int argc, char **argv)
{
    const struct arg_spec spec = {
        .command = "llmd man",
        .operands = "[llmd | llmd.conf]",
        .about = "Prints a manual page, llmd(8) or llmd.conf(5), for man: llmd man | man -l -",
        .max_operands = 1,
        .footer = ARGS_EXIT_CODES,
    };
    int first, rc = args_or_exit(&spec, argc, argv, &first);
    if (rc >= 0)
        return rc;
    const char *page = first < argc ? argv[first] : "llmd";
    if (strcmp(page, "llmd") != 0 && strcmp(page, "llmd.conf") != 0)
        return args_usage_error(&spec, "there is no page '%s'", page);
    struct buf out = {0};
    (strcmp(page, "llmd") == 0 ? page_8 : page_5)(&out);
    fputs(buf_str(&out), stdout);
    rc = out.failed ? EXIT_FAILED : EXIT_SUCCESS;
    buf_fini(&out);
    return rc;
}

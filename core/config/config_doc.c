/* config_doc.c - the example file and the reference, made from the option table. */
#include <inttypes.h>
#include <string.h>

#include "core/config/config_int.h"

enum { EXAMPLE_COLUMNS = 90 };

/* "10 to 20 seconds", "1 to 4 of NAME", "one, two": what may be written. */
static void add_range(struct buf *b, const struct config_option *o, const char *before_word,
                      const char *after_word)
{
    if (o->type == CONFIG_INT) {
        buf_addf(b, "%" PRId64 " to %" PRId64 " %s", o->min, o->max, o->unit);
        return;
    }
    if (o->type == CONFIG_LIST) {
        buf_addf(b, "%" PRId64 " to %" PRId64 " of %s", o->min, o->max, o->unit);
        return;
    }
    if (o->type != CONFIG_CHOICE && o->type != CONFIG_BOOL) {
        buf_addstr(b, o->unit);
        return;
    }
    buf_addstr(b, before_word);
    for (const char *p = o->unit; *p; p++) {
        if (*p == '|')
            buf_addf(b, "%s, %s", after_word, before_word);
        else
            buf_addch(b, *p);
    }
    buf_addstr(b, after_word);
}

void config_option_default(const struct config_option *o, struct buf *b)
{
    bool quoted = !o->default_text || o->type == CONFIG_CHOICE || o->type == CONFIG_PATH ||
                  o->type == CONFIG_TIME;
    const char *quote = quoted ? "\"" : "";
    buf_addf(b, "%s%s%s", quote, o->default_text ? o->default_text : "", quote);
}

void config_option_range(const struct config_option *o, struct buf *b)
{
    add_range(b, o, "", "");
}

/* Text as comment lines of at most EXAMPLE_COLUMNS, broken at blanks. */
static void add_comment(struct buf *b, const char *prefix, const char *text)
{
    size_t column = 0;
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, " ");
        if (column > 0 && column + 1 + n > EXAMPLE_COLUMNS) {
            buf_addch(b, '\n');
            column = 0;
        }
        if (column == 0) {
            buf_addstr(b, prefix);
            column = strlen(prefix);
        } else {
            buf_addch(b, ' ');
            column++;
        }
        buf_add(b, p, n);
        column += n;
        p += n;
        p += *p == ' ';
    }
    buf_addch(b, '\n');
}

static void example_scope(enum config_scope scope, struct buf *out)
{
    bool top = scope == CONFIG_TOP;
    for (uint32_t i = 0; i < config_n_options; i++) {
        const struct config_option *o = &config_options[i];
        struct buf text = {0};
        if (o->scope != scope)
            continue;
        buf_addstr(&text, o->default_text ? "Value: " : "Must be set: ");
        config_option_range(o, &text);
        add_comment(out, top ? "# " : "#    # ", o->help);
        add_comment(out, top ? "# " : "#    # ", buf_str(&text));
        buf_addf(out, "#%s%s = ", top ? "" : "    ", o->name);
        config_option_default(o, out);
        buf_addstr(out, top ? "\n\n" : "\n");
        out->failed |= text.failed;
        buf_fini(&text);
    }
}

void config_print_example(struct buf *out)
{
    buf_addstr(out,
               "# llmd.conf - the configuration of llmd.\n"
               "#\n"
               "# Every option stands here with its default, behind '#'. Without a model\n"
               "# llmd runs and waits to be told of one. `llmd check --config FILE` names every\n"
               "# fault with its line. `llmd setup` asks for what is needed and writes it down.\n"
               "# This text is made by `llmd check --print-defaults`.\n"
               "\n");
    example_scope(CONFIG_TOP, out);
    buf_addstr(out, "# The request log.\n#store {\n");
    example_scope(CONFIG_STORE, out);
    buf_addstr(out, "#}\n\n"
                    "# With this section, clients speak HTTPS.\n#tls {\n");
    example_scope(CONFIG_TLS, out);
    buf_addstr(out, "#}\n\n"
                    "# Traces of requests, for an OpenTelemetry collector.\n#traces {\n");
    example_scope(CONFIG_TRACES, out);
    buf_addstr(out, "#}\n\n"
                    "# Clients that may use the models; one section each. Without any, llmd "
                    "listens on\n"
                    "# loopback addresses only and asks nobody for a key.\n"
                    "#key \"team\" {\n");
    example_scope(CONFIG_KEY, out);
    buf_addstr(out, "#}\n\n"
                    "# A model that is served; one section each. Its name is what clients ask "
                    "for.\n"
                    "#model \"my-model\" {\n");
    example_scope(CONFIG_MODEL, out);
    buf_addstr(out, "#}\n");
}

/* Text inside a Markdown table. */
static void add_cell(struct buf *b, const char *text)
{
    for (; *text; text++) {
        if (*text == '|')
            buf_addch(b, '\\');
        buf_addch(b, *text);
    }
}

static void reference_scope(enum config_scope scope, struct buf *out)
{
    buf_addstr(out, "| Option | Default | Value | Meaning |\n|---|---|---|---|\n");
    for (uint32_t i = 0; i < config_n_options; i++) {
        const struct config_option *o = &config_options[i];
        if (o->scope != scope)
            continue;
        buf_addf(out, "| `%s` | ", o->name);
        if (o->default_text) {
            buf_addch(out, '`');
            config_option_default(o, out);
            buf_addch(out, '`');
        } else
            buf_addstr(out, "must be set");
        buf_addstr(out, " | ");
        add_range(out, o, "`", "`");
        buf_addstr(out, " | ");
        add_cell(out, o->help);
        if (o->reload == CONFIG_LIVE)
            buf_addstr(out, " Takes effect at a reload.");
        if (o->reload == CONFIG_ROLL)
            buf_addstr(out, " A reload replaces the model's workers one by one.");
        buf_addstr(out, " |\n");
    }
}

void config_print_reference(struct buf *out)
{
    buf_addstr(
        out,
        "# Options of llmd.conf\n\n"
        "Made from [options.def](options.def) by `llmd check --print-options`; do not edit.\n\n"
        "`name = value`, one per line. Text stands in `\"...\"` (with `\\\"` and `\\\\`) or "
        "`'...'`, lists in\n`{ \"one\", \"two\" }`, comments behind `#` or `//` or between `/*` "
        "and `*/`. An option may be set\nonce. Nothing is taken from the environment. Every "
        "option takes effect at the next start unless\nits row says otherwise. [llmd.conf]"
        "(llmd.conf) is an example to start from.\n\n"
        "## At the top of the file\n\n");
    reference_scope(CONFIG_TOP, out);
    buf_addstr(out, "\n## In `store { }`\n\n"
                    "The request log, which `llmd logs` and `llmd explain` read.\n\n");
    reference_scope(CONFIG_STORE, out);
    buf_addstr(out, "\n## In `tls { }`\n\n"
                    "With this section, clients speak HTTPS: on every IP address of `listen` and "
                    "`admin_listen` but those\nwith `http://` in front.\n\n");
    reference_scope(CONFIG_TLS, out);
    buf_addstr(
        out, "\n## In `traces { }`\n\n"
             "Traces of requests, for an OpenTelemetry collector or Tempo, by OTLP over HTTP.\n\n");
    reference_scope(CONFIG_TRACES, out);
    buf_addstr(out, "\n## In `key \"name\" { }`\n\n"
                    "One section for each client that may use the models. Without any, llmd "
                    "listens on loopback\naddresses only and asks nobody for a key.\n\n");
    reference_scope(CONFIG_KEY, out);
    buf_addstr(out, "\n## In `model \"name\" { }`\n\n"
                    "One section for each model that is served. The name is what clients ask "
                    "for: letters, digits\nand `- _ . : / @ +`.\n\n");
    reference_scope(CONFIG_MODEL, out);
}

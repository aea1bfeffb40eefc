/* template.c - `llmd template`: renders a chat template as the server would. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/commands.h"
#include "cmd/input.h"
#include "core/model/chat_template.h"
#include "core/util/fsio.h"
#include "core/util/json.h"
#include "core/util/utf8.h"

enum { MAX_TEMPLATE_BYTES = 4 << 20, MAX_CONTEXT_BYTES = 64 << 20 };

static int parse_template(const char *path, struct chat_template **out, struct err *e)
{
    struct buf source = {0};
    int rc = file_read(path, MAX_TEMPLATE_BYTES, &source, e);
    if (rc == 0) {
        rc = utf8_valid(buf_str(&source), source.len)
                 ? chat_template_parse(buf_str(&source), source.len, out, e)
                 : err_set(e, LLMD_EPARSE, "not valid UTF-8 text");
        if (rc != 0)
            err_prefix(e, "%s: ", path);
    }
    buf_fini(&source);
    return rc;
}

/* The context on standard input; an empty one where there is none. */
static int read_context(json_t **out, struct err *e)
{
    struct buf text = {0};
    int rc = isatty(STDIN_FILENO) ? 0 : input_read_all(MAX_CONTEXT_BYTES, &text, e);
    if (rc == 0 && text.len == 0)
        buf_addstr(&text, "{}");
    if (rc == 0) {
        rc = json_parse(buf_str(&text), text.len, out, e);
        if (rc == 0 && !json_is_object(*out)) {
            json_decref(*out);
            *out = NULL;
            rc = err_set(e, LLMD_EPARSE, "not a JSON object");
        }
        if (rc != 0)
            err_prefix(e, "context: ");
    }
    buf_fini(&text);
    return rc;
}

static int render(const char *path)
{
    struct chat_template *t = NULL;
    json_t *context = NULL;
    struct buf out = {0};
    struct err e = {0};
    int rc = parse_template(path, &t, &e);
    if (rc == 0)
        rc = read_context(&context, &e);
    if (rc == 0) {
        rc = chat_template_render(t, context, NULL, &out, &e);
        if (rc != 0)
            err_prefix(&e, "%s: ", path);
    }
    if (rc == 0 && !output_text(buf_str(&out), out.len))
        rc = err_set(&e, LLMD_EIO, "cannot write to standard output");
    if (rc != 0)
        fprintf(stderr, "llmd template: %s\n", e.msg);
    buf_fini(&out);
    json_decref(context);
    chat_template_free(t);
    return rc == 0 ? EXIT_SUCCESS : EXIT_FAILED;
}

int cmd_template(int argc, char **argv)
{
    const struct arg_spec spec = {
        .command = "llmd template",
        .operands = "FILE [< context.json]",
        .about =
            "Renders the Jinja chat template in FILE as transformers does, byte for byte. The\n"
            "variables (messages, add_generation_prompt, tools, bos_token, ...) are the JSON\n"
            "object on standard input, exactly; nothing is added to it.",
        .max_operands = 1,
        .footer = "Example: llmd template chat_template.jinja < context.json\n" ARGS_EXIT_CODES,
    };
    int first, rc = args_or_exit(&spec, argc, argv, &first);
    if (rc >= 0)
        return rc;
    if (first == argc)
        return args_usage_error(&spec, "which template? FILE is missing");
    return render(argv[first]);
}

/* status.c - `llmd status`: what a running server does, once or every second. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/commands.h"
#include "cmd/control_client.h"
#include "cmd/input.h"
#include "cmd/status_text.h"
#include "core/util/clock.h"

enum { SECOND_US = 1000000 };

struct status {
    struct control_client client;
    bool json, watch;
};

static int failed(const struct err *e)
{
    fprintf(stderr, "llmd status: %s\n", e->msg);
    return EXIT_FAILED;
}

static int print_json(const json_t *v, struct err *e)
{
    char *text = json_dumps(v, JSON_INDENT(2));
    bool written = text && output_text(text, strlen(text)) && output_text("\n", 1);
    free(text);
    return written ? 0 : err_set(e, LLMD_EIO, "cannot write to standard output");
}

static int print_page(const json_t *now, const json_t *before, bool repaint, struct err *e)
{
    static const char clear[] = "\033[H\033[2J";
    struct buf page = {0};
    if (repaint && isatty(STDOUT_FILENO))
        buf_addstr(&page, clear);
    else if (repaint)
        buf_addch(&page, '\n');
    status_text(now, before, &page);
    bool written = !page.failed && fwrite(buf_str(&page), 1, page.len, stdout) == page.len &&
                   fflush(stdout) == 0;
    buf_fini(&page);
    return written ? 0 : err_set(e, LLMD_EIO, "cannot write to standard output");
}

/* Rates need two looks: the page comes a second after the first. */
static int show(const struct status *s, struct err *e)
{
    json_t *before = NULL, *now = NULL;
    int rc = control_ask(&s->client, "GET", "status", NULL, &before, e);
    if (rc == 0 && s->json)
        rc = print_json(before, e);
    for (bool again = false; rc == 0 && !s->json && (!again || s->watch); again = true) {
        clock_sleep_us(SECOND_US);
        rc = control_ask(&s->client, "GET", "status", NULL, &now, e);
        if (rc != 0)
            break;
        rc = print_page(now, before, again, e);
        json_decref(before);
        before = now;
        now = NULL;
    }
    json_decref(before);
    return rc;
}

int cmd_status(int argc, char **argv)
{
    struct status s = {0};
    struct err e = {0};
    const struct arg_option options[] = {
        {.name = "json", .type = ARG_FLAG, .help = "the server's answer as JSON", .out = &s.json},
        {.name = "watch",
         .letter = 'w',
         .type = ARG_FLAG,
         .help = "again every second, until interrupted",
         .out = &s.watch},
        CONTROL_OPTIONS(&s.client),
    };
    const struct arg_spec spec = {
        .command = "llmd status",
        .operands = "",
        .about =
            "Shows what a running server does: requests, models, workers. Rates are those of one\n"
            "second. KV USED is what running requests hold of the cache of keys and values.",
        .options = options,
        .n_options = ARRAY_LEN(options),
        .footer = ARGS_EXIT_CODES,
    };
    int first, rc = args_or_exit(&spec, argc, argv, &first);
    if (rc >= 0)
        return rc;
    if (s.json && s.watch)
        return args_usage_error(&spec, "--json and --watch do not go together");
    rc = control_client_open(&s.client, &e);
    if (rc == 0)
        rc = show(&s, &e);
    control_client_close(&s.client);
    return rc == 0 ? EXIT_SUCCESS : failed(&e);
}

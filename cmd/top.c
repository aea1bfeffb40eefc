/* top.c - `llmd top`: the snapshot that the status page paints, in a terminal, once a second. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/commands.h"
#include "cmd/control_client.h"
#include "cmd/input.h"
#include "cmd/screen.h"
#include "cmd/top_text.h"
#include "core/util/clock.h"

enum { SECOND_MS = 1000, PAGE_ROWS = 10 };

struct top {
    struct control_client client;
    bool json, once;
    struct top_view view;
    json_t *shown; /* the snapshot; NULL: there was none yet */
    uint32_t n_list;
    struct err trouble;
};

/* ---- once ---- */

static int print(const struct top *t, struct err *e)
{
    struct buf page = {0};
    char *dump = t->json ? json_dumps(t->shown, JSON_INDENT(2)) : NULL;
    if (t->json)
        buf_addf(&page, "%s\n", dump ? dump : "");
    else
        (void)top_text(t->shown, &t->view, &page);
    page.failed |= t->json && !dump;
    /* Colors are ours, and all else was made fit already. */
    const bool done = !page.failed && fwrite(buf_str(&page), 1, page.len, stdout) == page.len &&
                      fflush(stdout) == 0;
    free(dump);
    buf_fini(&page);
    return done ? 0 : err_set(e, LLMD_EIO, "cannot write to standard output");
}

/* ---- again and again ---- */

/* A server that is away keeps its last snapshot on the screen, and a line says so. */
static void ask(struct top *t)
{
    json_t *now = NULL;
    err_clear(&t->trouble);
    if (control_ask(&t->client, "GET", "snapshot", NULL, &now, &t->trouble) != 0)
        return;
    json_decref(t->shown);
    t->shown = now;
}

static bool paint(struct top *t)
{
    struct buf page = {0};
    uint32_t columns;
    screen_size(&columns, &t->view.rows);
    t->view.trouble = t->trouble.code ? t->trouble.msg : NULL;
    if (t->shown)
        t->n_list = top_text(t->shown, &t->view, &page);
    else
        buf_addf(&page, "%s\n", t->view.trouble ? t->view.trouble : "");
    const bool done = !page.failed && screen_paint(&page);
    buf_fini(&page);
    return done;
}

static void show_list(struct top *t, enum top_list list)
{
    t->view.list = list;
    t->view.first = 0;
}

static void scroll(struct top *t, int64_t by)
{
    const int64_t to = (int64_t)t->view.first + by;
    const int64_t last = t->n_list > 0 ? (int64_t)t->n_list - 1 : 0;
    t->view.first = (uint32_t)(to < 0 ? 0 : to > last ? last : to);
}

/* False: it is to end. */
static bool press(struct top *t, enum screen_key key, char c)
{
    switch (key) {
    case KEY_END:
        return false;
    case KEY_UP:
        scroll(t, -1);
        break;
    case KEY_DOWN:
        scroll(t, 1);
        break;
    case KEY_PAGE_UP:
        scroll(t, -PAGE_ROWS);
        break;
    case KEY_PAGE_DOWN:
        scroll(t, PAGE_ROWS);
        break;
    case KEY_OTHER:
        if (c == 'r')
            show_list(t, TOP_REQUESTS);
        else if (c == 'd')
            show_list(t, TOP_DECISIONS);
        else if (c == ' ')
            t->view.paused = !t->view.paused;
        return c != 'q' && c != 'Q';
    case KEY_NONE:
    case KEY_SIZE:
        break;
    }
    return true;
}

static bool watch(struct top *t)
{
    bool painted = true;
    for (uint64_t due_us = 0, now_us = clock_now_us(); painted; now_us = clock_now_us()) {
        char c = '\0';
        if (now_us >= due_us) {
            if (!t->view.paused)
                ask(t);
            due_us = clock_now_us() + (uint64_t)SECOND_MS * 1000;
        }
        painted = paint(t);
        now_us = clock_now_us();
        const uint64_t left_ms = due_us > now_us ? (due_us - now_us) / 1000 + 1 : 0;
        const enum screen_key key = screen_wait((uint32_t)left_ms, &c);
        if (!press(t, key, c))
            return true;
    }
    return false;
}

static int run(struct top *t, struct err *e)
{
    int rc = control_ask(&t->client, "GET", "snapshot", NULL, &t->shown, e);
    const char *no_color = getenv("NO_COLOR");
    t->view.color = isatty(STDOUT_FILENO) && (!no_color || !no_color[0]);
    if (rc != 0)
        return rc;
    if (t->json || t->once || !screen_open())
        return print(t, e);
    const bool done = watch(t);
    screen_close();
    return done ? 0 : err_set(e, LLMD_EIO, "cannot write to the terminal");
}

int cmd_top(int argc, char **argv)
{
    struct top t = {.json = false};
    struct err e = {0};
    const struct arg_option options[] = {
        CONTROL_OPTIONS(&t.client),
        {.name = "once", .letter = '1', .type = ARG_FLAG, .help = "print it once", .out = &t.once},
        {.name = "json",
         .letter = 'j',
         .type = ARG_FLAG,
         .help = "the snapshot as JSON, once",
         .out = &t.json},
    };
    const struct arg_spec spec = {
        .command = "llmd top",
        .operands = "",
        .about = "Shows what the status page shows, every second: how the server does and what is "
                 "wrong,\n"
                 "rates and percentiles, GPUs, workers, requests, decisions. Where standard input "
                 "or output\n"
                 "is no terminal, it is printed once.\n"
                 "Keys: q quit, r requests, d decisions, space pause, arrows scroll.",
        .options = options,
        .n_options = ARRAY_LEN(options),
        .footer = ARGS_EXIT_CODES "\nWith NO_COLOR in the environment there are no colors.",
    };
    int first, rc = args_or_exit(&spec, argc, argv, &first);
    if (rc >= 0)
        return rc;
    rc = control_client_open(&t.client, &e);
    if (rc == 0)
        rc = run(&t, &e);
    control_client_close(&t.client);
    json_decref(t.shown);
    if (rc != 0)
        fprintf(stderr, "llmd top: %s\n", e.msg);
    return rc == 0 ? EXIT_SUCCESS : EXIT_FAILED;
}

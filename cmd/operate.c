/* operate.c - `llmd drain`, `llmd reload`: tells a running server what to do, waits until it is done,
 * says what came of it. Progress goes to standard error, the outcome to standard output. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/commands.h"
#include "cmd/control_client.h"
#include "core/util/clock.h"

enum { LOOK_US = 200000, TEXT_MAX = 512 };

/* One wait: what was said last, so that a line comes only when something changed. */
struct wait {
    const struct control_client *client;
    const char *command;
    uint32_t worker;
    char said[TEXT_MAX];
};

static void say(struct wait *w, const char *line)
{
    if (strcmp(line, w->said) == 0)
        return;
    fprintf(stderr, "%s\n", line);
    snprintf(w->said, sizeof(w->said), "%s", line);
}

static int failed(const char *command, const struct err *e)
{
    fprintf(stderr, "llmd %s: %s\n", command, e->msg);
    return EXIT_FAILED;
}

/* ---- the whole process ---- */

/* 1: the process that was asked to drain answers, or is about to end; 0: it has ended. */
static int still_there(struct wait *w, double pid, struct err *e)
{
    json_t *v = NULL;
    char line[TEXT_MAX];
    int rc = control_ask(w->client, "GET", "status", NULL, &v, e);
    if (rc != 0) {
        if (rc == -LLMD_ENOTFOUND) /* nobody listens */
            return 0;
        return rc == -LLMD_EIO || rc == -LLMD_ETIMEOUT ? 1 : rc;
    }
    bool same = control_number(v, "pid") == pid;
    double n = control_number(v, "answering");
    snprintf(line, sizeof(line), "draining, answers left: %.0f", n);
    if (same)
        say(w, line);
    json_decref(v);
    return same;
}

static int drain_all(struct wait *w, bool no_wait)
{
    struct err e = {0};
    json_t *status = NULL, *v = NULL;
    int rc = control_ask(w->client, "GET", "status", NULL, &status, &e);
    double pid = control_number(status, "pid");
    if (rc == 0)
        rc = control_ask(w->client, "POST", "drain", NULL, &v, &e);
    json_decref(status);
    json_decref(v);
    if (rc != 0)
        return failed(w->command, &e);
    if (no_wait) {
        puts("the server drains and ends");
        return EXIT_SUCCESS;
    }
    while ((rc = still_there(w, pid, &e)) == 1) {
        err_clear(&e);
        clock_sleep_us(LOOK_US);
    }
    if (rc < 0)
        return failed(w->command, &e);
    puts("drained: the server has ended");
    return EXIT_SUCCESS;
}

/* ---- one worker ---- */

/* The worker among all; NULL when there is none. Borrowed from *all, to be released. */
static const json_t *find_worker(const struct wait *w, json_t **all, struct err *e)
{
    size_t i;
    json_t *v;
    if (control_ask(w->client, "GET", "workers", NULL, all, e) != 0)
        return NULL;
    json_array_foreach(json_object_get(*all, "workers"), i, v)
    {
        if (control_number(v, "worker") == w->worker)
            return v;
    }
    err_set(e, LLMD_ENOTFOUND, "the server has no worker %u any more", w->worker);
    return NULL;
}

/* 0: look again; 1: it has come to what was asked for. */
static int look_drained(struct wait *w, const json_t *v, struct err *e)
{
    char state[32], line[TEXT_MAX];
    control_text(json_object_get(v, "state"), state, sizeof(state));
    if (!json_is_true(json_object_get(v, "drained")))
        return err_set(e, LLMD_EINVAL, "worker %u was brought back meanwhile", w->worker);
    if (strcmp(state, "dead") == 0)
        return 1;
    snprintf(line, sizeof(line), "worker %u drains, requests left: %.0f", w->worker,
             control_number(v, "bound"));
    say(w, line);
    return 0;
}

static int look_ready(struct wait *w, const json_t *v, struct err *e)
{
    char state[32], error[TEXT_MAX / 2], line[TEXT_MAX];
    control_text(json_object_get(v, "state"), state, sizeof(state));
    control_text(json_object_get(v, "error"), error, sizeof(error));
    if (strcmp(state, "ready") == 0)
        return 1;
    if (strcmp(state, "dead") == 0)
        return err_set(e, LLMD_EWORKER, "worker %u did not come back: %s", w->worker, error);
    snprintf(line, sizeof(line), "worker %u: %s, %.0f %% of the weights are there", w->worker,
             state, control_number(v, "loaded_percent"));
    say(w, line);
    return 0;
}

static int wait_for_worker(struct wait *w,
                           int (*look)(struct wait *w, const json_t *v, struct err *e))
{
    struct err e = {0};
    for (;;) {
        json_t *all = NULL;
        const json_t *v = find_worker(w, &all, &e);
        int rc = v ? look(w, v, &e) : -e.code;
        json_decref(all);
        if (rc < 0)
            return failed(w->command, &e);
        if (rc > 0)
            return EXIT_SUCCESS;
        clock_sleep_us(LOOK_US);
    }
}

static int drain_worker(struct wait *w, bool undo, bool no_wait)
{
    struct err e = {0};
    json_t *v = NULL;
    char body[64];
    snprintf(body, sizeof(body), "{\"worker\":%u}", w->worker);
    int rc = control_ask(w->client, "POST", undo ? "undrain" : "drain", body, &v, &e);
    json_decref(v);
    if (rc != 0)
        return failed(w->command, &e);
    rc = no_wait ? EXIT_SUCCESS : wait_for_worker(w, undo ? look_ready : look_drained);
    if (rc == EXIT_SUCCESS)
        printf("worker %u %s\n", w->worker,
               undo ? (no_wait ? "starts" : "is ready") : (no_wait ? "drains" : "is drained"));
    return rc;
}

/* A worker's number; false when the text is none. */
static bool parse_worker(const char *text, uint32_t *out)
{
    size_t n = strspn(text, "0123456789");
    if (n == 0 || n > 9 || text[n])
        return false;
    *out = (uint32_t)strtoul(text, NULL, 10);
    return true;
}

int cmd_drain(int argc, char **argv)
{
    struct control_client client = {0};
    struct wait w = {.client = &client, .command = "drain"};
    bool undo = false, no_wait = false;
    struct err e = {0};
    const struct arg_option options[] = {
        {.name = "undo", .type = ARG_FLAG, .help = "bring WORKER back", .out = &undo},
        {.name = "no-wait", .type = ARG_FLAG, .help = "do not wait for the end", .out = &no_wait},
        CONTROL_OPTIONS(&client),
    };
    const struct arg_spec spec = {
        .command = "llmd drain",
        .operands = "[WORKER]",
        .about =
            "Takes a server out of service: it answers what runs, refuses what is new (503) and\n"
            "ends, after drain_timeout_s at the latest. With WORKER, its number in llmd status:\n"
            "that worker only; the others take over what is new, and the server goes on. Without\n"
            "another, what is new waits for its return, max_queue_time_s at most.",
        .options = options,
        .n_options = ARRAY_LEN(options),
        .max_operands = 1,
        .footer = ARGS_EXIT_CODES,
    };
    int first, rc = args_or_exit(&spec, argc, argv, &first);
    if (rc >= 0)
        return rc;
    bool one = first < argc;
    if (one && !parse_worker(argv[first], &w.worker))
        return args_usage_error(&spec, "'%s' is no worker's number", argv[first]);
    if (undo && !one)
        return args_usage_error(&spec, "--undo needs the number of a worker");
    if (control_client_open(&client, &e) != 0)
        rc = failed(w.command, &e);
    else
        rc = one ? drain_worker(&w, undo, no_wait) : drain_all(&w, no_wait);
    control_client_close(&client);
    return rc;
}

/* ---- reload ---- */

static int show_reload(const json_t *state)
{
    char word[32], message[TEXT_MAX];
    size_t i;
    json_t *v;
    control_text(json_object_get(state, "state"), word, sizeof(word));
    control_text(json_object_get(state, "message"), message, sizeof(message));
    bool bad = strcmp(word, "failed") == 0;
    if (bad) {
        fprintf(stderr, "llmd reload: %s\n", message[0] ? message : "refused");
        return EXIT_FAILED;
    }
    json_array_foreach(json_object_get(state, "changes"), i, v)
    {
        char line[TEXT_MAX];
        puts(control_text(v, line, sizeof(line)));
    }
    if (message[0])
        puts(message);
    return EXIT_SUCCESS;
}

static int reload(struct wait *w, bool no_wait)
{
    struct err e = {0};
    json_t *v = NULL;
    int rc = control_ask(w->client, "POST", "reload", NULL, &v, &e);
    double number = control_number(v, "number");
    for (; rc == 0 && !no_wait; rc = control_ask(w->client, "GET", "reload", NULL, &v, &e)) {
        char word[32];
        control_text(json_object_get(v, "state"), word, sizeof(word));
        if (strcmp(word, "running") != 0 || control_number(v, "number") != number)
            break;
        json_decref(v);
        v = NULL;
        clock_sleep_us(LOOK_US);
    }
    if (rc != 0)
        rc = failed(w->command, &e);
    else if (no_wait)
        puts("the server reads its configuration");
    else
        rc = show_reload(v);
    json_decref(v);
    return rc;
}

int cmd_reload(int argc, char **argv)
{
    struct control_client client = {0};
    struct wait w = {.client = &client, .command = "reload"};
    bool no_wait = false;
    struct err e = {0};
    const struct arg_option options[] = {
        {.name = "no-wait", .type = ARG_FLAG, .help = "do not wait for the end", .out = &no_wait},
        CONTROL_OPTIONS(&client),
    };
    const struct arg_spec spec = {
        .command = "llmd reload",
        .operands = "",
        .about =
            "Has a server read its configuration file again, and shows what changed. A file with\n"
            "a fault, or a change that needs a new start, is refused as a whole: the server goes\n"
            "on as it was.",
        .options = options,
        .n_options = ARRAY_LEN(options),
        .footer = "Exit codes: 0 done, 1 failed or refused, 2 usage.",
    };
    int first, rc = args_or_exit(&spec, argc, argv, &first);
    if (rc >= 0)
        return rc;
    rc = control_client_open(&client, &e) == 0 ? reload(&w, no_wait) : failed(w.command, &e);
    control_client_close(&client);
    return rc;
}

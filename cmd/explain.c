/* explain.c - `llmd explain`: the story of one request, from the request log, or from the server that has
 * it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/commands.h"
#include "cmd/control_client.h"
#include "cmd/explain_text.h"
#include "cmd/log_place.h"
#include "core/store/query.h"
#include "core/util/json.h"

struct explain {
    const char *directory, *id;
    bool json;
    struct control_client client;
    struct buf row; /* as JSON; empty: the log has none */
};

static int take_row(void *ctx, const struct store_row *row)
{
    struct explain *x = ctx;
    buf_clear(&x->row);
    store_row_json(row, true, &x->row);
    return 0;
}

/* ENOTFOUND when the log does not know it, or there is no log. */
static int ask_log(struct explain *x, json_t **out, struct err *e)
{
    const struct store_filter f = {.id = x->id};
    struct store_reader *reader = NULL;
    struct buf place = {0};
    int rc = log_place_find(x->directory, x->client.config, &place, e);
    if (rc == 0)
        rc = store_reader_open(buf_str(&place), &reader, e);
    if (rc == 0)
        rc = store_query(reader, &f, STORE_ALL, 1, take_row, x, e);
    if (rc == 0 && x->row.len == 0)
        rc = err_set(e, LLMD_ENOTFOUND, "%s holds no request '%s'", buf_str(&place), x->id);
    if (rc == 0)
        rc = x->row.failed ? err_set(e, LLMD_ENOMEM, "out of memory")
                           : json_parse(buf_str(&x->row), x->row.len, out, e);
    store_reader_free(reader);
    buf_fini(&place);
    return rc;
}

/* What may be an id, and so part of a path. */
static bool may_be_id(const char *s)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789._:-";
    size_t n = strspn(s, allowed);
    return n > 0 && s[n] == '\0';
}

/* A request that runs, or ended a moment ago. Reply ids are tried as well when an X-Request-Id is
 * given. */
static int ask_server(struct explain *x, json_t **out, struct err *e)
{
    static const char *const prefixes[] = {"", "chatcmpl-", "cmpl-"};
    int rc = control_client_open(&x->client, e);
    for (size_t i = 0; rc == 0 && !*out && i < ARRAY_LEN(prefixes); i++) {
        struct buf route = {0};
        json_t *record = NULL;
        buf_addf(&route, "requests/%s%s", prefixes[i], x->id);
        rc = control_ask(&x->client, "GET", buf_str(&route), NULL, &record, e);
        if (rc == 0)
            *out = explain_live_story(record);
        if (rc == -LLMD_EINVAL && i + 1 < ARRAY_LEN(prefixes)) { /* it does not know that id */
            err_clear(e);
            rc = 0;
        }
        json_decref(record);
        buf_fini(&route);
    }
    control_client_close(&x->client);
    return rc;
}

static int find(struct explain *x, json_t **out)
{
    struct err in_log = {0}, at_server = {0};
    if (ask_log(x, out, &in_log) == 0)
        return 0;
    if (!x->directory && may_be_id(x->id) && ask_server(x, out, &at_server) == 0 && *out)
        return 0;
    fprintf(stderr, "llmd explain: %s\n", in_log.msg);
    if (at_server.msg[0])
        fprintf(stderr, "llmd explain: %s\n", at_server.msg);
    return -LLMD_ENOTFOUND;
}

static int print(struct explain *x, const json_t *story)
{
    struct buf text = {0};
    if (x->json) {
        explain_json(story, &text);
        buf_addch(&text, '\n');
    } else
        explain_text(story, &text);
    const bool done = !text.failed && fwrite(buf_str(&text), 1, text.len, stdout) == text.len;
    buf_fini(&text);
    if (!done)
        fputs("llmd explain: cannot write to standard output\n", stderr);
    return done ? EXIT_SUCCESS : EXIT_FAILED;
}

int cmd_explain(int argc, char **argv)
{
    struct explain x = {.directory = NULL};
    const struct arg_option options[] = {
        CONTROL_OPTIONS(&x.client),
        {"directory", 'd', ARG_STRING, "PATH", "the log's directory, also a copy of one",
         &x.directory, 0, 0},
        {"json", 'j', ARG_FLAG, NULL, "one JSON object", &x.json, 0, 0},
    };
    const struct arg_spec spec = {
        .command = "llmd explain",
        .operands = "ID",
        .about =
            "Tells the story of one request: which worker and why, when each piece of its prompt\n"
            "was computed, its slowest gaps between tokens and what caused them, and what took\n"
            "most of its time. ID is that of the reply (chatcmpl-...) or its X-Request-Id.\n"
            "What is not in the request log yet is asked of the running server.",
        .options = options,
        .n_options = ARRAY_LEN(options),
        .max_operands = 1,
        .footer = "Exit codes: 0 told, 1 not found or failed, 2 usage.",
    };
    json_t *story = NULL;
    int first, rc = args_or_exit(&spec, argc, argv, &first);
    if (rc >= 0)
        return rc;
    if (first != argc - 1)
        return args_usage_error(&spec, "name one request");
    x.id = argv[first];
    rc = find(&x, &story) == 0 ? print(&x, story) : EXIT_FAILED;
    json_decref(story);
    buf_fini(&x.row);
    return rc;
}

#include "cmd/status_text.h"

#include <stdio.h>
#include <string.h>

#include "cmd/control_client.h"

enum { NAME_MAX = 40, ADDRESS_MAX = 128, NOTE_MAX = 160 };

static const json_t *get(const json_t *object, const char *name)
{
    return json_object_get(object, name);
}

static bool is_true(const json_t *object, const char *name)
{
    return json_is_true(get(object, name));
}

static void add_text(struct buf *out, const json_t *v)
{
    char shown[ADDRESS_MAX];
    buf_addstr(out, control_text(v, shown, sizeof(shown)));
}

static void add_duration(struct buf *out, double seconds)
{
    unsigned long s = (unsigned long)seconds;
    if (s >= 86400)
        buf_addf(out, "%lu d %lu h", s / 86400, s / 3600 % 24);
    else if (s >= 3600)
        buf_addf(out, "%lu h %lu min", s / 3600, s / 60 % 60);
    else if (s >= 60)
        buf_addf(out, "%lu min %lu s", s / 60, s % 60);
    else
        buf_addf(out, "%lu s", s);
}

/* ---- the server ---- */

static void add_listeners(const json_t *now, struct buf *out)
{
    size_t i;
    json_t *v;
    json_array_foreach(get(now, "listen"), i, v)
    {
        char address[ADDRESS_MAX];
        control_text(get(v, "address"), address, sizeof(address));
        const double port =
            control_number(v, "port"); /* of the address it may be 0: any free one */
        const char *colon = port > 0 ? strrchr(address, ':') : NULL;
        int n = colon ? (int)(colon - address) : (int)strlen(address);
        buf_addf(out, "%s%.*s", i ? ", " : "", n, address);
        if (colon)
            buf_addf(out, ":%.0f", port);
        if (json_is_true(get(v, "admin")))
            buf_addstr(out, " (operators)");
    }
}

static void add_server(const json_t *now, struct buf *out)
{
    double waiting = 0;
    size_t i;
    json_t *m;
    json_array_foreach(get(now, "models"), i, m) waiting += control_number(m, "waiting");
    buf_addstr(out, "llmd ");
    add_text(out, get(now, "version"));
    buf_addstr(out, "  ");
    add_text(out, get(now, "state"));
    buf_addf(out, "  pid %.0f  up ", control_number(now, "pid"));
    add_duration(out, control_number(now, "uptime_seconds"));
    buf_addstr(out, "  on ");
    add_listeners(now, out);
    buf_addf(out, "\nrequests     %.0f being answered, %.0f waiting, %.0f ended, %.0f failed\n",
             control_number(now, "answering"), waiting, control_number(now, "requests"),
             control_number(now, "failed"));
    buf_addf(out, "connections  %.0f of %.0f\n", control_number(now, "connections"),
             control_number(now, "max_connections"));
}

/* What the server says of itself, and what to do; nothing of an older server. */
static void add_verdict(const json_t *now, struct buf *out)
{
    const json_t *v = get(now, "verdict");
    char reason[NOTE_MAX], advice[NOTE_MAX];
    if (!json_is_object(v))
        return;
    control_text(get(v, "reason"), reason, sizeof(reason));
    control_text(get(v, "advice"), advice, sizeof(advice));
    buf_addstr(out, "verdict      ");
    add_text(out, get(v, "state"));
    buf_addf(out, ": %s%s%s%s\n", reason, advice[0] ? " (" : "", advice, advice[0] ? ")" : "");
}

static void add_reload(const json_t *now, struct buf *out)
{
    const json_t *reload = get(now, "reload");
    char state[32], message[NOTE_MAX];
    control_text(get(reload, "state"), state, sizeof(state));
    control_text(get(reload, "message"), message, sizeof(message));
    if (state[0] && strcmp(state, "idle") != 0)
        buf_addf(out, "reload       %s%s%s\n", state, message[0] ? ": " : "", message);
}

/* ---- tables ---- */

/* Width of the column of models' names. */
static int name_width(const json_t *now)
{
    size_t width = strlen("MODEL"), i;
    json_t *v;
    json_array_foreach(get(now, "models"), i, v)
    {
        char name[NAME_MAX];
        size_t n = strlen(control_text(get(v, "name"), name, sizeof(name)));
        width = n > width ? n : width;
    }
    return (int)width;
}

static void add_models(const json_t *now, int width, struct buf *out)
{
    size_t i;
    json_t *v;
    buf_addf(out, "\n%-*s  STATE    WAITING  DECISIONS  MIGRATIONS  CONTEXT\n", width, "MODEL");
    json_array_foreach(get(now, "models"), i, v)
    {
        char name[NAME_MAX];
        control_text(get(v, "name"), name, sizeof(name));
        buf_addf(out, "%-*s  %-7s  %7.0f  %9.0f  %10.0f  %7.0f\n", width, name,
                 is_true(v, "ready") ? "ready" : "-", control_number(v, "waiting"),
                 control_number(v, "decisions"), control_number(v, "migrations"),
                 control_number(v, "max_model_len"));
    }
}

static bool same_number(const json_t *a, const json_t *b, const char *name)
{
    return control_number(a, name) == control_number(b, name);
}

/* The same worker in an earlier answer, of the same start; NULL. */
static const json_t *same_worker(const json_t *before, const json_t *worker)
{
    size_t i;
    json_t *v;
    json_array_foreach(get(before, "workers"), i, v)
    {
        if (same_number(v, worker, "worker") && same_number(v, worker, "place") &&
            same_number(v, worker, "starts"))
            return v;
    }
    return NULL;
}

/* How much a count grew per second, right-aligned; "-" when that is not known. */
static void add_rate(const json_t *v, const json_t *past, const char *name, double seconds,
                     struct buf *out)
{
    double grown = control_number(v, name) - control_number(past, name);
    if (!past || seconds <= 0 || grown < 0)
        buf_addf(out, "  %8s", "-");
    else
        buf_addf(out, "  %8.*f", grown / seconds < 100 ? 1 : 0, grown / seconds);
}

static const char *worker_note(const json_t *v, char out[NOTE_MAX])
{
    enum { LONG_STEP_MS = 1000 };
    char state[32], error[NOTE_MAX];
    out[0] = '\0';
    control_text(get(v, "state"), state, sizeof(state));
    control_text(get(v, "error"), error, sizeof(error));
    double left = control_number(v, "seconds_left");
    if (is_true(v, "drained") && strcmp(state, "dead") == 0)
        snprintf(out, NOTE_MAX, "llmd drain --undo %.0f brings it back",
                 control_number(v, "worker"));
    else if (is_true(v, "drained"))
        snprintf(out, NOTE_MAX, "requests left: %.0f", control_number(v, "bound"));
    else if (strcmp(state, "dead") == 0)
        snprintf(out, NOTE_MAX, "%s", error);
    else if (strcmp(state, "loading") == 0)
        snprintf(out, NOTE_MAX, left > 0 ? "%.0f %%, %.0f s left" : "%.0f %%",
                 control_number(v, "loaded_percent"), left);
    else if (control_number(v, "step_ms") > LONG_STEP_MS)
        snprintf(out, NOTE_MAX, "in a step for %.1f s", control_number(v, "step_ms") / 1e3);
    else if (control_number(v, "starts") > 1)
        snprintf(out, NOTE_MAX, "started %.0f times", control_number(v, "starts"));
    return out;
}

static void add_worker(const json_t *v, const json_t *past, double seconds, int width,
                       struct buf *out)
{
    char model[NAME_MAX], state[32], note[NOTE_MAX];
    double blocks = control_number(v, "kv_blocks");
    control_text(get(v, "model"), model, sizeof(model));
    control_text(get(v, "state"), state, sizeof(state));
    if (is_true(v, "drained") && strcmp(state, "dead") == 0)
        snprintf(state, sizeof(state), "drained");
    buf_addf(out, "%6.0f  %-*s  %-8s  %7.0f  %7.0f", control_number(v, "worker"), width, model,
             state, control_number(v, "running"), control_number(v, "waiting"));
    if (blocks > 0)
        buf_addf(out, "  %5.1f %%", 100 * (blocks - control_number(v, "free_kv_blocks")) / blocks);
    else
        buf_addf(out, "  %7s", "-");
    add_rate(v, past, "steps", seconds, out);
    add_rate(v, past, "generated_tokens", seconds, out);
    worker_note(v, note);
    buf_addf(out, "%s%s\n", note[0] ? "  " : "", note);
}

void status_text(const json_t *now, const json_t *before, struct buf *out)
{
    double seconds =
        control_number(now, "uptime_seconds") - control_number(before, "uptime_seconds");
    int width = name_width(now);
    size_t i;
    json_t *v;
    if (!same_number(now, before, "pid"))
        before = NULL;
    add_server(now, out);
    add_verdict(now, out);
    add_reload(now, out);
    add_models(now, width, out);
    buf_addf(out, "\nWORKER  %-*s  STATE     RUNNING  WAITING  KV USED   STEPS/S     TOK/S\n",
             width, "MODEL");
    json_array_foreach(get(now, "workers"), i, v)
        add_worker(v, same_worker(before, v), seconds, width, out);
}

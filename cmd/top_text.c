#include "cmd/top_text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cmd/control_client.h"
#include "core/util/clock.h"

enum { NAME_MAX = 25, ID_MAX = 33, LINE_MAX_BYTES = 400, CELL = 24 };

struct page {
    const struct top_view *view;
    struct buf *out;
};

static const json_t *get(const json_t *object, const char *name)
{
    return json_object_get(object, name);
}

/* ---- looks ---- */

enum look { PLAIN, BOLD, DIM, GOOD, WARN, BAD };

static void look(const struct page *p, enum look l)
{
    static const char *const codes[] = {
        [PLAIN] = "\033[0m", [BOLD] = "\033[1m",  [DIM] = "\033[2m",
        [GOOD] = "\033[32m", [WARN] = "\033[33m", [BAD] = "\033[1;31m"};
    if (p->view->color)
        buf_addstr(p->out, codes[l]);
}

static enum look look_of_level(const json_t *v)
{
    const char *level = json_string_value(get(v, "level"));
    if (level && strcmp(level, "bad") == 0)
        return BAD;
    return level && strcmp(level, "warn") == 0 ? WARN : GOOD;
}

static void heading(const struct page *p, const char *text)
{
    look(p, DIM);
    buf_addstr(p->out, text);
    look(p, PLAIN);
    buf_addch(p->out, '\n');
}

/* ---- figures ---- */

/* NaN: null, or not there. */
static double figure(const json_t *object, const char *name)
{
    const json_t *v = get(object, name);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

/* Three digits that matter: "0.52", "5.2", "52", "1200"; "-" when it is not known. */
static const char *digits(double v, const char *unit, char out[CELL])
{
    if (isnan(v))
        snprintf(out, CELL, "-");
    else
        snprintf(out, CELL, "%.*f%s",
                 v != 0 && fabs(v) < 1    ? 2
                 : fabs(v) < 10 && v != 0 ? 1
                                          : 0,
                 v, unit);
    return out;
}

/* Seconds as "12 ms" or "3.4 s". */
static const char *duration(double s, char out[CELL])
{
    return s < 1 ? digits(s * 1e3, " ms", out) : digits(s, " s", out);
}

static const char *percent(double share, char out[CELL])
{
    return digits(share * 100, " %", out);
}

static const char *age(double s, char out[CELL])
{
    if (isnan(s))
        snprintf(out, CELL, "-");
    else if (s < 100)
        snprintf(out, CELL, "%.0f s", s);
    else if (s < 6000)
        snprintf(out, CELL, "%.0f min", s / 60);
    else if (s < 172800)
        snprintf(out, CELL, "%.0f h", s / 3600);
    else
        snprintf(out, CELL, "%.0f d", s / 86400);
    return out;
}

static const char *text(const json_t *object, const char *name, char *out, size_t n_out)
{
    return control_text(get(object, name), out, n_out);
}

/* ---- head ---- */

static void add_verdict(const struct page *p, const json_t *s)
{
    const json_t *v = get(s, "verdict"), *problem;
    char a[LINE_MAX_BYTES], b[LINE_MAX_BYTES], cell[CELL];
    size_t i;
    look(p, look_of_level(v));
    buf_addf(p->out, "%s", text(v, "state", a, sizeof(a)));
    look(p, PLAIN);
    buf_addf(p->out, " for %s: %s\n", age(figure(s, "time") - figure(v, "since"), cell),
             text(v, "reason", a, sizeof(a)));
    if (text(v, "advice", b, sizeof(b))[0])
        buf_addf(p->out, "  -> %s\n", b);
    json_array_foreach(get(s, "problems"), i, problem)
    {
        if (strstr(a, text(problem, "text", b, sizeof(b)))) /* the verdict has said it */
            continue;
        look(p, look_of_level(problem));
        buf_addstr(p->out, "  ! ");
        look(p, PLAIN);
        buf_addf(p->out, "%s (for %s)\n", b,
                 age(figure(s, "time") - figure(problem, "since"), cell));
    }
}

static void add_head(const struct page *p, const json_t *s)
{
    const json_t *server = get(s, "server");
    char a[LINE_MAX_BYTES], when[CLOCK_UTC_SIZE], cell[CELL];
    look(p, BOLD);
    buf_addf(p->out, "llmd %s", text(s, "version", a, sizeof(a)));
    look(p, PLAIN);
    clock_utc_seconds((int64_t)control_number(s, "time"), when);
    buf_addf(p->out,
             "  pid %.0f  up %s  %.0f of %.0f connections  %.0f requests, %.0f failed  %s%s\n",
             control_number(s, "pid"), age(figure(s, "uptime_seconds"), cell),
             control_number(server, "connections"), control_number(server, "max_connections"),
             control_number(server, "requests"), control_number(server, "failed"), when,
             p->view->paused ? "  PAUSED" : "");
    if (p->view->trouble) {
        look(p, BAD);
        buf_addf(p->out, "%s\n", p->view->trouble);
        look(p, PLAIN);
    }
}

static void add_rates(const struct page *p, const json_t *s)
{
    static const char *const rows[][2] = {{"TTFT", "ttft"}, {"ITL", "itl"}};
    static const char *const quantiles[] = {"p50", "p95", "p99"};
    const json_t *r = get(s, "rates");
    char cell[CELL], name[CELL];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        buf_addf(p->out, "%s%-5s", i ? "   " : "", rows[i][0]);
        for (size_t k = 0; k < ARRAY_LEN(quantiles); k++) {
            snprintf(name, sizeof(name), "%s_%s", rows[i][1], quantiles[k]);
            buf_addf(p->out, " %s %s", quantiles[k], duration(figure(r, name), cell));
        }
    }
    buf_addf(p->out, "   queue p95 %s", duration(figure(r, "queue_p95"), cell));
    buf_addf(p->out, "   E2E p95 %s\n", duration(figure(r, "e2e_p95"), cell));
    buf_addf(p->out, "%s tok/s", digits(figure(r, "tok_s"), "", cell));
    buf_addf(p->out, "   %s prompt tok/s", digits(figure(r, "prompt_tok_s"), "", cell));
    buf_addf(p->out, "   %s req/s", digits(figure(r, "req_s"), "", cell));
    buf_addf(p->out, "   %.0f running   %.0f waiting", control_number(r, "running"),
             control_number(r, "waiting"));
    buf_addf(p->out, "   KV %s", percent(figure(r, "kv"), cell));
    buf_addf(p->out, "   prefix hits %s\n", percent(figure(r, "hit_rate"), cell));
}

/* ---- GPUs, workers ---- */

static void add_gpus(const struct page *p, const json_t *s)
{
    const json_t *g;
    char name[NAME_MAX], cell[4][CELL];
    size_t i;
    if (json_array_size(get(s, "gpus")) == 0)
        return;
    heading(p, "\n GPU  NAME                      BUSY   MEMORY    TEMP   POWER  CLOCK");
    json_array_foreach(get(s, "gpus"), i, g)
    {
        const double share = figure(g, "memory_used_mib") / figure(g, "memory_mib");
        buf_addf(p->out, "%4.0f  %-24s %5s %8s %7s %7s %6.0f\n", control_number(g, "gpu"),
                 text(g, "name", name, sizeof(name)),
                 digits(figure(g, "busy_percent"), " %", cell[0]), percent(share, cell[1]),
                 digits(figure(g, "temperature_c"), " C", cell[2]),
                 digits(figure(g, "power_w"), " W", cell[3]), control_number(g, "sm_mhz"));
    }
}

static void add_worker(const struct page *p, const json_t *w)
{
    char model[NAME_MAX], state[NAME_MAX], device[NAME_MAX], note[LINE_MAX_BYTES], cell[6][CELL];
    const bool ready = strcmp(text(w, "state", state, sizeof(state)), "ready") == 0;
    const bool drained = json_is_true(get(w, "drained"));
    buf_addf(p->out, "%6.0f  %-24s %-7s ", control_number(w, "worker"),
             text(w, "model", model, sizeof(model)), text(w, "device", device, sizeof(device)));
    look(p, ready && !drained ? GOOD : strcmp(state, "dead") == 0 && !drained ? BAD : WARN);
    buf_addf(p->out, "%-9s", drained ? "drained" : state);
    look(p, PLAIN);
    buf_addf(p->out, "%5.0f %5.0f %7s %7s %8s %8s %8s", control_number(w, "running"),
             control_number(w, "waiting"), percent(figure(w, "kv"), cell[0]),
             percent(figure(w, "hit_rate"), cell[1]), digits(figure(w, "tok_s"), "", cell[2]),
             digits(figure(w, "decode_step_ms"), " ms", cell[3]),
             duration(figure(w, "ttft_p95"), cell[4]));
    if (strcmp(state, "loading") == 0)
        buf_addf(p->out, "  %.0f %%", control_number(w, "loaded_percent"));
    else if (text(w, "error", note, sizeof(note))[0])
        buf_addf(p->out, "  %s", note);
    else if (control_number(w, "starts") > 1)
        buf_addf(p->out, "  started %.0f times", control_number(w, "starts"));
    buf_addch(p->out, '\n');
}

static void add_workers(const struct page *p, const json_t *s)
{
    const json_t *w;
    size_t i;
    heading(p, "\nWORKER  MODEL                    DEVICE  STATE      RUN  WAIT      KV    HITS    "
               "TOK/S     "
               "STEP     TTFT");
    json_array_foreach(get(s, "workers"), i, w) add_worker(p, w);
}

/* ---- lists ---- */

/* Of its worker; "-": none has it. */
static const char *number_of(const json_t *object, char out[CELL])
{
    const double v = figure(object, "worker");
    snprintf(out, CELL, isnan(v) ? "-" : "%.0f", v);
    return out;
}

static void add_request(const struct page *p, const json_t *r)
{
    char id[ID_MAX], key[NAME_MAX], waits[NAME_MAX], worker[CELL], cell[2][CELL];
    number_of(r, worker);
    text(r, "waits_for", waits, sizeof(waits));
    buf_addf(p->out, "%-32s %6s  %-16.16s %7.0f %7.0f %7.0f %8s %8s  ",
             text(r, "id", id, sizeof(id)), worker, text(r, "key", key, sizeof(key)),
             control_number(r, "prompt_tokens"), control_number(r, "cached_tokens"),
             control_number(r, "output_tokens"), duration(figure(r, "age_ms") / 1e3, cell[0]),
             duration(figure(r, "first_token_ms") / 1e3, cell[1]));
    look(p, WARN);
    buf_addf(p->out, "%s%s", waits[0] ? "waits for a " : "", waits);
    look(p, PLAIN);
    buf_addch(p->out, '\n');
}

static void add_decision(const struct page *p, const json_t *d)
{
    char id[ID_MAX], why[LINE_MAX_BYTES], worker[CELL];
    buf_addf(p->out, "%-32s %6s  %s\n", text(d, "request", id, sizeof(id)), number_of(d, worker),
             text(d, "why", why, sizeof(why)));
}

static uint32_t n_lines(const struct buf *b)
{
    uint32_t n = 0;
    for (size_t i = 0; i < b->len; i++)
        n += b->data[i] == '\n';
    return n;
}

/* How many entries there is room for, with a line below them. */
static uint32_t room(const struct page *p)
{
    const uint32_t used = n_lines(p->out) + 1;
    return p->view->rows == 0 ? UINT32_MAX : p->view->rows > used ? p->view->rows - used : 0;
}

/* Returns how many there are; decisions are shown the newest first. */
static uint32_t add_list(const struct page *p, const json_t *s)
{
    const bool requests = p->view->list == TOP_REQUESTS;
    const json_t *list = requests ? get(get(s, "requests"), "requests") : get(s, "decisions");
    const uint32_t n = (uint32_t)json_array_size(list);
    if (requests)
        heading(p, "\nREQUEST                          WORKER  KEY               PROMPT  CACHED  "
                   "OUTPUT      "
                   "AGE     TTFT");
    else
        heading(p, "\nDECISION FOR                     WORKER  WHY");
    const uint32_t end = (uint32_t)u64_min(n, (uint64_t)p->view->first + room(p));
    for (uint32_t i = p->view->first; i < end; i++)
        if (requests)
            add_request(p, json_array_get(list, i));
        else
            add_decision(p, json_array_get(list, n - 1 - i));
    return n;
}

uint32_t top_text(const json_t *snapshot, const struct top_view *view, struct buf *out)
{
    const struct page p = {.view = view, .out = out};
    add_head(&p, snapshot);
    add_verdict(&p, snapshot);
    buf_addch(out, '\n');
    add_rates(&p, snapshot);
    add_gpus(&p, snapshot);
    add_workers(&p, snapshot);
    const uint32_t n = add_list(&p, snapshot);
    if (view->rows > 0) {
        while (n_lines(out) + 1 < view->rows)
            buf_addch(out, '\n');
        look(&p, DIM);
        buf_addstr(out, "q quit   r requests   d decisions   space pause   up, down scroll");
        look(&p, PLAIN);
    }
    return n;
}

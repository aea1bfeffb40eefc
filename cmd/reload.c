#include "cmd/reload.h"

#include <stdlib.h>
#include <string.h>

#include "cmd/certificate.h"
#include "cmd/identity.h"
#include "cmd/roll.h"
#include "core/observe/events.h"
#include "core/util/clock.h"
#include "core/util/json.h"
#include "core/util/lock.h"

enum reload_phase { RELOAD_IDLE, RELOAD_RUNNING, RELOAD_DONE, RELOAD_FAILED };
static const char *const phase_names[] = {"idle", "running", "done", "failed"};

/* One model that comes, goes or is replaced. */
struct step {
    struct served *old, *new;
};

struct reload {
    struct fleet *fleet;
    char *path;

    struct lock mu; /* rank LEAF; guards all down to `shown` */
    enum reload_phase phase;
    uint64_t number;
    bool asked, again;
    struct err failure;
    struct buf changes; /* lines */
    struct buf shown;   /* the configuration in force as JSON, and */
    struct buf options; /* beside what the file says now */

    /* The main thread's. */
    uint64_t seen;     /* identity_of the file when it was read last */
    uint64_t looks_us; /* when it is looked at again */
    bool active;       /* the steps are under way */
    bool between;      /* the last one is done: the end is yet to come */
    struct step steps[2 * FLEET_MODELS];
    uint32_t n_steps, at;
    struct roll roll;
};

/* --- what others see --- */

static void publish(struct reload *r, struct buf *where, struct buf *json)
{
    lock_take(&r->mu);
    struct buf before = *where;
    *where = *json;
    lock_drop(&r->mu);
    buf_fini(&before);
}

/* What the file says now; NULL, and fault says why not. */
static struct config *read_file(struct reload *r, struct buf *fault)
{
    struct config *now = NULL;
    struct err e = {0};
    r->seen = identity_of(r->path);
    if (config_load(r->path, &now, fault, &e) == 0)
        return now;
    if (fault->len == 0)
        buf_addstr(fault, e.msg);
    return NULL;
}

/* The configuration as it is in force: models whose update failed are as they were. */
static void show_config(struct reload *r)
{
    const struct fleet *f = r->fleet;
    struct config_model models[FLEET_MODELS];
    struct config c = *f->config;
    struct buf json = {0}, options = {0}, fault = {0};
    struct config *now = read_file(r, &fault);
    for (uint32_t i = 0; i < f->n_line_up; i++)
        models[i] = f->line_up[i]->c;
    c.models = models;
    c.n_models = f->n_line_up;
    config_print_json(&c, &json);
    config_view_json(&c, now, now ? NULL : buf_str(&fault), &options);
    config_free(now);
    buf_fini(&fault);
    publish(r, &r->shown, &json);
    publish(r, &r->options, &options);
}

void reload_look(struct reload *r)
{
    enum { LOOK_US = 2000000 };
    const uint64_t now_us = clock_now_us();
    if (r->active || now_us < r->looks_us)
        return;
    r->looks_us = now_us + LOOK_US;
    if (identity_of(r->path) != r->seen)
        show_config(r);
}

void reload_add_options(struct reload *r, struct buf *json)
{
    lock_take(&r->mu);
    buf_add(json, buf_str(&r->options), r->options.len);
    lock_drop(&r->mu);
}

void reload_add_config(struct reload *r, struct buf *json)
{
    lock_take(&r->mu);
    buf_add(json, buf_str(&r->shown), r->shown.len);
    lock_drop(&r->mu);
}

static void add_lines(const struct buf *lines, struct buf *json)
{
    const char *at = buf_str(lines);
    buf_addch(json, '[');
    for (const char *end; (end = strchr(at, '\n')) != NULL; at = end + 1) {
        if (at != buf_str(lines))
            buf_addch(json, ',');
        json_add_str(json, at, (size_t)(end - at));
    }
    buf_addch(json, ']');
}

void reload_add_state(struct reload *r, struct buf *json)
{
    lock_take(&r->mu);
    buf_addf(json, "{\"state\":\"%s\",\"number\":%llu,\"message\":", phase_names[r->phase],
             (unsigned long long)r->number);
    const bool nothing = r->phase == RELOAD_DONE && r->changes.len == 0;
    json_add_cstr(json, nothing ? "nothing has changed" : r->failure.msg);
    buf_addstr(json, ",\"changes\":");
    add_lines(&r->changes, json);
    buf_addch(json, '}');
    lock_drop(&r->mu);
}

/* r->mu is held. */
static void wish(struct reload *r)
{
    r->phase = RELOAD_RUNNING;
    r->asked = true;
    r->again = false;
    r->number++;
    r->failure = (struct err){0};
    buf_clear(&r->changes);
}

int reload_ask(struct reload *r, bool again, struct err *e)
{
    lock_take(&r->mu);
    const bool busy = r->phase == RELOAD_RUNNING;
    if (!busy)
        wish(r);
    else
        r->again |= again;
    lock_drop(&r->mu);
    return busy ? err_set(e, LLMD_EFULL, "a reload is under way; ask again when it has ended") : 0;
}

bool reload_runs(struct reload *r)
{
    lock_take(&r->mu);
    const bool runs = r->phase == RELOAD_RUNNING;
    lock_drop(&r->mu);
    return runs;
}

/* why NULL: it is done. */
static void finish(struct reload *r, const struct err *why)
{
    r->active = false;
    show_config(r);
    lock_take(&r->mu);
    const unsigned long long number = r->number;
    r->phase = why ? RELOAD_FAILED : RELOAD_DONE;
    if (why)
        r->failure = *why;
    if (r->again)
        wish(r);
    lock_drop(&r->mu);
    if (why)
        event_note(LOG_ERROR, "reload", "failed number=%llu: %s", number, why->msg);
    else
        event_note(LOG_INFO, "reload", "done number=%llu", number);
}

/* --- what there is to do --- */

/* In the configuration, by name. */
static const struct config_model *find_model(const struct config *c, const char *name)
{
    for (uint32_t i = 0; i < c->n_models; i++)
        if (strcmp(c->models[i].name, name) == 0)
            return &c->models[i];
    return NULL;
}

static void add_line(struct config_diff *d, const char *name, const char *what)
{
    struct buf line = {0};
    buf_addf(&line, "model \"%s\"%s", name, what);
    config_diff_add(d, buf_str(&line));
    buf_fini(&line);
}

/* Whether the model is to be replaced. */
static bool has_changed(const struct served *s, const struct config_model *m, struct config_diff *d)
{
    if (config_diff_model(&s->c, m, d))
        return true;
    if (!fleet_is_outdated(s))
        return false;
    add_line(d, m->name, ": its files have changed");
    return true;
}

static int plan_step(struct reload *r, const struct config *c, const struct config_model *m,
                     struct served *old, struct err *e)
{
    struct step *step = &r->steps[r->n_steps];
    int rc = fleet_add(r->fleet, c, m, &step->new, e);
    if (rc != 0)
        return rc;
    step->old = old;
    r->n_steps++;
    return 0;
}

/* Models that changed first, then those that came, so that those that went are served until there is
 * something else. Opens what is new. */
static int plan(struct reload *r, const struct config *c, struct config_diff *d, struct err *e)
{
    const struct fleet *f = r->fleet;
    int rc = 0;
    r->n_steps = r->at = 0;
    for (uint32_t i = 0; rc == 0 && i < c->n_models; i++) {
        struct served *s = fleet_find(f, c->models[i].name);
        if (s && has_changed(s, &c->models[i], d))
            rc = plan_step(r, c, &c->models[i], s, e);
    }
    for (uint32_t i = 0; rc == 0 && i < c->n_models; i++) {
        if (fleet_find(f, c->models[i].name))
            continue;
        add_line(d, c->models[i].name, " added");
        rc = plan_step(r, c, &c->models[i], NULL, e);
    }
    for (uint32_t i = 0; rc == 0 && i < f->n_line_up; i++) {
        if (find_model(c, f->line_up[i]->c.name))
            continue;
        add_line(d, f->line_up[i]->c.name, " removed");
        r->steps[r->n_steps++] = (struct step){.old = f->line_up[i]};
    }
    return rc;
}

/* Steps that will not be made. */
static void drop_steps(struct reload *r, uint32_t from)
{
    for (uint32_t i = from; i < r->n_steps; i++)
        if (r->steps[i].new)
            fleet_retire(r->fleet, r->steps[i].new);
    r->n_steps = from;
}

/* --- what takes effect at once --- */

/* The line-up in the order of the configuration; models that it does not name come last. */
static void sort_line_up(struct fleet *f)
{
    struct served *sorted[FLEET_MODELS];
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->config->n_models; i++) {
        struct served *s = fleet_find(f, f->config->models[i].name);
        if (s)
            sorted[n++] = s;
    }
    for (uint32_t i = 0; i < f->n_line_up; i++)
        if (!find_model(f->config, f->line_up[i]->c.name))
            sorted[n++] = f->line_up[i];
    for (uint32_t i = 0; i < n; i++)
        f->line_up[i] = sorted[i];
}

/* All of it, or nothing: then memory was short. */
static int apply_live(struct reload *r, const struct config *c, struct err *e)
{
    struct fleet *f = r->fleet;
    const struct config *before = f->config, *owners[FLEET_MODELS] = {NULL};
    struct config_model were[FLEET_MODELS];
    enum log_level level = LOG_INFO;
    f->config = c;
    sort_line_up(f);
    for (uint32_t i = 0; i < f->n_line_up; i++) {
        struct served *s = f->line_up[i];
        const struct config_model *m = find_model(c, s->c.name);
        were[i] = s->c;
        owners[i] = s->live;
        if (m)
            fleet_set_live(f, s, c, m);
    }
    int rc = fleet_publish(f, e);
    if (rc != 0) {
        f->config = before;
        for (uint32_t i = 0; i < f->n_line_up; i++)
            fleet_set_live(f, f->line_up[i], owners[i], &were[i]);
        return rc;
    }
    if (strcmp(before->log_level, c->log_level) != 0) {
        BUG_ON(!log_level_parse(c->log_level, &level)); /* config_load checked it */
        log_set_level(level);
    }
    for (uint32_t i = 0; i < c->n_warnings; i++)
        log_warn("config", "%s", c->warnings[i]);
    return 0;
}

/* --- the way of a reload --- */

static int load(struct reload *r, struct config **out, struct err *e)
{
    struct buf faults = {0};
    int rc = config_load(r->path, out, &faults, e);
    for (const char *at = buf_str(&faults), *end; (end = strchr(at, '\n')) != NULL; at = end + 1)
        log_error("config", "%.*s", (int)(end - at), at);
    buf_fini(&faults);
    if (rc != 0)
        return rc;
    rc = fleet_keep_config(r->fleet, *out, e);
    if (rc != 0)
        config_free(*out);
    return rc;
}

static int refuse_restart(const struct config_diff *d, struct err *e)
{
    if (d->restart.len == 0)
        return 0;
    return err_set(e, LLMD_EUNSUPPORTED,
                   "these options take effect at a new start only: %s; nothing was changed",
                   buf_str(&d->restart));
}

/* Takes over the certificate that new connections get, when it is another one. */
static void set_certificate(struct reload *r, struct tls *tls, struct config_diff *d)
{
    const struct tls *before = edge_tls(r->fleet->edge);
    struct buf line = {0};
    if (!tls || tls_same(before, tls)) {
        tls_free(tls);
        return;
    }
    buf_addstr(&line, "tls certificate ");
    tls_describe(before, &line);
    buf_addstr(&line, " -> ");
    tls_describe(tls, &line);
    config_diff_add(d, buf_str(&line));
    buf_fini(&line);
    edge_set_tls(r->fleet->edge, tls);
}

/* What traces go to from now on; the headers may be new ones, which no difference shows. */
static void set_collector(struct reload *r, const struct collector *to)
{
    struct err e = {0};
    if (traces_set(r->fleet->traces, &to->opts, &e) != 0)
        log_warn("reload", "traces go where they went: %s", e.msg);
}

static void tell(struct reload *r, struct config_diff *d)
{
    for (const char *at = buf_str(&d->lines), *end; (end = strchr(at, '\n')) != NULL; at = end + 1)
        event_note(LOG_INFO, "reload", "%.*s", (int)(end - at), at);
    lock_take(&r->mu);
    struct buf before = r->changes;
    r->changes = d->lines;
    lock_drop(&r->mu);
    d->lines = before;
}

/* Reads, checks, opens and applies; the steps are what remains. */
static int begin(struct reload *r, struct err *e)
{
    struct config *c = NULL;
    struct config_diff d = {.n = 0};
    struct tls *tls = NULL;
    struct collector collector = {.headers = NULL};
    int rc = load(r, &c, e);
    if (rc != 0)
        return rc;
    config_diff_top(r->fleet->config, c, &d);
    config_diff_keys(r->fleet->config, c, &d);
    rc = refuse_restart(&d, e);
    if (rc == 0)
        rc = certificate_load_logged(c, &tls, e);
    if (rc == 0)
        rc = collector_load(c, r->fleet->instance, &collector, e);
    if (rc == 0)
        rc = plan(r, c, &d, e);
    if (rc == 0)
        rc = apply_live(r, c, e);
    if (rc == 0) {
        set_collector(r, &collector);
        set_certificate(r, tls, &d);
        tell(r, &d);
    } else {
        tls_free(tls);
        drop_steps(r, 0);
    }
    collector_fini(&collector);
    config_diff_fini(&d);
    return rc;
}

static void next_step(struct reload *r)
{
    struct err e = {0};
    r->between = r->at == r->n_steps;
    if (!r->between) {
        const struct step *s = &r->steps[r->at++];
        roll_begin(&r->roll, r->fleet, s->old, s->new);
        return;
    }
    sort_line_up(r->fleet);
    if (fleet_publish(r->fleet, &e) == 0) /* else again at the next tick */
        finish(r, NULL);
}

static void make_step(struct reload *r)
{
    struct err e = {0};
    const enum roll_outcome outcome = r->between ? ROLL_DONE : roll_step(&r->roll, &e);
    if (outcome == ROLL_DONE)
        next_step(r);
    if (outcome == ROLL_FAILED) {
        drop_steps(r, r->at);
        finish(r, &e);
    }
}

static bool take_wish(struct reload *r)
{
    lock_take(&r->mu);
    const bool asked = r->asked;
    r->asked = false;
    lock_drop(&r->mu);
    return asked;
}

bool reload_tick(struct reload *r)
{
    struct err e = {0};
    if (r->active)
        make_step(r);
    else if (take_wish(r)) {
        event_note(LOG_INFO, "reload", "reading %s", r->path);
        r->active = begin(r, &e) == 0;
        if (r->active)
            next_step(r);
        else
            finish(r, &e);
    }
    fleet_reap(r->fleet);
    return r->active;
}

int reload_new(struct fleet *f, const char *path, struct reload **out, struct err *e)
{
    struct reload *r = calloc(1, sizeof(*r));
    if (r)
        r->path = strdup(path);
    if (!r || !r->path) {
        free(r);
        return err_set(e, LLMD_ENOMEM, "out of memory at start-up");
    }
    r->fleet = f;
    lock_init(&r->mu, LOCK_RANK_LEAF);
    show_config(r);
    *out = r;
    return 0;
}

void reload_free(struct reload *r)
{
    if (!r)
        return;
    buf_fini(&r->changes);
    buf_fini(&r->shown);
    buf_fini(&r->options);
    lock_fini(&r->mu);
    free(r->path);
    free(r);
}

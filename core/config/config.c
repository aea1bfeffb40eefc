#include "core/config/config.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config/config_int.h"
#include "core/util/fsio.h"
#include "core/util/printable.h"

const char *config_shown(struct config_ctx *c, const char *value)
{
    char shown[CONFIG_SHOWN];
    printable_text(value, strlen(value), "", shown, sizeof(shown));
    const char *copy = arena_strdup(&c->scratch, shown);
    return copy ? copy : "";
}

struct config_setting *config_setting(struct config_section *s, const struct config_option *o)
{
    return &s->settings[o - config_options];
}

struct config_setting *config_setting_of(struct config_section *s, const char *name)
{
    const struct config_option *o = config_option_find(s->scope, name);
    BUG_ON(!o);
    return config_setting(s, o);
}

/* Where a message stands among the others: those without a line come last. */
static int rank(int line)
{
    return line > 0 ? line : INT_MAX;
}

/* Adds a message behind those of the same and of earlier lines. */
PRINTF_LIKE(5, 0)
static void add_note(struct config_ctx *c, struct config_notes *notes, int line, const char *option,
                     const char *fmt, va_list ap)
{
    char where[CONFIG_SHOWN_PATH], what[512], text[sizeof(where) + sizeof(what) + CONFIG_MAX_NAME];
    notes->n++;
    if (notes->n > CONFIG_MAX_FAULTS)
        return;
    vsnprintf(what, sizeof(what), fmt, ap);
    printable_text(c->path, strlen(c->path), "", where, sizeof(where));
    size_t n = (size_t)snprintf(text, sizeof(text), line > 0 ? "%s:%d: " : "%s: ", where, line);
    snprintf(text + n, sizeof(text) - n, "%s%s%s%s", option ? "option '" : "", option ? option : "",
             option ? "': " : "", what);
    struct config_note *note = arena_alloc(&c->scratch, sizeof(*note));
    const char *copy = arena_strdup(&c->scratch, text);
    if (!note || !copy) {
        c->no_memory = true;
        return;
    }
    struct config_note **at = &notes->first;
    while (*at && rank((*at)->line) <= rank(line))
        at = &(*at)->next;
    *note = (struct config_note){.next = *at, .line = line, .text = copy};
    *at = note;
}

void config_fault(struct config_ctx *c, int line, const char *option, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    add_note(c, &c->faults, line, option, fmt, ap);
    va_end(ap);
}

void config_warn(struct config_ctx *c, int line, const char *option, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    add_note(c, &c->warnings, line, option, fmt, ap);
    va_end(ap);
}

/* Writes the faults for the caller; the first goes to the err. */
static int report(const struct config_ctx *c, struct buf *faults, struct err *e)
{
    const struct config_notes *f = &c->faults;
    BUG_ON(!f->first);
    if (faults) {
        for (const struct config_note *note = f->first; note; note = note->next) {
            buf_addstr(faults, note->text);
            buf_addch(faults, '\n');
        }
        if (f->n > CONFIG_MAX_FAULTS)
            buf_addf(faults, "%s: %u more faults\n", c->path, f->n - CONFIG_MAX_FAULTS);
    }
    return err_set(e, c->syntax ? LLMD_EPARSE : LLMD_EINVAL, "%s", f->first->text);
}

/* Moves the warnings into the configuration's own memory. */
static void keep_warnings(struct config_ctx *c)
{
    struct config *cfg = c->config;
    uint32_t n = c->warnings.n < CONFIG_MAX_FAULTS ? c->warnings.n : CONFIG_MAX_FAULTS;
    const char **list = arena_array(&cfg->arena, n, sizeof(*list));
    cfg->warnings = list;
    for (const struct config_note *w = c->warnings.first; w && list; w = w->next) {
        list[cfg->n_warnings] = arena_strdup(&cfg->arena, w->text);
        c->no_memory |= !list[cfg->n_warnings++];
    }
    c->no_memory |= !list;
}

static struct config *new_config(const char *path)
{
    struct config *cfg = calloc(1, sizeof(*cfg));
    if (!cfg)
        return NULL;
    arena_init(&cfg->arena, 0);
    cfg->path = arena_strdup(&cfg->arena, path);
    if (!cfg->path) {
        config_free(cfg);
        return NULL;
    }
    return cfg;
}

/* All stages, as far as they get. ENOMEM. */
static int read_text(struct config_ctx *c, const char *text, size_t n, struct err *e)
{
    arena_init(&c->scratch, 0);
    c->config = new_config(c->path);
    c->no_memory = !c->config;
    if (!c->no_memory)
        config_scan(c, text, n);
    c->no_memory |= c->canonical.failed;
    if (!c->syntax && !c->no_memory) {
        config_parse(c);
        if (!c->no_memory)
            config_check(c);
    }
    if (c->config)
        keep_warnings(c);
    if (c->no_memory)
        return err_set(e, LLMD_ENOMEM, "%s: out of memory", c->path);
    return 0;
}

/* With the configuration, unless it was taken. */
static void end_read(struct config_ctx *c)
{
    config_free(c->config);
    buf_fini(&c->canonical);
    arena_fini(&c->scratch);
}

int config_load_text(const char *path, const char *text, size_t n, struct config **out,
                     struct buf *faults, struct err *e)
{
    struct config_ctx c = {.path = path};
    int rc = read_text(&c, text, n, e);
    if (rc == 0 && c.faults.n > 0)
        rc = report(&c, faults, e);
    if (rc == 0) {
        *out = c.config;
        c.config = NULL;
    }
    end_read(&c);
    return rc;
}

int config_load(const char *path, struct config **out, struct buf *faults, struct err *e)
{
    struct buf text = {0};
    struct err why = {0};
    int rc = file_read(path, CONFIG_MAX_BYTES, &text, &why);
    if (rc == 0)
        rc = config_load_text(path, buf_str(&text), text.len, out, faults, e);
    else {
        const char *hint = rc == -LLMD_ENOTFOUND ? "; name another with --config FILE" : "";
        if (faults)
            buf_addf(faults, "%s%s\n", why.msg, hint);
        err_set(e, -rc, "%s%s", why.msg, hint);
    }
    buf_fini(&text);
    return rc;
}

/* Whether that option of that section was refused. */
static bool is_bad(struct config_ctx *c, enum config_scope scope, const char *option)
{
    for (struct config_section *s = c->sections; s; s = s->next)
        if (s->scope == scope && config_setting_of(s, option)->bad)
            return true;
    return false;
}

/* One option of a file whose other options do not matter. */
static int read_one(const char *path, enum config_scope scope, const char *option, struct buf *out,
                    struct err *e)
{
    struct config_ctx c = {.path = path};
    struct buf text = {0};
    int rc = file_read(path, CONFIG_MAX_BYTES, &text, e);
    if (rc != 0)
        goto out;
    rc = read_text(&c, buf_str(&text), text.len, e);
    if (rc == 0 && (c.syntax || is_bad(&c, scope, option)))
        rc = report(&c, NULL, e);
    if (rc == 0)
        buf_addstr(out,
                   scope == CONFIG_STORE ? c.config->store.directory : c.config->control_socket);
    end_read(&c);
out:
    buf_fini(&text);
    return rc;
}

int config_control_socket(const char *path, struct buf *out, struct err *e)
{
    return read_one(path, CONFIG_TOP, "control_socket", out, e);
}

int config_store_directory(const char *path, struct buf *out, struct err *e)
{
    return read_one(path, CONFIG_STORE, "directory", out, e);
}

bool config_store_directory_is_default(const char *value)
{
    return strcmp(value, config_option_find(CONFIG_STORE, "directory")->default_text) == 0;
}

bool config_has_tls(const struct config *c)
{
    return c->tls.certificate[0] != '\0';
}

bool config_control_socket_is_default(const char *value)
{
    return strcmp(value, config_option_find(CONFIG_TOP, "control_socket")->default_text) == 0;
}

void config_free(struct config *c)
{
    if (!c)
        return;
    arena_fini(&c->arena);
    free(c);
}

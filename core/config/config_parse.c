/* config_parse.c - libconfuse reads the canonical text; values are checked as they are parsed and
 * stored in struct config. */
#include <confuse.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config/config_int.h"
#include "core/util/clock.h"

/* The load in progress: libconfuse hands its callbacks no pointer of ours. */
static struct config_ctx *parsing;

static struct config_section *find_section(enum config_scope scope, const char *title)
{
    struct config_section *s = parsing->sections;
    while (s->scope != scope || strcmp(s->title, title) != 0) {
        s = s->next;
        BUG_ON(!s); /* libconfuse sees only what the scan accepted */
    }
    return s;
}

static enum config_scope scope_of(const cfg_t *cfg)
{
    for (int i = 0; i < CONFIG_N_SCOPES; i++) {
        const char *name = config_scope_name((enum config_scope)i);
        if (name && strcmp(name, cfg->name) == 0)
            return (enum config_scope)i;
    }
    return CONFIG_TOP;
}

/* Where a value stands, for its callback. */
static const struct config_option *locate(const cfg_t *cfg, const cfg_opt_t *opt,
                                          struct config_setting **out)
{
    enum config_scope scope = scope_of(cfg);
    const struct config_option *o = config_option_find(scope, opt->name);
    BUG_ON(!o);
    *out = config_setting(find_section(scope, cfg->title ? cfg->title : ""), o);
    return o;
}

/* Decimal only: libconfuse's own reading takes 010 as eight and 0x10 as sixteen. */
static bool is_whole(const char *s)
{
    const char *digits = s + (*s == '-');
    return *digits && digits[strspn(digits, "0123456789")] == '\0';
}

static int on_int(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
    struct config_setting *set;
    const struct config_option *o = locate(cfg, opt, &set);
    bool whole = is_whole(value);
    int64_t v = strtoll(value, NULL, 10); /* saturates: out of any range */
    if (!whole || v < o->min || v > o->max) {
        config_fault(parsing, cfg->line, o->name, "'%s' is %s; write %lld to %lld%s%s",
                     config_shown(parsing, value), whole ? "out of range" : "not a whole number",
                     (long long)o->min, (long long)o->max, o->unit[0] ? " " : "", o->unit);
        set->bad = true;
    }
    *(long *)result = (long)v;
    return 0;
}

static int on_bool(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
    struct config_setting *set;
    const struct config_option *o = locate(cfg, opt, &set);
    int v = cfg_parse_boolean(value);
    if (v < 0) {
        config_fault(parsing, cfg->line, o->name, "'%s' is neither true nor false",
                     config_shown(parsing, value));
        set->bad = true;
    }
    *(int *)result = v > 0;
    return 0;
}

static bool is_digest(const char *s)
{
    size_t n = strspn(s, "0123456789abcdefABCDEF");
    return n == 64 && s[n] == '\0';
}

/* A string of any type. Says what is wrong with it, NULL when nothing is. */
static const char *string_fault(const struct config_option *o, const char *value)
{
    switch (o->type) {
    case CONFIG_DIGEST:
        return is_digest(value) ? NULL
                                : "is no SHA-256 digest of 64 hexadecimal digits; "
                                  "printf %s \"$KEY\" | sha256sum";
    case CONFIG_TIME:
        return !value[0] || clock_parse_utc(value, &(int64_t){0})
                   ? NULL
                   : "is no time; write \"2027-01-31\" or \"2027-01-31T12:00:00Z\"";
    case CONFIG_PATH:
        if ((int64_t)strlen(value) > o->max)
            return "is too long for a path";
        if (value[0] == '~')
            return "begins with '~', which is not expanded; write the whole path";
        return value[0] || o->min == 0 ? NULL : "is empty; name a file";
    default:
        return value[0] ? NULL : "holds an empty string; remove it";
    }
}

static void note_element(struct config_setting *set, int line)
{
    struct config_line *l = arena_alloc(&parsing->scratch, sizeof(*l));
    if (!l) {
        parsing->no_memory = true;
        return;
    }
    l->line = line;
    if (set->last_element)
        set->last_element->next = l;
    else
        set->elements = l;
    set->last_element = l;
}

static int on_string(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
    struct config_setting *set;
    const struct config_option *o = locate(cfg, opt, &set);
    if (o->type == CONFIG_LIST)
        note_element(set, cfg->line);
    if (o->type == CONFIG_CHOICE && !config_choice_has(o->unit, value)) {
        config_fault(parsing, cfg->line, o->name, "'%s' is none of %s",
                     config_shown(parsing, value), o->unit);
        set->bad = true;
    } else if (o->type != CONFIG_CHOICE && string_fault(o, value)) {
        /* A digest may be a key by mistake: it is not repeated. */
        const char *shown = o->type == CONFIG_DIGEST ? "" : config_shown(parsing, value);
        config_fault(parsing, cfg->line, o->name, "%s%s%s%s", shown[0] ? "'" : "", shown,
                     shown[0] ? "' " : "", string_fault(o, value));
        set->bad = true;
    }
    *(const char **)result = value;
    return 0;
}

/* Not reached with canonical text; said rather than lost if it ever is. */
PRINTF_LIKE(2, 0)
static void on_confuse_error(cfg_t *cfg, const char *fmt, va_list ap)
{
    char text[256];
    vsnprintf(text, sizeof(text), fmt, ap);
    config_fault(parsing, cfg->line, NULL, "libconfuse: %s", text);
}

static void *field(void *base, const struct config_option *o)
{
    return (char *)base + o->offset;
}

static void set_number(void *base, const struct config_option *o, int64_t v)
{
    if (o->size == sizeof(uint32_t))
        *(uint32_t *)field(base, o) = (uint32_t)v; /* of an int32_t, too */
    else
        *(uint64_t *)field(base, o) = (uint64_t)v;
}

static void set_string(struct config_ctx *c, void *base, const struct config_option *o,
                       const char *s)
{
    const char *copy = arena_strdup(&c->config->arena, s);
    c->no_memory |= !copy;
    *(const char **)field(base, o) = copy ? copy : "";
}

static unsigned hex_digit(char c)
{
    return isdigit((unsigned char)c) ? (unsigned)(c - '0')
                                     : (unsigned)(tolower((unsigned char)c) - 'a' + 10);
}

static void set_digest(void *base, const struct config_option *o, const char *s)
{
    uint8_t *out = field(base, o);
    for (size_t i = 0; i < o->size && is_digest(s); i++)
        out[i] = (uint8_t)(hex_digit(s[2 * i]) << 4 | hex_digit(s[2 * i + 1]));
}

/* A list of n empty strings; the caller fills it. */
static const char **new_list(struct config_ctx *c, void *base, const struct config_option *o,
                             uint32_t n)
{
    const char **list = arena_array(&c->config->arena, n, sizeof(*list));
    c->no_memory |= !list;
    *(const char ***)field(base, o) = list;
    *(uint32_t *)((char *)base + o->offset_n) = list ? n : 0;
    return list;
}

/* Default lists are written { "one", "two" } in the table, without escapes. */
static void set_default_list(struct config_ctx *c, void *base, const struct config_option *o)
{
    uint32_t n = 0;
    for (const char *p = o->default_text; *p; p++)
        n += *p == '"';
    n /= 2;
    const char **list = new_list(c, base, o, n);
    const char *p = o->default_text;
    for (uint32_t i = 0; list && i < n; i++) {
        const char *from = strchr(p, '"') + 1, *to = strchr(from, '"');
        list[i] = arena_strndup(&c->config->arena, from, (size_t)(to - from));
        c->no_memory |= !list[i];
        p = to + 1;
    }
}

void config_set_default(struct config_ctx *c, const struct config_option *o, void *base)
{
    if (!o->default_text)
        return;
    switch (o->type) {
    case CONFIG_INT:
        set_number(base, o, strtoll(o->default_text, NULL, 10));
        break;
    case CONFIG_BOOL:
        *(bool *)field(base, o) = cfg_parse_boolean(o->default_text) == 1;
        break;
    case CONFIG_LIST:
        set_default_list(c, base, o);
        break;
    case CONFIG_CHOICE:
    case CONFIG_PATH:
        set_string(c, base, o, o->default_text);
        break;
    case CONFIG_TIME: /* never */
    case CONFIG_DIGEST:
        break;
    }
}

static void store_list(struct config_ctx *c, struct config_setting *set,
                       const struct config_option *o, cfg_t *cfg, void *base)
{
    uint32_t n = cfg_size(cfg, o->name);
    if (n < o->min || n > o->max) {
        config_fault(c, set->line, o->name, "has %u elements; give %lld to %lld", n,
                     (long long)o->min, (long long)o->max);
        set->bad = true;
    }
    const char **list = new_list(c, base, o, n);
    for (uint32_t i = 0; list && i < n; i++) {
        list[i] = arena_strdup(&c->config->arena, cfg_getnstr(cfg, o->name, i));
        c->no_memory |= !list[i];
    }
}

/* The value that the file gives. */
static void store(struct config_ctx *c, struct config_section *s, const struct config_option *o,
                  cfg_t *cfg, void *base)
{
    struct config_setting *set = config_setting(s, o);
    if (o->type == CONFIG_LIST) {
        store_list(c, set, o, cfg, base);
        return;
    }
    if (set->bad)
        return;
    switch (o->type) {
    case CONFIG_INT:
        set_number(base, o, cfg_getint(cfg, o->name));
        break;
    case CONFIG_BOOL:
        *(bool *)field(base, o) = cfg_getbool(cfg, o->name) == cfg_true;
        break;
    case CONFIG_DIGEST:
        set_digest(base, o, cfg_getstr(cfg, o->name));
        break;
    case CONFIG_TIME:
        (void)clock_parse_utc(cfg_getstr(cfg, o->name), field(base, o)); /* "": stays 0 */
        break;
    default:
        set_string(c, base, o, cfg_getstr(cfg, o->name));
    }
}

/* Fills one struct: defaults first, then what the file says. cfg is the section as read. */
static void fill(struct config_ctx *c, struct config_section *s, cfg_t *cfg, void *base)
{
    for (uint32_t i = 0; i < config_n_options; i++) {
        const struct config_option *o = &config_options[i];
        const bool titled = config_scope_titled(s->scope);
        if (o->scope != s->scope)
            continue;
        config_set_default(c, o, base);
        struct config_setting *set = config_setting(s, o);
        if (set->line > 0 && !(set->bad && cfg_size(cfg, o->name) == 0))
            store(c, s, o, cfg, base);
        else if (set->line == 0 && !o->default_text)
            config_fault(c, s->line, o->name, "is missing in section '%s%s%s%s'; add %s = \"...\"",
                         config_scope_name(s->scope), titled ? " \"" : "",
                         config_shown(c, s->title), titled ? "\"" : "", o->name);
    }
}

static void fill_all(struct config_ctx *c, cfg_t *cfg)
{
    struct config *out = c->config;
    uint32_t n_keys = cfg_size(cfg, "key"), n_models = cfg_size(cfg, "model");
    out->keys = arena_array(&out->arena, n_keys, sizeof(*out->keys));
    out->models = arena_array(&out->arena, n_models, sizeof(*out->models));
    if (!out->keys || !out->models) {
        c->no_memory = true;
        return;
    }
    out->tls = (struct config_tls){.certificate = "", .key = ""};
    for (uint32_t i = 0; i < config_n_options; i++) { /* their sections may be missing */
        if (config_options[i].scope == CONFIG_STORE)
            config_set_default(c, &config_options[i], &out->store);
        if (config_options[i].scope == CONFIG_TLS)
            config_set_default(c, &config_options[i], &out->tls);
        if (config_options[i].scope == CONFIG_TRACES)
            config_set_default(c, &config_options[i], &out->traces);
    }
    for (struct config_section *s = c->sections; s; s = s->next) {
        const char *name = arena_strdup(&out->arena, s->title);
        c->no_memory |= !name;
        if (s->scope == CONFIG_TOP)
            fill(c, s, cfg, out);
        else if (s->scope == CONFIG_STORE)
            fill(c, s, cfg_getsec(cfg, "store"), &out->store);
        else if (s->scope == CONFIG_TLS) {
            out->tls.line = s->line;
            fill(c, s, cfg_getsec(cfg, "tls"), &out->tls);
        } else if (s->scope == CONFIG_TRACES) {
            out->traces.line = s->line;
            fill(c, s, cfg_getsec(cfg, "traces"), &out->traces);
        } else if (s->scope == CONFIG_KEY) {
            struct config_key *k = &out->keys[out->n_keys++];
            *k = (struct config_key){.name = name, .line = s->line};
            fill(c, s, cfg_gettsec(cfg, "key", s->title), k);
        } else {
            struct config_model *m = &out->models[out->n_models++];
            *m = (struct config_model){.name = name, .line = s->line};
            fill(c, s, cfg_gettsec(cfg, "model", s->title), m);
        }
    }
}

/* libconfuse's table of one scope, an empty entry at its end. */
static void build_table(enum config_scope scope, cfg_opt_t *out)
{
    for (uint32_t i = 0; i < config_n_options; i++) {
        const struct config_option *o = &config_options[i];
        if (o->scope != scope)
            continue;
        cfg_opt_t number = CFG_INT_CB(o->name, 0, CFGF_NODEFAULT, on_int);
        cfg_opt_t boolean = CFG_BOOL_CB(o->name, cfg_false, CFGF_NODEFAULT, on_bool);
        cfg_opt_t string = CFG_STR_CB(o->name, NULL, CFGF_NODEFAULT, on_string);
        cfg_opt_t list = CFG_STR_LIST_CB(o->name, NULL, CFGF_NODEFAULT, on_string);
        *out++ = o->type == CONFIG_INT    ? number
                 : o->type == CONFIG_BOOL ? boolean
                 : o->type == CONFIG_LIST ? list
                                          : string;
    }
    cfg_opt_t end = CFG_END();
    *out = end;
}

void config_parse(struct config_ctx *c)
{
    enum { TITLED = CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES };
    size_t n = config_n_options + CONFIG_N_SCOPES + 1;
    cfg_opt_t *tables[CONFIG_N_SCOPES];
    for (int i = 0; i < CONFIG_N_SCOPES; i++) {
        tables[i] = arena_array(&c->scratch, n, sizeof(*tables[i]));
        if (!tables[i]) {
            c->no_memory = true;
            return;
        }
        build_table((enum config_scope)i, tables[i]);
    }
    int n_top = cfg_numopts(tables[CONFIG_TOP]);
    for (int i = 0; i < CONFIG_N_SCOPES; i++) {
        const char *name = config_scope_name((enum config_scope)i);
        const cfg_flag_t flags = config_scope_titled((enum config_scope)i) ? TITLED : CFGF_NONE;
        cfg_opt_t section = CFG_SEC(name, tables[i], flags), end = CFG_END();
        if (!name)
            continue;
        tables[CONFIG_TOP][n_top++] = section;
        tables[CONFIG_TOP][n_top] = end;
    }
    BUG_ON(parsing); /* one load at a time */
    parsing = c;
    cfg_t *cfg = cfg_init(tables[CONFIG_TOP], CFGF_NONE);
    if (cfg) {
        uint32_t before = c->faults.n;
        cfg_set_error_function(cfg, on_confuse_error);
        int rc = cfg_parse_buf(cfg, buf_str(&c->canonical));
        if (rc == CFG_SUCCESS)
            fill_all(c, cfg);
        else if (c->faults.n == before) /* it gave up without a word: no memory */
            c->no_memory = true;
        cfg_free(cfg);
    } else
        c->no_memory = true;
    parsing = NULL;
}

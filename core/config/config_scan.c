/* config_scan.c - structure, names and duplicates; writes the canonical text (config_int.h).
 *
 *   file    = { option | section }
 *   option  = NAME "=" ( value | "{" [ value { "," value } [ "," ] ] "}" )
 *   section = KEYWORD [ value ] "{" { option } "}"      (value: the names of those that have one)
 *   value   = word | string
 *
 * A fault in the structure ends the scan; unknown and repeated names do not: they are left out of
 * the canonical text. */
#include <string.h>

#include "core/config/config_int.h"
#include "core/config/config_lex_int.h"

struct scan {
    struct config_ctx *ctx;
    struct config_lexer lexer;
    int out_line;                /* of the end of the canonical text */
    struct config_section **end; /* where the next accepted section is linked in */
};

/* A place in the canonical text to go back to when an item turns out not to be wanted. */
struct mark {
    size_t len;
    int line;
};

static struct mark get_mark(const struct scan *s)
{
    return (struct mark){.len = s->ctx->canonical.len, .line = s->out_line};
}

static void go_back(struct scan *s, struct mark m)
{
    buf_truncate(&s->ctx->canonical, m.len);
    s->out_line = m.line;
}

/* Appends text on the given line. */
static void emit(struct scan *s, int line, const char *text)
{
    struct buf *b = &s->ctx->canonical;
    for (; s->out_line < line; s->out_line++)
        buf_addch(b, '\n');
    buf_addstr(b, text);
    buf_addch(b, ' ');
}

/* In single quotes libconfuse reads everything as it stands but \\ and \'. */
static void emit_value(struct scan *s, const struct config_token *t)
{
    struct buf *b = &s->ctx->canonical;
    emit(s, t->line, "");
    buf_addch(b, '\'');
    for (const char *p = t->text; *p; p++) {
        if (*p == '\\' || *p == '\'')
            buf_addch(b, '\\');
        buf_addch(b, *p);
    }
    buf_addstr(b, "' ");
}

static bool is_value(const struct config_token *t)
{
    return t->kind == TOKEN_WORD || t->kind == TOKEN_STRING;
}

/* The token as a message names it. */
static const char *found(struct scan *s, const struct config_token *t)
{
    switch (t->kind) {
    case TOKEN_OPEN:
        return "{";
    case TOKEN_CLOSE:
        return "}";
    case TOKEN_EQUALS:
        return "=";
    case TOKEN_COMMA:
        return ",";
    case TOKEN_END:
        return "end of file";
    default:
        return config_shown(s->ctx, t->text);
    }
}

static struct config_section *new_section(struct scan *s, enum config_scope scope,
                                          const char *title, int line)
{
    if (s->ctx->n_sections[scope]++ >= CONFIG_MAX_SECTIONS) {
        config_fault(s->ctx, line, NULL, "more than %d sections", CONFIG_MAX_SECTIONS);
        return NULL;
    }
    struct config_section *sec = arena_alloc(&s->ctx->scratch, sizeof(*sec));
    struct config_setting *set =
        arena_array(&s->ctx->scratch, config_n_options, sizeof(*sec->settings));
    if (!sec || !set) {
        s->ctx->no_memory = true;
        return NULL;
    }
    *sec = (struct config_section){.scope = scope, .title = title, .line = line, .settings = set};
    return sec;
}

/* What the file says behind `name =`: false after a fault. */
static bool scan_list(struct scan *s, const char *name, int line, uint32_t *out_n)
{
    for (*out_n = 0;;) {
        struct config_token t = config_lex(&s->lexer);
        if (is_value(&t)) {
            emit_value(s, &t);
            (*out_n)++;
            t = config_lex(&s->lexer);
            if (t.kind == TOKEN_COMMA) {
                emit(s, t.line, ",");
                continue;
            }
        }
        if (t.kind == TOKEN_CLOSE) {
            emit(s, t.line, "}");
            return true;
        }
        if (t.kind == TOKEN_END)
            config_fault(s->ctx, line, name, "list is not closed: '}' is missing");
        else if (t.kind != TOKEN_FAULT)
            config_fault(s->ctx, t.line, name, "unexpected '%s' in a list; write %s", found(s, &t),
                         "{ \"one\", \"two\" }");
        return false;
    }
}

/* An option that no scope, or another one, knows. */
static void fault_unknown(struct scan *s, const struct config_section *in,
                          const struct config_token *name)
{
    struct config_ctx *c = s->ctx;
    const char *shown = config_shown(c, name->text);
    for (int scope = 0; scope < CONFIG_N_SCOPES; scope++) {
        const char *section = config_scope_name((enum config_scope)scope);
        if (!config_option_find((enum config_scope)scope, name->text))
            continue;
        if (section)
            config_fault(c, name->line, shown, "belongs into a section: %s { %s = ... }",
                         config_scope_example((enum config_scope)scope), shown);
        else
            config_fault(c, name->line, shown,
                         "belongs outside of sections; move it to the top of the file");
        return;
    }
    const char *nearest = config_option_nearest(in->scope, name->text);
    if (nearest)
        config_fault(c, name->line, shown, "unknown; do you mean '%s'?", nearest);
    else
        config_fault(c, name->line, shown, "unknown; llmd check --print-options lists all options");
}

/* Whether the option, read from t on, is one to keep. */
static bool accept_option(struct scan *s, struct config_section *in,
                          const struct config_token *name, bool list)
{
    struct config_ctx *c = s->ctx;
    const struct config_option *o = config_option_find(in->scope, name->text);
    for (int scope = 0; !o && scope < CONFIG_N_SCOPES; scope++) {
        const char *section = config_scope_name((enum config_scope)scope);
        if (section && strcmp(section, name->text) == 0) {
            config_fault(c, name->line, section, "is a section; write %s { ... }",
                         config_scope_example((enum config_scope)scope));
            return false;
        }
    }
    if (!o) {
        fault_unknown(s, in, name);
        return false;
    }
    struct config_setting *set = config_setting(in, o);
    if (set->line > 0) {
        config_fault(c, name->line, o->name, "is set twice (first in line %d); remove one",
                     set->line);
        return false;
    }
    set->line = name->line;
    if ((o->type == CONFIG_LIST) == list)
        return true;
    set->bad = true;
    if (list)
        config_fault(c, name->line, o->name, "takes one value, not a list; remove the braces");
    else
        config_fault(c, name->line, o->name, "takes a list; write %s = { ... }", o->name);
    return false;
}

/* `name = value`, from behind the equals sign. */
static bool scan_option(struct scan *s, struct config_section *in, const struct config_token *name)
{
    struct mark start = get_mark(s);
    emit(s, name->line, name->text);
    emit(s, name->line, "=");
    struct config_token t = config_lex(&s->lexer);
    bool list = t.kind == TOKEN_OPEN;
    uint32_t n;
    if (list) {
        emit(s, t.line, "{");
        if (!scan_list(s, config_shown(s->ctx, name->text), t.line, &n))
            return false;
    } else if (is_value(&t))
        emit_value(s, &t);
    else {
        if (t.kind != TOKEN_FAULT)
            config_fault(s->ctx, name->line, config_shown(s->ctx, name->text),
                         "has no value: found '%s' behind '='", found(s, &t));
        return false;
    }
    if (!accept_option(s, in, name, list))
        go_back(s, start);
    return true;
}

/* Skips the body of a section that is not wanted, from behind its '{'. */
static bool skip_body(struct scan *s, const char *name, int line)
{
    for (int depth = 1; depth > 0;) {
        struct config_token t = config_lex(&s->lexer);
        if (t.kind == TOKEN_FAULT)
            return false;
        if (t.kind == TOKEN_END) {
            config_fault(s->ctx, line, NULL, "section '%s' is not closed: '}' is missing", name);
            return false;
        }
        depth += (t.kind == TOKEN_OPEN) - (t.kind == TOKEN_CLOSE);
        if (depth > CONFIG_MAX_NESTING) {
            config_fault(s->ctx, t.line, NULL, "braces are nested deeper than %d",
                         CONFIG_MAX_NESTING);
            return false;
        }
    }
    return true;
}

static bool scan_items(struct scan *s, struct config_section *in);

/* The scope whose section is called so. */
static bool find_scope(const char *keyword, enum config_scope *out)
{
    for (int i = 0; i < CONFIG_N_SCOPES; i++) {
        const char *name = config_scope_name((enum config_scope)i);
        if (name && strcmp(name, keyword) == 0) {
            *out = (enum config_scope)i;
            return true;
        }
    }
    return false;
}

/* Whether the section is one to keep; one that is not is read all the same, for its faults. */
static bool accept_section(struct scan *s, const struct config_section *sec)
{
    const char *keyword = config_scope_name(sec->scope);
    const bool titled = config_scope_titled(sec->scope);
    if (titled != (sec->title[0] != '\0')) {
        config_fault(s->ctx, sec->line, NULL, "section '%s' %s; write %s { ... }", keyword,
                     titled ? "has no name" : "takes no name", config_scope_example(sec->scope));
        return false;
    }
    for (const struct config_section *other = s->ctx->sections; other; other = other->next)
        if (other->scope == sec->scope && strcmp(other->title, sec->title) == 0) {
            config_fault(s->ctx, sec->line, NULL,
                         titled ? "section '%s \"%s\"' exists twice (first in line %d); rename or "
                                  "remove one"
                                : "section '%s%s' exists twice (first in line %d); remove one",
                         keyword, config_shown(s->ctx, sec->title), other->line);
            return false;
        }
    return true;
}

/* `keyword "title" {`, from behind the '{'. */
static bool scan_section(struct scan *s, const struct config_section *in,
                         const struct config_token *keyword, const struct config_token *title)
{
    struct config_ctx *c = s->ctx;
    enum config_scope scope;
    const char *shown = config_shown(c, keyword->text);
    if (in->scope != CONFIG_TOP || !find_scope(keyword->text, &scope)) {
        const char *nearest = config_option_nearest(CONFIG_TOP, keyword->text);
        if (in->scope != CONFIG_TOP)
            config_fault(c, keyword->line, NULL,
                         "section '%s' stands inside section '%s'; close that one first", shown,
                         config_scope_name(in->scope));
        else
            config_fault(c, keyword->line, NULL, "unknown section '%s'%s%s%s", shown,
                         nearest ? "; do you mean '" : "", nearest ? nearest : "",
                         nearest ? "'?"
                                 : "; there are 'key', 'model', 'store', 'tls' and 'traces'");
        return skip_body(s, shown, keyword->line);
    }
    struct config_section *sec = new_section(s, scope, title->text, keyword->line);
    if (!sec)
        return false;
    struct mark start = get_mark(s);
    emit(s, keyword->line, keyword->text);
    if (config_scope_titled(scope))
        emit_value(s, title);
    emit(s, title->line, "{");
    bool keep = accept_section(s, sec);
    if (!scan_items(s, sec))
        return false;
    emit(s, s->lexer.line, "}");
    if (keep) {
        *s->end = sec;
        s->end = &sec->next;
    } else
        go_back(s, start);
    return true;
}

/* One option or section, from its first token on. */
static bool scan_item(struct scan *s, struct config_section *in, const struct config_token *name)
{
    struct config_ctx *c = s->ctx;
    const char *shown = config_shown(c, name->text);
    struct config_token second = config_lex(&s->lexer);
    if (second.kind == TOKEN_EQUALS)
        return scan_option(s, in, name);
    if (second.kind == TOKEN_OPEN) {
        struct config_token none = {.kind = TOKEN_STRING, .line = name->line, .text = ""};
        return scan_section(s, in, name, &none);
    }
    if (is_value(&second)) {
        struct config_token third = config_lex(&s->lexer);
        if (third.kind == TOKEN_OPEN)
            return scan_section(s, in, name, &second);
        if (third.kind == TOKEN_FAULT)
            return false;
    }
    if (second.kind == TOKEN_FAULT)
        return false;
    enum config_scope scope;
    if (find_scope(name->text, &scope))
        config_fault(c, name->line, NULL, "section '%s' has no '{'; write %s { ... }", shown,
                     config_scope_example(scope));
    else
        config_fault(c, name->line, shown, "'=' is missing; write %s = VALUE", shown);
    return false;
}

/* Items up to the end of the section (its '}' is taken) or of the file; false after a fault. */
static bool scan_items(struct scan *s, struct config_section *in)
{
    struct config_ctx *c = s->ctx;
    for (;;) {
        struct config_token t = config_lex(&s->lexer);
        switch (t.kind) {
        case TOKEN_WORD:
            if (!scan_item(s, in, &t))
                return false;
            break;
        case TOKEN_END:
            if (in->scope == CONFIG_TOP)
                return true;
            if (config_scope_titled(in->scope))
                config_fault(c, in->line, NULL, "section '%s \"%s\"' is not closed: '}' is missing",
                             config_scope_name(in->scope), config_shown(c, in->title));
            else
                config_fault(c, in->line, NULL, "section '%s' is not closed: '}' is missing",
                             config_scope_name(in->scope));
            return false;
        case TOKEN_CLOSE:
            if (in->scope != CONFIG_TOP)
                return true;
            config_fault(c, t.line, NULL, "'}' closes nothing; remove it");
            return false;
        case TOKEN_FAULT:
            return false;
        default:
            config_fault(c, t.line, NULL, "the name of an option is expected, found '%s'",
                         found(s, &t));
            return false;
        }
    }
}

void config_scan(struct config_ctx *c, const char *text, size_t n)
{
    struct scan s = {.ctx = c, .out_line = 1};
    struct config_section *top = new_section(&s, CONFIG_TOP, "", 0);
    if (!top)
        return;
    c->sections = top;
    s.end = &top->next;
    c->syntax = !config_lex_begin(&s.lexer, c, text, n) || !scan_items(&s, top);
}

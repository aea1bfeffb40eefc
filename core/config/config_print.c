/* config_print.c - the effective configuration as text and JSON, the example file and the
 * reference, all by way of the option table. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/config/config_int.h"
#include "core/util/clock.h"
#include "core/util/json.h"

/* Text that reads back as s: in "..." unless that would look like an expansion. */
static void add_quoted(struct buf *b, const char *s)
{
    char quote = strstr(s, "${") ? '\'' : '"';
    buf_addch(b, quote);
    for (; *s; s++) {
        if (*s == '\\' || *s == quote)
            buf_addch(b, '\\');
        buf_addch(b, *s);
    }
    buf_addch(b, quote);
}

static const void *field(const void *base, const struct config_option *o)
{
    return (const char *)base + o->offset;
}

static uint64_t number(const void *base, const struct config_option *o)
{
    return o->size == sizeof(uint32_t) ? *(const uint32_t *)field(base, o)
                                       : *(const uint64_t *)field(base, o);
}

static void add_list(struct buf *b, const void *base, const struct config_option *o)
{
    const char *const *list = *(const char *const *const *)field(base, o);
    uint32_t n = *(const uint32_t *)((const char *)base + o->offset_n);
    buf_addstr(b, "{ ");
    for (uint32_t i = 0; i < n; i++) {
        buf_addstr(b, i ? ", " : "");
        add_quoted(b, list[i]);
    }
    buf_addstr(b, n ? " }" : "}");
}

static void add_number(struct buf *b, const void *base, const struct config_option *o)
{
    if (o->min < 0)
        buf_addf(b, "%" PRId32, *(const int32_t *)field(base, o));
    else
        buf_addf(b, "%" PRIu64, number(base, o));
}

static void add_time(struct buf *b, int64_t seconds)
{
    char text[CLOCK_UTC_SIZE] = "";
    if (seconds > 0)
        clock_utc_seconds(seconds, text);
    buf_addf(b, "\"%s\"", text);
}

/* Enough of a digest to tell keys apart. */
static void add_digest(struct buf *b, const uint8_t *digest)
{
    for (int i = 0; i < 4; i++)
        buf_addf(b, "%02x", digest[i]);
    buf_addstr(b, "...");
}

void config_add_value(struct buf *b, const void *base, const struct config_option *o)
{
    switch (o->type) {
    case CONFIG_INT:
        add_number(b, base, o);
        break;
    case CONFIG_TIME:
        add_time(b, *(const int64_t *)field(base, o));
        break;
    case CONFIG_BOOL:
        buf_addstr(b, *(const bool *)field(base, o) ? "true" : "false");
        break;
    case CONFIG_LIST:
        add_list(b, base, o);
        break;
    case CONFIG_DIGEST:
        buf_addch(b, '"');
        add_digest(b, field(base, o));
        buf_addch(b, '"');
        break;
    default:
        add_quoted(b, *(const char *const *)field(base, o));
    }
}

void config_add_default(struct buf *b, const struct config_option *o)
{
    if (o->type == CONFIG_CHOICE || o->type == CONFIG_PATH || o->type == CONFIG_TIME)
        add_quoted(b, o->default_text);
    else if (o->type == CONFIG_LIST && strcmp(o->default_text, "{ }") == 0)
        buf_addstr(b, "{ }");
    else
        buf_addstr(b, o->default_text);
}

bool config_value_is_default(const void *base, const struct config_option *o)
{
    struct buf value = {0}, standard = {0};
    if (!o->default_text)
        return false;
    config_add_value(&value, base, o);
    config_add_default(&standard, o);
    const bool same =
        !value.failed && !standard.failed && strcmp(buf_str(&value), buf_str(&standard)) == 0;
    buf_fini(&value);
    buf_fini(&standard);
    return same;
}

static void print_scope(const void *base, enum config_scope scope, const char *indent,
                        struct buf *out)
{
    for (uint32_t i = 0; i < config_n_options; i++) {
        const struct config_option *o = &config_options[i];
        if (o->scope != scope)
            continue;
        buf_addf(out, "%s%s = ", indent, o->name);
        config_add_value(out, base, o);
        buf_addstr(out, config_value_is_default(base, o) ? "    # default\n" : "\n");
    }
}

void config_print(const struct config *c, struct buf *out)
{
    print_scope(c, CONFIG_TOP, "", out);
    buf_addstr(out, "store {\n");
    print_scope(&c->store, CONFIG_STORE, "    ", out);
    buf_addstr(out, "}\ntraces {\n");
    print_scope(&c->traces, CONFIG_TRACES, "    ", out);
    buf_addstr(out, "}\n");
    if (config_has_tls(c)) {
        buf_addstr(out, "tls {\n");
        print_scope(&c->tls, CONFIG_TLS, "    ", out);
        buf_addstr(out, "}\n");
    }
    for (uint32_t i = 0; i < c->n_keys; i++) {
        buf_addf(out, "key \"%s\" {\n", c->keys[i].name);
        print_scope(&c->keys[i], CONFIG_KEY, "    ", out);
        buf_addstr(out, "}\n");
    }
    for (uint32_t i = 0; i < c->n_models; i++) {
        buf_addf(out, "model \"%s\" {\n", c->models[i].name);
        print_scope(&c->models[i], CONFIG_MODEL, "    ", out);
        buf_addstr(out, "}\n");
    }
}

static void add_json_list(struct buf *b, const void *base, const struct config_option *o)
{
    const char *const *list = *(const char *const *const *)field(base, o);
    uint32_t n = *(const uint32_t *)((const char *)base + o->offset_n);
    buf_addch(b, '[');
    for (uint32_t i = 0; i < n; i++) {
        buf_addstr(b, i ? "," : "");
        json_add_cstr(b, list[i]);
    }
    buf_addch(b, ']');
}

/* `"name":value` of every option, separated by commas; `separator` stands in front of the first. */
static void add_json_scope(const void *base, enum config_scope scope, const char *separator,
                           struct buf *out)
{
    for (uint32_t i = 0; i < config_n_options; i++) {
        const struct config_option *o = &config_options[i];
        if (o->scope != scope)
            continue;
        buf_addstr(out, separator);
        separator = ",";
        json_add_cstr(out, o->name);
        buf_addch(out, ':');
        if (o->type == CONFIG_LIST)
            add_json_list(out, base, o);
        else if (o->type == CONFIG_CHOICE || o->type == CONFIG_PATH)
            json_add_cstr(out, *(const char *const *)field(base, o));
        else
            config_add_value(out, base, o);
    }
}

/* One key or model as an object. */
static void add_json_section(uint32_t index, const char *name, const void *base,
                             enum config_scope scope, struct buf *out)
{
    buf_addstr(out, index ? ",{\"name\":" : "{\"name\":");
    json_add_cstr(out, name);
    add_json_scope(base, scope, ",", out);
    buf_addch(out, '}');
}

void config_print_json(const struct config *c, struct buf *out)
{
    buf_addch(out, '{');
    add_json_scope(c, CONFIG_TOP, "", out);
    buf_addstr(out, ",\"store\":{");
    add_json_scope(&c->store, CONFIG_STORE, "", out);
    buf_addstr(out, "},\"traces\":{");
    add_json_scope(&c->traces, CONFIG_TRACES, "", out);
    buf_addstr(out, "},\"tls\":");
    if (config_has_tls(c)) {
        add_json_scope(&c->tls, CONFIG_TLS, "{", out);
        buf_addch(out, '}');
    } else
        buf_addstr(out, "null");
    buf_addstr(out, ",\"keys\":[");
    for (uint32_t i = 0; i < c->n_keys; i++)
        add_json_section(i, c->keys[i].name, &c->keys[i], CONFIG_KEY, out);
    buf_addstr(out, "],\"models\":[");
    for (uint32_t i = 0; i < c->n_models; i++)
        add_json_section(i, c->models[i].name, &c->models[i], CONFIG_MODEL, out);
    buf_addstr(out, "]}");
}

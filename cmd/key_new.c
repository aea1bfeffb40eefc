/* key_new.c - `llmd key new NAME`: a bearer key and the section of the configuration that lets it in.
 *
 * What the section may say beside the digest are the options of conf/options.def. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/commands.h"
#include "cmd/new_key.h"
#include "core/config/config.h"
#include "core/config/options.h"
#include "core/util/buf.h"
#include "core/util/clock.h"

enum {
    MAX_OPTIONS = 16,
    HELP_BYTES = 160,
};

/* One option of a key's section, as an option of the command. */
struct setting {
    const struct config_option *option;
    char name[32]; /* with - for _ */
    char help[HELP_BYTES];
    const char *text; /* NULL: not given */
    bool flag;
    struct arg_list list;
};

struct settings {
    struct setting items[MAX_OPTIONS];
    struct arg_option options[MAX_OPTIONS];
    uint32_t n;
};

static enum arg_type type_of(const struct config_option *o)
{
    return o->type == CONFIG_BOOL ? ARG_FLAG : o->type == CONFIG_LIST ? ARG_LIST : ARG_STRING;
}

/* The first sentence of an option's help. */
static void take_help(const char *from, char out[HELP_BYTES])
{
    const char *end = strstr(from, ". ");
    const size_t n = end ? (size_t)(end - from) : strlen(from) - 1;
    snprintf(out, HELP_BYTES, "%.*s", (int)n, from);
}

/* Everything that a key's section may say but its digest. */
static void collect(struct settings *s)
{
    for (uint32_t i = 0; i < config_n_options; i++) {
        const struct config_option *o = &config_options[i];
        if (o->scope != CONFIG_KEY || o->type == CONFIG_DIGEST)
            continue;
        BUG_ON(s->n == MAX_OPTIONS);
        struct setting *it = &s->items[s->n];
        it->option = o;
        snprintf(it->name, sizeof(it->name), "%s", o->name);
        for (char *p = it->name; (p = strchr(p, '_')) != NULL;)
            *p = '-';
        take_help(o->help, it->help);
        void *out = &it->text;
        if (o->type == CONFIG_BOOL)
            out = &it->flag;
        else if (o->type == CONFIG_LIST)
            out = &it->list;
        s->options[s->n++] = (struct arg_option){
            .name = it->name,
            .type = type_of(o),
            .value = o->type == CONFIG_BOOL   ? NULL
                     : o->type == CONFIG_INT  ? "N"
                     : o->type == CONFIG_TIME ? "TIME"
                                              : o->unit,
            .help = it->help,
            .out = out,
        };
    }
}

static bool is_number(const char *s, int64_t min, int64_t max)
{
    char *end;
    const char *digits = s + (*s == '-');
    const long long v = strtoll(s, &end, 10);
    return *digits >= '0' && *digits <= '9' && *end == '\0' && v >= min && v <= max;
}

/* What is wrong with what was given, as the message for it; NULL when nothing is. */
static const char *fault(const struct setting *it, char *out, size_t n_out)
{
    const struct config_option *o = it->option;
    int64_t time;
    bool good = true;
    if (o->type == CONFIG_INT && it->text) {
        good = is_number(it->text, o->min, o->max);
        snprintf(out, n_out, "--%s takes %lld to %lld, not '%s'", it->name, (long long)o->min,
                 (long long)o->max, it->text);
    } else if (o->type == CONFIG_CHOICE && it->text) {
        good = config_choice_has(o->unit, it->text);
        snprintf(out, n_out, "--%s takes one of %s, not '%s'", it->name, o->unit, it->text);
    } else if (o->type == CONFIG_TIME && it->text) {
        good = clock_parse_utc(it->text, &time);
        snprintf(out, n_out, "--%s takes %s, not '%s'", it->name, o->unit, it->text);
    }
    for (uint32_t i = 0; good && i < it->list.n; i++) {
        good = config_name_valid(it->list.values[i]);
        snprintf(out, n_out, "--%s: '%s' is no name", it->name, it->list.values[i]);
    }
    return good ? NULL : out;
}

/* "    scope = "admin"", when it was given. */
static void add_setting(const struct setting *it, struct buf *out)
{
    const char *name = it->option->name;
    if (it->flag)
        buf_addf(out, "    %s = true\n", name);
    else if (it->text)
        buf_addf(out, it->option->type == CONFIG_INT ? "    %s = %s\n" : "    %s = \"%s\"\n", name,
                 it->text);
    else if (it->list.n > 0) {
        buf_addf(out, "    %s = {", name);
        for (uint32_t i = 0; i < it->list.n; i++)
            buf_addf(out, "%s \"%s\"", i ? "," : "", it->list.values[i]);
        buf_addstr(out, " }\n");
    }
}

static int print_new(const char *name, const struct settings *s)
{
    struct new_key key;
    struct buf out = {0};
    if (!new_key_make(&key)) {
        fputs("llmd key: no random numbers from the system\n", stderr);
        return EXIT_FAILED;
    }
    buf_addf(&out, "key \"%s\" {\n    sha256 = \"%s\"\n", name, key.sha256);
    for (uint32_t i = 0; i < s->n; i++)
        add_setting(&s->items[i], &out);
    buf_addstr(&out, "}\n");
    const bool good = !out.failed;
    if (good)
        printf("The key, shown this once (llmd itself keeps nothing but its digest):\n\n%s\n\n"
               "For the configuration, then 'llmd reload':\n\n%s",
               key.text, buf_str(&out));
    else
        fputs("llmd key: out of memory\n", stderr);
    new_key_forget(&key);
    buf_fini(&out);
    return good ? EXIT_SUCCESS : EXIT_FAILED;
}

int cmd_key(int argc, char **argv)
{
    struct settings s = {.n = 0};
    char why[256];
    collect(&s);
    const struct arg_spec spec = {
        .command = "llmd key",
        .operands = "new NAME",
        .about =
            "Makes a bearer key for clients, and the section of the configuration that lets it\n"
            "in. Nothing is written anywhere: give the key to the client, paste the section, and\n"
            "'llmd reload'. A key goes by removing its section.",
        .options = s.options,
        .n_options = s.n,
        .max_operands = 2,
        .footer = "Example: llmd key new team-a --requests-per-minute 600 --expires 2027-01-31\n"
                  "conf/OPTIONS.md says more of each.\n" ARGS_EXIT_CODES,
    };
    int first, rc = args_or_exit(&spec, argc, argv, &first);
    if (rc >= 0)
        return rc;
    if (argc - first < 1 || strcmp(argv[first], "new") != 0)
        return args_usage_error(&spec, "what is to be done? There is 'llmd key new NAME'");
    if (argc - first < 2)
        return args_usage_error(&spec, "which name is the key to have? llmd key new NAME");
    if (!config_name_valid(argv[first + 1]))
        return args_usage_error(
            &spec, "'%s': a name has 1 to 128 letters, digits and - _ . : / @ +", argv[first + 1]);
    for (uint32_t i = 0; i < s.n; i++)
        if (fault(&s.items[i], why, sizeof(why)))
            return args_usage_error(&spec, "%s", why);
    return print_new(argv[first + 1], &s);
}

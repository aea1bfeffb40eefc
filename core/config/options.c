#include "core/config/options.h"

#include <string.h>
#include <strings.h>

#include "core/config/config.h"

#define STRUCT_TOP    struct config
#define STRUCT_KEY    struct config_key
#define STRUCT_MODEL  struct config_model
#define STRUCT_STORE  struct config_store
#define STRUCT_TLS    struct config_tls
#define STRUCT_TRACES struct config_traces

/* Where the number of elements lies; only lists have one. */
#define COUNT_INT(s, name)    0
#define COUNT_BOOL(s, name)   0
#define COUNT_CHOICE(s, name) 0
#define COUNT_PATH(s, name)   0
#define COUNT_DIGEST(s, name) 0
#define COUNT_TIME(s, name)   0
#define COUNT_LIST(s, name)   offsetof(s, n_##name)

const struct config_option config_options[] = {
#define OPTION(scope_, type_, name_, default_, min_, max_, unit_, reload_, help_)                  \
    {                                                                                              \
        .scope = CONFIG_##scope_,                                                                  \
        .type = CONFIG_##type_,                                                                    \
        .reload = CONFIG_##reload_,                                                                \
        .name = #name_,                                                                            \
        .default_text = (default_),                                                                \
        .min = (min_),                                                                             \
        .max = (max_),                                                                             \
        .unit = (unit_),                                                                           \
        .help = (help_),                                                                           \
        .offset = offsetof(STRUCT_##scope_, name_),                                                \
        .size = sizeof(((STRUCT_##scope_ *)0)->name_),                                             \
        .offset_n = COUNT_##type_(STRUCT_##scope_, name_),                                         \
    },
#include "conf/options.def"
#undef OPTION
};
const uint32_t config_n_options = ARRAY_LEN(config_options);

static const char *const scope_names[CONFIG_N_SCOPES] = {
    [CONFIG_TOP] = NULL,      [CONFIG_KEY] = "key", [CONFIG_MODEL] = "model",
    [CONFIG_STORE] = "store", [CONFIG_TLS] = "tls", [CONFIG_TRACES] = "traces"};
static const char *const scope_examples[CONFIG_N_SCOPES] = {
    [CONFIG_TOP] = NULL,      [CONFIG_KEY] = "key \"name\"", [CONFIG_MODEL] = "model \"name\"",
    [CONFIG_STORE] = "store", [CONFIG_TLS] = "tls",          [CONFIG_TRACES] = "traces"};

const char *config_scope_name(enum config_scope scope)
{
    return scope_names[scope];
}

bool config_scope_titled(enum config_scope scope)
{
    return scope == CONFIG_KEY || scope == CONFIG_MODEL;
}

const char *config_scope_example(enum config_scope scope)
{
    return scope_examples[scope];
}

const struct config_option *config_option_find(enum config_scope scope, const char *name)
{
    for (uint32_t i = 0; i < config_n_options; i++)
        if (config_options[i].scope == scope && strcmp(config_options[i].name, name) == 0)
            return &config_options[i];
    return NULL;
}

enum { NAME_MAX_LEN = 40 };

static uint32_t min3(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* How many single characters must be added, removed or replaced; UINT32_MAX for long names. */
static uint32_t edit_distance(const char *a, const char *b)
{
    uint32_t row[NAME_MAX_LEN + 1];
    size_t n_a = strlen(a), n_b = strlen(b);
    if (n_a > NAME_MAX_LEN || n_b > NAME_MAX_LEN)
        return UINT32_MAX;
    for (uint32_t j = 0; j <= n_b; j++)
        row[j] = j;
    for (uint32_t i = 1; i <= n_a; i++) {
        uint32_t diagonal = row[0];
        row[0] = i;
        for (uint32_t j = 1; j <= n_b; j++) {
            uint32_t up = row[j];
            row[j] = min3(up + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = up;
        }
    }
    return row[n_b];
}

/* 0: the same but for case; small: alike. One that begins like the other counts as near, so that
 * `header_timeout` finds `header_timeout_s`. */
static uint32_t unlikeness(const char *name, const char *candidate)
{
    size_t n = strlen(name);
    if (strcasecmp(name, candidate) == 0)
        return 0;
    if (n >= 4 && strncmp(name, candidate, n) == 0)
        return 1;
    return edit_distance(name, candidate);
}

const char *config_option_nearest(enum config_scope scope, const char *name)
{
    const char *best = NULL;
    uint32_t best_distance = 1 + (uint32_t)strlen(name) / 3; /* further is no typo */
    for (uint32_t i = 0; i < config_n_options + CONFIG_N_SCOPES; i++) {
        const char *candidate;
        if (i < config_n_options)
            candidate = config_options[i].scope == scope ? config_options[i].name : NULL;
        else
            candidate = scope == CONFIG_TOP ? scope_names[i - config_n_options] : NULL;
        if (!candidate)
            continue;
        uint32_t d = unlikeness(name, candidate);
        if (d < best_distance) {
            best_distance = d;
            best = candidate;
        }
    }
    return best;
}

bool config_choice_has(const char *choices, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = choices; n > 0 && p && !strchr(word, '|'); p = strchr(p, '|')) {
        p += *p == '|';
        if (strncmp(p, word, n) == 0 && (p[n] == '|' || p[n] == '\0'))
            return true;
    }
    return false;
}

/* options.h - conf/options.def as a table: names, types, defaults, ranges, help.
 *
 * Thread  constant data. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"

enum config_scope {
    CONFIG_TOP,
    CONFIG_KEY,
    CONFIG_MODEL,
    CONFIG_STORE,
    CONFIG_TLS,
    CONFIG_TRACES,
    CONFIG_N_SCOPES
};

enum config_type {
    CONFIG_INT,
    CONFIG_BOOL,
    CONFIG_CHOICE,
    CONFIG_LIST,
    CONFIG_PATH,
    CONFIG_DIGEST,
    CONFIG_TIME,
};

/* When a change takes effect; ROLL: at a reload, which replaces the model's workers one by one. */
enum config_reload { CONFIG_RESTART, CONFIG_LIVE, CONFIG_ROLL, CONFIG_N_RELOADS };

struct config_option {
    enum config_scope scope;
    enum config_type type;
    enum config_reload reload;
    const char *name;
    const char *default_text; /* in the file's syntax; NULL: must be set */
    int64_t min, max;
    const char *unit; /* of a CHOICE: "one|two|three" */
    const char *help;
    size_t offset;   /* of the field in the scope's struct */
    size_t size;     /* of the field, to tell uint32_t from uint64_t */
    size_t offset_n; /* LIST: of the field with the number of elements */
};

extern const struct config_option config_options[];
extern const uint32_t config_n_options;

/* The keyword of a scope's section; NULL for the top. */
const char *config_scope_name(enum config_scope scope);
/* Whether its sections have names, so that there may be several. */
bool config_scope_titled(enum config_scope scope);
/* The beginning of such a section as it is written: "key \"name\"", "store"; NULL for the top. */
const char *config_scope_example(enum config_scope scope);
/* Appends what may be written: "1 to 64 threads", "one, two". */
void config_option_range(const struct config_option *o, struct buf *out);
/* Appends the default as it is written; of an option that must be set: "". */
void config_option_default(const struct config_option *o, struct buf *out);
/* NULL when the scope has no such option. */
const struct config_option *config_option_find(enum config_scope scope, const char *name);
/* The name among options and sections of that scope that looks most like `name`, NULL when none
 * is near. */
const char *config_option_nearest(enum config_scope scope, const char *name);
/* True when `word` is one of the words in "one|two|three". */
bool config_choice_has(const char *choices, const char *word);

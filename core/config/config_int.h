/* config_int.h - the stages of loading a configuration file.
 *
 *   file -> config_scan   lexical faults, structure, names, duplicates, lines of everything;
 *                         writes the canonical text: only what was accepted, every value in single
 *                         quotes, line breaks where they were, no comments
 *        -> config_parse  libconfuse reads the canonical text; each value is checked while its
 *                         line is known and stored in struct config
 *        -> config_check  what concerns several options or the world outside: addresses, files
 *
 * libconfuse never sees the file itself: it would expand ${HOME} inside "...", count lines wrongly
 * behind comments, skip characters that it does not know, read 010 as eight, and stop at the first
 * fault. What it gets cannot fail, so that every stage can collect all faults. */
#pragma once
#include "core/config/config.h"
#include "core/config/options.h"

enum {
    CONFIG_MAX_BYTES = 1 << 20,
    CONFIG_MAX_FAULTS = 100, /* more are only counted */
    CONFIG_MAX_STRING = 4096,
    CONFIG_MAX_NESTING = 32,
    CONFIG_MAX_SECTIONS = 4096,
    CONFIG_MAX_NAME = 128,   /* of a model, alias or key */
    CONFIG_MAX_WORKERS = 64, /* of all models together */
    CONFIG_SHOWN = 64,       /* bytes of a value that a message repeats */
    CONFIG_SHOWN_PATH = 512, /* bytes of the file's path in front of a message */
};

/* One message, sorted by line. */
struct config_note {
    struct config_note *next;
    int line;
    const char *text; /* "FILE:LINE: ..." */
};

struct config_notes {
    struct config_note *first;
    uint32_t n;
};

/* The line of one element of a list. */
struct config_line {
    struct config_line *next;
    int line;
};

/* What is known of one option of one section beside its value. */
struct config_setting {
    int line; /* of the name; 0: not set in the file */
    bool bad; /* the value was refused; a message has been written */
    struct config_line *elements, *last_element;
};

struct config_section {
    struct config_section *next;
    enum config_scope scope;
    const char *title; /* "" for the top */
    int line;
    struct config_setting *settings; /* [config_n_options], by index in config_options */
};

struct config_ctx {
    const char *path; /* for messages */
    struct arena scratch;
    struct config *config;
    struct config_section *sections; /* accepted ones in the order of the file; first: the top */
    uint32_t n_sections[CONFIG_N_SCOPES]; /* seen, accepted or not */
    struct buf canonical;
    struct config_notes faults, warnings;
    bool syntax; /* the scan stopped early: nothing behind that point is known */
    bool no_memory;
};

/* option: NULL when the message names none. */
void config_fault(struct config_ctx *c, int line, const char *option, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
void config_warn(struct config_ctx *c, int line, const char *option, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* A value for a message: printable, cut, in the context's memory. Never NULL. */
const char *config_shown(struct config_ctx *c, const char *value);

struct config_setting *config_setting(struct config_section *s, const struct config_option *o);
/* By name; BUG when the section's scope has no such option. */
struct config_setting *config_setting_of(struct config_section *s, const char *name);

/* Fills sections and canonical. n bytes at text, NUL-terminated behind. */
void config_scan(struct config_ctx *c, const char *text, size_t n);
/* Reads the canonical text into c->config. */
void config_parse(struct config_ctx *c);
/* Sets the option's field in base (struct config, config_key or config_model) from its default. */
void config_set_default(struct config_ctx *c, const struct config_option *o, void *base);
void config_check(struct config_ctx *c);

/* As config_load, with the text given; path is used in messages and for relative paths. */
MUST_CHECK int config_load_text(const char *path, const char *text, size_t n, struct config **out,
                                struct buf *faults, struct err *e);

/* config_print.c: the value of an option in the struct of its scope, in the file's syntax; digests
 * shortened. */
void config_add_value(struct buf *b, const void *base, const struct config_option *o);
/* The default, likewise; of an option that has one. */
void config_add_default(struct buf *b, const struct config_option *o);
bool config_value_is_default(const void *base, const struct config_option *o);
/* config_diff.c: digests are compared whole. */
bool config_same_value(const void *a, const void *b, const struct config_option *o);

/* setup_write.h - the configuration that `llmd setup` makes: text, check, and into its place. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

struct setup_plan {
    const char *listen;                    /* "127.0.0.1:8080" */
    const char *tls_certificate, *tls_key; /* NULL: none */
    const char *key_name, *key_sha256;     /* NULL: none */
    const char *model_name, *model_path;
    const char *device; /* "cuda", "cpu" */
};

/* Appends it as a configuration file. */
void setup_text(const struct setup_plan *p, struct buf *out);
/* Whether the file says anything but comments. False when it is not there. */
bool setup_is_in_use(const char *path);
/* Writes the text beside the file, has it checked as `llmd check` would, and puts it into its place; owner, group
 * and mode stay those of the file that was there, else 0640 of the group llmd where there is one. What was in use is
 * kept as PATH.before-setup. Errors: the first fault, or what the file system says; then nothing has changed. */
MUST_CHECK int setup_write(const char *path, const struct buf *text, struct err *e);

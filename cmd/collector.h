/* collector.h - the section traces of a configuration as what sends them (core/observe/traces.h). */
#pragma once
#include "core/config/config.h"
#include "core/observe/traces.h"

enum { COLLECTOR_INSTANCE_BYTES = 37 };

struct collector {
    struct traces_opts opts; /* points into what follows, and into the configuration */
    struct buf url, resource, lines;
    const char **headers;
};

/* A new name of this process, as service.instance.id wants it: a random UUID. */
void collector_instance(char out[COLLECTOR_INSTANCE_BYTES]);
/* Reads the files that it names. Errors: "FILE:LINE: option 'x': what, where, how to mend it"; then there is
 * nothing to free. */
MUST_CHECK int collector_load(const struct config *c, const char *instance, struct collector *out,
                              struct err *e);
void collector_fini(struct collector *c);

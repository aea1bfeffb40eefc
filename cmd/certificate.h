/* certificate.h - the section tls of a configuration as what the edge speaks. */
#pragma once
#include "core/config/config.h"
#include "core/edge/tls.h"

/* Reads and checks the files that it names; NULL in *out without such a section. warnings gets a line each,
 * in the form of the configuration's. Errors: "FILE:LINE: option 'key': what, where, how to mend it". */
MUST_CHECK int certificate_load(const struct config *c, struct tls **out, struct buf *warnings,
                                struct err *e);
/* The same, with warnings in the log. */
MUST_CHECK int certificate_load_logged(const struct config *c, struct tls **out, struct err *e);

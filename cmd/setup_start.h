/* setup_start.h - the service that a package installed: whether it can read the model, and its start. */
#pragma once
#include "core/util/base.h"
#include "core/util/err.h"

/* Whether this host runs systemd, a package installed the units, and we may start them. */
bool setup_can_start(void);
/* Whether the user llmd, as which the service runs, can read what is there. True where there is no such user, or we
 * may not try. */
bool setup_service_reads(const char *path);
/* Starts the service anew, with its addresses as they now are in the configuration; returns when it has generated a
 * token, or has failed. */
MUST_CHECK int setup_start(struct err *e);

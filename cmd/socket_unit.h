/* socket_unit.h - the configuration's addresses as the section [Socket] of a unit of systemd, for the
 * generator systemd/llmd-sockets. */
#pragma once
#include "core/config/config.h"
#include "core/util/buf.h"

/* Appends it. Nothing when no address is a fixed one (port 0). */
void socket_unit_add(const struct config *c, struct buf *out);

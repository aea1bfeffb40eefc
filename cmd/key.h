/* key.h - the bearer key of a command that talks to a server. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"

/* The key as given, else from the first line of file, else from the variable LLMD_API_KEY, without
 * blanks around it; out stays empty when there is none. Returns 0, or an exit code: what is wrong was
 * said in the name of command ("llmd chat"). */
MUST_CHECK int key_read(const char *command, const char *given, const char *file, struct buf *out);

/* input.h - standard input as a whole, text for standard output. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

/* Appends all of standard input. ETOOBIG over max_bytes, EIO. */
MUST_CHECK int input_read_all(size_t max_bytes, struct buf *out, struct err *e);
/* Writes text of others to standard output: as it is to a file or pipe, made fit to a terminal.
 * False: it could not be written. */
bool output_text(const char *s, size_t n);

/* roff.h - text for manual pages: what would be a request or an escape in it is taken for what it is.
 *
 * Source  groff_man(7). */
#pragma once
#include "core/util/buf.h"

/* Running text: line breaks stay where they are; "\\", "-" and a "." or "'" that begins a line are escaped. */
void roff_text(struct buf *out, const char *text);
/* The same, indented lines as they stand and paragraphs (empty lines) apart. */
void roff_paragraphs(struct buf *out, const char *text);
/* ".SH NAME", ".SS ...": text becomes the argument, in quotes. */
void roff_heading(struct buf *out, const char *request, const char *text);

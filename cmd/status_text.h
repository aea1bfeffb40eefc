/* status_text.h - the answer of GET /admin/v1/status as a page for people. */
#pragma once
#include <jansson.h>

#include "core/util/buf.h"

/* Appends the page; text of the server is made fit for a terminal. before: an earlier answer, from
 * which rates per second are counted; NULL: none are shown. */
void status_text(const json_t *now, const json_t *before, struct buf *out);

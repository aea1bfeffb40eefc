/* explain_text.h - the story of one request (core/store/explain.h) for a human at a terminal. */
#pragma once
#include "core/store/explain.h"
#include "core/util/buf.h"

/* All of it, the sentence last. */
void explain_text(const json_t *story, struct buf *out);

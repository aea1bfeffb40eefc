/* json_memory.h - the memory that jansson parses with.
 *
 * jansson (2.14) does not look whether the buffer of a token could grow: without memory it drops
 * bytes of the text, or writes behind what it took for them. So a parse gets a reserve that is large
 * enough for all such buffers, and what comes out of a parse that needed it is thrown away.
 *
 * Thread  a parse and its reserve belong to the thread; values may be freed by any. */
#pragma once
#include "core/util/base.h"

/* Before a parse of n bytes: false without memory for the reserve. */
MUST_CHECK bool json_memory_begin(size_t n);
/* After it, when nothing is left of what it made, or it is to be kept. */
void json_memory_end(void);
/* An allocation failed since json_memory_begin(): the result is not to be trusted. */
bool json_memory_failed(void);

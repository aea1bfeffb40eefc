/* search.h - finding bytes in bytes, in linear time whatever they hold. */
#pragma once
#include "core/util/base.h"
#include "core/util/err.h"

/* Offset of the last occurrence of needle in hay. ENOTFOUND when there is none, ENOMEM (the table
 * has 4 bytes per needle byte). needle_len is 1 to UINT32_MAX. No message is written. */
MUST_CHECK int search_last(const char *hay, size_t hay_len, const char *needle, size_t needle_len,
                           size_t *out_at);

/* utf8.h - decoding UTF-8 as RFC 3629 and Unicode 15 table 3-7 define it: no overlong forms, no
 * surrogates, nothing above U+10FFFF. */
#pragma once
#include "core/util/base.h"

/* Decodes one character from s[0..n-1]. Returns its length in bytes (1..4) and the code point;
 * 0 when n == 0 or the bytes are not valid UTF-8. */
size_t utf8_decode(const char *s, size_t n, uint32_t *out_cp);
/* Writes cp to out (4 bytes of room); returns its length, 0 for what is no scalar value. */
size_t utf8_encode(uint32_t cp, char *out);
bool utf8_valid(const char *s, size_t n);
/* Bytes before the first that is not valid UTF-8; n when all are. */
size_t utf8_valid_prefix(const char *s, size_t n);
/* Length of the longest prefix of s that does not end inside a character. A tail that could
 * still become a valid character is left out; bytes that never can are included. */
size_t utf8_safe_prefix(const char *s, size_t n);
/* Appends s to a caller's buffer with every invalid sequence replaced by U+FFFD, as Python's
 * errors="replace" does (maximal subparts). */
struct buf;
void utf8_add_lossy(struct buf *b, const char *s, size_t n);

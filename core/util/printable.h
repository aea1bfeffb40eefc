/* printable.h - which characters may reach a terminal or a log line as they are.
 *
 * Refused: control characters (C0, DEL, C1: terminals act on them), line separators, overrides
 * of the writing direction, invisible tags and annotations, noncharacters. */
#pragma once
#include "core/util/base.h"

enum { PRINTABLE_ESCAPE_MAX = 12 };

bool cp_printable(uint32_t cp);

/* Takes one character (or one invalid byte) from s[0..n-1], n > 0, and writes what to show for
 * it: itself, or an escape (\n \t \r \xNN \uNNNN \UNNNNNNNN). Returns how many bytes of s it
 * took; *out_len is the length of the text, which has no NUL. */
size_t printable_next(const char *s, size_t n, char out[PRINTABLE_ESCAPE_MAX], size_t *out_len);

/* Writes s[0..n-1] to out as printable_next shows it, with a backslash in front of every character
 * of `escape` ("" for none); cut with "..." when it does not fit. Always NUL-terminated; n_out > 0;
 * with less than four bytes of room out is empty unless all of s fits. Returns the length. */
size_t printable_text(const char *s, size_t n, const char *escape, char *out, size_t n_out);

/* Appends s without the characters that are not printable, but with line feeds and tabs: text of
 * others for a terminal. Invalid bytes become U+FFFD. */
struct buf;
void printable_add(struct buf *b, const char *s, size_t n);
